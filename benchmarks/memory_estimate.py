"""Memory that is foretold before a run, against what the run then takes: the largest resident set of its process.

``python benchmarks/memory_estimate.py`` measures all cases, ``--cases`` some. Each run is a process of its own that
opens a stack on disk. Results go to ``benchmarks/results/memory_estimate.json`` and into a section of
``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import protocols
import tables
from compare import machine
from napari_harmony.engine.estimate import estimate
from napari_harmony.engine.settings import Settings
from napari_harmony.particles import open_particles

RESULTS = Path(__file__).parent / "results" / "memory_estimate.json"
README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- memory: begin -->", "<!-- memory: end -->"
RUN = """
import json, resource, sys
from napari_harmony.engine import api
from napari_harmony.engine.settings import Settings
from napari_harmony.particles import open_particles
path, settings = sys.argv[1], json.loads(sys.argv[2])
for event in api.align(open_particles(path), Settings(**settings)):
    pass
scale = 1 if sys.platform == "darwin" else 1024
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale)
"""


@dataclass(frozen=True)
class Case:
    """Particles without structure: how much memory a run takes does not depend on what they show."""

    dimensions: int
    count: int
    box: int
    classes: int | None = 12
    preset: str = "fast"

    @property
    def name(self) -> str:
        classes = "auto" if self.classes is None else f"K={self.classes}"
        return f"{self.count} x {self.box}^{self.dimensions}, {classes}, {self.preset}"


CASES = (
    Case(2, 500, 64),
    Case(2, 2000, 32),
    Case(2, 1000, 64, 3, "balanced"),
    Case(2, 2000, 64, None),
    Case(2, 1000, 128),
    Case(2, 4000, 64),
    Case(3, 100, 24, 4),
    Case(3, 240, 32, 4),
    Case(3, 500, 32, 1),
    Case(3, 60, 40, 4),
)


def write_noise(case: Case, folder: Path) -> Path:
    """A stack of noise, or a folder of volumes."""
    import mrcfile

    random = np.random.default_rng(0)
    if case.dimensions == 2:
        path = folder / "particles.mrcs"
        protocols.write_stack(path, random.normal(size=(case.count, case.box, case.box)), 5.0)
        return path
    for i in range(case.count):
        with mrcfile.new(folder / f"{i + 1:05d}.mrc") as mrc:
            mrc.set_data(random.normal(size=3 * (case.box,)).astype(np.float32))
            mrc.voxel_size = 10.0
    return folder


def measured(case: Case) -> dict[str, object]:
    """Bytes foretold and taken."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_noise(case, Path(folder))
        settings = {"classes": case.classes, "preset": case.preset, "device": "cpu"}
        needed = estimate(open_particles(path), Settings(**settings)).memory  # type: ignore[arg-type]
        command = [sys.executable, "-c", RUN, str(path), json.dumps(settings)]
        environment = os.environ | {"NAPARI_HARMONY_CACHE": folder}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    taken = int(done.stdout.split()[-1])
    return {"case": case.name, **asdict(case), "estimate": needed, "peak": taken, "ratio": round(needed / taken, 3)}


def markdown(records: list[dict[str, object]]) -> str:
    """The table."""
    lines = ["| particles | foretold | largest resident set | ratio |", "| --- | --- | --- | --- |"]
    for r in records:
        lines.append(f"| {r['case']} | {r['estimate'] / 1e6:.0f} MB | {r['peak'] / 1e6:.0f} MB | {r['ratio']:.2f} |")  # type: ignore[operator]
    return "\n".join(lines)


def kept() -> list[dict[str, object]]:
    """Records of earlier calls."""
    return json.loads(RESULTS.read_text())["runs"] if RESULTS.is_file() else []


def write(records: list[dict[str, object]]) -> None:
    """Results and their section."""
    beside = RESULTS.with_suffix(".tmp")
    beside.write_text(json.dumps({"machine": machine(), "runs": records}, indent=1) + "\n")
    os.replace(beside, RESULTS)
    tables.rewrite_section(README, markdown(records), BEGIN, END)


def main() -> None:
    """Measure what was asked for, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", help="comma-separated numbers of cases, from 0 (default: all)")
    wanted = parser.parse_args().cases
    numbers = [int(number) for number in wanted.split(",")] if wanted else range(len(CASES))
    order = [case.name for case in CASES]
    for number in numbers:
        record = measured(CASES[number])
        print(record)
        others = [r for r in kept() if r["case"] != record["case"]]
        write(sorted([*others, record], key=lambda r: order.index(str(r["case"]))))
    print(markdown(kept()))


if __name__ == "__main__":
    main()
