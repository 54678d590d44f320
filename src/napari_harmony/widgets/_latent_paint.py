"""Paints the latent plot: remembers what does not change from one look to the next, so that choosing is quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QMarginsF, QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QFont, QImage, QPainter, QPen, QPolygonF

from napari_harmony.widgets._latent_raster import (
    MOST_POINTS,
    density_picture,
    points_picture,
    radius_for,
    ringed_picture,
)
from napari_harmony.widgets._latent_view import View, tick_text, ticks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.widgets._latent_colours import Colouring

#: Room for the axes around the points, in pixels.
MARGINS = QMarginsF(44, 6, 8, 34)
_CELL = 2  # pixels along an edge of a cell of the density
_SMOOTH = 20_000  # so many points are drawn at twice the resolution
_DIMMED = 0.38  # opacity of the particles that are not selected
_TICK_ROOM = 50.0  # pixels from one tick to the next


@dataclass(frozen=True)
class Palette:
    """Colours of a theme: ground and text of the plot, lines, what is selected, and where the keys are heard."""

    ground: str = "#000000"
    text: str = "#f0f1f2"
    line: str = "#565f6c"
    mark: str = "#ffffff"
    focus: str = "#4560c4"


class Painting:
    """What the plot looks like; knows nothing of the mouse.

    Attributes
    ----------
    view : the part of the plane that is seen
    message : words shown in place of the points, or ""
    current : the particle that is marked, -1 for none
    """

    def __init__(self) -> None:
        self.view = View()
        self.message = ""
        self.current = -1
        self._x = self._y = np.empty(0)
        self._rank = np.empty(0, dtype=np.int32)
        self._titles = ("", "")
        self._colouring: Colouring | None = None
        self._selection = np.empty(0, dtype=np.int64)
        self._palette = Palette()
        self._inside: NDArray[np.int64] | None = None
        self._base: QImage | None = None
        self._over: QImage | None = None

    def set_points(self, x: NDArray[Any], y: NDArray[Any], titles: tuple[str, str]) -> None:
        """Other points (n,) and titles of the axes."""
        if len(x) != len(self._x):
            # which points lie over others must not depend on their order, nor change while one moves about
            self._rank = np.random.default_rng(0).permutation(len(x)).astype(np.int32)
        self._x, self._y, self._titles, self._inside = x, y, titles, None
        self.forget()

    def set_colouring(self, colouring: Colouring | None) -> None:
        """Other colours; None draws no points."""
        self._colouring = colouring
        self.forget()

    def set_selection(self, ids: NDArray[np.int64]) -> None:
        """Particles (m,) that are brought out."""
        self._selection = ids
        self._over = None

    def set_view(self, view: View) -> None:
        """Another part of the plane."""
        if view != self.view:
            self.view, self._inside = view, None
            self.forget()

    def set_palette(self, palette: Palette) -> None:
        """Colours of another theme."""
        self._palette = palette
        self.forget()

    def forget(self) -> None:
        """Draw everything anew next time."""
        self._base = self._over = None

    @property
    def is_density(self) -> bool:
        """Whether more particles are in view than are drawn one by one, or their number is asked for."""
        by_count = self._colouring is not None and self._colouring.by_count
        return by_count or len(self._in_view()) > MOST_POINTS

    def _in_view(self) -> NDArray[np.int64]:
        """The particles that are seen, (m,); looked for once for each view."""
        if self._inside is None:
            self._inside = np.flatnonzero(self.view.inside(self._x, self._y))
        return self._inside

    # -- painting ---------------------------------------------------------------------------------------------------

    def draw(self, painter: QPainter, whole: QRectF, frame: QRectF, ratio: float, *, focused: bool) -> None:
        """Ground, points and axes; ``ratio``: device pixels per pixel."""
        painter.fillRect(whole, QColor(self._palette.ground))
        if self.message:
            painter.setPen(QColor(self._palette.text))
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(whole.adjusted(16, 16, -16, -16), int(flags), self.message)
            return
        if self._colouring is not None and frame.width() >= 1 and frame.height() >= 1:
            self._draw_points(painter, frame, ratio, self._colouring)
        self._draw_axes(painter, whole, frame)
        if focused:
            painter.setPen(QPen(QColor(self._palette.focus), 2))
            painter.drawRect(whole.adjusted(1, 1, -1, -1))

    def _draw_points(self, painter: QPainter, frame: QRectF, ratio: float, colouring: Colouring) -> None:
        if self._base is None:
            self._base = self._picture(self._in_view(), frame, ratio, colouring, selected=False)
        if self._over is None and len(self._selection):
            chosen = self._selection[self._selection < len(self._x)]
            chosen = chosen[self.view.inside(self._x[chosen], self._y[chosen])]
            self._over = self._picture(chosen, frame, ratio, colouring, selected=True)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.setOpacity(_DIMMED if len(self._selection) else 1.0)
        painter.drawImage(frame, self._base)
        painter.setOpacity(1.0)
        if len(self._selection) and self._over is not None:
            painter.drawImage(frame, self._over)
        if 0 <= self.current < len(self._x):
            self._draw_current(painter, frame)
        if self.is_density:
            painter.setPen(QColor(self._palette.text))
            room = frame.adjusted(4, 3, -5, -3)
            painter.drawText(room, int(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignRight), "density")

    def _picture(
        self, ids: NDArray[np.int64], frame: QRectF, ratio: float, colouring: Colouring, *, selected: bool
    ) -> QImage:
        many = len(ids) > MOST_POINTS or (colouring.by_count and not selected)
        smooth = 2.0 if len(ids) <= _SMOOTH else 1.0
        scale = ratio / _CELL if many else ratio * smooth
        shape = (max(1, round(frame.height() * scale)), max(1, round(frame.width() * scale)))
        if many:
            column, row = self.view.to_pixels(self._x[ids], self._y[ids], shape[1], shape[0])
            return _image(density_picture(column, row, ids, colouring, shape))
        ids = ids[np.argsort(self._rank[ids], kind="stable")]
        column, row = self.view.to_pixels(self._x[ids], self._y[ids], shape[1], shape[0])
        colours = colouring.colours(ids)
        radius = radius_for(len(self._in_view())) * scale
        if not selected:
            return _image(points_picture(column, row, colours, shape, radius))
        mark = QColor(self._palette.mark)
        ring = (mark.red(), mark.green(), mark.blue())
        return _image(ringed_picture(column, row, colours, shape, radius + 0.4 * scale, 1.4 * scale, ring))

    def _draw_current(self, painter: QPainter, frame: QRectF) -> None:
        column, row = self.view.to_pixels(self._x[self.current], self._y[self.current], frame.width(), frame.height())
        if not (0 <= column <= frame.width() and 0 <= row <= frame.height()):
            return
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        place = QPointF(frame.left() + column, frame.top() + row)
        for colour, width in ((self._palette.ground, 4.0), (self._palette.mark, 1.6)):
            painter.setPen(QPen(QColor(colour), width))
            painter.drawEllipse(place, 8, 8)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)

    def _draw_axes(self, painter: QPainter, whole: QRectF, frame: QRectF) -> None:
        font = QFont(painter.font())
        font.setPointSizeF(max(6.5, font.pointSizeF() * 0.88))
        painter.setFont(font)
        painter.setPen(QPen(QColor(self._palette.line), 1))
        painter.drawRect(frame)
        self._draw_columns(painter, whole, frame)
        self._draw_rows(painter, frame)

    def _draw_columns(self, painter: QPainter, whole: QRectF, frame: QRectF) -> None:
        places = ticks(self.view.left, self.view.right, int(frame.width() / _TICK_ROOM))
        step = places[1] - places[0] if len(places) > 1 else self.view.width
        for value in places:
            column = frame.left() + (value - self.view.left) / self.view.width * frame.width()
            painter.setPen(QColor(self._palette.line))
            painter.drawLine(QPointF(column, frame.bottom()), QPointF(column, frame.bottom() + 3))
            painter.setPen(QColor(self._palette.text))
            room = QRectF(column - _TICK_ROOM / 2, frame.bottom() + 3, _TICK_ROOM, 14)
            painter.drawText(room, int(Qt.AlignmentFlag.AlignCenter), tick_text(value, step))
        room = QRectF(frame.left(), frame.bottom() + 16, frame.width(), whole.bottom() - frame.bottom() - 16)
        painter.drawText(room, int(Qt.AlignmentFlag.AlignCenter), self._titles[0])

    def _draw_rows(self, painter: QPainter, frame: QRectF) -> None:
        places = ticks(self.view.bottom, self.view.top, int(frame.height() / _TICK_ROOM))
        step = places[1] - places[0] if len(places) > 1 else self.view.height
        for value in places:
            row = frame.top() + (self.view.top - value) / self.view.height * frame.height()
            painter.setPen(QColor(self._palette.line))
            painter.drawLine(QPointF(frame.left() - 3, row), QPointF(frame.left(), row))
            painter.setPen(QColor(self._palette.text))
            # along the axis, for numbers have not much room beside it
            painter.save()
            half = painter.fontMetrics().horizontalAdvance(tick_text(value, step)) / 2
            painter.translate(frame.left() - 11, max(row, half))
            painter.rotate(-90)
            room = QRectF(-_TICK_ROOM / 2, -7, _TICK_ROOM, 14)
            painter.drawText(room, int(Qt.AlignmentFlag.AlignCenter), tick_text(value, step))
            painter.restore()
        painter.save()
        painter.translate(frame.left() - 30, frame.center().y())
        painter.rotate(-90)
        room = QRectF(-frame.height() / 2, -9, frame.height(), 18)
        painter.drawText(room, int(Qt.AlignmentFlag.AlignCenter), self._titles[1])
        painter.restore()

    # -- over it ----------------------------------------------------------------------------------------------------

    def draw_stroke(self, painter: QPainter, stroke: list[QPointF], *, rectangle: bool) -> None:
        """The lasso or the rectangle that is being drawn."""
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        inside = QColor(self._palette.mark)
        inside.setAlpha(40)
        painter.setBrush(inside)
        painter.setPen(QPen(QColor(self._palette.mark), 1.4, Qt.PenStyle.DashLine))
        if rectangle:
            painter.drawRect(QRectF(stroke[0], stroke[-1]).normalized())
        else:
            painter.drawPolygon(QPolygonF(stroke))
        painter.setBrush(Qt.BrushStyle.NoBrush)

    def draw_cross(self, painter: QPainter, place: QPointF) -> None:
        """Where the keyboard stands."""
        painter.setPen(QPen(QColor(self._palette.mark), 1.6))
        painter.drawLine(place - QPointF(9, 0), place + QPointF(9, 0))
        painter.drawLine(place - QPointF(0, 9), place + QPointF(0, 9))


def _image(picture: NDArray[np.uint8]) -> QImage:
    """A picture (height, width, 4) as Qt has it; a copy, for Qt does not keep the array."""
    picture = np.ascontiguousarray(picture)
    height, width = picture.shape[:2]
    return QImage(picture.tobytes(), width, height, 4 * width, QImage.Format.Format_RGBA8888).copy()
