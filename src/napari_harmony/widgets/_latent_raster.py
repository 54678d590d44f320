"""Points and densities as pictures (RGBA), made with numpy alone: quick, and the same on every screen. No Qt."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.widgets._latent_colours import Colouring

#: With more particles in view than this, the plot shows their density.
MOST_POINTS = 100_000
_FAINTEST = 0.3  # opacity of a cell with one particle


def radius_for(count: int) -> float:
    """Radius in pixels at which so many points can be told apart and still be seen."""
    return float(np.clip(12.5 / max(1, count) ** 0.19, 1.3, 4.0))


def topmost(column: NDArray[Any], row: NDArray[Any], shape: tuple[int, int], radius: float) -> NDArray[np.int32]:
    """Which disc is seen at each pixel, (height, width); -1 for none. Later points lie over earlier ones.

    Parameters
    ----------
    column, row : of the centres, (m,), in pixels; those outside the picture are left out
    shape : (height, width)
    radius : of the discs in pixels
    """
    height, width = shape
    reach = math.ceil(radius)
    stride = width + 2 * reach
    top = np.full((height + 2 * reach) * stride, -1, dtype=np.int32)
    order = np.flatnonzero((column >= 0) & (column < width) & (row >= 0) & (row < height)).astype(np.int32)
    centre = (row[order].astype(np.int64) + reach) * stride + column[order].astype(np.int64) + reach
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if dx * dx + dy * dy <= radius * radius:
                at = centre + (dy * stride + dx)
                # of points that fall on one pixel numpy keeps the last, which is the largest number
                top[at] = np.maximum(top[at], order)
    return top.reshape(height + 2 * reach, stride)[reach : reach + height, reach : reach + width]


def points_picture(
    column: NDArray[Any], row: NDArray[Any], colours: NDArray[np.uint8], shape: tuple[int, int], radius: float
) -> NDArray[np.uint8]:
    """Discs in their colours (m, 4) on nothing, (height, width, 4)."""
    top = topmost(column, row, shape, radius)
    return _look_up(top, colours)


def ringed_picture(
    column: NDArray[Any],
    row: NDArray[Any],
    colours: NDArray[np.uint8],
    shape: tuple[int, int],
    radius: float,
    ring: float,
    ring_colour: tuple[int, int, int],
) -> NDArray[np.uint8]:
    """Discs as ``points_picture`` over one common outline of ``ring`` pixels."""
    picture = points_picture(column, row, colours, shape, radius)
    around = (topmost(column, row, shape, radius + ring) >= 0) & (picture[..., 3] == 0)
    picture[around] = (*ring_colour, 255)
    return picture


def density_picture(
    column: NDArray[Any], row: NDArray[Any], chosen: NDArray[np.int64], colouring: Colouring, shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """A two-dimensional histogram on a logarithmic scale, (height, width, 4), one cell per pixel.

    Each cell has the mean colour of its particles (for numbers, the colour of their mean) and is the more opaque the
    more they are; coloured by number of particles, it has the colour of its count.

    Parameters
    ----------
    column, row : of the points, (m,), in pixels
    chosen : (m,) their particles, which say the colours
    shape : (height, width)
    """
    height, width = shape
    within = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    cell = row[within].astype(np.int64) * width + column[within].astype(np.int64)
    counts = np.bincount(cell, minlength=height * width)
    filled = np.flatnonzero(counts)
    picture = np.zeros((height * width, 4), dtype=np.uint8)
    if not len(filled):
        return picture.reshape(height, width, 4)
    level = np.log1p(counts[filled]) / np.log1p(counts[filled].max())
    if colouring.by_count:
        picture[filled] = colouring.table[np.rint(level * colouring.last).astype(np.int64)]
    else:
        codes = colouring.codes[chosen[within]]
        if colouring.limits is not None:
            picture[filled] = _mean_value(cell, codes, filled, colouring, height * width)
        else:
            picture[filled] = _mean_colour(cell, codes, counts, filled, colouring)
        picture[filled, 3] = np.rint(255 * (_FAINTEST + (1 - _FAINTEST) * level))
    return picture.reshape(height, width, 4)


def _mean_value(
    cell: NDArray[np.int64], codes: NDArray[Any], filled: NDArray[np.int64], colouring: Colouring, cells: int
) -> NDArray[np.uint8]:
    known = codes <= colouring.last  # the code after the last is that of NaN
    total = np.bincount(cell[known], weights=codes[known], minlength=cells)[filled]
    count = np.bincount(cell[known], minlength=cells)[filled]
    mean = np.rint(total / np.maximum(count, 1)).astype(np.int64)
    return colouring.table[np.where(count > 0, mean, colouring.last + 1)]


def _mean_colour(
    cell: NDArray[np.int64],
    codes: NDArray[Any],
    counts: NDArray[np.int64],
    filled: NDArray[np.int64],
    colouring: Colouring,
) -> NDArray[np.uint8]:
    out = np.empty((len(filled), 4), dtype=np.uint8)
    for channel in range(4):
        weights = colouring.table[:, channel].astype(np.float64)[codes]
        out[:, channel] = np.rint(np.bincount(cell, weights=weights, minlength=len(counts))[filled] / counts[filled])
    return out


def _look_up(top: NDArray[np.int32], colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours (m, 4) of the points seen; -1 finds the entry put last, which is clear."""
    with_clear = np.concatenate([colours, np.zeros((1, 4), dtype=np.uint8)])
    return with_clear[top]
