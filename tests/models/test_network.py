"""Networks: shapes, bounds, equivariance by construction, and what a proposal is."""

from __future__ import annotations

import math

import pytest
import torch

from napari_harmony.models import Harmony2022Network, HarmonyNetwork, NetworkShape, PoseNetwork
from napari_harmony.models.polar import PolarEncoder
from napari_harmony.transforms import Pose2D, built_in, render, rotate

SHAPES = [
    NetworkShape(box=24, hypotheses=8, max_shift=3.0, mask_diameter=20.0),
    NetworkShape(box=33, hypotheses=6, content=3, transforms=("rotation", "translation", "scale", "contrast")),
    NetworkShape(box=64, hypotheses=4, transforms=("translation",)),
]


def network(shape: NetworkShape, published: bool = False) -> PoseNetwork:
    torch.manual_seed(0)
    return (Harmony2022Network(shape) if published else HarmonyNetwork(shape)).eval()


def smooth_images(n: int, box: int) -> torch.Tensor:
    """Random pictures without fine detail, away from the border."""
    generator = torch.Generator().manual_seed(0)
    axis = torch.arange(box) - box // 2
    x, y = (torch.rand(2, n, 6, 1, 1, generator=generator) - 0.5) * box / 2
    size = torch.randn(n, 6, 1, 1, generator=generator)
    return (size * torch.exp(-((axis - x) ** 2 + (axis[:, None] - y) ** 2) / 8)).sum(1)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"box{s.box}")
@pytest.mark.parametrize("published", [False, True])
def test_proposals_have_the_promised_shapes_and_odds(shape: NetworkShape, published: bool) -> None:
    images = smooth_images(5, shape.box)
    proposals = network(shape, published).propose(images, batch=2)
    hypotheses = 1 if published or "rotation" not in shape.transforms else shape.hypotheses
    assert len(proposals) == 5
    assert proposals.content_mean.shape == proposals.content_log_variance.shape == (5, shape.content)
    assert proposals.angle.shape == proposals.log_odds.shape == (5, hypotheses)
    assert proposals.shift.shape == (5, hypotheses, 2)
    torch.testing.assert_close(proposals.log_odds.exp().sum(1), torch.ones(5))
    assert bool((proposals.log_odds.diff(dim=1) <= 0).all())
    torch.testing.assert_close(proposals.best.angle, proposals.angle[:, 0])
    assert network(shape, published).decode(proposals.content_mean).shape == images.shape


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"box{s.box}")
def test_predictions_stay_within_bounds_and_leave_unchosen_transformations_alone(shape: NetworkShape) -> None:
    pose = network(shape).propose(1000 * smooth_images(4, shape.box)).pose
    assert float(pose.shift.abs().max()) <= shape.max_shift
    for name, value in (("rotation", pose.angle), ("scale", pose.log_scale), ("contrast", pose.offset)):
        assert bool((value == 0).all()) == (name not in shape.transforms)


def test_proposals_do_not_depend_on_the_batch_or_the_order() -> None:
    images, net = smooth_images(7, 24), network(SHAPES[0])
    all_at_once, in_pieces = net.propose(images), net.propose(images, batch=3)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    permuted = net.propose(images[order])
    torch.testing.assert_close(all_at_once.content_mean, in_pieces.content_mean)
    torch.testing.assert_close(all_at_once.content_mean[order], permuted.content_mean)
    torch.testing.assert_close(all_at_once.angle[order], permuted.angle)


def test_the_encoder_turns_with_the_image() -> None:
    torch.manual_seed(0)
    encoder = PolarEncoder(32, 8).eval()
    images = smooth_images(6, 32)
    turned = render(images, Pose2D.of(torch.full((6,), math.pi / 4)))
    with torch.no_grad():
        features, expected = encoder(turned), encoder(images).roll(1, dims=1)
    assert float((features - expected).norm() / expected.norm()) < 0.03
    assert float((features - encoder(images)).norm() / expected.norm()) > 0.1


def test_turning_the_image_turns_every_hypothesis_and_keeps_the_content() -> None:
    net = network(NetworkShape(box=32, hypotheses=8, transforms=("rotation", "translation")))
    images, step = smooth_images(6, 32), math.pi / 4
    with torch.no_grad():
        before = net.encode(images)
        after = net.encode(render(images, Pose2D.of(torch.full((6,), step))))
    assert float((after.content_mean - before.content_mean).norm() / before.content_mean.norm()) < 0.05
    torch.testing.assert_close(after.logits.roll(-1, dims=1), before.logits, atol=0.05, rtol=0.05)
    there, here = after.pose.each(lambda f: f.roll(-1, dims=1)), before.pose
    turn, _ = there.distance(Pose2D.of(here.angle + step, here.shift))
    assert math.degrees(float(turn.max())) < 3.0
    expected = rotate(here.shift, torch.full_like(here.angle, step))
    assert float((there.shift - expected).norm(dim=-1).median()) < 0.1


def test_without_rotation_orientation_belongs_to_the_content() -> None:
    net = network(NetworkShape(box=32, transforms=("translation",)))
    images = smooth_images(6, 32)
    turned = render(images, Pose2D.of(torch.full((6,), math.pi / 2)))
    a, b = net.propose(images).content_mean, net.propose(turned).content_mean
    assert float((a - b).norm() / a.norm()) > 0.1


def test_pictures_are_masked_and_not_blank() -> None:
    net = network(SHAPES[0])
    pictures = net.decode(torch.randn(3, 8))
    assert float(pictures.detach()[:, 0].abs().max()) == 0.0
    assert float(pictures.detach().std()) > 0.0


def test_the_published_pose_undoes_what_its_raw_numbers_do() -> None:
    """Rotate by r, then shift by t, then magnify: the pose spoken of is the inverse of that."""
    net = network(NetworkShape(box=16, transforms=("rotation", "translation", "scale")), published=True)
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias[:4] = torch.tensor([0.3, 1.5, -2.0, 0.2])
    pose = net.propose(torch.zeros(1, 16, 16)).best
    turned = Pose2D.of(torch.tensor([0.3]))
    shifted = Pose2D.of(torch.zeros(1), torch.tensor([[1.5, -2.0]]))
    scaled = Pose2D.of(torch.zeros(1), log_scale=torch.tensor([0.2]))
    points = torch.tensor([[[3.0, -1.0], [0.0, 2.0]]])
    canonical = scaled.compose(shifted).compose(turned).map().apply(pose.map().apply(points))
    torch.testing.assert_close(canonical, points)


def test_a_transformation_of_ones_own_gets_a_head() -> None:
    scale_only = built_in()[2]
    net = HarmonyNetwork(NetworkShape(box=24, hypotheses=4, transforms=("scale",)), known=(scale_only,))
    assert net.encode(smooth_images(2, 24)).values["scale"].shape == (2, 1, 1)
