"""What two independent halves of subtomograms agree on, and what chance makes of their freedom of alignment.

As for images: each half is searched on its own, their averages are aligned freely and correlated shell by shell, and
decoys of the same spectrum without structure go through the same alignment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from napari_harmony.engine.halves import DECOYS, LEAST_DECOYS, Agreement, chance_level, crossing, ring_correlation
from napari_harmony.engine.volumes.prepare import cropped
from napari_harmony.engine.volumes.refine import refine
from napari_harmony.engine.volumes.search import (
    Observations,
    Shifts,
    Sums,
    Templates,
    expect_everywhere,
    filtered,
    signal_variance,
)
from napari_harmony.engine.volumes.symmetry import Symmetry
from napari_harmony.engine.work import Work, finish
from napari_harmony.transforms import so3
from napari_harmony.transforms.spectra import Band, spectra_of, turned_points, volumes_from


@dataclass(frozen=True)
class Alignment:
    """How averages are aligned: on a band, over rotations and shifts, then refined along the ``free`` (6,) axes.

    Where they agree counts from the shell ``trusted``.
    """

    band: Band
    rotations: torch.Tensor
    shifts: Shifts
    free: torch.Tensor
    symmetry: Symmetry
    trusted: int = 0


@dataclass(frozen=True)
class Placed:
    """Poses (n, 4) and (n, 3) at which volumes fit another one best."""

    rotation: torch.Tensor
    shift: torch.Tensor


def fit_onto(volumes: torch.Tensor, target: torch.Tensor, how: Alignment) -> Placed:
    """Poses that turn ``volumes`` (n, b, b, b) onto one ``target`` (b, b, b)."""
    device = volumes.device
    data = Observations(
        cropped(volumes, how.band.box, how.band), torch.ones(1, len(how.band.index), device=device), how.band
    )
    template = Templates(target[None], torch.zeros(1, device=device))
    still = torch.zeros(len(data), 3, device=device)
    best = finish(expect_everywhere(data, template, how.rotations, how.shifts, still)).best()
    norm = torch.ones(len(data), device=device)
    sharp = finish(
        refine(
            data,
            template,
            best.label,
            best.rotation,
            best.shift,
            norm,
            how.shifts.sigma,
            free=how.free,
        )
    )
    return Placed(sharp.rotation, sharp.shift)


@dataclass(frozen=True)
class Averages:
    """Averages (k, b, b, b) of one half: ``filtered`` to be aligned by, ``plain`` to be compared."""

    plain: torch.Tensor
    filtered: torch.Tensor


def averages_of(first: Sums, second: Sums, mask: torch.Tensor) -> tuple[Averages, Averages]:
    """Those of both halves, filtered alike, inside the mask."""
    variance = signal_variance(first + second)
    weak = torch.full_like(variance, float(variance.max()))
    one, two = (Averages(filtered(s, weak) * mask, filtered(s, variance) * mask) for s in (first, second))
    return one, two


def compare_halves(
    first: Sums, second: Sums, mask: torch.Tensor, how: Alignment, generator: torch.Generator
) -> Work[tuple[Agreement, Placed]]:
    """Align the second half's averages onto the first's and correlate them shell by shell.

    Returns what they agree on, and the poses at which they do: those that turn each class of the second half onto the
    same of the first.
    """
    one, two = averages_of(first, second, mask)
    complete = ((first.share > 1) & (second.share > 1)).cpu().numpy()
    classes, shells = len(first), int(first.band.shell.max()) + 1
    values = np.full((classes, shells), np.nan, np.float32)
    likeness, significant = np.zeros(classes, np.float32), np.zeros(classes, dtype=bool)
    rounds = max(DECOYS, int(np.ceil(LEAST_DECOYS / max(1, complete.sum()))))
    curves, by_chance = [], []
    poses = Placed(so3.identity(classes, device=mask.device).clone(), torch.zeros(classes, 3, device=mask.device))
    for k in map(int, np.flatnonzero(complete)):
        decoys = [_decoy(two, k, mask, first.band, how.symmetry, generator) for _ in range(rounds)]
        plain = torch.stack([two.plain[k], *(d.plain[0] for d in decoys)])
        coarse = torch.stack([two.filtered[k], *(d.filtered[0] for d in decoys)])
        placed = fit_onto(coarse, one.filtered[k], how)
        rings = _correlation(plain, one.plain[k], placed, first.band)
        alike = _correlation(coarse, one.filtered[k], placed, first.band, together_from=how.trusted)[:, 0]
        poses.rotation[k], poses.shift[k] = placed.rotation[0], placed.shift[0]
        values[k], likeness[k] = rings[0], alike[0]
        curves.append(rings[1:])
        by_chance.append(alike[1:])
        yield (k + 1) / classes
    if not complete.any():
        return Agreement(values, np.ones_like(values), np.full(classes, np.nan, np.float32), significant), poses
    significant = complete & (likeness > chance_level(np.concatenate(by_chance)))
    resolution = [crossing(v) if s else np.nan for v, s in zip(values, significant, strict=True)]
    floor = np.broadcast_to(chance_level(np.concatenate(curves)), values.shape).copy()
    return Agreement(values, floor, np.array(resolution, np.float32), significant), poses


def likeness_of(volumes: torch.Tensor, target: torch.Tensor, placed: Placed, how: Alignment) -> torch.Tensor:
    """Correlation (n,) of volumes (n, b, b, b) at their poses with a target, over the whole band."""
    alike = _correlation(volumes, target, placed, how.band, together_from=0)[:, 0]
    return torch.as_tensor(alike, device=volumes.device)


def _correlation(
    volumes: torch.Tensor, target: torch.Tensor, placed: Placed, band: Band, together_from: int | None = None
) -> np.ndarray:
    """Shell correlations (n, shells) of volumes at their poses with the target, or over all from a shell together."""
    ones = torch.ones(1, len(band.index), device=volumes.device)
    data = Observations(cropped(volumes, band.box, band), ones, band)
    seen = data.moved(torch.arange(len(volumes), device=volumes.device), placed.shift)
    points = turned_points(placed.rotation, band.frequency)
    model = spectra_of(target[None], band.limit).at(points.reshape(-1, 3)).reshape(len(volumes), -1)
    ring = band.shell if together_from is None else (band.shell < together_from).long()
    return ring_correlation(model, seen, ring, len(volumes)).cpu().numpy().astype(np.float32)


def _decoy(
    averages: Averages, k: int, mask: torch.Tensor, band: Band, symmetry: Symmetry, generator: torch.Generator
) -> Averages:
    """One class's average with the same power in every shell and the same symmetry, but without structure."""
    noise = torch.randn(mask.shape, generator=generator).to(mask.device) * mask
    drawn = cropped(symmetry.averaged(noise[None], band), band.box, band)
    return Averages(*(_with_spectrum(drawn, v[k : k + 1], band) for v in (averages.plain, averages.filtered)))


def _with_spectrum(drawn: torch.Tensor, like: torch.Tensor, band: Band) -> torch.Tensor:
    """Volumes (n, b, b, b) of the samples ``drawn``, each shell scaled to its power in ``like``."""
    wanted, given = (_shell_power(x, band) for x in (cropped(like, band.box, band), drawn))
    return volumes_from(drawn * (wanted / given.clamp_min(1e-20)).sqrt()[:, band.shell], band)


def _shell_power(samples: torch.Tensor, band: Band) -> torch.Tensor:
    power = torch.zeros(len(samples), int(band.shell.max()) + 1, device=samples.device)
    return power.index_add_(1, band.shell, samples.abs() ** 2)


def decoy_templates(
    templates: Templates, mask: torch.Tensor, band: Band, symmetry: Symmetry, generator: torch.Generator
) -> Templates:
    """Templates of the same spectra, symmetry and shares without structure."""
    noise = torch.randn(templates.volumes.shape, generator=generator).to(mask.device) * mask
    drawn = cropped(symmetry.averaged(noise, band), band.box, band)
    return Templates(_with_spectrum(drawn, templates.volumes, band), templates.log_share)
