"""Preparation: noise of unit variance whatever its colour, contrasts that traces do not change, and clear refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from engine_data import draw, stack
from numpy.typing import NDArray

from napari_harmony.engine.geometry import working_geometry
from napari_harmony.engine.preprocess import VARIATION, Prepared, cropped_transform, prepare
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.work import finish
from napari_harmony.errors import InputError
from napari_harmony.particles.ctf import CtfParameters, ctf_at
from napari_harmony.particles.dataset import Particles

CPU = torch.device("cpu")


def white(count: int, box: int = 32, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, box, box), dtype=np.float32)


def filtered(images: NDArray[np.float32], curve: NDArray[np.float64]) -> NDArray[np.float32]:
    """Images (n, box, box) times a real, even curve (box, box // 2 + 1) or one per image in Fourier space."""
    return np.fft.irfft2(np.fft.rfft2(images) * curve, s=images.shape[1:]).astype(np.float32)


def radius(box: int = 32) -> NDArray[np.float64]:
    return np.hypot(np.fft.fftfreq(box, 1 / box)[:, None], np.arange(box // 2 + 1))


def prepared(particles: Particles, settings: Settings | None = None, largest: int = 64) -> Prepared:
    return finish(prepare(particles, settings or Settings(), CPU, largest))


def ring_power(samples: torch.Tensor, box: int = 32) -> NDArray[np.float64]:
    """Mean power on rings 1 to box / 2 - 1."""
    power, ring = (samples.abs() ** 2).mean(0).numpy(), radius(box).round()
    return np.array([power[ring == r].mean() for r in range(1, box // 2)])


@pytest.mark.parametrize("gain", [1.0, 300.0])
@pytest.mark.parametrize("coloured", [False, True])
def test_noise_has_unit_variance_on_every_ring(coloured: bool, gain: float) -> None:
    images = white(150)
    if coloured:
        images = filtered(images, 1 / (1 + 0.3 * radius()))
        raw = ring_power(cropped_transform(torch.as_tensor(images), 32))
        assert raw[0] > 8 * raw[-1]
    power = ring_power(prepared(stack(gain * (images + 5))).samples)
    # The innermost rings also hold what the window and the mean of the background took away.
    assert np.abs(power[2:] - 1).max() < 0.1
    assert (power[:2] > 0.7).all() and (power[:2] < 2).all()


def test_the_signal_does_not_count_as_noise() -> None:
    """Whitening looks outside the mask alone."""
    object_ = 3 * draw(0, np.linspace(0, 300, 60)).numpy()
    settings = Settings(mask_diameter=240.0)
    noise = prepared(stack(white(60)), settings)
    both = prepared(stack(white(60) + object_), settings)
    np.testing.assert_allclose(both.noise, noise.noise, rtol=0.1)
    assert (ring_power(both.samples)[1:4] > 2 * ring_power(noise.samples)[1:4]).all()


def clean(traces: NDArray[np.float64]) -> Prepared:
    """Images without noise but with traces, of these heights against the object, all over the background."""
    objects = draw(0, np.zeros(len(traces))).numpy()
    return prepared(stack(objects + traces[:, None, None] * white(len(traces))))


def test_without_noise_a_share_of_the_power_takes_its_place_and_is_white() -> None:
    of = clean(np.zeros(20))
    assert float(of.noise.min()) == float(of.noise.max())
    assert float((of.samples.abs() ** 2).mean()) == pytest.approx(1 / VARIATION, rel=0.1)


def test_without_noise_contrast_does_not_depend_on_traces_in_the_background() -> None:
    of = clean(np.array([0, 1e-6, 1e-4, 1e-3, 3e-3] * 4))
    energy = (of.samples.abs() ** 2).sum((1, 2)).sqrt()
    assert float(energy.std() / energy.mean()) < 0.005


def test_with_noise_the_contrast_of_each_image_is_that_of_its_background() -> None:
    gains = np.linspace(0.2, 5, 30)
    of = prepared(stack(gains[:, None, None] * white(30) + 100 * gains[:, None, None]))
    power = (of.samples.abs() ** 2).mean((1, 2)).numpy()
    assert np.abs(power - 1).max() < 0.35


@pytest.mark.parametrize(("source", "box"), [(48, 32), (49, 32), (48, 33), (33, 33)])
def test_cropped_noise_stays_white(source: int, box: int) -> None:
    samples = cropped_transform(torch.as_tensor(white(60, source)), box)
    assert samples.shape == (60, box, box // 2 + 1)
    assert np.abs(ring_power(samples, box) - 1).max() < 0.15


def test_lengths_follow_the_working_grid() -> None:
    particles = stack(np.zeros((4, 96, 96)), pixel_size=2.0)
    geometry = working_geometry(particles, Settings(mask_diameter=120.0, max_shift=24.0))
    assert (geometry.source_box, geometry.box, geometry.pixel_size) == (96, 64, 3.0)
    assert (geometry.mask_radius, geometry.max_shift, geometry.scale) == (20.0, 8.0, 1.5)
    own = working_geometry(stack(np.zeros((4, 48, 48)), pixel_size=2.0), Settings())
    assert (own.box, own.scale, own.pixel_size) == (48, 1.0, 2.0)
    assert own.mask_radius == pytest.approx(0.45 * 48) and own.max_shift == pytest.approx(0.16 * 48)


def test_a_large_image_is_cropped_about_its_centre() -> None:
    images = 30 * draw(0, np.linspace(0, 300, 10), box=48).numpy() + white(10, 48)
    of = prepared(stack(images), largest=32)
    back = torch.fft.fftshift(torch.fft.irfft2(of.samples, s=(32, 32), norm="ortho"), dim=(1, 2))
    want = draw(0, np.linspace(0, 300, 10), box=32)
    assert float(torch.corrcoef(torch.stack([back.flatten(), want.flatten()]))[0, 1]) > 0.97


def under(count: int) -> CtfParameters:
    """Between 10 and 20 thousand angstrom of defocus."""
    same = {"voltage": 300.0, "spherical_aberration": 2.7, "amplitude_contrast": 0.1, "phase_shift": 0.0}
    defocus = np.linspace(10_000.0, 20_000.0, count)
    rest = {name: np.full(count, value) for name, value in same.items()}
    return CtfParameters(defocus, defocus, np.zeros(count), **rest, b_factor=np.full(count, 50.0))


def test_samples_are_ctf_times_signal_with_relions_sign() -> None:
    count, pixel = 40, 5.0
    parameters, signal = under(count), 20 * draw(0, np.linspace(0, 350, count)).numpy()
    f = torch.as_tensor(np.fft.fftfreq(32, pixel)), torch.as_tensor(np.fft.rfftfreq(32, pixel))
    ctf = ctf_at(parameters, f[1][None].expand(32, 17), f[0][:, None].expand(32, 17)).numpy()
    of = prepared(stack(filtered(signal, ctf) + white(count), pixel, parameters))
    want = of.ctf * cropped_transform(torch.as_tensor(signal), 32)
    ring = torch.as_tensor(radius()).round()
    for inside in ((ring > 0) & (ring < 5), (ring >= 5) & (ring < 9)):
        a, b = of.samples[:, inside], want[:, inside]
        assert float((a * b.conj()).real.sum() / (a.norm() * b.norm())) > 0.7
    assert (of.ctf[:, 0, 0] > 0).all() and (of.ctf < 0).any()
    flipped = prepared(stack(signal + white(count), pixel, replace(parameters, phase_flipped=True)))
    assert (flipped.ctf >= 0).all()


def test_what_cannot_be_used_is_flagged_and_left_out() -> None:
    images = white(8)
    images[1, 3, 3] = np.nan
    images[2] = 7.0
    images[5] = images[0]
    images[6, 0, 0] = np.inf
    of = prepared(stack(images))
    assert of.flags.tolist() == ["", "not-finite", "constant", "", "", "duplicate", "not-finite", ""]
    assert of.usable.tolist() == [flag == "" for flag in of.flags]
    assert of.keys[0] == of.keys[5] and len(set(of.keys.tolist())) == 7
    assert torch.isfinite(torch.view_as_real(of.samples)).all()
    assert (of.samples[[1, 2, 6]] == 0).all()
    rest = prepared(stack(images[[0, 3, 4, 5, 7]]))
    torch.testing.assert_close(of.samples[[0, 3, 4, 5, 7]], rest.samples)


@pytest.mark.parametrize(
    ("images", "settings", "message"),
    [
        (np.zeros((4, 12, 12)), Settings(), "images are 12 pixels wide; at least 16"),
        (white(4), Settings(mask_diameter=321.0), r"mask diameter: 321 A is 32.1 pixels; give 40 to 320 A"),
        (white(4), Settings(mask_diameter=30.0), "mask diameter: 30 A is 3.0 pixels"),
        (white(4), Settings(max_shift=161.0), "max shift: 161 A is beyond half the box; give up to 160 A"),
        (white(4), Settings(max_shift=-1.0), "max shift: -1 A"),
        (np.full((4, 32, 32), np.nan), Settings(), "no image holds a finite signal"),
        (np.ones((4, 32, 32)), Settings(), "no image holds a finite signal"),
    ],
)
def test_what_no_run_makes_sense_with_is_refused(images: NDArray[np.float32], settings: Settings, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepared(stack(images), settings)


def test_the_bounds_themselves_are_allowed() -> None:
    geometry = working_geometry(stack(white(4)), Settings(mask_diameter=320.0, max_shift=160.0))
    assert (geometry.mask_radius, geometry.max_shift) == (16.0, 16.0)
    assert working_geometry(stack(white(4)), Settings(mask_diameter=40.0, max_shift=0.0)).max_shift == 0
