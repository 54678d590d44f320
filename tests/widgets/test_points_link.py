"""Particles as points in a tomogram: selected there, selected everywhere, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gui_fakes import make_particles, make_result
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot

from napari_harmony.particles.dataset import Particles
from napari_harmony.session import Session, session_of
from napari_harmony.widgets._points_link import link_points
from napari_harmony.widgets.latent_plot import LatentPlot

SHOWN = np.array([3, 8, 20, 41])


@pytest.fixture
def session(viewer: ViewerModel, particles: Particles) -> Session:
    session = session_of(viewer)
    session.set_data(particles, viewer.layers["particles"])
    session.set_result(make_result())
    return session


@pytest.fixture
def points(viewer: ViewerModel, session: Session) -> Any:
    """A layer of four of the particles."""
    layer = viewer.add_points(
        np.random.default_rng(0).uniform(0, 50, (4, 3)), features={"particle": SHOWN}, face_color="red"
    )
    link_points(viewer, layer)
    return layer


def ringed(points: Any) -> list[int]:
    """Points with a white ring."""
    return np.flatnonzero((points.border_color == 1).all(axis=1)).tolist()


def test_points_selected_are_particles_selected(points: Any, session: Session) -> None:
    points.selected_data = {1, 3}
    assert session.selection.tolist() == [8, 41] and ringed(points) == [1, 3]
    points.selected_data.remove(1)
    assert session.selection.tolist() == [41]
    points.selected_data = set()
    assert session.selection.tolist() == []


def test_particles_selected_are_points_selected(points: Any, session: Session) -> None:
    heard: list[Any] = []
    session.selection_changed.connect(heard.append)
    session.select([3, 20, 55])
    assert set(points.selected_data) == {0, 2} and ringed(points) == [0, 2]
    assert session.selection.tolist() == [3, 20, 55] and len(heard) == 1  # 55 lies elsewhere, and stays
    points.selected_data.add(3)
    assert session.selection.tolist() == [3, 20, 41, 55]
    session.select([])
    assert not points.selected_data and ringed(points) == []


def test_hidden_points_catch_up_when_they_are_shown(points: Any, session: Session) -> None:
    points.visible = False
    session.select([8])
    assert not points.selected_data
    points.visible = True
    assert set(points.selected_data) == {1}


def test_the_selection_at_hand_is_taken_over(viewer: ViewerModel, session: Session) -> None:
    session.select([20])
    layer = viewer.add_points(np.zeros((4, 3)), features={"particle": SHOWN})
    link_points(viewer, layer)
    assert set(layer.selected_data) == {2}


def test_points_of_other_particles_are_left_alone(points: Any, session: Session) -> None:
    session.set_data(make_particles(50), None)
    session.select([3])
    assert not points.selected_data
    points.selected_data = {2}
    assert session.selection.tolist() == [3]


def test_the_plot_and_the_points_follow_each_other(
    qtbot: QtBot, viewer: ViewerModel, points: Any, session: Session
) -> None:
    plot = LatentPlot(viewer)
    qtbot.addWidget(plot)
    points.selected_data = {0}
    assert plot.canvas.painting._selection.tolist() == [3]
    plot.select_all()
    assert set(points.selected_data) == {0, 1, 2, 3}


def test_the_link_goes_with_the_layer(viewer: ViewerModel, session: Session) -> None:
    removed = viewer.layers.events.removed
    before = len(session.selection_changed), len(removed.callbacks)
    layer = viewer.add_points(np.zeros((4, 3)), features={"particle": SHOWN})
    heard = len(layer.selected_data.events.items_changed)
    link_points(viewer, layer)
    assert len(session.selection_changed) == before[0] + 1
    viewer.layers.remove(layer)
    assert (len(session.selection_changed), len(removed.callbacks)) == before
    assert len(layer.selected_data.events.items_changed) == heard
    session.select([3])
    assert not layer.selected_data
