"""A result on subtomograms as a table of Dynamo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from napari_harmony.outputs.columns import star_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.particles.coordinates import Coordinates
    from napari_harmony.particles.dataset import Particles
    from napari_harmony.results import Result

_PIXELS = [f"rlnCoordinate{axis}" for axis in "XYZ"]
_CENTRED = "rlnCenteredCoordinateXAngst"
_TOMOGRAMS_STAR = "tomograms.star"


def write_dynamo_table(path: Path, particles: Particles, result: Result, rows: NDArray[np.int64]) -> None:
    """Write some particles as a table of Dynamo.

    Where the input rows say at which voxels of a tomogram the boxes were cut, these are ``x``, ``y``, ``z``, counted
    from 1, and what the alignment added is in ``dx``, ``dy``, ``dz``, in voxels of the same tomogram. Without them the
    table serves volumes that are already cut: ``x``, ``y``, ``z`` are all 1. Tags are the row numbers from 1; ``class``
    is 0 without class, ``cc`` the score.

    Parameters
    ----------
    path : to write
    particles, result : of the same n particles
    rows : (m,) which of them, in this order

    Raises
    ------
    InputError : coordinates that cannot be understood, or a place that cannot be written
    """
    from napari_harmony.particles.dynamo import write_dynamo
    from napari_harmony.particles.wedge import TiltRange

    placed, centres = _placed(particles, result)
    wedge = particles.wedge
    write_dynamo(
        path,
        placed.subset(rows),
        classes=result.table["class_number"].to_numpy()[rows],
        scores=np.nan_to_num(result.table["score"].to_numpy(dtype=np.float64))[rows],
        tilt_range=(wedge.low, wedge.high) if isinstance(wedge, TiltRange) else None,
        centres=None if centres is None else centres[rows],
        tags=rows + 1,
    )


def _placed(particles: Particles, result: Result) -> tuple[Coordinates, NDArray[np.float64] | None]:
    """All particles at their refined positions, and the whole voxels their boxes were cut about, None for unknown."""
    from napari_harmony.particles.coordinates import Coordinates
    from napari_harmony.particles.euler import matrix_to_quaternion, relion_to_matrix
    from napari_harmony.particles.relion import write_relion
    from napari_harmony.particles.relion_coordinates import read_relion_coordinates

    columns = star_columns(result, particles.pixel_size)
    known = set(map(str, particles.table.columns))
    if not (set(_PIXELS) <= known or _CENTRED in known):
        angles = np.stack([columns[f"rlnAngle{name}"] for name in ("Rot", "Tilt", "Psi")], axis=-1)
        shift = np.stack([columns[f"rlnOrigin{axis}Angst"] for axis in "XYZ"], axis=-1) / particles.pixel_size
        rotation = matrix_to_quaternion(relion_to_matrix(angles))
        return Coordinates(-shift, rotation, pixel_size=particles.pixel_size), np.zeros_like(shift)
    # The meaning of coordinates, origins and angles in every dialect is known to the reader, so it reads them.
    with TemporaryDirectory() as folder:
        star = write_relion(Path(folder) / "particles.star", particles, columns)
        placed = read_relion_coordinates(star, tomograms=_tomograms_near(particles.path))
    centres = np.floor(particles.table[_PIXELS].to_numpy(np.float64) + 0.5) if set(_PIXELS) <= known else None
    # columns of a STAR file are not those of a table
    return replace(placed, table=placed.table.iloc[:, :0], path=particles.path), centres


def _tomograms_near(path: Path | None) -> Path | None:
    """RELION 5's file of tomograms beside the input or one folder above, where there is one."""
    folders = [] if path is None else [path.absolute().parent, path.absolute().parent.parent]
    return next((folder / _TOMOGRAMS_STAR for folder in folders if (folder / _TOMOGRAMS_STAR).is_file()), None)
