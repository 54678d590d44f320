"""Every elementary transformation keeps the laws of its group and speaks the language of images."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from napari_harmony.engine.settings import TRANSFORMS
from napari_harmony.errors import InputError
from napari_harmony.transforms import (
    ImageMap,
    Pose2D,
    Rotation,
    Transformation,
    Translation,
    built_in,
    choose,
    map_of,
    pose_of,
)

ALL = pytest.mark.parametrize("transformation", built_in(), ids=lambda t: t.name)


def samples(transformation: Transformation, n: int = 50, seed: int = 0) -> torch.Tensor:
    return transformation.sample(n, torch.Generator().manual_seed(seed))


def assert_maps_equal(a: ImageMap, b: ImageMap) -> None:
    for field in ("matrix", "shift", "gain", "offset"):
        torch.testing.assert_close(getattr(a, field), getattr(b, field), atol=1e-5, rtol=1e-5)


@ALL
def test_group_laws_hold_and_agree_with_the_maps(transformation: Transformation) -> None:
    assert isinstance(transformation, Transformation)
    first, second = samples(transformation), samples(transformation, seed=1)
    identity = transformation.identity(50)
    assert first.shape == identity.shape == (50, len(transformation.parameters))
    undone = transformation.compose(transformation.invert(first), first)
    assert float(transformation.distance(undone, identity).max()) < 1e-5
    assert_maps_equal(
        transformation.map(transformation.compose(second, first)),
        transformation.map(second).compose(transformation.map(first)),
    )
    assert_maps_equal(transformation.map(identity), Pose2D.identity(50).map())


@ALL
def test_samples_repeat_with_the_seed_and_distance_tells_them_apart(transformation: Transformation) -> None:
    torch.testing.assert_close(samples(transformation), samples(transformation))
    apart = transformation.distance(samples(transformation), samples(transformation, seed=1))
    assert apart.shape == (50,) and float(apart.min()) > 0


@ALL
def test_features_are_of_order_one_and_raw_predictions_are_bounded(transformation: Transformation) -> None:
    features = transformation.features(samples(transformation, 500))
    assert float(features.abs().max()) <= 1.5
    raw = 100 * torch.randn(20, transformation.raw_size, generator=torch.Generator().manual_seed(0))
    values = transformation.from_raw(raw)
    assert values.shape == (20, len(transformation.parameters))
    assert float(transformation.features(values).abs().max()) <= 1 + 1e-5
    start = torch.zeros(1, transformation.raw_size, requires_grad=True)
    transformation.from_raw(start).sum().backward()
    assert start.grad is not None and torch.isfinite(start.grad).all()


def test_rotations_cover_the_circle_evenly_and_features_do_not_jump() -> None:
    angles = samples(Rotation(), 4000)[:, 0]
    counts = torch.histc(angles, bins=8, min=-torch.pi, max=torch.pi)
    assert float(counts.min()) > 400
    either_side = torch.tensor([[torch.pi - 1e-4], [-torch.pi + 1e-4]])
    features = Rotation().features(either_side)
    assert float((features[0] - features[1]).abs().max()) < 1e-3


def test_translations_stay_within_their_limit() -> None:
    assert float(Translation(limit=1.0, spread=5.0).sample(500, torch.Generator()).abs().max()) == 1.0


def test_together_they_scale_then_rotate_then_shift_then_change_grey_values() -> None:
    values = {t.name: samples(t) for t in built_in()}
    rotation, translation, scale, contrast = (t.map(values[t.name]) for t in built_in())
    expected = contrast.compose(translation).compose(rotation).compose(scale)
    assert_maps_equal(pose_of(values).map(), expected)
    assert_maps_equal(map_of(values, built_in()), expected)


def test_any_subset_can_be_chosen_in_one_order() -> None:
    assert [t.name for t in choose(("scale", "rotation"))] == ["rotation", "scale"]
    moves = tuple(name for name in TRANSFORMS if name != "defocus")  # which is found after all others, by a search
    assert tuple(t.name for t in choose(moves)) == moves
    pose = pose_of({"translation": torch.ones(3, 2)})
    assert pose.angle.tolist() == [0.0] * 3 and pose.gain.tolist() == [1.0] * 3
    with pytest.raises(InputError, match="'wobble' is unknown; choose from rotation"):
        choose(("rotation", "wobble"))


@dataclass(frozen=True)
class Shear(Translation):
    """A user's own transformation: a shear along x, in a few lines."""

    name: str = "shear"
    parameters: tuple[str, ...] = ("shear",)
    raw_size: int = 1

    def map(self, values: torch.Tensor) -> ImageMap:
        one, zero = torch.ones_like(values[..., 0]), torch.zeros_like(values[..., 0])
        matrix = torch.stack([torch.stack([one, values[..., 0]], -1), torch.stack([zero, one], -1)], -2)
        return ImageMap(matrix, torch.stack([zero, zero], -1), one, zero)


def test_a_transformation_of_ones_own_acts_before_the_pose() -> None:
    values = {"rotation": torch.tensor([[torch.pi / 2]]), "shear": torch.tensor([[0.5]])}
    transformations = choose(("rotation", "shear"), (*built_in(), Shear()))
    seen = map_of(values, transformations).apply(torch.tensor([[[0.0, 2.0]]]))
    torch.testing.assert_close(seen, torch.tensor([[[-2.0, 1.0]]]))
