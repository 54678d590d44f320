"""Where particles are in a tomogram, and how they are oriented, from any of the field's files.

Positions are in voxels of a tomogram from 0, in the order (x, y, z): (0, 0, 0) is the centre of its first voxel.
What the files mean by their numbers:

- RELION counts pixels from 0, and puts the centre of a tomogram of n pixels, where its centred coordinates of version 5
  are 0, at n / 2.
- Dynamo counts from 1.
- CSV files, and points picked in napari, count from 0.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_harmony.errors import InputError
from napari_harmony.particles.euler import (
    matrix_to_quaternion,
    matrix_to_relion,
    quaternion_to_matrix,
    relion_to_matrix,
)
from napari_harmony.particles.files import check_file, warn

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: Suffixes of the files that ``read_coordinates`` reads
COORDINATE_SUFFIXES = (".star", ".tbl", ".csv")

_SAME_SIZE = 0.01  # pixel sizes that differ by more are not of the same tomogram
_NAPARI = {"axis-0": "z", "axis-1": "y", "axis-2": "x"}
_ANGLES = ("rot", "tilt", "psi")


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Particles picked in one or several tomograms.

    Attributes
    ----------
    positions : (n, 3) float64, (x, y, z) in voxels from 0, refined shifts already added
    rotation : (n, 4) unit quaternions (w, x, y, z) of the matrix R that turns a particle into its reference, or None
    tomograms : (n,) names of the tomograms they lie in, or None where the file names none
    table : one row per particle with the columns of the source, or empty
    path : of the source, None for arrays
    pixel_size : angstrom per voxel that the positions are counted in, None where unknown
    unbinned : the voxels counted are those of the tilt series, of which tomograms may be binned
    extent : (n, 3) sizes (x, y, z) of each tomogram in angstrom, None where the source does not say
    """

    positions: NDArray[np.float64]
    rotation: NDArray[np.float64] | None = None
    tomograms: NDArray[Any] | None = None
    table: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    path: Path | None = None
    pixel_size: float | None = None
    unbinned: bool = False
    extent: NDArray[np.float64] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def name(self) -> str:
        """What messages call the source."""
        return str(self.path) if self.path is not None else "the list of points"

    @property
    def angles(self) -> NDArray[np.float64] | None:
        """RELION's (rot, tilt, psi) in degrees, (n, 3), None without orientations."""
        return None if self.rotation is None else matrix_to_relion(quaternion_to_matrix(self.rotation))

    def subset(self, rows: ArrayLike) -> Coordinates:
        """Some particles, by numbers or by a mask (n,), in the order given."""
        chosen = np.asarray(rows)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)

        def of(values: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if values is None else values[chosen]

        return replace(
            self,
            positions=self.positions[chosen],
            rotation=of(self.rotation),
            tomograms=of(self.tomograms),
            table=self.table.iloc[chosen].reset_index(drop=True) if len(self.table) else self.table,
            extent=of(self.extent),
        )

    @property
    def tomogram_counts(self) -> dict[str, int]:
        """How many particles each of the tomograms has, by name; empty where the source names none."""
        return dict(Counter([] if self.tomograms is None else map(str, self.tomograms.tolist())))

    def fitting_tomogram(self, file: Path) -> str | None:
        """The name among those of the source that is that of a file; None where none fits, or more than one does."""
        best = self._fitting(list(self.tomogram_counts), file)
        return best[0] if len(best) == 1 else None

    def in_tomogram(self, file: Path, name: str | None = None) -> Coordinates:
        """Those of one tomogram.

        Parameters
        ----------
        file : the tomogram; where several are named, the one whose name is in that of the file is meant
        name : of the tomogram in the source, in place of a guess

        Raises
        ------
        InputError : there are none of that name, or several tomograms and none, or more than one, fits the file
        """
        if self.tomograms is None:
            if name is not None:
                raise InputError(f"{self.name} names no tomograms, so '{name}' cannot be chosen; leave the name out.")
            return self
        names = list(dict.fromkeys(map(str, self.tomograms.tolist())))
        chosen = self._named(names, name) if name is not None else self._guessed(names, file)
        return self.subset(np.array([str(value) == chosen for value in self.tomograms.tolist()], dtype=bool))

    def _named(self, names: list[str], name: str) -> str:
        found = [known for known in names if name in (known, _core(known))]
        if not found:
            raise InputError(f"{self.name} has no coordinates in a tomogram '{name}'; it names {_listed(names)}.")
        return found[0]

    @staticmethod
    def _fitting(names: list[str], file: Path) -> list[str]:
        """The names that stand in that of a file, the longest alone."""
        fits = [known for known in names if _is_part(_core(known), _core(file.name))]
        longest = max((len(_core(known)) for known in fits), default=0)
        return [known for known in fits if len(_core(known)) == longest]

    def _guessed(self, names: list[str], file: Path) -> str:
        best = self._fitting(names, file)
        if len(best) == 1:
            return best[0]
        if len(names) == 1:
            if not names[0].isdigit():
                warn(
                    f"{self.name} names the tomogram '{names[0]}', which is not in the name of {file}; all were taken."
                )
            return names[0]
        raise InputError(
            f"{self.name} has coordinates in {len(names)} tomograms ({_listed(names)}), and "
            f"{'none' if not best else 'more than one'} of the names is that of {file}; say which with --tomo-name."
        )

    def in_voxels(
        self, voxel_size: float | None, *, shape: Sequence[int] | None = None, where: object = "the tomogram"
    ) -> Coordinates:
        """The same positions counted in the voxels of a tomogram.

        Coordinates of RELION 4 and 5 count pixels of the tilt series, and are converted to a binned tomogram. All
        others must count voxels of the very tomogram.

        Parameters
        ----------
        voxel_size : angstrom, of the tomogram; None where unknown: the two are then taken to be the same
        shape : (z, y, x) of the tomogram, compared with what the source says of it
        where : the tomogram, for messages

        Raises
        ------
        InputError : pixel sizes, or sizes of the tomogram in angstrom, that differ by more than 1 %
        """
        if voxel_size is None or self.pixel_size is None or not len(self):
            return self
        binning = voxel_size / self.pixel_size
        if shape is not None and self.extent is not None:
            self._check_extent(voxel_size, shape, where)
        elif abs(binning - 1) > _SAME_SIZE and not (self.unbinned and _is_whole(binning)):
            raise InputError(
                f"{self.name} counts in pixels of {self.pixel_size:g} A and {where} has voxels of {voxel_size:g} A, "
                "which differ by more than 1 %; give the tomogram that the coordinates were picked in, or its true "
                "voxel size with --pixel-size."
            )
        if self.extent is None and abs(binning - 1) <= _SAME_SIZE:
            return replace(self, pixel_size=voxel_size, unbinned=False)
        return replace(self, positions=self.positions / binning, pixel_size=voxel_size, unbinned=False)

    def _check_extent(self, voxel_size: float, shape: Sequence[int], where: object) -> None:
        assert self.extent is not None
        there = np.array(shape[::-1]) * voxel_size
        if np.any(np.abs(self.extent - there) > np.maximum(_SAME_SIZE * self.extent, 2 * voxel_size)):
            stated = " x ".join(f"{size:.0f}" for size in self.extent[0])
            found = " x ".join(f"{size:.0f}" for size in there)
            raise InputError(
                f"{self.name} is about a tomogram of {stated} A (x, y, z) and {where} measures {found} A at "
                f"{voxel_size:g} A per voxel, which differs by more than 1 %; give the right tomogram, or its "
                "true voxel size with --pixel-size."
            )


def _is_whole(binning: float) -> bool:
    whole = round(binning)
    return whole >= 1 and abs(binning / whole - 1) <= _SAME_SIZE


def _core(name: str) -> str:
    """A name without folders and suffixes: ``Tomograms/ts_01.mrc.tomostar`` is ``ts_01``."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return re.sub(r"(\.(mrc|rec|map|st|tif|tiff|tomostar|gz|bz2|xz))+$", "", last, flags=re.IGNORECASE)


def _is_part(name: str, of: str) -> bool:
    """Whether a name stands in another, and not within a longer word or number."""
    return bool(name) and re.search(rf"(?<![0-9A-Za-z]){re.escape(name)}(?![0-9A-Za-z])", of) is not None


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def read_coordinates(
    path: str | os.PathLike[str], *, tomograms: str | os.PathLike[str] | None = None, pixel_size: float | None = None
) -> Coordinates:
    """Read the positions, and orientations where there are some, of RELION, Dynamo or CSV files.

    Parameters
    ----------
    path : ``.star`` (RELION 3 to 5), ``.tbl`` (Dynamo) or ``.csv`` with the columns x, y, z and perhaps rot, tilt, psi
    tomograms : the ``tomograms.star`` that centred coordinates of RELION 5 need; where None, one is looked for in the
        folder of ``path``, and the one above
    pixel_size : angstrom that the pixels of the coordinates have, overriding the file

    Raises
    ------
    InputError : one sentence on what cannot be read, where, and what to do
    """
    path = Path(path)
    check_file(path)
    kind = path.suffix.lower()
    if kind == ".star":
        from napari_harmony.particles.relion_coordinates import read_relion_coordinates

        found = read_relion_coordinates(path, tomograms=None if tomograms is None else Path(tomograms))
    elif kind == ".tbl":
        from napari_harmony.particles.dynamo import read_dynamo

        found = read_dynamo(path)
    elif kind == ".csv":
        found = _read_csv(path)
    else:
        raise InputError(
            f"{path} is of no known kind; coordinates are read from {', '.join(COORDINATE_SUFFIXES)} files."
        )
    if not len(found):
        raise InputError(f"{path} has no rows; there are no coordinates to read.")
    wrong = np.flatnonzero(~np.isfinite(found.positions).all(1))
    if len(wrong):
        raise InputError(
            f"{path}: particle {wrong[0] + 1} has no position that is a number; correct or delete its row."
        )
    return found if pixel_size is None else replace(found, pixel_size=pixel_size)


def points_to_coordinates(
    points: ArrayLike, *, angles: ArrayLike | None = None, pixel_size: float | None = None
) -> Coordinates:
    """Coordinates of points in the order of arrays and of napari, in voxels from 0.

    Parameters
    ----------
    points : (n, 3) as (z, y, x)
    angles : RELION's (rot, tilt, psi) in degrees, (n, 3)
    pixel_size : angstrom per voxel

    Raises
    ------
    InputError : another shape, or values that are not numbers
    """
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3:
        raise InputError(f"the points have shape {array.shape}; points in a tomogram have three columns, z, y and x.")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(1))[0])
        raise InputError(f"point {row + 1} has no position that is a number; delete it.")
    rotation = None if angles is None else angles_to_quaternions(angles)
    table = pd.DataFrame(index=pd.RangeIndex(len(array)))
    return Coordinates(np.ascontiguousarray(array[:, ::-1]), rotation, table=table, pixel_size=pixel_size)


def angles_to_quaternions(angles: ArrayLike) -> NDArray[np.float64]:
    """Unit quaternions (n, 4), (w, x, y, z), of RELION's (rot, tilt, psi) in degrees, (n, 3)."""
    return matrix_to_quaternion(relion_to_matrix(angles))


def _read_csv(path: Path) -> Coordinates:
    try:
        table = pd.read_csv(path, skipinitialspace=True, comment="#")
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no readable CSV file ({' '.join(str(error).split())}).") from error
    columns = {_column(str(label)): label for label in reversed(table.columns)}
    missing = [name for name in "xyz" if name not in columns]
    if missing:
        raise InputError(
            f"{path} has no column {' and '.join(missing)}; its first line must name the columns x, y and z (in "
            "pixels), and rot, tilt and psi (in degrees) where there are orientations."
        )
    positions = np.stack([_numbers(path, table, columns[name]) for name in "xyz"], -1)
    rotation = None
    if all(name in columns for name in _ANGLES):
        rotation = angles_to_quaternions(np.stack([_numbers(path, table, columns[name]) for name in _ANGLES], -1))
    names = next((columns[label] for label in ("tomogram", "tomo", "tomo_name") if label in columns), None)
    tomograms = None if names is None else table[names].astype(str).to_numpy(dtype=object)
    return Coordinates(positions, rotation, tomograms, table, path)


def _column(label: str) -> str:
    """A column's plain name: ``X``, ``x_px`` and napari's ``axis-2`` are all ``x``."""
    plain = label.strip().lower()
    return _NAPARI.get(plain, plain.removesuffix("_px"))


def _numbers(path: Path, table: pd.DataFrame, label: str) -> NDArray[np.float64]:
    values = pd.to_numeric(table[label], errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        row = int(wrong[0])
        raise InputError(
            f"{path}, row {row + 1}: {label} is '{table[label].iloc[row]}', which is not a number; correct it."
        )
    return values
