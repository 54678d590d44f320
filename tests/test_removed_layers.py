"""A viewer draws on after points were removed from it."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtWidgets import QOpenGLWidget

from napari_harmony.session import session_of

# points over an image, drawn, removed, and more images drawn, in a program of its own: a crash would end the tests
PROGRAM = """
import time, napari, numpy as np
from qtpy.QtWidgets import QApplication
from napari_harmony.session import session_of

def draw(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()

viewer = napari.Viewer()
session_of(viewer)
random = np.random.default_rng(0)
viewer.add_image(random.normal(size=(600, 64, 64)))
for _ in range(3):
    averages = viewer.add_image(random.normal(size=(328, 526)))
    labels = viewer.add_points(random.uniform(0, 300, (11, 2)))
    draw(0.3)
    labels.data = random.uniform(0, 300, (11, 2))
    draw(0.3)
    viewer.layers.remove(labels)
    viewer.layers.remove(averages)
    draw(0.3)
viewer.close()
print("drawn to the end")
"""


@pytest.mark.skipif(sys.platform == "linux" and not os.environ.get("DISPLAY"), reason="there is no display")
def test_points_that_are_removed_do_not_crash_the_next_drawing() -> None:
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "drawn to the end" in done.stdout, done.stderr[-2000:]


def test_a_canvas_that_was_closed_is_left_alone(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking it is an error, upon which napari would silently forget to call for the next removal."""

    class Closed:
        native = QOpenGLWidget()

    Closed.native.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    with pytest.raises(RuntimeError):
        Closed.native.isValid()
    monkeypatch.setattr("vispy.gloo.context.get_current_canvas", Closed)
    viewer = ViewerModel()
    session_of(viewer)
    hooks = viewer.layers.events.removed.callbacks
    viewer.layers.remove(viewer.add_points(np.zeros((3, 2))))
    assert viewer.layers.events.removed.callbacks == hooks
