"""Particles along filaments: even spacing, directions, frames without twist, tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_harmony.errors import InputError
from napari_harmony.particles.coordinates import Coordinates, points_to_coordinates, read_coordinates
from napari_harmony.particles.euler import angular_distance, matrix_to_relion, relion_to_matrix
from napari_harmony.particles.filaments import PRIORS, SUBSET, TRACK, TUBE, along_lines, sample_line

Z = np.array([0.0, 0.0, 1.0])
RADIUS, RISE = 30.0, 12.0  # of a helix, per radian


def helix(angle: np.ndarray) -> np.ndarray:
    return np.stack([RADIUS * np.cos(angle), RADIUS * np.sin(angle), RISE * angle], -1)


def traced(points: object, **columns: object) -> Coordinates:
    return Coordinates(np.asarray(points, float), table=pd.DataFrame(columns))


def test_two_points_are_a_straight_line() -> None:
    line = sample_line([[0, 0, 0], [30, 0, 40]], 8.0)
    np.testing.assert_allclose(line.track, [0, 8, 16, 24, 32, 40, 48])
    np.testing.assert_allclose(line.positions, line.track[:, None] * [0.6, 0, 0.8], atol=1e-9)
    np.testing.assert_allclose(line.tangents, np.broadcast_to([0.6, 0, 0.8], (7, 3)), atol=1e-12)
    assert angular_distance(line.matrices[0], line.matrices[-1]) < 1e-9


def test_a_line_that_ends_on_a_step_has_its_last_point() -> None:
    assert len(sample_line([[0, 0, 0], [0, 0, 12.0]], 4.0).track) == 4
    assert len(sample_line([[0, 0, 0], [0, 0, 3.0]], 4.0).track) == 1


def test_distances_are_measured_along_the_curve() -> None:
    line = sample_line(helix(np.linspace(0, 3, 40)), 5.0)
    speed = np.hypot(RADIUS, RISE)
    assert len(line.track) == int(3 * speed / 5) + 1
    np.testing.assert_allclose(line.positions[3:-3], helix(line.track[3:-3] / speed), atol=0.02)


def test_the_line_goes_through_its_points() -> None:
    corners = np.array([[0, 0, 0], [10, 0, 0], [15, 8, 2], [20, 20, 10.0]])
    line = sample_line(corners, 0.02)
    nearest = np.linalg.norm(line.positions[:, None] - corners, axis=-1).min(0)
    assert nearest.max() < 0.03


@pytest.mark.parametrize("end", [[0, 0, 9.0], [0, 0, -9.0], [9.0, 0, 0], [-2, 5, 3.0]])
def test_z_of_the_reference_lies_along_the_line(end: list[float]) -> None:
    line = sample_line([[0, 0, 0], end], 3.0)
    direction = np.array(end) / np.linalg.norm(end)
    np.testing.assert_allclose(line.matrices @ direction, np.broadcast_to(Z, (len(line.track), 3)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(line.matrices), 1)
    rot, tilt, _ = matrix_to_relion(line.matrices[0])
    assert rot == pytest.approx(0, abs=1e-9) and np.cos(np.deg2rad(tilt)) == pytest.approx(direction[2], abs=1e-9)


def test_frames_do_not_twist_about_a_helix() -> None:
    """Against the normal of a helix, a frame carried along without twist turns by the torsion times the length."""
    line = sample_line(helix(np.linspace(0, 4, 200)), 2.0)
    angle = line.track / np.hypot(RADIUS, RISE)
    normal = np.stack([-np.cos(angle), -np.sin(angle), 0 * angle], -1)
    seen = np.einsum("kij,kj->ki", line.matrices, normal)  # in the frame of the reference
    np.testing.assert_allclose(seen[5:-5, 2], 0, atol=2e-3)
    turned = np.unwrap(np.arctan2(seen[:, 1], seen[:, 0]))
    torsion = RISE / (RADIUS**2 + RISE**2)
    slope = np.polyfit(line.track[5:-5], turned[5:-5], 1)[0]
    assert abs(slope) == pytest.approx(torsion, rel=1e-2)


def test_frames_of_a_flat_curve_keep_the_normal_of_its_plane() -> None:
    line = sample_line(helix(np.linspace(0, 2, 30)) * [1, 1, 0], 3.0)
    up = line.matrices @ Z
    np.testing.assert_allclose(up, np.broadcast_to(up[0], up.shape), atol=1e-9)


def test_a_point_that_was_clicked_twice_counts_once() -> None:
    once = sample_line([[0, 0, 0], [10, 2, 0], [20, 0, 0]], 4.0)
    twice = sample_line([[0, 0, 0], [0, 0, 0], [10, 2, 0], [20, 0, 0], [20, 0, 0]], 4.0)
    np.testing.assert_allclose(once.positions, twice.positions)


@pytest.mark.parametrize("points", [[], [[1, 2, 3]], [[1, 2, 3], [1, 2, 3]]])
def test_a_single_place_is_no_line(points: list[list[float]]) -> None:
    with pytest.raises(InputError, match="at least two points"):
        sample_line(points, 1.0)


@pytest.mark.parametrize("step", [0, -1, float("nan"), float("inf")])
def test_steps_must_be_positive(step: float) -> None:
    with pytest.raises(InputError, match="positive"):
        sample_line([[0, 0, 0], [1, 0, 0]], step)


def test_several_filaments_in_one_table() -> None:
    points = traced([[0, 0, 0], [0, 0, 5], [0, 0, 10], [0, 20, 5]], filament=["b", "a", "b", "a"])
    made = along_lines(points, 40.0, 10.0)
    assert made.table[TUBE].tolist() == [1, 1, 1, 2, 2, 2, 2, 2, 2]  # "b" begins first; 100 and 200 A long
    assert made.table[TRACK].tolist() == pytest.approx([0, 40, 80, 0, 40, 80, 120, 160, 200])
    np.testing.assert_allclose(made.positions[:3], [[0, 0, 0], [0, 0, 4], [0, 0, 8]], atol=1e-9)
    np.testing.assert_allclose(made.positions[3:, 2], 5, atol=1e-9)
    assert made.angles is not None
    np.testing.assert_allclose(made.angles[:, 1], [0] * 3 + [90] * 6, atol=1e-6)
    np.testing.assert_allclose(made.table[list(PRIORS)], made.angles[:, 1:], atol=1e-9)
    np.testing.assert_allclose(relion_to_matrix(made.angles[3:]) @ [0, 1, 0], np.broadcast_to(Z, (6, 3)), atol=1e-9)


def test_half_sets_overlap_in_one_place_only() -> None:
    points = traced([[0, 0, 0], [0, 0, 10], [0, 20, 0], [0, 20, 20]], filament=[1, 1, 2, 2])
    assert along_lines(points, 40.0, 10.0).table[SUBSET].tolist() == [1, 1, 1, 1, 1, 2, 2, 2, 2]


def test_without_a_column_all_points_are_one_filament() -> None:
    made = along_lines(points_to_coordinates([[0, 0, 0], [0, 0, 8]]), 20.0, 10.0)
    assert made.table[TUBE].tolist() == [1] * 5 and made.positions[-1].tolist() == pytest.approx([8, 0, 0])


def test_shapes_that_napari_wrote(tmp_path: Path) -> None:
    rows = ["index,shape-type,vertex-index,axis-0,axis-1,axis-2"]
    rows += [f"{shape},path,{corner},5,{10 * corner},{shape}" for shape in (0, 1) for corner in (0, 1)]
    (tmp_path / "paths.csv").write_text("\n".join(rows))
    made = along_lines(read_coordinates(tmp_path / "paths.csv"), 50.0, 10.0)
    assert made.table[TUBE].tolist() == [1, 1, 1, 2, 2, 2] and made.positions[-1].tolist() == pytest.approx([1, 10, 5])


@pytest.mark.parametrize(
    ("every", "voxel", "message"),
    [(40.0, None, "--pixel-size"), (0.5, 10.0, "at least 1"), (float("nan"), 10.0, "at least 1")],
)
def test_what_cannot_be_done_is_said(every: float, voxel: float | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        along_lines(traced([[0, 0, 0], [0, 0, 5]]), every, voxel)


def test_a_filament_of_one_point_is_named() -> None:
    with pytest.raises(InputError, match="filament 7: a line needs"):
        along_lines(traced([[0, 0, 0], [0, 0, 5], [3, 3, 3]], rlnHelicalTubeID=[2, 2, 7]), 40.0, 10.0)
