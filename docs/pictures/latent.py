"""The Latent plot: a lasso, what it selects, and two columns of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from napari_harmony.widgets._latent_choice import Plot
from pictures.runs import PARTICLES, Runs, finished
from pictures.studio import Studio

NUMBER = 1  # of the class that is drawn around
NO_KEYS = Qt.KeyboardModifier.NoModifier


def draw(studio: Studio, runs: Runs) -> None:
    """Draw a lasso around one class, and plot two columns beside the table."""
    finished(studio, runs, PARTICLES, "simulated")
    studio.dock("Harmony")
    plot = studio.dock("Latent plot")
    studio.dock("Transforms table")
    studio.fit()
    _press(plot.canvas, _around(plot))
    studio.take("latent-lasso")
    _release(plot.canvas)
    studio.take("latent")
    plot.choice.set_plot(Plot.COLUMNS)
    plot.choice.set_colour("psi_spread")
    score = plot.session.result.table["score"].to_numpy()
    plot.choose(np.flatnonzero(score < np.percentile(score, 10)))
    studio.take("latent-columns")


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
