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
from qtpy.QtWidgets import QApplication

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
    with qtbot.waitSignal(harmony.runner.event, timeout=60_000):
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


def test_closing_a_dock_by_its_cross_cancels_its_run(viewer: Any, qtbot: QtBot, fake: FakeEngine) -> None:
    fake.pause, fake.steps = 0.05, 1000
    data, options, _ = particles_layer(make_particles(), "particles")
    viewer.add_image(data, **options)
    frame, harmony = viewer.window.add_plugin_dock_widget(PLUGIN, "Harmony")
    with qtbot.waitSignal(harmony.runner.event):
        harmony.run(Action.ALIGN_AND_CLUSTER)
    frame.destroyOnClose()
    qtbot.waitUntil(lambda: fake.closed == 1, timeout=2000)
    assert session_of(viewer).state is State.IDLE


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
