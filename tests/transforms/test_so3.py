"""Quaternions against scipy's rotations and the published conversions of Euler angles; grids; symmetry."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from napari_harmony.errors import InputError
from napari_harmony.transforms import so3
from napari_harmony.transforms.pose import rotate


def random(n: int, seed: int = 0) -> torch.Tensor:
    return so3.random_rotations(n, torch.Generator().manual_seed(seed), torch.float64)


def scipy_of(quaternion: torch.Tensor) -> Rotation:
    return Rotation.from_quat(quaternion.numpy(), scalar_first=True)


ANGLES = st.tuples(st.floats(-720, 720), st.floats(-720, 720), st.floats(-720, 720))


def test_algebra_is_that_of_matrices() -> None:
    a, b = random(50), random(50, 1)
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    np.testing.assert_allclose(so3.to_matrix(a), scipy_of(a).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(so3.to_matrix(so3.multiply(a, b)), so3.to_matrix(a) @ so3.to_matrix(b), atol=1e-12)
    np.testing.assert_allclose(so3.to_matrix(so3.inverse(a)), so3.to_matrix(a).mT, atol=1e-12)
    np.testing.assert_allclose(so3.rotate_points(a, points), scipy_of(a).apply(points.numpy()), atol=1e-12)
    np.testing.assert_allclose(so3.angle_between(a, b), (scipy_of(a).inv() * scipy_of(b)).magnitude(), atol=1e-9)
    assert float(so3.angle_between(a, -a).abs().max()) == pytest.approx(0, abs=1e-7)


def test_matrices_lead_back_also_from_half_turns() -> None:
    half_turns = torch.eye(4, dtype=torch.float64)
    all_of_them = torch.cat([random(200), half_turns, so3.symmetry_group("D7", dtype=torch.float64)])
    back = so3.from_matrix(so3.to_matrix(all_of_them))
    np.testing.assert_allclose(so3.angle_between(all_of_them, back), 0, atol=1e-7)
    np.testing.assert_allclose(back.norm(dim=-1), 1)


@settings(deadline=None, max_examples=100)
@given(ANGLES)
@example((0.0, 181.0, -720.0))
def test_zyz_is_scipys(angles: tuple[float, float, float]) -> None:
    quaternion = so3.from_zyz(torch.tensor(angles, dtype=torch.float64))
    np.testing.assert_allclose(
        so3.to_matrix(quaternion), Rotation.from_euler("ZYZ", angles, degrees=True).as_matrix(), atol=1e-9
    )
    back = so3.to_zyz(quaternion)
    assert -180 < float(back[0]) <= 180 and 0 <= float(back[1]) <= 180 and -180 < float(back[2]) <= 180
    assert float(so3.angle_between(quaternion, so3.from_zyz(back))) < 1e-7


@pytest.mark.parametrize(("tilt", "expected"), [(0.0, [0.0, 0.0, 50.0]), (180.0, [0.0, 180.0, 10.0])])
def test_at_the_poles_rot_is_0(tilt: float, expected: list[float]) -> None:
    angles = so3.to_zyz(so3.from_zyz(torch.tensor([20.0, tilt, 30.0], dtype=torch.float64)))
    np.testing.assert_allclose(angles, expected, atol=1e-9)


def test_without_rot_and_tilt_it_is_the_rotation_of_images() -> None:
    points = torch.tensor([[1.0, 0.0], [0.3, -2.0]], dtype=torch.float64)
    psi = 37.0
    in_space = torch.nn.functional.pad(points, (0, 1))
    turned = so3.rotate_points(so3.from_zyz(torch.tensor([0.0, 0.0, psi], dtype=torch.float64)), in_space)
    angle = torch.full((2,), math.radians(psi), dtype=torch.float64)
    np.testing.assert_allclose(turned[:, :2], rotate(points, angle), atol=1e-12)


def test_published_dynamo_angles_are_the_same_rotation() -> None:
    # the pair that RELION's own converter is tested with: tdrot, tilt, narot and rot, tilt, psi
    dynamo, relion = (-47.273, 1.1777, -132.3), (137.7, 1.1777, 42.727)
    matrix = so3.to_matrix(so3.from_zyz(torch.tensor(relion, dtype=torch.float64)))
    np.testing.assert_allclose(matrix, Rotation.from_euler("zxz", dynamo, degrees=True).as_matrix(), atol=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.tuples(*[st.floats(-1.8, 1.8)] * 3))
def test_rotation_vectors(vector: tuple[float, float, float]) -> None:
    given_vector = torch.tensor(vector, dtype=torch.float64)
    quaternion = so3.from_rotation_vector(given_vector)
    np.testing.assert_allclose(so3.to_matrix(quaternion), Rotation.from_rotvec(vector).as_matrix(), atol=1e-9)
    np.testing.assert_allclose(so3.to_rotation_vector(quaternion), Rotation.from_rotvec(vector).as_rotvec(), atol=1e-7)


def test_a_step_of_nothing_has_a_slope() -> None:
    vector = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    so3.rotate_points(so3.from_rotation_vector(vector), torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))[
        1
    ].backward()
    assert vector.grad is not None
    np.testing.assert_allclose(vector.grad, [0.0, 0.0, 1.0], atol=1e-12)


def test_random_rotations_are_uniform() -> None:
    # for Haar rotations the angle has the density (1 - cos) / pi
    angles = so3.angle(random(20_000)).sort().values
    expected = (angles - angles.sin()) / math.pi
    assert float((expected - torch.linspace(0, 1, 20_000)).abs().max()) < 0.015
    assert float(so3.rotate_points(random(20_000), torch.eye(3, dtype=torch.float64)[2]).mean(0).norm()) < 0.02
    assert torch.equal(random(5), random(5))


@pytest.mark.parametrize("step", [15.0, 30.0])
def test_the_grid_leaves_no_holes(step: float) -> None:
    grid = so3.rotation_grid(step)
    assert len(grid) == so3.grid_size(step)
    overlap = (random(2000).float() @ grid.T).abs().amax(1).clamp(max=1)
    distance = torch.rad2deg(2 * torch.acos(overlap))
    assert float(distance.max()) < step
    assert float(distance.median()) < 0.55 * step
    near = (grid @ grid.T).abs().fill_diagonal_(0).amax(1).clamp(max=1)
    assert float(torch.rad2deg(2 * torch.acos(near)).min()) > 0.5 * step


def test_a_grid_of_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match="angular step: 0 degrees"):
        so3.rotation_grid(0)


def test_the_local_grid_stays_near() -> None:
    centre = random(3)
    near = so3.local_grid(centre, 4.0, 10.0)
    degrees = torch.rad2deg(so3.angle_between(centre[:, None], near))
    assert near.shape == (3, 81, 4)  # lattice points within 2.5 steps
    np.testing.assert_allclose(degrees[:, 0], 0, atol=1e-6)
    np.testing.assert_allclose(degrees[:, 1:7], 4.0, atol=1e-6)
    assert float(degrees.max()) <= 10.0


@pytest.mark.parametrize(("name", "order"), [("C1", 1), ("c7", 7), ("D1", 2), ("D2", 4), ("D7", 14)])
def test_symmetries_are_groups(name: str, order: int) -> None:
    group = so3.symmetry_group(name, dtype=torch.float64)
    assert group.shape == (order, 4)
    products = so3.multiply(group[:, None], group[None])
    distance = so3.angle_between(products[:, :, None], group)
    np.testing.assert_allclose(distance.amin(-1), 0, atol=1e-6)
    assert int((distance < 1e-6).sum()) == order**2
    np.testing.assert_allclose(so3.angle(group[0]), 0, atol=1e-9)


@pytest.mark.parametrize("name", ["O", "C0", "C", "D101", "helical", ""])
def test_other_symmetries_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="symmetry: '"):
        so3.symmetry_group(name)


def test_equivalent_poses_are_no_distance_apart() -> None:
    group = so3.symmetry_group("D3", dtype=torch.float64)
    truth = random(4)
    small = so3.from_rotation_vector(torch.tensor([0.1, 0.0, 0.0], dtype=torch.float64))
    for element in group:
        found = so3.multiply(small, so3.multiply(truth, element))
        np.testing.assert_allclose(so3.angle_modulo(found, truth, group), 0.1, atol=1e-9)
    assert float(so3.angle_modulo(random(500), random(500, 1), group).max()) <= math.pi * 0.75
