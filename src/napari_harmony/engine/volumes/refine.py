"""The pose of each particle on its class, refined continuously on SO(3) and in space, and how sure it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from napari_harmony.engine.volumes.search import Bound, Observations, Templates
from napari_harmony.engine.work import Work
from napari_harmony.transforms import so3
from napari_harmony.transforms.spectra import Spectra, spectra_of

#: Damped Gauss-Newton steps.
STEPS = 6
#: Radian by which a class is turned to see how its samples change.
NUDGE = 0.02
#: Prior standard deviation of a particle's contrast about 1.
CONTRAST_SPREAD = 0.25


@dataclass(frozen=True)
class Refined:
    """Poses of n particles on their classes.

    Attributes
    ----------
    rotation : (n, 4) quaternions; shift : (n, 3) voxels
    angle_spread : (n,) radian; shift_spread : (n,) voxels: posterior standard deviation per axis (Laplace)
    contrast : (n,) gain against the class
    score : (n,) normalised correlation with the posed class inside the wedge, -1 to 1
    """

    rotation: torch.Tensor
    shift: torch.Tensor
    angle_spread: torch.Tensor
    shift_spread: torch.Tensor
    contrast: torch.Tensor
    score: torch.Tensor


@dataclass(frozen=True)
class _State:
    """Particles of one class at their poses: gain of the fit, its slope and curvature."""

    value: torch.Tensor
    slope: torch.Tensor
    curvature: torch.Tensor
    contrast: torch.Tensor
    match: torch.Tensor
    norm: torch.Tensor


def refine(
    data: Observations,
    templates: Templates,
    label: torch.Tensor,
    rotation: torch.Tensor,
    shift: torch.Tensor,
    energy: torch.Tensor,
    sigma: float,
    *,
    free: torch.Tensor,
    free_contrast: bool = True,
    bound: Bound | None = None,
) -> Work[Refined]:
    """Damped Gauss-Newton ascent of the posterior from the poses given.

    Parameters
    ----------
    label, rotation, shift : (n,), (n, 4), (n, 3) class and starting pose
    energy : (n,) squared norm of each particle on the band, for the score
    sigma : voxels, prior standard deviation of the shift per axis
    free : (6,) 1 for what may vary: three axes of rotation, three of shift
    bound : steps to rotations beyond it are not made
    """
    spectra = spectra_of(templates.volumes, data.band.limit)
    n, device = len(data), label.device
    out = Refined(rotation.clone(), shift.clone(), *(torch.zeros(n, device=device) for _ in range(4)))
    batches = [b for k in label.unique() for b in (label == k).nonzero()[:, 0].split(256)]
    for done, rows in enumerate(batches):
        one = spectra.only(label[rows[:1]])
        within = None if bound is None else partial(bound.allowed, rows)
        turned = _refine_batch(data.subset(rows), one, rotation[rows], shift[rows], sigma, free, free_contrast, within)
        for name, values in zip(Refined.__dataclass_fields__, turned, strict=True):
            getattr(out, name)[rows] = values
        yield (done + 1) / len(batches)
    norm = energy.clamp_min(1e-12).sqrt()
    return Refined(
        out.rotation, out.shift, out.angle_spread, out.shift_spread, out.contrast, (out.score / norm).clamp(-1, 1)
    )


def _refine_batch(
    data: Observations,
    spectra: Spectra,
    rotation: torch.Tensor,
    shift: torch.Tensor,
    sigma: float,
    free: torch.Tensor,
    free_contrast: bool,
    within: Callable[[torch.Tensor], torch.Tensor] | None,
) -> tuple[torch.Tensor, ...]:
    prior = torch.tensor([0.0, 0, 0, 1, 1, 1], device=shift.device) / sigma**2
    damping = torch.full((len(data),), 1e-3, device=shift.device)
    state = _look(data, spectra, rotation, shift, prior, free_contrast)
    for _ in range(STEPS):
        step = _step(state, damping, free)
        new_rotation = so3.multiply(rotation, so3.from_rotation_vector(step[:, :3]))
        new_shift = shift + step[:, 3:]
        there = _look(data, spectra, new_rotation, new_shift, prior, free_contrast)
        better = there.value > state.value
        if within is not None:
            better &= within(new_rotation)
        rotation = torch.where(better[:, None], new_rotation, rotation)
        shift = torch.where(better[:, None], new_shift, shift)
        state = _State(*(_chosen(better, getattr(there, f), getattr(state, f)) for f in _State.__dataclass_fields__))
        damping = torch.where(better, damping * 0.2, damping * 10)
    spread = _spreads(state.curvature)
    score = state.match / state.norm.clamp_min(1e-12).sqrt()
    return so3.normalise(rotation), shift, spread[:, :3].mean(1), spread[:, 3:].mean(1), state.contrast, score


def _chosen(better: torch.Tensor, new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    return torch.where(better.reshape(-1, *(1,) * (new.ndim - 1)), new, old)


def _look(
    data: Observations,
    spectra: Spectra,
    rotation: torch.Tensor,
    shift: torch.Tensor,
    prior: torch.Tensor,
    free_contrast: bool,
) -> _State:
    """Fit of the particles to one class at these poses."""
    n, frequency = len(data), data.band.frequency
    power = data.power.expand(n, -1)
    nudges = so3.from_rotation_vector(NUDGE * torch.cat([torch.zeros(1, 3), torch.eye(3), -torch.eye(3)]).to(shift))
    turned = so3.multiply(rotation[:, None], nudges)
    points = torch.einsum("nrij,mj->nrmi", so3.to_matrix(turned), frequency)
    model = spectra.at(points.reshape(-1, 3)).reshape(n, 7, -1)
    seen = data.moved(torch.arange(n, device=shift.device), shift)
    wave = (2j * torch.pi / data.band.box) * frequency.T
    by_turn = (model[:, 1:4] - model[:, 4:7]) / (2 * NUDGE)
    slopes = torch.cat([by_turn, model[:, :1] * wave], dim=1)
    match = 2 * (model[:, 0].conj() * seen).real.sum(1)
    norm = 2 * (power * model[:, 0].abs() ** 2).sum(1)
    contrast = _contrast(match, norm, free_contrast)
    rest = seen - contrast[:, None] * power * model[:, 0]
    slope = 2 * contrast[:, None] * (slopes.conj() * rest[:, None]).real.sum(-1)
    weighted = slopes * power[:, None]
    curvature = 2 * (contrast**2)[:, None, None] * torch.einsum("nam,nbm->nab", slopes.conj(), weighted).real
    pose = torch.cat([torch.zeros_like(shift), shift], dim=1)
    value = contrast * match - 0.5 * contrast**2 * norm - 0.5 * (prior * pose**2).sum(1)
    return _State(
        value, slope - prior * pose, curvature + torch.diag_embed(prior.expand_as(pose)), contrast, match, norm
    )


def _contrast(match: torch.Tensor, norm: torch.Tensor, free: bool) -> torch.Tensor:
    """Posterior mean of the gain: least squares, drawn towards 1."""
    if not free:
        return torch.ones_like(match)
    weight = 1.0 / CONTRAST_SPREAD**2
    return ((match + weight) / (norm + weight)).clamp(0.2, 5.0)


def _step(state: _State, damping: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
    """Damped step (n, 6), never longer than 0.2 radian and 1.5 voxels."""
    scale = state.curvature.diagonal(dim1=1, dim2=2).clamp_min(1e-6)
    system = state.curvature + torch.diag_embed(scale * damping[:, None] + 1e-6)
    system = system * (free[:, None] * free[None, :]) + torch.diag_embed(1 - free)
    step = torch.linalg.solve(system, (state.slope * free)[..., None])[..., 0] * free
    longest = torch.tensor([0.2, 0.2, 0.2, 1.5, 1.5, 1.5], device=step.device)
    return step * (longest / step.abs().clamp_min(1e-9)).amin(dim=1, keepdim=True).clamp_max(1.0)


def _spreads(precision: torch.Tensor) -> torch.Tensor:
    """Standard deviations (n, 6); those of a flat posterior are bounded by ignorance."""
    lift = 1e-4 * torch.eye(6, device=precision.device)
    variance = torch.linalg.inv(precision + lift).diagonal(dim1=1, dim2=2).clamp_min(0)
    # Per axis a uniform rotation is known to no better than 1.8 radian.
    bound = torch.tensor([1.8138] * 3 + [1e3] * 3, device=precision.device)
    return torch.minimum(variance.sqrt(), bound)
