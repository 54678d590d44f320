"""Which points lie in a lasso: as matplotlib says, whatever the shape, and quickly."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_harmony.widgets._lasso import _crossings_odd, inside_polygon, inside_rectangle, nearest


def flower(corners: int, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """A simple closed shape with five lobes."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radius = 1 + 0.4 * np.sin(5 * angle) + noise * np.random.default_rng(seed).normal(size=corners)
    return np.c_[radius * np.cos(angle), 0.3 * radius * np.sin(angle)]


@pytest.mark.parametrize("count", [500, 50_000])
@pytest.mark.parametrize("corners", [3, 40, 600])
def test_as_matplotlib_says(count: int, corners: int) -> None:
    from matplotlib.path import Path

    x, y = np.random.default_rng(count).normal(size=(2, count)) * [[1.0], [0.3]]
    shape = flower(corners, noise=0.01)
    expected = Path(np.r_[shape, shape[:1]], closed=True).contains_points(np.c_[x, y])
    np.testing.assert_array_equal(inside_polygon(x, y, shape), expected)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), corners=st.integers(3, 12), stretch=st.floats(1e-3, 1e3))
def test_the_grid_changes_nothing(seed: int, corners: int, stretch: float) -> None:
    """Also for shapes that cross themselves, and whatever the units of the axes."""
    random = np.random.default_rng(seed)
    shape = random.normal(size=(corners, 2)) * [stretch, 1.0] + [1e3, 0.0]
    x, y = random.normal(size=(2, 3000)) * [[stretch], [1.0]] + [[1e3], [0.0]]
    np.testing.assert_array_equal(inside_polygon(x, y, shape), _crossings_odd(x, y, shape))


def test_points_without_a_place_are_in_nothing() -> None:
    x, y = np.array([0.5, np.nan, 0.5]), np.array([0.5, 0.5, np.nan])
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    assert inside_polygon(x, y, square).tolist() == [True, False, False]
    assert inside_rectangle(x, y, (1, 1), (0, 0)).tolist() == [True, False, False]
    assert inside_rectangle(x, y, (-np.inf, -np.inf), (np.inf, np.inf)).tolist() == [True, False, False]


@pytest.mark.parametrize("corners", [np.empty((0, 2)), [[0, 0], [1, 1]], [[0, 0], [1, 0], [2, 0]]])
def test_what_encloses_nothing_holds_nothing(corners: object) -> None:
    assert not inside_polygon(np.linspace(0, 2, 9), np.zeros(9), np.asarray(corners)).any()


def test_the_nearest_by_what_is_seen() -> None:
    x, y = np.array([0.0, 1.0, np.nan]), np.array([0.0, 0.0, 0.0])
    assert nearest(x, y, (0.6, 0.0), (1.0, 1.0)) == 1
    # the vertical axis is drawn a hundred times larger
    assert nearest(np.array([0.0, 1.0]), np.array([0.5, 0.0]), (0.2, 0.0), (1.0, 100.0)) == 1
    assert nearest(x[2:], y[2:], (0.0, 0.0), (1.0, 1.0)) is None
    assert nearest(x[:0], y[:0], (0.0, 0.0), (1.0, 1.0)) is None


def test_a_lasso_around_many_points_is_quick() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 100_000))
    start = time.perf_counter()
    inside_polygon(x, y, flower(400))
    assert time.perf_counter() - start < 1.0  # usually 0.05 s; benchmarks/latent_speed.py measures
