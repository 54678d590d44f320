"""Rotational power spectra of tubes."""

from __future__ import annotations

import numpy as np
import pytest

from napari_harmony.analysis.rotational import rotational_spectrum
from napari_harmony.errors import InputError

BOX, RADIUS = 48, 12.0


def tube(subunits: int, axis: tuple[float, float] = (0.0, 0.0), squeeze: float = 1.0) -> np.ndarray:
    """A tube (z, y, x) of round protofilaments along z."""
    grid = np.arange(BOX) - BOX // 2
    y, x = (grid[:, None] - axis[1]) * squeeze, grid[None, :] - axis[0]
    angle = 2 * np.pi * np.arange(subunits) / subunits + 0.2
    spots = [np.exp(-((x - RADIUS * np.cos(a)) ** 2 + (y - RADIUS * np.sin(a)) ** 2) / (2 * 1.5**2)) for a in angle]
    return np.broadcast_to(np.sum(spots, axis=0), (8, BOX, BOX))


@pytest.mark.parametrize("subunits", [9, 13, 14])
def test_a_tube_peaks_at_its_number_of_protofilaments(subunits: int) -> None:
    spectrum = rotational_spectrum(tube(subunits), 9, 15)
    order, ratio = spectrum.peak()
    assert order == subunits and ratio > 20
    np.testing.assert_allclose(spectrum.axis, 0, atol=0.05)
    assert spectrum.polar.shape == (len(spectrum.radii), 360) and len(spectrum.power) == 180


def test_the_axis_is_found_where_the_tube_is_off_the_middle() -> None:
    shifted = tube(13, (2.3, -1.4))
    spectrum = rotational_spectrum(shifted, 9, 15)
    np.testing.assert_allclose(spectrum.axis, (2.3, -1.4), atol=0.05)
    assert spectrum.peak()[0] == 13
    beside = rotational_spectrum(shifted, 9, 15, axis=(0, 0))
    assert beside.axis == (0, 0) and beside.peak()[1] < 0.2 * spectrum.peak()[1]


def test_a_flattened_tube_has_power_at_two() -> None:
    round_tube, flat = (rotational_spectrum(tube(13, squeeze=s), 9, 15).power for s in (1.0, 0.9))
    assert flat[2] > 100 * round_tube[2] and flat[8:21].argmax() == 5


def test_noise_has_no_order_of_its_own() -> None:
    rng = np.random.default_rng(0)
    peaks = [rotational_spectrum(rng.normal(size=(40, 40)), 8, 13, axis=(0, 0)).peak() for _ in range(40)]
    orders, ratios = zip(*peaks, strict=True)
    assert len(set(orders)) > 6 and np.median(ratios) < 2


def test_power_is_that_of_the_wave() -> None:
    grid = np.arange(64) - 32
    wave = 3 * np.cos(13 * np.arctan2(grid[:, None], grid[None, :]))
    power = rotational_spectrum(wave, 20, 28, axis=(0, 0)).power
    assert power[13] == pytest.approx((3 / 2) ** 2, rel=0.02) and power[0] < 1e-3


@pytest.mark.parametrize(
    ("shape", "rings", "message"),
    [((4, 4, 4, 4), (1, 2), "4 axes"), ((20, 20, 20), (5, 12), "do not fit"), ((20, 20), (6, 5), "do not fit")],
)
def test_what_has_no_rings_is_refused(shape: tuple[int, ...], rings: tuple[float, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rotational_spectrum(np.zeros(shape), *rings)
