"""The picture of the latent plot: points or their density, and choosing among them by mouse and by keyboard."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QFocusEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QResizeEvent, QWheelEvent
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_harmony.widgets._lasso import inside_polygon, inside_rectangle, nearest
from napari_harmony.widgets._latent_paint import MARGINS, Painting, Palette
from napari_harmony.widgets._latent_view import View

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from napari_harmony.widgets._latent_colours import Colouring

_CLICK = 4.0  # pixels; a shorter stroke is a click
_STROKE = 2.0  # pixels between the corners of a lasso
_REACH = 12.0  # pixels from a click to the particle it means
_ZOOM = 1.25
_STEP = 0.1  # of the view, for one arrow key
_CURSOR_STEP = 0.02


class Tool(Enum):
    """What the left button does."""

    LASSO = "lasso"
    RECTANGLE = "rectangle"
    PAN = "pan"


class Mode(Enum):
    """What happens to the particles chosen before."""

    REPLACE = "replace"
    ADD = "add"
    REMOVE = "remove"


def mode_of(modifiers: Any) -> Mode:
    """Shift adds, Alt and Ctrl remove."""
    if modifiers & (Qt.KeyboardModifier.AltModifier | Qt.KeyboardModifier.ControlModifier):
        return Mode.REMOVE
    return Mode.ADD if modifiers & Qt.KeyboardModifier.ShiftModifier else Mode.REPLACE


class LatentCanvas(QWidget):
    """Draws points and says which are chosen; it holds no selection but the one it is told.

    Keys: arrows move the view, + and - zoom, Home shows all; Shift and arrows move a cross, Space begins a rectangle at
    it, and Enter chooses what lies in the rectangle, or the particle nearest to the cross.

    Signals
    -------
    chosen(ids of shape (m,), Mode) : a lasso or a rectangle was closed, or the ground was clicked (no ids)
    picked(int, Mode) : a particle was clicked
    tool_changed(Tool)
    """

    chosen = Signal(object, object)
    picked = Signal(int, object)
    tool_changed = Signal(object)

    def __init__(self, describe: Callable[[int], str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._describe = describe
        self._x = self._y = np.empty(0)
        self._stroke: list[QPointF] = []
        self._dragged: QPointF | None = None
        self._cursor: QPointF | None = None  # data coordinates, as is the anchor
        self._anchor: QPointF | None = None
        self.painting = Painting()
        self.tool = Tool.LASSO
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(180, 140)
        self.setAccessibleName("Plot of the particles")
        self.setCursor(Qt.CursorShape.CrossCursor)

    def sizeHint(self) -> QSize:
        return QSize(380, 320)

    # -- what is shown ----------------------------------------------------------------------------------------------

    @property
    def view(self) -> View:
        """The part of the plane that is seen."""
        return self.painting.view

    def set_view(self, view: View) -> None:
        """Show another part of the plane."""
        self.painting.set_view(view)
        self.update()

    def set_points(self, x: NDArray[Any], y: NDArray[Any], titles: tuple[str, str], *, keep_view: bool) -> None:
        """Show other points: coordinates (n,), NaN for particles that have no place, and titles of the axes."""
        self._x, self._y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        self.painting.set_points(self._x, self._y, titles)
        self._cursor = self._anchor = None
        if not keep_view:
            self.home()
        self.update()

    def set_colouring(self, colouring: Colouring | None) -> None:
        """Show other colours."""
        self.painting.set_colouring(colouring)
        self.update()

    def set_selection(self, ids: NDArray[np.int64]) -> None:
        """Bring these particles out."""
        self.painting.set_selection(ids)
        self.update()

    def set_current(self, particle: int) -> None:
        """Mark the particle that the viewer stands at."""
        self.painting.current = particle
        self.update()

    def set_palette(self, palette: Palette) -> None:
        """Use the colours of another theme."""
        self.painting.set_palette(palette)
        self.update()

    def set_message(self, text: str) -> None:
        """Show words in place of points; an empty text shows the points."""
        self.painting.message = text
        self.update()

    def set_tool(self, tool: Tool) -> None:
        """Choose what the left button does."""
        self._stroke = []
        if tool is not self.tool:
            self.tool = tool
            self.setCursor(Qt.CursorShape.OpenHandCursor if tool is Tool.PAN else Qt.CursorShape.CrossCursor)
            self.tool_changed.emit(tool)
        self.update()

    # -- moving about -----------------------------------------------------------------------------------------------

    def home(self) -> None:
        """Show all points."""
        self.set_view(View.around(self._x, self._y))

    def zoom(self, factor: float) -> None:
        """Zoom at the centre."""
        self.set_view(self.view.zoomed(factor))

    def frame(self) -> QRectF:
        """Where on the widget the points are drawn, in pixels."""
        return QRectF(self.rect()).marginsRemoved(MARGINS)

    def to_data(self, place: QPointF) -> tuple[float, float]:
        """Data coordinates of a place on the widget."""
        frame = self.frame()
        return self.view.to_data(place.x() - frame.left(), place.y() - frame.top(), frame.width(), frame.height())

    def to_widget(self, x: float, y: float) -> QPointF:
        """The place on the widget of data coordinates."""
        frame = self.frame()
        column, row = self.view.to_pixels(x, y, frame.width(), frame.height())
        return QPointF(frame.left() + column, frame.top() + row)

    # -- choosing ---------------------------------------------------------------------------------------------------

    def choose_polygon(self, corners: ArrayLike, mode: Mode) -> None:
        """Choose the particles inside a polygon (k, 2) in data coordinates."""
        self.chosen.emit(np.flatnonzero(inside_polygon(self._x, self._y, np.asarray(corners))), mode)

    def choose_rectangle(self, corner: tuple[float, float], opposite: tuple[float, float], mode: Mode) -> None:
        """Choose the particles inside a rectangle in data coordinates."""
        self.chosen.emit(np.flatnonzero(inside_rectangle(self._x, self._y, corner, opposite)), mode)

    def nearest_to(self, place: QPointF, reach: float = _REACH) -> int | None:
        """The particle nearest to a place on the widget, within ``reach`` pixels of it, or None."""
        frame = self.frame()
        scale = (frame.width() / self.view.width, frame.height() / self.view.height)
        found = nearest(self._x, self._y, self.to_data(place), scale)
        if found is None:
            return None
        away = self.to_widget(self._x[found], self._y[found]) - place
        return found if np.hypot(away.x(), away.y()) <= reach else None

    def pick(self, place: QPointF, mode: Mode, reach: float = _REACH) -> None:
        """Choose the particle at a place; a bare click on the ground chooses nothing."""
        found = self.nearest_to(place, reach)
        if found is not None:
            self.picked.emit(found, mode)
        elif mode is Mode.REPLACE:
            self.chosen.emit(np.empty(0, dtype=np.int64), mode)

    def _finish_stroke(self, mode: Mode) -> None:
        stroke, self._stroke = self._stroke, []
        self.update()
        if not stroke:
            return
        away = [max(abs(p.x() - stroke[0].x()), abs(p.y() - stroke[0].y())) for p in stroke]
        if max(away) < _CLICK:
            self.pick(stroke[0], mode)
        elif self.tool is Tool.RECTANGLE:
            self.choose_rectangle(self.to_data(stroke[0]), self.to_data(stroke[-1]), mode)
        else:
            self.choose_polygon([self.to_data(p) for p in stroke], mode)

    # -- mouse ------------------------------------------------------------------------------------------------------

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Begin a stroke with the left button, or pan with the middle one."""
        if self.painting.message:
            return
        pans = self.tool is Tool.PAN and event.button() == Qt.MouseButton.LeftButton
        if pans or event.button() == Qt.MouseButton.MiddleButton:
            self._dragged = event.position()
        if event.button() == Qt.MouseButton.LeftButton:
            self._stroke = [event.position()]

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Go on with it."""
        place = event.position()
        if self._dragged is not None:
            frame, moved = self.frame(), place - self._dragged
            self._dragged = place
            self._stroke.append(place)  # so that a drag is no click
            self.set_view(self.view.panned(-moved.x() / frame.width(), moved.y() / frame.height()))
        elif self._stroke:
            step = place - self._stroke[-1]
            if self.tool is Tool.RECTANGLE:
                self._stroke = [self._stroke[0], place]
            elif max(abs(step.x()), abs(step.y())) >= _STROKE:
                self._stroke.append(place)
            self.update()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Choose what the stroke encloses."""
        dragged, self._dragged = self._dragged, None
        if event.button() == Qt.MouseButton.LeftButton and self._stroke:
            if dragged is not None and len(self._stroke) > 1:
                self._stroke = []
            self._finish_stroke(mode_of(event.modifiers()))

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Zoom where the mouse is."""
        if not self.painting.message:
            factor = _ZOOM ** (event.angleDelta().y() / 120)
            self.set_view(self.view.zoomed(factor, *self.to_data(event.position())))
        event.accept()

    # -- keyboard ---------------------------------------------------------------------------------------------------

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Move, zoom and choose; all other keys are left to the dock."""
        if self.painting.message or not (self._move(event) or self._change(event) or self._draw_by_keys(event)):
            super().keyPressEvent(event)

    def _move(self, event: QKeyEvent) -> bool:
        arrows = {
            Qt.Key.Key_Left: (-1, 0),
            Qt.Key.Key_Right: (1, 0),
            Qt.Key.Key_Down: (0, -1),
            Qt.Key.Key_Up: (0, 1),
        }
        along = arrows.get(event.key())
        if along is None:
            return False
        if event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self._move_cursor(*along)
        else:
            self.set_view(self.view.panned(_STEP * along[0], _STEP * along[1]))
        return True

    def _change(self, event: QKeyEvent) -> bool:
        tools = {Qt.Key.Key_L: Tool.LASSO, Qt.Key.Key_R: Tool.RECTANGLE, Qt.Key.Key_P: Tool.PAN}
        key = event.key()
        if event.modifiers() & (Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.AltModifier):
            return False
        if key in (Qt.Key.Key_Plus, Qt.Key.Key_Equal):
            self.zoom(_ZOOM)
        elif key == Qt.Key.Key_Minus:
            self.zoom(1 / _ZOOM)
        elif key == Qt.Key.Key_Home:
            self.home()
        elif key in tools:
            self.set_tool(tools[key])
        else:
            return False
        return True

    def _draw_by_keys(self, event: QKeyEvent) -> bool:
        key = event.key()
        if key == Qt.Key.Key_Escape and (self._stroke or self._cursor is not None):
            self._stroke, self._cursor, self._anchor = [], None, None
        elif key == Qt.Key.Key_Space:
            self._cursor = self._cursor or self._middle()
            self._anchor = QPointF(self._cursor)
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self._cursor is not None:
            self._choose_at_cursor(mode_of(event.modifiers()))
        else:
            return False
        self.update()
        return True

    def _middle(self) -> QPointF:
        return QPointF(*self.to_data(self.frame().center()))

    def _move_cursor(self, right: int, up: int) -> None:
        place, view = self._cursor or self._middle(), self.view
        x = min(max(place.x() + right * _CURSOR_STEP * view.width, view.left), view.right)
        y = min(max(place.y() + up * _CURSOR_STEP * view.height, view.bottom), view.top)
        self._cursor = QPointF(x, y)
        self.update()

    def _choose_at_cursor(self, mode: Mode) -> None:
        if self._cursor is None:
            return
        corner, opposite = self._anchor, self._cursor
        self._anchor = None
        if corner is not None and corner != opposite:
            self.choose_rectangle((corner.x(), corner.y()), (opposite.x(), opposite.y()), mode)
        else:
            self.pick(self.to_widget(opposite.x(), opposite.y()), mode, reach=float("inf"))

    # -- drawing ----------------------------------------------------------------------------------------------------

    def event(self, event: QEvent) -> bool:
        """Name the particle under the mouse."""
        if event.type() == QEvent.Type.ToolTip and not self.painting.message:
            found = self.nearest_to(QPointF(event.pos()))
            QToolTip.showText(event.globalPos(), self._describe(found) if found is not None else "", self)
            return True
        return super().event(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """The picture is drawn anew."""
        self.painting.forget()
        super().resizeEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:
        """Show that the keys are heard here."""
        self.update()
        super().focusInEvent(event)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Show that they are not."""
        self.update()
        super().focusOutEvent(event)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Points, axes, and what is being drawn over them."""
        painter = QPainter(self)
        painting, frame = self.painting, self.frame()
        painting.draw(painter, QRectF(self.rect()), frame, self.devicePixelRatioF(), focused=self.hasFocus())
        if painting.message:
            return
        painter.setClipRect(frame)
        if self._dragged is None and len(self._stroke) > 1:
            painting.draw_stroke(painter, self._stroke, rectangle=self.tool is Tool.RECTANGLE)
        if self._cursor is not None:
            cursor = self.to_widget(self._cursor.x(), self._cursor.y())
            if self._anchor is not None:
                anchor = self.to_widget(self._anchor.x(), self._anchor.y())
                painting.draw_stroke(painter, [anchor, cursor], rectangle=True)
            painting.draw_cross(painter, cursor)
