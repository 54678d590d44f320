"""Between the columns of ``Result.table`` and the labels of a STAR file.

Poses go under RELION's own labels, everything else under ``hrm...``: RELION keeps labels that it does not know.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from napari_harmony.errors import InputError
from napari_harmony.results import COLUMNS, Result, content_columns

#: RELION's labels; origins are in angstrom under these, and in pixels under the ones of RELION 3.0.
ORIGIN_X, ORIGIN_Y = "rlnOriginXAngst", "rlnOriginYAngst"
ORIGINS_3_0 = {"origin_x": "rlnOriginX", "origin_y": "rlnOriginY"}
RELION_LABELS = {
    "class_number": "rlnClassNumber",
    "psi": "rlnAnglePsi",
    "origin_x": ORIGIN_X,
    "origin_y": ORIGIN_Y,
    "class_probability": "rlnMaxValueProbDistribution",
}
HARMONY_LABELS = {
    "psi_spread": "hrmPsiSpread",
    "shift_spread": "hrmShiftSpread",
    "flip_odds": "hrmFlipOdds",
    "scale": "hrmScale",
    "contrast": "hrmContrast",
    "offset": "hrmOffset",
    "score": "hrmScore",
    "flags": "hrmFlags",
}
CONTENT_LABEL = "hrmContent"
NO_FLAG = "none"  # a STAR value cannot be empty


def star_columns(result: Result, pixel_size: float) -> dict[str, np.ndarray]:
    """What a result adds to, or replaces in, the rows of a STAR file.

    Parameters
    ----------
    result : of n particles
    pixel_size : angstrom per pixel of the input stack, for the origins

    Returns
    -------
    label -> values of shape (n,). RELION's labels hold finite numbers only (RELION reads ``nan`` as nonsense): an
    unusable image has class 0, angle 0 and origin 0. A particle of class 0 keeps its row; RELION's Select job never
    chooses it.
    """
    table = result.table
    columns: dict[str, np.ndarray] = {}
    for name, label in RELION_LABELS.items():
        values = table[name].to_numpy()
        if name != "class_number":
            values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        columns[label] = values * pixel_size if label in (ORIGIN_X, ORIGIN_Y) else values
    for name, label in HARMONY_LABELS.items():
        columns[label] = table[name].to_numpy()
    columns["hrmFlags"] = table["flags"].fillna("").replace("", NO_FLAG).to_numpy(dtype=object)
    for name in content_columns(table.columns):
        columns[CONTENT_LABEL + name.removeprefix("content_")] = table[name].to_numpy()
    return columns


def table_from_star(star: pd.DataFrame, pixel_size: float, path: Path) -> pd.DataFrame:
    """The result table in the rows of a STAR file that a run wrote; the inverse of ``star_columns``.

    Parameters
    ----------
    star : the particle rows, labels without underscore
    pixel_size : angstrom per pixel of the input stack
    path : of the file, for messages

    Raises
    ------
    InputError : if a column is missing or not a number
    """
    table: dict[str, np.ndarray] = {}
    for name in COLUMNS:
        label = {**RELION_LABELS, **HARMONY_LABELS}[name]
        in_pixels = name in ORIGINS_3_0 and label not in star and ORIGINS_3_0[name] in star
        if in_pixels:
            label = ORIGINS_3_0[name]
        if label not in star:
            raise InputError(f"{path}: the column {label} is missing, so this is not a table of a finished run.")
        if name == "flags":
            table[name] = star[label].astype(str).replace(NO_FLAG, "").to_numpy(dtype=object)
            continue
        values = _numbers(star[label], label, path)
        table[name] = values / pixel_size if label in (ORIGIN_X, ORIGIN_Y) else values
    table["class_number"] = table["class_number"].astype(np.int64)
    codes = (c for c in star.columns if c.startswith(CONTENT_LABEL) and c.removeprefix(CONTENT_LABEL).isdigit())
    for label in sorted(codes, key=lambda c: int(c.removeprefix(CONTENT_LABEL))):
        table[f"content_{label.removeprefix(CONTENT_LABEL)}"] = _numbers(star[label], label, path)
    return pd.DataFrame(table)


def _numbers(column: pd.Series, label: str, path: Path) -> np.ndarray:
    """A column as float64; text that is no number is refused with its row."""
    values = pd.to_numeric(column, errors="coerce")
    bad = values.isna() & ~column.astype(str).str.lower().isin(["nan", "<na>", "none", ""])
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(f"{path}: row {row + 1} of {label} is '{column.iloc[row]}', which is not a number.")
    return values.to_numpy(dtype=np.float64)
