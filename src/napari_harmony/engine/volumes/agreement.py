"""Poses on which the particles of a group agree, from the marks that a network made of each: no volume is turned."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_harmony.engine.work import Work, portion
from napari_harmony.transforms import so3
from napari_harmony.transforms.rotation_functions import functions_of, likeness, turned

#: How often all particles of a group are turned onto what the others show.
ROUNDS = 6
#: Degrees between the rotations that are tried everywhere, and between those about the best of them, and how far.
COARSE, FINE, REACH = 24.0, 6.0, 15.0
#: Particles that are compared at a time.
PORTION = 512


def agreed(marks: Tensor, degree: int, label: Tensor, rotation: Tensor) -> Work[Tensor]:
    """Rotations (n, 4) canonical -> particle under which the marks of every group are most alike.

    Each particle is turned onto the mean of the others of its group, round by round; the frame of a group is what
    ``rotation`` (n, 4) says on the whole. A particle that is alone in its group keeps its rotation.

    Parameters
    ----------
    marks : (n, c, k) coefficients in ``c`` channels, as ``transforms.rotation_functions`` has them
    degree : the highest of the coefficients
    label : (n,) groups
    rotation : (n, 4) where to begin; the nearest of a grid will do
    """
    coarse, near = (grid.to(rotation) for grid in (so3.rotation_grid(COARSE), _about(FINE, REACH)))
    tried = Tried(coarse, near, functions_of(degree, coarse), functions_of(degree, near))
    found, groups = rotation.clone(), label.unique()
    for done, group in enumerate(groups):
        rows = (label == group).nonzero()[:, 0]
        if len(rows) > 1:
            work = _turned_together(marks[rows].to(rotation), rotation[rows], tried)
            found[rows] = yield from portion(work, done / len(groups), (done + 1) / len(groups))
    return found


@dataclass(frozen=True)
class Tried:
    """Rotations (r, 4) that are tried everywhere, those about the best (s, 4), and the functions of both."""

    coarse: Tensor
    near: Tensor
    coarse_functions: Tensor
    near_functions: Tensor


def _turned_together(coefficients: Tensor, rotation: Tensor, tried: Tried) -> Work[Tensor]:
    """Rotations (n, 4) of one group."""
    functions = tried.coarse_functions[(rotation @ tried.coarse.T).abs().argmax(1)]
    portions = torch.arange(len(rotation), device=rotation.device).split(PORTION)
    for number in range(ROUNDS):
        before, parts = rotation, []
        brought = turned(coefficients, functions, backwards=True)
        total = brought.sum(0)
        for done, rows in enumerate(portions):
            # of the others alone: a particle that meets itself in the mean stays where it is
            parts.append(_best(likeness(coefficients[rows], total - brought[rows]), tried))
            yield (number + (done + 1) / len(portions)) / ROUNDS
        rotation, functions = (torch.cat(part) for part in zip(*parts, strict=True))
        if torch.equal(rotation, before):
            break
    return rotation


def _best(factors: Tensor, tried: Tried) -> tuple[Tensor, Tensor]:
    """The rotations (n, 4) at which sums of ``factors`` (n, k) are largest, and their functions (n, k)."""
    where = (factors @ tried.coarse_functions.T).argmax(1)
    functions = tried.coarse_functions[where]
    beside = turned(factors[:, None], functions, backwards=True)[:, 0]
    aside = (beside @ tried.near_functions.T).argmax(1)
    rotation = so3.multiply(tried.coarse[where], tried.near[aside])
    return rotation, turned(tried.near_functions[aside, None], functions)[:, 0]


def _about(step: float, reach: float) -> Tensor:
    """Small rotations (s, 4), the first of which changes nothing."""
    return so3.local_grid(so3.identity(), step, reach)
