"""The gallery in a real napari window, with the real engine: open a run, merge, split, junk, undo, save, replay."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edit_data import averages_of, pose_errors, split_images
from napari.utils.notifications import notification_manager
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt

from napari_harmony._layers import role_of
from napari_harmony.cli.main import main
from napari_harmony.outputs import load_output, write_output
from napari_harmony.particles import open_particles
from napari_harmony.particles.relion import write_relion

PLUGIN, DOCK = "napari-harmony", "Class gallery"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    yield
    notification_manager.records.clear()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of a run whose first content fell into classes 1 and 2."""
    particles, result, _ = split_images()
    path = write_relion(tmp_path / "particles.star", particles)
    blank = np.full((3, particles.box // 2 - 1), np.nan, np.float32)
    result = replace(result, frc=blank, frc_floor=blank, frc_frequency=np.arange(len(blank[0])).astype(np.float32))
    return write_output(tmp_path / "out", open_particles(path), result)


def test_from_a_run_to_a_corrected_one(
    make_napari_viewer: Callable[..., Any], qtbot: QtBot, out: Path, tmp_path: Path
) -> None:
    viewer = make_napari_viewer()
    viewer.open(out, plugin=PLUGIN)
    _, gallery = viewer.window.add_plugin_dock_widget(PLUGIN, DOCK)
    session, view = gallery.session, gallery.view
    assert gallery.model.rowCount() == 3

    def choose(*numbers: int) -> None:
        for place, number in enumerate(numbers):
            spot = view.visualRect(gallery.model.index(gallery.model.row_of(number))).center()
            modifier = Qt.KeyboardModifier.ControlModifier if place else Qt.KeyboardModifier.NoModifier
            qtbot.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, modifier, spot)

    def settled() -> bool:
        return not gallery.editing.busy and not gallery.editing.averaging and not gallery.editing.due

    particles, _, true = split_images()
    second = session.result.members(2)
    choose(1, 2)
    qtbot.keyClick(view, Qt.Key.Key_M)
    qtbot.waitUntil(lambda: session.can_undo and settled(), timeout=120_000)
    away, apart = pose_errors(session.result, true, second)
    assert np.median(away) < 2 and np.median(apart) < 0.4
    content = averages_of(particles, true)[0]
    assert np.corrcoef(session.result.averages[0].ravel(), content.ravel())[0, 1] > 0.9
    pictures = next(layer for layer in viewer.layers if role_of(layer) == "averages")
    assert pictures.metadata[PLUGIN]["counts"] == session.result.counts.tolist()
    choose(3)
    qtbot.keyClick(view, Qt.Key.Key_Delete)
    qtbot.keyClick(view, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    qtbot.keyClick(view, Qt.Key.Key_S)
    qtbot.waitUntil(lambda: session.undo_words.startswith("split") and settled(), timeout=120_000)
    whole, members = session.data, session.result.members(1)
    choose(1)
    qtbot.keyClick(view, Qt.Key.Key_R)
    harmony = viewer.window.dock_widgets["Harmony (napari-harmony)"]
    assert len(session.data) == len(members) == len(harmony.layer_combo.layer.data)
    assert harmony.layer_combo.currentText() == f"particles of class 1 ({len(members)})"
    session.set_data(whole, next(layer for layer in viewer.layers if role_of(layer) == "particles"))
    saved = write_output(tmp_path / "edited", session.data, session.result)
    assert main(["edit", str(out), "--edits", str(saved), "-o", str(tmp_path / "again"), "--device", "cpu"]) == 0
    assert load_output(tmp_path / "again").table.equals(load_output(saved).table)


def test_fifty_times_opened_and_closed_leaves_nothing(make_napari_viewer: Callable[..., Any], out: Path) -> None:
    viewer = make_napari_viewer()
    viewer.open(out, plugin=PLUGIN)
    threads, counted = threading.active_count(), []
    for _ in range(50):
        dock, gallery = viewer.window.add_plugin_dock_widget(PLUGIN, DOCK)
        signals = (gallery.session.result_changed, gallery.session.selection_changed, gallery.session.history_changed)
        session, editing = gallery.session, gallery.editing
        viewer.window.remove_dock_widget(dock)
        counted.append([len(signal) for signal in signals] + [len(viewer.events.theme.callbacks)])
        del dock, gallery
    gc.collect()
    assert all(now == counted[0] for now in counted)
    assert not editing.busy and not editing.averaging and session.result is not None
    assert threading.active_count() <= threads + 1
