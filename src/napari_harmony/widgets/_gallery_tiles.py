"""Pictures of class averages, made when they are first seen, and how a tile is painted."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QModelIndex, QObject, QRect, QRectF, QSize, Qt, QTimer
from qtpy.QtGui import QColor, QFontMetrics, QImage, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QListView, QStyle, QStyledItemDelegate, QStyleOptionViewItem

from napari_harmony.widgets._gallery_model import TILE_ROLE, Lit, Tile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.results import Result

#: Pixels of an average between which its grey values are spread: a few bright ones must not darken the rest.
_DARKEST, _BRIGHTEST = 0.5, 99.7
_KEPT = 4096  # pictures
_PATIENCE = 0.012  # seconds of one painting that may go into new pictures; the rest comes with the next
_GAP, _LINE = 4, 3  # pixels around a picture, and of the line around a lit tile


class Cut(Enum):
    """What is shown of an average of subtomograms."""

    SLICE = "central slice"
    PROJECTION = "projection"


@dataclass(frozen=True)
class Colours:
    """Of a theme: ground and text, quiet text, what is lit, and where the keys are heard."""

    ground: QColor
    text: QColor
    quiet: QColor
    lit: QColor
    focus: QColor


def flat(average: NDArray[np.float32], cut: Cut) -> NDArray[np.float32]:
    """The picture (b, b) of an average (b, b) or (b, b, b): y down, x right, across or along z."""
    if average.ndim == 2:
        return average
    return average.sum(0) if cut is Cut.PROJECTION else average[len(average) // 2]


def grey(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A picture as bytes, its own darkest and brightest pixels black and white."""
    clean = np.nan_to_num(np.asarray(picture, np.float32))
    low, high = np.percentile(clean, (_DARKEST, _BRIGHTEST))
    if high <= low:
        return np.zeros(clean.shape, np.uint8)
    return np.ascontiguousarray(np.clip(255 * (clean - low) / (high - low), 0, 255).astype(np.uint8))


class Pictures:
    """Pixmaps of averages at one size; the last few thousand are kept.

    A picture belongs to the array it was made of: edits that leave an average alone leave its picture.
    """

    def __init__(self) -> None:
        self.cut = Cut.SLICE
        self._made: OrderedDict[tuple[int, int, Cut, bytes], QPixmap] = OrderedDict()
        self._marks: tuple[object, dict[int, bytes]] = (None, {})

    def clear(self) -> None:
        """Forget all of them."""
        self._made.clear()

    def of(self, result: Result, number: int, edge: int, until: float = np.inf) -> QPixmap | None:
        """The picture of a class, ``edge`` pixels wide; None where it would have to be made after ``until``.

        ``until`` is a time of ``time.perf_counter``.
        """
        key = (number, edge, self.cut, self._mark(result, number))
        if key not in self._made:
            if time.perf_counter() > until:
                return None
            self._made[key] = self._draw(flat(result.averages[number - 1], self.cut), edge)
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        return self._made[key]

    def _mark(self, result: Result, number: int) -> bytes:
        """Something that is the same only for the same average: its first bytes and a few from its middle."""
        if self._marks[0] is not result.averages:
            self._marks = (result.averages, {})
        marks = self._marks[1]
        if number not in marks:
            average = result.averages[number - 1]
            marks[number] = average[len(average) // 2].tobytes()
        return marks[number]

    def _draw(self, picture: NDArray[np.float32], edge: int) -> QPixmap:
        data = grey(picture)
        height, width = data.shape
        image = QImage(data.data, width, height, width, QImage.Format.Format_Grayscale8)
        return QPixmap.fromImage(image).scaled(
            edge, edge, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
        )


class TileDelegate(QStyledItemDelegate):
    """Paints a class: its average, its number on its colour, count and resolution, and how much of it is selected."""

    def __init__(self, pictures: Pictures, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.pictures = pictures
        self.result: Result | None = None
        self.edge = 88
        self._until = np.inf
        dark, light = QColor("#262930"), QColor("#f0f1f2")
        self.colours = Colours(dark, light, QColor("#a0a0a0"), QColor("#ffd166"), light)

    def begin(self) -> None:
        """The tiles are about to be painted: new pictures may be made for a moment."""
        self._until = time.perf_counter() + _PATIENCE

    def _ask_again(self) -> None:
        """Have what is missing painted once the user's clicks and turns of the wheel have been heard."""
        view = self.parent()
        if isinstance(view, QListView):
            QTimer.singleShot(0, view.viewport().update)

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        """All tiles are of one size: that of their cells."""
        view = self.parent()
        grid = view.gridSize() if isinstance(view, QListView) else QSize()
        return grid if grid.isValid() else self.size(option.fontMetrics)

    def size(self, metrics: QFontMetrics) -> QSize:
        """Of a tile in pixels: the picture with two lines of text under it."""
        frame = 2 * (_GAP + _LINE)
        return QSize(self.edge + frame, self.edge + 2 * metrics.height() + frame + _GAP)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Draw one tile."""
        tile = index.data(TILE_ROLE)
        if tile is None or self.result is None:
            return
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        chosen = bool(option.state & QStyle.StateFlag.State_Selected)
        outer = self._tile_in(option)
        self._paint_frame(painter, outer, tile, chosen, bool(option.state & QStyle.StateFlag.State_HasFocus))
        place = QRect(outer.left() + _GAP + _LINE, outer.top() + _GAP + _LINE, self.edge, self.edge)
        if not tile.count:
            painter.setOpacity(0.35)
        picture = self.pictures.of(self.result, tile.number, self.edge, self._until)
        if picture is not None:
            painter.drawPixmap(place, picture)
        else:
            painter.fillRect(place, QColor("black"))
            self._ask_again()
        painter.setOpacity(1.0)
        if tile.due and tile.count:
            self._paint_veil(painter, place)
        self._paint_badge(painter, option, place, tile)
        self._paint_lines(painter, option, place, tile)
        painter.restore()

    def _tile_in(self, option: QStyleOptionViewItem) -> QRect:
        """The tile in the middle of its cell."""
        size = self.size(option.fontMetrics)
        left = option.rect.left() + (option.rect.width() - size.width()) // 2
        return QRect(left, option.rect.top(), size.width(), size.height() - _GAP)

    def _paint_frame(self, painter: QPainter, outer: QRect, tile: Tile, chosen: bool, focus: bool) -> None:
        inner = QRectF(outer).adjusted(1.5, 1.5, -1.5, -1.5)
        if chosen or tile.lit is Lit.ALL:
            filled = QColor(self.colours.lit)
            filled.setAlpha(60)
            painter.setBrush(filled)
            painter.setPen(QPen(self.colours.lit, _LINE - 0.5))
            painter.drawRoundedRect(inner, 4, 4)
        elif tile.lit is Lit.SOME:
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(self.colours.lit, _LINE - 1, Qt.PenStyle.DashLine))
            painter.drawRoundedRect(inner, 4, 4)
        if focus:
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(self.colours.focus, 1, Qt.PenStyle.DotLine))
            painter.drawRoundedRect(QRectF(outer).adjusted(4, 4, -4, -4), 3, 3)

    def _paint_badge(self, painter: QPainter, option: QStyleOptionViewItem, place: QRect, tile: Tile) -> None:
        text, metrics = str(tile.number), option.fontMetrics
        badge = QRect(place.topLeft(), QSize(metrics.horizontalAdvance(text) + 10, metrics.height() + 2))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(*tile.colour))
        painter.drawRoundedRect(QRectF(badge), 3, 3)
        painter.setPen(QColor("black"))  # the colours of classes are bright in both themes
        painter.drawText(badge, Qt.AlignmentFlag.AlignCenter, text)
        if tile.lit is Lit.SOME:
            bar = QRectF(place.left(), place.bottom() - 3, place.width(), 4)
            painter.fillRect(bar, QColor(0, 0, 0, 150))
            painter.fillRect(QRectF(bar.left(), bar.top(), bar.width() * tile.share, bar.height()), self.colours.lit)

    def _paint_veil(self, painter: QPainter, place: QRect) -> None:
        veil = QColor(self.colours.ground)
        veil.setAlpha(150)
        painter.fillRect(place, veil)
        painter.setPen(self.colours.text)
        painter.drawText(place, Qt.AlignmentFlag.AlignCenter, "\N{HORIZONTAL ELLIPSIS}")

    def _paint_lines(self, painter: QPainter, option: QStyleOptionViewItem, place: QRect, tile: Tile) -> None:
        height = option.fontMetrics.height()
        for line, text in enumerate(tile.lines):
            row = QRect(place.left() - _GAP, place.bottom() + 2 + line * height, place.width() + 2 * _GAP, height)
            painter.setPen(self.colours.text if line == 0 and tile.count else self.colours.quiet)
            short = option.fontMetrics.elidedText(text, Qt.TextElideMode.ElideRight, row.width())
            painter.drawText(row, Qt.AlignmentFlag.AlignCenter, short)
