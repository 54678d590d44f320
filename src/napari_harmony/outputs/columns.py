"""Between the columns of ``Result.table`` and the labels of a STAR file.

Poses go under RELION's own labels, everything else under ``hrm...``: RELION keeps labels that it does not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_harmony.results import Result, columns_of, content_columns, defocus_to_add

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.particles.dataset import Particles
    from napari_harmony.particles.star import StarTable

#: RELION's labels of origins in angstrom, and what RELION 3.0 calls them in pixels.
ORIGINS_3_0 = {f"rlnOrigin{axis}Angst": f"rlnOrigin{axis}" for axis in "XYZ"}
RELION_LABELS = {
    "class_number": "rlnClassNumber",
    "rot": "rlnAngleRot",
    "tilt": "rlnAngleTilt",
    "psi": "rlnAnglePsi",
    "origin_x": "rlnOriginXAngst",
    "origin_y": "rlnOriginYAngst",
    "origin_z": "rlnOriginZAngst",
    "class_probability": "rlnMaxValueProbDistribution",
}
HARMONY_LABELS = {
    "psi_spread": "hrmPsiSpread",
    "angle_spread": "hrmAngleSpread",
    "shift_spread": "hrmShiftSpread",
    "flip_odds": "hrmFlipOdds",
    "scale": "hrmScale",
    "contrast": "hrmContrast",
    "offset": "hrmOffset",
    "score": "hrmScore",
    "flags": "hrmFlags",
}
#: Of what only some runs find.
OPTIONAL_LABELS = {"defocus_offset": "hrmDefocusOffset", "defocus_spread": "hrmDefocusSpread"}
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
    for name, label in _labels(RELION_LABELS, result.dimensions):
        values = table[name].to_numpy()
        if name != "class_number":
            values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        columns[label] = values * pixel_size if label in ORIGINS_3_0 else values
    for name, label in _labels(HARMONY_LABELS, result.dimensions):
        columns[label] = table[name].to_numpy()
    columns |= {label: table[name].to_numpy() for name, label in OPTIONAL_LABELS.items() if name in table}
    columns["hrmFlags"] = table["flags"].fillna("").replace("", NO_FLAG).to_numpy(dtype=object)
    for name in content_columns(table.columns):
        columns[CONTENT_LABEL + name.removeprefix("content_")] = table[name].to_numpy()
    return columns


def defocus_columns(result: Result, particles: Particles) -> dict[str, np.ndarray]:
    """The defocus found for each particle in place of the input's, as RELION's CTF refinement writes it.

    Parameters
    ----------
    result, particles : of the same n particles

    Returns
    -------
    label -> values of shape (n,): ``rlnDefocusU`` and ``V`` with the offset found, angstrom, and those of the input
    under ``hrmDefocusUInput`` and ``VInput``. Empty where the run was not asked for defocus, and where the particles
    are from a file into which these very offsets were written already.
    """
    ctf, offset = particles.ctf, defocus_to_add(result.table, particles.table)
    if ctf is None or offset is None:
        return {}
    return {
        "rlnDefocusU": ctf.defocus_u + offset,
        "rlnDefocusV": ctf.defocus_v + offset,
        "hrmDefocusUInput": ctf.defocus_u,
        "hrmDefocusVInput": ctf.defocus_v,
    }


def _labels(labels: dict[str, str], dimensions: int) -> list[tuple[str, str]]:
    """The columns among ``labels`` that results of these dimensions have, with their labels, in the labels' order."""
    return [(name, label) for name, label in labels.items() if name in columns_of(dimensions)]


def table_from_star(
    star: StarTable,
    pixel_size: float | NDArray[np.float64],
    content_size: int,
    dimensions: int = 2,
    optional: Sequence[str] = (),
) -> pd.DataFrame:
    """The result table in the rows of a STAR file that a run wrote; the inverse of ``star_columns``.

    Parameters
    ----------
    star : the table of particles
    pixel_size : angstrom per pixel as the file itself says, one number or one per row
    content_size : length of the content codes; the file may have more columns from the run before
    dimensions : 2 for a run on images, 3 on subtomograms
    optional : those of ``results.OPTIONAL_COLUMNS`` that the run filled

    Raises
    ------
    InputError : if a column is missing or a value is not a number
    """
    table: dict[str, Any] = {}
    for name in columns_of(dimensions):
        label = {**RELION_LABELS, **HARMONY_LABELS}[name]
        if label == "hrmFlags":
            table[name] = ["" if flags == NO_FLAG else flags for flags in star.texts(label)]
        elif name == "class_number":
            table[name] = star.integers(label)
        elif label in ORIGINS_3_0 and label not in star:
            table[name] = star.numbers(ORIGINS_3_0[label])
        else:
            table[name] = star.numbers(label) / (pixel_size if label in ORIGINS_3_0 else 1.0)
    for name in optional:
        table[name] = star.numbers(OPTIONAL_LABELS[name])
    for number in range(content_size):
        table[f"content_{number}"] = star.numbers(f"{CONTENT_LABEL}{number}")
    return pd.DataFrame(table)
