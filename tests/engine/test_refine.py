"""Refined poses are exact without noise, and their spreads are true with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_data import basis_of, draw, observations, samples, templates_of, wrapped

from napari_harmony.engine.refine import Refined, refine, with_poses
from napari_harmony.engine.search import Arithmetic, expect, pose_grid
from napari_harmony.engine.work import finish


def refined(images: torch.Tensor, start_psi: np.ndarray, start: np.ndarray, height: float, **switches: bool) -> Refined:
    """Poses of images of drawing 0, refined from psi (n,) in degrees and shift (n, 2)."""
    basis = basis_of(images.shape[-1], 12.0)
    energy = 2 * samples(images, basis).abs().square().sum(1)
    templates = templates_of(height * draw(0, box=images.shape[-1]), basis)
    psi = torch.deg2rad(torch.as_tensor(start_psi, dtype=torch.float32))
    shift = torch.as_tensor(start, dtype=torch.float32)
    label = torch.zeros(len(images), dtype=torch.long)
    return finish(refine(observations(images, basis), templates, label, psi, shift, energy, 30.0, **switches))


def poses(count: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.uniform(-180, 180, count), generator.uniform(-2, 2, (count, 2))


@pytest.mark.parametrize("box", [32, 33])
def test_poses_are_recovered_without_noise(box: int) -> None:
    psi, origin = poses(30)
    off = np.random.default_rng(1).uniform(-1, 1, (30, 3))
    images = 30 * draw(0, psi, origin, box)
    found = refined(images, psi + 5 * off[:, 0], origin + off[:, 1:], 30.0)
    assert np.abs(wrapped(np.degrees(found.psi.numpy()) - psi)).max() < 0.1
    assert np.abs(found.shift.numpy() - origin).max() < 0.05
    assert float(found.score.min()) > 0.99
    np.testing.assert_allclose(found.contrast.numpy(), 1, atol=0.01)


def test_spreads_are_those_of_the_errors() -> None:
    count, height = 400, 4.0
    psi, origin = poses(count)
    noise = torch.randn(count, 32, 32, generator=torch.Generator().manual_seed(0))
    found = refined(height * draw(0, psi, origin) + noise, psi, origin, height)
    turn = np.radians(wrapped(np.degrees(found.psi.numpy()) - psi))
    move = found.shift.numpy() - origin
    assert 1 / 1.3 < turn.std() / float(found.psi_spread.mean()) < 1.3
    assert 1 / 1.3 < move.std() / float(found.shift_spread.mean()) < 1.3
    # No bias: half a pixel would be ten standard errors and more.
    assert np.abs(move.mean(0)).max() < 4 * move.std() / np.sqrt(count)
    assert abs(turn.mean()) < 4 * turn.std() / np.sqrt(count)


def test_what_is_switched_off_stays() -> None:
    psi, origin = poses(10)
    images = 20 * draw(0, psi, origin)
    start_psi, start = psi + 4, origin + 0.7
    still = refined(images, start_psi, start, 10.0, turn=False, move=False, free_contrast=False)
    np.testing.assert_allclose(wrapped(np.degrees(still.psi.numpy()) - start_psi), 0, atol=1e-4)
    np.testing.assert_allclose(still.shift.numpy(), start, atol=1e-6)
    assert (still.contrast == 1).all()
    turned = refined(images, start_psi, origin, 10.0, move=False)
    np.testing.assert_allclose(turned.shift.numpy(), origin, atol=1e-6)
    assert np.abs(wrapped(np.degrees(turned.psi.numpy()) - psi)).max() < 0.2
    moved = refined(images, psi, start, 10.0, turn=False)
    np.testing.assert_allclose(wrapped(np.degrees(moved.psi.numpy()) - psi), 0, atol=1e-4)
    assert np.abs(moved.shift.numpy() - origin).max() < 0.05


def test_contrast_is_the_gain_of_the_particle() -> None:
    psi, origin = poses(5)
    gain = np.array([0.5, 0.8, 1.0, 1.5, 2.0], np.float32)
    images = 30 * torch.as_tensor(gain)[:, None, None] * draw(0, psi, origin)
    np.testing.assert_allclose(refined(images, psi, origin, 30.0).contrast.numpy(), gain, rtol=0.02)


def test_nothing_is_known_of_the_pose_of_nothing() -> None:
    found = refined(torch.zeros(3, 32, 32), np.zeros(3), np.zeros((3, 2)), 0.0)
    np.testing.assert_allclose(np.degrees(found.psi_spread.numpy()), 103.9, atol=0.1)
    assert torch.isfinite(found.score).all()
    assert (found.contrast == 1).all()


def test_an_upward_step_is_never_given_back() -> None:
    """From a start far off the pose the likelihood still never falls."""
    psi, origin = poses(40)
    images = 10 * draw(0, psi, origin)
    start_psi, start = psi + np.linspace(-90, 90, 40), origin + 2.0
    before = refined(images, start_psi, start, 10.0, turn=False, move=False, free_contrast=False)
    after = refined(images, start_psi, start, 10.0, free_contrast=False)
    assert (after.gain >= before.gain - 1e-2).all()


def test_turned_images_turn_their_poses() -> None:
    """A quarter turn of an odd box is exact: psi grows by 90 degrees and the origin turns along."""
    box, height = 33, 6.0
    psi, origin = poses(20)
    noise = torch.randn(20, box, box, generator=torch.Generator().manual_seed(0))
    images = height * draw(0, psi, origin, box) + noise
    # np.rot90 shows what was at (x, y) at (y, -x).
    quarter = torch.rot90(images, 1, dims=(1, 2))
    basis = basis_of(box, 12.0)
    templates = templates_of(height * draw(0, box=box), basis)
    found = []
    for seen in (images, quarter):
        grid = pose_grid(72, 3.0, 0.75, 2.0)
        best = finish(expect(observations(seen, basis), templates, grid, torch.zeros(20, 2), Arithmetic())).best()
        found.append(refined(seen, np.degrees(best.psi.numpy()), best.shift.numpy(), height))
    turn = wrapped(np.degrees((found[1].psi - found[0].psi).numpy()) - 90)
    assert np.abs(turn).max() < 0.05
    expected = torch.stack([found[0].shift[:, 1], -found[0].shift[:, 0]], dim=1)
    torch.testing.assert_close(found[1].shift, expected, atol=0.01, rtol=0)


def test_refined_poses_replace_those_of_the_search() -> None:
    basis, psi = basis_of(), np.array([12.3, -70.0])
    images = 30 * draw(0, psi)
    templates = templates_of(30 * draw(0), basis)
    grid = pose_grid(60, 1.5, 0.75, 1.0)
    posterior = finish(expect(observations(images, basis), templates, grid, torch.zeros(2, 2), Arithmetic()))
    best = posterior.best()
    sharp = refined(images, np.degrees(best.psi.numpy()), best.shift.numpy(), 30.0)
    placed = with_poses(posterior, sharp)
    assert torch.equal(placed.psi, sharp.psi)
    assert torch.equal(placed.label, best.label)
    assert placed.weight.tolist() == [1, 1]
