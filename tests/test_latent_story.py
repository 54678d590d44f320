"""The latent plot in a real napari window: open a result, draw, junk, undo, take away; and no trace when closed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gui_fakes import make_particles, make_result
from latent_gui import lasso_around
from napari.utils.notifications import notification_manager
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QApplication

from napari_harmony._layers import particles_layer
from napari_harmony.session import session_of

PLUGIN = "napari-harmony"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    yield
    notification_manager.records.clear()


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any]) -> Any:
    viewer = make_napari_viewer()
    data, options, _ = particles_layer(make_particles(), "particles", make_result())
    viewer.add_image(data, **options)
    return viewer


def dock(viewer: Any, name: str) -> Any:
    return viewer.window.add_plugin_dock_widget(PLUGIN, name)[1]


def test_from_a_result_to_a_corrected_star_file(viewer: Any, qtbot: QtBot, tmp_path: Path) -> None:
    import starfile

    plot, table = dock(viewer, "Latent plot"), dock(viewer, "Transforms table")
    session = plot.session
    QApplication.processEvents()
    lasso_around(qtbot, plot, 25)
    chosen = session.selection
    assert 25 in chosen and len(chosen) < 30
    rows = {int(table.model.ids[i.row()]) for i in table.view.selectionModel().selectedRows()}
    assert rows == set(chosen.tolist())

    qtbot.keyClick(plot.canvas, Qt.Key.Key_Y)
    layer = viewer.layers[-1]
    assert layer.data.shape[0] == len(chosen)
    viewer.dims.set_current_step(0, len(chosen) - 1)
    assert session.current == chosen[-1] == plot.canvas.painting.current
    assert int(table.model.ids[table.view.currentIndex().row()]) == chosen[-1]

    qtbot.keyClick(plot.canvas, Qt.Key.Key_Delete)
    assert not session.result.table["class_number"][chosen].any()
    assert (table.model.values("class_number")[chosen] == 0).all()
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    np.testing.assert_array_equal(table.model.values("class_number"), make_result().table["class_number"])

    path = plot.actions_box.export(tmp_path / "chosen.star")
    assert len(starfile.read(path, always_dict=True)["particles"]) == len(chosen)


def test_it_lies_as_a_tab_over_the_docks_at_the_side(viewer: Any, qtbot: QtBot) -> None:
    viewer.window._qt_window.resize(1366, 768)
    viewer.window.show()
    first = viewer.window.add_plugin_dock_widget(PLUGIN, "Harmony")[0]
    second, plot = viewer.window.add_plugin_dock_widget(PLUGIN, "Latent plot")
    window = viewer.window._qt_window
    qtbot.waitUntil(lambda: first in window.tabifiedDockWidgets(second), timeout=3000)
    qtbot.waitUntil(lambda: plot.width() >= 360, timeout=3000)
    assert plot.height() <= 700 and plot.canvas.height() >= 250


def test_both_themes_are_drawn(viewer: Any, qtbot: QtBot) -> None:
    plot = dock(viewer, "Latent plot")
    for theme in ("light", "dark"):
        viewer.theme = theme
        QApplication.processEvents()
        colour = plot.canvas.grab().toImage().pixelColor(1, 1)
        assert (colour.lightness() > 128) == (theme == "light")


def test_opened_and_closed_fifty_times_it_leaves_nothing(viewer: Any, qtbot: QtBot) -> None:
    import weakref

    session = session_of(viewer)
    signals = (
        session.result_changed,
        session.selection_changed,
        session.current_changed,
        session.state_changed,
        session.history_changed,
    )

    def connected() -> int:
        layers = viewer.layers.events.inserted.callbacks
        return sum(map(len, signals)) + len(layers) + len(viewer.events.theme.callbacks)

    before, plots = connected(), []
    for _ in range(50):
        frame, plot = viewer.window.add_plugin_dock_widget(PLUGIN, "Latent plot")
        session.select([3, 5])
        plots.append(weakref.ref(plot))
        frame.destroyOnClose()
        del frame, plot
    QApplication.processEvents()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()
    assert connected() == before
    assert sum(plot() is not None for plot in plots) <= 1
