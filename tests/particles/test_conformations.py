"""Particles with moving parts: the truth is what was drawn, and every factor moves its own place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from napari_harmony.analysis.disentanglement import content_tracking
from napari_harmony.particles.conformation_volumes import simulate_conformation_volumes
from napari_harmony.particles.conformations import FACTORS, Conformations, simulate_conformations
from napari_harmony.particles.euler import relion_to_matrix
from napari_harmony.particles.moving_body import KINDS, body, draw_pictures, draw_volumes


def _posed_back(made: Conformations, row: int) -> np.ndarray:
    """A noise-free particle resampled into its canonical pose by the RELION convention of the truth table."""
    picture = made.particles.read([row])[0]
    truth, c = made.truth.iloc[row], picture.shape[-1] // 2
    if picture.ndim == 2:
        psi = np.radians(truth["psi"])
        matrix = np.array([[np.cos(psi), -np.sin(psi)], [np.sin(psi), np.cos(psi)]])
        origin = truth[["origin_x", "origin_y"]].to_numpy(float)
    else:
        matrix = relion_to_matrix(truth[["rot", "tilt", "psi"]].to_numpy(float)[None])[0]
        origin = truth[["origin_x", "origin_y", "origin_z"]].to_numpy(float)
    # x_img = R^-1 (x_ref - c) - t + c, on (z,) y, x
    inverse = matrix.T[::-1, ::-1]
    offset = c - inverse @ np.full(len(origin), c) - origin[::-1]
    return affine_transform(picture, inverse, offset, order=5) / truth["contrast"]


@pytest.mark.parametrize("kind", range(KINDS))
def test_the_pose_of_the_truth_brings_a_picture_back(kind: int) -> None:
    made = simulate_conformations(count=12, kinds=KINDS, snr=np.inf, seed=kind, shift=0.7)
    for row in np.flatnonzero(made.truth["kind"] == kind):
        clean = made.clean([row])[0]
        error = _posed_back(made, row) - clean
        assert np.linalg.norm(error) < 0.02 * np.linalg.norm(clean)


def test_the_pose_of_the_truth_brings_a_volume_back() -> None:
    made = simulate_conformation_volumes(count=4, snr=np.inf, tilt_range=None, contrast=0.3, shift=0.7, seed=3)
    for row in range(4):
        clean = made.clean([row])[0]
        assert np.linalg.norm(_posed_back(made, row) - clean) < 0.03 * np.linalg.norm(clean)


def test_a_volume_sums_to_its_picture() -> None:
    beads = body(torch.tensor([[0.3, -0.4, 0.9]]), torch.tensor([1]), 32)
    torch.testing.assert_close(draw_volumes(beads, 32).sum(1), draw_pictures(beads, 32), atol=2e-3, rtol=0)


@pytest.mark.parametrize("kind", range(KINDS))
def test_every_factor_moves_a_place_of_its_own_and_none_looks_like_a_change_of_pose(kind: int) -> None:
    anchors = torch.rand(12, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    steps = torch.linspace(-0.58, 0.58, 5)[:, None] * torch.eye(3)[:, None]
    factors = (anchors[:, None, None] + steps).reshape(-1, 3)
    pictures = draw_pictures(body(factors, torch.full((len(factors),), kind), 32), 32)
    scores = content_tracking(pictures.reshape(12, 3, 5, 32, 32).numpy())
    for direction in scores.directions:
        assert direction.verdict == "content" and direction.leak < 0.8
        assert direction.overlap < 0.01 and direction.consistency > 0.8


def test_each_factor_can_be_seen_in_the_noise_and_the_core_is_stronger_than_all_of_them() -> None:
    made = simulate_conformations(count=400, seed=1)
    clean = made.clean(range(400)).reshape(400, -1)
    factors = made.truth[list(FACTORS)].to_numpy()
    slopes = np.linalg.lstsq(factors, clean - clean.mean(0), rcond=None)[0]
    energy = (slopes**2).sum(1) * factors.var(0)  # of the change, in units of the noise of a pixel
    assert (energy > 8).all()
    assert energy.sum() < 0.25 * (clean.mean(0) ** 2).sum()


def test_noise_signal_and_contrast_are_as_asked() -> None:
    made = simulate_conformations(count=600, snr=0.5, contrast=0.3, seed=2)
    images = made.particles.read(range(600))
    clean = made.clean(range(600))
    assert clean.var(axis=(1, 2)).mean() == pytest.approx(0.5, rel=0.1)
    corner = images[:, :3, :3]
    assert corner.var() == pytest.approx(1.0, rel=0.1)
    bright = np.log(made.truth["contrast"])
    assert bright.min() > -0.3 and bright.max() < 0.3 and bright.std() > 0.1


@pytest.mark.parametrize("make", [simulate_conformations, simulate_conformation_volumes])
def test_the_seed_says_everything_and_a_wrong_number_of_kinds_is_refused(make) -> None:
    first, again, other = (make(count=5, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.particles.read(range(5)), again.particles.read(range(5)))
    assert first.truth.equals(again.truth) and not first.truth.equals(other.truth)
    with pytest.raises(ValueError, match="from 1 to 3"):
        make(count=5, kinds=4)


def test_factors_are_independent_of_each_other_and_of_the_pose() -> None:
    truth = simulate_conformations(count=3000, box=16, kinds=3, seed=6).truth
    correlation = truth.drop(columns="kind").corr().to_numpy() - np.eye(7)
    assert np.abs(correlation).max() < 0.08
    assert np.abs(truth[list(FACTORS)].to_numpy()).max() <= 1


def test_images_behind_a_microscope_know_their_ctf() -> None:
    made = simulate_conformations(count=6, ctf=True, seed=7)
    assert made.particles.ctf is not None
    parameters = made.particles.ctf
    np.testing.assert_allclose(made.truth["defocus"], (parameters.defocus_u + parameters.defocus_v) / 2)
    flat = simulate_conformations(count=6, seed=7)
    assert flat.particles.ctf is None and "defocus" not in flat.truth
    assert made.clean([2, 0]).shape == (2, 32, 32)


def test_gradients_reach_the_factors() -> None:
    factors = torch.zeros(2, 3, requires_grad=True)
    drawn = draw_pictures(body(factors, torch.tensor([0, 2]), 24), 24)
    (drawn**2).sum().backward()
    assert factors.grad is not None and (factors.grad.abs() > 1e-3).all()
