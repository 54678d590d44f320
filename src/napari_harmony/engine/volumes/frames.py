"""Classes laid, as a whole, onto others: a half's onto the joint ones, and joint ones onto the user's references."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_harmony.engine.classes import best_pairs
from napari_harmony.engine.volumes.halves import Alignment, Placed, fit_onto, likeness_of
from napari_harmony.engine.volumes.plans import Stage
from napari_harmony.engine.volumes.posteriors import carried
from napari_harmony.engine.volumes.search import Posterior, Templates
from napari_harmony.engine.work import Work
from napari_harmony.transforms import so3

if TYPE_CHECKING:
    from napari_harmony.engine.volumes.discovery import Search

#: Degrees from the frame of its reference within which a class is expected, and between rotations looked at there.
EXPECTED_WITHIN, EXPECTED_STEP = 30.0, 10.0
#: How much more alike, as a correlation, a class and its reference must be elsewhere to be turned there.
CLEARLY = 0.05


def onto_classes(
    target: Templates, half: Search, stage: Stage, found: Posterior, joint: torch.Tensor, how: Alignment
) -> Work[Posterior]:
    """The posterior of a half with each of its classes placed, as a whole, on a joint class of its own.

    ``joint`` (n,) says in which joint class each particle of the half is.
    """
    count, device = found.class_score.shape[1], joint.device
    averages = half.average(half.data(stage.limit), found, count).volumes
    common = torch.bincount(found.best().label * len(target) + joint, minlength=count * len(target))
    mine, theirs = best_pairs(common.reshape(count, len(target)))
    label = torch.zeros(count, dtype=torch.long, device=device)
    placed = still(count, device)
    for done, (k, j) in enumerate(zip(mine, theirs, strict=True)):
        label[k] = int(j)
        one = fit_onto(averages[k : k + 1], target.volumes[j], how)
        placed.rotation[k], placed.shift[k] = one.rotation[0], one.shift[0]
        yield (done + 1) / count
    return carried(found, label, placed.rotation, placed.shift)


def laid(found: Posterior, placed: Placed) -> Posterior:
    """The posterior with every class at the pose ``placed`` says, of as many classes."""
    return carried(found, torch.arange(len(placed.rotation), device=found.label.device), placed.rotation, placed.shift)


def still(count: int, device: torch.device) -> Placed:
    """Poses of ``count`` classes that change nothing."""
    return Placed(so3.identity(count, device=device).clone(), torch.zeros(count, 3, device=device))


def onto_references(search: Search, posterior: Posterior, stage: Stage) -> Posterior:
    """The posterior with every class that shows a reference turned and moved, as a whole, into the reference's frame.

    Classes drift from it a little while they are searched, for it is only what they start from. Poses that start
    from the input's keep to the frame of these.
    """
    if search.references is None or search.anchors is not None or "rotation" not in search.transforms:
        return posterior
    classes = posterior.class_score.shape[1]
    data = search.data(stage.limit)
    averages = search.average(data, posterior, classes).volumes
    how = search.alignment(data, stage)
    if "translation" not in search.transforms:
        how = replace(how, free=how.free * torch.tensor([1.0, 1, 1, 0, 0, 0], device=how.free.device))
    fits = [_onto_reference(averages, volume, how) for volume in search.references.volumes]
    alike = torch.stack([likeness for _, likeness in fits], dim=1)
    placed = still(classes, averages.device)
    for k, j in zip(*best_pairs(alike), strict=True):
        placed.rotation[k], placed.shift[k] = fits[j][0].rotation[k], fits[j][0].shift[k]
    return laid(posterior, placed)


def _onto_reference(volumes: torch.Tensor, reference: torch.Tensor, how: Alignment) -> tuple[Placed, torch.Tensor]:
    """Poses that turn volumes (n, b, b, b) onto a reference, and how alike they are there, (n,).

    Near the reference's own frame, unless it is clearly another that fits.
    """
    close, far = (fit_onto(volumes, reference, one) for one in (replace(how, rotations=_near(how)), how))
    alike, elsewhere = (likeness_of(volumes, reference, placed, how) for placed in (close, far))
    other = elsewhere > alike + CLEARLY
    rotation = torch.where(other[:, None], far.rotation, close.rotation)
    shift = torch.where(other[:, None], far.shift, close.shift)
    return Placed(rotation, shift), torch.where(other, elsewhere, alike)


def _near(how: Alignment) -> torch.Tensor:
    """Rotations (r, 4) that may be tried around the frame of a reference."""
    none = so3.identity(device=how.rotations.device)
    if len(how.symmetry) > 1:
        return torch.cat([none[None], how.rotations[so3.angle(how.rotations) <= np.deg2rad(EXPECTED_WITHIN)]])
    return so3.local_grid(none, EXPECTED_STEP, EXPECTED_WITHIN)
