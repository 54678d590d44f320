"""What two independent halves of the data agree on: ring correlation, its chance level, and particles that fit nothing.

Each half is searched on its own from the first iteration, so agreement between them is signal, except for what the
freedom of aligning one average onto the other can make of noise; that is measured with decoys: averages of the same
spectrum with random phases, aligned just as freely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_harmony.engine.search import Grid, Sums, Templates, signal_variance, wiener
from napari_harmony.engine.steerable import SteerableBasis

#: Decoys per class from which the chance level is estimated.
DECOYS = 6
#: Half-set correlation that is called the resolution (Rosenthal and Henderson 2003).
THRESHOLD = 0.143


@dataclass(frozen=True)
class Agreement:
    """Ring correlations of half-set averages.

    Attributes
    ----------
    frc : (k, shells), NaN for classes that lack a half; shell 0 is 0.5 to 1.5 cycles per box
    floor : (k, shells) what decoys reach: mean plus four standard deviations, at most 1
    resolution : (k,) cycles per box where ``frc`` falls below 0.143; NaN where the class is not significant
    significant : (k,) bool, whether the halves agree, over all rings, more than decoys do
    """

    frc: NDArray[np.float32]
    floor: NDArray[np.float32]
    resolution: NDArray[np.float32]
    significant: NDArray[np.bool_]


def compare_halves(
    basis: SteerableBasis, box: int, first: Sums, second: Sums, grid: Grid, generator: torch.Generator
) -> Agreement:
    """Align the second half's averages onto the first's and correlate them ring by ring."""
    both = Sums(first.total + second.total, first.power + second.power, first.share + second.share)
    variance = signal_variance(basis, both)
    one = wiener(basis, first.total, first.power, variance)
    two = wiener(basis, second.total, second.power, variance)
    complete = ((first.share > 1) & (second.share > 1)).cpu().numpy()
    values = _aligned_correlation(basis, box, one, two, grid).cpu().numpy().astype(np.float32)
    decoys = [random_phases(basis, two, generator) for _ in range(DECOYS)]
    chance = np.stack([_aligned_correlation(basis, box, one, d, grid).cpu().numpy() for d in decoys])
    chance = chance[:, complete].reshape(-1, values.shape[1]) if complete.any() else np.ones((2, values.shape[1]))
    level = _chance_level(chance)
    # The lowest rings of a masked image are nearly one number: decoys agree there as well as anything.
    telling = level < 0.95
    overall = values[:, telling].mean(axis=1) if telling.any() else np.zeros(len(values))
    significant = complete & (overall > _chance_level(chance[:, telling].mean(axis=1)) if telling.any() else False)
    values[~complete] = np.nan
    resolution = [_crossing(v) if s else np.nan for v, s in zip(values, significant, strict=True)]
    floor = np.broadcast_to(level, values.shape).astype(np.float32)
    return Agreement(values, floor, np.array(resolution, np.float32), significant)


def _chance_level(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean plus four standard deviations over the first axis, at most 1."""
    return np.minimum(samples.mean(axis=0) + 4 * samples.std(axis=0), 1.0)


def random_phases(basis: SteerableBasis, coefficients: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Decoys (k, size): the same power at every frequency, no structure."""
    c = basis.to_complex(coefficients)
    angle = torch.rand(c.shape, generator=generator).to(c.device) * 2 * torch.pi
    turned = c * torch.exp(1j * angle)
    sign = torch.where(angle < torch.pi, 1.0, -1.0)
    return basis.to_real(torch.where(basis.order == 0, c * sign, turned))


def decoy_templates(basis: SteerableBasis, templates: Templates, generator: torch.Generator) -> Templates:
    """Templates of the same spectra and shares without structure."""
    return Templates(random_phases(basis, templates.coefficients, generator), templates.log_share)


def unexplained(margins: torch.Tensor, rate: float = 0.05) -> torch.Tensor:
    """Which particles, (n,) bool, fit no class better than they fit decoys.

    ``margins`` are log evidences under templates of the *other* half minus those under their decoys. For junk the
    difference is symmetric about zero, so the count below ``-z`` estimates how many junk images lie above ``z``;
    the threshold is the smallest at which these are at most ``rate`` of all above (Barber and Candes 2015).
    """
    margin = margins.double().cpu().numpy()
    ordered = np.sort(np.abs(margin[margin != 0]))
    for z in ordered[:: max(1, len(ordered) // 500)]:
        if (margin <= -z).sum() + 1 <= rate * max(1, (margin >= z).sum()):
            return torch.as_tensor(margin < z)
    return torch.ones(len(margin), dtype=torch.bool)


def _aligned_correlation(
    basis: SteerableBasis, box: int, one: torch.Tensor, two: torch.Tensor, grid: Grid
) -> torch.Tensor:
    """Ring correlation (k, shells) of each pair at the pose where the pair correlates best."""
    band = basis.band
    count, samples = len(two), basis.synthesise(two)
    turn = -2 * torch.pi / box * (grid.shift[:, :1] * band.fx + grid.shift[:, 1:] * band.fy)
    phase = torch.polar(torch.ones_like(turn), turn)
    rotated = basis.rotate(one[:, None].expand(-1, len(grid.psi), -1), -grid.psi[None])
    moved = torch.stack([basis.analyse(s[None] * phase) for s in samples])
    best = torch.einsum("ksd,krd->ksr", moved, rotated).flatten(1).argmax(dim=1)
    shift, psi = best // len(grid.psi), best % len(grid.psi)
    reference = basis.synthesise(basis.rotate(one, -grid.psi[psi]))
    return ring_correlation(reference, samples * phase[shift], band.radius.round().long() - 1, count)


def ring_correlation(one: torch.Tensor, two: torch.Tensor, ring: torch.Tensor, count: int) -> torch.Tensor:
    """Correlation (k, rings) of complex samples (k, f) over the rings given by ``ring`` (f,)."""
    ring = ring.clamp_min(0)
    zeros = torch.zeros(count, int(ring.max()) + 1, device=one.device)
    cross = zeros.clone().index_add_(1, ring, (one * two.conj()).real)
    power = zeros.clone().index_add_(1, ring, one.abs() ** 2) * zeros.clone().index_add_(1, ring, two.abs() ** 2)
    return cross / power.sqrt().clamp_min(1e-12)


def _crossing(frc: NDArray[np.float32]) -> float:
    """Frequency, in cycles per box, where a curve first falls below the threshold after its first ring."""
    below = np.nonzero(frc[1:] < THRESHOLD)[0]
    if not len(below):
        return float(len(frc))
    i = int(below[0]) + 1
    high, low = float(frc[i - 1]) - THRESHOLD, float(frc[i]) - THRESHOLD
    return float(i + (high / (high - low) if high > low and high > 0 else 0.0))
