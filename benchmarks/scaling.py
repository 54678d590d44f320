"""How time and memory grow with the number of particles, of classes, and with the box.

``python benchmarks/scaling.py`` runs a ladder of each: ``--counts 500,1000,2000,5000``, ``--classes 4,12,25,50``,
``--boxes 48,64,128,256``; an empty list leaves a ladder out. Where one of the three grows the others stay at 2000
particles, 12 classes and 64 pixels (``--base 2000:12:64``). Every run is a process of its own, of the command line on a
stack on disk, on ``--device cpu`` or ``cuda``; further options go to ``napari-harmony align``, such as ``--memory 1G``.

Times are wall time and processor time of the whole process, memory is its largest resident set. Runs in portions also
say how often they read the data and how large their cache was. Results go to ``benchmarks/results/scaling.json``, one
record per device and case, and as a plot to ``docs/images/scaling.svg``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import protocols
from compare import machine
from methods import run_timed
from napari_harmony.particles.simulate import simulate_particles

HERE = Path(__file__).parent
RESULTS, PLOT = HERE / "results" / "scaling.json", HERE.parent / "docs" / "images" / "scaling.svg"
#: What grows: field of ``Size``, words for the axis.
GROWING = {"particles": "particles", "classes": "classes", "box": "box (pixels)"}
#: Curves of one plot: field of a record, words, factor.
SHOWN = (("cpu_seconds", "processor time (s)", 1.0), ("peak_mb", "largest resident set (GB)", 1 / 1024))


@dataclass(frozen=True)
class Size:
    """Of a data set, and how many classes are asked for."""

    particles: int
    classes: int
    box: int


def sizes(base: Size, counts: Iterable[int], classes: Iterable[int], boxes: Iterable[int]) -> list[Size]:
    """All different cases of the three ladders, from the smallest."""
    ladders = {"particles": counts, "classes": classes, "box": boxes}
    found = {replace(base, **{name: value}) for name, values in ladders.items() for value in values}
    return sorted(found, key=lambda s: s.particles * s.classes * s.box**2)


def write_case(size: Size, folder: Path, seed: int = 0) -> None:
    """A set like V12 with another number and size of images: the same objects with a wider or narrower margin."""
    protocol = protocols.PROTOCOLS["V12"]
    volumes = [protocols.load_density(name) for name in protocol.densities]
    made = simulate_particles(
        volumes, views=protocol.views, count=size.particles, box=size.box, snr=protocol.snr, seed=seed
    )
    protocols.write_stack(folder / "particles.mrcs", made.particles.read(slice(0, size.particles)), 5.0)
    (folder / "particles.star").write_text(protocols.star_text(made, "particles.mrcs"))
    np.save(folder / "contents.npy", made.truth["content"].to_numpy())


def measured(size: Size, device: str, options: list[str]) -> dict[str, Any]:
    """One record: a run on a new data set."""
    from napari_harmony.analysis.metrics import hungarian_accuracy
    from napari_harmony.outputs import load_output

    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_case(size, folder)
        executable = Path(sys.executable).with_name("napari-harmony")
        command = [str(executable), "align", "particles.star", "-o", str(folder / "out"), "--device", device]
        command += ["--classes", str(size.classes), *options]
        timing = json.loads(run_timed(command, folder, folder / "run").read_text())
        accuracy = hungarian_accuracy(
            load_output(folder / "out").table["class_number"], np.load(folder / "contents.npy")
        )
        summary = json.loads((folder / "out" / "summary.json").read_text())
    return record_of(size, device, options, timing, summary) | {"accuracy": accuracy, "load_before": load}


def record_of(
    size: Size, device: str, options: list[str], timing: dict[str, Any], summary: dict[str, Any]
) -> dict[str, Any]:
    """What a run took, from the files of ``timed.py`` and of the run."""
    large = summary.get("large") or {}
    return {
        **asdict(size),
        "device": device,
        "options": options,
        "seconds": round(timing["seconds"], 1),
        "cpu_seconds": round(timing["cpu_seconds"], 1),
        "peak_mb": round(timing["peak_mb"]),
        "stages": summary["seconds"],
        "passes": large.get("passes"),
        "cache_bytes": large.get("cache_bytes"),
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
    }


def kept(path: Path = RESULTS) -> list[dict[str, Any]]:
    """Records of earlier calls."""
    return json.loads(path.read_text()) if path.is_file() else []


def keep(record: dict[str, Any], path: Path = RESULTS) -> None:
    """Add a record in place of an older one of the same case, device and options."""

    def key(r: dict[str, Any]) -> tuple[Any, ...]:
        return (r["device"], r["particles"], r["classes"], r["box"], *r["options"])

    records = sorted([r for r in kept(path) if key(r) != key(record)] + [record], key=key)
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(records, indent=1) + "\n")
    os.replace(beside, path)


def ladder(records: list[dict[str, Any]], growing: str) -> list[list[dict[str, Any]]]:
    """Records that differ in ``growing`` alone, from the smallest: lists of two or more, of one device and options."""
    others = [name for name in GROWING if name != growing]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["device"], *record["options"], *(record[n] for n in others)), []).append(record)
    return [sorted(group, key=lambda r: r[growing]) for group in groups.values() if len(group) > 1]


def plot(records: list[dict[str, Any]], path: Path = PLOT) -> None:
    """Time and memory against what grows, one column each; nothing where no two records differ in one thing alone."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    found = {growing: ladder(records, growing) for growing in GROWING}
    columns = [growing for growing in GROWING if found[growing]]
    if not columns:
        return
    figure = Figure(figsize=(3.4 * len(columns), 5.2), layout="constrained", facecolor="white")
    axes = figure.subplots(len(SHOWN), len(columns), squeeze=False)
    for column, growing in enumerate(columns):
        for row, (shown, what, factor) in enumerate(SHOWN):
            ax = axes[row, column]
            for group in found[growing]:
                label = " ".join([group[0]["device"], *group[0]["options"]])
                ax.plot([r[growing] for r in group], [factor * r[shown] for r in group], "o-", label=label)
            measured_at = sorted({r[growing] for group in found[growing] for r in group})
            ax.set_xscale("log")
            ax.set_xticks(measured_at, [f"{value:,}" for value in measured_at], minor=False)
            ax.xaxis.set_minor_locator(NullLocator())
            ax.set_xlabel(GROWING[growing])
            ax.set_ylabel(what)
            ax.set_ylim(0, 1.08 * ax.get_ylim()[1])
            ax.grid(alpha=0.3)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def numbers(text: str) -> list[int]:
    """Whole numbers of a comma-separated list, which may be empty."""
    return [int(part) for part in text.split(",") if part]


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=numbers, default=[500, 1000, 2000, 5000])
    parser.add_argument("--classes", type=numbers, default=[4, 12, 25, 50])
    parser.add_argument("--boxes", type=numbers, default=[48, 64, 128, 256])
    parser.add_argument("--base", default="2000:12:64", help="PARTICLES:CLASSES:BOX where another one grows")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    given, options = parser.parse_known_args()
    base = Size(*(int(part) for part in given.base.split(":")))
    for size in sizes(base, given.counts, given.classes, given.boxes):
        record = measured(size, given.device, options)
        keep(record)
        print(json.dumps({k: v for k, v in record.items() if k not in ("machine", "stages")}), flush=True)
        plot(kept())


if __name__ == "__main__":
    main()
