"""Fourier ring correlation between stacks of images.

The images must be aligned already: half-set averages have gauges of their own, so the caller aligns one to the other
first. Shell ``i`` of every function holds the frequencies that round to ``i + 1`` cycles per box; the mean is left out,
and so are the corners beyond the Nyquist frequency.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: Correlation of two half-set averages, and of an average with the truth, that is called the resolution. At both, the
#: average of all data correlates with the truth by one half (Rosenthal and Henderson, 2003).
HALF_SET, TRUTH = 0.143, 0.5


def soft_mask(box: int, diameter: float, edge: float = 5.0) -> NDArray[np.float32]:
    """A disc (box, box) around pixel floor(box / 2): 1 inside ``diameter``, falling to 0 over ``edge`` pixels."""
    axis = np.arange(box) - box // 2
    radius = np.hypot(axis[:, None], axis[None, :])
    position = np.clip((radius - diameter / 2) / edge, 0, 1) if edge > 0 else (radius > diameter / 2).astype(float)
    return (0.5 + 0.5 * np.cos(np.pi * position)).astype(np.float32)


def ring_numbers(box: int) -> NDArray[np.int64]:
    """Shell of every frequency of an ``fft2`` of the box, (box, box); -1 for the mean and the corners."""
    frequency = np.fft.fftfreq(box, 1 / box)
    ring = np.rint(np.hypot(frequency[:, None], frequency[None, :])).astype(np.int64) - 1
    return np.where(ring < box // 2, ring, -1)


def ring_sizes(box: int) -> NDArray[np.int64]:
    """Number of Fourier pixels in every shell, Friedel mates both counted, (box // 2,)."""
    ring = ring_numbers(box)
    return np.bincount(ring[ring >= 0], minlength=box // 2)


def frequencies(box: int, pixel_size: float) -> NDArray[np.float64]:
    """Spatial frequency of every shell in 1 / angstrom, (box // 2,)."""
    return np.arange(1, box // 2 + 1) / (box * pixel_size)


def ring_correlation(one: ArrayLike, two: ArrayLike, mask: ArrayLike | None = None) -> NDArray[np.float64]:
    """Fourier ring correlation of image pairs.

    Parameters
    ----------
    one, two : (k, box, box), or one image (box, box) each
    mask : (box, box) factor applied to both, such as ``soft_mask``; None for none

    Returns
    -------
    (k, box // 2) in [-1, 1], or (box // 2,) for single images; 0 in shells where an image has no power

    Raises
    ------
    ValueError : the images differ in shape or are not square
    """
    a, b = np.asarray(one, dtype=np.float64), np.asarray(two, dtype=np.float64)
    if a.shape != b.shape or a.ndim not in (2, 3) or a.shape[-1] != a.shape[-2]:
        raise ValueError(f"two stacks of square images of one shape are needed, not {a.shape} and {b.shape}")
    if mask is not None:
        a, b = a * np.asarray(mask), b * np.asarray(mask)
    fa, fb = (np.fft.fft2(x).reshape(-1, a.shape[-1] ** 2) for x in (a, b))
    box = a.shape[-1]
    cross = _ring_sums((fa * fb.conj()).real, box)
    power = _ring_sums(np.abs(fa) ** 2, box) * _ring_sums(np.abs(fb) ** 2, box)
    curves = np.divide(cross, np.sqrt(power), out=np.zeros_like(cross), where=power > 0)
    return curves.reshape(*a.shape[:-2], -1)


def _ring_sums(values: NDArray[np.float64], box: int) -> NDArray[np.float64]:
    """Sums of ``values`` (k, box^2) over the shells, (k, box // 2)."""
    ring = ring_numbers(box).ravel()
    inside = ring >= 0
    return np.stack([np.bincount(ring[inside], row[inside], minlength=box // 2) for row in values])


def noise_floor(box: int, mask: ArrayLike | None = None, sigmas: float = 3.0) -> NDArray[np.float64]:
    """Correlation that unrelated white noise exceeds only by chance, per shell (box // 2,).

    A shell of n Fourier pixels (Friedel mates both counted) holds n independent real numbers of noise, so that the
    standard deviation is ``1 / sqrt(n)``. A mask m ties neighbours together: with S the transform of m^2 it is
    ``sqrt(sum |S(k - k')|^2) / (n S(0))`` over all pairs of the shell.
    """
    ring, n = ring_numbers(box), ring_sizes(box)
    if mask is None:
        return np.minimum(1.0, sigmas / np.sqrt(n))
    coupling = np.abs(np.fft.fft2(np.asarray(mask, dtype=np.float64) ** 2)) ** 2
    deviation = np.empty(len(n))
    for shell in range(len(n)):
        pairs = np.fft.ifft2(np.abs(np.fft.fft2(ring == shell)) ** 2).real  # how many pairs lie each offset apart
        deviation[shell] = np.sqrt((pairs * coupling).sum() / coupling[0, 0]) / n[shell]
    return np.minimum(1.0, sigmas * deviation)


def resolution(curve: ArrayLike, threshold: ArrayLike, pixel_size: float, box: int) -> float:
    """Resolution in angstrom where a curve first falls below a threshold, linear between the shells.

    Parameters
    ----------
    curve : (box // 2,) correlations
    threshold : a number, or one value per shell
    pixel_size : angstrom
    box : edge of the images in pixels

    Returns
    -------
    angstrom; the Nyquist limit where the curve never falls; NaN where its first shell is already below (or NaN)
    """
    values = np.asarray(curve, dtype=np.float64)
    excess = values - np.broadcast_to(np.asarray(threshold, dtype=np.float64), values.shape)
    cycles = np.arange(1, len(values) + 1, dtype=np.float64)
    below = np.flatnonzero(~(excess >= 0))
    if len(below) == 0:
        return float(2 * pixel_size)
    first = below[0]
    if first == 0:
        return float("nan")
    step = excess[first - 1] / (excess[first - 1] - excess[first]) if np.isfinite(excess[first]) else 0.0
    return float(box * pixel_size / (cycles[first - 1] + step))


def full_set(half_set: ArrayLike) -> NDArray[np.float64]:
    """Correlation that averages of *all* particles would have, from that of two halves: ``2 c / (1 + c)``."""
    c = np.asarray(half_set, dtype=np.float64)
    return 2 * c / (1 + c)
