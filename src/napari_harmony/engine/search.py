"""Posterior search over content class x rotation x shift: one real matrix product per iteration.

A mixture of posed class templates under the CTF and white noise (maximum a posteriori: Scheres 2012), its expectation
step exhaustive over a grid in a steerable basis, its maximisation step a Wiener-filtered average in the same basis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from napari_harmony.engine.steerable import SteerableBasis
from napari_harmony.engine.work import Work

#: Posterior entries below this fraction of a particle's best are dropped.
NEGLIGIBLE = 1e-2


@dataclass(frozen=True)
class Observations:
    """Whitened particles as the search sees them on one band.

    Attributes
    ----------
    matched : (n, f) complex samples times their CTF
    ctf_power : (n, nodes) squared CTF, averaged over azimuth, at the radial nodes of the basis
    basis : the steerable basis of this band
    box : edge of the images in pixels (a shift of one pixel is a phase of 2 pi f / box)
    """

    matched: torch.Tensor
    ctf_power: torch.Tensor
    basis: SteerableBasis
    box: int

    def __len__(self) -> int:
        return len(self.matched)

    def subset(self, rows: torch.Tensor) -> Observations:
        """Some of the particles."""
        return replace(self, matched=self.matched[rows], ctf_power=self.ctf_power[rows])

    def coefficients(self, rows: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """Coefficients (..., size) of particles moved by ``shift`` (..., 2) pixels (x, y)."""
        band = self.basis.band
        turn = -2 * torch.pi / self.box * (shift[..., :1] * band.fx + shift[..., 1:] * band.fy)
        return self.basis.analyse(self.matched[rows] * torch.polar(torch.ones_like(turn), turn))


@dataclass(frozen=True)
class Posterior:
    """The weights that matter of each particle's posterior over class and pose, one row per entry.

    Attributes
    ----------
    particle, label : (e,) indices
    psi : (e,) radian, turns the particle onto its class; shift : (e, 2) pixels, centres the particle
    weight : (e,) sums to one over each particle
    log_evidence : (n,) log likelihood of each particle against pure noise, poses and classes summed out
    """

    particle: torch.Tensor
    label: torch.Tensor
    psi: torch.Tensor
    shift: torch.Tensor
    weight: torch.Tensor
    log_evidence: torch.Tensor

    def best(self) -> Posterior:
        """The best entry of each particle alone, in particle order."""
        order = torch.argsort(self.weight, stable=True)
        last = torch.zeros(len(self.log_evidence), dtype=torch.long, device=order.device)
        last[self.particle[order]] = order
        return Posterior(
            self.particle[last], self.label[last], self.psi[last], self.shift[last], self.weight[last], self.log_evidence
        )

    def class_weights(self, classes: int) -> torch.Tensor:
        """(n, classes) posterior of the class of each particle."""
        table = torch.zeros(len(self.log_evidence), classes, device=self.weight.device)
        table.index_put_((self.particle, self.label), self.weight, accumulate=True)
        return table


@dataclass(frozen=True)
class Templates:
    """Class templates: (k, size) coefficients, and the log of the share of particles that each holds, (k,)."""

    coefficients: torch.Tensor
    log_share: torch.Tensor

    def __len__(self) -> int:
        return len(self.coefficients)


@dataclass(frozen=True)
class Grid:
    """Poses that are scored.

    Attributes
    ----------
    psi : (r,) radian
    shift : (s, 2) pixels about a centre given per particle
    sigma : pixels, standard deviation of the Gaussian prior of the shift, per axis
    """

    psi: torch.Tensor
    shift: torch.Tensor
    sigma: float


@dataclass(frozen=True)
class Arithmetic:
    """How scores are computed: the number type of the matrix product, and how many scores are held at a time."""

    kind: torch.dtype = torch.float32
    budget: int = 12_000_000


def pose_grid(rotations: int, reach: float, step: float, sigma: float, device: torch.device | str = "cpu") -> Grid:
    """Rotations uniform on the circle, shifts on a square lattice within ``reach`` pixels."""
    psi = torch.arange(rotations, device=device) * (2 * torch.pi / rotations)
    ticks = torch.arange(-int(reach / step), int(reach / step) + 1, device=device) * step
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    shift = torch.stack([x.flatten(), y.flatten()], dim=1).float()
    return Grid(psi, shift[shift.norm(dim=1) <= reach + 1e-6], sigma)


def expect(
    data: Observations, templates: Templates, grid: Grid, centre: torch.Tensor, arithmetic: Arithmetic
) -> Work[Posterior]:
    """Posterior of every particle over all classes and all poses of the grid.

    ``centre`` (n, 2) pixels says where each particle's shift grid is centred. Yields the fraction done after each
    batch of particles.
    """
    basis, count = data.basis, len(grid.psi)
    rotated = basis.rotate(templates.coefficients[:, None].expand(-1, count, -1), -grid.psi[None])
    rotated = rotated.reshape(-1, basis.size).T.contiguous().to(arithmetic.kind)
    norm = data.ctf_power @ basis.radial_power(templates.coefficients).T
    bias = templates.log_share - 0.5 * norm
    chunk = max(1, arithmetic.budget // (len(grid.shift) * rotated.shape[1]))
    parts = []
    for start in range(0, len(data), chunk):
        rows = torch.arange(start, min(start + chunk, len(data)), device=centre.device)
        shift = centre[rows, None] + grid.shift
        y = data.coefficients(rows[:, None], shift).reshape(-1, basis.size).to(arithmetic.kind)
        score = (y @ rotated).reshape(len(rows), len(grid.shift), len(templates), count)
        prior = -0.5 * (shift**2).sum(-1) / grid.sigma**2
        parts.append(_select(score, bias[rows], prior, rows, shift, grid))
        yield min(1.0, (start + chunk) / len(data))
    return _concatenate(parts)


def _select(
    score: torch.Tensor, bias: torch.Tensor, prior: torch.Tensor, rows: torch.Tensor, shift: torch.Tensor, grid: Grid
) -> Posterior:
    """Keep the entries of (n, shifts, classes, rotations) scores that weigh anything."""
    n = len(rows)
    best = score.amax(dim=3).float() + bias[:, None] + prior[..., None]
    top = best.flatten(1).amax(dim=1)
    floor = top + float(np.log(NEGLIGIBLE))
    near = (best >= floor[:, None, None]).nonzero()
    i, s, k = near.T
    values = score[i, s, k].float() + (bias[i, k] + prior[i, s])[:, None]
    e, r = (values >= floor[i, None]).nonzero().T
    particle = i[e]
    weight = torch.exp(values[e, r] - top[particle])
    total = torch.zeros(n, device=score.device).index_add_(0, particle, weight)
    evidence = top + torch.log(total) - float(np.log(len(grid.psi) * len(grid.shift)))
    return Posterior(
        rows[particle], k[e], grid.psi[r], shift[particle, s[e]], weight / total[particle], evidence
    )


def _concatenate(parts: list[Posterior]) -> Posterior:
    names = ("particle", "label", "psi", "shift", "weight", "log_evidence")
    return Posterior(*(torch.cat([getattr(p, name) for p in parts]) for name in names))


def accumulate(data: Observations, posterior: Posterior, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted sums over particles turned onto their class: (k, size) of data, (k, nodes) of CTF power."""
    basis = data.basis
    total = torch.zeros(classes, basis.size, device=data.matched.device)
    for part in torch.arange(len(posterior.particle), device=total.device).split(8192):
        y = data.coefficients(posterior.particle[part], posterior.shift[part])
        y = basis.rotate(y, posterior.psi[part]) * posterior.weight[part, None]
        total.index_add_(0, posterior.label[part], y)
    power = posterior.class_weights(classes).T @ data.ctf_power
    return total, power


def maximise(basis: SteerableBasis, total: torch.Tensor, power: torch.Tensor, share: torch.Tensor) -> Templates:
    """Wiener-filtered class templates from the sums of :func:`accumulate`; ``share`` (k,) particles in each class."""
    variance = _signal_variance(basis, total, power)
    c = basis.to_complex(total)
    solved = torch.zeros_like(c)
    for m in range(int(basis.order.max()) + 1):
        of_m = basis.order == m
        radial = basis.radial[of_m]
        normal = torch.einsum("aq,kq,bq->kab", radial, power, radial) + torch.diag(1.0 / variance[of_m])
        solved[:, of_m] = torch.linalg.solve(normal.to(c.dtype), c[:, of_m])
    log_share = torch.log(share.clamp_min(1e-3) / share.sum())
    return Templates(basis.to_real(solved), log_share)


def _signal_variance(basis: SteerableBasis, total: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
    """Prior variance of each complex coefficient, pooled over classes and over coefficients of like frequency."""
    density = power @ (basis.radial**2).T
    estimate = basis.to_complex(total).abs() ** 2 / density.clamp_min(1e-6) ** 2
    degrees = torch.where(basis.order == 0, 1.0, 2.0)
    excess = estimate - degrees / density.clamp_min(1e-6)
    weight = density / degrees
    pooled = (weight * excess).sum(0) / weight.sum(0)
    frequency = (basis.radial**2 * basis.node_frequency).sum(1)
    shell = (frequency.round().long()).clamp_min(0)
    sums = torch.zeros(int(shell.max()) + 1, device=total.device).index_add_(0, shell, pooled)
    counts = torch.zeros_like(sums).index_add_(0, shell, degrees)
    floor = 1e-3 / density.sum(0).max()
    return (sums / counts.clamp_min(1))[shell].clamp_min(floor)
