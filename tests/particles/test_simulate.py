"""The simulator against analytic projections, RELION's images and its own truth."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
import torch

from napari_harmony.particles.ctf import ctf_at
from napari_harmony.particles.projection import euler_matrices, project
from napari_harmony.particles.simulate import (
    CtfRange,
    sample_particles,
    sample_volumes,
    simulate_noise,
    simulate_particles,
)

SIGMA = 1.5
POINTS = np.random.default_rng(0).uniform(-6, 6, (8, 3))


def blob_volume(box: int) -> np.ndarray:
    """Gaussians at ``POINTS`` (x, y, z from voxel box // 2)."""
    axis = np.arange(box) - box // 2
    x, y, z = (np.exp(-((axis - POINTS[:, i, None]) ** 2) / (2 * SIGMA**2)) for i in range(3))
    return np.einsum("nz,ny,nx->zyx", z, y, x)


def blob_image(box: int, rot: float, tilt: float, psi: float, origin: tuple[float, float] = (0, 0), scale: float = 1):
    """What the projection of ``blob_volume`` must be: the Gaussians in the plane, moved by minus the origin."""
    placed = scale * (POINTS @ euler_matrices(rot, tilt, psi)[0].T)[:, :2] - np.asarray(origin)
    axis, width = np.arange(box) - box // 2, scale * SIGMA
    x, y = (np.exp(-((axis - placed[:, i, None]) ** 2) / (2 * width**2)) for i in range(2))
    return np.einsum("ny,nx->yx", y, x) * SIGMA * np.sqrt(2 * np.pi)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize("box", [32, 33])
def test_projections_are_those_of_the_density(box: int) -> None:
    angles = [(0, 0, 0), (20, 50, 10), (100, 130, 80), (300, 77, 200)]
    found = project(blob_volume(box), *np.transpose(angles))
    for image, (rot, tilt, psi) in zip(found, angles, strict=True):
        exact = blob_image(box, rot, tilt, psi)
        assert np.abs(image - exact).max() < 1e-3 * exact.max()


def test_box_and_magnification_keep_the_centre() -> None:
    found = project(blob_volume(32), 20, 50, 10, box=49, magnification=1.5)[0]
    exact = blob_image(49, 20, 50, 10, scale=1.5)
    assert np.abs(found - exact).max() < 1e-3 * exact.max()


def test_density_must_be_cubic() -> None:
    with pytest.raises(ValueError, match="shape"):
        project(np.zeros((4, 4, 5)), 0, 0)


def test_agrees_with_relion(shared_data: Path) -> None:
    starfile = pytest.importorskip("starfile")
    with mrcfile.open(shared_data / "densities" / "70S_65px_5A.mrc", permissive=True) as mrc:
        volume = np.array(mrc.data)
    table = starfile.read(shared_data / "poses" / "rln_proj_64_centered.star", always_dict=True)["particles"]
    with mrcfile.open(shared_data / "poses" / "rln_proj_64_centered.mrcs", permissive=True) as mrc:
        images = np.array(mrc.data)
    found = project(volume, *(table[f"rlnAngle{name}"] for name in ("Rot", "Tilt", "Psi")), box=64)
    assert all(correlation(a, b) > 0.99 for a, b in zip(found, images, strict=True))


def test_poses_follow_relion_convention() -> None:
    made = simulate_particles([blob_volume(32)], views=2, count=6, box=32, snr=np.inf, ctf=None, scale_range=(0.8, 1.2))
    images = made.particles.read(slice(None))
    for image, row in zip(images, made.truth.itertuples(), strict=True):
        exact = blob_image(32, row.rot, row.tilt, row.psi, (row.origin_x, row.origin_y), row.scale)
        assert correlation(image, exact) > 0.9999


def test_clean_contents_belong_to_the_truth() -> None:
    made = simulate_particles([blob_volume(32), sample_volumes(32)[0]], views=2, count=8, box=32, snr=0.5)
    assert made.clean.shape == (4, 32, 32)
    first = made.truth.groupby("content")[["rot", "tilt"]].first()
    volumes = [blob_volume(32)] * 2 + [sample_volumes(32)[0]] * 2
    for content, (rot, tilt) in first.iterrows():
        assert correlation(made.clean[content], project(volumes[content], rot, tilt)[0]) > 0.9999


def test_snr_is_that_of_the_filtered_signal() -> None:
    options = {"views": 3, "count": 200, "box": 32, "seed": 4}
    volumes = sample_volumes(32)[:2]
    clean = simulate_particles(volumes, snr=np.inf, **options).particles.read(slice(None))
    noisy = simulate_particles(volumes, snr=0.1, **options).particles.read(slice(None))
    signal_sd = clean.std(axis=(1, 2))
    gain = np.sqrt(0.1 / (signal_sd**2).mean())  # brings the clean signal into units of the noise
    noise = noisy - gain * clean
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert noise.mean() == pytest.approx(0, abs=0.01)


def test_ctf_is_applied_without_wrapping_around() -> None:
    ctf = CtfRange(defocus=(20_000, 20_000), astigmatism=(500, 500), b_factor=0)
    options = {"views": 1, "count": 3, "box": 32, "pixel_size": 4.0, "snr": np.inf, "seed": 1}
    plain = simulate_particles([blob_volume(32)], ctf=None, **options)
    filtered = simulate_particles([blob_volume(32)], ctf=ctf, **options)
    assert filtered.particles.ctf is not None
    assert filtered.particles.ctf.defocus_u[0] - filtered.particles.ctf.defocus_v[0] == pytest.approx(1000)
    row = plain.truth.iloc[0]
    large = blob_image(64, row.rot, row.tilt, row.psi, (row.origin_x, row.origin_y))
    fy, fx = torch.meshgrid(torch.fft.fftfreq(64) / 4, torch.fft.rfftfreq(64) / 4, indexing="ij")
    transfer = ctf_at(filtered.particles.ctf.subset([0]), fx, fy)[0].numpy()
    exact = np.fft.irfft2(np.fft.rfft2(large) * transfer, s=(64, 64))[16:48, 16:48]
    pd.testing.assert_frame_equal(plain.truth, filtered.truth)
    assert correlation(filtered.particles.read([0])[0], exact) > 0.9999


def test_own_views_cover_the_sphere() -> None:
    made = simulate_particles([blob_volume(16)], views=None, count=400, box=16)
    height = np.cos(np.radians(made.truth["tilt"]))
    assert made.truth["content"].eq(0).all()
    assert len(made.clean) == 1
    assert abs(height.mean()) < 0.1
    assert height.var() == pytest.approx(1 / 3, abs=0.05)


def test_distributions_follow_the_request() -> None:
    made = simulate_particles([blob_volume(16)], views=4, count=800, box=16, shift_sigma=3, contrast_range=(-0.5, 0.5))
    truth = made.truth
    assert truth[["origin_x", "origin_y"]].to_numpy().std() == pytest.approx(3, rel=0.1)
    assert np.log(truth["contrast"]).abs().max() <= 0.5
    assert np.log(truth["contrast"]).std() == pytest.approx(1 / np.sqrt(12), rel=0.1)
    assert abs(np.exp(1j * np.radians(truth["psi"])).mean()) < 0.1
    assert truth["content"].value_counts().min() > 150


def test_seed_decides_everything() -> None:
    one, two, other = (sample_particles(count=5, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.particles.read(slice(None)), two.particles.read(slice(None)))
    assert not np.array_equal(one.particles.read(slice(None)), other.particles.read(slice(None)))


def test_sample_contents_are_distinct_and_inside_the_box() -> None:
    volumes = sample_volumes()
    made = sample_particles(count=20)
    assert made.clean.shape == (len(volumes), 64, 64)
    assert made.particles.ctf is not None
    axis = np.arange(64) - 32
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    assert all(volume[radius > 29].max() < 0.05 * volume.max() for volume in volumes)
    spectra = np.abs(np.fft.fft2(made.clean - made.clean.mean(axis=(1, 2), keepdims=True)))
    pairs = [correlation(spectra[i], spectra[j]) for i in range(5) for j in range(i)]
    assert max(pairs) < 0.95


def test_noise_has_no_signal() -> None:
    images = simulate_noise(400, 16, seed=2).read(slice(None))
    assert images.std() == pytest.approx(1, abs=0.01)
    assert np.abs(images.mean(axis=0)).max() < 5 / np.sqrt(400)
