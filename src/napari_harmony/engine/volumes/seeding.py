"""First templates: single particles, far from each other under all poses (k-means++, Arthur and Vassilvitskii 2007)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch

from napari_harmony.engine.volumes.search import Observations, Posterior, Templates
from napari_harmony.engine.work import Work, portion
from napari_harmony.transforms import so3
from napari_harmony.transforms.spectra import Band, spectra_of, turned_points, volumes_from

#: Particles among which seeds are looked for.
CANDIDATES = 120

Look: TypeAlias = Callable[[Observations, torch.Tensor, Templates], Work[Posterior]]


def seed_templates(
    data: Observations,
    classes: int,
    mask: torch.Tensor,
    look: Look,
    frames: torch.Tensor | None,
    generator: torch.Generator,
    known: Templates | None = None,
) -> Work[Templates]:
    """As many templates as ``classes``, each a denoised particle that those before explain badly.

    Parameters
    ----------
    look : expectation step of some particles, given with their rows, on one template
    frames : (n, 4) rotations that turn particles into the frame that templates are wanted in; None: as they lie
    known : templates to go on from, the first of the ``classes``
    """
    rows = torch.randperm(len(data), generator=generator)[:CANDIDATES].to(data.matched.device)
    pool = data.subset(rows)
    denoised = denoise(pool)
    if frames is not None:
        denoised = turned(denoised, frames[rows], data.band)
    denoised = denoised * mask
    best = torch.full((len(pool),), -torch.inf, device=rows.device)
    if known is None:
        chosen = [int(torch.randint(len(pool), (1,), generator=generator))]
    else:
        best = (yield from look(pool, rows, known)).class_score.amax(1)
        chosen = [_far(best, [], generator)]
        classes -= len(known)
    for k in range(classes):
        template = Templates(denoised[chosen[-1:]], torch.zeros(1, device=rows.device))
        found = yield from portion(look(pool, rows, template), k / classes, (k + 1) / classes)
        score = found.class_score[:, 0].clone()
        # A particle explains itself, noise and all.
        score[chosen[-1]] = -torch.inf
        best = torch.maximum(best, score)
        chosen.append(_far(best, chosen, generator))
    drawn = denoised[chosen[:classes]]
    volumes = drawn if known is None else torch.cat([known.volumes, drawn])
    share = torch.full((len(volumes),), -float(np.log(len(volumes))), device=rows.device)
    return Templates(volumes, share)


def _far(best: torch.Tensor, chosen: list[int], generator: torch.Generator) -> int:
    """A particle that templates explain badly, by chance; ``best`` (n,) is the score of each under all of them."""
    known = best.clone()
    known[chosen] = torch.inf
    distance = (torch.quantile(best, 0.98) - known).clamp_min(0) ** 2
    if distance.sum() <= 0:
        distance = torch.ones_like(distance)
    return int(torch.multinomial(distance.cpu(), 1, generator=generator))


def denoise(data: Observations) -> torch.Tensor:
    """Every particle on its own (n, b, b, b), filtered by the signal's power in each shell."""
    band, power = data.band, data.power
    variance = signal_variance_of(data)
    samples = data.matched / (power + 1 / variance[band.shell].clamp_min(1e-9))
    return volumes_from(samples, band)


def signal_variance_of(data: Observations) -> torch.Tensor:
    """Power of the particles' signal in each shell (shells,), where nothing else is known of it."""
    band, power = data.band, data.power
    count = int(band.shell.max()) + 1
    zeros = torch.zeros(count, device=power.device)
    covered = zeros.clone().index_add_(0, band.shell, power.mean(0)).clamp_min(1e-6)
    # The power of matched samples is that of the signal times squared coverage, plus coverage for the noise.
    total = zeros.clone().index_add_(0, band.shell, (data.matched.abs() ** 2).mean(0))
    squared = zeros.clone().index_add_(0, band.shell, (power**2).mean(0)).clamp_min(1e-6)
    return ((total - covered) / squared).clamp_min(0)


def turned(volumes: torch.Tensor, rotation: torch.Tensor, band: Band) -> torch.Tensor:
    """Volumes (n, b, b, b) turned by quaternions (n, 4), of what lies on the band."""
    points = turned_points(so3.inverse(rotation), band.frequency)
    samples = [spectra_of(v[None], band.limit).at(p)[0] for v, p in zip(volumes, points, strict=True)]
    return volumes_from(torch.stack(samples), band)
