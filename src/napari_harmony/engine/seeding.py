"""First templates: single particles, far from each other under all poses (k-means++, Arthur and Vassilvitskii 2007)."""

from __future__ import annotations

import numpy as np
import torch

from napari_harmony.engine.scoring import Arithmetic, Moves, Turned
from napari_harmony.engine.search import Grid, Observations, Sums, Templates, signal_variance, wiener
from napari_harmony.engine.team import ALONE, Team
from napari_harmony.engine.work import Work

#: Particles among which seeds are looked for; more of them find no better ones.
CANDIDATES = 1000


def seed_templates(
    data: Observations,
    classes: int,
    grid: Grid,
    generator: torch.Generator,
    team: Team = ALONE,
    arithmetic: Arithmetic | None = None,
) -> Work[Templates]:
    """As many templates as ``classes``, each a denoised particle that those before explain badly."""
    arithmetic = arithmetic or Arithmetic()
    rows = torch.randperm(len(data), generator=generator)[:CANDIDATES].to(data.matched.device)
    pool, basis = data.subset(rows), data.basis
    moves = Moves.of(basis, grid.shift, data.box, arithmetic.kind)
    moved = moves.analysed(pool.matched[team.share(len(pool))], arithmetic.columns)
    still = basis.analyse(pool.matched)
    variance = signal_variance(basis, Sums(still, pool.ctf_power, torch.ones(len(pool), device=rows.device)))
    denoised = wiener(basis, still, pool.ctf_power, variance)
    best = torch.full((len(pool),), -torch.inf, device=rows.device)
    chosen = [int(torch.randint(len(pool), (1,), generator=generator))]
    for k in range(classes):
        template = denoised[chosen[-1]]
        turned = Turned.of(basis, template[None], grid.psi).to(arithmetic.kind)
        norm = pool.ctf_power @ basis.radial_power(template)
        scores = turned.best(moved, arithmetic.block).view(-1, len(grid.shift)).amax(1)
        best = torch.maximum(best, team.gather(scores) - 0.5 * norm)
        distance = (torch.quantile(best, 0.98) - best).clamp_min(0) ** 2
        distance[chosen] = 0
        if distance.sum() <= 0:
            distance = torch.ones_like(distance)
        chosen.append(int(torch.multinomial(distance.cpu(), 1, generator=generator)))
        yield (k + 1) / classes
    return Templates(denoised[chosen[:classes]], torch.full((classes,), -float(np.log(classes)), device=rows.device))
