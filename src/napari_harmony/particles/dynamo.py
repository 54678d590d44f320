"""Tables of Dynamo (.tbl): positions, orientations and classes, read and written.

A table has no header: 35 to 42 numbers a row. Positions count from 1; a particle lies at ``(x, y, z) + (dx, dy, dz)``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from napari_harmony.errors import InputError
from napari_harmony.particles.coordinates import Coordinates
from napari_harmony.particles.euler import (
    dynamo_to_matrix,
    matrix_to_dynamo,
    matrix_to_quaternion,
    quaternion_to_matrix,
)
from napari_harmony.particles.files import check_file, replacing

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: Names of the columns, in order
COLUMNS = (
    *("tag", "aligned", "averaged", "dx", "dy", "dz", "tdrot", "tilt", "narot", "cc", "cc2", "cpu", "ftype"),
    *("ymintilt", "ymaxtilt", "xmintilt", "xmaxtilt", "fs1", "fs2", "tomo", "reg", "class", "annotation"),
    *("x", "y", "z", "dshift", "daxis", "dnarot", "dcc", "otag", "npar", "use34", "ref", "sref", "apix", "def"),
    *("eig1", "eig2", "eig3", "eig4", "eig5"),
)
_ANGLES = ("tdrot", "tilt", "narot")
_FEWEST = 26  # up to z
_WRITTEN = 36  # up to apix
_SINGLE_AXIS_Y = 1  # ftype: the wedge of a tilt series about y


def read_dynamo(path: str | os.PathLike[str]) -> Coordinates:
    """The particles of a table; its columns go into the table under the names of ``COLUMNS``.

    Raises
    ------
    InputError : missing file, rows of different lengths or too short, values that are not numbers
    """
    path = Path(path)
    check_file(path)
    values = _values(path)
    names = [*COLUMNS, *(f"column{i + 1}" for i in range(len(COLUMNS), values.shape[1]))][: values.shape[1]]
    table = pd.DataFrame(values, columns=names)
    positions = table[["x", "y", "z"]].to_numpy() + table[["dx", "dy", "dz"]].to_numpy() - 1
    if not np.isfinite(table[list(_ANGLES)].to_numpy()).all():
        row = int(np.flatnonzero(~np.isfinite(table[list(_ANGLES)].to_numpy()).all(1))[0])
        raise InputError(
            f"{path}: the angles of particle {row + 1} (tdrot, tilt, narot) are not numbers; correct them."
        )
    rotation = matrix_to_quaternion(dynamo_to_matrix(table[list(_ANGLES)].to_numpy()))
    tomograms = np.array([f"{number:g}" for number in table["tomo"]], dtype=object)
    sizes = table["apix"].to_numpy() if "apix" in table else np.zeros(1)
    known = float(sizes[0]) if sizes.size and sizes[0] > 0 and np.all(sizes == sizes[0]) else None
    return Coordinates(positions, rotation, tomograms, table, path, known)


def _values(path: Path) -> NDArray[np.float64]:
    rows = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith(("#", "%")):
            continue
        try:
            rows.append([_number(word) for word in words])
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}, so this is no table of Dynamo; correct it.") from error
        if len(words) < _FEWEST or len(words) != len(rows[0]):
            raise InputError(
                f"{path}, line {number} has {len(words)} values and the first row {len(rows[0])}; a table of Dynamo "
                "has the same number in every row, 35 or more."
            )
    if not rows:
        raise InputError(f"{path} has no rows; there are no particles to read.")
    return np.array(rows, dtype=np.float64)


def _number(word: str) -> float:
    """A value; Matlab writes complex numbers where rounding left an imaginary part, which is dropped."""
    try:
        return float(word)
    except ValueError:
        pass
    try:
        return complex(word.replace("i", "j")).real
    except ValueError:
        raise ValueError(f"'{word[:40]}' is no number") from None


def write_dynamo(
    path: str | os.PathLike[str],
    coordinates: Coordinates,
    *,
    classes: ArrayLike | None = None,
    scores: ArrayLike | None = None,
    tilt_range: tuple[float, float] | None = None,
    centres: ArrayLike | None = None,
    tags: ArrayLike | None = None,
) -> Path:
    """Write a table that Dynamo reads; the file appears as a whole or not at all.

    Parameters
    ----------
    path : to write
    coordinates : n particles; those read from a table keep its other columns
    classes : (n,) numbers from 1; 0 for none
    scores : (n,) put into ``cc``
    tilt_range : degrees, about y
    centres : (n, 3) whole voxels (x, y, z) from 0 that the boxes were cut about; by default the nearest ones. What
        the positions differ from them by goes into dx, dy, dz
    tags : (n,) numbers of the particles; by default those of the table they came from, or else counted from 1

    Raises
    ------
    InputError : numbers that do not fit, or a place that cannot be written
    """
    path, count = Path(path), len(coordinates)
    values = np.zeros((count, max(_WRITTEN, len(_kept(coordinates)))))
    table = pd.DataFrame(values, columns=[*COLUMNS, *_kept(coordinates)[len(COLUMNS) :]][: values.shape[1]])
    for name in _kept(coordinates):
        table[name] = coordinates.table[name].to_numpy(dtype=np.float64)
    if not _kept(coordinates):
        table["tag"], table["use34"] = np.arange(1, count + 1), 1.0
        table["tomo"] = _tomogram_numbers(coordinates.tomograms, count)
    table[["aligned", "averaged"]] = 1.0
    whole = np.floor(coordinates.positions + 0.5) if centres is None else np.asarray(centres, np.float64)
    table[["x", "y", "z"]] = whole + 1
    table[["dx", "dy", "dz"]] = coordinates.positions - whole
    if coordinates.rotation is not None:
        table[["tdrot", "tilt", "narot"]] = matrix_to_dynamo(quaternion_to_matrix(coordinates.rotation))
    for name, given in (("class", classes), ("cc", scores), ("tag", tags)):
        if given is not None:
            column = np.asarray(given, dtype=np.float64)
            if column.shape != (count,):
                raise InputError(f"{path}: {name} has {column.size} values for {count} particles.")
            table[name] = column
    if tilt_range is not None:
        table["ftype"], table["ymintilt"], table["ymaxtilt"] = float(_SINGLE_AXIS_Y), *tilt_range
    if coordinates.pixel_size:
        table["apix"] = coordinates.pixel_size
    with replacing(path) as file:
        for row in table.to_numpy():
            file.write((" ".join(f"{value:.8g}" for value in row) + "\n").encode())
    return path


def _kept(coordinates: Coordinates) -> list[str]:
    """The columns of a table that the particles came from, none for particles of another source."""
    columns = [str(name) for name in coordinates.table.columns]
    return columns if columns[:_FEWEST] == list(COLUMNS[:_FEWEST]) else []


def _tomogram_numbers(names: NDArray[np.object_] | None, count: int) -> Sequence[int] | NDArray[np.int64]:
    """Dynamo numbers tomograms: a name that is a number keeps it, others are counted from 1."""
    if names is None:
        return np.ones(count, np.int64)
    texts = [str(name) for name in names.tolist()]
    if all(text.isdigit() for text in texts):
        return [int(text) for text in texts]
    known = {name: number for number, name in enumerate(dict.fromkeys(texts), start=1)}
    return [known[name] for name in texts]
