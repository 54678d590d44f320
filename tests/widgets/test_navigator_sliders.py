"""Sliders of the navigator: the picture follows them, particles are started from, names and scores are told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gui_fakes import make_particles
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from navigator_fakes import (
    GRID,
    DrawingModel,
    FakeCanonical,
    drawn,
    make_navigation,
    shows,
    slider,
)
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt

from napari_harmony._layers import particles_layer
from napari_harmony.results import Result
from napari_harmony.session import Session
from napari_harmony.widgets.navigator import NavigatorWidget

# -- moving ---------------------------------------------------------------------------------------------------------


def test_the_picture_follows_a_slider(
    qtbot: QtBot, navigator: NavigatorWidget, viewer: ViewerModel, model: DrawingModel
) -> None:
    slider(navigator, 1).setValue(150)
    qtbot.waitUntil(lambda: shows(viewer, model, [0.5, 3.5]))
    slider(navigator, 0).setValue(-50)
    qtbot.waitUntil(lambda: shows(viewer, model, [-0.5, 3.5]))
    assert navigator.panel.movie.direction_box.currentText() == "direction 1"  # that of the last slider


def test_arrow_keys_move_a_slider(
    qtbot: QtBot, navigator: NavigatorWidget, viewer: ViewerModel, model: DrawingModel
) -> None:
    slider(navigator, 0).setFocus()
    for _ in range(5):
        qtbot.keyClick(slider(navigator, 0), Qt.Key.Key_Right)
    qtbot.keyClick(slider(navigator, 0), Qt.Key.Key_PageUp)
    assert navigator.panel.rows.rows[0].value == pytest.approx(1.0)
    qtbot.waitUntil(lambda: shows(viewer, model, [2.5, 0.5]))


def test_many_moves_draw_few_pictures(
    qtbot: QtBot, navigator: NavigatorWidget, drawing: FakeCanonical, viewer: ViewerModel, model: DrawingModel
) -> None:
    before = drawing.drawn
    for value in range(-200, 200):
        slider(navigator, 0).setValue(value)
    qtbot.waitUntil(lambda: shows(viewer, model, [0.5 + 2 * 1.99, 0.5]))
    assert drawing.drawn - before <= 3


def test_reset_goes_to_the_centre(
    qtbot: QtBot, navigator: NavigatorWidget, viewer: ViewerModel, model: DrawingModel
) -> None:
    slider(navigator, 0).setValue(120)
    navigator.panel.reset_button.click()
    assert [row.value for row in navigator.panel.rows.rows] == [0.0, 0.0]
    qtbot.waitUntil(lambda: shows(viewer, model, [0.5, 0.5]))


def test_a_selected_particle_is_started_from(
    qtbot: QtBot, navigator: NavigatorWidget, viewer: ViewerModel, session: Session, result: Result, model: DrawingModel
) -> None:
    session.select([7])
    code = result.content[7]
    qtbot.waitUntil(lambda: shows(viewer, model, code))
    assert navigator.panel.place_label.text() == "From particle 7"
    expected = 0.5 * (code.astype(float) - 0.5)
    np.testing.assert_allclose([row.value for row in navigator.panel.rows.rows], expected.round(2), atol=0.011)
    session.select([7, 8])  # two are no place
    assert navigator.panel.place_label.text() == "From particle 7"


def test_the_viewers_particle_is_started_from(
    qtbot: QtBot, navigator: NavigatorWidget, viewer: ViewerModel, result: Result, model: DrawingModel
) -> None:
    viewer.dims.set_current_step(0, 11)
    assert navigator.panel.start_button.text() == "&Start from particle 11"
    navigator.panel.start_button.click()
    qtbot.waitUntil(lambda: shows(viewer, model, result.content[11]))


def click(navigator: NavigatorWidget, viewer: ViewerModel, position: tuple[float, ...], *, drag: bool = False) -> None:
    """A click of the mouse on a place of the world, as napari tells it to the navigator."""

    class Event:
        type = "mouse_press"

    Event.position = position
    assert navigator._on_mouse in viewer.mouse_drag_callbacks
    steps = navigator._on_mouse(viewer, Event)
    next(steps)
    if drag:
        Event.type = "mouse_move"
        next(steps)
    Event.type = "mouse_release"
    assert list(steps) == []


def test_a_click_on_a_particle_starts_from_it(
    qtbot: QtBot, navigator: NavigatorWidget, viewer: ViewerModel, result: Result, model: DrawingModel
) -> None:
    viewer.dims.set_current_step(0, 9)
    click(navigator, viewer, (9, 10.0, 10.0))
    assert navigator.place is not None and navigator.place.particle == 9
    qtbot.waitUntil(lambda: shows(viewer, model, result.content[9]))
    click(navigator, viewer, (9, 10.0, -20.0))  # the navigator's own picture
    navigator.reset()
    click(navigator, viewer, (9, 10.0, 10.0), drag=True)
    assert navigator.place.particle is None


def test_a_particle_without_a_code_is_refused(navigator: NavigatorWidget, session: Session, result: Result) -> None:
    table = result.table.copy()
    table.loc[4, "content_0"] = np.nan
    session.set_result(result.with_table(table), session.content_model)
    session.set_navigation(make_navigation())
    session.select([4])
    assert "Particle 4 has no content code" in notification_manager.records[-1].message
    assert navigator.place is not None and navigator.place.particle is None


def test_the_picture_lies_beside_the_particles(navigator: NavigatorWidget, viewer: ViewerModel) -> None:
    layer, particles = drawn(viewer), viewer.layers["particles"]
    assert layer.data.shape == (GRID, GRID)
    width = 16 * 2.0  # of a particle in angstrom; the model draws it on fewer pixels
    assert tuple(layer.scale) == pytest.approx((width / GRID,) * 2)
    low, high = layer.extent.world[:, 1]
    assert high < particles.extent.world[0, 2] and high - low == pytest.approx(width * (1 - 1 / GRID), rel=0.1)
    assert layer.units == particles.units[1:] and viewer.layers.selection.active is particles


def test_a_removed_picture_comes_back_and_contrast_stays(
    qtbot: QtBot, navigator: NavigatorWidget, viewer: ViewerModel
) -> None:
    drawn(viewer).contrast_limits = (-7.0, 7.0)
    slider(navigator, 0).setValue(10)
    qtbot.wait(30)
    assert tuple(drawn(viewer).contrast_limits) == (-7.0, 7.0)
    viewer.layers.remove(drawn(viewer))
    slider(navigator, 0).setValue(20)
    qtbot.waitUntil(lambda: drawn(viewer) is not None)


def test_without_the_particle_layer_the_dock_says_so(
    qtbot: QtBot, navigator: NavigatorWidget, viewer: ViewerModel
) -> None:
    viewer.layers.remove("particles")
    slider(navigator, 0).setValue(10)
    qtbot.waitUntil(lambda: "was removed" in navigator.panel.message_label.text())


# -- names and scores -----------------------------------------------------------------------------------------------


def test_a_name_is_kept_in_the_session(qtbot: QtBot, navigator: NavigatorWidget, session: Session) -> None:
    slider(navigator, 1).setValue(80)
    edit = navigator.panel.rows.rows[0].name_edit
    edit.selectAll()
    qtbot.keyClicks(edit, "hinge")
    qtbot.keyClick(edit, Qt.Key.Key_Return)
    assert session.navigation is not None and session.navigation.names == ("hinge", "direction 2")
    assert navigator.panel.movie.direction_box.itemText(0) == "hinge"
    assert navigator.panel.rows.rows[1].value == 0.8  # the sliders stay


def test_an_empty_name_is_not_taken(qtbot: QtBot, navigator: NavigatorWidget, session: Session) -> None:
    edit = navigator.panel.rows.rows[0].name_edit
    edit.clear()
    qtbot.keyClick(edit, Qt.Key.Key_Return)
    assert edit.text() == "direction 1" and session.navigation.names == ("direction 1", "direction 2")


def test_every_verdict_is_said_and_explained(navigator: NavigatorWidget, session: Session) -> None:
    session.set_navigation(make_navigation(4, codes=4))
    labels = [row.score_label for row in navigator.panel.rows.rows]
    assert [label.text() for label in labels] == ["content 0.80", "pose? 0.40", "pose 0.27", "noise 0.20"]
    tips = [label.toolTip() for label in labels]
    assert "give it a name" in tips[0] and "80% of the change" in tips[1] and "mostly rotation" in tips[2]
    assert "train again with &#x27;independence&#x27;" in tips[2] and "Leave it out" in tips[3]
    assert all("from 0 to 1" in tip and "consistency 0.90" in tip for tip in tips)


def test_directions_without_scores_have_sliders(navigator: NavigatorWidget, session: Session) -> None:
    session.set_navigation(replace(make_navigation(), tracking=None, basis=2.0 * np.eye(2)))
    assert [row.score_label.text() for row in navigator.panel.rows.rows] == ["not scored"] * 2


def test_directions_are_kept_with_their_particles(
    navigator: NavigatorWidget, viewer: ViewerModel, session: Session
) -> None:
    before, particles, layer = session.navigation, session.data, session.layer
    data, options, _ = particles_layer(make_particles(), "others")
    session.set_data(data.particles, viewer.add_image(data, **options))
    assert session.navigation is None and session.content_model is None and navigator.panel.rows.rows == []
    session.set_data(particles, layer)
    assert session.navigation is before and len(navigator.panel.rows.rows) == 2
