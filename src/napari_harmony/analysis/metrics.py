"""How right a result is, where the truth is known.

Poses of one class are only determined up to a *gauge*: a class average may lie at any angle and off centre, and every
member turns and moves with it. With the true pose ``x_ref = R(psi) (x - c + t) + c`` and a class that shows
``x' = R(alpha) (x_ref - c) + c + tau``, a perfect estimate is ``psi' = psi + alpha`` and ``t' = t + R(-psi') tau``. One
``alpha`` and one ``tau`` per predicted class are removed before errors are taken.

Which particles count is said by name. *Plain* scores are taken over the particles whose true content is the majority
of their predicted class: merged and split classes are scored by the poses they do determine, while the clustering
scores punish the merging. *Strict* scores are over all particles: one in the wrong class has the error that follows
from that class's gauge, and one without class or pose counts as 180 degrees off. The gauge that a majority member is
measured by is fitted to the *other* half of the majority members, so that random poses are not flattered by the fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

#: Half width in degrees of the window around the most frequent angle difference from which a gauge is computed, and
#: width of the kernel that finds it. Outliers such as flips lie outside and have no influence.
_GAUGE_WINDOW, _GAUGE_KERNEL = 20.0, 5.0


def contingency(classes: ArrayLike, contents: ArrayLike) -> NDArray[np.int64]:
    """Counts (classes, contents) of particles, rows and columns in sorted order of the labels that occur."""
    rows, row = np.unique(np.asarray(classes), return_inverse=True)
    columns, column = np.unique(np.asarray(contents), return_inverse=True)
    counts = np.zeros((len(rows), len(columns)), dtype=np.int64)
    np.add.at(counts, (row, column), 1)
    return counts


def hungarian_accuracy(classes: ArrayLike, contents: ArrayLike) -> float:
    """Share of particles that are right under the best one-to-one matching of classes to contents.

    Surplus classes are errors. Class 0, no class, matches no content except -1, which marks true junk.
    """
    from scipy.optimize import linear_sum_assignment

    c, t = np.asarray(classes), np.asarray(contents)
    junk = int(np.sum((c == 0) & (t == -1)))
    keep = (c != 0) & (t != -1)
    counts = contingency(c[keep], t[keep])
    rows, columns = linear_sum_assignment(-counts)
    return float(counts[rows, columns].sum() + junk) / len(c)


def merged_accuracy(classes: ArrayLike, contents: ArrayLike) -> float:
    """Share of particles that are right when every class stands for its majority content (purity); class 0 is wrong."""
    c, t = np.asarray(classes), np.asarray(contents)
    classed = c != 0
    return float(contingency(c[classed], t[classed]).max(axis=1, initial=0).sum() / len(c))


def clustering_scores(classes: ArrayLike, contents: ArrayLike) -> dict[str, float]:
    """``accuracy`` (Hungarian), ``merged_accuracy``, ``ari``, ``homogeneity`` and ``completeness`` of a partition."""
    from sklearn.metrics import adjusted_rand_score, completeness_score, homogeneity_score

    c, t = np.asarray(classes), np.asarray(contents)
    return {
        "accuracy": hungarian_accuracy(c, t),
        "merged_accuracy": merged_accuracy(c, t),
        "ari": float(adjusted_rand_score(t, c)),
        "homogeneity": float(homogeneity_score(t, c)),
        "completeness": float(completeness_score(t, c)),
    }


def wrap_degrees(angle: ArrayLike, period: float = 360.0) -> NDArray[np.float64]:
    """Angles brought into [-period / 2, period / 2)."""
    return (np.asarray(angle, dtype=np.float64) + period / 2) % period - period / 2


def rotate_points(points: ArrayLike, psi: ArrayLike) -> NDArray[np.float64]:
    """``R(psi) @ point`` for points (n, 2), x and y, and angles (n,) in degrees."""
    p = np.asarray(points, dtype=np.float64)
    angle = np.radians(np.asarray(psi, dtype=np.float64))
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([c * p[..., 0] - s * p[..., 1], s * p[..., 0] + c * p[..., 1]], axis=-1)


@dataclass(frozen=True)
class Gauge:
    """How a class lies against its majority content: ``alpha`` in degrees, ``tau`` (x, y) in pixels."""

    alpha: float
    tau: tuple[float, float]
    content: int
    members: int


@dataclass(frozen=True)
class PoseErrors:
    """Errors of n particles after the gauge of their class is removed.

    ``rotation`` (n,) in degrees, 0..180, and ``shift`` (n,) in pixels, NaN without class or pose and where the particle
    is alone of its content in its class, so that no gauge can be known; ``majority`` (n,) bool: the particle is of the
    majority content of its class; ``gauges`` by class number, fitted to all majority members.
    """

    rotation: NDArray[np.float64]
    shift: NDArray[np.float64]
    majority: NDArray[np.bool_]
    gauges: dict[int, Gauge]

    def scores(self) -> dict[str, float]:
        """Medians and shares; ``strict_...`` are over all particles, the others over ``majority``."""
        plain = self.majority & np.isfinite(self.rotation)
        strict = _pose_scores(np.nan_to_num(self.rotation, nan=180.0), self.shift)
        return _pose_scores(self.rotation[plain], self.shift[plain]) | {
            f"strict_{name}": value for name, value in strict.items()
        }


def _pose_scores(rotation: NDArray[np.float64], shift: NDArray[np.float64]) -> dict[str, float]:
    known = shift[np.isfinite(shift)]
    if len(rotation) == 0:
        return dict.fromkeys(("rotation_median", "rotation_mean", "rotation_under_10", "flips", "shift_median"), np.nan)
    return {
        "rotation_median": float(np.median(rotation)),
        "rotation_mean": float(rotation.mean()),
        "rotation_under_10": float((rotation < 10).mean()),
        "flips": float((rotation > 150).mean()),
        "shift_median": float(np.median(known)) if len(known) else np.nan,
    }


def circular_mode(angles: ArrayLike, kernel: float = _GAUGE_KERNEL, window: float = _GAUGE_WINDOW) -> float:
    """The most frequent angle in degrees: peak of a kernel density, then the median of what lies around it."""
    values = np.asarray(angles, dtype=np.float64)
    grid = np.arange(0.0, 360.0)
    histogram = np.bincount(np.rint(values % 360).astype(int) % 360, minlength=360).astype(float)
    weight = np.exp(-0.5 * (wrap_degrees(grid) / kernel) ** 2)
    density = np.fft.irfft(np.fft.rfft(histogram) * np.fft.rfft(weight), n=360)
    centre = float(grid[density.argmax()])
    for _ in range(3):
        offset = wrap_degrees(values - centre)
        centre += float(np.median(offset[np.abs(offset) <= window]))
    return float(wrap_degrees(centre))


def geometric_median(points: NDArray[np.float64], iterations: int = 60) -> NDArray[np.float64]:
    """The point (d,) with the least sum of distances to ``points`` (n, d), by Weiszfeld's iteration."""
    centre = np.median(points, axis=0)
    for _ in range(iterations):
        weight = 1 / np.maximum(np.linalg.norm(points - centre, axis=1), 1e-9)
        centre = (points * weight[:, None]).sum(axis=0) / weight.sum()
    return centre


def fit_gauge(
    psi: NDArray[np.float64],
    origin: NDArray[np.float64],
    true_psi: NDArray[np.float64],
    true_origin: NDArray[np.float64],
) -> tuple[float, NDArray[np.float64]]:
    """``alpha`` in degrees and ``tau`` (2,) in pixels of members (n,), (n, 2) of one content; robust to outliers."""
    alpha = circular_mode(psi - true_psi)
    good = np.abs(wrap_degrees(psi - true_psi - alpha)) <= _GAUGE_WINDOW
    return alpha, geometric_median(rotate_points(origin[good] - true_origin[good], psi[good]))


def gauge_errors(
    psi: NDArray[np.float64],
    origin: NDArray[np.float64],
    true_psi: NDArray[np.float64],
    true_origin: NDArray[np.float64],
    alpha: float,
    tau: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotation errors (n,) in degrees and shift errors (n,) in pixels under a gauge."""
    expected = true_origin + rotate_points(np.broadcast_to(tau, origin.shape), -psi)
    return np.abs(wrap_degrees(psi - alpha - true_psi)), np.linalg.norm(origin - expected, axis=1)


@dataclass(frozen=True)
class GaugeSplit:
    """Which members of a class fit its gauge, and which are measured by it.

    ``number`` of the class, its majority ``content`` (the lower label of equals), the rows ``core`` of the members that
    have it, and ``parts``: rows that a gauge is fitted to and rows that are measured by it, none empty.
    """

    number: int
    content: Any
    core: NDArray[np.int64]
    parts: tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]


def gauge_splits(classes: ArrayLike, contents: ArrayLike, usable: NDArray[np.bool_]) -> Iterator[GaugeSplit]:
    """One split per class of the ``usable`` rows (n,): each half of the core by the other, all others by the core."""
    c, content = np.asarray(classes), np.asarray(contents)
    for number in np.unique(c[usable]):
        members = np.flatnonzero(usable & (c == number))
        labels, counts = np.unique(content[members], return_counts=True)
        main = labels[counts.argmax()]
        core, others = members[content[members] == main], members[content[members] != main]
        parts = (core[::2], core[1::2]), (core[1::2], core[::2]), (core, others)
        filled = tuple((fitted, measured) for fitted, measured in parts if len(fitted) and len(measured))
        yield GaugeSplit(int(number), main, core, filled)


def pose_errors(
    psi: ArrayLike,
    origin: ArrayLike,
    true_psi: ArrayLike,
    true_origin: ArrayLike,
    classes: ArrayLike,
    contents: ArrayLike,
) -> PoseErrors:
    """Pose errors of every particle, one gauge per predicted class removed.

    Parameters
    ----------
    psi, true_psi : (n,) degrees, RELION's rlnAnglePsi
    origin, true_origin : (n, 2) pixels, x and y, RELION's rlnOrigin
    classes : (n,) predicted; 0 is no class
    contents : (n,) true

    The gauge of a class is fitted to its members of the majority content (the largest; the lower label of equals): for
    these themselves to the other half of them, taken alternately, for all others to all of them.
    """
    p, q = np.asarray(psi, dtype=np.float64), np.asarray(true_psi, dtype=np.float64)
    t, u = np.asarray(origin, dtype=np.float64), np.asarray(true_origin, dtype=np.float64)
    c, content = np.asarray(classes), np.asarray(contents)
    usable = (c != 0) & np.isfinite(p) & np.isfinite(t).all(axis=1)
    rotation, shift = np.full(len(p), np.nan), np.full(len(p), np.nan)
    majority = np.zeros(len(p), dtype=bool)
    gauges: dict[int, Gauge] = {}
    for split in gauge_splits(c, content, usable):
        core = split.core
        alpha, tau = fit_gauge(p[core], t[core], q[core], u[core])
        gauges[split.number] = Gauge(alpha, (float(tau[0]), float(tau[1])), int(split.content), len(core))
        majority[core] = True
        for fitted, at in split.parts:
            gauge = fit_gauge(p[fitted], t[fitted], q[fitted], u[fitted])
            rotation[at], shift[at] = gauge_errors(p[at], t[at], q[at], u[at], *gauge)
    return PoseErrors(rotation, shift, majority, gauges)


def circular_correlation(one: ArrayLike, two: ArrayLike) -> float:
    """Jammalamadaka and Sarma's correlation of angles in degrees, in [-1, 1].

    It takes deviations from the circular means, which are ill-determined where angles are uniform; read it together
    with ``fisher_lee_correlation``.
    """
    a, b = (np.exp(1j * np.radians(np.asarray(x, dtype=np.float64))) for x in (one, two))
    sine_a, sine_b = ((x * np.conj(x.mean())).imag / max(abs(x.mean()), 1e-300) for x in (a, b))
    norm = np.sqrt((sine_a**2).sum() * (sine_b**2).sum())
    return float((sine_a * sine_b).sum() / norm) if norm > 0 else float("nan")


def fisher_lee_correlation(one: ArrayLike, two: ArrayLike) -> float:
    """Fisher and Lee's correlation of angles in degrees, in [-1, 1], over all pairs; it needs no mean direction."""
    a, b = (np.radians(np.asarray(x, dtype=np.float64)) for x in (one, two))

    def total(x: NDArray[np.float64]) -> complex:
        return complex(np.exp(1j * x).sum())

    # 2 sin(ai - aj) sin(bi - bj) = cos((a-b)i - (a-b)j) - cos((a+b)i - (a+b)j), and sums over pairs are |sum|^2.
    cross = abs(total(a - b)) ** 2 - abs(total(a + b)) ** 2
    norm = np.sqrt((len(a) ** 2 - abs(total(2 * a)) ** 2) * (len(b) ** 2 - abs(total(2 * b)) ** 2))
    return float(cross / norm) if norm > 0 else float("nan")


def viewing_axes(rot: ArrayLike, tilt: ArrayLike) -> NDArray[np.float64]:
    """Unit vectors (n, 3) along which the reference was seen, from RELION's rot and tilt in degrees."""
    r, t = np.radians(np.asarray(rot, dtype=np.float64)), np.radians(np.asarray(tilt, dtype=np.float64))
    return np.stack([np.cos(r) * np.sin(t), np.sin(r) * np.sin(t), np.cos(t)], axis=-1)


@dataclass(frozen=True)
class ViewSpread:
    """Spread of viewing axes: ``angle`` (n,) degrees of every particle to the mean axis of its class (NaN without
    class), ``axis`` by class number, ``median`` by class number in degrees."""

    angle: NDArray[np.float64]
    axis: dict[int, NDArray[np.float64]]
    median: dict[int, float]

    def scores(self) -> dict[str, float]:
        """Median over particles, and over the classes' medians, in degrees."""
        medians = list(self.median.values())
        return {
            "view_spread": float(np.nanmedian(self.angle)),
            "view_spread_of_classes": float(np.median(medians)) if medians else float("nan"),
        }


def view_spread(classes: ArrayLike, rot: ArrayLike, tilt: ArrayLike) -> ViewSpread:
    """How far the views within each class lie apart; opposite views, which are mirror images, count as the same.

    The mean axis of a class is the direction that lies closest to its members' axes as lines (first eigenvector of
    their outer products). A class drawn at random has a median of about 60 degrees.
    """
    c, axes = np.asarray(classes), viewing_axes(rot, tilt)
    angle = np.full(len(c), np.nan)
    mean: dict[int, NDArray[np.float64]] = {}
    median: dict[int, float] = {}
    for number in np.unique(c[c != 0]):
        members = np.flatnonzero(c == number)
        axis = np.linalg.eigh(axes[members].T @ axes[members])[1][:, -1]
        angle[members] = np.degrees(np.arccos(np.clip(np.abs(axes[members] @ axis), 0, 1)))
        mean[int(number)], median[int(number)] = axis, float(np.median(angle[members]))
    return ViewSpread(angle, mean, median)


def partition_scores(table: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float | int]:
    """Counts, and ``clustering_scores``, of ``class_number`` against ``content``.

    Raises
    ------
    ValueError : the tables differ in length
    """
    if len(table) != len(truth):
        raise ValueError(
            f"the result has {len(table)} rows and the truth {len(truth)}: they must be the same particles"
        )
    classes, contents = table["class_number"].to_numpy(dtype=int), truth["content"].to_numpy()
    return {
        "particles": len(table),
        "classes": len(np.unique(classes[classes != 0])),
        "contents": len(np.unique(contents)),
        "without_class": int((classes == 0).sum()),
        **clustering_scores(classes, contents),
    }


def evaluate(table: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float | int]:
    """Scores of a result against the truth.

    Parameters
    ----------
    table : one row per particle with ``class_number``, and ``psi`` (degree), ``origin_x``, ``origin_y`` (pixel)
    truth : the same particles in the same order with ``content``, and where known ``psi``, ``origin_x``, ``origin_y``,
        ``rot``, ``tilt``

    Returns
    -------
    counts and clustering scores; with known poses those of ``PoseErrors.scores`` and both circular correlations of the
    angles after the gauge; with more than one view per content, those of ``ViewSpread.scores``

    Raises
    ------
    ValueError : the tables differ in length
    """
    scores = partition_scores(table, truth)
    classes, contents = table["class_number"].to_numpy(dtype=int), truth["content"].to_numpy()
    # Where every particle has a view of its own no pose is shared by a class: only the views can be compared.
    views = {"rot", "tilt"} <= set(truth) and truth.groupby("content")[["rot", "tilt"]].nunique().to_numpy().max() > 1
    if views:
        return scores | view_spread(classes, truth["rot"], truth["tilt"]).scores()
    pose = {"psi", "origin_x", "origin_y"}
    if pose <= set(table) and pose <= set(truth):
        columns = ["origin_x", "origin_y"]
        errors = pose_errors(table["psi"], table[columns], truth["psi"], truth[columns], classes, contents)
        scores |= errors.scores()
        posed = np.isfinite(errors.rotation)
        alpha = np.array([errors.gauges[k].alpha for k in classes[posed]])
        angles = table["psi"].to_numpy(dtype=float)[posed] - alpha, truth["psi"].to_numpy(dtype=float)[posed]
        for name, correlate in (("circular", circular_correlation), ("fisher_lee", fisher_lee_correlation)):
            scores[f"{name}_correlation"] = correlate(*angles) if posed.any() else float("nan")
    return scores
