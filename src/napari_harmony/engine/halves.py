"""What two independent halves of the data agree on: ring correlation, its chance level, and particles that fit nothing.

Each half is searched on its own from the first iteration, so agreement between them is signal, except for what the
freedom of aligning one average onto the other can make of noise; that is measured with decoys: averages of the same
spectrum with random phases, aligned just as freely.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from napari_harmony.engine.search import Grid, Sums, Templates, signal_variance, wiener
from napari_harmony.engine.steerable import SteerableBasis
from napari_harmony.engine.team import ALONE, Team
from napari_harmony.engine.work import Work

#: Decoys per class from which the chance level is estimated, and how many there are at least for all classes together.
DECOYS, LEAST_DECOYS = 6, 24
#: Correlations beyond this are taken for this.
_NEARLY = 1 - 1e-6
#: Largest share of junk among the particles kept, the one that is wished for, and the least share of it among those
#: that are given up for that.
JUNK_KEPT, JUNK_LEFT, JUNK_TAKEN = 0.05, 0.01, 1 / 3
#: Half-set correlation that is called the resolution (Rosenthal and Henderson 2003).
THRESHOLD = 0.143


@dataclass(frozen=True)
class Agreement:
    """Ring correlations of half-set averages.

    Attributes
    ----------
    frc : (k, shells), NaN for classes that lack a half; shell 0 is 0.5 to 1.5 cycles per box
    floor : (k, shells) what decoys reach, as ``chance_level`` gives it
    resolution : (k,) cycles per box where ``frc`` falls below 0.143; NaN where the class is not significant
    significant : (k,) bool, whether the halves, filtered to where there is signal, agree more than decoys do, in what
        is circular of them or in what is not
    """

    frc: NDArray[np.float32]
    floor: NDArray[np.float32]
    resolution: NDArray[np.float32]
    significant: NDArray[np.bool_]

    def only(self, classes: NDArray[np.bool_]) -> Agreement:
        """The same with no class significant but some of ``classes`` (k,)."""
        significant = self.significant & classes
        return replace(self, significant=significant, resolution=np.where(significant, self.resolution, np.nan))


def compare_halves(
    basis: SteerableBasis,
    box: int,
    first: Sums,
    second: Sums,
    grid: Grid,
    generator: torch.Generator,
    team: Team = ALONE,
) -> Work[Agreement]:
    """Align the second half's averages onto the first's and correlate them ring by ring.

    Each process of a team aligns some of the decoys.
    """
    one, two = _averages(basis, first, second)
    complete = ((first.share > 1) & (second.share > 1)).cpu().numpy()
    values, likeness = _aligned_correlation(basis, box, one, two, grid)
    rounds = max(DECOYS, int(np.ceil(LEAST_DECOYS / max(1, complete.sum()))))
    curves, likenesses = [values[:0]], [likeness[:0]]
    decoys = [two.decoy(basis, generator) for _ in range(rounds)]
    mine = decoys[team.share(rounds)]
    for done, decoy in enumerate(mine):
        yield done / len(mine)
        curve, by_chance = _aligned_correlation(basis, box, one, decoy, grid)
        curves.append(curve[complete])
        likenesses.append(by_chance[complete])
    curve, by_chance = (team.gather(torch.as_tensor(np.concatenate(each))).numpy() for each in (curves, likenesses))
    if not complete.any():
        return _nothing_to_compare(values)
    significant = complete & (likeness > chance_level(by_chance)).any(axis=1)
    values[~complete] = np.nan
    resolution = [crossing(v) if s else np.nan for v, s in zip(values, significant, strict=True)]
    floor = np.broadcast_to(chance_level(curve), values.shape)
    return Agreement(values, floor.copy(), np.array(resolution, np.float32), significant)


def _nothing_to_compare(values: NDArray[np.float32]) -> Agreement:
    """Where no class has two halves."""
    return Agreement(
        np.full_like(values, np.nan),
        np.ones_like(values),
        np.full(len(values), np.nan, np.float32),
        np.zeros(len(values), dtype=bool),
    )


@dataclass(frozen=True)
class _Averages:
    """Averages of one half, (k, size) coefficients each.

    They are aligned where there is signal, ``filtered``, but compared ``plain``: in a filtered one what little is left
    of a ring drowns in the tails of its strong neighbours.
    """

    plain: torch.Tensor
    filtered: torch.Tensor

    def decoy(self, basis: SteerableBasis, generator: torch.Generator) -> _Averages:
        """Averages with the same power at every frequency, but without structure."""
        drawn = basis.to_complex(random_structure(basis, self.plain, generator))
        kept = _by_frequency(basis, basis.to_complex(self.filtered)) / _by_frequency(
            basis, basis.to_complex(self.plain)
        ).clamp_min(1e-20)
        return _Averages(basis.to_real(drawn), basis.to_real(drawn * kept.sqrt()))


def _averages(basis: SteerableBasis, first: Sums, second: Sums) -> tuple[_Averages, _Averages]:
    """Those of both halves, filtered alike."""
    both = Sums(first.total + second.total, first.power + second.power, first.share + second.share)
    variance = signal_variance(basis, both)
    weak = torch.full_like(variance, float(variance.max()))
    one, two = (
        _Averages(wiener(basis, s.total, s.power, weak), wiener(basis, s.total, s.power, variance))
        for s in (first, second)
    )
    return one, two


def chance_level(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean plus four standard deviations over the first axis, of correlations made normal (Fisher, Metron 1921).

    Those of few independent numbers spread widely: as they stand, the level would often lie at 1, which nothing passes.
    """
    normal = np.arctanh(samples.astype(np.float64).clip(-_NEARLY, _NEARLY))
    return np.tanh(normal.mean(axis=0) + 4 * normal.std(axis=0)).astype(np.float32)


def random_structure(basis: SteerableBasis, coefficients: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Decoys (k, size): as much power at every frequency as the averages have, but no structure.

    The power of a frequency is dealt out anew among its angular orders: an average that few orders make up would
    otherwise find its like in every decoy. Only what is circular stays circular: averages of noise in all orientations
    are, and two of them agree as often as not.
    """
    real_parts = torch.randn(coefficients.shape, generator=generator).to(coefficients.device)
    drawn, given = basis.to_complex(real_parts), basis.to_complex(coefficients)
    return basis.to_real(drawn * (_by_frequency(basis, given) / _by_frequency(basis, drawn).clamp_min(1e-20)).sqrt())


def _by_frequency(basis: SteerableBasis, c: torch.Tensor) -> torch.Tensor:
    """Power of all coefficients like each, of its frequency and circular or not, (k, complex coefficients)."""
    ring = 2 * basis.ring() + (basis.order == 0)
    power = torch.zeros(len(c), int(ring.max()) + 1, device=c.device)
    return power.index_add_(1, ring, c.abs() ** 2)[:, ring]


def decoy_templates(basis: SteerableBasis, templates: Templates, generator: torch.Generator) -> Templates:
    """Templates of the same spectra and shares without structure."""
    return Templates(random_structure(basis, templates.coefficients, generator), templates.log_share)


def unexplained(margins: torch.Tensor) -> torch.Tensor:
    """Which particles, (n,) bool, fit no class better than they fit decoys.

    ``margins`` are log evidences under templates of the *other* half minus those under their decoys. For junk the
    difference is symmetric about zero, so the count below ``-z`` estimates how many junk images lie above ``z``. The
    threshold is the smallest at which these are at most ``JUNK_KEPT`` of all above, whatever chance does (Barber and
    Candes 2015). It is raised until ``JUNK_LEFT`` are expected to be, where enough of what this takes away is junk:
    not where the signal is so weak that particles are lost.
    """
    margin = margins.double().cpu().numpy()
    tried = np.sort(np.abs(margin[margin != 0]))
    tried = tried[:: max(1, len(tried) // 500)]
    ordered = np.sort(margin)
    above, below = len(margin) - np.searchsorted(ordered, tried), np.searchsorted(ordered, -tried, side="right")
    kept = below + 1 <= JUNK_KEPT * above
    if not kept.any():
        return torch.ones(len(margin), dtype=torch.bool)
    first = last = int(kept.argmax())
    clean = kept & (below <= JUNK_LEFT * above)
    if clean.any():
        last = int(clean.argmax())
    worth = below[first] - below[last] >= JUNK_TAKEN * (above[first] - above[last])
    return torch.as_tensor(margin < tried[last if worth else first])


def _aligned_correlation(
    basis: SteerableBasis, box: int, one: _Averages, two: _Averages, grid: Grid
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Ring correlations (k, shells) where each pair fits best, and the likeness (k, 2) of the filtered pair there."""
    band = basis.band
    turn = -2 * torch.pi / box * (grid.shift[:, :1] * band.fx + grid.shift[:, 1:] * band.fy)
    phase = torch.polar(torch.ones_like(turn), turn)
    rotated = basis.rotate(one.filtered[:, None].expand(-1, len(grid.psi), -1), -grid.psi[None])
    moved = torch.stack([basis.analyse(s[None] * phase) for s in basis.synthesise(two.filtered)])
    best = torch.einsum("ksd,krd->ksr", moved, rotated).flatten(1).argmax(dim=1)
    shift, psi = best // len(grid.psi), best % len(grid.psi)
    each = torch.arange(len(best), device=best.device)
    likeness = _likeness(basis, rotated[each, psi], moved[each, shift])
    reference = basis.synthesise(basis.rotate(one.plain, -grid.psi[psi]))
    seen = basis.synthesise(two.plain) * phase[shift]
    rings = ring_correlation(reference, seen, band.radius.round().long() - 1, len(seen))
    return rings.cpu().numpy().astype(np.float32), likeness.cpu().numpy().astype(np.float32)


def _likeness(basis: SteerableBasis, one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    """Correlation of averages (k, size), of what turning changes of them and of the circular rest, (k, 2)."""
    circular = basis.to_real((basis.order == 0).to(torch.complex64) * (1 + 1j)) > 0
    parts = []
    for part in (~circular, circular):
        norms = one[:, part].norm(dim=1) * two[:, part].norm(dim=1)
        parts.append((one[:, part] * two[:, part]).sum(1) / norms.clamp_min(1e-12))
    return torch.stack(parts, dim=1)


def ring_correlation(one: torch.Tensor, two: torch.Tensor, ring: torch.Tensor, count: int) -> torch.Tensor:
    """Correlation (k, rings) of complex samples (k, f) over the rings given by ``ring`` (f,)."""
    ring = ring.clamp_min(0)
    zeros = torch.zeros(count, int(ring.max()) + 1, device=one.device)
    cross = zeros.clone().index_add_(1, ring, (one * two.conj()).real)
    power = zeros.clone().index_add_(1, ring, one.abs() ** 2) * zeros.clone().index_add_(1, ring, two.abs() ** 2)
    return cross / power.sqrt().clamp_min(1e-12)


def judged(agreement: Agreement, margins: torch.Tensor, label: torch.Tensor) -> tuple[Agreement, torch.Tensor]:
    """The agreement of classes that explain their particles, and which particles, (n,) bool, are junk.

    ``margins`` (n,) as for :func:`unexplained`, ``label`` (n,) the class of each particle. Averages of noise can come
    to look alike, but then they do not explain the particles of the other half. A class does where one of its particles
    is told from junk, or where the sum of its margins, which is symmetric about zero for junk, lies four of its
    standard deviations above.
    """
    classes = len(agreement.significant)
    zeros = torch.zeros(classes, dtype=torch.float64)
    margin, place = margins.double().cpu(), label.cpu()
    total = zeros.clone().index_add_(0, place, margin)
    spread = zeros.clone().index_add_(0, place, margin**2).sqrt()
    junk = unexplained(margins)
    some = torch.bincount(place[~junk], minlength=classes) > 0
    left = agreement.only((some | (total > 4 * spread)).numpy())
    # So little signal per particle that no single one can be told from junk, though together they show something.
    return left, torch.zeros_like(junk) if junk.all() and left.significant.any() else junk


def crossing(frc: NDArray[np.float32]) -> float:
    """Frequency, in cycles per box, where a curve first falls below the threshold after its first ring."""
    below = np.nonzero(frc[1:] < THRESHOLD)[0]
    if not len(below):
        return float(len(frc))
    i = int(below[0]) + 1
    high, low = float(frc[i - 1]) - THRESHOLD, float(frc[i]) - THRESHOLD
    return float(i + (high / (high - low) if high > low and high > 0 else 0.0))
