"""The network of the published method for subtomograms: its layers, its pose, its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from napari_harmony.errors import InputError
from napari_harmony.models import (
    BOX_2022,
    Harmony2022VolumeNetwork,
    HarmonyModel,
    ModelCard,
    NetworkShape,
    build_network,
)
from napari_harmony.transforms import so3

SHAPE = NetworkShape(box=BOX_2022, content=3, transforms=("rotation", "translation"))
CARD = ModelCard(
    box=BOX_2022,
    pixel_size=7.5,
    original_box=24,
    transforms=("rotation", "translation"),
    content=3,
    hypotheses=1,
    mask_diameter=100.0,
    max_shift=20.0,
    objective="harmony-2022",
    dimensions=3,
)


def network(shape: NetworkShape = SHAPE) -> Harmony2022VolumeNetwork:
    torch.manual_seed(0)
    return Harmony2022VolumeNetwork(shape).eval()


def samples(net: Harmony2022VolumeNetwork, n: int) -> torch.Tensor:
    return torch.randn(n, len(net.band.index), dtype=torch.complex64, generator=torch.Generator().manual_seed(0))


def test_proposals_have_the_promised_shapes_whatever_the_batch() -> None:
    net = network()
    data, amplitude = samples(net, 3), torch.ones(1, len(net.band.index))
    proposals, in_pieces = net.propose(data, amplitude), net.propose(data, amplitude.expand(3, -1), batch=2)
    assert proposals.pose.shape == proposals.log_odds.shape == (3, 1)
    assert proposals.content_mean.shape == proposals.content_log_variance.shape == (3, 3)
    torch.testing.assert_close(in_pieces.best.quaternion, proposals.best.quaternion)
    assert net.decode(proposals.content_mean).shape == (3, 32, 32, 32)
    # close to 10 million, as published
    assert 9.6e6 < sum(p.numel() for p in net.parameters()) < 9.8e6


def test_the_pose_is_the_inverse_of_rotating_then_shifting_by_the_raw_numbers() -> None:
    net = network()
    head = net.encoder[-1]
    with torch.no_grad():
        head.weight.zero_()
        head.bias[:6] = torch.tensor([0.3, -0.5, 2.0, 1.0, -2.0, 6.0])
        undo = net.encode(samples(net, 1), torch.ones(1, 1)).pose[:, 0].inverse()
    turn = so3.from_rotation_vector(torch.tensor([[0.3, -0.5, 2.0]]))
    assert float(so3.angle_between(undo.quaternion, turn)) < 1e-3
    torch.testing.assert_close(undo.shift, torch.tensor([[1.0, -2.0, 6.0]]))


@pytest.mark.parametrize("transforms", [(), ("rotation",), ("translation",)])
def test_what_was_not_chosen_is_left_alone(transforms: tuple[str, ...]) -> None:
    net = network(replace(SHAPE, transforms=transforms))
    pose = net.propose(samples(net, 2), torch.ones(1, 1)).best
    assert bool((so3.angle(pose.quaternion) > 1e-4).all()) == ("rotation" in transforms)
    assert bool((pose.shift != 0).any()) == ("translation" in transforms)


def test_other_boxes_are_refused_in_words() -> None:
    with pytest.raises(InputError, match="takes 32 voxels, not 24"):
        network(replace(SHAPE, box=24))


def test_a_model_comes_back_from_its_files(tmp_path: Path) -> None:
    model = HarmonyModel(build_network(CARD).eval(), CARD)
    model.save(tmp_path)
    back = HarmonyModel.load(tmp_path).network
    assert isinstance(back, Harmony2022VolumeNetwork)
    data, amplitude = samples(back, 2), torch.ones(1, 1)
    torch.testing.assert_close(
        back.propose(data, amplitude).content_mean, model.network.propose(data, amplitude).content_mean
    )
