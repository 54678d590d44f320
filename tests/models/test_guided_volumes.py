"""The network for any subtomograms: its features and marks turn as the particle does."""

from __future__ import annotations

import pytest
import torch
from network_data import BOX, band, blobs, full, wedge

from napari_harmony.models import GuidedVolumeNetwork, NetworkShape
from napari_harmony.models.guided_volumes import MARK_DEGREE, MARKS
from napari_harmony.models.relating import DEGREE, Relating
from napari_harmony.objectives.volume_context import posed
from napari_harmony.transforms import Pose3D, so3
from napari_harmony.transforms.rotation_functions import fitting, functions_of, functions_up_to, turned


@pytest.fixture(scope="module")
def network() -> GuidedVolumeNetwork:
    """A network whose layers all do something, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hypotheses = GuidedVolumeNetwork.hypotheses(("rotation",))
        made = GuidedVolumeNetwork(
            NetworkShape(box=BOX, content=4, hypotheses=hypotheses, max_shift=3.0, mask_diameter=17.0)
        )
        torch.nn.init.normal_(made.relating.last.weight, std=0.1)
    return made.eval()


def likeness(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Cosine (n,) between what n things are described by."""
    return torch.cosine_similarity(one.flatten(1), other.flatten(1))


def turned_blobs(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Samples of volumes as they are and turned, and the turns (count, 4)."""
    turn = so3.random_rotations(count, torch.Generator().manual_seed(4))
    still = Pose3D.of(so3.identity(count, 1).clone())
    shown = blobs(count, width=2.0)
    return posed(shown, still, band())[:, 0], posed(shown, Pose3D.of(turn[:, None]), band())[:, 0], turn


def test_marks_turn_as_the_particle_does(network: GuidedVolumeNetwork) -> None:
    before, after, turn = turned_blobs(5)
    (_, one), (_, other) = (network.look(50 * samples, full()) for samples in (before, after))
    assert one.shape == (5, MARKS, functions_up_to(MARK_DEGREE)) and one.dtype == torch.float16
    expected = turned(one.float(), functions_of(MARK_DEGREE, turn))
    assert float(likeness(expected, other.float()).min()) > 0.9
    assert float(likeness(one.float(), other.float()).max()) < 0.7


def test_what_a_look_proposes_is_what_is_proposed(network: GuidedVolumeNetwork) -> None:
    samples = 50 * turned_blobs(3)[0]
    proposals, marks = network.look(samples, wedge(), batch=2)
    same = network.propose(samples, wedge())
    torch.testing.assert_close(proposals.content_mean, same.content_mean)
    torch.testing.assert_close(proposals.best.shift, same.best.shift)
    some = proposals.subset(torch.tensor([2, 0]))
    torch.testing.assert_close(some.best.quaternion, proposals.best.quaternion[[2, 0]])
    torch.testing.assert_close(some.log_odds, proposals.log_odds[[2, 0]])
    assert len(marks) == 3


def test_relating_adds_nothing_at_first_and_turns_what_it_adds() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        grid = so3.rotation_grid(30.0)
        layer = Relating(6, grid).eval()
        smooth = torch.randn(2, 6, functions_up_to(DEGREE))
    features = (smooth @ functions_of(DEGREE, grid).T).mT
    torch.testing.assert_close(layer(features), features)
    with torch.no_grad():
        # the identity in place of SiLU would be exact: what is made of a smooth function is one again, nearly
        torch.nn.init.normal_(layer.last.weight, std=0.5)
        turn = functions_of(DEGREE, so3.random_rotations(1, torch.Generator().manual_seed(2)))
        other = (turned(smooth, turn) @ functions_of(DEGREE, grid).T).mT
        added, same = layer(features) - features, layer(other) - other
    found, expected = ((part.mT @ fitting(DEGREE, grid).T) for part in (same, added))
    assert float(likeness(turned(expected, turn), found).min()) > 0.95
    assert float(likeness(expected, found).max()) < 0.8
