"""The pose of each particle on its class, refined continuously, with what the data say of its precision."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from napari_harmony.engine.search import Observations, Posterior, Templates
from napari_harmony.engine.steerable import unit
from napari_harmony.engine.work import Work

#: Newton steps; they converge in three or four from a grid pose.
STEPS = 6
#: Prior standard deviation of a particle's contrast about 1.
CONTRAST_SPREAD = 0.25


@dataclass(frozen=True)
class Refined:
    """Poses of n particles on their classes.

    Attributes
    ----------
    psi : (n,) radian; shift : (n, 2) pixels
    psi_spread : (n,) radian; shift_spread : (n,) pixels per axis: posterior standard deviations (Laplace)
    contrast : (n,) gain against the class
    score : (n,) normalised correlation with the posed class, -1 to 1
    gain : (n,) log likelihood against pure noise
    """

    psi: torch.Tensor
    shift: torch.Tensor
    psi_spread: torch.Tensor
    shift_spread: torch.Tensor
    contrast: torch.Tensor
    score: torch.Tensor
    gain: torch.Tensor


@dataclass(frozen=True)
class _Local:
    """Match of particles with their class, its slope and curvature in (psi, x, y)."""

    match: torch.Tensor
    slope: torch.Tensor
    curvature: torch.Tensor


def refine(
    data: Observations,
    templates: Templates,
    label: torch.Tensor,
    psi: torch.Tensor,
    shift: torch.Tensor,
    energy: torch.Tensor,
    sigma: float,
    *,
    free_contrast: bool = True,
    turn: bool = True,
    move: bool = True,
) -> Work[Refined]:
    """Newton ascent of the posterior from the poses given.

    Parameters
    ----------
    label, psi, shift : (n,), (n,), (n, 2) class and starting pose
    energy : (n,) squared norm of each particle on the band, for the score
    sigma : pixels, prior standard deviation of the shift per axis
    free_contrast, turn, move : which of contrast, rotation and translation may vary
    """
    parts = []
    batches = torch.arange(len(data), device=label.device).split(512)
    mask = torch.tensor([turn, move, move], device=label.device, dtype=torch.float32)
    for i, rows in enumerate(batches):
        start = torch.cat([psi[rows, None], shift[rows]], dim=1)
        parts.append(
            _refine_batch(data.subset(rows), templates, label[rows], start, energy[rows], sigma, mask, free_contrast)
        )
        yield (i + 1) / len(batches)
    names = Refined.__dataclass_fields__
    return Refined(*(torch.cat([getattr(p, name) for p in parts]) for name in names))


def _refine_batch(
    data: Observations,
    templates: Templates,
    label: torch.Tensor,
    start: torch.Tensor,
    energy: torch.Tensor,
    sigma: float,
    mask: torch.Tensor,
    free_contrast: bool,
) -> Refined:
    coefficients = templates.coefficients[label]
    norm = (data.ctf_power * data.basis.radial_power(coefficients)).sum(1)
    pose, prior = start.clone(), torch.tensor([0.0, 1.0, 1.0], device=start.device) / sigma**2
    damping = torch.full((len(data),), 1e-2, device=start.device)
    local = _match(data, coefficients, pose)
    contrast = _contrast(local.match, norm, free_contrast)
    value = _value(local, contrast, pose, prior)
    for _ in range(STEPS):
        slope = (contrast[:, None] * local.slope - prior * pose) * mask
        hessian = contrast[:, None, None] * local.curvature - torch.diag_embed(prior.expand_as(pose))
        step = _newton_step(slope, hessian, damping, mask)
        trial = pose + step
        there = _match(data, coefficients, trial)
        new = _value(there, contrast, trial, prior)
        better = new > value
        pose = torch.where(better[:, None], trial, pose)
        value = torch.where(better, new, value)
        local = _Local(
            torch.where(better, there.match, local.match),
            torch.where(better[:, None], there.slope, local.slope),
            torch.where(better[:, None, None], there.curvature, local.curvature),
        )
        damping = torch.where(better, damping * 0.2, damping * 10)
        contrast = _contrast(local.match, norm, free_contrast)
        value = _value(local, contrast, pose, prior)
    precision = -(contrast[:, None, None] * local.curvature) + torch.diag_embed(prior.expand_as(pose))
    spread = _spreads(precision)
    score = local.match / (norm * energy).clamp_min(1e-12).sqrt()
    gain = contrast * local.match - 0.5 * contrast**2 * norm
    return Refined(pose[:, 0], pose[:, 1:], spread[:, 0], spread[:, 1:].mean(1), contrast, score.clamp(-1, 1), gain)


def _contrast(match: torch.Tensor, norm: torch.Tensor, free: bool) -> torch.Tensor:
    """Posterior mean of the gain: least squares, drawn towards 1."""
    if not free:
        return torch.ones_like(match)
    weight = 1.0 / CONTRAST_SPREAD**2
    return ((match + weight) / (norm + weight)).clamp(0.2, 5.0)


def _value(local: _Local, contrast: torch.Tensor, pose: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
    return contrast * local.match - 0.5 * (prior * pose**2).sum(1)


def _newton_step(slope: torch.Tensor, hessian: torch.Tensor, damping: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Damped step (n, 3), never longer than 0.2 radian and 2 pixels."""
    scale = hessian.diagonal(dim1=1, dim2=2).abs().clamp_min(1e-6)
    # Where the surface is not concave, bend it until it is: damping relative to the diagonal's own scale.
    lowest = torch.linalg.eigvalsh(-hessian / (scale[:, :, None] * scale[:, None, :]).sqrt())[:, 0]
    lift = damping + (0.05 - lowest).clamp_min(0)
    system = -hessian + lift[:, None, None] * torch.diag_embed(scale)
    frozen = torch.diag_embed(1 - mask)
    system = system * (mask[:, None] * mask[None, :]) + frozen
    step = torch.linalg.solve(system, slope[..., None])[..., 0] * mask
    longest = torch.tensor([0.2, 2.0, 2.0], device=slope.device)
    return step * (longest / step.abs().clamp_min(1e-9)).amin(dim=1, keepdim=True).clamp_max(1.0)


def _spreads(precision: torch.Tensor) -> torch.Tensor:
    """Standard deviations (n, 3) of a Gaussian posterior; those of a flat one are bounded by ignorance."""
    lowest = torch.linalg.eigvalsh(precision)[:, :1]
    lift = (1e-3 - lowest).clamp_min(0)
    covariance = torch.linalg.inv(precision + torch.diag_embed(lift.expand(-1, 3)))
    variance = covariance.diagonal(dim1=1, dim2=2).clamp_min(0)
    # A uniform angle has a standard deviation of 104 degrees.
    return torch.minimum(variance.sqrt(), torch.tensor([1.8138, 1e3, 1e3], device=precision.device))


def _match(data: Observations, coefficients: torch.Tensor, pose: torch.Tensor) -> _Local:
    """Correlation of each particle with its posed class and its derivatives."""
    basis, band = data.basis, data.basis.band
    order = basis.order
    c = basis.to_complex(basis.rotate(coefficients, -pose[:, 0]))
    levels = [c, 1j * order * c, -(order**2) * c]
    model, turned, twice = (basis.synthesise(basis.to_real(x)) for x in levels)
    wave = 2 * torch.pi / data.box * torch.stack([band.fx, band.fy])
    phase = -(pose[:, 1:] @ wave)
    moved = data.matched * unit(phase)

    def inner(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return 2 * (a.conj() * b).real.sum(-1)

    by_axis = [moved * (-1j * w) for w in wave]
    slope = torch.stack([inner(turned, moved), *(inner(model, d) for d in by_axis)], dim=1)
    curvature = pose.new_zeros(len(pose), 3, 3)
    curvature[:, 0, 0] = inner(twice, moved)
    for i, d in enumerate(by_axis, 1):
        curvature[:, 0, i] = curvature[:, i, 0] = inner(turned, d)
        for j, w in enumerate(wave, 1):
            curvature[:, i, j] = inner(model, d * (-1j * w))
    return _Local(inner(model, moved), slope, curvature)


def with_poses(posterior: Posterior, refined: Refined) -> Posterior:
    """The best entry of each particle at its refined pose."""
    best = posterior.best()
    return replace(best, psi=refined.psi, shift=refined.shift, weight=torch.ones_like(best.weight))
