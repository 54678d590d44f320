"""Class averages of subtomograms: a picture of slices beside the particles, and all volumes side by side. No Qt.

A stack (class, z, y, x) would share its slider with the particles and be blank from particle k on. So there are a
picture of every class, which is there whatever the sliders say, and one volume in which the averages lie next to each
other: it follows the slider through z, and the 3D view shows all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony._layers import KEY, LayerTuple, contrast_limits, volume_space_of
from napari_harmony.preferences import preferences

if TYPE_CHECKING:
    from numpy.typing import NDArray

AVERAGE_VOLUMES = "class average volumes"
_GAP = 2  # voxels between volumes, and one between slices


def orthogonal_slices(averages: NDArray[Any]) -> NDArray[np.float32]:
    """Pictures (k, 2b + 1, 2b + 1) of averages (k, b, b, b): slices through their centres.

    Top left the slice across z (y down, x right), below it that across y (z down, x right), beside it that across x
    (y down, z right), and in the corner the projection along z, brought to the contrast of the slices.
    """
    clean = np.nan_to_num(np.asarray(averages, np.float32))
    count, box = len(clean), clean.shape[-1]
    if not count:
        return np.empty((0, 2 * box + 1, 2 * box + 1), np.float32)
    middle = box // 2
    slices = (clean[:, middle], clean[:, :, middle], clean[:, :, :, middle].transpose(0, 2, 1))
    mean = np.mean([part.mean(axis=(1, 2)) for part in slices], axis=0)[:, None, None]
    deviation = np.std(slices, axis=(0, 2, 3))[:, None, None]
    along = clean.sum(axis=1)
    spread = along.std(axis=(1, 2), keepdims=True)
    along = (along - along.mean(axis=(1, 2), keepdims=True)) / np.where(spread > 0, spread, 1) * deviation + mean
    low = np.minimum(clean.min(axis=(1, 2, 3)), along.min(axis=(1, 2)))
    out = np.empty((count, 2 * box + 1, 2 * box + 1), np.float32)
    out[:] = low[:, None, None]  # the lines between the slices
    corners = ((0, 0), (box + 1, 0), (0, box + 1), (box + 1, box + 1))
    for (y, x), part in zip(corners, (*slices, along), strict=True):
        out[:, y : y + box, x : x + box] = part
    return out


def side_by_side(averages: NDArray[Any], columns: int) -> NDArray[np.float32]:
    """One volume (b, height, width) in which averages (k, b, b, b) lie next to each other."""
    clean = np.nan_to_num(np.asarray(averages, np.float32))
    count, box = len(clean), clean.shape[-1]
    step, rows = box + _GAP, max(1, -(-count // columns))
    out = np.full((box, rows * step - _GAP, columns * step - _GAP), clean.min(initial=0.0), np.float32)
    for i, average in enumerate(clean):
        y, x = i // columns * step, i % columns * step
        out[:, y : y + box, x : x + box] = average
    return out


def volumes_of(data: NDArray[Any], about: Mapping[str, Any]) -> NDArray[np.float32]:
    """The averages (k, b, b, b) that lie side by side in a volume of ``volumes_layer``."""
    box, step = len(data), len(data) + _GAP
    corners = [(i // about["columns"] * step, i % about["columns"] * step) for i in range(about["classes"])]
    return np.array([np.asarray(data)[:, y : y + box, x : x + box] for y, x in corners], np.float32)


def volumes_layer(
    averages: NDArray[Any], columns: int, pixel_size: float, space: Mapping[str, Any], box: int, right: float
) -> LayerTuple:
    """All averages side by side as a volume, hidden until it is asked for.

    Parameters
    ----------
    averages : (k, b, b, b)
    columns : averages in a row
    pixel_size : angstrom per voxel of ``averages``
    space : scale, units, axis labels and translation of the particle stack
    box : edge of the particles in voxels
    right : world units from the left edge of the particles
    """
    data = side_by_side(averages, columns)
    inner = volume_space_of(space)
    voxel = float(tuple(inner["scale"])[-1]) * box / averages.shape[-1]
    z, y, x = inner.get("translate", (0.0, 0.0, 0.0))
    about = {"role": "average volumes", "pixel_size": pixel_size, "classes": len(averages), "columns": columns}
    options = {
        "name": AVERAGE_VOLUMES,
        "contrast_limits": contrast_limits(data),
        "colormap": preferences().colormap,
        "blending": "translucent_no_depth",
        "visible": False,
        "metadata": {KEY: about},
    }
    return data, {**options, **inner, "scale": (voxel,) * 3, "translate": (z, y, x + right)}, "image"
