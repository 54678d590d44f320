"""How right a result on subtomograms is, where the truth is known.

As in ``metrics``, poses of one class are only determined up to a gauge. With the true pose
``x_ref = R (x - c + t) + c`` and a class that shows ``x' = G (x_ref - c) + c + tau``, a perfect estimate is
``R' = G R`` and ``t' = t + R'^T tau``. One rotation ``G`` and one offset ``tau`` per predicted class are removed before
errors are taken; which particles count, and by whose gauge they are measured, is as there. A particle with the symmetry
S is right under every ``R' = G s R``, s in S.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from napari_harmony.analysis.metrics import gauge_splits, geometric_median, partition_scores

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

#: Half width in degrees of the window around the most frequent relative rotation from which a gauge is computed, and
#: width of the kernel that finds it. Outliers such as flips lie outside and have no influence.
_GAUGE_WINDOW, _GAUGE_KERNEL = 30.0, 8.0
#: The most members that are compared with each other in search of the most frequent one.
_MOST_CANDIDATES = 500
#: Limits in degrees of the shares that are given.
LIMITS = (10, 15, 20)
ANGLES, ORIGINS = ["rot", "tilt", "psi"], ["origin_x", "origin_y", "origin_z"]


def symmetry_group(name: str) -> Rotation:
    """The rotations of a point group in RELION's orientation: C1, C2 ..., D2 ..., T, O or I.

    The main axis is z, and that of the dihedral groups' half turns x.

    Raises
    ------
    ValueError : there is no such group
    """
    word = name.strip().upper()
    order = word[1:]
    if not (word in ("T", "O", "I") or (word[:1] in ("C", "D") and order.isdigit() and int(order) > 0)):
        raise ValueError(f"there is no symmetry '{name}'; give C1, C2 and so on, D2 and so on, T, O or I")
    return Rotation.create_group(word, axis="Z")


def rotation_angle(first: Rotation, second: Rotation, symmetry: Rotation | None = None) -> NDArray[np.float64]:
    """Degrees (n,) between ``first`` and the closest of ``second`` times the rotations of a group."""
    between = second.inv() * first
    if symmetry is None or len(symmetry) == 1:
        return np.degrees(np.atleast_1d(between.magnitude()))
    each = [np.atleast_1d((element * between).magnitude()) for element in symmetry]
    return np.degrees(np.min(each, axis=0))


@dataclass(frozen=True)
class Gauge3D:
    """How a class lies against its majority content: ``rotation`` G, and ``tau`` (x, y, z) in voxels."""

    rotation: Rotation
    tau: tuple[float, float, float]
    content: object
    members: int


@dataclass(frozen=True)
class PoseErrors3D:
    """Errors of n particles after the gauge of their class is removed.

    ``rotation`` (n,) in degrees, 0..180, and ``shift`` (n,) in voxels, NaN without class or pose and where the particle
    is alone of its content in its class; ``majority`` (n,) bool: the particle is of the majority content of its class;
    ``gauges`` by class number, fitted to all majority members.
    """

    rotation: NDArray[np.float64]
    shift: NDArray[np.float64]
    majority: NDArray[np.bool_]
    gauges: dict[int, Gauge3D]

    def scores(self) -> dict[str, float]:
        """Medians and shares; ``strict_...`` are over all particles, the others over ``majority``."""
        plain = self.majority & np.isfinite(self.rotation)
        strict = _scores(np.nan_to_num(self.rotation, nan=180.0), self.shift)
        return _scores(self.rotation[plain], self.shift[plain]) | {
            f"strict_{name}": value for name, value in strict.items()
        }


def _scores(rotation: NDArray[np.float64], shift: NDArray[np.float64]) -> dict[str, float]:
    known, some = shift[np.isfinite(shift)], len(rotation) > 0
    return {
        "rotation_median": float(np.median(rotation)) if some else np.nan,
        "rotation_mean": float(rotation.mean()) if some else np.nan,
        **{f"rotation_under_{limit}": float((rotation < limit).mean()) if some else np.nan for limit in LIMITS},
        "flips": float((rotation > 150).mean()) if some else np.nan,
        "shift_median": float(np.median(known)) if len(known) else np.nan,
    }


def rotation_mode(rotations: Rotation, kernel: float = _GAUGE_KERNEL) -> Rotation:
    """The one of n rotations around which most others lie, by a kernel of ``kernel`` degrees."""
    step = -(-len(rotations) // _MOST_CANDIDATES)
    quaternions = rotations.as_quat()
    cosine = np.abs(quaternions[::step] @ quaternions.T).clip(max=1.0)
    angle = np.degrees(2 * np.arccos(cosine))
    return rotations[step * int(np.exp(-0.5 * (angle / kernel) ** 2).sum(axis=1).argmax())]


def geodesic_median(rotations: Rotation, start: Rotation, iterations: int = 40) -> Rotation:
    """The rotation with the least sum of angles to n rotations, by Weiszfeld's iteration on SO(3)."""
    centre = start
    for _ in range(iterations):
        vectors = (centre.inv() * rotations).as_rotvec()
        weight = 1 / np.maximum(np.linalg.norm(vectors, axis=1), 1e-9)
        step = (vectors * weight[:, None]).sum(axis=0) / weight.sum()
        centre = centre * Rotation.from_rotvec(step)
        if np.linalg.norm(step) < 1e-9:
            break
    return centre


def fit_gauge(
    pose: Rotation, origin: NDArray[np.float64], true_pose: Rotation, true_origin: NDArray[np.float64], group: Rotation
) -> tuple[Rotation, NDArray[np.float64]]:
    """``G`` and ``tau`` (3,) in voxels of n members of one content; robust to outliers.

    Parameters
    ----------
    pose, true_pose : n rotations; origin, true_origin : (n, 3) voxels
    group : the symmetry of the content
    """
    relative = pose * true_pose.inv()  # G s
    copies = Rotation.concatenate([relative * element.inv() for element in group])
    start = rotation_mode(copies)
    good = rotation_angle(copies, start) <= _GAUGE_WINDOW
    rotation = geodesic_median(copies[good], start)
    near = rotation_angle(relative, rotation, group) <= _GAUGE_WINDOW
    return rotation, geometric_median(pose[near].apply(origin[near] - true_origin[near]))


def gauge_errors(
    pose: Rotation,
    origin: NDArray[np.float64],
    true_pose: Rotation,
    true_origin: NDArray[np.float64],
    rotation: Rotation,
    tau: NDArray[np.float64],
    group: Rotation,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotation errors (n,) in degrees and shift errors (n,) in voxels under a gauge."""
    expected = true_origin + pose.inv().apply(tau)
    return rotation_angle(pose * true_pose.inv(), rotation, group), np.linalg.norm(origin - expected, axis=1)


def pose_errors(
    angles: ArrayLike,
    origin: ArrayLike,
    true_angles: ArrayLike,
    true_origin: ArrayLike,
    classes: ArrayLike,
    contents: ArrayLike,
    symmetry: str = "C1",
) -> PoseErrors3D:
    """Pose errors of every particle, one gauge per predicted class removed.

    Parameters
    ----------
    angles, true_angles : (n, 3) degrees, RELION's rot, tilt, psi
    origin, true_origin : (n, 3) voxels, x, y, z, RELION's rlnOrigin
    classes : (n,) predicted; 0 is no class
    contents : (n,) true
    symmetry : of the contents in the frame of the true poses, as ``symmetry_group``

    Raises
    ------
    ValueError : there is no such symmetry
    """
    a, b = np.asarray(angles, dtype=np.float64), np.asarray(true_angles, dtype=np.float64)
    t, u = np.asarray(origin, dtype=np.float64), np.asarray(true_origin, dtype=np.float64)
    group = symmetry_group(symmetry)
    usable = (np.asarray(classes) != 0) & np.isfinite(a).all(axis=1) & np.isfinite(t).all(axis=1)
    p, q = (Rotation.from_euler("ZYZ", np.where(usable[:, None], x, 0.0), degrees=True) for x in (a, b))
    rotation, shift = np.full(len(a), np.nan), np.full(len(a), np.nan)
    majority = np.zeros(len(a), dtype=bool)
    gauges: dict[int, Gauge3D] = {}
    for split in gauge_splits(classes, contents, usable):
        core = split.core
        turn, tau = fit_gauge(p[core], t[core], q[core], u[core], group)
        gauges[split.number] = Gauge3D(turn, (float(tau[0]), float(tau[1]), float(tau[2])), split.content, len(core))
        majority[core] = True
        for fitted, at in split.parts:
            gauge = fit_gauge(p[fitted], t[fitted], q[fitted], u[fitted], group)
            rotation[at], shift[at] = gauge_errors(p[at], t[at], q[at], u[at], *gauge, group)
    return PoseErrors3D(rotation, shift, majority, gauges)


def evaluate(table: pd.DataFrame, truth: pd.DataFrame, symmetry: str = "C1") -> dict[str, float | int]:
    """Scores of a result on subtomograms against the truth.

    Parameters
    ----------
    table : one row per particle with ``class_number`` and, for the poses, ``rot``, ``tilt``, ``psi`` (degree),
        ``origin_x``, ``origin_y``, ``origin_z`` (voxel)
    truth : the same particles in the same order with ``content``, and the same columns where known
    symmetry : of all contents, as ``symmetry_group``

    Returns
    -------
    counts and clustering scores; with known poses those of ``PoseErrors3D.scores``

    Raises
    ------
    ValueError : the tables differ in length, or there is no such symmetry
    """
    symmetry_group(symmetry)
    scores = partition_scores(table, truth)
    pose = {*ANGLES, *ORIGINS}
    if pose <= set(table) and pose <= set(truth):
        classes, contents = table["class_number"].to_numpy(dtype=int), truth["content"].to_numpy()
        known = truth[ANGLES], truth[ORIGINS]
        scores |= pose_errors(table[ANGLES], table[ORIGINS], *known, classes, contents, symmetry).scores()
    return scores
