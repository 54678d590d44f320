"""The whole story in a real napari window: open, align and cluster, look, jump, export, save, come back."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gui_fakes import FakeEngine, make_particles
from napari.utils.notifications import notification_manager
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QApplication, QDialog, QLabel

from napari_harmony._layers import KEY, particles_layer, role_of
from napari_harmony.engine.settings import Settings
from napari_harmony.particles.mrc import write_stack
from napari_harmony.session import State, session_of
from napari_harmony.widgets._work import Action

PLUGIN = "napari-harmony"
MakeViewer = Callable[..., Any]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    yield
    notification_manager.records.clear()


@pytest.fixture
def viewer(make_napari_viewer: MakeViewer) -> Any:
    return make_napari_viewer()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    import napari_harmony.engine

    engine = FakeEngine()
    monkeypatch.setitem(sys.modules, "napari_harmony.engine.api", engine)
    monkeypatch.setattr(napari_harmony.engine, "api", engine, raising=False)
    return engine


def dock(viewer: Any, name: str) -> Any:
    """A dock opened as the menu does."""
    return viewer.window.add_plugin_dock_widget(PLUGIN, name)[1]


def test_from_file_to_star_and_back(viewer: Any, qtbot: QtBot, tmp_path: Path) -> None:
    """With the real engine, small and fast."""
    from napari_harmony.particles import open_particles
    from napari_harmony.particles.simulate import sample_particles

    simulated = sample_particles(count=120, seed=0)
    write_stack(tmp_path / "stack.mrcs", simulated.particles.read(slice(None)), simulated.particles.pixel_size)
    (stack,) = viewer.open(tmp_path / "stack.mrcs", plugin=PLUGIN)
    harmony = dock(viewer, "Harmony")
    harmony.form.set_settings(Settings(classes=3, preset="fast", device="cpu"))
    with qtbot.waitSignal(harmony.runner.heard, timeout=60_000):
        harmony.buttons[Action.ALIGN_AND_CLUSTER].click()
    with qtbot.waitSignal(harmony.runner.cancelled, timeout=30_000):
        qtbot.mouseClick(harmony.run_row.cancel_button, Qt.MouseButton.LeftButton)
    assert harmony.session.result is None and harmony.buttons[Action.ALIGN_AND_CLUSTER].isEnabled()
    with qtbot.waitSignal(harmony.runner.done, timeout=240_000):
        qtbot.mouseClick(harmony.buttons[Action.ALIGN_AND_CLUSTER], Qt.MouseButton.LeftButton)
    assert {role_of(x) for x in viewer.layers} == {"particles", "aligned", "averages", "labels"}
    aligned = next(x for x in viewer.layers if role_of(x) == "aligned")
    assert tuple(aligned.scale) == tuple(stack.scale) and aligned.units == stack.units

    harmony.open_table()
    table = open_table_of(viewer)
    qtbot.waitUntil(lambda: table.model.rowCount() == 120)
    place = table.view.visualRect(table.model.index(2, 1)).center()
    qtbot.mouseClick(table.view.viewport(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)
    assert viewer.dims.current_step[0] == table.model.ids[2]

    table.export(tmp_path / "aligned.star")
    written = open_particles(tmp_path / "aligned.star").table
    result = harmony.session.result
    np.testing.assert_allclose(written["rlnAnglePsi"].astype(float), result.table["psi"], atol=0.01)

    harmony.save_result(tmp_path / "out")
    harmony.session.set_data(None)
    viewer.layers.clear()
    viewer.open(tmp_path / "out", plugin=PLUGIN)
    assert {role_of(x) for x in viewer.layers} == {"particles", "aligned", "averages", "labels"}
    assert table.model.rowCount() == 120
    np.testing.assert_allclose(harmony.session.result.table["psi"], result.table["psi"], atol=0.01)


def open_table_of(viewer: Any) -> Any:
    """The table dock that is open in the viewer."""
    from napari_harmony.widgets.transforms_table import TransformsTable

    (found,) = (d for d in viewer.window.dock_widgets.values() if isinstance(d, TransformsTable))
    return found


def test_the_sample_opens_from_the_menu_and_can_be_run(viewer: Any, qtbot: QtBot, fake: FakeEngine) -> None:
    viewer.open_sample(PLUGIN, "simulated")
    assert viewer.layers[0].metadata[KEY]["truth"]
    harmony = dock(viewer, "Harmony")
    with qtbot.waitSignal(harmony.runner.done):
        harmony.buttons[Action.CLUSTER].click()
    assert harmony.session.state is State.DONE


def run_on_and_on(viewer: Any, qtbot: QtBot, fake: FakeEngine) -> tuple[Any, Any]:
    """The frame and the dock of a run that does not end by itself."""
    fake.pause, fake.steps = 0.05, 100_000
    data, options, _ = particles_layer(make_particles(), "particles")
    viewer.add_image(data, **options)
    frame, harmony = viewer.window.add_plugin_dock_widget(PLUGIN, "Harmony")
    with qtbot.waitSignal(harmony.runner.heard):
        harmony.run(Action.ALIGN_AND_CLUSTER)
    return frame, harmony


def test_a_run_goes_on_when_its_dock_is_closed_and_is_there_when_it_is_opened_again(
    viewer: Any, qtbot: QtBot, fake: FakeEngine
) -> None:
    frame, _ = run_on_and_on(viewer, qtbot, fake)
    frame.destroyOnClose()
    assert session_of(viewer).state is State.RUNNING
    assert "goes on; open the Harmony dock" in notification_manager.records[-1].message
    again = dock(viewer, "Harmony")
    qtbot.waitUntil(lambda: "searching" in again.run_row.label.text())
    with qtbot.waitSignal(again.runner.cancelled, timeout=2000):
        again.run_row.cancel_button.click()
    assert fake.closed == 1


def test_a_trial_is_looked_at_and_left_again(viewer: Any, qtbot: QtBot, fake: FakeEngine) -> None:
    data, options, _ = particles_layer(make_particles(500), "many")
    viewer.add_image(data, **options)
    harmony = dock(viewer, "Harmony")
    with qtbot.waitSignal(harmony.runner.done):
        harmony.run_buttons.trial_button.click()
    many, trial = viewer.layers["many"], viewer.layers["200 of many"]
    assert harmony.session.layer is trial and trial.visible and not many.visible
    assert {role_of(x) for x in viewer.layers if x.visible} == {"particles", "aligned", "averages", "labels"}
    harmony.notice_box.lead_button.click()
    assert harmony.session.layer is many and [x for x in viewer.layers if x.visible] == [many]


@pytest.mark.parametrize("paused", [False, True])
def test_closing_the_window_asks_in_words_and_then_ends_the_run(
    viewer: Any, qtbot: QtBot, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch, paused: bool
) -> None:
    from napari._qt import qt_main_window

    asked: list[str] = []
    answer = QDialog.DialogCode.Rejected

    class Question(qt_main_window.ConfirmCloseDialog):  # type: ignore[misc]
        def exec_(self) -> QDialog.DialogCode:
            asked.extend(label.text() for label in self.findChildren(QLabel))
            return answer

    monkeypatch.setattr(qt_main_window, "ConfirmCloseDialog", Question)
    _, harmony = run_on_and_on(viewer, qtbot, fake)
    harmony.run(Action.TRAIN)  # waits
    if paused:
        harmony.run_row.pause_button.click()
        qtbot.waitUntil(lambda: harmony.session.state is State.PAUSED)
    window, runs = viewer.window._qt_window, harmony.runs

    def close() -> None:
        event = QCloseEvent()
        event.spontaneous = lambda: True  # as by the cross of the window
        window.closeEvent(event)

    close()
    assert "Align and Cluster of 'particles' (napari-harmony); closing ends it, and nothing of it is kept" in asked[0]
    assert runs.current is not None and fake.closed == 0
    answer = QDialog.DialogCode.Accepted
    close()
    qtbot.waitUntil(lambda: fake.closed == 1, timeout=2000)
    qtbot.waitUntil(lambda: runs.current is None, timeout=2000)
    assert runs.waiting == () and len(fake.calls) == 1 and session_of(viewer).state is State.IDLE


def test_docks_opened_and_closed_fifty_times_leave_nothing(viewer: Any, qtbot: QtBot, fake: FakeEngine) -> None:
    data, options, _ = particles_layer(make_particles(), "particles")
    viewer.add_image(data, **options)
    session = session_of(viewer)

    def connected() -> int:
        own = (session.result_changed, session.selection_changed, session.state_changed, session.data_changed)
        return (
            sum(len(s) for s in own) + len(viewer.layers.events.inserted.callbacks) + len(viewer.mouse_drag_callbacks)
        )

    before = connected()
    for _ in range(50):
        for name in ("Harmony", "Transforms table"):
            frame, _widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)
            frame.destroyOnClose()
    del frame, _widget
    QApplication.processEvents()
    gc.collect()
    assert connected() == before
