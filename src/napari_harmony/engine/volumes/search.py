"""Posterior search over content x rotation x shift in 3D: a mixture of posed volumes under a missing wedge.

The expectation step scores every particle against turned templates as real matrix products, over all of SO(3) or in
the neighbourhood of poses found before; the maximisation step inserts the particles' samples into the templates'
oversampled transforms (maximum a posteriori: Scheres 2012) and divides by what covers each voxel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from napari_harmony.engine.work import Work
from napari_harmony.transforms import so3
from napari_harmony.transforms.spectra import (
    SPREAD,
    Band,
    add_mates,
    grid_edge,
    insert,
    spectra_of,
    turned_points,
    volumes_of,
)

#: Posterior entries below this fraction of a particle's best are dropped, and of the others so many kept.
NEGLIGIBLE, MOST = 1e-2, 8
#: Scores held at a time.
BUDGET = 12_000_000


@dataclass(frozen=True)
class Observations:
    """Whitened particles on a band.

    Attributes
    ----------
    matched : (n, m) complex samples times their coverage
    power : (n or 1, m) squared coverage over the noise; one row where all particles share it
    band : where they are sampled
    """

    matched: torch.Tensor
    power: torch.Tensor
    band: Band

    def __len__(self) -> int:
        return len(self.matched)

    def subset(self, rows: torch.Tensor | slice) -> Observations:
        """Some of the particles; consecutive ones are not copied."""
        return replace(self, matched=self.matched[rows], power=self.power_of(rows))

    def power_of(self, rows: torch.Tensor | slice) -> torch.Tensor:
        """Power of some particles, (len(rows), m), or the one row (1, m) that all share."""
        return self.power if len(self.power) == 1 else self.power[rows]

    def within(self, limit: float) -> Observations:
        """On a smaller band."""
        kept = self.band.within(limit)
        band = replace(self.band, limit=limit, index=self.band.index[kept], frequency=self.band.frequency[kept])
        return Observations(self.matched[:, kept], self.power[:, kept], band)

    def moved(self, rows: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """Samples (..., m) of particles ``rows`` moved by ``shift`` (..., 3) voxels (x, y, z)."""
        turn = shift @ (self.band.frequency.T * (-2 * torch.pi / self.band.box))
        return self.matched[rows] * torch.polar(torch.ones_like(turn), turn)


@dataclass(frozen=True)
class Posterior:
    """The poses and classes of each particle that weigh anything, one row per entry, best first within a particle.

    Attributes
    ----------
    particle, label : (e,) indices
    rotation : (e, 4) quaternions that turn the particle onto its class; shift : (e, 3) voxels that centre it
    weight : (e,) sums to one over each particle
    log_evidence : (n,) log likelihood against pure noise, poses and classes summed out
    class_score : (n, k) log likelihood at the best pose of each class
    """

    particle: torch.Tensor
    label: torch.Tensor
    rotation: torch.Tensor
    shift: torch.Tensor
    weight: torch.Tensor
    log_evidence: torch.Tensor
    class_score: torch.Tensor

    def __len__(self) -> int:
        return len(self.log_evidence)

    def entries(self, kept: torch.Tensor) -> Posterior:
        """Only some of the entries."""
        return replace(
            self,
            particle=self.particle[kept],
            label=self.label[kept],
            rotation=self.rotation[kept],
            shift=self.shift[kept],
            weight=self.weight[kept],
        )

    def best(self) -> Posterior:
        """The best entry of each particle alone, in particle order."""
        order = torch.argsort(self.weight, descending=True, stable=True)
        order = order[torch.argsort(self.particle[order], stable=True)]
        count = torch.bincount(self.particle, minlength=len(self))
        return self.entries(order[count.cumsum(0) - count])


def with_poses(posterior: Posterior, rotation: torch.Tensor, shift: torch.Tensor) -> Posterior:
    """The best entry of each particle, at another pose."""
    best = posterior.best()
    return replace(best, rotation=rotation, shift=shift, weight=torch.ones_like(best.weight))


@dataclass(frozen=True)
class Templates:
    """Class volumes (k, b, b, b), whitened and masked, and the log of the share of particles of each, (k,)."""

    volumes: torch.Tensor
    log_share: torch.Tensor

    def __len__(self) -> int:
        return len(self.volumes)

    def only(self, labels: list[int] | torch.Tensor) -> Templates:
        """Some of them."""
        return Templates(self.volumes[labels], self.log_share[labels])


@dataclass(frozen=True)
class Shifts:
    """Shifts that are tried, (s, 3) voxels about a centre per particle, and the prior's spread per axis."""

    offset: torch.Tensor
    sigma: float

    def prior(self, shift: torch.Tensor) -> torch.Tensor:
        """Log prior (...,) of shifts (..., 3)."""
        return -0.5 * (shift**2).sum(-1) / self.sigma**2


def shift_ball(reach: float, step: float, sigma: float, device: torch.device | str = "cpu") -> Shifts:
    """Shifts on a cubic lattice within ``reach`` voxels."""
    ticks = torch.arange(-int(reach / step + 1e-6), int(reach / step + 1e-6) + 1, device=device) * step
    lattice = torch.cartesian_prod(ticks, ticks, ticks).float().reshape(-1, 3)
    return Shifts(lattice[lattice.norm(dim=1) <= reach + 1e-6], sigma)


def expect_everywhere(
    data: Observations, templates: Templates, rotations: torch.Tensor, shifts: Shifts, centre: torch.Tensor
) -> Work[Posterior]:
    """Posterior of every particle over all classes, all ``rotations`` (r, 4) and all shifts about ``centre`` (n, 3)."""
    spectra = spectra_of(templates.volumes, data.band.limit)
    k, m = len(templates), data.matched.shape[1]
    best, every = _Best(len(data), k, centre.device), torch.arange(k, device=centre.device)
    block = max(1, min(len(rotations), 40_000_000 // (k * m)))
    blocks = rotations.split(block)
    for done, part in enumerate(blocks):
        turned = spectra.turned(part, data.band.frequency).reshape(-1, m)
        columns = torch.cat([turned.real, turned.imag], dim=1).T.contiguous()
        energy = data.power @ (turned.abs() ** 2).T
        rows_at_once = max(1, BUDGET // (len(shifts.offset) * len(turned)))
        for rows in torch.arange(len(data), device=centre.device).split(rows_at_once):
            shift = centre[rows, None] + shifts.offset
            y = data.moved(rows[:, None], shift).flatten(0, 1)
            score = 2 * (torch.cat([y.real, y.imag], dim=1) @ columns)
            score = score.reshape(len(rows), len(shifts.offset), k, len(part)) + shifts.prior(shift)[:, :, None, None]
            top, s = score.max(dim=1)
            own = energy if len(energy) == 1 else energy[rows]
            top = top - own.reshape(-1, k, len(part)) + templates.log_share[:, None]
            best.add(rows, every, top, part, shift, s)
            yield (done + min(1.0, float(rows[-1] + 1) / len(data))) / len(blocks)
    return best.posterior(templates.log_share, len(rotations))


class _Best:
    """The best entries of each particle so far, over blocks of rotations."""

    def __init__(self, particles: int, classes: int, device: torch.device) -> None:
        self.value = torch.full((particles, MOST), -torch.inf, device=device)
        self.label = torch.zeros(particles, MOST, dtype=torch.long, device=device)
        self.rotation = so3.identity(particles, MOST, device=device).clone()
        self.shift = torch.zeros(particles, MOST, 3, device=device)
        self.total = torch.full((particles,), -torch.inf, device=device)
        self.class_score = torch.full((particles, classes), -torch.inf, device=device)

    def add(
        self,
        rows: torch.Tensor,
        label: torch.Tensor,
        score: torch.Tensor,
        rotation: torch.Tensor,
        shift: torch.Tensor,
        s: torch.Tensor,
    ) -> None:
        """Scores of particles ``rows`` (n,), no particle twice.

        Parameters
        ----------
        label : (c,) or (n, c) classes that were tried
        score, s : (n, c, r), and the best of the shifts (n, s, 3) of each
        rotation : (r, 4) or (n, r, 4)
        """
        n, c, r = score.shape
        label = label.expand(n, c)
        peak = torch.full_like(self.class_score[rows], -torch.inf).scatter_(1, label, score.amax(dim=2))
        self.class_score[rows] = torch.maximum(self.class_score[rows], peak)
        self.total[rows] = torch.logaddexp(self.total[rows], score.flatten(1).logsumexp(dim=1))
        value, place = score.flatten(1).topk(min(MOST, c * r), dim=1)
        each = torch.arange(n, device=rows.device)[:, None]
        turned = rotation[place % r] if rotation.ndim == 2 else rotation[each, place % r]
        moved = shift[each, s.flatten(1).gather(1, place)]
        self.value[rows], order = torch.cat([self.value[rows], value], dim=1).topk(MOST, dim=1)
        self.label[rows] = torch.cat([self.label[rows], label.gather(1, place // r)], dim=1).gather(1, order)
        self.rotation[rows] = torch.cat([self.rotation[rows], turned], dim=1)[each, order]
        self.shift[rows] = torch.cat([self.shift[rows], moved], dim=1)[each, order]

    def posterior(self, log_share: torch.Tensor, poses: int) -> Posterior:
        """Those that weigh anything."""
        kept = self.value >= self.value[:, :1] + float(np.log(NEGLIGIBLE))
        weight = torch.exp(self.value - self.value[:, :1]) * kept
        weight = weight / weight.sum(1, keepdim=True)
        particle, entry = kept.nonzero().T
        return Posterior(
            particle,
            self.label[particle, entry],
            self.rotation[particle, entry],
            self.shift[particle, entry],
            weight[particle, entry],
            self.total - float(np.log(poses)),
            self.class_score - log_share,
        )


class Bound(Protocol):
    """Where rotations of particles may be."""

    def allowed(self, rows: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
        """Which rotations (e, ..., 4) particles ``rows`` (e,) may have, (e, ...) bool."""
        ...


def expect_near(
    data: Observations,
    templates: Templates,
    near: Posterior,
    turns: torch.Tensor,
    shifts: Shifts,
    *,
    of_reference: bool = False,
    bound: Bound | None = None,
) -> Work[Posterior]:
    """Posterior at classes and poses around those of ``near``.

    Each entry is looked at in its own class only, for classes share no frame. Classes that a particle has no entry in
    keep a score of minus infinity.

    Parameters
    ----------
    near : entries, of which at least one per particle lies within the bound
    turns : (t, 4) quaternions applied before an entry's rotation, or after it with ``of_reference``
    shifts : about the entry's shift
    bound : rotations beyond it weigh nothing
    """
    spectra, m = spectra_of(templates.volumes, data.band.limit), data.matched.shape[1]
    best = _Best(len(data), len(templates), data.matched.device)
    rank = _rank_within(near.particle, len(near))
    at_once = max(1, BUDGET // (len(turns) * max(m, len(shifts.offset))))
    # Entries of one class share a template; those of one particle must not be added at once.
    batches = [
        rows
        for level in range(int(rank.max()) + 1)
        for k in range(len(templates))
        for rows in ((rank == level) & (near.label == k)).nonzero()[:, 0].split(at_once)
    ]
    for done, e in enumerate(batches):
        if not len(e):
            continue
        rows, k = near.particle[e], near.label[e[:1]]
        centre = near.rotation[e, None]
        rotation = so3.multiply(turns, centre) if of_reference else so3.multiply(centre, turns)
        shift = near.shift[e, None] + shifts.offset
        points = turned_points(rotation.flatten(0, 1), data.band.frequency)
        model = spectra.only(k).at(points.reshape(-1, 3)).reshape(len(e), len(turns), m)
        energy = torch.einsum("ntm,nm->nt", model.abs() ** 2, data.power_of(rows).expand(len(e), -1))
        y = data.moved(rows[:, None], shift)
        score = 2 * _real_products(y, model) + shifts.prior(shift)[:, :, None]
        top, s = score.max(dim=1)
        top = top - energy + templates.log_share[k]
        if bound is not None:
            top = top.masked_fill(~bound.allowed(rows, rotation), -torch.inf)
        best.add(rows, k, top[:, None], rotation, shift, s[:, None])
        yield (done + 1) / len(batches)
    return best.posterior(templates.log_share, len(turns))


def _real_products(y: torch.Tensor, model: torch.Tensor) -> torch.Tensor:
    """Real parts of inner products (n, s, t) of (n, s, m) and (n, t, m) complex samples."""
    one, two = (torch.view_as_real(x.contiguous()).flatten(-2) for x in (y, model))
    return one @ two.transpose(1, 2)


def _rank_within(particle: torch.Tensor, particles: int) -> torch.Tensor:
    """How many entries of the same particle come before each; entries are sorted by particle."""
    count = torch.bincount(particle, minlength=particles)
    return torch.arange(len(particle), device=particle.device) - (count.cumsum(0) - count)[particle]


@dataclass(frozen=True)
class Sums:
    """What the particles say of each class.

    Attributes
    ----------
    grids : (3, k, g, g, g) oversampled: real and imaginary parts of the samples, and the weight behind them
    share : (k,) number of particles
    band : of the samples
    """

    grids: torch.Tensor
    share: torch.Tensor
    band: Band

    def __len__(self) -> int:
        return self.grids.shape[1]

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.grids + other.grids, self.share + other.share, self.band)

    def only(self, labels: list[int] | torch.Tensor) -> Sums:
        """Those of some classes."""
        return Sums(self.grids[:, labels], self.share[labels], self.band)


def accumulate(data: Observations, posterior: Posterior, classes: int, group: torch.Tensor | None = None) -> Sums:
    """Weighted sums over particles turned onto their class, and by every element of its symmetry ``group`` (h, 4)."""
    g, m = grid_edge(data.band.limit), data.matched.shape[1]
    total = torch.zeros(3, classes, g, g, g, device=data.matched.device)
    counted = posterior.entries(posterior.weight > 0)
    for part in torch.arange(len(counted.particle), device=total.device).split(max(1, 4_000_000 // m)):
        rows, weight = counted.particle[part], counted.weight[part, None]
        y = data.moved(rows, counted.shift[part]) * weight
        power = data.power_of(rows) * weight
        values = [y.real, y.imag, power.expand(y.shape)]
        for element in so3.identity(1, device=total.device) if group is None else group:
            points = turned_points(so3.multiply(element, counted.rotation[part]), data.band.frequency)
            insert(total, counted.label[part], points, values)
    share = torch.zeros(classes, device=total.device).index_add_(0, counted.label, counted.weight)
    return Sums(add_mates(total), share, data.band)


def maximise(sums: Sums, mask: torch.Tensor, variance: torch.Tensor | None = None) -> Templates:
    """Class volumes: averages filtered by what is known of the signal, inside ``mask`` (b, b, b)."""
    variance = signal_variance(sums) if variance is None else variance
    log_share = torch.log(sums.share.clamp_min(1e-3) / sums.share.sum().clamp_min(1e-3))
    return Templates(filtered(sums, variance) * mask, log_share)


def filtered(sums: Sums, variance: torch.Tensor) -> torch.Tensor:
    """Volumes (k, b, b, b): weighted sums over their weight and one over the signal's ``variance`` (shells,)."""
    prior = 1 / variance[grid_shells(sums)].clamp_min(1e-12)
    # Every independent sample of a particle is spread over PADDING^3 cells.
    normal = (sums.grids[2] + prior / 8).clamp_min(1e-12)
    inside = grid_radius(sums) <= sums.band.limit + 0.5
    ratio = torch.complex(sums.grids[0], sums.grids[1]) / normal * inside
    return volumes_of(ratio, sums.band.box)


def signal_variance(sums: Sums) -> torch.Tensor:
    """Prior variance (shells,) of a template's samples, pooled over classes: its power beyond that of the noise."""
    weight = sums.grids[2]
    power = sums.grids[0] ** 2 + sums.grids[1] ** 2
    # |average|^2 - SPREAD / weight, times the weight, summed and divided: cells of little weight count little.
    excess = torch.where(weight > 1e-3, power / weight.clamp_min(1e-3) - SPREAD, 0.0)
    shell = grid_shells(sums).flatten()
    count = int(shell.max()) + 1
    above, below = (
        torch.zeros(count, device=weight.device).index_add_(0, shell, x.sum(0).flatten()) for x in (excess, weight)
    )
    variance = above / below.clamp_min(1e-6)
    return variance.clamp_min(1e-4 * float(variance.max().clamp_min(1e-6)))


def grid_radius(sums: Sums) -> torch.Tensor:
    """(g, g, g) cycles per box of each cell of an oversampled grid."""
    g = sums.grids.shape[-1]
    axis = (torch.arange(g, device=sums.grids.device) - g // 2) / 2
    return (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2).sqrt()


def grid_shells(sums: Sums) -> torch.Tensor:
    """(g, g, g) shell of each cell, those beyond the band counted with the last."""
    return grid_radius(sums).round().long().clamp_max(round(sums.band.limit))
