"""The tutorial on a microtubule: its averages, and the window in which it is traced.

Its tomogram is not part of the package: give it with ``--microtubule FILE``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from napari_harmony._tomograms import volume_layer
from napari_harmony.analysis.rotational import RotationalSpectrum, rotational_spectrum
from napari_harmony.cli.main import main as command
from napari_harmony.outputs.restore import is_output
from napari_harmony.particles.tomogram import open_tomogram, open_volume
from pictures.runs import Runs
from pictures.studio import Studio

POINTS = np.array([[27.56, 180.61, 18.03], [48.94, 102.47, 18.03], [75.95, 33.46, 18.03]])  # x, y, z in voxels
BOX, EVERY = 36, 40  # voxels, angstrom
INNER, OUTER = 7, 16  # pixels: the wall of a microtubule and what the wedge draws it out to
LOWEST, HIGHEST = 3, 20  # orders shown
#: The two ways in which the tutorial averages, and the options of each.
WAYS = {
    "straight": ["--transforms", "contrast"],
    "aligned": ["--local-search", "10"],
}


def draw(studio: Studio, runs: Runs) -> None:
    """Do what the tutorial does, and draw what it shows."""
    if runs.microtubule is None:
        print("filament: left out, for its tomogram was not given (--microtubule FILE)")
        return
    _follow(runs)
    _draw_averages([runs.path(f"microtubule-{way}") for way in WAYS], studio.images / "microtubule-average.png")
    _draw_window(studio, runs.microtubule)


def _follow(runs: Runs) -> None:
    """The commands of the tutorial, where their results are not there yet."""
    boxes = runs.path("microtubule-boxes")
    runs.folder.mkdir(parents=True, exist_ok=True)
    line = runs.folder / "line.csv"
    np.savetxt(line, POINTS, delimiter=",", header="x,y,z", comments="", fmt="%.2f")
    if not (boxes / "particles.star").is_file():
        cut = ["extract", str(runs.microtubule), str(line), "-o", str(boxes), "--box", str(BOX), "--every", str(EVERY)]
        _run([*cut, "--tilt-range", "-60", "60"])
    for way, options in WAYS.items():
        out = runs.path(f"microtubule-{way}")
        if not is_output(out):
            _run(["align", str(boxes), "-o", str(out), "--classes", "1", "--start", "input", *options])


def _run(words: list[str]) -> None:
    if command(words) != 0:
        raise SystemExit(f"napari-harmony {' '.join(words)} failed")


def _draw_averages(folders: list[Path], target: Path) -> None:
    """Cross-sections, a lengthwise section and rotational power of two averages, one row each."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    rows = figure.subplots(2, 3, width_ratios=[1, 1, 1.6])
    volumes = [open_volume(folder / "class_001.mrc").read() for folder in folders]
    spectra = [rotational_spectrum(volume, INNER, OUTER) for volume in volumes]
    highest = max(spectrum.power[LOWEST:].max() for spectrum in spectra)
    names = ("as traced", "aligned")
    for axes, name, volume, spectrum in zip(rows, names, volumes, spectra, strict=True):
        _draw_row(axes, name, volume, spectrum, highest)
    figure.savefig(target, dpi=110)
    print(target)


def _draw_row(axes: Any, name: str, volume: np.ndarray, spectrum: RotationalSpectrum, highest: float) -> None:
    axes[0].imshow(volume.mean(0), cmap="gray")
    axes[0].set_title(f"{name}, across")
    axes[1].imshow(volume[:, :, volume.shape[0] // 2], cmap="gray")
    axes[1].set_title("lengthwise")
    for ax in axes[:2]:
        ax.set_xticks([])
        ax.set_yticks([])
    orders = np.arange(LOWEST, HIGHEST + 1)
    order, ratio = spectrum.peak()
    colours = ["tab:orange" if one == order else "tab:blue" for one in orders]
    axes[2].bar(orders, spectrum.power[orders], color=colours)
    axes[2].set(xlabel="order", ylabel="rotational power", ylim=(0, 1.05 * highest), xticks=orders[::2])
    axes[2].set_title(f"highest at {order}, {ratio:.1f} times the next")


def _draw_window(studio: Studio, tomogram: Path) -> None:
    """The tomogram with the traced line and the dock that cuts along it."""
    viewer = studio.viewer
    data, options, _ = volume_layer(open_tomogram(tomogram), tomogram.stem)
    image = viewer.add_image(data, **options)
    space = {"scale": image.scale, "units": image.units, "axis_labels": image.axis_labels}
    viewer.add_shapes([POINTS[:, ::-1]], shape_type="path", name="filaments", edge_color="orange", **space)
    viewer.dims.set_point(0, POINTS[0, 2] * image.scale[0])
    extract = studio.dock("Extract Subtomograms")
    extract.box_spin.setValue(BOX)
    extract.every_spin.setValue(EVERY)
    extract.tilt_edit.known.setChecked(True)
    extract.folder_edit.setText("boxes")  # nothing is written
    studio.take("microtubule")
