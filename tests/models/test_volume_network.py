"""The network of subtomograms: what it promises of poses, content and volumes, and what a pose is surprised by."""

from __future__ import annotations

import math

import pytest
import torch
from network_data import ALL, BOX, band, blobs, full, likeness, network, random_pose, wedge

from napari_harmony.models import VolumeNetwork, volume_band
from napari_harmony.models.volume_encoding import VolumeEncoding, join_volume_proposals, volume_modes
from napari_harmony.objectives.volume_context import posed
from napari_harmony.transforms import Pose3D, so3


def samples(count: int = 5) -> torch.Tensor:
    """Posed volumes without noise."""
    pose = random_pose(count)
    return posed(blobs(count), pose.each(lambda field: field[:, None]), band())[:, 0]


@pytest.mark.parametrize("transforms", [ALL, ("rotation",), ("translation",), ()])
def test_proposals_have_the_promised_shapes_and_bounds(transforms: tuple[str, ...]) -> None:
    net = network(transforms)
    hypotheses = min(16, VolumeNetwork.hypotheses(transforms))
    proposals = net.propose(50 * samples(), wedge(), batch=2)
    assert len(proposals) == 5 and proposals.content_mean.shape == (5, 4)
    assert proposals.pose.shape == proposals.log_odds.shape == (5, hypotheses)
    assert bool((proposals.log_odds.diff(dim=1) <= 0).all()) and float(proposals.log_odds.exp().sum(1).max()) <= 1.0001
    torch.testing.assert_close(proposals.pose.quaternion.norm(dim=-1), torch.ones(5, hypotheses))
    # the centre lies within the bound, and what is added to it along each axis within half of it
    assert float(proposals.pose.shift.norm(dim=-1).max()) <= 3.0 * (1.001 + 0.5 * math.sqrt(3))
    still = proposals.best.distance(Pose3D.identity(5))
    assert bool((still[0] > 0.1).any()) == ("rotation" in transforms)
    assert bool((still[1] > 0).any()) == ("translation" in transforms)


def test_proposals_do_not_depend_on_the_batch_or_the_order() -> None:
    net, shown = network(), samples(7)
    together, apart = net.propose(shown, wedge().expand(7, -1)), net.propose(shown, wedge(), batch=3)
    torch.testing.assert_close(together.content_mean, apart.content_mean)
    torch.testing.assert_close(together.log_odds, apart.log_odds)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    other = net.propose(shown[order], wedge())
    torch.testing.assert_close(together.content_mean[order], other.content_mean)
    torch.testing.assert_close(together.best.shift[order], other.best.shift)


def test_proposals_of_batches_are_joined_in_order() -> None:
    net, shown = network(), samples(4)
    parts = [net.propose(shown[:1], full()), net.propose(shown[1:], full())]
    joined = join_volume_proposals(parts)
    torch.testing.assert_close(joined.best.quaternion, net.propose(shown, full()).best.quaternion)


def test_volumes_are_masked_and_start_from_the_mean_of_the_templates() -> None:
    net, templates = network(), 3 * blobs(2)
    net.start_from(templates)
    with torch.no_grad():
        drawn = net.decode(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    assert drawn.shape == (3, BOX, BOX, BOX) and bool((drawn[:, net.mask == 0] == 0).all())
    assert bool((net.mask[0, 0] == 0).all())
    mean = (templates.mean(0) * net.mask).flatten()
    for volume in drawn:
        assert float(torch.corrcoef(torch.stack([volume.flatten(), mean]))[0, 1]) > 0.9


def test_a_network_started_from_templates_answers_to_their_rotation() -> None:
    """Its features, not yet its odds: those are learnt."""
    net, templates = network(), blobs(2, width=1.2)
    net.start_from(templates)
    pose = random_pose(6, shift=0.0)
    shown = posed(templates[torch.arange(6) % 2], pose.each(lambda field: field[:, None]), band())[:, 0]
    with torch.no_grad():
        answers = net.encoder._correlate(net.encoder.expansion(shown, full() - 1))
    best = answers[torch.arange(6), :, torch.arange(6) % 2].argmax(1)
    assert float(so3.angle_between(net.rotations[best], pose.quaternion).max()) < math.radians(30)


@pytest.mark.parametrize(("box", "limit"), [(16, 7), (20, 9), (48, 10)])
def test_the_band_ends_before_the_finest_frequency(box: int, limit: int) -> None:
    assert volume_band(box).limit == limit


def encoding(pose: Pose3D, logits: torch.Tensor) -> VolumeEncoding:
    n = len(logits)
    return VolumeEncoding(torch.zeros(n, 2), torch.zeros(n, 2), pose, logits)


def test_the_nearest_pose_surprises_least() -> None:
    truth, other = random_pose(4), random_pose(4, seed=9)
    both = truth.each(lambda field: torch.stack([field] * 2, dim=1))
    said = encoding(both, torch.zeros(4, 2))
    right, wrong = said.surprise(truth, 0.2, 1.0), said.surprise(other, 0.2, 1.0)
    # both hypotheses are right: half the odds each, nothing lost
    torch.testing.assert_close(right, torch.zeros(4), atol=1e-4, rtol=0)
    assert bool((wrong > 1).all())


def test_surprise_is_that_of_the_widths_and_the_odds() -> None:
    angle, distance = math.radians(10), 0.5
    here = Pose3D.identity(1, 1)
    turned = Pose3D.of(
        so3.from_rotation_vector(torch.tensor([[0.0, angle, 0.0]])), torch.tensor([[0.0, 0.0, distance]])
    )
    expected = (1 - math.cos(angle)) / 0.3**2 + distance**2 / (2 * 0.8**2)
    assert float(encoding(here, torch.zeros(1, 1)).surprise(turned, 0.3, 0.8)) == pytest.approx(expected, rel=1e-3)
    # the same rotation by the other quaternion
    flipped = Pose3D.of(-turned.quaternion, turned.shift)
    assert float(encoding(here, torch.zeros(1, 1)).surprise(flipped, 0.3, 0.8)) == pytest.approx(expected, rel=1e-3)
    far = Pose3D.of(torch.tensor([[[1.0, 0, 0, 0], [0, 1.0, 0, 0]]]))
    odds = torch.tensor([[math.log(0.25), math.log(0.75)]])
    assert float(encoding(far, odds).surprise(Pose3D.identity(1), 0.1, 0.8)) == pytest.approx(-math.log(0.25), rel=1e-3)


def test_surprise_can_be_learned_from() -> None:
    target = random_pose(3)
    vector = torch.full((3, 5, 3), 0.1, requires_grad=True)
    pose = Pose3D.of(so3.from_rotation_vector(vector), torch.zeros(3, 5, 3))
    logits = torch.zeros(3, 5, requires_grad=True)
    encoding(pose, logits).surprise(target, 0.5, 1.0).sum().backward()
    assert bool(vector.grad.isfinite().all()) and float(vector.grad.abs().sum()) > 0
    assert bool(logits.grad.isfinite().all())


def test_likeness_of_the_same_is_one() -> None:
    shown = samples(2)
    torch.testing.assert_close(likeness(shown, 3 * shown), torch.ones(2))


def test_modes_are_where_most_odds_lie_not_the_likeliest_hypothesis() -> None:
    generator = torch.Generator().manual_seed(4)
    one, other = so3.random_rotations(2, generator)
    around = so3.from_rotation_vector(0.15 * torch.randn(12, 3, generator=generator))
    rotation = torch.cat([so3.multiply(one, around), other[None]])[None]
    logits = torch.tensor([[0.0] * 12 + [1.5]])
    shift = torch.cat([torch.ones(12, 3), torch.zeros(1, 3)])[None]
    encoding = VolumeEncoding(torch.zeros(1, 2), torch.zeros(1, 2), Pose3D.of(rotation, shift), logits)
    modes = volume_modes(encoding, 0.35, kept=2)
    assert float(so3.angle_between(modes.pose.quaternion[0, 0], one)) < 0.15
    assert float(so3.angle_between(modes.pose.quaternion[0, 1], other)) < 0.1
    torch.testing.assert_close(modes.best.shift[0], torch.ones(3), atol=0.05, rtol=0)
    assert float(modes.log_odds[0, 0]) > float(modes.log_odds[0, 1])
