"""Copies of subtomograms, and the forward model of a volume behind a wedge: noise stays noise, poses are the known."""

from __future__ import annotations

import math

import pytest
import torch
from network_data import band, blobs, full, likeness, network, random_pose, wedge

from napari_harmony.engine.volumes.prepare import cropped
from napari_harmony.objectives import Batch, SeedVolumes
from napari_harmony.objectives.volume_context import (
    VolumeContext,
    fit_volumes,
    make_volume_branches,
    moved_copies,
    posed,
    random_poses,
    seen_noise,
)
from napari_harmony.transforms import Pose3D, so3

BOTH = ("rotation", "translation")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_each(pose: Pose3D) -> Pose3D:
    """Poses (n,) as (n, 1)."""
    return pose.each(lambda field: field[:, None])


def test_noise_is_white_inside_the_wedge_and_absent_outside() -> None:
    inside = wedge()[0] > 0
    noise = seen_noise(wedge().expand(100, -1), band(), generator())
    assert float(noise.abs().square()[:, inside].mean()) == pytest.approx(1.0, abs=0.02)
    assert bool((noise[:, ~inside] == 0).all())


def test_a_shell_with_little_noise_does_not_hide_the_others() -> None:
    """Amplitudes are coverage over noise: where that of one shell is a hundredth, the wedge is still the wedge."""
    coloured = wedge() * torch.where(band().shell < 4, 0.01, 1.0)
    noise = seen_noise(coloured.expand(20, -1), band(), generator())
    assert bool(((noise[0] != 0) == (wedge()[0] > 0)).all())
    copies, _ = moved_copies(
        noise, coloured.expand(20, -1), random_poses(20, BOTH, 1.0, generator()), band(), generator()
    )
    assert bool(((copies[0] != 0) == (wedge()[0] > 0)).all())


def test_noise_of_copies_is_white_inside_the_wedge_and_absent_outside() -> None:
    count, inside = 120, wedge()[0] > 0
    amplitude = wedge().expand(count, -1)
    noise = seen_noise(amplitude, band(), generator())
    pose = random_poses(count, BOTH, 1.0, generator(1))
    copies, seen = moved_copies(noise, amplitude, pose, band(), generator(2))
    power = copies.abs().square()
    assert bool((copies[:, ~inside] == 0).all()) and bool((seen[:, ~inside] == 0).all())
    for shell in range(9):
        on_shell = inside & (band().shell == shell)
        assert float(power[:, on_shell].mean()) == pytest.approx(1.0, abs=0.12 if shell else 0.25)
    # what came along, what was made anew, and the border between the two
    for low, high in ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.01)):
        part = (seen >= low) & (seen < high) & inside
        assert float(power[part].mean()) == pytest.approx(1.0, abs=0.12)
    # neighbours do not know of each other more than those of the noise itself did
    flat = copies[:, inside]
    product = (flat[:, :-1] * flat[:, 1:].conj()).real.mean()
    assert abs(float(product)) < 0.15


@pytest.mark.parametrize(("amplitude", "alike"), [(full(), 0.97), (wedge(), 0.9)], ids=["whole", "wedge"])
def test_copies_show_the_volume_under_the_known_pose_through_both_wedges(amplitude: torch.Tensor, alike: float) -> None:
    volumes, pose, at = 1e4 * blobs(4), random_pose(4), amplitude.expand(4, -1)
    copies, seen = moved_copies(cropped(volumes, 20, band()) * at, at, pose, band(), generator())
    expected = posed(volumes, one_each(pose), band())[:, 0] * seen
    assert bool((likeness(copies, expected) > alike).all())
    assert bool((likeness(copies, posed(volumes, one_each(pose.inverse()), band())[:, 0] * seen) < 0.9).all())
    ratio = copies.abs().square().sum(1).sqrt() / expected.abs().square().sum(1).sqrt()
    assert bool(((ratio - 1).abs() < 0.2).all())


def test_amplitudes_of_copies_are_those_of_both_wedges() -> None:
    """A quarter turn about the beam of one wedge, seen through the other."""
    turn = so3.from_zyz(torch.tensor([[90.0, 0.0, 0.0]]))
    _, seen = moved_copies(torch.zeros_like(wedge()) + 0j, wedge(), Pose3D.of(turn), band(), generator())
    x, y, z = band().frequency.T
    reach = math.tan(math.radians(60))
    well_inside = (z.abs() < reach * x.abs() - 1.5) & (z.abs() < reach * y.abs() - 1.5) & (band().shell < 7)
    outside = (z.abs() > reach * x.abs() + 2) | (z.abs() > reach * y.abs() + 2)
    assert well_inside.sum() > 100 and bool((seen[0, well_inside] > 0.95).all())
    assert outside.sum() > 50 and bool((seen[0, outside] < 0.05).all())


def test_a_pose_and_its_inverse_give_the_samples_back() -> None:
    pose = one_each(random_pose(3))
    volumes = blobs(3)
    undone = pose.inverse().compose(pose)
    there = posed(volumes, undone, band())[:, 0]
    assert bool((likeness(there, posed(volumes, Pose3D.identity(3, 1), band())[:, 0]) > 0.9999).all())


def test_random_poses_keep_to_the_transformations() -> None:
    for transforms in ((), ("rotation",), ("translation",), BOTH):
        pose = random_poses(50, transforms, 0.8, generator())
        angle, shift = pose.distance(Pose3D.identity(50))
        assert bool((angle > 0).any()) == ("rotation" in transforms)
        assert bool((shift > 0).any()) == ("translation" in transforms)
    assert float(pose.shift.std()) == pytest.approx(0.8, abs=0.15)


def observed(gain: float = 1.0, noise: float = 1.0) -> tuple[Batch, torch.Tensor, Pose3D]:
    """Three subtomograms behind the wedge, their volumes and poses."""
    volumes, pose, amplitude = 8 * blobs(3), random_pose(3), wedge().expand(3, -1)
    seen = gain * posed(volumes, one_each(pose), band())[:, 0] * amplitude
    return Batch(seen + noise * seen_noise(amplitude, band(), generator()), amplitude), volumes, pose


def test_the_right_pose_fits_best_and_leaves_the_noise() -> None:
    batch, volumes, pose = observed()
    turned = pose.compose(Pose3D.of(so3.from_rotation_vector(torch.tensor([[0.4, 0.0, 0.0]])).expand(3, 4)))
    moved = Pose3D.of(pose.quaternion, pose.shift + torch.tensor([0.0, 1.0, 0.0]))
    tried = [moved, pose, turned, random_pose(3, seed=8)]
    poses = Pose3D.of(torch.stack([p.quaternion for p in tried], dim=1), torch.stack([p.shift for p in tried], dim=1))
    fit = fit_volumes(batch, volumes, poses, band())
    assert bool((fit.error.argmin(1) == 1).all()) and bool((fit.responsibility.argmax(1) == 1).all())
    torch.testing.assert_close(fit.responsibility.sum(1), torch.ones(3))
    # one sample of each Friedel pair: half the squares of both are the squares of one, 1 on average
    inside = float((wedge() > 0).sum())
    assert bool(((fit.error[:, 1] / inside - 1).abs() < 0.15).all())


@pytest.mark.parametrize("gain", [0.7, 1.0, 1.4])
def test_the_gain_is_solved_for_where_contrast_varies(gain: float) -> None:
    batch, volumes, pose = observed(gain, noise=0.0)
    fit = fit_volumes(batch, volumes, one_each(pose), band())
    torch.testing.assert_close(fit.gain, torch.full((3, 1), gain), atol=0.01, rtol=0)
    fixed = fit_volumes(batch, volumes, one_each(pose), band(), contrast=False)
    assert bool((fixed.gain == 1).all())
    assert bool((fixed.error > fit.error).all()) == (gain != 1.0)


def test_branches_hold_the_copy_and_the_pose_that_made_it() -> None:
    batch, _, _ = observed()
    applied = random_poses(3, BOTH, 0.5, generator())
    own, copy = make_volume_branches(network(), batch, applied, generator(1))
    assert own.images is not copy.images and torch.equal(own.images, batch.images)
    angle, shift = own.applied.distance(Pose3D.identity(3))
    assert float(angle.max()) == float(shift.max()) == 0 and copy.applied is applied
    assert own.content.shape == copy.content.shape == (3, 4)


@pytest.mark.parametrize("seeded", [True, False])
def test_both_branches_explain_the_original_with_swapped_contents(seeded: bool) -> None:
    batch, volumes, pose = observed()
    net = network()
    if seeded:
        batch = Batch(batch.images, batch.ctf, SeedVolumes(pose, torch.ones(3), torch.arange(3), volumes))
    applied = random_poses(3, BOTH, 0.5, generator())
    own, copy = make_volume_branches(net, batch, applied, generator(1))
    context = VolumeContext(net, batch, own, copy, 0.5, 1.0, 4, generator(2))
    first, second = context.fits
    assert first.error.shape == (3, 1 if seeded else 4)
    if seeded:
        torch.testing.assert_close(first.pose.quaternion, second.pose.quaternion)
        return
    # the known transformation of the copy is undone: applied again, it gives a hypothesis of the copy
    there = one_each(applied).compose(second.pose)
    apart = so3.angle_between(there.quaternion[:, :, None], copy.encoding.pose.quaternion[:, None])
    assert float(apart.amin(dim=2).max()) < 1e-2


def test_rehearsed_subtomograms_show_the_templates_under_the_poses_told() -> None:
    batch, volumes, pose = observed()
    net = network(BOTH)
    loud = SeedVolumes(pose, torch.ones(3), torch.tensor([2, 0, 1]), 1e4 * volumes)
    batch = Batch(batch.images, batch.ctf, loud)
    own, copy = make_volume_branches(net, batch, pose, generator(1))
    context = VolumeContext(net, batch, own, copy, 0.5, 1.0, 4, generator(2))
    told, drawn, amplitude = context._rehearsed(loud.shown, 0.3)
    expected = posed(loud.templates[loud.label], one_each(told), band())[:, 0] * amplitude
    assert bool((likeness(drawn, expected) > 0.999).all())
    again, content, said = context.rehearse(0.3)
    assert again.shape == (3,) and content.shape == (3, 4) and not content.requires_grad
    assert said.logits.shape == (3, net.hypotheses(BOTH))
