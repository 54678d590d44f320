"""Bookkeeping of posteriors: made of known poses, classes centred, dropped, pooled and carried into another frame."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from napari_harmony.engine.volumes.search import Posterior
from napari_harmony.engine.volumes.symmetry import Symmetry
from napari_harmony.transforms import so3

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


def centred(posterior: Posterior, classes: int, symmetry: Symmetry | None = None) -> Posterior:
    """The same with every class moved so that its particles are, on average, picked at their centre.

    A symmetric class only moves as its symmetry allows.
    """
    matrix = so3.to_matrix(posterior.rotation)
    in_class = torch.einsum("eij,ej->ei", matrix, posterior.shift) * posterior.weight[:, None]
    total = torch.zeros(classes, 3, device=in_class.device).index_add_(0, posterior.label, in_class)
    count = torch.zeros(classes, device=in_class.device).index_add_(0, posterior.label, posterior.weight)
    mean = total / count.clamp_min(1e-6)[:, None]
    mean = (mean if symmetry is None else symmetry.invariant(mean))[posterior.label]
    return replace(posterior, shift=posterior.shift - torch.einsum("eij,ei->ej", matrix, mean))


def occupied(posterior: Posterior, junk: torch.Tensor) -> Posterior:
    """The posterior over the classes that fit some particle best that is no ``junk`` (n,)."""
    classes = posterior.class_score.shape[1]
    best = posterior.best().label[~junk.to(posterior.label.device)]
    kept = torch.bincount(best, minlength=classes).nonzero()[:, 0].tolist()
    return posterior if len(kept) in (0, classes) else relabel(posterior, kept)


def relabel(posterior: Posterior, kept: list[int]) -> Posterior:
    """The posterior over the kept classes alone, numbered in their order.

    A particle of dropped classes only keeps one entry: its best pose, of weight 0, in the kept class that fits it
    best. It says where to look for the particle next and shapes no class.
    """
    place = torch.full((posterior.class_score.shape[1],), -1, dtype=torch.long, device=posterior.label.device)
    place[kept] = torch.arange(len(kept), device=place.device)
    label, scores, best = place[posterior.label], posterior.class_score[:, kept], posterior.best()
    staying = posterior.entries(label >= 0)
    without = torch.ones(len(posterior), dtype=torch.bool, device=place.device)
    without[staying.particle] = False
    particle = torch.cat([staying.particle, without.nonzero()[:, 0]])
    order = particle.argsort(stable=True)
    return Posterior(
        particle[order],
        torch.cat([label[label >= 0], scores[without].argmax(1)])[order],
        torch.cat([staying.rotation, best.rotation[without]])[order],
        torch.cat([staying.shift, best.shift[without]])[order],
        torch.cat([staying.weight, torch.zeros_like(best.weight[without])])[order],
        posterior.log_evidence,
        scores,
    )


def pool(first: Posterior, second: Posterior, rows: tuple[torch.Tensor, torch.Tensor], classes: int) -> Posterior:
    """One posterior over all particles from those of two halves; the second half's classes follow the first's."""
    count = len(first) + len(second)
    evidence = torch.zeros(count, device=first.weight.device)
    evidence[rows[0]], evidence[rows[1]] = first.log_evidence, second.log_evidence
    particle = torch.cat([rows[0][first.particle], rows[1][second.particle]])
    order = particle.argsort(stable=True)
    return Posterior(
        particle[order],
        torch.cat([first.label, second.label + classes])[order],
        torch.cat([first.rotation, second.rotation])[order],
        torch.cat([first.shift, second.shift])[order],
        torch.cat([first.weight, second.weight])[order],
        evidence,
        torch.zeros(count, 2 * classes, device=evidence.device),
    )


def better_of(one: Posterior, other: Posterior) -> Posterior:
    """For each particle the posterior that has found the better pose on the same samples and templates."""
    first = one.class_score.amax(1) >= other.class_score.amax(1)
    kept = one.entries(first[one.particle]), other.entries(~first[other.particle])
    order = torch.cat([part.particle for part in kept]).argsort(stable=True)
    entries = {
        name: torch.cat([getattr(part, name) for part in kept])[order]
        for name in ("particle", "label", "rotation", "shift", "weight")
    }
    evidence = torch.where(first, one.log_evidence, other.log_evidence)
    return Posterior(**entries, log_evidence=evidence, class_score=torch.maximum(one.class_score, other.class_score))


def carried(found: Posterior, label: torch.Tensor, rotation: torch.Tensor, shift: torch.Tensor) -> Posterior:
    """The posterior with class ``k`` called ``label[k]``, moved by ``shift[k]`` and turned by ``rotation[k]``."""
    # The class moves in its own frame, which the particle reaches only after its turn.
    moved = torch.einsum("eij,ei->ej", so3.to_matrix(found.rotation), shift[found.label])
    turned = so3.multiply(rotation[found.label], found.rotation)
    return replace(found, label=label[found.label], rotation=turned, shift=found.shift + moved)


def certain(rotation: torch.Tensor, shift: torch.Tensor, label: torch.Tensor) -> Posterior:
    """A posterior that is sure of one class and pose per particle: rotations (n, 4), shifts (n, 3), labels (n,)."""
    n, device = len(label), label.device
    scores = torch.zeros(n, int(label.max()) + 1, device=device)
    ones = torch.ones(n, device=device)
    return Posterior(
        torch.arange(n, device=device), label.long(), rotation, shift, ones, torch.zeros_like(ones), scores
    )


def known_poses(table: pd.DataFrame, label: NDArray[np.int64], scale: float, device: torch.device) -> Posterior:
    """The poses in the rows of a result's table, in classes ``label`` (n,); ``scale``: source per working voxels."""
    angles = torch.as_tensor(table[["rot", "tilt", "psi"]].to_numpy(float))
    origin = torch.as_tensor(table[["origin_x", "origin_y", "origin_z"]].to_numpy(float) / scale)
    rotation, shift = so3.from_zyz(angles).float().to(device), origin.float().to(device)
    return certain(rotation, shift, torch.as_tensor(label, device=device))
