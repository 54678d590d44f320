"""Drawing in the latent plot as a user does, in tests."""

from __future__ import annotations

from pytestqt.qtbot import QtBot
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from napari_harmony.widgets.latent_plot import LatentPlot

NONE = Qt.KeyboardModifier.NoModifier
SHIFT, ALT = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.AltModifier
CONTROL = Qt.KeyboardModifier.ControlModifier
LEFT = Qt.MouseButton.LeftButton


def place(plot: LatentPlot, particle: int) -> QPoint:
    """Where on the canvas a particle is drawn."""
    x, y = (plot.session.result.table[key][particle] for key in ("content_0", "content_1"))
    return plot.canvas.to_widget(x, y).toPoint()


def drag(qtbot: QtBot, plot: LatentPlot, places: list[QPoint], modifier: Qt.KeyboardModifier = NONE) -> None:
    """Press at the first place, release at the last."""
    qtbot.mousePress(plot.canvas, LEFT, modifier, places[0])
    for there in places[1:]:
        move(plot, there)
    qtbot.mouseRelease(plot.canvas, LEFT, modifier, places[-1])


def move(plot: LatentPlot, there: QPoint) -> None:
    """Move with the left button held; without a window manager the moves of the test library do not always come."""
    local, everywhere = QPointF(there), QPointF(plot.canvas.mapToGlobal(there))
    event = QMouseEvent(QEvent.Type.MouseMove, local, everywhere, Qt.MouseButton.NoButton, LEFT, NONE)
    QApplication.sendEvent(plot.canvas, event)


def around(plot: LatentPlot, particle: int, size: int = 40) -> list[QPoint]:
    """A square around a particle, for a lasso."""
    centre = place(plot, particle)
    corners = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return [centre + QPoint(size * x, size * y) for x, y in corners]


def lasso_around(qtbot: QtBot, plot: LatentPlot, particle: int) -> None:
    """Draw around a particle and its neighbours, a tenth of the view to each side, whatever the axes are."""
    canvas = plot.canvas
    x, y = canvas._x[particle], canvas._y[particle]
    width, height = 0.1 * canvas.view.width, 0.1 * canvas.view.height
    corners = [(x - width, y), (x, y - height), (x + width, y), (x, y + height)]
    drag(qtbot, plot, [canvas.to_widget(*corner).toPoint() for corner in corners])


def expected_in(plot: LatentPlot, corners: list[QPoint]) -> list[int]:
    """Particles in the rectangle that the corners span."""
    table = plot.session.result.table
    (x0, y0), (x1, y1) = plot.canvas.to_data(QPointF(corners[0])), plot.canvas.to_data(QPointF(corners[2]))
    inside = table["content_0"].between(x0, x1) & table["content_1"].between(y1, y0)
    return table.index[inside].tolist()
