"""Which points lie in a shape drawn by hand: exact, and quick for a million points. Numbers only, no Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CELLS = 384  # of the grid along each axis
_SMALL = 2_000  # so few points are tested one by one
_BLOCK = 4_000_000  # comparisons of points with edges that are held at once


def inside_rectangle(
    x: NDArray[Any], y: NDArray[Any], corner: tuple[float, float], opposite: tuple[float, float]
) -> NDArray[np.bool_]:
    """Which points (n,) lie in a rectangle given by two opposite corners, its border included; NaN never does."""
    (x0, x1), (y0, y1) = sorted((corner[0], opposite[0])), sorted((corner[1], opposite[1]))
    return (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)


def inside_polygon(x: NDArray[Any], y: NDArray[Any], corners: NDArray[Any]) -> NDArray[np.bool_]:
    """Which points (n,) lie in a closed polygon by the even-odd rule; NaN never does.

    A grid over the polygon settles all points but those in cells that an edge goes through; these are tested one by
    one. A polygon of fewer than three corners holds nothing.

    Parameters
    ----------
    x, y : coordinates of the points, (n,)
    corners : (k, 2), in the same coordinates; the last is joined to the first
    """
    inside = np.zeros(len(x), dtype=bool)
    corners = np.asarray(corners, dtype=np.float64)
    if len(corners) < 3:
        return inside
    low, high = corners.min(axis=0), corners.max(axis=0)
    near = np.flatnonzero(inside_rectangle(x, y, tuple(low), tuple(high)))
    if not len(near) or not np.all(high > low):
        return inside
    px, py = np.asarray(x[near], dtype=np.float64), np.asarray(y[near], dtype=np.float64)
    if len(near) <= _SMALL:
        inside[near] = _crossings_odd(px, py, corners)
        return inside
    cell = (high - low) / _CELLS
    column = np.minimum(((px - low[0]) / cell[0]).astype(np.intp), _CELLS - 1)
    row = np.minimum(((py - low[1]) / cell[1]).astype(np.intp), _CELLS - 1)
    touched = _touched_cells((corners - low) / cell)
    sure = _centres_inside(corners, low, cell)[row, column]
    unsure = np.flatnonzero(touched[row, column])
    sure[unsure] = _crossings_odd(px[unsure], py[unsure], corners)
    inside[near] = sure
    return inside


def nearest(x: NDArray[Any], y: NDArray[Any], place: tuple[float, float], scale: tuple[float, float]) -> int | None:
    """The point (of n) nearest to ``place``, distances along each axis multiplied by ``scale``; None without any."""
    squared = ((x - place[0]) * scale[0]) ** 2 + ((y - place[1]) * scale[1]) ** 2
    if not len(squared) or np.isnan(squared).all():
        return None
    return int(np.nanargmin(squared))


def _edges(corners: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return corners, np.roll(corners, -1, axis=0)


def _crossings_odd(px: NDArray[np.float64], py: NDArray[np.float64], corners: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a ray from each point (m,) towards +x crosses an odd number of edges."""
    start, end = _edges(corners)
    level = start[:, 1] != end[:, 1]
    (x0, y0), (x1, y1) = start[level].T, end[level].T
    slope = (x1 - x0) / (y1 - y0)
    odd = np.zeros(len(px), dtype=bool)
    step = max(1, _BLOCK // max(1, len(x0)))
    for first in range(0, len(px), step):
        part = slice(first, first + step)
        x, y = px[part, None], py[part, None]
        crosses = ((y0 <= y) != (y1 <= y)) & (x < x0 + (y - y0) * slope)
        odd[part] = np.count_nonzero(crosses, axis=1) % 2 == 1
    return odd


def _touched_cells(corners: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Cells (rows, columns) that an edge may go through: along each edge a sample per half cell, and its neighbours."""
    start, end = _edges(corners)  # in cells
    steps = np.maximum(1, np.ceil(2 * np.abs(end - start).max(axis=1))).astype(np.intp)
    edge = np.repeat(np.arange(len(start)), steps)
    along = (np.arange(len(edge)) - np.repeat(np.cumsum(steps) - steps, steps)) / steps[edge]
    place = np.floor(start[edge] + along[:, None] * (end - start)[edge]).astype(np.intp) + 1
    place = np.clip(place, 0, _CELLS + 1)
    touched = np.zeros((_CELLS + 2, _CELLS + 2), dtype=bool)  # a frame of one cell, so that neighbours need no care
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            touched[np.clip(place[:, 1] + dy, 0, _CELLS + 1), np.clip(place[:, 0] + dx, 0, _CELLS + 1)] = True
    return touched[1:-1, 1:-1]


def _centres_inside(
    corners: NDArray[np.float64], low: NDArray[np.float64], cell: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether the centre of each cell lies inside, (rows, columns): edges crossed to the right of it, row by row."""
    start, end = _edges(corners)
    middle_x = low[0] + (np.arange(_CELLS) + 0.5) * cell[0]
    middle_y = low[1] + (np.arange(_CELLS) + 0.5) * cell[1]
    inside = np.zeros((_CELLS, _CELLS), dtype=bool)
    for row, y in enumerate(middle_y):
        crossed = (start[:, 1] <= y) != (end[:, 1] <= y)
        (x0, y0), (x1, y1) = start[crossed].T, end[crossed].T
        crossings = np.sort(x0 + (y - y0) * (x1 - x0) / (y1 - y0))
        right = len(crossings) - np.searchsorted(crossings, middle_x, side="right")
        inside[row] = right % 2 == 1
    return inside
