"""Class averages put back into the tomogram, where and as every particle lies: volumes, surfaces and vectors.

Positions are (x, y, z) in voxels of the tomogram from 0; arrays and what napari gets are in the order (z, y, x).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter, spline_filter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_BINS = 256
_TRIANGLES = 4_000_000  # of all particles together: surfaces are made coarser until they have no more
_COARSEST = 4  # voxels per step of marching cubes
_ORDER = 3


@dataclass(frozen=True, eq=False)
class Placement:
    """Which average lies where, and how it is turned.

    Attributes
    ----------
    positions : (n, 3) of the particles' centres, (x, y, z) in voxels of the tomogram
    matrices : (n, 3, 3), the R on (x, y, z) that turns a particle into its class average
    classes : (n,) class numbers, 1-based
    """

    positions: NDArray[np.float64]
    matrices: NDArray[np.float64]
    classes: NDArray[np.int64]

    def __post_init__(self) -> None:
        count = len(self.positions)
        if self.matrices.shape != (count, 3, 3) or self.classes.shape != (count,):
            raise ValueError(f"{count} positions with {self.matrices.shape} matrices and {self.classes.shape} classes")

    def __len__(self) -> int:
        return len(self.positions)

    def subset(self, rows: ArrayLike) -> Placement:
        """Some particles, by a mask or by numbers."""
        chosen = np.arange(len(self))[np.asarray(rows)]
        return Placement(self.positions[chosen], self.matrices[chosen], self.classes[chosen])


class Template:
    """A class average ready to be drawn many times: background and everything below the threshold is taken off.

    Parameters
    ----------
    average : (b, b, b), axes z, y, x, its centre at voxel b // 2; NaN counts as background
    ratio : voxels of the tomogram per voxel of the average: the voxel size of the average over that of the tomogram
    threshold : grey value from which the average counts as matter; None for ``contour_level``

    Raises
    ------
    ValueError : an average that is no cube, or a ratio that is not positive
    """

    def __init__(self, average: NDArray[np.floating], ratio: float = 1.0, threshold: float | None = None) -> None:
        box = average.shape[0]
        if average.shape != (box,) * 3 or not ratio > 0:
            raise ValueError(f"an average of shape {average.shape} in {ratio} voxels each")
        self.ratio = ratio
        self.box = box
        self.level = contour_level(average) if threshold is None else threshold
        matter = np.nan_to_num(np.asarray(average, np.float32)) - np.float32(self.level)
        #: how far the average reaches from its centre, in voxels of the tomogram
        self.reach = ratio * (box // 2)
        self._outside = ~_sphere(box)
        matter[self._outside] = min(0.0, float(matter.min()))
        self.matter = matter
        self._coefficients = spline_filter(matter, _ORDER, np.float32, mode="mirror")

    def draw(
        self, position: NDArray[np.float64], matrix: NDArray[np.float64], start: Sequence[int], stop: Sequence[int]
    ) -> NDArray[np.float32]:
        """What exceeds the threshold, 0 elsewhere, in the box from ``start`` to below ``stop`` (z, y, x).

        One cubic resampling; ``position`` (3,) and ``matrix`` (3, 3) are those of a ``Placement``.
        """
        shape = tuple(int(b) - int(a) for a, b in zip(start, stop, strict=True))
        linear = matrix[::-1, ::-1] / self.ratio
        offset = self.box // 2 + linear @ (np.asarray(start, np.float64) - position[::-1])
        drawn = affine_transform(
            self._coefficients, linear, offset, shape, np.float32, order=_ORDER, prefilter=False, cval=-1.0
        )
        return np.maximum(drawn, 0, out=drawn)


def templates_of(averages: NDArray[np.floating], ratio: float = 1.0) -> list[Template]:
    """Templates of class averages (k, b, b, b), class 1 first."""
    return [Template(average, ratio) for average in averages]


def contour_level(average: NDArray[np.floating]) -> float:
    """A grey value between background and matter of an average (b, b, b): the one that separates the two best (Otsu).

    Only the sphere inside the box is looked at, smoothed by a voxel so that noise makes no islands.
    """
    inside = gaussian_filter(np.nan_to_num(np.asarray(average, np.float32)), 1.0)[_sphere(average.shape[0])]
    if not inside.size or not np.ptp(inside) > 0:
        return float(inside.max(initial=0.0)) + 1.0  # nothing is to be seen of an empty average
    counts, edges = np.histogram(inside, _BINS)
    grey = 0.5 * (edges[:-1] + edges[1:])
    below = np.cumsum(counts)[:-1]
    above = inside.size - below
    total = np.cumsum(counts * grey)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total[:-1] / below - (total[-1] - total[:-1]) / above) ** 2
    return float(edges[1 + int(np.argmax(np.nan_to_num(between)))])


def _sphere(box: int) -> NDArray[np.bool_]:
    axis = np.arange(box) - box // 2
    squares = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    return np.asarray(squares <= max(1, box // 2 - 1) ** 2)


@dataclass(frozen=True, eq=False)
class Painted:
    """Averages in the place of their particles, drawn for the part of the tomogram that is asked for.

    Attributes
    ----------
    templates : one for each class
    placement : of the particles
    shape : (z, y, x) of the tomogram
    """

    templates: Sequence[Template]
    placement: Placement
    shape: tuple[int, int, int]

    def density(
        self, start: Sequence[int] = (0, 0, 0), stop: Sequence[int] | None = None, *, overlap: str = "max"
    ) -> NDArray[np.float32]:
        """Densities above their thresholds, 0 elsewhere, float32 (z, y, x).

        Parameters
        ----------
        start, stop : corners (z, y, x) of the part, by default all
        overlap : of particles: ``max`` of their densities, or ``sum``
        """
        begin, end = self._corners(start, stop)
        out = np.zeros(np.subtract(end, begin), np.float32)
        merge = np.maximum if overlap == "max" else np.add
        for _, region, drawn in self._drawn(begin, end):
            merge(out[region], drawn, out=out[region])
        return out

    def labels(self, start: Sequence[int] = (0, 0, 0), stop: Sequence[int] | None = None) -> NDArray[np.uint16]:
        """The class number of the particle that is densest at each voxel, 0 where there is none; (z, y, x)."""
        begin, end = self._corners(start, stop)
        out = np.zeros(np.subtract(end, begin), np.uint16)
        best = np.zeros(out.shape, np.float32)
        for row, region, drawn in self._drawn(begin, end):
            denser = drawn > best[region]
            best[region][denser] = drawn[denser]
            out[region][denser] = self.placement.classes[row]
        return out

    def slabs(self, depth: int = 16, *, overlap: str = "max") -> Iterator[NDArray[np.float32]]:
        """The density of the whole tomogram, ``depth`` slices at a time: what is written needs not be held."""
        for first in range(0, self.shape[0], depth):
            stop = (min(first + depth, self.shape[0]), *self.shape[1:])
            yield self.density((first, 0, 0), stop, overlap=overlap)

    def _corners(self, start: Sequence[int], stop: Sequence[int] | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return np.asarray(start, np.int64), np.asarray(self.shape if stop is None else stop, np.int64)

    def _drawn(
        self, begin: NDArray[np.int64], end: NDArray[np.int64]
    ) -> Iterator[tuple[int, tuple[slice, ...], NDArray[np.float32]]]:
        """Particle by particle its row, the part of the box it reaches, and its density there."""
        reach = np.array([template.reach for template in self.templates])[self.placement.classes - 1]
        centres = self.placement.positions[:, ::-1]
        low = np.maximum(np.floor(centres - reach[:, None]).astype(np.int64), begin)
        high = np.minimum(np.ceil(centres + reach[:, None]).astype(np.int64) + 1, end)
        for row in np.flatnonzero((low < high).all(axis=1)):
            template = self.templates[self.placement.classes[row] - 1]
            drawn = template.draw(
                self.placement.positions[row], self.placement.matrices[row], low[row].tolist(), high[row].tolist()
            )
            region = tuple(slice(a, b) for a, b in zip(low[row] - begin, high[row] - begin, strict=True))
            yield int(row), region, drawn


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles.

    Attributes
    ----------
    vertices : (v, 3) float32, (z, y, x) in voxels of the tomogram
    faces : (f, 3) int64, rows of ``vertices``
    classes : (v,) class number that each vertex belongs to
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int64]
    classes: NDArray[np.float32]


def surfaces(templates: Sequence[Template], placement: Placement, triangles: int = _TRIANGLES) -> Mesh:
    """The surface of its class at the place of every particle, all in one mesh.

    Parameters
    ----------
    templates : one for each class; surfaces are drawn at their thresholds
    placement : of the particles
    triangles : that there may be at most, if need be by coarser surfaces
    """
    counts = np.bincount(placement.classes, minlength=len(templates) + 1)[1:]
    step = 1
    outlines = [outline(template) for template in templates]
    while step < _COARSEST and sum(c * len(f) for c, (_, f) in zip(counts, outlines, strict=True)) > triangles:
        step += 1
        outlines = [outline(template, step) for template in templates]
    vertices, faces, classes, first = [], [], [], 0
    for number, (template, (points, triples)) in enumerate(zip(templates, outlines, strict=True), start=1):
        for row in np.flatnonzero(placement.classes == number) if len(points) else ():
            # x_ref = R (x_tomogram - position) / ratio, so the transpose brings the outline to its place
            there = template.ratio * (points @ placement.matrices[row]) + placement.positions[row]
            vertices.append(there[:, ::-1].astype(np.float32))
            faces.append(triples + first)
            classes.append(np.full(len(points), number, np.float32))
            first += len(points)
    if not vertices:
        return Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int64), np.zeros(0, np.float32))
    return Mesh(np.concatenate(vertices), np.concatenate(faces), np.concatenate(classes))


def outline(template: Template, step: int = 1) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The closed surface of an average at its threshold: vertices (v, 3), (x, y, z) from its centre, and faces (f, 3).

    Empty where nothing exceeds the threshold. ``step``: voxels between the points that are looked at.
    """
    from skimage.measure import marching_cubes

    padded = np.pad(template.matter, step, constant_values=min(-1e-3, float(template.matter.min())))
    smooth = gaussian_filter(padded, 0.5 * step)
    if not smooth.max() > 0 or not smooth.min() < 0:
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    vertices, faces, _, _ = marching_cubes(smooth, 0.0, step_size=step, allow_degenerate=False)
    centred = vertices[:, ::-1].astype(np.float64) - (template.box // 2 + step)
    return centred, faces.astype(np.int64)


def orientation_vectors(placement: Placement, length: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The z axes and the x axes of the particles in the tomogram, as napari takes vectors.

    Parameters
    ----------
    placement : of the particles
    length : of the vectors, in voxels

    Returns
    -------
    z axes and x axes, each (n, 2, 3): position and direction, (z, y, x)
    """
    positions = placement.positions[:, ::-1]

    def along(axis: int) -> NDArray[np.float64]:
        return np.stack([positions, length * placement.matrices[:, axis, ::-1]], axis=1)

    return along(2), along(0)
