"""How well each factor has a code of its own: DCI, MIG, SAP and the FactorVAE score.

All take *units*, the single codes (a dimension of the content, a whole angle, one component of the shift), and
*factors*, what is known of the same particles, and give values in [0, 1], 1 being best. Where a published score
supposes one number per code or factor, an angle counts as one by its cosine and sine, a rotation by its matrix.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_harmony.analysis.disentanglement.dependence import (
    cell_entropy,
    cell_information,
    fit_trees,
    folds,
    skill,
    target,
)
from napari_harmony.analysis.disentanglement.variables import cell_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_harmony.analysis.disentanglement.variables import Variable

#: Votes of the FactorVAE score to learn from and to count, and particles behind each.
VOTES, TEST_VOTES, VOTERS = 1400, 700, 64
#: Weight of the errors in the linear classifier of SAP, as published.
SAP_WEIGHT = 0.01


@dataclass(frozen=True)
class Dci:
    """Disentanglement, completeness and informativeness (Eastwood & Williams 2018).

    Attributes
    ----------
    disentanglement : how far each unit serves one factor only, units weighted by their importance; NaN for one factor
    completeness : how far each factor is served by one unit only; NaN for one unit
    informativeness : how well all units together predict the factors, on average
    importance : (units, factors) the share of a unit in the prediction of a factor; columns sum to 1, or are 0
    of_factors : (factors, 2) completeness and informativeness of every factor
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance: NDArray[np.float64]
    of_factors: NDArray[np.float64]


def dci(units: Sequence[Variable], factors: Sequence[Variable], seed: int = 0) -> Dci:
    """DCI by randomised trees: the importance of a unit is by how much its splits reduce the error of the fit.

    Redundant units share their importance, which shuffling one of them would not show. What is predicted are particles
    that the trees were not fitted on.
    """
    starts = np.cumsum([0, *(unit.features().shape[1] for unit in units)])[:-1]
    features = np.concatenate([unit.features() for unit in units], axis=1)
    columns = [_importance(features, factor, seed) for factor in factors]
    importance = np.stack([np.add.reduceat(shares, starts) for shares, _ in columns], axis=1)
    informed = np.array([np.clip(value, 0, 1) for _, value in columns])
    rows, row_weight = _concentration(importance)
    complete, column_weight = _concentration(importance.T)
    return Dci(
        disentanglement=float(rows @ row_weight),
        completeness=float(complete @ column_weight),
        informativeness=float(informed.mean()),
        importance=importance,
        of_factors=np.stack([complete, informed], axis=1),
    )


def _importance(features: NDArray[np.float64], factor: Variable, seed: int) -> tuple[NDArray[np.float64], float]:
    """Importance (f,) of each feature, and the skill of the prediction from all of them."""
    predicted, shares = np.empty_like(target(factor)), []
    for fitted, tested in folds(len(features), seed):
        trees = fit_trees(features[fitted], factor.rows(fitted), seed)
        predicted[tested] = trees.predict(features[tested]).reshape(predicted[tested].shape)
        shares.append(trees.feature_importances_)
    return np.mean(shares, axis=0), skill(factor, predicted)


def _concentration(importance: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One minus the entropy of each row, in units of the largest possible, and the share of each row in the whole.

    NaN for one column; a row of zeros counts as spread out, with a share of 0.
    """
    count, total = importance.shape[1], importance.sum()
    sums = importance.sum(axis=1, keepdims=True)
    share = np.divide(importance, sums, out=np.full(importance.shape, 1 / count), where=sums > 0)
    weight = sums[:, 0] / total if total > 0 else np.full(len(sums), 1 / len(sums))
    if count == 1:
        return np.full(len(sums), np.nan), weight
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1)
    return 1 - entropy / np.log(count), weight


def gaps(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Best less second best of the units in a table (units, factors), (factors,); the best itself for one unit."""
    ordered = np.sort(np.concatenate([np.zeros((1, table.shape[1])), table]), axis=0)
    return ordered[-1] - ordered[-2]


def mig(units: Sequence[Variable], factors: Sequence[Variable]) -> NDArray[np.float64]:
    """Mutual information gap of every factor (factors,) (Chen et al. 2018), by counting in up to 20 cells each.

    The information of the best unit less that of the second best, as a share of the entropy of the factor. With few
    particles there are fewer cells, so that counts are not all chance. Arcs and cells of rotations lie fixed: a turn
    that is common to all estimates should be taken off before, as ``study_of_tables`` does.
    """
    count = cell_count(len(units[0]))
    codes, truths = [unit.cells(count) for unit in units], [factor.cells(count) for factor in factors]
    table = np.array([[cell_information(code, truth) for truth in truths] for code in codes])
    return gaps(table) / np.array([max(cell_entropy(truth), 1e-12) for truth in truths])


def sap(units: Sequence[Variable], factors: Sequence[Variable]) -> NDArray[np.float64]:
    """Separated attribute predictability of every factor (factors,) (Kumar et al. 2018).

    The share of a number that the best unit alone explains linearly (R squared) less that of the second best; for
    labels the same with the accuracy of a linear support vector machine.
    """
    return gaps(np.array([[_linear(unit, factor) for factor in factors] for unit in units]))


def _linear(unit: Variable, factor: Variable) -> float:
    features = unit.features()
    features = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-300)
    if factor.kind == "label":
        return _linear_accuracy(features, factor.values)
    known = factor.features() - factor.features().mean(axis=0)
    fitted = features @ np.linalg.lstsq(features, known, rcond=None)[0]
    return float((fitted**2).sum() / max((known**2).sum(), 1e-300))


def _linear_accuracy(features: NDArray[np.float64], known: NDArray) -> float:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    machine = LinearSVC(C=SAP_WEIGHT, class_weight="balanced", dual=False, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return float(machine.fit(features, known).score(features, known))


def factorvae(units: Sequence[Variable], factors: Sequence[Variable], seed: int = 0) -> float:
    """The FactorVAE score (Kim & Mnih 2018): how often the unit that varies least names the factor that was held.

    Particles in the same cell of one factor are drawn; the unit whose variance falls to the smallest share of that over
    all particles casts a vote for the factor; units stand for the factor that they vote for most often. Chance is about
    one over the number of factors. With fewer than 64 particles in a cell all of them are taken.
    """
    generator = np.random.default_rng(seed)
    count = cell_count(len(units[0]))
    groups = [_groups(factor.cells(count)) for factor in factors]
    sides = [unit.features() for unit in units]
    spans = np.cumsum([0, *(side.shape[1] for side in sides)])[:-1]
    features = np.concatenate(sides, axis=1)
    total = np.maximum(np.add.reduceat(features.var(axis=0), spans), 1e-300)
    votes = np.zeros((2, len(units), len(factors)))
    for number in range(VOTES + TEST_VOTES):
        held = int(generator.integers(len(factors)))
        cell = groups[held][generator.integers(len(groups[held]))]
        members = generator.choice(cell, VOTERS, replace=False) if len(cell) > VOTERS else cell
        share = np.add.reduceat(features[members].var(axis=0), spans) / total
        votes[int(number >= VOTES), share.argmin(), held] += 1
    return float(votes[1, np.arange(len(units)), votes[0].argmax(axis=1)].sum() / TEST_VOTES)


def _groups(cells: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The particles of every cell that has at least two."""
    order = np.argsort(cells, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(cells[order])) + 1)
    return [part for part in parts if len(part) > 1] or [order]
