"""What is kept of the scores of all classes and poses: the entries of the posterior that weigh anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_harmony.engine.posteriors import Posterior
from napari_harmony.engine.scoring import CELLS, Analysed, Turned, portions

if TYPE_CHECKING:
    from napari_harmony.engine.search import Grid

#: Posterior entries below this fraction of a particle's best are dropped.
NEGLIGIBLE = 1e-2
#: About so many cells of class and shift are kept, and so many entries in all: a particle that fits everywhere says
#: nothing, however finely it is averaged.
MOST, MOST_ENTRIES = 10, 50


@dataclass(frozen=True)
class Scored:
    """Some particles, scored.

    Attributes
    ----------
    turned : templates; grid : poses
    images : coefficients (n * s, ...) at every shift
    best : (n, s, k) log posterior at the best rotation, as precise as the number type of the scores
    bias : (n, k) that the score of each class needs; prior : (n, s) log prior; shift : (n, s, 2) pixels
    """

    turned: Turned
    grid: Grid
    images: Analysed
    best: torch.Tensor
    bias: torch.Tensor
    prior: torch.Tensor
    shift: torch.Tensor


def select(scored: Scored, rows: torch.Tensor) -> Posterior:
    """Keep the entries that weigh anything, with exact scores."""
    best, grid, n = scored.best, scored.grid, len(rows)
    rough = best.flatten(1).amax(dim=1)
    floor = _raised(best, rough + float(np.log(NEGLIGIBLE)))
    i, s, k = (best >= floor[:, None, None]).nonzero().T
    values = scored.turned.each(scored.images[i * len(grid.shift) + s], k)
    values += (scored.bias[i, k] + scored.prior[i, s])[:, None]
    top = torch.full_like(rough, -torch.inf).scatter_reduce_(0, i, values.amax(1), "amax")
    # The floor lies below the exact best as far as it lay below the rough one, so that no particle loses all entries.
    floor += top - rough
    e, r = (values >= floor[i, None]).nonzero().T
    e, r = _largest(values[e, r], i[e], n, e, r)
    particle = i[e]
    weight = torch.exp(values[e, r] - top[particle])
    total = torch.zeros_like(top).index_add_(0, particle, weight)
    evidence = top + torch.log(total) - float(np.log(len(grid.psi) * len(grid.shift)))
    return Posterior(
        rows[particle],
        k[e],
        grid.psi[r],
        scored.shift[particle, s[e]],
        weight / total[particle],
        evidence,
        _peaks(scored),
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


def _peaks(scored: Scored) -> torch.Tensor:
    """Score (n, k) at the best pose of each class, between the grid's points: a parabola along psi, x and y.

    Without it two equal templates at different angles look better than one, since together they sample pose finer.
    """
    (peak, s), grid = scored.best.max(dim=1), scored.grid
    particle, label = torch.meshgrid(*(torch.arange(d, device=s.device) for d in peak.shape), indexing="ij")
    parts = [_along_psi(scored, s[part], particle[part]) for part in portions(len(s), max(1, CELLS // peak.shape[1]))]
    exact = torch.cat(parts) + scored.bias + scored.prior.gather(1, s)
    for low, high in ((grid.neighbours[0], grid.neighbours[1]), (grid.neighbours[2], grid.neighbours[3])):
        inside = (low[s] >= 0) & (high[s] >= 0)
        at = [torch.where(inside, scored.best[particle, side[s].clamp_min(0), label], peak) for side in (low, high)]
        exact += _above(at[0], peak, at[1])
    return exact


def _along_psi(scored: Scored, s: torch.Tensor, particle: torch.Tensor) -> torch.Tensor:
    """Highest score (n, k) over psi of particles at shift ``s`` (n, k) against class k, between the grid's angles."""
    cells = (particle * len(scored.grid.shift) + s).T
    over_psi = scored.turned.every(scored.images[cells])
    centre, r = over_psi.max(dim=-1)
    count = over_psi.shape[-1]
    low, high = (over_psi.gather(-1, ((r + d) % count)[..., None])[..., 0] for d in (-1, 1))
    return (centre + _above(low, centre, high)).T


def _above(low: torch.Tensor, middle: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """How far the parabola through three neighbouring values rises above the middle one."""
    curvature = (2 * middle - low - high).clamp_min(1e-6)
    offset = (0.5 * (high - low) / curvature).clamp(-0.5, 0.5)
    return 0.5 * offset**2 * curvature
