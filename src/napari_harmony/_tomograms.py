"""Tomograms as napari layers, and the way back from a layer to what can be cut out of it. No Qt here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_harmony._companions import experiment
from napari_harmony._layers import ANGSTROM, KEY, LayerTuple, contrast_limits, pixel_size_of, role_of
from napari_harmony._stacks import TomogramArray
from napari_harmony.errors import InputError
from napari_harmony.particles.coordinates import Coordinates, points_to_coordinates
from napari_harmony.particles.tomogram import Tomogram

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ANGLES = ["rot", "tilt", "psi"]
_OPEN_SHAPES = ("line", "path")
_SAME_SIZE = 0.01  # voxels whose edges differ by more are no cubes
_DRAWN = ("averages", "average volumes", "painted", "labels")


class ArrayFrames:
    """The slices of a volume that a layer holds, as the frames of a ``Tomogram``."""

    def __init__(self, path: Path, array: Any) -> None:
        self.path = path
        self.shape: tuple[int, int, int] = tuple(array.shape)
        self._array = array

    def read_frames(self, frames: NDArray[np.int64], out: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        """Put slice ``frames[i]`` into ``out[rows[i]]``."""
        for frame, row in zip(frames.tolist(), rows.tolist(), strict=True):
            out[row] = self._array[frame]


def volume_space(voxel_size: float, known: bool = True) -> dict[str, Any]:
    """Scale, units and axis labels of a volume."""
    return {
        "scale": (voxel_size,) * 3,
        "units": (ANGSTROM if known else "pixel",) * 3,
        "axis_labels": ("z", "y", "x"),
    }


def volume_layer(tomogram: Tomogram, name: str) -> LayerTuple:
    """A tomogram, or another single volume, as a lazy layer; reads one slice for the contrast limits."""
    data = TomogramArray(tomogram)
    about = {
        "role": "volume",
        "path": str(tomogram.path),
        "pixel_size": tomogram.voxel_size,
        "pixel_size_known": tomogram.voxel_size_known,
    }
    options = {
        "name": name,
        "contrast_limits": contrast_limits(data[data.shape[0] // 2]),
        "colormap": "gray",
        "metadata": {KEY: about, **experiment(tomogram), "stack": False},
    }
    return data, {**options, **volume_space(tomogram.voxel_size, tomogram.voxel_size_known)}, "image"


def is_tomogram(layer: Any) -> bool:
    """Whether a layer shows a volume that subtomograms can be cut out of."""
    if isinstance(layer.data, TomogramArray):
        return True
    plain = not getattr(layer, "rgb", True) and not getattr(layer, "multiscale", True)
    if not plain or layer.ndim != 3 or role_of(layer) not in (None, "volume") or not hasattr(layer, "colormap"):
        return False
    return layer.data.shape[0] > 1 and layer.data.dtype.kind in "buif" and not _is_labels(layer)


def _is_labels(layer: Any) -> bool:
    return hasattr(layer, "selected_label")


def tomogram_of(layer: Any) -> Tomogram:
    """The tomogram that a layer shows, with the voxel size that the layer has now.

    A voxel size of exactly 1, which many programs write where they do not know it, counts as unknown.

    Raises
    ------
    InputError : voxels that are no cubes
    """
    scale = np.abs(np.asarray(layer.scale[-3:], dtype=np.float64))
    if np.ptp(scale) > _SAME_SIZE * scale.max():
        sizes = " x ".join(f"{size:g}" for size in scale[::-1])
        raise InputError(
            f"layer '{layer.name}' has voxels of {sizes} (x, y, z); resample it to cubic voxels, or correct its scale."
        )
    size = pixel_size_of(layer)
    known = size is not None and size != 1.0
    if isinstance(layer.data, TomogramArray):
        return replace(layer.data.tomogram, voxel_size=size or 1.0, voxel_size_known=known)
    path = Path(layer.source.path or layer.name)
    return Tomogram(path, ArrayFrames(path, layer.data), size or 1.0, known)


def points_in(points: Any, tomogram: Any) -> Coordinates:
    """The points of a Points layer as coordinates in the voxels of a tomogram layer, with angles where they have them.

    Parameters
    ----------
    points : a napari Points layer in three dimensions; features ``rot``, ``tilt``, ``psi`` are taken as RELION's
        angles, and the others go into the table
    tomogram : the image layer they were picked in

    Raises
    ------
    InputError : no points, points with other than three axes, or positions that are not numbers
    """
    if points.ndim != 3:
        raise InputError(
            f"layer '{points.name}' has points with {points.ndim} axes; points in a tomogram have three, z, y and x."
        )
    if not len(points.data):
        raise InputError(f"layer '{points.name}' has no points; pick some in the tomogram.")
    matrix, shift = _to_voxels(points, tomogram)
    angles = points.features[_ANGLES].to_numpy(np.float64) if set(_ANGLES) <= set(points.features) else None
    if angles is not None and not np.isfinite(angles).all():
        angles = None  # points added by hand to those of a file have none
    found = points_to_coordinates(np.asarray(points.data) @ matrix.T + shift, angles=angles)
    others = points.features.drop(columns=[name for name in _ANGLES if name in points.features])
    return replace(found, table=others.reset_index(drop=True)) if len(others.columns) else found


def lines_in(shapes: Any, tomogram: Any) -> Coordinates:
    """The corners of the lines and paths of a Shapes layer as coordinates in the voxels of a tomogram layer.

    Their table has a column ``filament``: the number of the shape, from 1.

    Raises
    ------
    InputError : shapes with other than three axes, or none that is a line or a path
    """
    if shapes.ndim != 3:
        raise InputError(
            f"layer '{shapes.name}' has shapes with {shapes.ndim} axes; lines in a tomogram have three, z, y and x."
        )
    drawn = zip(shapes.shape_type, shapes.data, strict=True)
    lines = [(number, corners) for number, (kind, corners) in enumerate(drawn, 1) if kind in _OPEN_SHAPES]
    if not lines:
        raise InputError(f"layer '{shapes.name}' has no lines or paths; draw some along the filaments.")
    matrix, shift = _to_voxels(shapes, tomogram)
    found = points_to_coordinates(np.concatenate([corners for _, corners in lines]) @ matrix.T + shift)
    numbers = np.repeat([number for number, _ in lines], [len(corners) for _, corners in lines])
    return replace(found, table=pd.DataFrame({"filament": numbers}))


def _to_voxels(points: Any, tomogram: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The matrix (3, 3) and shift (3,) that take data coordinates of one layer to those of another."""

    def there(place: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(tomogram.world_to_data(points.data_to_world(place)), dtype=np.float64)

    origin = there(np.zeros(3))
    return np.stack([there(axis) - origin for axis in np.eye(3)], axis=-1), origin
