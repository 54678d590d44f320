"""From the table of a run, and a truth, to codes and factors.

Poses of a class are only known up to how its average lies (see ``metrics``). That one turn and shift per class is
taken off the estimates before they are compared with true poses; to the content it makes no difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pandas.api.types import is_numeric_dtype

from napari_harmony.analysis.disentanglement.assess import Study
from napari_harmony.analysis.disentanglement.variables import (
    Variable,
    angles,
    content_units,
    in_order,
    labels,
    numbers,
    rotations,
)
from napari_harmony.results import content_columns

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from numpy.typing import NDArray
    from scipy.spatial.transform import Rotation

#: Names of blocks. Components of a shift are ``shift_x`` and so on.
CONTENT, ROTATION, SHIFT = "content", "rotation", "shift"
#: Transformations of one number each, by what tables call them.
PLAIN = {"scale": "scale", "contrast": "contrast", "gain": "contrast", "defocus": "defocus"}
#: Columns of a truth that are poses or the content, or that RELION's tables carry along.
_POSE = {"content", "psi", "rot", "tilt", "origin_x", "origin_y", "origin_z"}
#: Angles of a truth that are no poses have names that end in this.
DEGREES = "_degrees"


def study_of_tables(table: pd.DataFrame, truth: pd.DataFrame, dimensions: int, symmetry: str = "C1") -> Study:
    """Codes of a run and factors from a truth, of the particles with class, pose and content code.

    Parameters
    ----------
    table : of a ``Result`` of images (``dimensions`` 2) or subtomograms (3)
    truth : the same particles in the same order with ``content`` and, where known, the columns of a pose in degrees and
        pixels, ``scale``, ``contrast`` or ``gain``, ``defocus``; every further column of numbers is a factor of the
        content, an angle if its name ends in ``_degrees``
    symmetry : of subtomograms, as ``metrics_3d.symmetry_group``

    Raises
    ------
    ValueError : the tables differ in length, or there is no such symmetry
    """
    if len(table) != len(truth):
        raise ValueError(f"the result has {len(table)} rows and the truth {len(truth)}: they differ")
    said: list[str] = []
    codes, poses = table[content_columns(table.columns)].to_numpy(dtype=np.float64), pose_columns(dimensions)
    usable = (table["class_number"].to_numpy() != 0) & np.isfinite(codes).all(axis=1)
    usable &= np.isfinite(table[poses].to_numpy(dtype=np.float64)).all(axis=1)
    usable &= truth["content"].notna().to_numpy()
    factors = _further_factors(truth, usable, said) + _plain(truth)
    if _has_views(truth, dimensions):
        factors += (_view(truth),)
        said.append("rotation and shift: every particle is seen from its own side, so that true poses have no frame.")
        usable &= factors[-1].known
        estimates = _estimates(table, dimensions, symmetry)
    elif set(poses) <= set(truth):
        usable &= np.isfinite(truth[poses].to_numpy(dtype=np.float64)).all(axis=1)
        factors += _split_shift(_estimates(truth, dimensions, symmetry))
        estimates = _estimates(_without_gauge(table, truth, usable, dimensions, symmetry), dimensions, symmetry)
    else:
        said.append("rotation and shift: the truth does not have them.")
        estimates = _estimates(table, dimensions, symmetry)
    factors = _mostly_known(factors, usable, said)
    for factor in factors:
        usable &= factor.known
    if usable.sum() < len(usable):
        said.append(f"{len(usable) - usable.sum()} particles without class, pose, content code or truth.")
    return _study(codes, (*estimates, *_plain(table)), factors, usable, said)


def study_of_estimates(table: pd.DataFrame, dimensions: int) -> Study:
    """The content codes of a run against its own estimates of the transformations, which needs no truth."""
    codes, poses = table[content_columns(table.columns)].to_numpy(dtype=np.float64), pose_columns(dimensions)
    usable = (table["class_number"].to_numpy() != 0) & np.isfinite(codes).all(axis=1)
    usable &= np.isfinite(table[poses].to_numpy(dtype=np.float64)).all(axis=1)
    factors = (*_estimates(table, dimensions, "C1"), *_plain(table))
    for factor in factors:
        usable &= factor.known
    blocks = (numbers(CONTENT, codes[usable]),) if codes.shape[1] else ()
    return Study((), blocks, in_order(factors, usable))


def pose_columns(dimensions: int) -> list[str]:
    """What tables call a pose."""
    return [*(["rot", "tilt"] if dimensions == 3 else []), "psi", *(f"origin_{axis}" for axis in "xyz"[:dimensions])]


def _study(
    codes: NDArray[np.float64],
    estimates: tuple[Variable, ...],
    factors: tuple[Variable, ...],
    usable: NDArray[np.bool_],
    said: list[str],
) -> Study:
    """Content in front of the estimates, and whose factor is whose, of the usable particles."""
    content = content_units(codes[usable])
    if not content:
        said.append("DCI, MIG, SAP and FactorVAE score: the run has no content code, or one that never varies.")
    elif len(content) < codes.shape[1]:
        said.append(f"{codes.shape[1] - len(content)} of {codes.shape[1]} dimensions of the content: not in use.")
    together = np.stack([unit.values for unit in content], axis=1) if content else np.zeros((int(usable.sum()), 0))
    estimates = in_order(estimates, usable)
    units = (*content, *_split_shift(estimates)) if content else ()
    blocks = ((numbers(CONTENT, together),) if content else ()) + estimates
    transformations = {ROTATION, SHIFT, *PLAIN.values()}
    owners = {}
    for factor in factors:
        name = SHIFT if factor.name.startswith(f"{SHIFT}_") else factor.name
        owners[factor.name] = name if name in transformations else CONTENT
    return Study(units, blocks, in_order(factors, usable), owners, tuple(said))


def _estimates(table: pd.DataFrame, dimensions: int, symmetry: str) -> tuple[Variable, ...]:
    """Rotation and shift as one variable each."""
    origin = numbers(SHIFT, table[[f"origin_{axis}" for axis in "xyz"[:dimensions]]])
    if dimensions == 2:
        return angles(ROTATION, table["psi"]), origin
    return rotations(ROTATION, _matrices(table, symmetry)), origin


def _matrices(table: pd.DataFrame, symmetry: str) -> NDArray[np.float64]:
    """Rotations (n, 3, 3), of the equivalent ones the one that turns least; NaN where an angle is not finite."""
    from napari_harmony.analysis.metrics_3d import symmetry_group

    angle = table[["rot", "tilt", "psi"]].to_numpy(dtype=np.float64)
    matrices = _rotation(angle).as_matrix()
    equivalent = np.einsum("gij,njk->gnik", symmetry_group(symmetry).as_matrix(), matrices)
    least = np.trace(equivalent, axis1=2, axis2=3).argmax(axis=0)
    chosen = equivalent[least, np.arange(len(matrices))]
    chosen[~np.isfinite(angle).all(axis=1)] = np.nan
    return chosen


def _rotation(angle: NDArray[np.float64]) -> Rotation:
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("ZYZ", np.nan_to_num(angle), degrees=True)


def _split_shift(group: Iterable[Variable]) -> tuple[Variable, ...]:
    """Components of the shift as numbers of their own, everything else as it is."""
    found: list[Variable] = []
    for one in group:
        several = one.name == SHIFT
        parts = (numbers(f"{SHIFT}_{axis}", column) for axis, column in zip("xyz", one.values.T, strict=False))
        found.extend(parts if several else (one,))
    return tuple(found)


def _plain(table: pd.DataFrame) -> tuple[Variable, ...]:
    found: dict[str, Variable] = {}
    for column, name in PLAIN.items():
        if column in table and name not in found and is_numeric_dtype(table[column]):
            found[name] = numbers(name, table[column])
    return tuple(found.values())


def _further_factors(truth: pd.DataFrame, usable: NDArray[np.bool_], said: list[str]) -> tuple[Variable, ...]:
    """The true content, and columns of numbers that are neither pose nor transformation."""
    found: list[Variable] = [labels(CONTENT, truth["content"].to_numpy())]
    for column in truth.columns:
        name = str(column)
        values = truth[column]
        if name in _POSE or name in PLAIN or name.startswith("rln"):
            continue
        if not is_numeric_dtype(values):
            said.append(f"{name}: it holds no numbers.")
        elif np.array_equal(np.diff(values), np.ones(len(values) - 1)):
            said.append(f"{name}: it counts the rows.")
        elif len(truth[usable]) and (truth[usable].groupby("content")[column].nunique(dropna=False) <= 1).all():
            said.append(f"{name}: the content says it already.")
        else:
            found.append(angles(name, values) if name.endswith(DEGREES) else numbers(name, values))
    return tuple(found)


def _mostly_known(factors: tuple[Variable, ...], usable: NDArray[np.bool_], said: list[str]) -> tuple[Variable, ...]:
    """Factors that more than half of the usable particles have."""
    kept = tuple(factor for factor in factors if factor.known[usable].sum() * 2 > usable.sum())
    said += [f"{factor.name}: most particles have no value of it." for factor in factors if factor not in kept]
    return kept


def _has_views(truth: pd.DataFrame, dimensions: int) -> bool:
    """Whether images of one content were seen from several sides."""
    if dimensions == 3 or not {"rot", "tilt"} <= set(truth):
        return False
    return bool(truth.groupby("content")[["rot", "tilt"]].nunique().to_numpy().max() > 1)


def _view(truth: pd.DataFrame) -> Variable:
    """Six products of the viewing axis: opposite sides, which are mirror images, count as the same."""
    from napari_harmony.analysis.metrics import viewing_axes

    axis = viewing_axes(truth["rot"], truth["tilt"])
    return numbers("view", np.stack([axis[:, i] * axis[:, j] for i in range(3) for j in range(i, 3)], axis=1))


def _without_gauge(
    table: pd.DataFrame, truth: pd.DataFrame, usable: NDArray[np.bool_], dimensions: int, symmetry: str
) -> pd.DataFrame:
    """The poses of the usable particles with the turn and shift of their class taken off."""
    from napari_harmony.analysis import metrics, metrics_3d

    poses = pose_columns(dimensions)
    posed = table.astype(dict.fromkeys(poses, np.float64))
    numbered = np.where(usable, table["class_number"].to_numpy(), 0)
    contents, origins = truth["content"].to_numpy(), [f"origin_{axis}" for axis in "xyz"[:dimensions]]
    rows, classes = np.flatnonzero(numbered), numbered[numbered != 0]
    if dimensions == 2:
        known = truth["psi"], truth[origins]
        flat = metrics.pose_errors(table["psi"], table[origins], *known, numbered, contents).gauges
        psi = table["psi"].to_numpy(dtype=np.float64)[rows]
        moved = metrics.rotate_points([flat[number].tau for number in classes], -psi) if len(rows) else 0.0
        posed.loc[posed.index[rows], "psi"] = psi - np.array([flat[number].alpha for number in classes])
    else:
        columns, true_poses = metrics_3d.ANGLES, (truth[metrics_3d.ANGLES], truth[origins])
        solid = metrics_3d.pose_errors(table[columns], table[origins], *true_poses, numbered, contents, symmetry).gauges
        pose = _rotation(table[columns].to_numpy(dtype=np.float64)[rows])
        moved = pose.inv().apply([solid[number].tau for number in classes]) if len(rows) else 0.0
        for number, gauge in solid.items():
            here = classes == number
            turned = gauge.rotation.inv() * pose[here]
            posed.loc[posed.index[rows[here]], columns] = turned.as_euler("ZYZ", degrees=True)
    posed.loc[posed.index[rows], origins] = table[origins].to_numpy(dtype=np.float64)[rows] - moved
    return posed
