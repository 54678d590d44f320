"""Poses in space form a group, agree with plain matrices, and translate to RELION's convention and back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from napari_harmony.transforms import Pose2D, Pose3D, so3

EULER = st.tuples(st.floats(-360, 360), st.floats(-360, 360), st.floats(-360, 360))
SHIFTS = st.tuples(*[st.floats(-20.0, 20.0)] * 3)


def tensor(value: object) -> torch.Tensor:
    return torch.as_tensor(np.asarray(value), dtype=torch.float64)[None]


@st.composite
def poses(draw: st.DrawFn) -> Pose3D:
    gain, offset = draw(st.floats(0.2, 5.0)), draw(st.floats(-2.0, 2.0))
    quaternion = so3.from_zyz(tensor(draw(EULER)))
    return Pose3D(quaternion, tensor(draw(SHIFTS)), tensor(draw(st.floats(-0.5, 0.5))), tensor(gain), tensor(offset))


def homogeneous(pose: Pose3D) -> np.ndarray:
    """The 4 x 4 matrix of a pose, from the definition in words."""
    matrix = np.eye(4)
    rotation = Rotation.from_quat(pose.quaternion[0].numpy(), scalar_first=True).as_matrix()
    matrix[:3, :3] = math.exp(pose.log_scale[0]) * rotation
    matrix[:3, 3] = pose.shift[0]
    return matrix


def assert_same(a: Pose3D, b: Pose3D) -> None:
    angle, shift = a.distance(b)
    assert float(angle.max()) < 1e-6
    assert float(shift.max()) < 1e-6
    for field in ("log_scale", "gain", "offset"):
        torch.testing.assert_close(getattr(a, field), getattr(b, field))


@settings(deadline=None, max_examples=50)
@given(poses())
def test_a_pose_and_its_inverse_cancel_both_ways(pose: Pose3D) -> None:
    identity = Pose3D.identity(1, dtype=torch.float64)
    assert_same(pose.compose(pose.inverse()), identity)
    assert_same(pose.inverse().compose(pose), identity)
    assert_same(pose.compose(identity), pose)


@settings(deadline=None, max_examples=50)
@given(poses(), poses())
def test_composition_is_the_product_of_matrices(second: Pose3D, first: Pose3D) -> None:
    both = second.compose(first)
    np.testing.assert_allclose(homogeneous(both), homogeneous(second) @ homogeneous(first), atol=1e-8)
    step = float(second.gain) * (float(first.gain) * 0.7 + float(first.offset)) + float(second.offset)
    assert float(both.gain * 0.7 + both.offset) == pytest.approx(step)
    np.testing.assert_allclose(both.matrix()[0], homogeneous(both)[:3, :3], atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(poses(), poses(), poses())
def test_composition_is_associative(a: Pose3D, b: Pose3D, c: Pose3D) -> None:
    assert_same(a.compose(b).compose(c), a.compose(b.compose(c)))


@settings(deadline=None, max_examples=50)
@given(EULER, SHIFTS)
def test_relion_numbers_mean_what_relion_says(angles: tuple[float, ...], origin: tuple[float, ...]) -> None:
    pose = Pose3D.from_relion(tensor(angles), tensor(origin))
    # x_ref = R (x_vol - c + t) + c
    rotation = Rotation.from_euler("ZYZ", angles, degrees=True).as_matrix()
    reference = np.array([3.0, -4.0, 1.0])
    volume = so3.rotate_points(pose.quaternion, tensor(reference))[0].numpy() + pose.shift[0].numpy()
    np.testing.assert_allclose(rotation @ (volume + np.array(origin)), reference, atol=1e-9)
    again = Pose3D.from_relion(*pose.to_relion())
    assert_same(again, pose)


@settings(deadline=None, max_examples=20)
@given(st.floats(-179.0, 180.0), SHIFTS)
def test_in_the_plane_it_is_the_pose_of_an_image(psi: float, origin: tuple[float, ...]) -> None:
    flat = Pose2D.from_relion(tensor(psi), tensor(origin[:2]))
    pose = Pose3D.from_relion(tensor((0.0, 0.0, psi)), tensor(origin))
    np.testing.assert_allclose(pose.matrix()[0, :2, :2], flat.map().matrix[0], atol=1e-12)
    np.testing.assert_allclose(pose.shift[0, :2], flat.shift[0])
    np.testing.assert_allclose(pose.to_relion()[0][0], (0.0, 0.0, psi), atol=1e-7)


def test_a_point_is_scaled_then_rotated_then_shifted() -> None:
    quarter = so3.from_zyz(tensor((90.0, 0.0, 0.0)))
    pose = Pose3D.of(quarter, tensor((10.0, 20.0, 30.0)), tensor(math.log(2.0)))
    seen = pose.matrix()[0] @ torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64) + pose.shift[0]
    np.testing.assert_allclose(seen, [10.0, 22.0, 30.0], atol=1e-12)


def test_a_step_turns_in_the_frame_of_the_particle_and_leaves_the_shift() -> None:
    pose = Pose3D.of(so3.from_zyz(tensor((10.0, 20.0, 30.0))), tensor((1.0, 2.0, 3.0)))
    stepped = pose.stepped(tensor((0.0, 0.0, 0.2)), tensor((0.5, 0.0, 0.0)))
    turn = so3.multiply(stepped.quaternion, so3.inverse(pose.quaternion))
    np.testing.assert_allclose(so3.to_rotation_vector(turn)[0], [0.0, 0.0, 0.2], atol=1e-12)
    np.testing.assert_allclose(stepped.shift[0], [1.5, 2.0, 3.0])


def test_fields_move_together() -> None:
    pose = Pose3D.identity(3, 2)
    assert pose.shape == (3, 2) and len(pose) == 3
    assert pose[1].shift.shape == (2, 3) and pose[:, 1].quaternion.shape == (3, 4)
    assert pose.to(torch.float64).gain.dtype == torch.float64
    moved = Pose3D.of(so3.identity(1), torch.ones(1, 3), torch.ones(1)).on_grid(2.0)
    assert moved.shift.tolist() == [[2.0, 2.0, 2.0]] and moved.log_scale.tolist() == [1.0]
