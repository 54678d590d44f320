"""Ring correlation against cases with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from napari_harmony.analysis import frc

BOX = 32


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, BOX, BOX))


def test_identical_images_correlate_fully_and_opposite_ones_negatively() -> None:
    stack = images(3)
    np.testing.assert_allclose(frc.ring_correlation(stack, 2 * stack), 1)
    np.testing.assert_allclose(frc.ring_correlation(stack, -stack), -1)


def test_known_signal_to_noise_gives_known_correlation() -> None:
    signal, one, two = images(200, 1), images(200, 2), images(200, 3)
    curves = frc.ring_correlation(signal + one, signal + two)
    assert curves.shape == (200, BOX // 2)
    np.testing.assert_allclose(curves.mean(axis=0)[2:], 0.5, atol=0.03)  # SNR 1: 1 / (1 + 1)


def test_shells_select_their_frequencies() -> None:
    axis = np.arange(BOX)
    wave = np.cos(2 * np.pi * 5 * axis / BOX)[None, :].repeat(BOX, axis=0)
    other = np.cos(2 * np.pi * 9 * axis / BOX)[:, None].repeat(BOX, axis=1)
    curve = frc.ring_correlation(wave + other, wave - other)
    assert curve[4] == pytest.approx(1)
    assert curve[8] == pytest.approx(-1)
    assert frc.frequencies(BOX, 2.0)[4] == pytest.approx(5 / 64)


def test_mean_does_not_count() -> None:
    stack = images(1)[0]
    np.testing.assert_allclose(frc.ring_correlation(stack, stack + 100), 1)


def test_empty_shell_is_zero() -> None:
    assert np.array_equal(frc.ring_correlation(np.zeros((BOX, BOX)), images(1)[0]), np.zeros(BOX // 2))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="one shape"):
        frc.ring_correlation(images(2), images(3))


@pytest.mark.parametrize("box", [32, 33])
def test_ring_sizes_cover_the_circle(box: int) -> None:
    sizes = frc.ring_sizes(box)
    assert len(sizes) == box // 2
    assert sizes[0] == 8  # all neighbours of the mean
    assert sizes.sum() == pytest.approx(np.pi * (box // 2 + 0.5) ** 2, rel=0.05)


@pytest.mark.parametrize("masked", [False, True])
def test_noise_floor_is_three_sigma_of_noise(masked: bool) -> None:
    mask = frc.soft_mask(BOX, 16, 4) if masked else None
    curves = frc.ring_correlation(images(400, 4), images(400, 5), mask)
    floor = frc.noise_floor(BOX, mask)
    assert (curves > floor).mean() < 0.01
    np.testing.assert_allclose(curves[:, 3:].std(axis=0), floor[3:] / 3, rtol=0.2)


def test_soft_mask() -> None:
    mask = frc.soft_mask(BOX, 20, 4)
    assert mask[16, 16] == 1
    assert mask[16, 25] == 1  # 9 pixels out
    assert mask[16, 28] == pytest.approx(0.5)  # halfway down the edge
    assert mask[16, 31] == 0
    assert set(np.unique(frc.soft_mask(BOX, 20, 0))) == {0.0, 1.0}


def test_resolution_interpolates_between_shells() -> None:
    curve = np.r_[np.ones(7), 0.75, 0.25, np.zeros(7)]  # falls through 0.5 midway between shells 8 and 9
    assert frc.resolution(curve, 0.5, 2.0, BOX) == pytest.approx(BOX * 2.0 / 8.5)
    assert frc.resolution(curve, np.full(16, 0.75), 2.0, BOX) == pytest.approx(BOX * 2.0 / 8)


def test_resolution_without_crossing() -> None:
    assert frc.resolution(np.ones(16), 0.5, 2.0, BOX) == 4.0
    assert np.isnan(frc.resolution(np.zeros(16), 0.5, 2.0, BOX))
    assert np.isnan(frc.resolution(np.full(16, np.nan), 0.5, 2.0, BOX))


def test_half_set_threshold_matches_that_of_the_truth() -> None:
    # C_ref = sqrt(2 c / (1 + c)): 0.143 of two halves is 0.5 against the truth.
    assert np.sqrt(frc.full_set(frc.HALF_SET)) == pytest.approx(frc.TRUTH, abs=1e-3)
