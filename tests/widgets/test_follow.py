"""The dock that follows a job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_run import make_result
from gui_fakes import make_particles
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMessageBox

from napari_harmony import following
from napari_harmony._followed_averages import ROLE
from napari_harmony._layers import role_of
from napari_harmony.engine.events import Loss, Preview, Progress
from napari_harmony.outputs import write_output
from napari_harmony.outputs.live import Live, Phase, Request
from napari_harmony.outputs.names import CHECKPOINT
from napari_harmony.preferences import Preferences
from napari_harmony.session import session_of
from napari_harmony.widgets.follow import FollowWidget


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(following, "EVERY", 0.02)
    return make_napari_viewer()


@pytest.fixture
def dock(viewer: Any) -> FollowWidget:
    _, widget = viewer.window.add_plugin_dock_widget("napari-harmony", "Follow a job")
    return widget


def followed_layers(viewer: Any) -> list[Any]:
    return [layer for layer in viewer.layers if role_of(layer) == ROLE]


def test_the_story_of_a_job(
    viewer: Any, dock: FollowWidget, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_harmony._followed_averages.preferences", lambda: Preferences(colormap="magma"))
    out = tmp_path / "out"
    dock.follow(out)
    qtbot.waitUntil(lambda: dock.label.text() == "waiting for the job to begin")
    assert dock.finish_button.toolTip() == "The job has not begun."
    job = Live(out / CHECKPOINT, now=iter(range(0, 10**6, 10)).__next__)
    job.show(Preview(np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32), np.ones(3, np.float32), 1))
    job.show(Loss(3, 10, 2.5))
    job.show(Progress("training", 0.5, "batch 3 of 10", 120.0))
    qtbot.waitUntil(lambda: "training, batch 3 of 10, about 2 min left" in dock.label.text())
    assert dock.bar.value() == 500
    assert dock.loss_plot.isVisibleTo(dock) and "after batch 3 of 10" in dock.loss_plot.words
    (layer,) = followed_layers(viewer)
    assert layer.colormap.name == "magma"
    job.show(Preview(np.zeros((5, 8, 8), np.float32), np.ones(5, np.float32), 2))
    job.show(Progress("training", 0.6))
    qtbot.waitUntil(lambda: "training" in dock.label.text() and layer.data.shape[0] > 8)
    assert followed_layers(viewer) == [layer]

    qtbot.mouseClick(dock.finish_button, Qt.MouseButton.LeftButton)
    assert job.requested() is Request.FINISH
    particles = make_particles()
    write_output(out, particles, make_result(particles))
    for path in sorted((out / CHECKPOINT).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    qtbot.waitUntil(lambda: dock.label.text() == "The job is complete.")
    assert not followed_layers(viewer)
    assert session_of(viewer).result is not None or any("aligned" in layer.name for layer in viewer.layers)


def test_cancelling_asks_first(dock: FollowWidget, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Live(tmp_path / CHECKPOINT, now=iter(range(0, 10**6, 10)).__next__)
    job.show(Progress("searching", 0.2))
    dock.follow(tmp_path)
    qtbot.waitUntil(dock.cancel_button.isEnabled)
    answers = iter([QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes])
    monkeypatch.setattr(QMessageBox, "question", lambda *_: next(answers))
    dock.cancel_button.click()
    assert job.requested() is None
    dock.cancel_button.click()
    assert job.requested() is Request.CANCEL
    job.end(Phase.STOPPED, "Stopped before it was complete.")
    qtbot.waitUntil(lambda: "--resume continues it" in dock.label.text())
    assert dock.follow_button.text() == "&Follow" and not dock.cancel_button.isEnabled()


def test_following_ends_and_the_job_goes_on(dock: FollowWidget, qtbot: Any, tmp_path: Path) -> None:
    job = Live(tmp_path / CHECKPOINT)
    qtbot.keyClicks(dock.folder_edit, str(tmp_path))
    qtbot.keyClick(dock.folder_edit, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: dock.follow_button.text() == "Stop &following")
    dock.follow_button.click()
    qtbot.waitUntil(lambda: dock.label.text() == "No longer followed; the job goes on.")
    assert job.requested() is None


def test_without_a_folder_the_button_says_what_is_missing(dock: FollowWidget) -> None:
    assert not dock.follow_button.isEnabled() and dock.follow_button.toolTip() == "Give the OUT folder of a job first."
    assert dock.sizeHint().height() <= 700


def test_a_file_is_one_sentence(dock: FollowWidget, qtbot: Any, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    dock.follow(tmp_path / "out")
    qtbot.waitUntil(lambda: "this is a file" in dock.label.text())
