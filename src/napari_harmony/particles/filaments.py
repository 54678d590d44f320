"""Filaments: from points traced along a line to evenly spaced particles that know which way the line runs.

A particle's reference has its z axis along the line, in the direction in which the points were traced. About that axis
the particles of one filament share one frame, carried along without twist (parallel transport): what runs straight
along the filament stays in place from particle to particle, what winds about it turns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

from napari_harmony.errors import InputError
from napari_harmony.particles.coordinates import Coordinates
from napari_harmony.particles.euler import matrix_to_quaternion, matrix_to_relion, relion_to_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

#: RELION's columns of particles on filaments: number of the filament, angstrom from its beginning
TUBE, TRACK = "rlnHelicalTubeID", "rlnHelicalTrackLengthAngst"
#: Half sets, 1 or 2
SUBSET = "rlnRandomSubset"
#: What RELION's helical refinement takes for known about a filament's direction, in degrees
PRIORS = ("rlnAngleTiltPrior", "rlnAnglePsiPrior")
#: Columns of coordinates that say which filament a point is on, the first of them that is there
_FILAMENT = (TUBE.lower(), "filament", "filament_id")

_SAME_PLACE = 1e-6  # two points closer than this, in the units of the points, are one
_LEAST_STEP = 0.1  # voxels between particles
_FINE = 8  # steps of the frame between two particles
_TABLE = 64  # entries per stretch in the table of arc lengths


@dataclass(frozen=True, eq=False)
class LineSamples:
    """Evenly spaced places on a line.

    Attributes
    ----------
    positions : (k, 3) float64, in the order and units of the points
    track : (k,) how far each is from the beginning along the line, in the units of the points
    matrices : (k, 3, 3) rotations R that turn a particle into its reference, whose z axis is the direction of the line
    """

    positions: NDArray[np.float64]
    track: NDArray[np.float64]
    matrices: NDArray[np.float64]

    @property
    def tangents(self) -> NDArray[np.float64]:
        """Unit directions (k, 3) of the line."""
        return self.matrices[:, 2]


def sample_line(points: ArrayLike, step: float) -> LineSamples:
    """Places every ``step`` on the smooth line through points, from the first point on.

    Through two points runs a straight line, through more a natural cubic spline. Points that repeat the one before
    count once.

    Parameters
    ----------
    points : (m, 3) as (x, y, z), in their order along the line
    step : distance along the line, in the units of the points

    Raises
    ------
    InputError : fewer than two different points, or a step that is not positive
    """
    if not 0 < step < float("inf"):
        raise InputError(f"the distance between particles is {step:g}; give a positive number.")
    given = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    apart = np.linalg.norm(np.diff(given, axis=0), axis=1) > _SAME_PLACE
    given = given[np.concatenate([[True], apart])] if len(given) else given
    if len(given) < 2:
        raise InputError("a line needs at least two points at different places.")
    spline, parameter, length = _curve(given)
    count = int(length[-1] / step + 1e-9) + 1
    track = np.arange((count - 1) * _FINE + 1, dtype=np.float64) * (step / _FINE)
    fine = np.interp(track, length, parameter)
    slope = spline(fine, 1)
    frames = _carried(slope / np.linalg.norm(slope, axis=1, keepdims=True))
    return LineSamples(spline(fine[::_FINE]), track[::_FINE], frames[::_FINE])


def _curve(points: NDArray[np.float64]) -> tuple[CubicSpline, NDArray[np.float64], NDArray[np.float64]]:
    """The line through points (m, 3), m > 1, and a table of its parameters and the arc lengths up to there."""
    chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    spline = CubicSpline(chord, points, bc_type="natural")  # straight for two points
    stretches = np.linspace(0, len(points) - 1, (len(points) - 1) * _TABLE + 1)
    parameter = np.interp(stretches, np.arange(len(points)), chord)
    pieces = np.linalg.norm(np.diff(spline(parameter), axis=0), axis=1)
    return spline, parameter, np.concatenate([[0.0], np.cumsum(pieces)])


def _carried(tangents: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations R (k, 3, 3) that turn each direction (k, 3) into z, from one to the next by the shortest turn.

    The first is the one with rot = 0.
    """
    x, y, z = tangents[0]
    first = relion_to_matrix([0.0, np.rad2deg(np.arctan2(np.hypot(x, y), z)), np.rad2deg(np.arctan2(y, -x))])
    axis = np.cross(tangents[:-1], tangents[1:])
    sine = np.linalg.norm(axis, axis=1, keepdims=True)
    angle = np.arctan2(sine, np.sum(tangents[:-1] * tangents[1:], axis=1, keepdims=True))
    turns = Rotation.from_rotvec(axis * angle / np.maximum(sine, 1e-300)).as_matrix() if len(axis) else []
    out = [first]
    for turn in turns:
        out.append(out[-1] @ turn.T)
    return np.stack(out)


# -- lines of a file or of a layer ----------------------------------------------------------------------------------


def along_lines(coordinates: Coordinates, every: float, voxel_size: float | None) -> Coordinates:
    """Particles along filaments, of coordinates that are points traced along them.

    Parameters
    ----------
    coordinates : in voxels of the tomogram; the points of a filament in their order along it. A column
        ``rlnHelicalTubeID`` or ``filament`` tells filaments apart, without one all points are on one
    every : angstrom between particles along the line
    voxel_size : angstrom, of the tomogram; None where unknown

    Returns
    -------
    Coordinates with orientations. Their table has RELION's ``rlnHelicalTubeID`` (from 1),
    ``rlnHelicalTrackLengthAngst`` and priors of tilt and psi, and in ``rlnRandomSubset`` half sets. Boxes of neighbours
    overlap, so that halves drawn at random would share their noise: here the first half of all particles is one set
    and the second the other, and only where they meet do boxes of both overlap.

    Raises
    ------
    InputError : an unknown voxel size, a distance that is too small, or a filament of a single point
    """
    if voxel_size is None:
        raise InputError(
            "particles along a line are a distance in angstrom apart, and nothing says how large a voxel is; give the "
            "voxel size with --pixel-size."
        )
    step = every / voxel_size
    if not _LEAST_STEP <= step < float("inf"):
        raise InputError(
            f"the distance between particles along a line is {every:g} A; give at least {_LEAST_STEP * voxel_size:.2g}."
        )
    lines: list[LineSamples] = []
    sources: list[int] = []
    for name, rows in _filaments(coordinates):
        try:
            lines.append(sample_line(coordinates.positions[rows], step))
        except InputError as error:
            raise InputError(f"{coordinates.name}, filament {name}: {error}") from error
        sources.append(int(rows[0]))
    counts = [len(line.track) for line in lines]
    matrices = np.concatenate([line.matrices for line in lines])
    tube = np.repeat(np.arange(1, len(lines) + 1), counts)
    track = voxel_size * np.concatenate([line.track for line in lines])
    tilt, psi = matrix_to_relion(matrices)[:, 1:].T
    named = coordinates.tomograms
    return replace(
        coordinates,
        positions=np.concatenate([line.positions for line in lines]),
        rotation=matrix_to_quaternion(matrices),
        tomograms=None if named is None else np.repeat(named[sources], counts),
        table=pd.DataFrame(
            {TUBE: tube, TRACK: track, **dict(zip(PRIORS, (tilt, psi), strict=True)), SUBSET: _halves(len(tube))}
        ),
        extent=None if coordinates.extent is None else np.repeat(coordinates.extent[sources], counts, axis=0),
    )


def _halves(count: int) -> NDArray[np.int64]:
    return 1 + (np.arange(count) >= (count + 1) // 2).astype(np.int64)


def _filaments(coordinates: Coordinates) -> Iterator[tuple[Any, NDArray[np.int64]]]:
    """Name and rows of every filament, in the order in which they begin."""
    labels = {str(label).strip().lower(): label for label in coordinates.table.columns}
    # napari writes shapes as a table of their corners, in which "index" is the number of the shape.
    known = (*_FILAMENT, "index") if "shape-type" in labels else _FILAMENT
    column = next((labels[name] for name in known if name in labels), None)
    if column is None:
        yield 1, np.arange(len(coordinates))
        return
    names = coordinates.table[column].to_numpy()
    for name in pd.unique(names):
        yield name, np.flatnonzero(names == name)
