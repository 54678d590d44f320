"""What the transforms table shows of a result: titles, units, meanings and how numbers are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from napari_harmony.results import Result

PARTICLE = "particle"
FLAGS = "flags"


@dataclass(frozen=True)
class Column:
    """One column of the table.

    ``decimals`` None: text. ``key`` is a column of ``Result.table``, or ``PARTICLE`` for the row number.
    """

    key: str
    title: str
    unit: str
    meaning: str
    decimals: int | None

    @property
    def heading(self) -> str:
        """Title with its unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def text(self, value: Any) -> str:
        """A value as shown and copied; empty for NaN."""
        if self.decimals is None:
            return str(value)
        if not np.isfinite(value):
            return ""
        return f"{value:.{self.decimals}f}"


COLUMNS: tuple[Column, ...] = (
    Column(
        PARTICLE, "index", "", "Row of the particle in the input, from 0 as on the slider (RELION counts from 1).", 0
    ),
    Column("class_number", "class", "", "Class of the particle, counted from 1; 0: none (junk or unusable).", 0),
    Column("class_probability", "P(class)", "", "Posterior probability of that class, 0 to 1.", 2),
    Column("psi", "psi", "\N{DEGREE SIGN}", "In-plane rotation as RELION's rlnAnglePsi; applied after the shift.", 1),
    Column("psi_spread", "psi spread", "\N{DEGREE SIGN}", "Posterior standard deviation of psi.", 1),
    Column("flip_odds", "flip odds", "", "Posterior odds that the rotation is off by more than 90 degrees, 0 to 1.", 2),
    Column("origin_x", "x", "px", "Shift along x that centres the particle, as RELION's rlnOriginX.", 2),
    Column("origin_y", "y", "px", "Shift along y that centres the particle, as RELION's rlnOriginY.", 2),
    Column("shift_spread", "shift spread", "px", "Posterior standard deviation of the shift, per axis.", 2),
    Column("score", "score", "", "Normalised correlation of the particle with its class in its pose, -1 to 1.", 3),
    Column("scale", "scale", "", "Magnification of the particle against its class; 1: none.", 3),
    Column("contrast", "contrast", "", "Gain of the particle against its class; 1: none.", 2),
    Column(
        "offset", "offset", "\N{GREEK SMALL LETTER SIGMA}", "Grey value added to the particle, in units of noise.", 2
    ),
    Column(FLAGS, "flags", "", "What to mind: junk, symmetric, shift-bound, not-finite, constant, duplicate.", None),
)


_ANGSTROM = "\N{ANGSTROM SIGN}"
#: Shown where the run was asked for them.
OPTIONAL_COLUMNS: tuple[Column, ...] = (
    Column(
        "defocus_offset",
        "defocus",
        _ANGSTROM,
        "Offset of the defocus from the input's; positive: more underfocus.",
        0,
    ),
    Column("defocus_spread", "defocus spread", _ANGSTROM, "Posterior standard deviation of the defocus offset.", 0),
)

_DEGREE = "\N{DEGREE SIGN}"
#: What replaces ``psi``, its spread and the shifts of images where the particles are subtomograms.
_POSE_3D = (
    Column("rot", "rot", _DEGREE, "First Euler angle as RELION's rlnAngleRot (ZYZ), about z.", 1),
    Column("tilt", "tilt", _DEGREE, "Second Euler angle as RELION's rlnAngleTilt, about the new y.", 1),
    Column("psi", "psi", _DEGREE, "Third Euler angle as RELION's rlnAnglePsi, about the new z.", 1),
    Column("angle_spread", "angle spread", _DEGREE, "Posterior standard deviation of the rotation per axis.", 1),
)
_ORIGIN_Z = Column("origin_z", "z", "px", "Shift along z that centres the particle, as RELION's rlnOriginZ.", 2)


def _in_3d() -> tuple[Column, ...]:
    columns: list[Column] = []
    for column in COLUMNS:
        if column.key == "psi":
            columns += _POSE_3D
        elif column.key != "psi_spread":
            columns.append(column)
        if column.key == "origin_y":
            columns.append(_ORIGIN_Z)
    return tuple(columns)


COLUMNS_3D = _in_3d()


def columns_for(result: Result | None) -> tuple[Column, ...]:
    """The columns that a result is shown with; those of images where there is none."""
    if result is None:
        return COLUMNS
    found = tuple(column for column in OPTIONAL_COLUMNS if column.key in result.table)
    return (*(COLUMNS_3D if result.dimensions == 3 else COLUMNS), *found)


def values_of(result: Result, column: Column) -> NDArray[Any]:
    """The column of a result, one value per particle in input order, shape (n,).

    A column the result does not have is NaN (or empty text), so that older results still open.
    """
    if column.key == PARTICLE:
        return np.arange(len(result))
    if column.key in result.table:
        values = result.table[column.key]
        return values.fillna("").to_numpy(dtype=object) if column.decimals is None else values.to_numpy()
    return np.full(len(result), "", dtype=object) if column.decimals is None else np.full(len(result), np.nan)


def sort_keys(values: NDArray[Any]) -> NDArray[Any]:
    """Numbers that sort as the values do; text is replaced by its rank. Shape (n,)."""
    if values.dtype != object:
        return values
    codes, _ = pd.factorize(values, sort=True)
    return codes


def flag_words(flags: Iterable[str]) -> list[str]:
    """Every flag that occurs, sorted."""
    return sorted(
        {word for entry in pd.unique(pd.Series(list(flags), dtype=object)) for word in entry.split(",") if word}
    )
