"""The pose of each particle on its class, refined continuously on SO(3) and in space, and how sure it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TypeVar

import torch

from napari_harmony.engine.volumes.search import Bound, Observations, Templates
from napari_harmony.engine.work import Work
from napari_harmony.transforms import so3
from napari_harmony.transforms.spectra import Spectra, spectra_of

#: Damped Gauss-Newton steps.
STEPS = 6
#: Radian by which a class is turned, and logarithm by which it is magnified, to see how its samples change.
NUDGE, STRETCH = 0.02, 0.01
#: Prior standard deviation of a particle's contrast about 1.
CONTRAST_SPREAD = 0.25
#: Prior standard deviation of the logarithm of a particle's scale.
SCALE_SPREAD = 0.05


@dataclass(frozen=True)
class Refined:
    """Poses of n particles on their classes.

    Attributes
    ----------
    rotation : (n, 4) quaternions; shift : (n, 3) voxels
    angle_spread : (n,) radian; shift_spread : (n,) voxels: posterior standard deviation per axis (Laplace)
    contrast : (n,) gain against the class
    score : (n,) normalised correlation with the posed class inside the wedge, -1 to 1
    scale : (n,) magnification against the class
    """

    rotation: torch.Tensor
    shift: torch.Tensor
    angle_spread: torch.Tensor
    shift_spread: torch.Tensor
    contrast: torch.Tensor
    score: torch.Tensor
    scale: torch.Tensor


@dataclass(frozen=True)
class _Pose:
    """Rotations (n, 4), shifts (n, 3) and logarithms of the scale (n,) of the particles of one class."""

    rotation: torch.Tensor
    shift: torch.Tensor
    log_scale: torch.Tensor

    def moved(self, step: torch.Tensor) -> _Pose:
        """A step (n, 7) further: three axes of rotation, three of shift, and the logarithm of the scale."""
        turned = so3.multiply(self.rotation, so3.from_rotation_vector(step[:, :3]))
        return _Pose(turned, self.shift + step[:, 3:6], self.log_scale + step[:, 6])


@dataclass(frozen=True)
class _State:
    """Particles of one class at their poses: gain of the fit, its slope and curvature (n, 7, 7)."""

    value: torch.Tensor
    slope: torch.Tensor
    curvature: torch.Tensor
    contrast: torch.Tensor
    match: torch.Tensor
    norm: torch.Tensor


Each = TypeVar("Each", _Pose, _State)


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
    free_scale: bool = False,
    bound: Bound | None = None,
) -> Work[Refined]:
    """Damped Gauss-Newton ascent of the posterior from the poses given.

    Parameters
    ----------
    label, rotation, shift : (n,), (n, 4), (n, 3) class and starting pose
    energy : (n,) squared norm of each particle on the band, for the score
    sigma : voxels, prior standard deviation of the shift per axis
    free : (6,) 1 for what may vary: three axes of rotation, three of shift
    free_contrast, free_scale : whether particles of a class may differ in grey value and in magnification
    bound : steps to rotations beyond it are not made
    """
    # What is magnified is looked up beyond the band.
    reach = min(1.15 * data.band.limit, data.band.box / 2 - 1) if free_scale else data.band.limit
    spectra = spectra_of(templates.volumes, max(reach, data.band.limit))
    n, device = len(data), label.device
    free = torch.cat([free, free.new_tensor([float(free_scale)])])
    out = Refined(rotation.clone(), shift.clone(), *(torch.zeros(n, device=device) for _ in range(5)))
    batches = [b for k in label.unique() for b in (label == k).nonzero()[:, 0].split(256)]
    for done, rows in enumerate(batches):
        one = spectra.only(label[rows[:1]])
        within = None if bound is None else partial(bound.allowed, rows)
        turned = _refine_batch(data.subset(rows), one, rotation[rows], shift[rows], sigma, free, free_contrast, within)
        for name, values in zip(Refined.__dataclass_fields__, turned, strict=True):
            getattr(out, name)[rows] = values
        yield (done + 1) / len(batches)
    norm = energy.clamp_min(1e-12).sqrt()
    return replace(out, score=(out.score / norm).clamp(-1, 1))


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
    precision = torch.tensor([0.0] * 3 + [sigma**-2] * 3 + [SCALE_SPREAD**-2], device=shift.device)
    damping = torch.full((len(data),), 1e-3, device=shift.device)
    pose = _Pose(rotation, shift, torch.zeros_like(damping))
    state = _look(data, spectra, pose, precision, free_contrast)
    for _ in range(STEPS):
        further = pose.moved(_step(state, damping, free))
        there = _look(data, spectra, further, precision, free_contrast)
        better = there.value > state.value
        if within is not None:
            better &= within(further.rotation)
        pose = _chosen(better, further, pose)
        state = _chosen(better, there, state)
        damping = torch.where(better, damping * 0.2, damping * 10)
    spread = _spreads(state.curvature)
    score = state.match / state.norm.clamp_min(1e-12).sqrt()
    spreads = spread[:, :3].mean(1), spread[:, 3:6].mean(1)
    return so3.normalise(pose.rotation), pose.shift, *spreads, state.contrast, score, pose.log_scale.exp()


def _chosen(better: torch.Tensor, new: Each, old: Each) -> Each:
    """Fields of ``new`` for the particles that are better there, else of ``old``."""

    def either(name: str) -> torch.Tensor:
        one, other = getattr(new, name), getattr(old, name)
        return torch.where(better.reshape(-1, *(1,) * (one.ndim - 1)), one, other)

    return type(new)(*(either(f.name) for f in fields(new)))


def _look(data: Observations, spectra: Spectra, pose: _Pose, precision: torch.Tensor, free_contrast: bool) -> _State:
    """Fit of the particles to one class at these poses; ``precision`` (7,) of the prior on shift and scale."""
    n, frequency = len(data), data.band.frequency
    power = data.power.expand(n, -1)
    model = _models(spectra, pose, frequency)
    seen = data.moved(torch.arange(n, device=power.device), pose.shift)
    wave = (2j * torch.pi / data.band.box) * frequency.T
    by_turn = (model[:, 1:4] - model[:, 4:7]) / (2 * NUDGE)
    by_scale = (model[:, 7:8] - model[:, 8:]) / (2 * STRETCH)
    slopes = torch.cat([by_turn, model[:, :1] * wave, by_scale], dim=1)
    match = 2 * (model[:, 0].conj() * seen).real.sum(1)
    norm = 2 * (power * model[:, 0].abs() ** 2).sum(1)
    contrast = _contrast(match, norm, free_contrast)
    rest = seen - contrast[:, None] * power * model[:, 0]
    slope = 2 * contrast[:, None] * (slopes.conj() * rest[:, None]).real.sum(-1)
    weighted = slopes * power[:, None]
    curvature = 2 * (contrast**2)[:, None, None] * torch.einsum("nam,nbm->nab", slopes.conj(), weighted).real
    known = torch.cat([torch.zeros_like(pose.shift), pose.shift, pose.log_scale[:, None]], dim=1)
    value = contrast * match - 0.5 * contrast**2 * norm - 0.5 * (precision * known**2).sum(1)
    curvature = curvature + torch.diag_embed(precision.expand_as(known))
    return _State(value, slope - precision * known, curvature, contrast, match, norm)


def _models(spectra: Spectra, pose: _Pose, frequency: torch.Tensor) -> torch.Tensor:
    """Samples (n, 9, m) of the class at the poses, turned a little either way, and a little larger and smaller.

    What is magnified by s has its samples at frequencies s times as high, s^3 times as large.
    """
    nudges = NUDGE * torch.cat([torch.zeros(1, 3), torch.eye(3), -torch.eye(3), torch.zeros(2, 3)]).to(frequency)
    stretch = STRETCH * frequency.new_tensor([0.0] * 7 + [1.0, -1.0])
    scale = (pose.log_scale[:, None] + stretch).exp()
    turned = so3.multiply(pose.rotation[:, None], so3.from_rotation_vector(nudges))
    points = torch.einsum("nrij,mj->nrmi", so3.to_matrix(turned) * scale[..., None, None], frequency)
    samples = spectra.at(points.reshape(-1, 3)).reshape(*scale.shape, -1)
    return samples * scale[..., None] ** 3


def _contrast(match: torch.Tensor, norm: torch.Tensor, free: bool) -> torch.Tensor:
    """Posterior mean of the gain: least squares, drawn towards 1."""
    if not free:
        return torch.ones_like(match)
    weight = 1.0 / CONTRAST_SPREAD**2
    return ((match + weight) / (norm + weight)).clamp(0.2, 5.0)


def _step(state: _State, damping: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
    """Damped step (n, 7), never longer than 0.2 radian, 1.5 voxels and 5 % of the scale."""
    scale = state.curvature.diagonal(dim1=1, dim2=2).clamp_min(1e-6)
    system = state.curvature + torch.diag_embed(scale * damping[:, None] + 1e-6)
    system = system * (free[:, None] * free[None, :]) + torch.diag_embed(1 - free)
    step = torch.linalg.solve(system, (state.slope * free)[..., None])[..., 0] * free
    longest = torch.tensor([0.2, 0.2, 0.2, 1.5, 1.5, 1.5, 0.05], device=step.device)
    return step * (longest / step.abs().clamp_min(1e-9)).amin(dim=1, keepdim=True).clamp_max(1.0)


def _spreads(precision: torch.Tensor) -> torch.Tensor:
    """Standard deviations (n, 7); those of a flat posterior are bounded by ignorance."""
    lift = 1e-4 * torch.eye(7, device=precision.device)
    variance = torch.linalg.inv(precision + lift).diagonal(dim1=1, dim2=2).clamp_min(0)
    # Per axis a uniform rotation is known to no better than 1.8 radian.
    bound = torch.tensor([1.8138] * 3 + [1e3] * 4, device=precision.device)
    return torch.minimum(variance.sqrt(), bound)
