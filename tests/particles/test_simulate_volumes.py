"""Simulated subtomograms against analytic densities, their own truth, and the wedge they were cut to."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from napari_harmony.particles.euler import relion_to_matrix
from napari_harmony.particles.simulate_volumes import (
    PosableDensity,
    posable,
    random_angles,
    simulate_subtomograms,
    simulate_volume_noise,
)
from napari_harmony.particles.wedge import TiltRange

SIGMA = 1.6
POINTS = np.random.default_rng(0).uniform(-4, 4, (6, 3))


def blobs(
    box: int, rotation: np.ndarray | None = None, origin: tuple[float, ...] = (0, 0, 0), scale: float = 1.0
) -> np.ndarray:
    """Gaussians at ``POINTS`` (x, y, z from voxel box // 2) seen so that x_ref = R (x_vol - c + t) + c."""
    placed = scale * POINTS @ (np.eye(3) if rotation is None else rotation) - np.asarray(origin)
    axis, width = np.arange(box) - box // 2, scale * SIGMA
    x, y, z = (np.exp(-((axis - placed[:, i, None]) ** 2) / (2 * width**2)) for i in range(3))
    return np.einsum("nz,ny,nx->zyx", z, y, x).astype(np.float32)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize(("box", "out"), [(24, 20), (25, 21), (21, 24)])
def test_a_density_is_drawn_where_the_convention_says(box: int, out: int) -> None:
    prepared = posable(blobs(box))
    assert isinstance(prepared, PosableDensity)
    for angles, origin in [((0, 0, 0), (0, 0, 0)), ((20, 50, 10), (0.4, -1.2, 0.7)), ((200, 130, 80), (1, 0, -1))]:
        rotation = relion_to_matrix(angles)
        exact = blobs(out, rotation, origin)
        assert np.abs(prepared.draw(rotation, np.asarray(origin), out) - exact).max() < 2e-3 * exact.max()


def test_densities_of_another_voxel_size_are_resampled() -> None:
    rotation = relion_to_matrix((20, 50, 10))
    larger = posable(blobs(24), magnification=1.5).draw(rotation, np.array([1.0, 0, 0]), 32)
    assert correlation(larger, blobs(32, rotation, (1.0, 0, 0), 1.5)) > 0.9999


@pytest.mark.parametrize("density", [np.zeros((8, 8, 8)), np.ones((8, 8, 7)), np.ones((8, 8))])
def test_what_is_no_density_is_refused(density: np.ndarray) -> None:
    with pytest.raises(ValueError, match="density"):
        posable(density)


def test_the_truth_undoes_what_was_done() -> None:
    made = simulate_subtomograms(
        [blobs(24), blobs(24)[::-1].copy()], 6, 20, snr=np.inf, tilt_range=None, gain_range=(-0.2, 0.2), seed=3
    )
    volumes = made.particles.read([0, 1, 2, 3, 4, 5])
    assert made.particles.wedge is None and volumes.shape == (6, 20, 20, 20)
    for row, volume in made.truth[made.truth["content"] == 0].iterrows():
        origin = tuple(volume[["origin_x", "origin_y", "origin_z"]])
        exact = blobs(20, relion_to_matrix(volume[["rot", "tilt", "psi"]].to_numpy(dtype=float)), origin)
        assert correlation(volumes[row], exact) > 0.999
    np.testing.assert_allclose(made.clean.std(axis=(1, 2, 3)), 1, rtol=1e-5)
    strength = volumes.std(axis=(1, 2, 3)) / made.truth["gain"]
    assert strength.max() / strength.min() < 1.2  # what is cut off by the box differs


@pytest.mark.parametrize("box", [16, 17])
def test_signal_to_noise_is_what_was_asked(box: int) -> None:
    settings = {"count": 60, "box": box, "shift_sigma": 0.5, "seed": 1}
    noisy = simulate_subtomograms([blobs(box)], snr=0.2, **settings)
    again = simulate_subtomograms([blobs(box)], snr=0.2, **settings)
    clean = simulate_subtomograms([blobs(box)], snr=np.inf, **settings)
    rows = np.arange(60)
    volumes, signal = noisy.particles.read(rows), clean.particles.read(rows)
    np.testing.assert_array_equal(volumes, again.particles.read(rows))
    signal *= noisy.clean.std() / clean.clean.std()
    noise = volumes - signal
    assert noise.var() == pytest.approx(1, rel=0.02)
    assert signal.var(axis=(1, 2, 3)).mean() == pytest.approx(0.2, rel=0.01)
    assert abs(correlation(noise, signal)) < 0.02


def test_signal_and_noise_end_at_the_wedge() -> None:
    made = simulate_subtomograms([blobs(16)], 4, 16, tilt_range=(-50.0, 60.0), snr=0.5)
    assert made.particles.wedge == TiltRange(-50.0, 60.0)
    spectrum = np.abs(np.fft.rfftn(made.particles.read([0, 1, 2, 3]), axes=(1, 2, 3)))
    coverage = TiltRange(-50.0, 60.0).coverage([0, 1, 2, 3], 16)
    assert spectrum[coverage == 0].max() < 1e-3 * spectrum[coverage == 1].mean()
    # atan(fz / fx) = 55 degrees is measured, -55 is not
    assert coverage[0, 10, 0, 7] == coverage[0, 6, 0, 4] != coverage[0, 10, 0, 4]


def test_pure_noise_has_the_variance_and_the_wedge_of_particles() -> None:
    noise = simulate_volume_noise(40, 16, tilt_range=(-40.0, 40.0))
    volumes = noise.read(np.arange(40))
    assert volumes.var() == pytest.approx(1, rel=0.02)
    assert np.abs(np.fft.rfftn(volumes[0]))[4, 0, 0] < 1e-2


def test_orientations_are_uniform() -> None:
    angles = random_angles(4000, np.random.default_rng(0))
    magnitude = np.sort(Rotation.from_matrix(relion_to_matrix(angles)).magnitude())
    assert np.abs((magnitude - np.sin(magnitude)) / np.pi - np.linspace(0, 1, 4000)).max() < 0.03
    assert random_angles(0, np.random.default_rng(0)).shape == (0, 3)
