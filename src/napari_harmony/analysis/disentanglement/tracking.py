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
    leaks_as : the change of pose that alone explains most: shift, rotation, scale, contrast or offset
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
    anchors = codes[np.random.default_rng(seed).permutation(len(codes))[:ANCHORS]]
    moved = np.linspace(-1, 1, STEPS)[:, None] * ways[:, None]
    pictures = decode((anchors[:, None, None] + moved).reshape(-1, codes.shape[1]).astype(np.float32))
    return pictures.reshape(len(anchors), len(ways), STEPS, *pictures.shape[1:])


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

    Tangents are those of the mean frame of each particle.
    """
    total, whole = 0.0, 0.0
    single: dict[str, float] = {}
    for frames, steps in zip(pictures, changes, strict=True):
        moved = steps.reshape(len(steps), -1)
        groups = tangents(frames.mean(axis=0))
        total += float((moved**2).sum())
        whole += _explained(moved, np.concatenate(list(groups.values())))
        for name, group in groups.items():
            single[name] = single.get(name, 0.0) + _explained(moved, group)
    best = max(single, key=single.__getitem__)
    return (float(np.clip(whole / total, 0, 1)), best) if total > 0 else (0.0, best)


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
    slopes = np.gradient(picture)
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
