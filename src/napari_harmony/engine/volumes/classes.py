"""Which classes are worth having: scores free of each particle's own part, and what is kept of a posterior."""

from __future__ import annotations

from dataclasses import replace

import torch

from napari_harmony.engine.classes import two_groups
from napari_harmony.engine.volumes.search import (
    Observations,
    Posterior,
    Sums,
    Templates,
    grid_radius,
    grid_shells,
    signal_variance,
)
from napari_harmony.transforms import so3
from napari_harmony.transforms.spectra import Spectra, spectra_of, turned_points, volumes_from

#: Classes of fewer particles are not split.
FEWEST = 8


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
            power, rest = data.power_of(rows), _unexplained(data, best, rows, spectra.only(k[None]))
            others = ((weight[k] * 8)[band.shell] - power).clamp_min(0) + prior[band.shell]
            share[rows] = (2 * rest.abs() ** 2 / others * (1 + 0.5 * power / others)).sum(1)
    return share


def _unexplained(data: Observations, best: Posterior, rows: torch.Tensor, spectra: Spectra) -> torch.Tensor:
    """What one class does not explain of particles at their poses, centred but not turned, (n, m)."""
    points = turned_points(best.rotation[rows], data.band.frequency)
    model = spectra.at(points.reshape(-1, 3)).reshape(len(rows), -1)
    return data.moved(rows, best.shift[rows]) - data.power_of(rows) * model


def split(data: Observations, posterior: Posterior, templates: Templates) -> Posterior:
    """Every class in two, along the direction in which its aligned particles vary most beyond noise.

    Class ``k`` becomes ``k`` and ``k + K``. The split is a guess for the next expectation steps to judge.
    """
    best, spectra = posterior.best(), spectra_of(templates.volumes, data.band.limit)
    second = torch.zeros(len(data), dtype=torch.bool, device=data.matched.device)
    for k in best.label.unique():
        rows = ((best.label == k) & (best.weight > 0)).nonzero()[:, 0]
        if len(rows) < FEWEST:
            continue
        parts = [_in_class(data, best, part, spectra.only(k[None])) for part in rows.split(64)]
        second[rows] = two_groups(torch.cat(parts))
    label = torch.where(second[posterior.particle], posterior.label + len(templates), posterior.label)
    return replace(posterior, label=label)


def _in_class(data: Observations, best: Posterior, rows: torch.Tensor, spectra: Spectra) -> torch.Tensor:
    """What one class does not explain of its particles, turned onto it: real vectors (n, 2 m)."""
    band = data.band
    box = min(band.box, 2 * (int(band.limit) + 2))
    volumes = volumes_from(_unexplained(data, best, rows, spectra), band, box)
    # On a smaller grid a cycle per box is still the same frequency.
    own = spectra_of(volumes, band.limit)
    points = turned_points(so3.inverse(best.rotation[rows]), band.frequency)
    turned = [own.only(torch.tensor([i])).at(p)[0] for i, p in enumerate(points)]
    return torch.view_as_real(torch.stack(turned)).flatten(1)


def _shell_weight(sums: Sums) -> torch.Tensor:
    """Mean weight of the cells of each shell from the first, (k, shells)."""
    inside = (grid_radius(sums) <= sums.band.limit).flatten()
    shell = grid_shells(sums).flatten()[inside]
    count = int(shell.max()) + 1
    cells = torch.bincount(shell, minlength=count)
    total = torch.zeros(len(sums), count, device=shell.device)
    total.index_add_(1, shell, sums.grids[2].flatten(1)[:, inside])
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
