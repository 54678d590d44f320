"""Posterior search over content class x rotation x shift: one real matrix product per iteration.

A mixture of posed class templates under the CTF and white noise (maximum a posteriori: Scheres 2012), its expectation
step exhaustive over a grid in a steerable basis, its maximisation step a Wiener-filtered average in the same basis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from napari_harmony.engine.memory import is_out_of_memory
from napari_harmony.engine.steerable import SteerableBasis
from napari_harmony.engine.work import Work, finish

#: Posterior entries below this fraction of a particle's best are dropped.
NEGLIGIBLE = 1e-2
#: About so many cells of class and shift are kept, and so many entries in all: a particle that fits everywhere says
#: nothing, however finely it is averaged.
MOST, MOST_ENTRIES = 10, 50
#: Posterior entries that are averaged at a time.
PORTION = 4096


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
        return self.basis.analyse(self.moved(rows, shift))

    def moved(self, rows: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """Samples (..., f) of particles moved by ``shift`` (..., 2) pixels (x, y)."""
        band = self.basis.band
        turn = -2 * torch.pi / self.box * (shift[..., :1] * band.fx + shift[..., 1:] * band.fy)
        return self.matched[rows] * torch.polar(torch.ones_like(turn), turn)


@dataclass(frozen=True)
class Posterior:
    """The weights that matter of each particle's posterior over class and pose, one row per entry.

    Attributes
    ----------
    particle, label : (e,) indices
    psi : (e,) radian, turns the particle onto its class; shift : (e, 2) pixels, centres the particle
    weight : (e,) sums to one over each particle
    log_evidence : (n,) log likelihood of each particle against pure noise, poses and classes summed out
    class_score : (n, classes) log likelihood at the best pose of each class, without the classes' shares
    """

    particle: torch.Tensor
    label: torch.Tensor
    psi: torch.Tensor
    shift: torch.Tensor
    weight: torch.Tensor
    log_evidence: torch.Tensor
    class_score: torch.Tensor

    def subset(self, rows: torch.Tensor) -> Posterior:
        """The posterior of some particles, numbered anew in the order of ``rows``."""
        place = torch.full((len(self.log_evidence),), -1, dtype=torch.long, device=rows.device)
        place[rows] = torch.arange(len(rows), device=rows.device)
        chosen = place[self.particle] >= 0
        return Posterior(
            place[self.particle[chosen]],
            self.label[chosen],
            self.psi[chosen],
            self.shift[chosen],
            self.weight[chosen],
            self.log_evidence[rows],
            self.class_score[rows],
        )

    def only(self, particles: torch.Tensor) -> Posterior:
        """Without the entries of particles where ``particles`` (n,) is False."""
        kept = particles[self.particle]
        return replace(
            self,
            particle=self.particle[kept],
            label=self.label[kept],
            psi=self.psi[kept],
            shift=self.shift[kept],
            weight=self.weight[kept],
        )

    def best(self) -> Posterior:
        """The best entry of each particle alone, in particle order; every particle must have one."""
        order = torch.argsort(self.weight, stable=True)
        order = order[torch.argsort(self.particle[order], stable=True)]
        # Not by assignment through repeated indices: which of them lands last is left open by torch.
        last = order[torch.bincount(self.particle, minlength=len(self.log_evidence)).cumsum(0) - 1]
        return Posterior(
            self.particle[last],
            self.label[last],
            self.psi[last],
            self.shift[last],
            self.weight[last],
            self.log_evidence,
            self.class_score,
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
    neighbours : (4, s) which shift lies one step to -x, +x, -y, +y; -1 for none
    """

    psi: torch.Tensor
    shift: torch.Tensor
    sigma: float
    neighbours: torch.Tensor


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
    shift = shift[shift.norm(dim=1) <= reach + 1e-6]
    return Grid(psi, shift, sigma, _neighbours((shift / step).round().long()))


def _neighbours(cells: torch.Tensor) -> torch.Tensor:
    """Index of the lattice neighbours (4, s) of integer cells (s, 2)."""
    steps = torch.tensor([[-1, 0], [1, 0], [0, -1], [0, 1]], device=cells.device)
    same = (cells[None, :, None] + steps[:, None, None] == cells[None, None]).all(-1)
    return torch.where(same.any(-1), same.float().argmax(-1), -1)


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
    parts: list[Posterior] = []
    start = 0
    while start < len(data):
        rows = torch.arange(start, min(start + chunk, len(data)), device=centre.device)
        try:
            parts.append(_score(data, rotated, bias, grid, centre, rows))
        except RuntimeError as error:
            if chunk == 1 or not is_out_of_memory(error):
                raise
            chunk = max(1, chunk // 2)
            continue
        start += chunk
        yield min(1.0, start / len(data))
    together = _concatenate(parts)
    return replace(together, class_score=together.class_score - templates.log_share)


def _score(
    data: Observations, rotated: torch.Tensor, bias: torch.Tensor, grid: Grid, centre: torch.Tensor, rows: torch.Tensor
) -> Posterior:
    """The posterior of some particles under the turned templates (size, k * r)."""
    shift = centre[rows, None] + grid.shift
    y = data.coefficients(rows[:, None], shift).reshape(-1, data.basis.size).to(rotated.dtype)
    score = (y @ rotated).reshape(len(rows), len(grid.shift), bias.shape[1], len(grid.psi))
    prior = -0.5 * (shift**2).sum(-1) / grid.sigma**2
    return _select(score, bias[rows], prior, rows, shift, grid)


def _select(
    score: torch.Tensor, bias: torch.Tensor, prior: torch.Tensor, rows: torch.Tensor, shift: torch.Tensor, grid: Grid
) -> Posterior:
    """Keep the entries of (n, shifts, classes, rotations) scores that weigh anything."""
    n = len(rows)
    best = score.amax(dim=3).float() + bias[:, None] + prior[..., None]
    top = best.flatten(1).amax(dim=1)
    floor = _raised(best, top + float(np.log(NEGLIGIBLE)))
    near = (best >= floor[:, None, None]).nonzero()
    i, s, k = near.T
    values = score[i, s, k].float() + (bias[i, k] + prior[i, s])[:, None]
    e, r = (values >= floor[i, None]).nonzero().T
    e, r = _largest(values[e, r], i[e], n, e, r)
    particle = i[e]
    weight = torch.exp(values[e, r] - top[particle])
    total = torch.zeros(n, device=score.device).index_add_(0, particle, weight)
    evidence = top + torch.log(total) - float(np.log(len(grid.psi) * len(grid.shift)))
    return Posterior(
        rows[particle],
        k[e],
        grid.psi[r],
        shift[particle, s[e]],
        weight / total[particle],
        evidence,
        _peaks(score, best, bias, grid),
    )


def _raised(best: torch.Tensor, floor: torch.Tensor) -> torch.Tensor:
    """The floor (n,) of each particle, raised where more than ``MOST`` cells of (n, shifts, classes) lie above it."""
    crowded = ((best >= floor[:, None, None]).flatten(1).sum(1) > MOST).nonzero()[:, 0]
    if len(crowded):
        floor = floor.clone()
        floor[crowded] = best[crowded].flatten(1).topk(MOST, dim=1).values[:, -1]
    return floor


def _largest(
    value: torch.Tensor, particle: torch.Tensor, particles: int, e: torch.Tensor, r: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Those of the entries (``e``, ``r``) that are among the ``MOST_ENTRIES`` of highest value of their particle."""
    count = torch.bincount(particle, minlength=particles)
    if int(count.max()) <= MOST_ENTRIES:
        return e, r
    order = value.argsort(descending=True, stable=True)
    order = order[particle[order].argsort(stable=True)]
    rank = torch.arange(len(order), device=order.device) - (count.cumsum(0) - count)[particle[order]]
    kept = order[rank < MOST_ENTRIES].sort().values
    return e[kept], r[kept]


def _peaks(score: torch.Tensor, best: torch.Tensor, bias: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Score (n, k) at the best pose of each class, between the grid's points: a parabola along psi, x and y.

    Without it two equal templates at different angles look better than one, since together they sample pose finer.
    """
    peak, s = best.max(dim=1)
    particle, label = torch.meshgrid(*(torch.arange(d, device=s.device) for d in peak.shape), indexing="ij")
    over_psi = score[particle, s, label].float()
    centre, r = over_psi.max(dim=-1)
    gain = torch.zeros_like(peak)
    count = over_psi.shape[-1]
    sides = [over_psi.gather(-1, ((r + d) % count)[..., None])[..., 0] for d in (-1, 1)]
    pairs = [(sides[0], sides[1], centre)]
    for low, high in ((grid.neighbours[0], grid.neighbours[1]), (grid.neighbours[2], grid.neighbours[3])):
        inside = (low[s] >= 0) & (high[s] >= 0)
        at = [torch.where(inside, best[particle, side[s].clamp_min(0), label], peak) for side in (low, high)]
        pairs.append((at[0], at[1], peak))
    for low, high, middle in pairs:
        curvature = (2 * middle - low - high).clamp_min(1e-6)
        offset = (0.5 * (high - low) / curvature).clamp(-0.5, 0.5)
        gain += 0.5 * offset**2 * curvature
    return peak + gain


def _concatenate(parts: list[Posterior]) -> Posterior:
    names = ("particle", "label", "psi", "shift", "weight", "log_evidence", "class_score")
    return Posterior(*(torch.cat([getattr(p, name) for p in parts]) for name in names))


@dataclass(frozen=True)
class Sums:
    """What the particles say of each class: all that averaging, merging and splitting need.

    Attributes
    ----------
    total : (k, size) coefficients of the CTF-weighted particles, turned onto their class and added
    power : (k, nodes) squared CTF, added
    share : (k,) number of particles
    """

    total: torch.Tensor
    power: torch.Tensor
    share: torch.Tensor

    def __len__(self) -> int:
        return len(self.total)


def accumulate(data: Observations, posterior: Posterior, classes: int) -> Sums:
    """Weighted sums over particles turned onto their class."""
    return finish(accumulating(data, posterior, classes))


def accumulating(data: Observations, posterior: Posterior, classes: int) -> Work[Sums]:
    """:func:`accumulate` as a computation that can be followed."""
    basis, device = data.basis, data.matched.device
    angles, angle = torch.unique(posterior.psi, return_inverse=True)
    # Poses on a grid share few angles: particles are added first and the sums turned.
    few = len(angles) * classes < len(posterior.particle)
    place = posterior.label * len(angles) + angle if few else posterior.label
    width = data.matched.shape[1] if few else basis.size
    kind = torch.complex64 if few else torch.float32
    sums = torch.zeros(classes * len(angles) if few else classes, width, dtype=kind, device=device)
    for start in range(0, len(posterior.particle), PORTION):
        part = slice(start, start + PORTION)
        rows, weight = posterior.particle[part], posterior.weight[part, None]
        y = data.moved(rows, posterior.shift[part])
        if not few:
            y = basis.rotate(basis.analyse(y), posterior.psi[part])
        sums.index_add_(0, place[part], y * weight)
        yield min(1.0, (start + PORTION) / len(posterior.particle))
    if few:
        turned = basis.rotate(basis.analyse(sums), angles.repeat(classes))
        sums = turned.reshape(classes, len(angles), basis.size).sum(1)
    weights = posterior.class_weights(classes)
    return Sums(sums, weights.T @ data.ctf_power, weights.sum(0))


def maximise(basis: SteerableBasis, sums: Sums, variance: torch.Tensor | None = None) -> Templates:
    """Class templates: Wiener-filtered averages under a prior ``variance`` of each complex coefficient."""
    variance = signal_variance(basis, sums) if variance is None else variance
    log_share = torch.log(sums.share.clamp_min(1e-3) / sums.share.sum().clamp_min(1e-3))
    return Templates(wiener(basis, sums.total, sums.power, variance), log_share)


def wiener(basis: SteerableBasis, total: torch.Tensor, power: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """Solve for the (k, size) coefficients of averages from their weighted sums, order by order."""
    c = basis.to_complex(total)
    solved = torch.zeros_like(c)
    for m in range(int(basis.order.max()) + 1):
        of_m = basis.order == m
        radial = basis.radial[of_m]
        normal = torch.einsum("aq,kq,bq->kab", radial, power, radial) + torch.diag(1.0 / variance[of_m])
        both = torch.stack([c[:, of_m].real, c[:, of_m].imag], dim=-1)
        solved[:, of_m] = torch.view_as_complex(torch.linalg.solve(normal, both).contiguous())
    return basis.to_real(solved)


def signal_variance(basis: SteerableBasis, sums: Sums) -> torch.Tensor:
    """Prior variance of each complex coefficient, pooled over classes and over coefficients of like frequency."""
    density = (sums.power @ (basis.radial**2).T).clamp_min(1e-6)
    degrees = torch.where(basis.order == 0, 1.0, 2.0)
    excess = (basis.to_complex(sums.total) / density).abs() ** 2 - degrees / density
    pooled = (density * excess).sum(0) / density.sum(0)
    shell = basis.ring()
    sum_of = torch.zeros(int(shell.max()) + 1, device=pooled.device).index_add_(0, shell, pooled)
    count = torch.zeros_like(sum_of).index_add_(0, shell, degrees)
    floor = 1e-3 / density.sum(0).max()
    return (sum_of / count.clamp_min(1))[shell].clamp_min(floor)
