"""Fourier shell correlation of half maps under a mask, corrected for what the mask itself makes agree.

A mask shared by two half maps correlates their Fourier voxels: what is strong at low frequencies leaks into shells that
hold nothing but noise. How much is measured with half maps whose phases are randomised beyond a shell, so that they
cannot agree there but for the mask (Chen et al. 2013, Ultramicroscopy 135, 24-35).

Curves have ``box // 2 + 1`` shells: shell ``i`` holds the frequencies that round to ``i`` cycles per box, shell 0 the
mean alone. Maps must be aligned already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, label

from napari_harmony.analysis import frc
from napari_harmony.analysis.map_back import contour_level

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Phases are randomised from the first shell in which unmasked half maps agree less than this.
RANDOMISE_BELOW = 0.8
#: Shells from there on that are not corrected yet: where phases begin to differ, the random curve overshoots.
UNCORRECTED = 2
_DRAWS = 4  # of random phases, averaged: the shells of small boxes are few
_LOW_PASS = 1.5  # voxels by which an average is smoothed before its outline is taken
_SPECK = 0.1  # parts smaller than this share of the largest are noise


@dataclass(frozen=True)
class MaskedFsc:
    """Shell correlations of two half maps, each curve (box // 2 + 1,).

    Attributes
    ----------
    unmasked, masked : as the maps are, and multiplied by the mask
    randomised : masked, with phases that were random from shell ``randomised_from`` on before that; of several draws
    corrected : what is left of ``masked`` when that is taken off
    randomised_from : shell; the number of shells where the maps agree everywhere and nothing was randomised
    mask : (box, box, box)
    """

    unmasked: NDArray[np.float64]
    masked: NDArray[np.float64]
    randomised: NDArray[np.float64]
    corrected: NDArray[np.float64]
    randomised_from: int
    mask: NDArray[np.floating]

    @property
    def mask_fraction(self) -> float:
        """Share of the box that the mask takes."""
        return float(np.mean(self.mask))


def masked_fsc(
    one: NDArray[np.floating], two: NDArray[np.floating], mask: NDArray[np.floating], seed: int = 0
) -> MaskedFsc:
    """All curves of a pair of half maps.

    Parameters
    ----------
    one, two : (box, box, box), aligned
    mask : (box, box, box) in 0 to 1, with a soft edge
    seed : of the random phases

    Raises
    ------
    ValueError : the three differ in shape or are no cubes
    """
    if not one.shape == two.shape == mask.shape or len(set(one.shape)) != 1 or one.ndim != 3:
        raise ValueError(f"half maps of {one.shape} and {two.shape} and a mask of {mask.shape}; three cubes are needed")
    unmasked = shell_correlation(one, two)
    masked = shell_correlation(one * mask, two * mask)
    start = randomisation_shell(unmasked)
    rng = np.random.default_rng(seed)
    drawn = [[randomise_phases(half, start, rng) * mask for half in (one, two)] for _ in range(_DRAWS)]
    randomised = np.mean([shell_correlation(*pair) for pair in drawn], axis=0)
    corrected = corrected_curve(masked, randomised, start)
    return MaskedFsc(unmasked, masked, randomised, corrected, start, mask)


def of_classes(averages: NDArray[np.floating], halves: NDArray[np.floating]) -> list[MaskedFsc | None]:
    """Curves of every class under the outline of its average; None where there is nothing to be compared.

    Parameters
    ----------
    averages : (k, box, box, box)
    halves : (2, k, box, box, box), aligned
    """
    found: list[MaskedFsc | None] = []
    for number, (average, one, two) in enumerate(zip(averages, *halves, strict=True)):
        finite = np.isfinite(one).all() and np.isfinite(two).all()
        mask = outline_mask(average) if finite and one.any() and two.any() else None
        found.append(None if mask is None else masked_fsc(one, two, mask, seed=number))
    return found


def worse_of(
    stated: NDArray[np.floating], curves: Sequence[MaskedFsc | None], pixel_size: float
) -> NDArray[np.float32]:
    """Resolutions in angstrom (k,): those stated, or those of the corrected curves where these are worse.

    A class without a stated resolution (NaN) stays without.
    """
    corrected = [np.nan if c is None else resolution(c.corrected, pixel_size) for c in curves]
    known = np.isfinite(stated)
    return np.where(known, np.fmax(stated, np.array(corrected, np.float64)), np.nan).astype(np.float32)


def shell_numbers(box: int) -> NDArray[np.int64]:
    """Shell of every frequency of an ``rfftn`` of the box, (box, box, box // 2 + 1), corners beyond box // 2 too."""
    full, half = np.fft.fftfreq(box, 1 / box), np.arange(box // 2 + 1)
    square = full[:, None, None] ** 2 + full[:, None] ** 2 + half**2
    return np.rint(np.sqrt(square)).astype(np.int64)


def shell_correlation(one: NDArray[np.floating], two: NDArray[np.floating]) -> NDArray[np.float64]:
    """Correlation of two maps (box, box, box) shell by shell, (box // 2 + 1,); 0 where a map has no power."""
    box = one.shape[0]
    a, b = (np.fft.rfftn(np.asarray(volume, np.float64)) for volume in (one, two))
    # the half of the spectrum that rfftn leaves out mirrors the planes between the first and, of even boxes, the last
    count = np.full(box // 2 + 1, 2.0)
    count[0] = 1.0
    if box % 2 == 0:
        count[-1] = 1.0
    shell = shell_numbers(box)
    inside = shell <= box // 2

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.bincount(shell[inside], (values * count)[inside], minlength=box // 2 + 1)
        return sums.astype(np.float64)

    power = total(np.abs(a) ** 2) * total(np.abs(b) ** 2)
    cross = total((a * b.conj()).real)
    return np.divide(cross, np.sqrt(power), out=np.zeros_like(cross), where=power > 0)


def randomisation_shell(unmasked: NDArray[np.float64]) -> int:
    """The first shell but the mean's in which a curve is below ``RANDOMISE_BELOW``; ``len(unmasked)`` for none."""
    below = np.flatnonzero(unmasked[1:] < RANDOMISE_BELOW)
    return int(below[0]) + 1 if len(below) else len(unmasked)


def randomise_phases(volume: NDArray[np.floating], start: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A map (box, box, box) with its amplitudes and, from shell ``start`` on, the phases of white noise."""
    spectrum = np.fft.rfftn(np.asarray(volume, np.float64))
    noise = np.fft.rfftn(rng.normal(size=volume.shape))
    size = np.abs(noise)
    drawn = np.abs(spectrum) * np.divide(noise, size, out=np.ones_like(noise), where=size > 0)
    mixed = np.where(shell_numbers(volume.shape[0]) >= start, drawn, spectrum)
    return np.fft.irfftn(mixed, volume.shape, axes=(0, 1, 2))


def corrected_curve(masked: NDArray[np.float64], randomised: NDArray[np.float64], start: int) -> NDArray[np.float64]:
    """``(masked - randomised) / (1 - randomised)`` from two shells after ``start`` on, ``masked`` before; never below 0
    where it was corrected.
    """
    room = 1 - randomised
    left = np.divide(masked - randomised, room, out=np.zeros_like(masked), where=room > 1e-9)
    corrected = np.arange(len(masked)) >= start + UNCORRECTED
    return np.where(corrected, np.maximum(left, 0.0), masked)


def outline_mask(
    average: NDArray[np.floating], *, extend: float = 2.0, edge: float = 4.0
) -> NDArray[np.float32] | None:
    """A soft mask of what an average shows, (box, box, box) in 0 to 1, or None of an average that shows nothing.

    The average is smoothed first, so that the mask follows no noise; specks far smaller than the largest part are left
    out.

    Parameters
    ----------
    average : (box, box, box), particles white
    extend : voxels around the outline that still count
    edge : voxels over which the mask then falls to 0, as a cosine
    """
    smooth = gaussian_filter(np.nan_to_num(np.asarray(average, np.float32)), _LOW_PASS)
    matter = smooth > contour_level(average)
    parts, count = label(matter)
    if not count:
        return None
    sizes = np.bincount(parts.ravel())[1:]
    kept = np.flatnonzero(sizes >= _SPECK * sizes.max()) + 1
    distance = distance_transform_edt(~np.isin(parts, kept))
    return (0.5 + 0.5 * np.cos(np.pi * np.clip((distance - extend) / edge, 0, 1))).astype(np.float32)


def resolution(curve: NDArray[np.float64], pixel_size: float) -> float:
    """Angstrom at which a curve (box // 2 + 1,) first falls below 0.143; ``pixel_size`` in angstrom.

    The first shell, one cycle per box, is not asked: it is seldom well known. Where the curve never falls this is the
    Nyquist limit.
    """
    shells = np.array(curve[1:], dtype=np.float64)
    shells[0] = 1.0
    return frc.resolution(shells, frc.HALF_SET, pixel_size, 2 * len(shells))
