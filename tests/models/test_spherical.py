"""The encoder of subtomograms: it turns with them, knows their wedge, finds their centre, and starts from templates."""

from __future__ import annotations

import math

import pytest
import torch
from network_data import BOX, band, blobs, full, likeness, random_pose, wedge

from napari_harmony.models.spherical import Centring, ShellExpansion, SphericalEncoder, tents
from napari_harmony.objectives.volume_context import posed
from napari_harmony.transforms import Pose3D, so3
from napari_harmony.transforms.harmonics import turning_matrices
from napari_harmony.transforms.spectra import spectra_of


def encoders(rotations: torch.Tensor, turn: torch.Tensor) -> tuple[SphericalEncoder, SphericalEncoder]:
    """Two with the same weights, looking from ``rotations`` and from the same turned."""
    torch.manual_seed(0)
    one = SphericalEncoder(band(), rotations, 0.0).eval()
    other = SphericalEncoder(band(), so3.multiply(turn, rotations), 0.0).eval()
    other.load_state_dict(one.state_dict())
    return one, other


def test_features_turn_with_the_volume() -> None:
    generator = torch.Generator().manual_seed(1)
    turn, rotations = so3.random_rotations(1, generator), so3.random_rotations(12, generator)
    one, other = encoders(rotations, turn)
    volumes = 100 * blobs(4)
    samples = posed(volumes, Pose3D.identity(4, 1), band())[:, 0]
    turned = posed(volumes, Pose3D.of(turn.expand(4, 1, 4)), band())[:, 0]
    with torch.no_grad():
        before, after, unturned = (look(s, full())[0] for look, s in ((one, samples), (other, turned), (one, turned)))
    assert float((after - before).norm() / before.norm()) < 0.1
    assert float((unturned - before).norm() / before.norm()) > 0.3


def test_the_energy_behind_a_wedge_turns_with_the_wedge() -> None:
    """Coverage is expanded like a volume: the coefficients of a turned wedge are those of the wedge, turned."""
    generator = torch.Generator().manual_seed(2)
    turn = so3.random_rotations(1, generator)
    expansion = ShellExpansion(band())
    nothing = torch.zeros(1, len(band().index), dtype=torch.complex64)

    def smooth_wedge(frequency: torch.Tensor) -> torch.Tensor:
        """Falls off softly: a sharp edge has all degrees."""
        return torch.sigmoid(12 * (0.87 - frequency[:, 2].abs() / frequency.norm(dim=1)))[None]

    back = so3.rotate_points(so3.inverse(turn), band().frequency)
    before = expansion(nothing, smooth_wedge(band().frequency))
    after = expansion(nothing, smooth_wedge(back))
    for degree in (2, 4):
        turned = before[degree][:, expansion.shells :] @ turning_matrices(degree, turn)[degree].float()
        error = (turned - after[degree][:, expansion.shells :])[:, 3:8].norm() / turned[:, 3:8].norm()
        assert float(error) < 0.15


def test_low_shells_hold_low_degrees_only() -> None:
    """Two cycles per box cannot tell harmonics of high degree apart: their coefficients would not turn."""
    parts = ShellExpansion(band())(torch.randn(2, len(band().index), dtype=torch.complex64), full())
    for degree, part in enumerate(parts):
        for shell in range(1, 5):
            assert bool((part[:, shell - 1] == 0).all()) == (degree > 2 * shell)


def test_centring_finds_a_shifted_blob_behind_the_wedge() -> None:
    axis = torch.arange(BOX) - BOX // 2
    ball = torch.exp(-(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) / 8.0)
    shift = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0], [-2.0, 1.0, 1.5], [0.0, 3.0, 0.0]])
    samples = 10 * posed(ball.expand(4, -1, -1, -1), Pose3D.of(so3.identity(4, 1), shift[:, None]), band())[:, 0]
    centring = Centring(band(), 4.0)
    for amplitude in (full(), wedge()):
        with torch.no_grad():
            centre = centring(samples * amplitude)
        assert float((centre - shift).norm(dim=1).max()) < 0.8
        moved = samples * centring.towards_origin(centre)
        assert bool((likeness(moved, samples[1:2].expand(4, -1)) > 0.95).all())


def test_without_shifts_nothing_looks_for_the_centre() -> None:
    encoder = SphericalEncoder(band(), so3.identity(1), 0.0).eval()
    assert encoder.centring is None
    assert bool((encoder(torch.ones(2, len(band().index), dtype=torch.complex64), full())[1] == 0).all())


@pytest.mark.parametrize("amplitude", [full(), wedge()], ids=["whole", "wedge"])
def test_filters_that_start_from_templates_find_their_rotation(amplitude: torch.Tensor) -> None:
    """The likeliest rotation of a noise-free particle is within a step of the true one, with few exceptions."""
    step = 30.0
    rotations = so3.rotation_grid(step)
    encoder = SphericalEncoder(band(), rotations, 0.0).eval()
    volumes = blobs(3, seed=4, width=1.2)
    encoder.start_from(spectra_of(volumes, band().limit).at(band().frequency))
    pose = random_pose(12, shift=0.0)
    label = torch.arange(12) % 3
    samples = posed(volumes[label], pose.each(lambda field: field[:, None]), band())[:, 0]
    with torch.no_grad():
        matched = encoder.expansion(samples * amplitude.square(), amplitude.square() - 1)
        answers = encoder._correlate(matched)[..., :3]
    best = answers[torch.arange(12), :, label].argmax(1)
    error = so3.angle_between(rotations[best], pose.quaternion)
    assert float((torch.rad2deg(error) < step).float().mean()) > 0.9
    assert float((answers.amax(1).argmax(1) == label).float().mean()) > 0.7


def test_more_patterns_than_filters_are_left_out() -> None:
    encoder = SphericalEncoder(band(), so3.identity(1), 0.0)
    patterns = spectra_of(blobs(60, width=1.2), band().limit).at(band().frequency)
    encoder.start_from(patterns)
    assert all(bool(weights.isfinite().all()) for weights in encoder.filters)


def test_shells_share_every_sample() -> None:
    weights = tents(torch.tensor([1.0, 1.25, 3.5, 4.0]), 4)
    torch.testing.assert_close(weights.sum(1), torch.ones(4))
    assert weights[1].tolist() == [0.75, 0.25, 0.0, 0.0] and math.isclose(float(weights[2, 2]), 0.5)
