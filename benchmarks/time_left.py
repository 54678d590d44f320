"""How well a run foretells its end: the time left that it shows, against the time that it then took.

``python benchmarks/time_left.py`` runs all cases, ``--cases`` some. After the first tenth of a run every progress event
gives a total time, that so far and that left; what counts is for how much of the time the total told last is within
30 % of the true one, and the worst. Three ways to tell the end are compared on the same run: in proportion to the
fraction done; as the engine does where it knows nothing of the machine; and as it does after an earlier run, here the
case that was run before. Times are processor time, so that other work on the machine does not count.

Results go to ``benchmarks/results/time_left.json``, with the seconds that every stage took and was expected to take,
and into a section of ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import protocols
import protocols_3d
import tables
from compare import machine
from napari_harmony.engine import api, clock, costs
from napari_harmony.engine.clock import Clock
from napari_harmony.engine.events import Done, Event, Progress
from napari_harmony.engine.settings import Settings
from napari_harmony.models import HarmonyModel
from napari_harmony.models.bundled import bundled_model
from napari_harmony.particles.dataset import Particles

RESULTS = Path(__file__).parent / "results" / "time_left.json"
README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- time left: begin -->", "<!-- time left: end -->"
#: Predictions count from this share of a run on, and are good within this share of its time.
FROM, WITHIN = 0.1, 0.3
WAYS = ("in proportion", "unknown machine", "known machine")


@dataclass(frozen=True)
class Case:
    """Particles of a protocol, and what is done with them: ``tasks`` after the fit use what it gave."""

    protocol: str
    count: int
    classes: int | None
    preset: str
    tasks: tuple[costs.Task, ...] = ("fit",)

    @property
    def volumes(self) -> bool:
        return self.protocol.startswith("T4")

    def particles(self) -> Particles:
        make = protocols_3d.make if self.volumes else protocols.make
        return make(self.protocol, count=self.count).particles

    @property
    def settings(self) -> Settings:
        return Settings(classes=self.classes, preset=self.preset, device="cpu")  # type: ignore[arg-type]


ALL: tuple[costs.Task, ...] = ("fit", "apply", "cluster")
BUNDLED: tuple[costs.Task, ...] = ("adapt",)
CASES = {
    "V12 300 fast": Case("V12", 300, 12, "fast", ALL),
    "V12 500 auto fast": Case("V12", 500, None, "fast"),
    "V12 1000 K=3": Case("V12", 1000, 3, "balanced"),
    "V12 fast": Case("V12", 2000, 12, "fast"),
    "V12": Case("V12", 2000, 12, "balanced", ALL),
    "V12 bundled": Case("V12", 2000, 12, "balanced", BUNDLED),
    "V12 auto": Case("V12", 2000, None, "balanced"),
    "T4 60 auto": Case("T4", 60, None, "balanced"),
    "T4 fast": Case("T4", 240, 4, "fast", ALL),
    "T4": Case("T4", 240, 4, "balanced"),
    "T4 bundled": Case("T4", 240, 4, "balanced", BUNDLED),
}


@dataclass
class Watch:
    """What a run says, and when: (seconds since it began, stage, fraction of the stage)."""

    said: list[tuple[float, str, float]] = field(default_factory=list)
    total: float = 0.0
    done: Any = None

    def run(self, events: Iterator[Event]) -> None:
        """Take all events of a run."""
        at, begin = Clock.at, time.process_time()

        def noted(own: Clock, stage: str, fraction: float) -> Progress:
            self.said.append((time.process_time() - begin, stage, fraction))
            return at(own, stage, fraction)

        Clock.at = noted  # type: ignore[method-assign]
        try:
            for event in events:
                self.done = event if isinstance(event, Done) else self.done
        finally:
            Clock.at = at  # type: ignore[method-assign]
        self.total = time.process_time() - begin

    def told(self, own: Clock) -> list[tuple[float, Progress]]:
        """What a clock says that hears the same."""
        now, real = [0.0], clock.time.monotonic
        clock.time.monotonic = lambda: now[0]
        try:
            own.__post_init__()
            told = []
            for seconds, stage, fraction in self.said:
                now[0] = seconds
                told.append((seconds, own.at(stage, fraction)))
            return told
        finally:
            clock.time.monotonic = real

    def stages(self) -> dict[str, float]:
        """Seconds from the beginning of each stage to that of the next."""
        begun: dict[str, float] = {}
        for seconds, stage, _ in self.said:
            begun.setdefault(stage, seconds)
        edges = [*list(begun.values())[1:], self.total]
        return {stage: end - begin for (stage, begin), end in zip(begun.items(), edges, strict=True)}


def predictions(watch: Watch, weights: dict[str, float], slowness: dict[str, float]) -> dict[str, np.ndarray]:
    """What is foretold after the first tenth, in each of the ways.

    (n, 2): seconds since the run began, and the total foretold over the true one.
    """
    suited = {stage: seconds * slowness.get(costs.ALIKE.get(stage, ""), 1.0) for stage, seconds in weights.items()}
    told = {
        "unknown machine": watch.told(Clock(dict(weights), costs.ALIKE)),
        "known machine": watch.told(Clock(suited, costs.ALIKE, trusted=True)),
    }
    found = {}
    for way, said in told.items():
        fractions = [progress.fraction for _, progress in said]
        assert fractions == sorted(fractions) and fractions[-1] == 1.0
        left = [(at, progress.seconds_left) for at, progress in said if at >= FROM * watch.total]
        found[way] = np.array([(at, (at + seconds) / watch.total) for at, seconds in left if seconds is not None])
    shown = [(at, _by_weight(weights, stage, fraction)) for at, stage, fraction in watch.said]
    found["in proportion"] = np.array(
        [(at, at / (share * watch.total)) for at, share in shown if at >= FROM * watch.total]
    )
    return found


def _share_within(told: np.ndarray, total: float) -> float:
    """For which share of the time the last of the totals ``told`` (n, 2) lies close to the true one."""
    lasted = np.diff(told[:, 0], append=total)
    return float(lasted[np.abs(told[:, 1] - 1) <= WITHIN].sum() / lasted.sum())


def _by_weight(weights: dict[str, float], stage: str, fraction: float) -> float:
    """The share of a run that is done, as far as expectations say."""
    before = sum(list(weights.values())[: list(weights).index(stage)])
    return max(1e-9, (before + fraction * weights[stage]) / sum(weights.values()))


def measured(name: str, case: Case, slowness: dict[str, float]) -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
    """A record for each task of a case, and how slow the machine was in it."""
    particles, settings = case.particles(), case.settings
    fitted = Watch()
    begin: dict[costs.Task, Callable[[], Iterator[Event]]] = {
        "fit": lambda: api.align(particles, settings),
        "apply": lambda: api.align(particles, settings, model=fitted.done.model),
        "cluster": lambda: api.cluster(particles, fitted.done.value, settings),
        "adapt": lambda: api.align(particles, settings, model=HarmonyModel.load(bundled_model(particles.dimensions))),
    }
    for task in case.tasks:
        watch = fitted if task == "fit" else Watch()
        classes = fitted.done.model.card.classes if task == "apply" else None
        # Before the run: what it loads and builds is then there.
        weights = costs.expected(particles, settings, task, classes)
        watch.run(begin[task]())
        ratios = predictions(watch, weights, slowness)
        heard = Clock(dict(weights), costs.ALIKE)
        watch.told(heard)
        yield _record(name, case, task, watch, weights, ratios), heard.slowness(2.0)


def _record(
    name: str, case: Case, task: str, watch: Watch, weights: dict[str, float], ratios: dict[str, np.ndarray]
) -> dict[str, Any]:
    within = {way: _share_within(told, watch.total) for way, told in ratios.items()}
    totals = {way: told[:, 1] for way, told in ratios.items()}
    worst = {way: float(r[np.abs(np.log(r.clip(1e-3))).argmax()]) for way, r in totals.items()}
    return {
        "case": name,
        "task": task,
        **{key: value for key, value in asdict(case).items() if key != "tasks"},
        "seconds": round(watch.total, 2),
        "expected": round(sum(weights.values()), 2),
        "events": len(ratios["known machine"]),
        "within": {way: round(share, 4) for way, share in within.items()},
        "worst": {way: round(ratio, 3) for way, ratio in worst.items()},
        "stages": {
            stage: [round(seconds, 3), round(weights.get(stage, 0.0), 3)] for stage, seconds in watch.stages().items()
        },
    }


def markdown(records: list[dict[str, Any]]) -> str:
    """The table."""
    lines = [
        "| run | task | processor time | expected | events "
        + "".join(f"| within 30 %, {way} | worst, {way} " for way in WAYS)
        + "|",
        "| --- " * (5 + 2 * len(WAYS)) + "|",
    ]
    for r in records:
        cells = [r["case"], r["task"], f"{r['seconds']:.1f} s", f"{r['expected']:.1f} s", str(r["events"])]
        for way in WAYS:
            cells += [tables.percent(r["within"][way]), f"{r['worst'][way]:.2f} ×"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def kept() -> list[dict[str, Any]]:
    """Records of earlier calls."""
    return json.loads(RESULTS.read_text())["runs"] if RESULTS.is_file() else []


def write(records: list[dict[str, Any]]) -> None:
    """Results and their section."""
    text = json.dumps({"machine": machine(), "runs": records}, indent=1, allow_nan=False)
    beside = RESULTS.with_suffix(".tmp")
    beside.write_text(text + "\n")
    os.replace(beside, RESULTS)
    tables.rewrite_section(README, markdown(records), BEGIN, END)


def main() -> None:
    """Run what was asked for, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", help="comma-separated names of cases (default: all)")
    wanted = parser.parse_args().cases
    names = [name.strip() for name in wanted.split(",")] if wanted else list(CASES)
    if unknown := set(names) - set(CASES):
        raise SystemExit(f"No case '{sorted(unknown)[0]}'; choose from {', '.join(CASES)}.")
    slowness: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_HARMONY_CACHE"] = folder
        for name in names:
            for record, found in measured(name, CASES[name], slowness):
                slowness |= found
                same = [r for r in kept() if (r["case"], r["task"]) != (record["case"], record["task"])]
                order = {
                    (case, task): (i, j) for i, case in enumerate(CASES) for j, task in enumerate((*ALL, *BUNDLED))
                }
                write(sorted([*same, record], key=lambda r: order[r["case"], r["task"]]))
    print(markdown(kept()))


if __name__ == "__main__":
    main()
