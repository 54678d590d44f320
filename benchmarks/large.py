"""Large data sets: simulated portion by portion into one file, run from the command line, and measured.

``python benchmarks/large.py make FOLDER --count 100000`` writes ``particles.mrcs``, ``particles.star`` and
``truth.csv`` of the contents of V12; no more than one portion is ever in memory.

``python benchmarks/large.py run FOLDER OUT [--memory 1G] [--preset balanced]`` aligns them in a process of its own, and
prints, and writes to ``OUT/large.json``: seconds, seconds per 1000 particles, largest resident set, passes over the
data, accuracy, and pose errors.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

import protocols
from napari_harmony.analysis.metrics import hungarian_accuracy, pose_errors
from napari_harmony.outputs import load_output
from napari_harmony.particles.ctf import CtfParameters
from napari_harmony.particles.mrc import write_stack
from napari_harmony.particles.simulate import Simulated, simulate_particles

#: Particles simulated at a time, and viewing directions per density.
PORTION, VIEWS = 5000, 3


def simulated_in_portions(protocol: protocols.Protocol, count: int, seed: int) -> Iterator[Simulated]:
    """A data set of a protocol; all portions hold the same contents."""
    volumes = [protocols.load_density(name) for name in protocol.densities]
    generator = np.random.default_rng(seed)
    tilt = np.degrees(np.arccos(generator.uniform(-1, 1, (len(volumes), VIEWS))))
    views = np.stack([generator.uniform(-180, 180, tilt.shape), tilt], axis=-1)
    for number, start in enumerate(range(0, count, PORTION)):
        size = min(PORTION, count - start)
        yield simulate_particles(volumes, views=views, count=size, snr=protocol.snr, seed=1000 * (seed + 1) + number)


def make(folder: Path, count: int, seed: int, name: str = "V12") -> None:
    """Write a data set, its metadata and its truth."""
    folder.mkdir(parents=True, exist_ok=True)
    truths: list[pd.DataFrame] = []
    parameters: list[CtfParameters] = []
    last: list[Simulated] = []

    def images() -> Iterator[np.ndarray]:
        for part in simulated_in_portions(protocols.PROTOCOLS[name], count, seed):
            truths.append(part.truth)
            assert part.particles.ctf is not None
            parameters.append(part.particles.ctf)
            last[:] = [part]
            yield part.particles.read(slice(0, len(part.particles)))

    write_stack(folder / "particles.mrcs", images(), pixel_size=5.0)
    whole = {c: np.concatenate([getattr(p, c) for p in parameters]) for c in protocols.CTF_COLUMNS}
    table = pd.DataFrame(index=pd.RangeIndex(count))
    particles = replace(last[0].particles, images=_Shape((count, 64, 64)), table=table, ctf=CtfParameters(**whole))
    truth = pd.concat(truths, ignore_index=True)
    (folder / "particles.star").write_text(protocols.star_text(replace(last[0], particles=particles), "particles.mrcs"))
    truth.to_csv(folder / "truth.csv", index=False)


class _Shape:
    """Images that are on disk already: only their number and size are asked for."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def read(self, indices: object) -> np.ndarray:
        raise NotImplementedError(f"the images {indices} are on disk")


def run(folder: Path, out: Path, options: list[str]) -> dict[str, object]:
    """Align a data set in a process of its own and measure it."""
    command = Path(sys.executable).with_name("napari-harmony")
    program = [str(command), "align", str(folder / "particles.star"), "-o", str(out)]
    begin = time.monotonic()
    process = subprocess.Popen([*program, "--classes", "12", *options])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the run ended with {process.returncode}")
    seconds = time.monotonic() - begin
    summary = json.loads((out / "summary.json").read_text())
    table, truth = load_output(out).table, pd.read_csv(folder / "truth.csv")
    accuracy, rotation = measured(table, truth)
    scale = 1 if sys.platform == "darwin" else 1024
    return {
        "particles": len(table),
        "seconds": round(seconds, 1),
        "seconds per 1000": round(1000 * seconds / len(table), 2),
        "peak memory": usage.ru_maxrss * scale,
        "large": summary.get("large"),
        "stages": summary["seconds"],
        "accuracy": accuracy,
        "median rotation error": float(np.nanmedian(rotation)),
        "under 10 degrees": float((rotation < 10).mean()),
        "junk": int(table["flags"].str.contains("junk").sum()),
        "resolution": summary["resolution_per_class"],
    }


def measured(table: pd.DataFrame, truth: pd.DataFrame) -> tuple[float, np.ndarray]:
    """Accuracy of the classes, and rotation errors (n,) in degrees."""
    origins = (frame[["origin_x", "origin_y"]] for frame in (table, truth))
    first, second = origins
    errors = pose_errors(table["psi"], first, truth["psi"], second, table["class_number"], truth["content"])
    return hungarian_accuracy(table["class_number"], truth["content"]), errors.rotation


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make a large data set, or run on one.")
    parser.add_argument("command", choices=["make", "run"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given, options = parser.parse_known_args()
    if given.command == "make":
        make(given.folder, given.count, given.seed)
        return
    if given.out is None:
        parser.error("run needs a folder for the output")
    found = run(given.folder, given.out, options)
    text = json.dumps(found, indent=2)
    (given.out / "large.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
