"""Posterior search over content class x rotation x shift: one real matrix product per iteration.

A mixture of posed class templates under the CTF and white noise (maximum a posteriori: Scheres 2012), its expectation
step exhaustive over a grid in a steerable basis, its maximisation step a Wiener-filtered average in the same basis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from napari_harmony.engine.memory import is_out_of_memory
from napari_harmony.engine.posteriors import Posterior
from napari_harmony.engine.scoring import Analysed, Arithmetic, Moves, Turned, portions
from napari_harmony.engine.selection import MOST, Scored, select
from napari_harmony.engine.steerable import SteerableBasis, unit
from napari_harmony.engine.work import Work, finish

#: Samples of particles that are averaged at a time: few enough for a processor's cache, and for a card.
PORTION, PORTION_CARD = 2**19, 2**25


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
        turn = self.basis.band.phase(shift, self.box)
        return self.matched[rows] * unit(turn)


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
    basis = data.basis
    turned = Turned.of(basis, templates.coefficients, grid.psi)
    norm = data.ctf_power @ basis.radial_power(templates.coefficients).T
    bias = templates.log_share - 0.5 * norm
    scorer = _Scorer(data, turned, Moves.of(basis, grid.shift, data.box, arithmetic.kind), grid, arithmetic)
    chunk = scorer.particles_at_once()
    parts: list[Posterior] = []
    start = 0
    while start < len(data):
        rows = torch.arange(start, min(start + chunk, len(data)), device=centre.device)
        try:
            parts.append(_score(scorer, bias, centre, rows))
        except RuntimeError as error:
            if chunk == 1 or not is_out_of_memory(error):
                raise
            chunk = max(1, chunk // 2)
            continue
        start += chunk
        yield min(1.0, start / len(data))
    together = _concatenate(parts)
    return replace(together, class_score=together.class_score - templates.log_share)


@dataclass(frozen=True)
class _Scorer:
    """What is the same for all particles of an expectation step: turned templates, and the shifts as phases."""

    data: Observations
    turned: Turned
    moves: Moves
    grid: Grid
    arithmetic: Arithmetic

    def particles_at_once(self) -> int:
        """As many as the scores of one batch are of, within its memory."""
        shifts, classes, size = len(self.grid.shift), len(self.turned), self.data.basis.size
        item = torch.empty((), dtype=self.arithmetic.kind).element_size()
        # Coefficients and samples at every shift; best scores, with what is in between; scores of the cells kept.
        held = shifts * (item * size + 16 * classes) + 8 * (MOST + classes) * len(self.grid.psi)
        wanted = self.arithmetic.budget // (shifts * classes * len(self.grid.psi))
        return int(max(1, min(wanted, self.arithmetic.memory // held)))

    def best(self, rows: torch.Tensor, centre: torch.Tensor) -> tuple[Analysed, torch.Tensor]:
        """Coefficients (n * s, ...) of particles at every shift, and their scores (n, s, k) at the best rotation."""
        shifts, samples = len(self.grid.shift), self.data.matched
        images = self.moves.room(len(rows))
        best = torch.empty(len(rows) * shifts, len(self.turned), device=samples.device)
        centred = bool(centre.any())
        at_once = max(1, self.arithmetic.columns // shifts)
        for part in portions(len(rows), at_once):
            some, columns = rows[part], slice(part.start * shifts, part.stop * shifts)
            self.moves.analyse(self.data.moved(some, centre[some]) if centred else samples[some], images[columns])
            best[columns] = self.products.best(images[columns], self.arithmetic.block)
        return images, best.view(len(rows), shifts, -1)

    @cached_property
    def products(self) -> Turned:
        """The templates in the number type of the scores."""
        return self.turned.to(self.arithmetic.kind)


def _score(scorer: _Scorer, bias: torch.Tensor, centre: torch.Tensor, rows: torch.Tensor) -> Posterior:
    """The posterior of some particles."""
    shift = centre[rows, None] + scorer.grid.shift
    images, best = scorer.best(rows, centre)
    prior = -0.5 * (shift**2).sum(-1) / scorer.grid.sigma**2
    best += bias[rows][:, None] + prior[..., None]
    return select(Scored(scorer.turned, scorer.grid, images, best, bias[rows], prior, shift), rows)


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
    # As real numbers: complex ones are added up ten times slower.
    plain = torch.view_as_real(sums).flatten(1) if few else sums
    at_once = max(1, (PORTION if device.type == "cpu" else PORTION_CARD) // data.matched.shape[1])
    for part in portions(len(posterior.particle), at_once):
        rows, weight = posterior.particle[part], posterior.weight[part, None]
        y = data.moved(rows, posterior.shift[part])
        if not few:
            y = basis.rotate(basis.analyse(y), posterior.psi[part])
        y = y * weight
        plain.index_add_(0, place[part], torch.view_as_real(y).flatten(1) if few else y)
        yield part.stop / len(posterior.particle)
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
