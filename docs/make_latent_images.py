"""Draws the pictures of the page on the latent plot: selects in the real window, beside the table.

Run it with a display or under xvfb: ``python docs/make_latent_images.py napari-harmony-demo``, the folder of results
that ``napari-harmony demo --no-gui`` wrote.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from make_images import FOLDER, Photographer, wait
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from napari_harmony._layers import fit_visible
from napari_harmony.widgets._latent_choice import Plot

PLUGIN = "napari-harmony"
NUMBER = 1  # of the class that is drawn around
NO_KEYS = Qt.KeyboardModifier.NoModifier


def draw(result: str) -> None:
    """A lasso being drawn around one class, what it selected as a layer, and two columns beside the table."""
    photographer = Photographer(FOLDER)
    viewer = photographer.viewer
    viewer.open(result, plugin=PLUGIN)
    viewer.window.add_plugin_dock_widget(PLUGIN, "Harmony")
    _, plot = viewer.window.add_plugin_dock_widget(PLUGIN, "Latent plot")
    wait(lambda: False, 1.0)
    viewer.window.add_plugin_dock_widget(PLUGIN, "Transforms table")
    wait(lambda: False, 1.0)  # the docks take their places
    fit_visible(viewer)
    _press(plot.canvas, _around(plot))
    photographer.take("latent-lasso", themes=["dark"])
    _release(plot.canvas)
    photographer.take("latent")
    plot.actions_box.new_layer()
    photographer.take("latent-layer", themes=["dark"])
    plot.choice.set_plot(Plot.COLUMNS)
    plot.choice.set_colour("psi_spread")
    score = plot.session.result.table["score"].to_numpy()
    plot.choose(np.flatnonzero(score < np.percentile(score, 10)))
    photographer.take("latent-columns")
    viewer.close()


def _around(plot: Any) -> list[QPointF]:
    """Places on the canvas of a lasso around most of a class."""
    members = plot.session.result.members(NUMBER)
    x, y = plot.canvas._x[members], plot.canvas._y[members]
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    wide = 2.3 * (1 + 0.08 * np.sin(3 * angle))
    corners = zip(
        np.median(x) + wide * x.std() * np.cos(angle), np.median(y) + wide * y.std() * np.sin(angle), strict=True
    )
    return [plot.canvas.to_widget(*corner) for corner in corners]


def _press(canvas: Any, places: list[QPointF]) -> None:
    kinds = [QEvent.Type.MouseButtonPress] + [QEvent.Type.MouseMove] * (len(places) - 1)
    for kind, place in zip(kinds, places, strict=True):
        _send(canvas, kind, place)


def _release(canvas: Any) -> None:
    _send(canvas, QEvent.Type.MouseButtonRelease, QPointF(canvas.rect().center()))


def _send(canvas: Any, kind: QEvent.Type, place: QPointF) -> None:
    everywhere = QPointF(canvas.mapToGlobal(place.toPoint()))
    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
    event = QMouseEvent(
        kind, place, everywhere, left, none if kind == QEvent.Type.MouseButtonRelease else left, NO_KEYS
    )
    QApplication.sendEvent(canvas, event)


if __name__ == "__main__":
    draw(sys.argv[1])
