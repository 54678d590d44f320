"""Poses form a group, agree with plain matrices, and translate to RELION's convention and back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_harmony.transforms import Pose2D

ANGLES = st.floats(-10.0, 10.0)
SHIFTS = st.tuples(st.floats(-20.0, 20.0), st.floats(-20.0, 20.0))
LOG_SCALES = st.floats(-0.5, 0.5)
GAINS = st.floats(0.2, 5.0)
OFFSETS = st.floats(-2.0, 2.0)


@st.composite
def poses(draw: st.DrawFn) -> Pose2D:
    values = draw(ANGLES), draw(SHIFTS), draw(LOG_SCALES), draw(GAINS), draw(OFFSETS)
    return Pose2D(*(torch.tensor([v], dtype=torch.float64) for v in values))


def homogeneous(pose: Pose2D) -> np.ndarray:
    """The 3 x 3 matrix of a pose, from the definition in words, with numpy alone."""
    cos, sin = math.cos(pose.angle[0]), math.sin(pose.angle[0])
    scale = np.diag([math.exp(pose.log_scale[0]), math.exp(pose.log_scale[0]), 1.0])
    rotation = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    shift = np.eye(3)
    shift[:2, 2] = pose.shift[0]
    return shift @ rotation @ scale


def assert_same(a: Pose2D, b: Pose2D) -> None:
    angle, shift = a.distance(b)
    assert float(angle.abs().max()) < 1e-6
    assert float(shift.max()) < 1e-6
    for field in ("log_scale", "gain", "offset"):
        torch.testing.assert_close(getattr(a, field), getattr(b, field))


@settings(deadline=None, max_examples=50)
@given(poses())
def test_a_pose_and_its_inverse_cancel_both_ways(pose: Pose2D) -> None:
    identity = Pose2D.identity(1, dtype=torch.float64)
    assert_same(pose.compose(pose.inverse()), identity)
    assert_same(pose.inverse().compose(pose), identity)


@settings(deadline=None, max_examples=50)
@given(poses(), poses())
def test_composition_is_the_product_of_matrices(second: Pose2D, first: Pose2D) -> None:
    both = second.compose(first)
    np.testing.assert_allclose(homogeneous(both), homogeneous(second) @ homogeneous(first), atol=1e-8)
    value = 0.7
    step = float(second.gain) * (float(first.gain) * value + float(first.offset)) + float(second.offset)
    assert float(both.gain * value + both.offset) == pytest.approx(step)


@settings(deadline=None, max_examples=50)
@given(poses(), poses(), poses())
def test_composition_is_associative(a: Pose2D, b: Pose2D, c: Pose2D) -> None:
    assert_same(a.compose(b).compose(c), a.compose(b.compose(c)))


@settings(deadline=None, max_examples=50)
@given(poses(), poses())
def test_maps_compose_and_invert_as_poses_do(second: Pose2D, first: Pose2D) -> None:
    points = torch.tensor([[[1.0, 2.0], [-3.0, 0.5]]], dtype=torch.float64)
    by_pose = second.compose(first).map()
    by_map = second.map().compose(first.map())
    torch.testing.assert_close(by_pose.apply(points), by_map.apply(points))
    torch.testing.assert_close(by_pose.gain, by_map.gain)
    torch.testing.assert_close(by_map.inverse().apply(by_map.apply(points)), points)
    torch.testing.assert_close(second.map().inverse().offset, second.inverse().map().offset)


def test_a_point_is_scaled_then_rotated_then_shifted() -> None:
    pose = Pose2D.of(torch.tensor([math.pi / 2]), torch.tensor([[10.0, 20.0]]), torch.tensor([math.log(2.0)]))
    seen = pose.map().apply(torch.tensor([[[1.0, 0.0]]]))
    torch.testing.assert_close(seen, torch.tensor([[[10.0, 22.0]]]))


@settings(deadline=None, max_examples=50)
@given(st.floats(-720.0, 720.0), SHIFTS)
def test_relion_numbers_survive_and_mean_what_relion_says(psi: float, origin: tuple[float, float]) -> None:
    pose = Pose2D.from_relion(torch.tensor([psi], dtype=torch.float64), torch.tensor([origin], dtype=torch.float64))
    psi_back, origin_back = pose.to_relion()
    assert math.remainder(float(psi_back) - psi, 360.0) == pytest.approx(0.0, abs=1e-8)
    assert -180.0 < float(psi_back) <= 180.0
    np.testing.assert_allclose(origin_back[0], origin)
    # x_ref = R(psi) (x_img - c + t) + c
    angle = math.radians(psi)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    reference = np.array([3.0, -4.0])
    image = pose.map().apply(torch.from_numpy(reference)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(rotation @ (image + np.array(origin)), reference, atol=1e-9)


def test_half_a_turn_is_written_as_plus_180() -> None:
    psi, _ = Pose2D.of(torch.tensor([math.pi, -math.pi], dtype=torch.float64)).to_relion()
    assert psi.tolist() == [180.0, 180.0]


def test_distance_takes_the_short_way_round() -> None:
    a = Pose2D.of(torch.tensor([3.1]), torch.tensor([[1.0, 1.0]]))
    b = Pose2D.of(torch.tensor([-3.1]), torch.tensor([[4.0, 5.0]]))
    angle, shift = a.distance(b)
    assert float(angle) == pytest.approx(2 * math.pi - 6.2, abs=1e-5)
    assert float(shift) == pytest.approx(5.0)


def test_fields_move_together() -> None:
    pose = Pose2D.of(torch.arange(6.0).reshape(3, 2))
    assert pose[1].shape == (2,)
    assert pose[:, 1].angle.tolist() == [1.0, 3.0, 5.0]
    assert pose.to(torch.float64).gain.dtype == torch.float64
    doubled = Pose2D.of(torch.zeros(1), torch.ones(1, 2), torch.ones(1)).on_grid(2.0)
    assert doubled.shift.tolist() == [[2.0, 2.0]] and doubled.log_scale.tolist() == [1.0]
