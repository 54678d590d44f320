"""CTF filter and soft mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_harmony.transforms import apply_ctf, rfft_weights, soft_circle


@pytest.mark.parametrize("box", [16, 17])
def test_the_filter_multiplies_the_full_spectrum(box: int) -> None:
    generator = np.random.default_rng(0)
    images = generator.normal(size=(2, box, box)).astype(np.float32)
    rows, columns = np.fft.fftfreq(box), np.fft.rfftfreq(box)
    widths = np.array([20.0, 60.0])[:, None, None]
    half = np.cos(widths * (rows[:, None] ** 2 + columns**2))
    full = np.cos(widths * (rows[:, None] ** 2 + rows**2))
    expected = np.fft.ifft2(np.fft.fft2(images) * full).real
    filtered = apply_ctf(torch.from_numpy(images), torch.from_numpy(half).float())
    np.testing.assert_allclose(filtered, expected, atol=1e-5)
    stacked = apply_ctf(torch.from_numpy(images)[:, None].repeat(1, 3, 1, 1), torch.from_numpy(half).float())
    np.testing.assert_allclose(stacked[:, 2], expected, atol=1e-5)


def test_without_a_ctf_nothing_changes() -> None:
    images = torch.rand(2, 8, 8)
    assert apply_ctf(images, None) is images


@pytest.mark.parametrize("box", [16, 17])
def test_weights_make_parseval_hold_on_half_a_spectrum(box: int) -> None:
    image = torch.randn(box, box, generator=torch.Generator().manual_seed(1))
    power = (torch.fft.rfft2(image).abs() ** 2 * rfft_weights(box)).sum() / box**2
    torch.testing.assert_close(power, (image**2).sum())


def test_the_mask_is_a_disc_about_the_true_centre_with_a_soft_border() -> None:
    mask = soft_circle(32, diameter=20.0, edge=4.0)
    assert mask[16, 16] == 1 and mask[16, 16 + 6] == 1
    assert mask[16, 16 + 10] == 0 and mask[0, 0] == 0
    assert 0.4 < float(mask[16, 16 + 8]) < 0.6
    torch.testing.assert_close(mask[1:, 1:], mask[1:, 1:].flip(0, 1))
