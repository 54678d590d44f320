"""Scores against cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_harmony.analysis import metrics

GENERATOR = np.random.default_rng(7)
COUNT = 600


def truth(contents: int = 3, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "content": generator.integers(0, contents, COUNT),
            "psi": generator.uniform(0, 360, COUNT),
            "origin_x": generator.normal(0, 2, COUNT),
            "origin_y": generator.normal(0, 2, COUNT),
        }
    )


def in_gauge(known: pd.DataFrame, alpha: np.ndarray, tau: np.ndarray, classes: np.ndarray) -> pd.DataFrame:
    """Perfect poses of classes that lie at ``alpha[class]`` and off centre by ``tau[class]``, from the definition."""
    psi = (known["psi"].to_numpy() + alpha[classes]) % 360
    c, s = np.cos(np.radians(psi)), np.sin(np.radians(psi))
    rotation = np.array([[c, -s], [s, c]]).transpose(2, 0, 1)
    origin = known[["origin_x", "origin_y"]].to_numpy() + np.einsum("nba,nb->na", rotation, tau[classes])
    return pd.DataFrame({"class_number": classes, "psi": psi, "origin_x": origin[:, 0], "origin_y": origin[:, 1]})


ALPHA = np.array([0.0, 170.0, -100.0, 33.0, 5.0])
TAU = np.array([[0, 0], [3.0, -1], [0.5, 0.25], [-4, 2], [1, 1]])


def errors(table: pd.DataFrame, known: pd.DataFrame) -> metrics.PoseErrors:
    columns = ["origin_x", "origin_y"]
    return metrics.pose_errors(
        table["psi"], table[columns], known["psi"], known[columns], table["class_number"], known["content"]
    )


def test_gauge_is_the_definition_of_the_frame() -> None:
    # A point of the image must land on alpha, tau applied to where the true pose puts it.
    known = truth()
    table = in_gauge(known, ALPHA, TAU, known["content"].to_numpy() + 1)
    point, k = np.array([3.0, -5.0]), int(table.loc[0, "class_number"])
    truly = metrics.rotate_points(point + known.loc[0, ["origin_x", "origin_y"]].to_numpy(float), known.loc[0, "psi"])
    found = metrics.rotate_points(point + table.loc[0, ["origin_x", "origin_y"]].to_numpy(float), table.loc[0, "psi"])
    np.testing.assert_allclose(found, metrics.rotate_points(truly, ALPHA[k]) + TAU[k], atol=1e-9)


def test_gauge_is_recovered() -> None:
    known = truth()
    table = in_gauge(known, ALPHA, TAU, known["content"].to_numpy() + 1)
    found = errors(table, known)
    for k in (1, 2, 3):
        assert found.gauges[k].alpha == pytest.approx(ALPHA[k], abs=1e-6)
        np.testing.assert_allclose(found.gauges[k].tau, TAU[k], atol=1e-6)
    assert found.rotation.max() < 1e-6
    assert found.shift.max() < 1e-6
    assert found.majority.all()


def test_flips_and_wrong_shifts_do_not_move_the_gauge() -> None:
    known = truth(1)
    table = in_gauge(known, ALPHA, TAU, np.ones(COUNT, dtype=int))
    table.loc[:199, "psi"] += 180
    table.loc[:199, ["origin_x", "origin_y"]] += 9
    scores = errors(table, known).scores()
    assert scores["flips"] == pytest.approx(200 / COUNT)
    assert scores["rotation_under_10"] == pytest.approx(400 / COUNT)
    assert scores["rotation_median"] < 1e-6
    assert scores["shift_median"] < 1e-6


def test_size_of_errors_is_reported() -> None:
    known = truth()
    table = in_gauge(known, ALPHA, TAU, known["content"].to_numpy() + 1)
    table["psi"] += GENERATOR.normal(0, 3, COUNT)
    scores = errors(table, known).scores()
    assert scores["rotation_median"] == pytest.approx(3 * 0.6745, rel=0.15)


def test_random_poses_are_ninety_degrees_off() -> None:
    known = truth(2)
    table = in_gauge(known, ALPHA, TAU, known["content"].to_numpy() + 1)
    table["psi"] = GENERATOR.uniform(0, 360, COUNT)
    scores = errors(table, known).scores()
    assert scores["rotation_mean"] == pytest.approx(90, abs=8)
    assert scores["rotation_under_10"] == pytest.approx(20 / 360, abs=0.04)


def test_random_poses_in_small_classes_are_not_flattered_by_the_gauge() -> None:
    known = truth(1)
    table = pd.DataFrame({"class_number": np.arange(COUNT) // 6 + 1, "psi": GENERATOR.uniform(0, 360, COUNT)})
    table[["origin_x", "origin_y"]] = 0.0
    assert errors(table, known).scores()["rotation_under_10"] == pytest.approx(20 / 360, abs=0.04)


def test_a_particle_alone_in_its_class_has_no_pose_error() -> None:
    known = truth(1)
    table = in_gauge(known, ALPHA, TAU, np.r_[2, np.ones(COUNT - 1, dtype=int)])
    found = errors(table, known)
    assert np.isnan(found.rotation[0])
    assert np.isfinite(found.rotation[1:]).all()


def test_merged_and_split_classes_are_scored_by_their_majority() -> None:
    known = truth(4)
    classes = np.array([1, 1, 2, 3])[known["content"]]  # contents 0 and 1 merged
    halves = (known["content"] == 2) & (np.arange(COUNT) % 2 == 0)
    classes[halves] = 4  # content 2 split
    table = in_gauge(known, ALPHA, TAU, classes)
    minority = int(min((known["content"] == 0).sum(), (known["content"] == 1).sum()))
    table.loc[(classes == 1) & (known["content"] == known["content"][classes == 1].mode()[0]), "psi"] += 70
    found = errors(table, known)
    scores = found.scores()
    assert (~found.majority).sum() == minority
    assert scores["rotation_under_10"] == 1
    assert scores["strict_rotation_under_10"] == pytest.approx(1 - minority / COUNT)


def test_unclassed_and_missing_poses_count_as_wrong_when_strict() -> None:
    known = truth()
    table = in_gauge(known, ALPHA, TAU, known["content"].to_numpy() + 1)
    table.loc[:59, "class_number"] = 0
    table.loc[60:119, "psi"] = np.nan
    found = errors(table, known)
    assert np.isnan(found.rotation[:120]).all()
    assert found.scores()["rotation_under_10"] == 1
    assert found.scores()["strict_rotation_under_10"] == pytest.approx(1 - 120 / COUNT)


def test_nothing_classed_gives_nan_not_an_error() -> None:
    known = truth()
    table = in_gauge(known, ALPHA, TAU, np.zeros(COUNT, dtype=int))
    scores = metrics.evaluate(table, known)
    assert scores["accuracy"] == 0
    assert np.isnan(scores["rotation_median"])


def test_hungarian_accuracy_counts_surplus_and_unclassed_as_errors() -> None:
    contents = np.repeat([0, 1, 2], 10)
    assert metrics.hungarian_accuracy(np.repeat([7, 3, 5], 10), contents) == 1
    assert metrics.hungarian_accuracy(np.repeat([1, 1, 2], 10), contents) == pytest.approx(20 / 30)
    assert metrics.hungarian_accuracy(np.repeat([1, 2, 3, 4, 5, 6], 5), contents) == pytest.approx(15 / 30)
    assert metrics.hungarian_accuracy(np.repeat([1, 2, 0], 10), contents) == pytest.approx(20 / 30)


def test_junk_matches_no_class() -> None:
    contents = np.repeat([0, -1], 10)
    assert metrics.hungarian_accuracy(np.repeat([1, 0], 10), contents) == 1
    assert metrics.hungarian_accuracy(np.repeat([1, 2], 10), contents) == pytest.approx(0.5)


def test_clustering_scores_of_known_partitions() -> None:
    contents = np.repeat([0, 1], 50)
    split = metrics.clustering_scores(np.repeat([1, 2, 3, 4], 25), contents)
    assert split["homogeneity"] == pytest.approx(1)
    assert split["completeness"] == pytest.approx(0.5)
    assert split["merged_accuracy"] == 1
    merged = metrics.clustering_scores(np.ones(100, int), contents)
    assert merged["homogeneity"] == 0
    assert merged["ari"] == 0
    assert merged["merged_accuracy"] == 0.5


def test_circular_mode_ignores_the_rest_of_the_circle() -> None:
    angles = np.r_[GENERATOR.normal(359, 2, 300), GENERATOR.uniform(0, 360, 300)]
    assert metrics.wrap_degrees(metrics.circular_mode(angles) - 359) == pytest.approx(0, abs=1)


def test_geometric_median_resists_outliers() -> None:
    points = np.r_[GENERATOR.normal(0, 0.1, (70, 2)) + [1, 2], np.full((30, 2), 50.0)]
    np.testing.assert_allclose(metrics.geometric_median(points), [1, 2], atol=0.15)


@pytest.mark.parametrize("correlate", [metrics.circular_correlation, metrics.fisher_lee_correlation])
def test_correlations_of_angles(correlate) -> None:
    angles = GENERATOR.vonmises(1.0, 1.0, 2000) * 180 / np.pi
    assert correlate(angles, angles + 77) == pytest.approx(1)
    assert correlate(angles, -angles) == pytest.approx(-1)
    assert abs(correlate(angles, GENERATOR.permutation(angles))) < 0.1


def test_fisher_lee_is_its_sum_over_pairs() -> None:
    a, b = GENERATOR.uniform(0, 360, (2, 30))
    i, j = np.triu_indices(30, 1)
    sine_a, sine_b = (np.sin(np.radians(x[i] - x[j])) for x in (a, b))
    expected = (sine_a * sine_b).sum() / np.sqrt((sine_a**2).sum() * (sine_b**2).sum())
    assert metrics.fisher_lee_correlation(a, b) == pytest.approx(expected)


def test_viewing_axes_are_those_of_the_projection() -> None:
    from napari_harmony.particles.projection import euler_matrices

    rot, tilt = GENERATOR.uniform(-180, 180, 5), GENERATOR.uniform(0, 180, 5)
    np.testing.assert_allclose(metrics.viewing_axes(rot, tilt), euler_matrices(rot, tilt, 40.0)[:, 2], atol=1e-12)


def test_view_spread_takes_opposite_views_as_one() -> None:
    rot = np.r_[np.full(10, 30.0), np.full(10, 210.0), np.full(10, 0.0)]
    tilt = np.r_[np.full(10, 60.0), np.full(10, 120.0), np.full(10, 90.0)]
    spread = metrics.view_spread(np.r_[np.ones(20, int), np.full(10, 2)], rot, tilt)
    assert np.nanmax(spread.angle) < 1e-4
    assert abs(spread.axis[1] @ metrics.viewing_axes(30, 60)) == pytest.approx(1)


def test_view_spread_of_random_classes_is_that_of_chance() -> None:
    rot, tilt = GENERATOR.uniform(-180, 180, 4000), np.degrees(np.arccos(GENERATOR.uniform(-1, 1, 4000)))
    spread = metrics.view_spread(np.ones(4000, int), rot, tilt)
    assert spread.scores()["view_spread"] == pytest.approx(60, abs=4)


def test_evaluate_of_a_perfect_result() -> None:
    known = truth()
    table = in_gauge(known, ALPHA, TAU, known["content"].to_numpy() + 1)
    scores = metrics.evaluate(table, known)
    assert scores["accuracy"] == scores["ari"] == 1
    assert scores["rotation_under_10"] == 1
    assert scores["fisher_lee_correlation"] == pytest.approx(1)
    assert "view_spread" not in scores


def test_evaluate_with_classes_only_and_with_own_views() -> None:
    known = truth()
    table = in_gauge(known, ALPHA, TAU, known["content"].to_numpy() + 1)
    assert "rotation_median" not in metrics.evaluate(table, known[["content"]])
    known["rot"], known["tilt"] = GENERATOR.uniform(0, 360, COUNT), GENERATOR.uniform(0, 180, COUNT)
    scores = metrics.evaluate(table, known)
    assert "rotation_median" not in scores
    assert scores["view_spread"] > 30


def test_evaluate_refuses_other_particles() -> None:
    known = truth()
    with pytest.raises(ValueError, match="same particles"):
        metrics.evaluate(pd.DataFrame({"class_number": [1]}), known)
