"""The content-tracking score: whether directions of a content code move content, and not the pose. No labels needed.

Frames are pictures that the decoder draws, in its canonical position and without noise, while the code of a particle is
moved along a direction. A good direction changes the same part of the picture for every particle, another part than the
other directions do, and does not change it as a shift, a rotation, a magnification or a change of contrast would. The
idea, scores without ground truth from following content, is that of CL-Dis (Jin et al. 2024); the formulae are our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

#: Blur in pixels of what changes, and ridge of the regression on tangents of length 1.
_BLUR, _RIDGE = 1.0, 1e-5
#: From which leak on a direction is ambiguous with a change of pose, and from which it is one.
AMBIGUOUS, LEAK = 0.75, 0.9
#: A direction whose steps change the picture by less than this, in units of the noise, shows nothing.
DEAD = 0.1
#: Particles, directions and steps that ``frames_along_axes`` draws.
ANCHORS, DIRECTIONS, STEPS = 16, 8, 5
#: A shift or rotation is along or about one axis where that alone explains this part of it.
_ONE_AXIS = 0.9
#: What a direction can be.
CONTENT, MIXED, POSE, NOISE = "content", "ambiguous with pose", "pose leakage", "noise"


@dataclass(frozen=True)
class Direction:
    """Scores of one direction, in [0, 1].

    Attributes
    ----------
    consistency : how alike the changed parts of the picture are for any two particles
    overlap : how much they are those of the direction that is most alike, on average over particles
    leak : the share of the change that a change of pose explains
    leaks_as : the change of pose that alone explains most: shift, rotation, scale, contrast or offset; a shift along
        one axis, and a rotation in space about one axis, with its name, as in ``shift x`` or ``rotation about z``
    activity : size of the change of one step, root of the sum of squares over pixels, in units of the noise; any >= 0
    verdict : ``content``, ``ambiguous with pose``, ``pose leakage`` or ``noise``
    score : consistency, times what does not overlap, times what does not leak
    """

    consistency: float
    overlap: float
    leak: float
    leaks_as: str
    activity: float
    verdict: str
    score: float


@dataclass(frozen=True)
class ContentTracking:
    """Scores of all directions; ``score`` in [0, 1] is their mean by activity, without those that are noise."""

    directions: tuple[Direction, ...]
    score: float


def content_tracking(frames: NDArray, noise: float = 1.0) -> ContentTracking:
    """Score directions by the frames along them.

    Parameters
    ----------
    frames : (particles, directions, steps, box, box), or (..., box, box, box) volumes: pictures without noise; 16 to 32
        particles and 5 to 9 steps from minus to plus one standard deviation of the code are enough
    noise : standard deviation of the noise in the data, per pixel

    Raises
    ------
    ValueError : fewer than two steps, or frames of another shape
    """
    if frames.ndim not in (5, 6) or frames.shape[2] < 2:
        raise ValueError(f"frames of shape {frames.shape}; give (particles, directions, steps >= 2, box, box[, box])")
    pictures = np.asarray(frames, dtype=np.float64)
    changes = np.diff(pictures, axis=2)
    parts = _changed_parts(changes)
    activity = np.sqrt((changes**2).reshape(*changes.shape[:3], -1).sum(axis=3)).mean(axis=(0, 2)) / noise
    alive = activity >= DEAD
    consistency, overlap = _consistency(parts), _overlap(parts, alive)
    leaks = [_leak(pictures[:, k], changes[:, k]) for k in range(pictures.shape[1])]
    found = []
    for k, (leak, name) in enumerate(leaks):
        kept = 1 - np.clip((leak - AMBIGUOUS) / (1 - AMBIGUOUS), 0, 1)
        verdict = _verdict(leak, bool(alive[k]))
        score = float(consistency[k] * (1 - overlap[k]) * kept) if alive[k] else 0.0
        numbers = float(consistency[k]), float(overlap[k]), leak, name, float(activity[k])
        found.append(Direction(*numbers, verdict, score))
    weight = np.where(alive, activity, 0.0)
    total = float(weight @ [direction.score for direction in found] / weight.sum()) if alive.any() else 0.0
    return ContentTracking(tuple(found), total)


def frames_along_axes(codes: NDArray, decode: Callable[[NDArray[np.float32]], NDArray], seed: int = 0) -> NDArray:
    """Frames for ``content_tracking`` along the principal axes of the content codes, the most varying first.

    Parameters
    ----------
    codes : (n, d), finite; some particles drawn at random are moved by one standard deviation to both sides
    decode : gives pictures (m, box, box) or (m, box, box, box), without noise, of codes (m, d)

    Raises
    ------
    ValueError : there are no codes that vary
    """
    codes = np.asarray(codes, dtype=np.float64)
    if codes.size == 0 or not (codes.std(axis=0) > 0).any():
        raise ValueError("there is no content code that varies")
    codes = codes[np.lexsort(codes.T[::-1])]  # the same particles and signs whatever the order of the rows
    _, spread, axes = np.linalg.svd(codes - codes.mean(axis=0), full_matrices=False)
    ways = (spread[:, None] / np.sqrt(len(codes)) * axes)[:DIRECTIONS]
    return frames_along(codes[np.random.default_rng(seed).permutation(len(codes))[:ANCHORS]], ways, decode)


def frames_along(
    anchors: NDArray, directions: NDArray, decode: Callable[[NDArray[np.float32]], NDArray], steps: int = STEPS
) -> NDArray:
    """Frames for ``content_tracking`` along any directions of a content code.

    Parameters
    ----------
    anchors : (particles, d) codes from which to move to both sides
    directions : (directions, d), each of the length of one standard deviation
    decode : gives pictures (m, box, box) or (m, box, box, box), without noise, of codes (m, d)
    steps : from minus to plus one standard deviation

    Returns
    -------
    (particles, directions, steps, box, box), or (..., box, box, box)
    """
    moved = np.linspace(-1, 1, steps)[:, None] * directions[:, None]
    pictures = decode((anchors[:, None, None] + moved).reshape(-1, anchors.shape[1]).astype(np.float32))
    return pictures.reshape(len(anchors), len(directions), steps, *pictures.shape[1:])


def _verdict(leak: float, alive: bool) -> str:
    if not alive:
        return NOISE
    return POSE if leak > LEAK else MIXED if leak >= AMBIGUOUS else CONTENT


def _changed_parts(changes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where each direction changes the picture of each particle, (particles, directions, pixels), of length 1 or 0."""
    from scipy.ndimage import gaussian_filter

    image = changes.ndim - 3
    blurred = gaussian_filter(np.abs(changes), (0,) * 3 + (_BLUR,) * image).sum(axis=2)
    flat = blurred.reshape(*blurred.shape[:2], -1)
    length = np.linalg.norm(flat, axis=2, keepdims=True)
    return np.divide(flat, length, out=np.zeros_like(flat), where=length > 0)


def _consistency(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean cosine (directions,) between the changed parts of any two particles; 1 for one particle."""
    count = len(parts)
    if count == 1:
        return np.ones(parts.shape[1])
    # The sum over all pairs is the squared length of the sum, less every particle with itself.
    pairs = (parts.sum(axis=0) ** 2).sum(axis=1) - (parts**2).sum(axis=(0, 2))
    return np.clip(pairs / (count * (count - 1)), 0, 1)


def _overlap(parts: NDArray[np.float64], alive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean cosine (directions,) with the most alike of the other directions that are alive."""
    between = np.einsum("nkp,nlp->kl", parts, parts) / len(parts)
    np.fill_diagonal(between, 0.0)
    return np.clip(between * alive, 0, 1).max(axis=1, initial=0.0)


def _leak(pictures: NDArray[np.float64], changes: NDArray[np.float64]) -> tuple[float, str]:
    """Share of the squares of changes (particles, steps, ...) that tangents explain, and the group that explains most.

    Tangents are those of the picture half way along each step: a turn of many degrees is no straight line, so that
    those of one picture would not explain all of it.
    """
    total, whole = 0.0, 0.0
    single: dict[str, float] = {}
    for frames, steps in zip(pictures, changes, strict=True):
        for here, there, step in zip(frames[:-1], frames[1:], steps, strict=True):
            moved, groups = step.reshape(1, -1), tangents(0.5 * (here + there))
            total += float((moved**2).sum())
            whole += _explained(moved, np.concatenate(list(groups.values())))
            for name, group in (*groups.items(), *_single_axes(groups)):
                single[name] = single.get(name, 0.0) + _explained(moved, group)
    best = max(groups, key=single.__getitem__)
    if not total > 0:
        return 0.0, best
    alone = [name for name, _ in _single_axes(groups) if name.startswith(best)]
    name = next((name for name in alone if single[name] > _ONE_AXIS * single[best]), best)
    return float(np.clip(whole / total, 0, 1)), name


def _single_axes(groups: Mapping[str, NDArray[np.float64]]) -> list[tuple[str, NDArray[np.float64]]]:
    """Shifts along and, in space, rotations about single axes, each a group (1, pixels) of its own."""
    shifts, turns = groups["shift"], groups["rotation"]
    found = [(f"shift {axis}", shifts[i : i + 1]) for i, axis in enumerate("zyx"[-len(shifts) :])]
    if len(turns) > 1:
        # of the axes z, y, x in pairs: zy, zx, yx
        found += [(f"rotation about {axis}", turns[i : i + 1]) for i, axis in enumerate("xyz")]
    return found


def _explained(moved: NDArray[np.float64], group: NDArray[np.float64]) -> float:
    """Sum of squares of the part of ``moved`` (steps, pixels) that lies in the span of ``group`` (tangents, pixels)."""
    length = np.linalg.norm(group, axis=1, keepdims=True)
    unit = np.divide(group, length, out=np.zeros_like(group), where=length > 0)
    weights = np.linalg.solve(unit @ unit.T + _RIDGE * np.eye(len(unit)), unit @ moved.T)
    return float((moved**2).sum() - ((moved - weights.T @ unit) ** 2).sum())


def tangents(picture: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
    """How a picture changes with its pose, to first order: (tangents, pixels) by the name of the transformation.

    Parameters
    ----------
    picture : (box, box) or (box, box, box); rotation and scale are about pixel ``box // 2``
    """
    slopes = [_slope(picture, axis) for axis in range(picture.ndim)]
    places = np.meshgrid(*(np.arange(size) - size // 2 for size in picture.shape), indexing="ij")
    axes = range(picture.ndim)
    turns = [places[i] * slopes[j] - places[j] * slopes[i] for i in axes for j in axes if i < j]
    growth = sum(place * slope for place, slope in zip(places, slopes, strict=True))
    groups = {
        "shift": slopes,
        "rotation": turns,
        "scale": [growth],
        "contrast": [picture],
        "offset": [np.ones_like(picture)],
    }
    return {name: np.stack([image.ravel() for image in group]) for name, group in groups.items()}


def _slope(picture: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Derivative along an axis, exact for what the pixels hold: differences of neighbours miss the finest detail."""
    count = picture.shape[axis]
    frequency = 2j * np.pi * np.fft.rfftfreq(count)
    if count % 2 == 0:
        frequency[-1] = 0  # which way it leans cannot be known
    shape = [1] * picture.ndim
    shape[axis] = -1
    spectrum = np.fft.rfft(picture, axis=axis) * frequency.reshape(shape)
    return np.fft.irfft(spectrum, n=count, axis=axis)
