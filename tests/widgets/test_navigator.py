"""The navigator dock: it says what to do, finds directions, and lets go when closed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gui_fakes import make_result
from napari.components import ViewerModel
from navigator_fakes import (
    DrawingModel,
    FakeNavigate,
    OutOfMemory,
    drawn,
    make_navigation,
    save_nothing,
    shows,
)
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel

from napari_harmony._layers import KEY
from napari_harmony.particles.dataset import Particles
from napari_harmony.results import Result
from napari_harmony.session import Session, State, session_of
from napari_harmony.widgets import _navigator_words as words
from napari_harmony.widgets.navigator import NavigatorWidget

# -- where things stand ---------------------------------------------------------------------------------------------


def test_without_a_result_the_dock_says_what_to_do(qtbot: QtBot, viewer: ViewerModel) -> None:
    dock = NavigatorWidget(viewer)
    qtbot.addWidget(dock)
    assert dock.panel.status_label.text() == words.NO_RESULT
    assert not dock.panel.find_button.isEnabled() and dock.panel.find_button.toolTip() == words.NO_RESULT
    assert not dock.panel.swap.isVisibleTo(dock)


def test_a_result_without_its_model_says_so(
    qtbot: QtBot, viewer: ViewerModel, particles: Particles, result: Result
) -> None:
    session_of(viewer).set_data(particles, viewer.layers["particles"])
    session_of(viewer).set_result(result)
    dock = NavigatorWidget(viewer)
    qtbot.addWidget(dock)
    assert dock.panel.status_label.text() == words.NO_MODEL


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda table: table.drop(columns=["content_0", "content_1"]), words.NO_CODES),
        (lambda table: table.assign(content_0=np.nan), words.FEW),
    ],
)
def test_results_without_codes_say_so(session: Session, result: Result, change: Any, reason: str) -> None:
    assert words.why_not(result.with_table(change(result.table)), DrawingModel()) == reason


def test_finding_directions(
    qtbot: QtBot, viewer: ViewerModel, session: Session, navigate: FakeNavigate, model: DrawingModel
) -> None:
    dock = NavigatorWidget(viewer)
    qtbot.addWidget(dock)
    assert dock.panel.status_label.text() == words.READY and not dock.panel.swap.isVisibleTo(dock)
    with qtbot.waitSignal(dock.runner.done):
        dock.panel.find_button.click()
    assert navigate.calls == [(model, None)] and session.navigation is not None
    assert "2 directions" in dock.panel.message_label.text()
    assert [row.name_edit.text() for row in dock.panel.rows.rows] == ["direction 1", "direction 2"]
    qtbot.waitUntil(lambda: drawn(viewer) is not None)
    assert shows(viewer, model, [0.5, 0.5])


def test_the_model_of_a_result_folder_is_read(
    qtbot: QtBot,
    viewer: ViewerModel,
    particles: Particles,
    result: Result,
    navigate: FakeNavigate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = DrawingModel()
    monkeypatch.setattr("napari_harmony.widgets._navigator_work.load_model", lambda path: read)
    layer = viewer.layers["particles"]
    layer.metadata = {KEY: {**layer.metadata[KEY], "set": str(tmp_path)}}
    session = session_of(viewer)
    session.set_data(particles, layer)
    session.set_result(result)
    dock = NavigatorWidget(viewer)
    qtbot.addWidget(dock)
    assert dock.panel.status_label.text() == words.NO_MODEL  # the folder holds none
    save_nothing(tmp_path)
    assert dock.model == tmp_path
    with qtbot.waitSignal(dock.runner.done):
        dock.find()
    assert session.content_model is read and session.model is read and session.navigation is not None


def test_directions_among_one_class(qtbot: QtBot, navigator: NavigatorWidget, navigate: FakeNavigate) -> None:
    box = navigator.panel.among_box
    assert [box.itemText(i) for i in range(box.count())] == [
        "all classes",
        "class 1 (19)",
        "class 2 (19)",
        "class 3 (20)",
    ]
    box.setCurrentIndex(2)
    with qtbot.waitSignal(navigator.runner.done):
        navigator.find()
    assert navigate.calls[-1][1] == 2


def test_directions_are_saved_and_opened(
    qtbot: QtBot, navigator: NavigatorWidget, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "navigation.json"
    for ask in ("getSaveFileName", "getOpenFileName"):
        monkeypatch.setattr(f"napari_harmony.widgets.navigator.QFileDialog.{ask}", lambda *_: (str(path), ""))
    session.set_navigation(session.navigation.renamed(0, "hinge"))
    navigator.panel.save_button.click()
    session.set_navigation(None)
    assert not navigator.panel.save_button.isEnabled() and navigator.panel.rows.rows == []
    with qtbot.waitSignal(navigator.runner.done):
        navigator.panel.open_button.click()
    assert session.navigation.names == ("hinge", "direction 2") and len(navigator.panel.rows.rows) == 2


def test_directions_of_other_codes_are_refused(
    qtbot: QtBot, navigator: NavigatorWidget, session: Session, tmp_path: Path
) -> None:
    path, before = make_navigation(3, codes=3).save(tmp_path / "other.json"), session.navigation
    with qtbot.waitSignal(navigator.runner.failed):
        navigator.open_directions(path)
    assert "codes of 3 numbers" in navigator.panel.message_label.text() and session.navigation is before


def test_cancel_stops_within_a_second(
    qtbot: QtBot, viewer: ViewerModel, session: Session, navigate: FakeNavigate
) -> None:
    navigate.steps, navigate.pause = 1000, 0.02
    dock = NavigatorWidget(viewer)
    qtbot.addWidget(dock)
    dock.show()
    with qtbot.waitSignal(dock.runner.heard):
        dock.find()
    assert dock.panel.run_row.isVisible() and not dock.panel.find_button.isEnabled()
    with qtbot.waitSignal(dock.runner.cancelled, timeout=1000):
        qtbot.mouseClick(dock.panel.run_row.cancel_button, Qt.MouseButton.LeftButton)
    assert navigate.closed == 1 and session.navigation is None and dock.panel.find_button.isEnabled()


def test_a_runtime_error_is_said_and_the_button_comes_back(
    qtbot: QtBot, viewer: ViewerModel, session: Session, navigate: FakeNavigate
) -> None:
    navigate.error = OutOfMemory("CUDA out of memory")
    dock = NavigatorWidget(viewer)
    qtbot.addWidget(dock)
    with qtbot.waitSignal(dock.runner.failed):
        dock.find()
    assert "ran out of memory" in dock.panel.message_label.text() and dock.panel.find_button.isEnabled()


def test_directions_outlive_edits_of_the_result(
    qtbot: QtBot, viewer: ViewerModel, session: Session, navigate: FakeNavigate, result: Result
) -> None:
    navigate.pause = 0.05
    dock = NavigatorWidget(viewer)
    qtbot.addWidget(dock)
    with qtbot.waitSignal(dock.runner.done):
        dock.find()
        session.set_result(result.with_table(result.table.assign(class_number=1)))
    assert session.navigation is not None


def test_directions_of_an_outdated_result_are_dropped(
    qtbot: QtBot, viewer: ViewerModel, session: Session, navigate: FakeNavigate
) -> None:
    navigate.pause = 0.05
    dock = NavigatorWidget(viewer)
    qtbot.addWidget(dock)
    with qtbot.waitSignal(dock.runner.done):
        dock.find()
        session.set_result(make_result(seed=4))
    assert session.navigation is None


def test_a_new_result_takes_the_sliders_and_pictures_away(
    navigator: NavigatorWidget, viewer: ViewerModel, session: Session
) -> None:
    session.set_result(make_result(seed=5))
    assert navigator.panel.rows.rows == [] and drawn(viewer) is None and navigator.place is None
    assert drawn(viewer, "navigator captions") is None


# -- coming and going -----------------------------------------------------------------------------------------------


def test_a_closed_dock_listens_to_nothing(
    qtbot: QtBot, viewer: ViewerModel, session: Session, navigate: FakeNavigate
) -> None:
    signals = (session.result_changed, session.navigation_changed, session.selection_changed, session.current_changed)
    before = [len(signal) for signal in signals]
    inserted, mouse = len(viewer.layers.events.inserted.callbacks), len(viewer.mouse_drag_callbacks)
    dock = NavigatorWidget(viewer)
    qtbot.addWidget(dock)
    session.set_navigation(make_navigation())
    dock.panel.movie.play_button.click()
    dock.unbind()
    assert [len(signal) for signal in signals] == before
    assert len(viewer.layers.events.inserted.callbacks) == inserted and len(viewer.mouse_drag_callbacks) == mouse
    assert not dock.panel.movie.playing and not dock._draw_timer.isActive() and not dock._rest_timer.isActive()
    dock.bind()
    assert [len(signal) for signal in signals] == [count + 1 for count in before]


def test_closing_cancels_the_search(
    qtbot: QtBot, viewer: ViewerModel, session: Session, navigate: FakeNavigate
) -> None:
    navigate.steps, navigate.pause = 1000, 0.01
    dock = NavigatorWidget(viewer)
    qtbot.addWidget(dock)
    with qtbot.waitSignal(dock.runner.heard):
        dock.find()
    dock.unbind()
    qtbot.waitUntil(lambda: navigate.closed == 1, timeout=1000)
    assert dock._work.state is State.IDLE


def test_the_dock_fits_a_small_screen(qtbot: QtBot, navigator: NavigatorWidget, session: Session) -> None:
    session.set_navigation(make_navigation(12, codes=12))
    qtbot.wait(20)
    assert navigator.sizeHint().height() <= 700 and navigator.panel._body.minimumSizeHint().width() <= 330
    assert navigator.panel.rows.verticalScrollBar().maximum() > 0  # the rows scroll, the buttons stay in sight


def test_everything_can_be_reached_by_keyboard(navigator: NavigatorWidget) -> None:
    panel = navigator.panel
    buttons = [panel.find_button, panel.start_button, panel.reset_button, panel.sharp_box]
    buttons += [panel.open_button, panel.save_button]
    buttons += [panel.movie.play_button, panel.movie.export_button, panel.swap.show_button]
    labels = [label for label in panel.findChildren(QLabel) if label.buddy() is not None]
    letters = [re.search("&(.)", widget.text())[1].lower() for widget in (*buttons, *labels)]
    assert len(labels) == 4 and len(set(letters)) == len(letters)
    assert not set(letters) & set("fvlpwh")  # those of napari's menus
    for row in panel.rows.rows:
        for widget in (row.name_edit, row.slider):
            assert widget.focusPolicy() & Qt.FocusPolicy.TabFocus
