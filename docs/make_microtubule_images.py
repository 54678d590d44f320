"""Draws the pictures of the tutorial on a microtubule from the folders that its commands wrote, and from the window.

Run it with a display or under xvfb, in the folder in which the tutorial was followed:
``python docs/make_microtubule_images.py TOMOGRAM LINE STRAIGHT ALIGNED``, the last two being folders of results.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pandas as pd
from make_images import FOLDER, Photographer
from matplotlib.figure import Figure

from napari_harmony._tomograms import volume_layer
from napari_harmony.analysis.rotational import RotationalSpectrum, rotational_spectrum
from napari_harmony.particles.tomogram import open_tomogram, open_volume

INNER, OUTER = 7, 16  # pixels: the wall of a microtubule and what the wedge draws it out to
LOWEST, HIGHEST = 3, 20  # orders shown


def draw_averages(straight: Path, aligned: Path, target: Path) -> None:
    """Cross-sections, a lengthwise section and rotational power of two averages, one row each."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    rows = figure.subplots(2, 3, width_ratios=[1, 1, 1.6])
    volumes = [open_volume(folder / "class_001.mrc") for folder in (straight, aligned)]
    spectra = [rotational_spectrum(volume.read(), INNER, OUTER) for volume in volumes]
    highest = max(spectrum.power[LOWEST:].max() for spectrum in spectra)
    names = ("as traced", "aligned")
    for axes, name, volume, spectrum in zip(rows, names, volumes, spectra, strict=True):
        _draw_row(axes, name, volume.read(), spectrum, highest)
    figure.savefig(target, dpi=110)
    print(target)


def _draw_row(axes: Any, name: str, volume: np.ndarray, spectrum: RotationalSpectrum, highest: float) -> None:
    middle = volume.shape[0] // 2
    axes[0].imshow(volume.mean(0), cmap="gray")
    axes[0].set_title(f"{name}, across")
    axes[1].imshow(volume[:, :, middle], cmap="gray")
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


def draw_window(tomogram: Path, line: Path) -> None:
    """The tomogram with the traced line and the dock that cuts along it."""
    photographer = Photographer(FOLDER)
    viewer: napari.Viewer = photographer.viewer
    data, options, _ = volume_layer(open_tomogram(tomogram), tomogram.stem)
    image = viewer.add_image(data, **options)
    table = pd.read_csv(line)
    space = {"scale": image.scale, "units": image.units, "axis_labels": image.axis_labels}
    viewer.add_shapes(
        [table[["z", "y", "x"]].to_numpy()], shape_type="path", name="filaments", edge_color="orange", **space
    )
    viewer.dims.set_point(0, table["z"].iloc[0] * image.scale[0])
    _, extract = viewer.window.add_plugin_dock_widget("napari-harmony", "Extract Subtomograms")
    extract.box_spin.setValue(36)
    extract.every_spin.setValue(40)
    extract.tilt_edit.known.setChecked(True)
    extract.folder_edit.setText("boxes")  # nothing is written
    photographer.take("microtubule")
    viewer.close()


def main() -> None:
    """Draw every picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("tomogram", "line", "straight", "aligned"):
        parser.add_argument(name, type=Path)
    chosen = parser.parse_args()
    draw_averages(chosen.straight, chosen.aligned, FOLDER / "microtubule-average.png")
    draw_window(chosen.tomogram, chosen.line)


if __name__ == "__main__":
    main()
