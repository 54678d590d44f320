"""What the further objectives bring and cost: Harmony alone, with each of them, and with all.

``python benchmarks/objectives.py`` runs everything on V12 and on particles with moving parts; ``--sets``, ``--modes``
and ``--seeds`` choose. The search that gives classes and poses is the same for every mode and is done once per set and
seed; what is compared is the network that is trained on its poses, looking at every particle once. Records are kept in
``benchmarks/results/objectives.json``; every call prints the whole table and rewrites its section of the README.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import protocols
import tables
from compare import chosen, machine
from napari_harmony.additions import additions_of
from napari_harmony.analysis import metrics
from napari_harmony.analysis.disentanglement import assess, study_of_tables
from napari_harmony.engine.discovery import Discovery
from napari_harmony.engine.learning import cluster_content, network_input
from napari_harmony.engine.preprocess import Prepared
from napari_harmony.engine.run import Run
from napari_harmony.engine.schedule import ADDED_STEPS
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.train import TrainSettings, train
from napari_harmony.models import ModelCard, PoseNetwork, Proposals
from napari_harmony.objectives import SeedPoses
from napari_harmony.particles.dataset import Particles

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- objectives: begin -->", "<!-- objectives: end -->"
#: What is added to Harmony's own objective, by the name of the row.
MODES = {
    "Harmony": "",
    "Harmony, as many steps": "",
    "+ LOOCC": "loocc",
    "+ RoDi": "independence",
    "+ CL-Dis": "diffusion",
    "+ all": "loocc,independence,diffusion",
}
#: The factors of the particles with moving parts.
MOVING = ("hinge", "occupancy", "slide")


@dataclass(frozen=True)
class Sample:
    """Particles with their truth.

    Attributes
    ----------
    particles : to learn from
    truth : one row per particle, ``content``, ``psi`` (degree), ``origin_x``, ``origin_y`` (pixel), further factors
    classes : that a user would ask for
    """

    particles: Particles
    truth: pd.DataFrame
    classes: int


@dataclass(frozen=True)
class Lesson:
    """What every mode learns from: the particles as the network takes them, and what the search said of them."""

    run: Run
    usable: Prepared
    rows: np.ndarray
    found: Discovery
    card: ModelCard
    seeds: SeedPoses


def v12(seed: int) -> Sample:
    """Twelve contents, 2000 particles, SNR 0.1."""
    made = protocols.make("V12", seed)
    return Sample(made.particles, made.truth, protocols.PROTOCOLS["V12"].classes)


def moving_parts(seed: int) -> Sample:
    """One particle with a hinge, an occupancy and a sliding domain, 3000 images, SNR 0.5."""
    from napari_harmony.particles.conformations import simulate_conformations

    made = simulate_conformations(count=3000, box=64, pixel_size=3.0, snr=0.5, seed=seed)
    truth = made.truth.rename(columns={"kind": "content"})
    return Sample(made.particles, truth, 1)


SETS: dict[str, Callable[[int], Sample]] = {"V12": v12, "moving parts": moving_parts}


def lesson_of(sample: Sample, seed: int) -> Lesson:
    """Prepare and search, as ``align`` does."""
    run = Run(sample.particles, Settings(classes=sample.classes, seed=seed, device="cpu"), None, False)
    prepared = _drain(run.read())
    usable, rows = run.usable(prepared)
    found = _drain(run.discover(usable))
    return Lesson(run, usable, rows, found, *run.lesson(usable, found))


def _drain(stages: Any) -> Any:
    """Run a generator to its end, for what it returns."""
    while True:
        try:
            next(stages)
        except StopIteration as stop:
            return stop.value


def card_of(lesson: Lesson, mode: str) -> ModelCard:
    """The card of a mode: what is added, and for how long it is trained."""
    additions = tuple(str(addition) for addition in additions_of(MODES[mode]))
    if mode == "Harmony":
        return lesson.card
    portions = max(1, round(len(lesson.usable) / TrainSettings.batch))
    epochs = max(lesson.card.epochs, -(-ADDED_STEPS["balanced"] // portions))
    return replace(lesson.card, additions=additions, epochs=epochs)


def learned(lesson: Lesson, card: ModelCard) -> tuple[PoseNetwork, int, float]:
    """The trained network, the number of steps, and the CPU seconds that they took."""
    images, ctf = network_input(lesson.usable)
    settings, before, last = TrainSettings(epochs=card.epochs), time.process_time(), None
    steps = train(images, ctf, card=card, settings=settings, seeds=lesson.seeds)
    for step in steps:
        last = step
    assert last is not None
    last.network.eval()
    return last.network, last.total, time.process_time() - before


def table_of(lesson: Lesson, proposals: Proposals) -> pd.DataFrame:
    """What the network says of the usable particles, in the classes of the search."""
    step = lesson.usable.geometry.box / lesson.card.box * lesson.usable.geometry.scale
    table = pd.DataFrame({"class_number": lesson.found.posterior.best().label.numpy() + 1})
    table["psi"] = np.degrees(-proposals.best.angle.numpy())
    table[["origin_x", "origin_y"]] = -proposals.best.shift.numpy() * step
    codes = proposals.content_mean.numpy()
    return pd.concat([table, pd.DataFrame(codes, columns=[f"content_{k}" for k in range(codes.shape[1])])], axis=1)


def scores_of(lesson: Lesson, sample: Sample, network: PoseNetwork, seed: int) -> dict[str, float]:
    """What the codes and the poses of one look at every particle are worth."""
    proposals = network.propose(network_input(lesson.usable)[0])
    table, truth = table_of(lesson, proposals), sample.truth.iloc[lesson.rows].reset_index(drop=True)
    codes = proposals.content_mean.numpy()
    posed = metrics.evaluate(table, truth)
    scores = {name: float(posed[name]) for name in ("rotation_median", "rotation_under_10", "shift_median")}
    found = assess(study_of_tables(table, truth, 2), seed)
    poses = [name for name in ("rotation", "shift_x", "shift_y") if name in found.cross_talk["content"]]
    scores["leak"] = max(found.cross_talk["content"][name] for name in poses)
    scores["nats"] = max(found.information["content"][name] for name in poses)
    scores |= {name: found.scores[name] for name in ("mig", "dci_disentanglement", "factorvae")}
    if sample.classes > 1:
        scores["accuracy"] = metrics.hungarian_accuracy(
            cluster_content(codes, sample.classes, seed) + 1, truth["content"]
        )
        scores["probe"] = probe(codes, truth["content"].to_numpy())
    moving = [name for name in MOVING if name in truth]
    if moving:
        scores |= {f"r2_{name}": explained(codes, truth[name].to_numpy()) for name in moving}
        scores["r2"] = float(np.mean([scores[f"r2_{name}"] for name in moving]))
    return scores


def probe(codes: np.ndarray, contents: np.ndarray) -> float:
    """Accuracy of a linear classifier on codes (n, d) that it was not fitted to."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return float(cross_val_score(model, codes, contents, cv=4).mean())


def explained(codes: np.ndarray, factor: np.ndarray) -> float:
    """R squared of a linear fit of a factor (n,) on codes (n, d) that it was not fitted to."""
    from sklearn.linear_model import LinearRegression
    from sklearn.model_selection import cross_val_predict

    predicted = cross_val_predict(LinearRegression(), codes, factor, cv=4)
    return float(1 - ((factor - predicted) ** 2).sum() / ((factor - factor.mean()) ** 2).sum())


#: Columns of the table: score, heading, and how it is written.
COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("accuracy", "class accuracy of the codes", "{:.3f}"),
    ("probe", "linear probe", "{:.3f}"),
    ("r2", "R² of the moving parts", "{:.2f}"),
    ("mig", "MIG", "{:.2f}"),
    ("dci_disentanglement", "DCI", "{:.2f}"),
    ("factorvae", "FactorVAE score", "{:.2f}"),
    ("leak", "pose explained by content", "{:.3f}"),
    ("nats", "nats", "{:.2f}"),
    ("rotation_median", "rotation of the network, median", "{:.2f}°"),
    ("rotation_under_10", "under 10°", "{:.1%}"),
    ("steps", "steps", "{:.0f}"),
    ("step_ms", "CPU time per step", "{:.0f} ms"),
)


def markdown(records: list[dict[str, Any]]) -> str:
    """A table per set: medians over the seeds, and the range behind them where they differ."""
    parts = []
    for name in SETS:
        of_set = [r for r in records if r["set"] == name]
        columns = [c for c in COLUMNS if any(c[0] in r["scores"] for r in of_set)]
        if not of_set:
            continue
        lines = [["objective", *(heading for _, heading, _ in columns)], ["---"] * (1 + len(columns))]
        for mode in MODES:
            rows = [r["scores"] for r in of_set if r["mode"] == mode]
            if rows:
                lines.append([mode, *(_cell([r[key] for r in rows if key in r], form) for key, _, form in columns)])
        seeds = sorted({r["seed"] for r in of_set})
        head = f"### {name}\n\nMedian over seeds {', '.join(map(str, seeds))} (lowest to highest).\n"
        parts.append(head + "\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines))
    return "\n\n".join(parts)


def _cell(values: list[float], form: str) -> str:
    values = [v for v in values if v is not None and np.isfinite(v)]
    if not values:
        return ""
    middle, low, high = (form.format(v) for v in (statistics.median(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description="Compare Harmony's objective with and without the further ones.")
    parser.add_argument("--sets", default=",".join(SETS), help="of %(default)s")
    parser.add_argument("--modes", default=",".join(MODES), metavar="A;B", help="rows of the table, with semicolons")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "objectives.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    parser.add_argument("--table-only", action="store_true")
    given = parser.parse_args()
    modes = list(MODES) if given.modes == parser.get_default("modes") else given.modes.split(";")
    chosen(",".join(mode.replace(",", ";") for mode in modes), {m.replace(",", ";"): 0 for m in MODES}, "mode")
    for name in [] if given.table_only else chosen(given.sets, SETS, "set"):
        for seed in (int(word) for word in given.seeds.split(",")):
            measure(name, seed, modes, given.results)
    text = markdown(load(given.results))
    print(text)
    tables.rewrite_section(given.readme, text, BEGIN, END)


def measure(name: str, seed: int, modes: list[str], results: Path) -> None:
    """Train and score every mode on one sample, and keep each record at once."""
    sample = SETS[name](seed)
    lesson = lesson_of(sample, seed)
    for mode in modes:
        network, steps, seconds = learned(lesson, card_of(lesson, mode))
        scores = scores_of(lesson, sample, network, seed) | {"steps": steps, "step_ms": 1000 * seconds / steps}
        record = {"set": name, "mode": mode, "seed": seed, "scores": scores}
        keep(results, record | {"date": datetime.date.today().isoformat(), "machine": machine()})
        print(name, mode, seed, {k: round(v, 3) for k, v in scores.items()}, flush=True)


def load(path: Path) -> list[dict[str, Any]]:
    """The records kept."""
    return list(json.loads(path.read_text())) if path.exists() else []


def keep(path: Path, record: dict[str, Any]) -> None:
    """Add a record, in place of an earlier one of the same set, mode and seed."""
    key = ("set", "mode", "seed")
    others = [r for r in load(path) if [r[k] for k in key] != [record[k] for k in key]]
    finite = {k: (v if np.isfinite(v) else None) for k, v in record["scores"].items()}
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps([*others, record | {"scores": finite}], indent=1) + "\n")
    beside.replace(path)


if __name__ == "__main__":
    main()
