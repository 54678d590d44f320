"""Euler angles of RELION and Dynamo against the published conversions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_harmony.particles import euler

RANDOM = np.random.default_rng(3)
ANGLES = RANDOM.uniform([-180, 0, -180], [180, 180, 180], (200, 3))


def rotation_2d(psi: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(psi)), np.sin(np.deg2rad(psi))
    return np.array([[c, -s], [s, c]])


def relion_euler_matrix(rot: float, tilt: float, psi: float) -> np.ndarray:
    """RELION's A, reference to particle: the passive rotation by rot about z, tilt about y, psi about z."""

    def about(axis: int, angle: float) -> np.ndarray:
        c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        rows = [[c, s, 0], [-s, c, 0], [0, 0, 1]] if axis == 2 else [[c, 0, -s], [0, 1, 0], [s, 0, c]]
        return np.array(rows)

    return about(2, psi) @ about(1, tilt) @ about(2, rot)


def test_the_matrix_is_the_transpose_of_relions() -> None:
    for angles in ANGLES[:20]:
        np.testing.assert_allclose(euler.relion_to_matrix(angles), relion_euler_matrix(*angles).T, atol=1e-12)


@pytest.mark.parametrize("psi", [-170.0, -33.0, 0.0, 12.5, 90.0])
def test_psi_alone_is_the_rotation_in_two_dimensions(psi: float) -> None:
    matrix = euler.relion_to_matrix([0.0, 0.0, psi])
    np.testing.assert_allclose(matrix[:2, :2], rotation_2d(psi), atol=1e-12)
    np.testing.assert_allclose(matrix[2], [0, 0, 1], atol=1e-12)


def test_published_pair_of_dynamo_and_relion_angles() -> None:
    dynamo, relion = [-47.273, 1.1777, -132.3], [137.7, 1.1777, 42.727]
    np.testing.assert_allclose(euler.dynamo_to_relion(dynamo), relion, atol=1e-9)
    np.testing.assert_allclose(euler.relion_to_dynamo(relion), dynamo, atol=1e-9)
    np.testing.assert_allclose(euler.dynamo_to_matrix(dynamo), euler.relion_to_matrix(relion), atol=1e-12)
    np.testing.assert_allclose(euler.matrix_to_dynamo(euler.relion_to_matrix(relion)), dynamo, atol=1e-9)


def test_angles_return_from_matrices_and_quaternions() -> None:
    matrices = euler.relion_to_matrix(ANGLES)
    np.testing.assert_allclose(euler.matrix_to_relion(matrices), ANGLES, atol=1e-9)
    np.testing.assert_allclose(euler.quaternion_to_matrix(euler.matrix_to_quaternion(matrices)), matrices, atol=1e-12)
    np.testing.assert_allclose(euler.dynamo_to_matrix(euler.matrix_to_dynamo(matrices)), matrices, atol=1e-12)
    assert (euler.matrix_to_quaternion(matrices)[:, 0] >= 0).all()
    half = np.sqrt(0.5)
    quarter = euler.quaternion_to_matrix([half, 0, 0, half])  # w, x, y, z: a quarter turn about z
    np.testing.assert_allclose(quarter, euler.relion_to_matrix([0, 0, 90]), atol=1e-12)


@pytest.mark.parametrize("tilt", [0.0, 180.0, 1e-9, 180 - 1e-9])
def test_at_the_poles_the_matrix_is_kept_although_two_angles_are_one(tilt: float) -> None:
    angles = np.array([[30.0, tilt, 50.0], [-120.0, tilt, -100.0], [0.0, tilt, 180.0]])
    matrices = euler.relion_to_matrix(angles)
    found = euler.matrix_to_relion(matrices)
    assert (found[:, 0] == 0).all()
    np.testing.assert_allclose(euler.relion_to_matrix(found), matrices, atol=1e-9)


def test_distance_between_orientations() -> None:
    first = euler.relion_to_matrix(ANGLES)
    for angle in (1e-6, 0.5, 90.0, 179.0, 180.0):
        turned = first @ euler.relion_to_matrix([0.0, angle, 0.0])
        np.testing.assert_allclose(euler.angular_distance(first, turned), angle, rtol=1e-5, atol=1e-8)


def test_nothing_gives_nothing() -> None:
    assert euler.relion_to_matrix(np.zeros((0, 3))).shape == (0, 3, 3)
    assert euler.matrix_to_relion(np.zeros((0, 3, 3))).shape == (0, 3)
    assert euler.matrix_to_quaternion(np.zeros((0, 3, 3))).shape == (0, 4)
    assert euler.quaternion_to_matrix(np.zeros((0, 4))).shape == (0, 3, 3)


def test_angles_of_real_files_survive_the_way_through_matrices(shared_data: Path) -> None:
    from napari_harmony.particles.star import read_star

    table = read_star(shared_data / "metadata/relion_4.0.star").table("particles")
    assert table is not None
    angles = np.stack([table.numbers(f"rlnAngle{name}") for name in ("Rot", "Tilt", "Psi")], -1)
    back = euler.matrix_to_relion(euler.dynamo_to_matrix(euler.relion_to_dynamo(angles)))
    distance = euler.angular_distance(euler.relion_to_matrix(back), euler.relion_to_matrix(angles))
    assert len(angles) > 1000 and distance.max() < 1e-6
