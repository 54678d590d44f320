"""Scores of subtomogram poses against a truth: gauges, symmetry, outliers and chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from napari_harmony.analysis import metrics_3d
from napari_harmony.analysis.metrics_3d import ANGLES, ORIGINS

COUNT = 90
SEEDS = st.integers(0, 2**32 - 1)


def truth(contents: int = 3, count: int = COUNT, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"content": rng.integers(0, contents, count)})
    table[ANGLES] = Rotation.random(count, rng).as_euler("ZYZ", degrees=True)
    table[ORIGINS] = rng.normal(0, 2, (count, 3))
    return table


def in_gauge(known: pd.DataFrame, classes: np.ndarray, seed: int = 1, noise: Rotation | None = None) -> pd.DataFrame:
    """The truth as a run shows it whose classes are turned and moved by random gauges, turned further by ``noise``."""
    rng = np.random.default_rng(seed)
    pose = Rotation.from_euler("ZYZ", known[ANGLES].to_numpy(), degrees=True)
    number = int(np.max(classes)) + 1
    gauge, tau = Rotation.random(number, rng)[classes], rng.normal(0, 3, (number, 3))[classes]
    estimate = gauge * pose if noise is None else noise * gauge * pose
    table = pd.DataFrame({"class_number": classes})
    table[ANGLES] = estimate.as_euler("ZYZ", degrees=True)
    table[ORIGINS] = known[ORIGINS].to_numpy() + (gauge * pose).inv().apply(tau)
    return table


def errors(table: pd.DataFrame, known: pd.DataFrame, symmetry: str = "C1") -> metrics_3d.PoseErrors3D:
    columns = table[ANGLES], table[ORIGINS], known[ANGLES], known[ORIGINS]
    return metrics_3d.pose_errors(*columns, table["class_number"], known["content"], symmetry)


@settings(max_examples=10, deadline=None)
@given(SEEDS, SEEDS)
def test_no_gauge_changes_a_perfect_result(seed: int, gauge: int) -> None:
    known = truth(seed=seed, count=45)
    found = errors(in_gauge(known, known["content"].to_numpy() + 1, gauge), known)
    np.testing.assert_allclose(found.rotation, 0, atol=1e-4)
    np.testing.assert_allclose(found.shift, 0, atol=1e-4)


def test_the_convention_is_that_of_the_renderer() -> None:
    """A gauge that is applied to points, not to formulas: particle, truth and class show the same points."""
    rng = np.random.default_rng(3)
    points, centre = rng.normal(0, 4, (5, 3)), 16.0
    known = truth(1, 12)
    true_pose = Rotation.from_euler("ZYZ", known[ANGLES].to_numpy(), degrees=True)
    gauge, tau = Rotation.random(rng=rng), np.array([1.0, -2.0, 0.5])
    table = in_gauge(known, np.ones(12, int))
    for row in range(12):
        in_volume = true_pose[row].inv().apply(points) + centre - known[ORIGINS].to_numpy()[row]
        in_class = gauge.apply(points) + centre + tau
        # the estimate that maps the one onto the other, solved from the points alone
        a, b = in_volume - in_volume.mean(0), in_class - in_class.mean(0)
        estimate, _ = Rotation.align_vectors(b, a)
        table.loc[row, ANGLES] = estimate.as_euler("ZYZ", degrees=True)
        table.loc[row, ORIGINS] = (estimate.inv().apply(in_class - centre) - in_volume + centre).mean(0)
    found = errors(table, known)
    np.testing.assert_allclose(found.rotation, 0, atol=1e-4)
    np.testing.assert_allclose(found.shift, 0, atol=1e-4)
    np.testing.assert_allclose(found.gauges[1].tau, tau, atol=1e-4)
    assert np.degrees((found.gauges[1].rotation.inv() * gauge).magnitude()) < 1e-4


@settings(max_examples=8, deadline=None)
@given(SEEDS, st.sampled_from(["C2", "C5", "D2", "D3", "T", "O"]))
def test_the_rotations_of_a_symmetry_are_no_errors(seed: int, symmetry: str) -> None:
    rng = np.random.default_rng(seed)
    known = truth(1, 40, seed)
    group = metrics_3d.symmetry_group(symmetry)
    copies = known.copy()
    chosen = group[rng.integers(0, len(group), len(known))]
    pose = chosen * Rotation.from_euler("ZYZ", known[ANGLES].to_numpy(), degrees=True)
    copies[ANGLES] = pose.as_euler("ZYZ", degrees=True)
    table = in_gauge(copies, np.ones(40, int), seed)
    found = errors(table, known, symmetry)
    np.testing.assert_allclose(found.rotation, 0, atol=1e-3)
    np.testing.assert_allclose(found.shift, 0, atol=1e-3)
    assert errors(table, known).rotation.max() > 40


def test_groups_are_relions() -> None:
    z, x = np.array([0.0, 0, 1]), np.array([1.0, 0, 0])
    for name, size in (("c1", 1), ("C4", 4), ("D3", 6), ("T", 12), ("O", 24), ("I", 60)):
        assert len(metrics_3d.symmetry_group(name)) == size
    dihedral = metrics_3d.symmetry_group("D3")
    axes = [r.as_rotvec() / np.linalg.norm(r.as_rotvec()) for r in dihedral if r.magnitude() > np.pi - 1e-6]
    assert len(axes) == 3
    assert any(np.allclose(np.abs(axis), x) for axis in axes)
    np.testing.assert_allclose([element.apply(z) for element in metrics_3d.symmetry_group("C4")], [z] * 4, atol=1e-12)
    from napari_harmony.transforms import so3

    for name in ("C3", "D2", "D5"):
        ours, engine = metrics_3d.symmetry_group(name).as_matrix(), so3.to_matrix(so3.symmetry_group(name)).numpy()
        apart = np.abs(ours[:, None] - engine[None]).max(axis=(2, 3))
        assert (apart.min(axis=1) < 1e-5).all()
    for wrong in ("", "C", "C0", "X4", "T2", "D-1"):
        with pytest.raises(ValueError, match="there is no symmetry"):
            metrics_3d.symmetry_group(wrong)


@pytest.mark.parametrize("angle", [2.0, 8.0, 14.0])
def test_errors_have_the_size_of_the_noise(angle: float) -> None:
    known = truth(2, 200)
    axes = np.random.default_rng(5).normal(size=(200, 3))
    noise = Rotation.from_rotvec(np.radians(angle) * axes / np.linalg.norm(axes, axis=1, keepdims=True))
    scores = errors(in_gauge(known, known["content"].to_numpy() + 1, noise=noise), known).scores()
    assert scores["rotation_median"] == pytest.approx(angle, rel=0.1)
    assert scores["rotation_under_10"] == pytest.approx(float(angle < 10), abs=0.05)
    assert scores["rotation_under_20"] == 1


def test_flips_do_not_move_the_gauge() -> None:
    known = truth(1)
    flipped = np.arange(COUNT) % 5 < 2
    turn = Rotation.from_rotvec(np.where(flipped[:, None], [np.pi, 0, 0], 0.0))
    scores = errors(in_gauge(known, np.ones(COUNT, int), noise=turn), known).scores()
    assert scores["flips"] == pytest.approx(0.4)
    assert scores["rotation_median"] < 1e-3
    assert scores["rotation_under_10"] == pytest.approx(0.6)


@pytest.mark.parametrize("classes", [1, 15])
def test_random_poses_are_as_wrong_as_chance_whatever_the_number_of_classes(classes: int) -> None:
    known = truth(1, 300)
    table = in_gauge(known, np.arange(300) % classes + 1)
    table[ANGLES] = Rotation.random(300, np.random.default_rng(9)).as_euler("ZYZ", degrees=True)
    found = errors(table, known)
    # the angle of a random rotation has the density (1 - cos a) / pi
    assert found.scores()["rotation_mean"] == pytest.approx(90 + 360 / np.pi**2, abs=6)
    assert found.scores()["rotation_under_20"] == pytest.approx(
        (np.radians(20) - np.sin(np.radians(20))) / np.pi, abs=0.02
    )


def test_merged_classes_are_scored_by_their_majority_and_missing_poses_are_wrong_when_strict() -> None:
    known = truth(3)
    classes = np.array([1, 1, 2])[known["content"]]
    table = in_gauge(known, classes)
    minority = min((known["content"] == 0).sum(), (known["content"] == 1).sum())
    main = known["content"] == known["content"][classes == 1].mode()[0]
    turned = Rotation.from_euler("ZYZ", table.loc[main, ANGLES].to_numpy(), degrees=True)
    quarter = Rotation.from_rotvec([0, np.pi / 2, 0])
    table.loc[main, ANGLES] = (quarter * turned).as_euler("ZYZ", degrees=True)
    table.loc[:4, "class_number"] = 0
    table.loc[5:8, "tilt"] = np.nan
    found = errors(table, known)
    assert np.isnan(found.rotation[:9]).all()
    assert found.scores()["rotation_under_10"] == 1
    lost = 9 + minority - (~main & (classes == 1))[:9].sum()
    assert found.scores()["strict_rotation_under_10"] == pytest.approx(1 - lost / COUNT)


def test_geodesic_median_resists_outliers() -> None:
    rng = np.random.default_rng(2)
    centre = Rotation.random(rng=rng)
    near = Rotation.from_rotvec(rng.normal(0, 0.02, (70, 3))) * centre
    far = Rotation.from_rotvec([0, 0, 1.5]) * centre
    mixed = Rotation.concatenate([near, Rotation.concatenate([far] * 30)])
    start = metrics_3d.rotation_mode(mixed, 5)
    found = metrics_3d.geodesic_median(mixed, near[0])
    assert np.degrees((found.inv() * centre).magnitude()) < 2
    assert np.degrees((metrics_3d.geodesic_median(near, start).inv() * centre).magnitude()) < 1


def test_evaluate_names_all_scores_and_does_without_poses() -> None:
    known = truth()
    table = in_gauge(known, known["content"].to_numpy() + 1)
    scores = metrics_3d.evaluate(table, known)
    wanted = ("rotation_median", "rotation_under_10", "rotation_under_15", "rotation_under_20", "flips", "shift_median")
    assert {"accuracy", "ari", "homogeneity", *wanted, *(f"strict_{name}" for name in wanted)} <= set(scores)
    assert scores["accuracy"] == 1 and scores["particles"] == COUNT
    bare = metrics_3d.evaluate(table, known[["content"]])
    assert bare["accuracy"] == 1 and "rotation_median" not in bare
    nothing = metrics_3d.evaluate(table.assign(class_number=0), known)
    assert np.isnan(nothing["rotation_median"]) and nothing["strict_rotation_under_20"] == 0
    with pytest.raises(ValueError, match="the same particles"):
        metrics_3d.evaluate(table.head(3), known)
