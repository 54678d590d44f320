"""A small plot of the objective while the network trains, painted by hand: it is drawn anew ten times a second."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_harmony.widgets._latent_paint import Palette
from napari_harmony.widgets._loss_curve import LossCurve

_HEIGHT = 84
_LEFT, _TOP, _RIGHT, _BOTTOM = 44.0, 17.0, 6.0, 5.0  # room around the curve, in pixels
_MEANING = (
    "What training makes small: how badly the drawn particles explain the images, and what is asked of the codes "
    "besides. It falls fast, then slowly; where it still falls at the end, a more thorough preset does more. Values of "
    "different data sets cannot be compared."
)


class LossPlot(QWidget):
    """The curve of a training; hidden where nothing was trained."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._curve = LossCurve()
        self._palette = Palette()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Training loss")
        self.hide()

    def sizeHint(self) -> QSize:
        """Wide and low."""
        return QSize(240, _HEIGHT)

    def set_palette(self, palette: Palette) -> None:
        """Paint in the colours of a theme."""
        self._palette = palette
        self.update()

    def show_curve(self, curve: LossCurve) -> None:
        """Show a curve as it stands."""
        self._curve = curve
        last = curve.last
        self.setVisible(last is not None)
        if last is not None:
            parts = ", ".join(f"{name} {value:.3g}" for name, value in last.parts.items())
            now = f"Now {last.value:.4g}" + (f": {parts}." if parts else ".")
            self.setToolTip(f"{_MEANING} {now}")
            self.setAccessibleDescription(self.words)
        self.update()

    @property
    def words(self) -> str:
        """What stands over the curve."""
        last = self._curve.last
        if last is None:
            return ""
        scale = ", logarithmic" if self._curve.axis.logarithmic else ""
        return f"training loss{scale}: {last.value:.4g} after batch {last.done:,} of {last.total:,}"

    def paintEvent(self, event: QPaintEvent) -> None:
        """Ground, words, limits of the axis, curve."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.fillRect(self.rect(), QColor(self._palette.ground))
        font = painter.font()
        font.setPixelSize(10)
        painter.setFont(font)
        frame = QRectF(self.rect()).adjusted(_LEFT, _TOP, -_RIGHT, -_BOTTOM)
        self._paint_words(painter, frame)
        self._paint_curve(painter, frame)
        painter.end()

    def _paint_words(self, painter: QPainter, frame: QRectF) -> None:
        painter.setPen(QColor(self._palette.text))
        words = painter.fontMetrics().elidedText(self.words, Qt.TextElideMode.ElideRight, int(frame.width()))
        painter.drawText(QPointF(frame.left(), frame.top() - 5), words)
        axis = self._curve.axis
        for value, flag, place in (
            (axis.high, Qt.AlignmentFlag.AlignTop, frame.top() - 2),
            (axis.low, Qt.AlignmentFlag.AlignBottom, frame.bottom() - 12),
        ):
            room = QRectF(2, place, _LEFT - 6, 14)
            painter.drawText(room, Qt.AlignmentFlag.AlignRight | flag, _short(value))
        painter.setPen(QPen(QColor(self._palette.line), 1))
        painter.drawLine(frame.topLeft(), frame.bottomLeft())
        painter.drawLine(frame.bottomLeft(), frame.bottomRight())

    def _paint_curve(self, painter: QPainter, frame: QRectF) -> None:
        points, last = self._curve.points, self._curve.last
        if last is None or not len(points):
            return
        column = frame.left() + frame.width() * points[:, 0] / max(1, last.total)
        row = frame.bottom() - frame.height() * np.clip(self._curve.axis.place(points[:, 1]), 0.0, 1.0)
        places = [QPointF(x, y) for x, y in zip(column.tolist(), row.tolist(), strict=True)]
        painter.setPen(QPen(QColor(self._palette.mark), 1.4))
        painter.drawPolyline(QPolygonF(places))
        painter.setBrush(QColor(self._palette.mark))
        painter.drawEllipse(places[-1], 2.2, 2.2)


def _short(value: float) -> str:
    """A number that fits beside the axis."""
    return f"{value:.4g}" if 0.001 <= abs(value) < 10_000 else f"{value:.0e}"
