"""Shell correlation under a mask, and what randomised phases take off."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_harmony.analysis import fsc
from napari_harmony.particles.simulate import sample_volumes

BOX = 32


def ball(radius: float, edge: float = 0.0, box: int = BOX) -> np.ndarray:
    axis = np.arange(box) - box // 2
    distance = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    return np.clip((radius + edge - distance) / edge, 0, 1) if edge else (distance <= radius).astype(float)


@pytest.fixture(scope="module")
def structure() -> np.ndarray:
    return np.asarray(sample_volumes(BOX)[0], np.float64)


def halves(common: np.ndarray, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    one, two = (common + rng.normal(0, noise, common.shape) for _ in range(2))
    return one, two


@pytest.mark.parametrize("box", [16, 17])
def test_correlation_agrees_with_the_whole_spectrum(box: int) -> None:
    rng = np.random.default_rng(1)
    one, two = rng.normal(size=(2, box, box, box))
    two += 0.5 * one
    a, b = np.fft.fftn(one), np.fft.fftn(two)
    frequency = np.fft.fftfreq(box, 1 / box)
    shell = np.rint(np.sqrt(frequency[:, None, None] ** 2 + frequency[:, None] ** 2 + frequency**2))
    want = [
        (a * b.conj())[shell == i].sum().real / np.linalg.norm(a[shell == i]) / np.linalg.norm(b[shell == i])
        for i in range(box // 2 + 1)
    ]
    np.testing.assert_allclose(fsc.shell_correlation(one, two), want, atol=1e-12)
    np.testing.assert_allclose(fsc.shell_correlation(one, -one), -1)
    assert not fsc.shell_correlation(one, np.zeros_like(one)).any()


def test_phases_are_random_beyond_a_shell_and_amplitudes_stay(structure: np.ndarray) -> None:
    random = fsc.randomise_phases(structure, 6, np.random.default_rng(0))
    before, after = np.fft.rfftn(structure), np.fft.rfftn(random)
    # corners whose frequency is its own mirror keep their size too, so the whole spectrum can be compared
    np.testing.assert_allclose(np.abs(after), np.abs(before), atol=1e-8 * np.abs(before).max())
    curve = fsc.shell_correlation(structure, random)
    np.testing.assert_allclose(curve[:6], 1, atol=1e-9)
    assert np.abs(curve[7:]).max() < 0.35 and abs(curve[7:].mean()) < 0.1


def test_what_a_mask_makes_of_noise_is_taken_off() -> None:
    common = 8 * gaussian_filter(np.random.default_rng(3).normal(size=(BOX,) * 3), 3.0) + 1.0  # nothing but coarse
    one, two = halves(common, 0.5)
    found = fsc.masked_fsc(one, two, ball(7))
    far = slice(10, BOX // 2 + 1)  # where there is nothing but noise
    assert abs(found.unmasked[far].mean()) < 0.05
    assert found.masked[far].mean() > 0.2  # inflated
    assert abs(found.corrected[far].mean()) < 0.08
    assert fsc.resolution(found.corrected, 10.0) > 1.3 * fsc.resolution(found.masked, 10.0)
    assert found.randomised_from < 8 and found.mask_fraction == pytest.approx(ball(7).mean())


def test_pure_noise_has_no_resolution_under_a_tight_mask() -> None:
    one, two = halves(np.zeros((BOX,) * 3), 1.0)
    found = fsc.masked_fsc(one, two, ball(6))
    assert found.randomised_from == 1 and abs(found.corrected[3:].mean()) < 0.1
    assert fsc.resolution(found.corrected, 10.0) > 0.4 * BOX * 10


@pytest.mark.parametrize("noise", [0.02, 0.5])
def test_a_real_structure_keeps_its_resolution(structure: np.ndarray, noise: float) -> None:
    one, two = halves(structure, noise * structure.std() * 3)
    mask = fsc.outline_mask(one + two)
    assert mask is not None
    found = fsc.masked_fsc(one, two, mask)
    plain, corrected = (fsc.resolution(curve, 10.0) for curve in (found.unmasked, found.corrected))
    assert corrected <= plain * 1.02  # a mask that fits takes noise off and nothing else
    assert corrected >= 0.98 * fsc.resolution(found.masked, 10.0)


def test_halves_that_agree_everywhere_are_left_alone(structure: np.ndarray) -> None:
    found = fsc.masked_fsc(structure, structure, ball(12, 3))
    assert found.randomised_from == BOX // 2 + 1
    np.testing.assert_allclose(found.corrected, 1, atol=1e-9)
    assert fsc.resolution(found.corrected, 10.0) == 20.0


def test_the_correction_itself() -> None:
    masked, random = np.array([1, 0.9, 0.7, 0.6, 0.5, 0.2, 0.4]), np.array([1, 0.9, 0.6, 0.3, 0.2, 0.4, 1.0])
    corrected = fsc.corrected_curve(masked, random, 2)
    np.testing.assert_allclose(corrected[:4], masked[:4])
    np.testing.assert_allclose(corrected[4:], [0.3 / 0.8, 0, 0])


def test_a_mask_follows_the_average(structure: np.ndarray) -> None:
    shift = np.roll(structure, 3, axis=2)
    mask = fsc.outline_mask(shift + np.random.default_rng(0).normal(0, 0.2 * shift.std(), shift.shape))
    assert mask is not None and mask.min() == 0 and mask.max() == 1
    assert (shift**2 * mask).sum() > 0.95 * (shift**2).sum() and mask.mean() < 0.7
    assert np.abs(np.diff(mask, axis=0)).max() < 0.5  # soft
    assert fsc.outline_mask(np.zeros((16, 16, 16))) is None
    assert fsc.outline_mask(np.full((16, 16, 16), np.nan)) is None


def test_specks_are_no_part_of_a_mask() -> None:
    average = gaussian_filter(ball(7), 0.5)
    average[2:4, 2:4, 2:4] = 1.0
    mask = fsc.outline_mask(average)
    assert mask is not None and mask[2, 2, 2] == 0 and mask[BOX // 2, BOX // 2, BOX // 2] == 1


@pytest.mark.parametrize(
    "change", [lambda v: v[:16], lambda v: v[:16, :16, :16], lambda v: v[0]], ids=["flat", "small", "image"]
)
def test_shapes_that_do_not_fit(change: Callable[[np.ndarray], np.ndarray], structure: np.ndarray) -> None:
    with pytest.raises(ValueError, match="three cubes"):
        fsc.masked_fsc(structure, change(structure), structure)


def test_the_worse_resolution_is_stated(structure: np.ndarray) -> None:
    one, two = halves(structure, 3 * structure.std(), seed=1)
    nothing = np.zeros_like(structure)
    stacked = np.stack([[one, one, nothing, one], [two, two, nothing, two]])
    curves = fsc.of_classes(stacked.mean(0), stacked)
    assert [curve is None for curve in curves] == [False, False, True, False]
    assert curves[0] is not None
    measured = fsc.resolution(curves[0].corrected, 10.0)
    assert 20 < measured < 320
    stated = fsc.worse_of(np.array([measured - 5, measured + 50, 33.0, np.nan]), curves, 10.0)
    np.testing.assert_allclose(stated, [measured, measured + 50, 33, np.nan], rtol=1e-2)
