"""What the README promises, in one sitting and with the real engine: from the sample to a corrected result and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from latent_gui import CONTROL, LEFT, NONE, lasso_around
from napari.utils.notifications import notification_manager
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_harmony._layers import role_of
from napari_harmony.engine.settings import Settings
from napari_harmony.particles import open_particles
from napari_harmony.widgets._work import Action

PLUGIN = "napari-harmony"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    yield
    notification_manager.records.clear()


def dock(viewer: Any, name: str) -> Any:
    """A dock opened as the menu does."""
    return viewer.window.add_plugin_dock_widget(PLUGIN, name)[1]


def test_from_the_sample_to_a_corrected_result_and_back(
    make_napari_viewer: Callable[..., Any], qtbot: QtBot, tmp_path: Path
) -> None:
    viewer = make_napari_viewer()
    viewer.open_sample(PLUGIN, "simulated")
    harmony = dock(viewer, "Harmony")
    harmony.form.set_settings(Settings(classes=7, preset="fast", device="cpu"))  # five are there
    with qtbot.waitSignal(harmony.runner.done, timeout=280_000):
        qtbot.mouseClick(harmony.buttons[Action.ALIGN_AND_CLUSTER], LEFT)
    session = harmony.session
    clustered = session.result
    assert clustered.classes >= 5

    plot, gallery = dock(viewer, "Latent plot"), dock(viewer, "Class gallery")
    QApplication.processEvents()
    lasso_around(qtbot, plot, 25)
    chosen = session.selection
    assert 25 in chosen and len(chosen) < len(clustered)

    for place, number in enumerate((1, 2)):
        spot = gallery.view.visualRect(gallery.model.index(gallery.model.row_of(number))).center()
        modifier = CONTROL if place else NONE
        qtbot.mouseClick(gallery.view.viewport(), LEFT, modifier, spot)
    both = clustered.counts[0] + clustered.counts[1]
    qtbot.keyClick(gallery.view, Qt.Key.Key_M)
    qtbot.waitUntil(lambda: session.can_undo and not gallery.editing.busy, timeout=60_000)
    assert both in session.result.counts
    qtbot.waitUntil(lambda: not gallery.editing.averaging and not gallery.editing.due, timeout=60_000)
    qtbot.keyClick(gallery.view, Qt.Key.Key_Z, CONTROL)
    np.testing.assert_array_equal(session.result.table["class_number"], clustered.table["class_number"])

    session.select(chosen)
    path = plot.actions_box.export(tmp_path / "chosen.star")
    np.testing.assert_allclose(
        open_particles(path).table["rlnAnglePsi"].astype(float), clustered.table["psi"][chosen], atol=0.01
    )
    harmony.results.save_result(tmp_path / "out")
    session.set_data(None)
    viewer.layers.clear()
    viewer.open(tmp_path / "out", plugin=PLUGIN)
    assert {role_of(layer) for layer in viewer.layers} == {"particles", "aligned", "averages", "labels"}
    np.testing.assert_array_equal(session.result.table["class_number"], clustered.table["class_number"])
