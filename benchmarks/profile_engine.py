"""Where the time of a run of images goes, beside what the machine can do.

``python benchmarks/profile_engine.py`` fits V12 sets, ``--cases 2000:12,10000:12,2000:50`` of so many particles and
classes, in this process. Of every part of the engine it counts seconds, multiplications and the bytes that must move
at least, and sets them beside the rate of ``torch.matmul`` in single precision and of copying memory, both measured in
the same run. The expectation step is held against the first: its useful multiplications are those of scoring every
class at every pose, whichever way the engine finds to do fewer.

Seconds are processor time on one thread, so that other work on the machine does not count. Results go to
``benchmarks/results/profile_engine.json``; ``page.py`` shows them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

import protocols
from compare import machine
from napari_harmony.analysis import metrics
from napari_harmony.engine import discovery, insight, preprocess, refine, scoring, search, steerable, train
from napari_harmony.engine import run as runs
from napari_harmony.engine.events import Event
from napari_harmony.engine.settings import Settings
from napari_harmony.particles.dataset import Particles

RESULTS = Path(__file__).parent / "results" / "profile_engine.json"
CASES = "2000:12,2000:50,10000:12"


@dataclass
class Part:
    """What a part of the engine took: processor seconds, calls, multiply-adds, bytes that had to move."""

    seconds: float = 0.0
    calls: int = 0
    multiplied: float = 0.0
    moved: float = 0.0


@dataclass
class Profile:
    """Parts by name; the time of one inside another counts for both."""

    parts: dict[str, Part] = field(default_factory=dict)

    def part(self, name: str) -> Part:
        """One of them."""
        return self.parts.setdefault(name, Part())

    def watched(self, name: str, function: Callable[..., Any], work: Callable[..., tuple[float, float]]) -> Any:
        """The same function, timed; ``work`` gives multiply-adds and bytes from its arguments."""

        def timed(*arguments: Any, **named: Any) -> Any:
            multiplied, moved = work(*arguments)
            begin = time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                part = self.part(name)
                part.seconds += time.process_time() - begin
                part.calls += 1
                part.multiplied += multiplied
                part.moved += moved

        return timed

    def followed(self, name: str, function: Callable[..., Any], work: Callable[..., tuple[float, float]]) -> Any:
        """The same for a generator; what its caller does between two steps does not count."""

        def timed(*arguments: Any, **named: Any) -> Iterator[Any]:
            part = self.part(name)
            multiplied, moved = work(*arguments)
            part.calls, part.multiplied, part.moved = part.calls + 1, part.multiplied + multiplied, part.moved + moved
            inner = function(*arguments, **named)
            while True:
                begin = time.process_time()
                try:
                    said = next(inner)
                except StopIteration as stop:
                    return stop.value
                finally:
                    part.seconds += time.process_time() - begin
                yield said

        return timed


def nothing(*_: Any) -> tuple[float, float]:
    """Of parts whose operations are not counted."""
    return 0.0, 0.0


def of_expectation(data: Any, templates: Any, grid: Any, *_: Any) -> tuple[float, float]:
    """Scores of every class at every pose; particles and templates read once."""
    scores = len(data) * len(templates) * len(grid.psi) * len(grid.shift)
    return scores * data.basis.size, 8.0 * data.matched.numel() + 4.0 * templates.coefficients.numel()


def of_product(turned: Any, images: Any, *_: Any) -> tuple[float, float]:
    """The multiplications that are done; images and templates read, best scores written."""
    columns = turned.even.shape[2] + turned.odd.shape[2]
    product = len(images) * len(turned) * turned.rotations * columns
    item = images.even.element_size()
    read = item * (images.even.numel() + images.odd.numel() + turned.even.numel() + turned.odd.numel())
    return product, read + 4.0 * len(images) * len(turned)


def of_analysis(moves: Any, samples: Any, *_: Any) -> tuple[float, float]:
    """Shifted images onto the basis; images read, coefficients written."""
    rows, columns = len(samples) * len(moves.cosine), moves.even.shape[1] + moves.odd.shape[1]
    return rows * samples.shape[1] * columns, 8.0 * samples.numel() + moves.even.element_size() * rows * columns


def of_average(data: Any, posterior: Any, *_: Any) -> tuple[float, float]:
    """Entries of the posterior, each turned by a phase, weighed and added."""
    entries = len(posterior.particle) * data.matched.shape[1]
    return 8.0 * entries, 8.0 * entries


@contextmanager
def watching(profile: Profile) -> Iterator[None]:
    """Time the parts of the engine."""
    watched = (
        (discovery, "expect", "expectation", profile.followed, of_expectation),
        (scoring.Moves, "analyse", "expectation: shifted particles", profile.watched, of_analysis),
        (scoring.Turned, "best", "expectation: product and its maximum", profile.watched, of_product),
        (search, "select", "expectation: entries kept", profile.watched, nothing),
        (discovery, "accumulating", "averages", profile.followed, of_average),
        (discovery, "seed_templates", "first templates", profile.followed, nothing),
        (discovery, "compare_halves", "comparing halves", profile.followed, nothing),
        (preprocess.Prepared, "observe", "bands cut out", profile.watched, nothing),
        (steerable, "build_basis", "steerable bases", profile.followed, nothing),
        (refine, "_refine_batch", "poses refined", profile.watched, nothing),
        (train._Run, "step", "network: batches learned", profile.watched, nothing),
        (insight, "measure_leakage", "leakage measured", profile.followed, nothing),
    )
    kept = [(owner, name, getattr(owner, name)) for owner, name, *_ in watched]
    for owner, name, said, how, work in watched:
        setattr(owner, name, how(said, getattr(owner, name), work))
    try:
        yield
    finally:
        for owner, name, function in kept:
            setattr(owner, name, function)


def rates(edge: int = 512, size: int = 2**24, repeats: int = 15) -> dict[str, float]:
    """What the machine does on one thread: multiply-adds per second by number type, bytes copied per second."""
    found = {}
    for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        one, two = torch.randn(edge, edge).to(kind), torch.randn(edge, edge).to(kind)
        found[name] = edge**3 / fastest(lambda one=one, two=two: one @ two, repeats)
    source = torch.randn(size)
    target = torch.empty_like(source)
    found["bytes"] = 8.0 * size / fastest(lambda: target.copy_(source), repeats)
    return found


def fastest(function: Callable[[], Any], repeats: int) -> float:
    """Processor seconds of the fastest of some calls."""
    least = float("inf")
    for _ in range(repeats):
        begin = time.process_time()
        function()
        least = min(least, time.process_time() - begin)
    return least


def fitted(particles: Particles, classes: int, seed: int = 0) -> tuple[dict[str, float], Any]:
    """Processor seconds of each stage of a fit, and its result."""
    run = runs.Run(particles, Settings(classes=classes, seed=seed, device="cpu"), None, False)
    seconds: dict[str, float] = {}
    events: Iterator[Event] = run.fit()
    while True:
        begin = time.process_time()
        try:
            stage = getattr(next(events), "stage", None) or next(reversed(seconds), "reading")
        except StopIteration as stop:
            result, _ = stop.value
            return seconds, result
        seconds[stage] = seconds.get(stage, 0.0) + time.process_time() - begin


def measured(count: int, classes: int) -> dict[str, Any]:
    """One record."""
    simulated, profile, load = protocols.make("V12", count=count), Profile(), os.getloadavg()[0]
    before = rates()
    with watching(profile):
        seconds, result = fitted(simulated.particles, classes)
    after = rates()
    product = max(before["float32"], after["float32"])
    expectation = profile.parts["expectation"]
    done = profile.parts["expectation: product and its maximum"]
    scored = metrics.evaluate(result.table, simulated.truth)
    return {
        "particles": count,
        "classes": classes,
        "rates": {name: max(before[name], after[name]) for name in before},
        "stages": {stage: round(value, 2) for stage, value in seconds.items()},
        "parts": {name: asdict(part) for name, part in sorted(profile.parts.items())},
        "expectation over sgemm": expectation.multiplied / expectation.seconds / product,
        "done over sgemm": done.multiplied / expectation.seconds / product,
        "accuracy": scored["accuracy"],
        "rotation_median": scored["rotation_median"],
        "load_before": load,
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
    }


def keep(record: dict[str, Any]) -> None:
    """Add a record in place of an older one of the same case."""
    older = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    same = (record["particles"], record["classes"])
    records = [r for r in older if (r["particles"], r["classes"]) != same] + [record]
    beside = RESULTS.with_suffix(".tmp")
    beside.write_text(json.dumps(sorted(records, key=lambda r: (r["particles"], r["classes"])), indent=1) + "\n")
    os.replace(beside, RESULTS)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=CASES, help="PARTICLES:CLASSES, comma-separated (default: %(default)s)")
    torch.set_num_threads(1)
    for case in parser.parse_args().cases.split(","):
        record = measured(*(int(number) for number in case.split(":")))
        keep(record)
        print(json.dumps({k: v for k, v in record.items() if k != "machine"}, indent=1), flush=True)


if __name__ == "__main__":
    main()
