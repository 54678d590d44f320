"""Class averages in an OUT folder: one stack of images, or one file for each class of subtomograms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_harmony.errors import InputError
from napari_harmony.outputs import names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.results import Result

_HALVES = (1, 2)


def write_averages(folder: Path, result: Result) -> None:
    """Write the averages of all classes and, where they were kept, of their half sets."""
    from napari_harmony.particles.mrc import write_stack, write_volume

    size, halves = result.average_pixel_size, result.half_averages
    if not result.classes:
        return  # a stack of no images is no file
    if result.dimensions == 2:
        write_stack(folder / names.AVERAGES, result.averages, size)
        for name, half in zip(names.HALVES, halves, strict=True) if halves is not None else ():
            write_stack(folder / name, half, size)
        return
    for number in range(1, result.classes + 1):
        write_volume(folder / names.class_file(number), result.averages[number - 1], size)
        if halves is not None:
            for half in _HALVES:
                write_volume(folder / names.class_file(number, half), halves[half - 1, number - 1], size)


def read_averages(
    folder: Path, classes: int, dimensions: int
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Averages (k, box, box[, box]) and those of the half sets, (2, k, box, box[, box]), None where not all are there.

    Raises
    ------
    InputError : averages that are missing or damaged, or of another number of classes
    """
    if not classes:
        return np.empty((0,) * (1 + dimensions), np.float32), None
    if dimensions == 3:
        return _volumes(folder, classes)
    averages = _stack(folder / names.AVERAGES)
    if len(averages) != classes:
        raise InputError(f"{folder / names.AVERAGES}: it holds {len(averages)} classes, but the run found others.")
    halves = [folder / name for name in names.HALVES]
    return averages, np.stack([_stack(half) for half in halves]) if all(half.is_file() for half in halves) else None


def _volumes(folder: Path, classes: int) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    from napari_harmony.particles.volumes import open_volume_files

    def read(half: int | None) -> NDArray[np.float32]:
        paths = [folder / names.class_file(number, half) for number in range(1, classes + 1)]
        return open_volume_files(paths, folder)[0].read(slice(None))

    every = [folder / names.class_file(number, half) for number in range(1, classes + 1) for half in _HALVES]
    return read(None), np.stack([read(half) for half in _HALVES]) if all(path.is_file() for path in every) else None


def _stack(path: Path) -> NDArray[np.float32]:
    from napari_harmony.particles.mrc import mrc_images

    return mrc_images(path).read(slice(None))
