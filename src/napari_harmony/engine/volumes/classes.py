"""Which classes are worth having: scores free of each particle's own part, and what is kept of a posterior."""

from __future__ import annotations

import torch

from napari_harmony.engine.volumes.search import Observations, Posterior, Sums, Templates, grid_shells, signal_variance
from napari_harmony.engine.volumes.spectra import spectra_of, turned_points


def own_share(data: Observations, posterior: Posterior, sums: Sums, templates: Templates) -> torch.Tensor:
    """How much of its best class's score each particle owes to its own part in that class's average, (n,).

    As for images, with the normal matrices averaged over shells.
    """
    best, band = posterior.best(), data.band
    spectra = spectra_of(templates.volumes, band.limit)
    weight = _shell_weight(sums)[:, : int(band.shell.max()) + 1]
    prior = 1 / signal_variance(sums)[1 : weight.shape[1] + 1].clamp_min(1e-12)
    share = torch.empty(len(data), device=weight.device)
    for k in best.label.unique():
        for rows in (best.label == k).nonzero()[:, 0].split(256):
            points = turned_points(best.rotation[rows], band.frequency)
            model = spectra.only(k[None]).at(points.reshape(-1, 3)).reshape(len(rows), -1)
            power = data.power_of(rows)
            rest = data.moved(rows, best.shift[rows]) - power * model
            others = ((weight[k] * 8)[band.shell] - power).clamp_min(0) + prior[band.shell]
            share[rows] = (2 * rest.abs() ** 2 / others * (1 + 0.5 * power / others)).sum(1)
    return share


def _shell_weight(sums: Sums) -> torch.Tensor:
    """Mean weight of the cells of each shell from the first, (k, shells)."""
    shell = grid_shells(sums).flatten()
    count = int(shell.max()) + 1
    cells = torch.bincount(shell, minlength=count)
    total = torch.zeros(len(sums), count, device=shell.device)
    total.index_add_(1, shell, sums.grids[2].flatten(1))
    return (total / cells)[:, 1:]


def fair_scores(
    data: Observations, before: Posterior, after: Posterior, sums: Sums, templates: Templates
) -> torch.Tensor:
    """Scores (n, k) of an expectation step without what particles gain from having shaped their own class."""
    scores, best = after.class_score.clone(), after.best()
    contributed = torch.zeros_like(scores)
    counted = before.weight > 0
    contributed[before.particle[counted], before.label[counted]] = 1
    rows = torch.arange(len(scores), device=scores.device)
    scores[rows, best.label] -= own_share(data, after, sums, templates) * contributed[rows, best.label]
    return scores
