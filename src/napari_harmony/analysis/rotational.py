"""How often an average repeats as it is turned about its z axis: the rotational power spectrum of a tube.

An average of n subunits around an axis has power at the order n, at its multiples, and at the low orders that say that
it is off its axis (1) or drawn out to one side and the other (2), as the missing wedge draws it out. Nothing here is
told what n should be.

Of a tube that lies along the tilt axis the wedge blurs subunits on two opposite sides. That spreads each order over
those 2 beside it, alike on both: for tilts from -a to a, the share (sin 2a / 2a)^2 of the power of n at n - 2 and at
n + 2, which is 0.17 for 60 degrees. They have it at other radii, the lower order farther in, so rings should cover all
of the wall, or one of them is made too much of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, optimize

from napari_harmony.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

ANGLES = 360
_RING_STEP = 0.5  # pixels between rings


@dataclass(frozen=True, eq=False)
class RotationalSpectrum:
    """Power of the cross-section of an average by its rotational order.

    Attributes
    ----------
    power : (ANGLES // 2,) of the orders 0, 1, 2 ..: mean squared amplitude over the rings, weighed by their lengths
    axis : (x, y) of the axis in pixels from pixel floor(n / 2)
    polar : (rings, ANGLES) the cross-section by radius and angle, from x towards y
    radii : (rings,) in pixels
    """

    power: NDArray[np.float64]
    axis: tuple[float, float]
    polar: NDArray[np.float64]
    radii: NDArray[np.float64]

    def peak(self, low: int = 8, high: int = 20) -> tuple[int, float]:
        """The order of the largest power from ``low`` to ``high``, and how many times the second largest it is."""
        chosen = self.power[low : high + 1]
        second, first = np.sort(chosen)[-2:]
        return low + int(np.argmax(chosen)), float(first / max(second, 1e-300))


def rotational_spectrum(
    average: ArrayLike, inner: float, outer: float, *, axis: tuple[float, float] | None = None
) -> RotationalSpectrum:
    """Rotational power spectrum of an average about its z axis.

    The volume is averaged along z, the cross-section resampled on rings, and each ring transformed over its angle.

    Parameters
    ----------
    average : (z, y, x), or a cross-section (y, x)
    inner, outer : smallest and largest radius of the rings in pixels
    axis : (x, y) in pixels from pixel floor(n / 2); where None, the place nearest to the middle about which rings
        differ most from each other (that is, the power of order 0 varies most with the radius)

    Raises
    ------
    InputError : not a volume or an image, or rings that do not fit into it
    """
    volume = np.asarray(average, dtype=np.float64)
    if volume.ndim not in (2, 3):
        raise InputError(f"the average has {volume.ndim} axes; give a volume (z, y, x) or a cross-section (y, x).")
    section = volume.mean(0) if volume.ndim == 3 else volume
    if not 0 < inner < outer <= min(section.shape) // 2 - 1:
        raise InputError(
            f"rings from {inner:g} to {outer:g} pixels do not fit into a cross-section of {section.shape[1]} x "
            f"{section.shape[0]} pixels; give 0 < inner < outer <= {min(section.shape) // 2 - 1}."
        )
    smooth = ndimage.spline_filter(section, order=3)
    radii = np.arange(inner, outer + 1e-9, _RING_STEP)
    if axis is None:
        axis = _found_axis(smooth, min(section.shape) // 2 - 1)
    polar = _rings(smooth, radii, axis)
    amplitude = np.fft.rfft(polar, axis=1)[:, : ANGLES // 2] / ANGLES
    return RotationalSpectrum(np.average(np.abs(amplitude) ** 2, axis=0, weights=radii), axis, polar, radii)


def _rings(smooth: NDArray[np.float64], radii: NDArray[np.float64], axis: tuple[float, float]) -> NDArray[np.float64]:
    """The cross-section (as spline coefficients) on rings, (rings, ANGLES)."""
    angle = 2 * np.pi * np.arange(ANGLES) / ANGLES
    y = smooth.shape[0] // 2 + axis[1] + radii[:, None] * np.sin(angle)
    x = smooth.shape[1] // 2 + axis[0] + radii[:, None] * np.cos(angle)
    return np.asarray(ndimage.map_coordinates(smooth, [y, x], order=3, prefilter=False, mode="nearest"))


def _found_axis(smooth: NDArray[np.float64], outer: int) -> tuple[float, float]:
    """The axis about which the mean of rings varies most with their radius."""
    radii = np.arange(1.0, outer + 0.5)

    def sameness(axis: NDArray[np.float64]) -> float:
        return -float(np.var(_rings(smooth, radii, (axis[0], axis[1])).mean(1)))

    reach = outer / 4
    steps = np.linspace(-reach, reach, 9)
    start = min(((x, y) for x in steps for y in steps), key=lambda place: sameness(np.array(place)))
    found = optimize.minimize(sameness, start, method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-12})
    return float(found.x[0]), float(found.x[1])
