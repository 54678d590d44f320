"""How much one thing tells of another: mutual information, and the share that a regression can explain.

Information is estimated from nearest neighbours (Kraskov, Stögbauer & Grassberger 2004; Ross 2014 where one side is a
label), between blocks of any number of dimensions, each angle or rotation by its features. It has no upper bound for
numbers, is about 0 for independent ones, and falls short of the truth in many dimensions. The explained share is what
trees, fitted on other particles, predict: it has a scale, 0 for nothing and 1 for everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_harmony.analysis.disentanglement.variables import Variable

#: Neighbours of the estimators, and the most particles whose distances are computed.
NEIGHBOURS, MOST_PARTICLES = 3, 1500
TREES, LEAF = 40, 2
#: From this many particles on two folds are enough.
MANY, FEW_FOLDS, MANY_FOLDS = 500, 2, 4


def cell_information(one: NDArray, two: NDArray) -> float:
    """Mutual information in nats of cells (n,) and (n,), by counting."""
    from sklearn.metrics import mutual_info_score

    return float(mutual_info_score(one, two))


def cell_entropy(cells: NDArray) -> float:
    """Entropy in nats of cells (n,), by counting."""
    counts = np.unique(cells, return_counts=True)[1] / max(len(cells), 1)
    return float(-(counts * np.log(counts)).sum())


def distances(variable: Variable) -> NDArray[np.float32]:
    """Distances (n, n) by the largest difference of any feature, each in units of its standard deviation."""
    features = variable.features()
    features = (features / np.maximum(features.std(axis=0), 1e-300)).astype(np.float32)
    largest = np.zeros((len(features), len(features)), dtype=np.float32)
    for column in features.T:
        np.maximum(largest, np.abs(column[:, None] - column), out=largest)
    return largest


def information(one: Variable, two: Variable, neighbours: int = NEIGHBOURS) -> float:
    """Mutual information in nats of two variables of the same particles, at least 0.

    Of more than ``MOST_PARTICLES`` every so many are used. Constants tell nothing: 0.
    """
    if one.constant or two.constant or len(one) <= neighbours + 1:
        return 0.0
    step = -(-len(one) // MOST_PARTICLES)
    a, b = one.rows(np.arange(0, len(one), step)), two.rows(np.arange(0, len(two), step))
    level_a, level_b = a.levels(), b.levels()
    if level_a is not None and level_b is not None:
        # Counts are too high by this much on average (Miller 1955).
        cells = len(np.unique(level_a)) - 1, len(np.unique(level_b)) - 1
        value = cell_information(level_a, level_b) - cells[0] * cells[1] / (2 * len(a))
    elif level_a is not None:
        value = _label_information(level_a, distances(b), neighbours)
    elif level_b is not None:
        value = _label_information(level_b, distances(a), neighbours)
    else:
        value = _neighbour_information(distances(a), distances(b), neighbours)
    return max(value, 0.0)


def _neighbour_information(one: NDArray[np.float32], two: NDArray[np.float32], neighbours: int) -> float:
    """First estimator of Kraskov, Stögbauer & Grassberger from two matrices of distances (n, n)."""
    from scipy.special import digamma

    reach = np.partition(np.maximum(one, two), neighbours, axis=1)[:, neighbours, None]  # a row holds the point itself
    counts = [np.maximum((side < reach).sum(axis=1), 1) for side in (one, two)]
    return float(digamma(neighbours) + digamma(len(one)) - sum(digamma(count).mean() for count in counts))


def _label_information(level: NDArray[np.int64], between: NDArray[np.float32], neighbours: int) -> float:
    """Ross' estimator from labels (n,) and distances (n, n); particles that are alone of their label do not count."""
    from scipy.special import digamma

    counts = np.bincount(level)
    keep = np.flatnonzero(counts[level] > 1)
    if len(keep) == 0:
        return 0.0
    level, between = level[keep], between[np.ix_(keep, keep)]
    near, reach = np.empty(len(keep), dtype=np.int64), np.empty((len(keep), 1), dtype=np.float32)
    for value in np.unique(level):
        members = np.flatnonzero(level == value)
        k = min(neighbours, len(members) - 1)
        near[members] = k
        reach[members, 0] = np.partition(between[np.ix_(members, members)], k, axis=1)[:, k]
    inside = np.maximum((between < reach).sum(axis=1), 1)
    mean = digamma(near).mean() - digamma(counts[level]).mean() - digamma(inside).mean()
    return float(digamma(len(keep)) + mean)


def folds(particles: int, seed: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Particles to fit on and to test on; every particle is tested once."""
    order = np.random.default_rng(seed).permutation(particles)
    count = FEW_FOLDS if particles >= MANY else MANY_FOLDS
    for number in range(count):
        test = np.sort(order[number::count])
        yield np.setdiff1d(order, test), test


def target(factor: Variable) -> NDArray:
    """What is predicted of a factor: its labels (n,), or its features (n, k)."""
    return factor.values if factor.kind == "label" else factor.features()


def fit_trees(features: NDArray[np.float64], factor: Variable, seed: int) -> Any:
    """Randomised trees of scikit-learn, fitted to predict the ``target`` of a factor from features (n, f)."""
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

    if factor.kind == "label":
        classes = ExtraTreesClassifier(TREES, min_samples_leaf=LEAF, random_state=seed, max_features=None)
        return classes.fit(features, factor.values)
    values, known = ExtraTreesRegressor(TREES, min_samples_leaf=LEAF, random_state=seed), factor.features()
    return values.fit(features, known if known.shape[1] > 1 else known[:, 0])


def skill(factor: Variable, predicted: NDArray) -> float:
    """How good predictions of the ``target`` are: 1 for exact, 0 for no better than always the same guess.

    For labels the gain in accuracy over always naming the most frequent one, for numbers, angles and rotations the
    share of the variance of the features (R squared). Negative where a constant guess is better; 0 for constants.
    """
    known = target(factor)
    if factor.kind == "label":
        chance = np.unique(known, return_counts=True)[1].max() / len(known)
        return float((np.mean(predicted == known) - chance) / (1 - chance)) if chance < 1 else 0.0
    total = ((known - known.mean(axis=0)) ** 2).sum()
    return float(1 - ((predicted.reshape(known.shape) - known) ** 2).sum() / total) if total > 0 else 0.0


def explained(block: Variable, factor: Variable, seed: int = 0) -> float:
    """The share of ``factor`` that ``block`` explains to trees, on particles they were not fitted on, in [0, 1]."""
    if block.constant or factor.constant:
        return 0.0
    features, predicted = block.features(), np.empty_like(target(factor))
    for fitted, tested in folds(len(block), seed):
        guess = fit_trees(features[fitted], factor.rows(fitted), seed).predict(features[tested])
        predicted[tested] = guess.reshape(predicted[tested].shape)
    return float(np.clip(skill(factor, predicted), 0, 1))
