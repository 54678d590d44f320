"""Draws the picture of the page on navigation: frames along the directions of a run on the sample with moving parts.

Give the folder that ``napari-harmony navigate`` wrote: ``python docs/make_navigation_images.py directions``.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib
import mrcfile
import numpy as np

matplotlib.use("agg")
from matplotlib import pyplot as plt

TARGET = Path(__file__).parent / "images" / "navigation.png"
SHOWN = 5  # frames per direction


def draw(folder: Path, target: Path = TARGET) -> None:
    """One row per direction: frames from end to end, what changes between the ends, and the verdict."""
    with (folder / "directions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    stacks = [mrcfile.read(folder / f"direction_{int(row['direction']):02d}.mrcs") for row in rows]
    low, high = min(s.min() for s in stacks), max(s.max() for s in stacks)
    figure, axes = plt.subplots(len(rows), SHOWN + 1, figsize=(1.5 * (SHOWN + 1), 1.75 * len(rows)), squeeze=False)
    for line, row, frames in zip(axes, rows, stacks, strict=True):
        chosen = np.linspace(0, len(frames) - 1, SHOWN).round().astype(int)
        for place, frame in zip(line, frames[chosen], strict=False):
            place.imshow(frame, cmap="gray", vmin=low, vmax=high)
        change = frames[-1] - frames[0]
        line[-1].imshow(change, cmap="RdBu_r", vmin=-np.abs(change).max(), vmax=np.abs(change).max())
        text = f"direction {row['direction']}: {row['verdict']}, score {float(row['score']):.2f}"
        line[0].set_title(f"{text}, leak {float(row['leak']):.2f}", fontsize=9, loc="left")
        for place in line:
            place.set_axis_off()
    axes[0, -1].set_title("change", fontsize=9)
    figure.tight_layout()
    figure.savefig(target, dpi=110)
    print(target)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
