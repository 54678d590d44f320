"""What the colours of the latent plot mean: categories that can be chosen, or a scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import (
    QColor,
    QIcon,
    QKeyEvent,
    QLinearGradient,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPixmap,
    QResizeEvent,
)
from qtpy.QtWidgets import QAbstractItemView, QListView, QListWidget, QListWidgetItem, QStackedLayout, QWidget

from napari_harmony.widgets._latent_canvas import mode_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.widgets._latent_colours import Colouring

_SWATCH = 11
_BESIDE = 16  # pixels around a swatch and its words
_CODE = Qt.ItemDataRole.UserRole
_STOPS = 24  # of the gradient of a scale
_MOST_ROWS = 4  # of categories; more are scrolled to


class CategoryList(QListWidget):
    """Categories with their colours, side by side. A click on one, or Enter, chooses its particles.

    Signals
    -------
    chosen(int, Mode) : the code of a category
    """

    chosen = Signal(int, object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFlow(QListView.Flow.LeftToRight)
        self.setWrapping(True)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setUniformItemSizes(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setIconSize(QSize(_SWATCH, _SWATCH))
        self.setSpacing(1)
        self.setAccessibleName("Legend")

    def show_categories(self, colouring: Colouring) -> None:
        """List the categories of a colouring."""
        self.clear()
        for entry in colouring.entries:
            item = QListWidgetItem(swatch(colouring.table[entry.code]), f"{entry.label} ({entry.count:,})")
            item.setData(_CODE, entry.code)
            item.setToolTip(
                f"{colouring.title} {entry.label}: {entry.count:,} particles. A click or Enter selects them; with "
                "Shift they are added, with Alt or Ctrl removed."
            )
            self.addItem(item)
        self._even_out()

    def _even_out(self) -> None:
        """All items as wide as the widest, so that they stand in columns; Qt itself takes the first one's size."""
        items = [self.item(row) for row in range(self.count())]
        widest = max((self.fontMetrics().horizontalAdvance(item.text()) for item in items), default=0)
        size = QSize(widest + _SWATCH + _BESIDE, self.fontMetrics().height() + 3)
        for item in items:
            item.setSizeHint(size)

    def rows(self, width: int) -> int:
        """Rows that the categories take in so many pixels, one at least."""
        each = max(1, self.sizeHintForColumn(0) + 2 * self.spacing())
        room = width - self.verticalScrollBar().sizeHint().width() - 2 * self.frameWidth()
        return max(1, -(-self.count() // max(1, room // each)))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Choose the category that was clicked."""
        super().mouseReleaseEvent(event)
        item = self.itemAt(event.position().toPoint())
        if item is not None and event.button() == Qt.MouseButton.LeftButton:
            self.chosen.emit(item.data(_CODE), mode_of(event.modifiers()))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Choose the category that the keyboard stands on, with Enter or Space."""
        item = self.currentItem()
        if item is not None and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
            self.chosen.emit(item.data(_CODE), mode_of(event.modifiers()))
        else:
            super().keyPressEvent(event)


class ScaleBar(QWidget):
    """The scale of a column of numbers, from its lower to its upper end."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._colouring: Colouring | None = None
        self.setMinimumHeight(30)

    def show_scale(self, colouring: Colouring) -> None:
        """Show the scale of a colouring."""
        self._colouring = colouring
        if colouring.by_count:
            self.setToolTip("Particles per cell of the picture, on a logarithmic scale.")
        else:
            self.setToolTip(
                f"{colouring.title}: the scale ends where 0.5 % of the particles lie beyond; these have the colours of "
                "its ends. Grey: no value."
            )
        self.update()

    def texts(self) -> tuple[str, str, str]:
        """What stands at the lower end, in the middle and at the upper end."""
        if self._colouring is None:
            return "", "", ""
        if self._colouring.limits is None:
            return "few", "particles per cell (log)", "many"
        low, high = self._colouring.limits
        return f"{low:.3g}", self._colouring.title, f"{high:.3g}"

    def paintEvent(self, _event: QPaintEvent) -> None:
        """A gradient with its numbers below."""
        if self._colouring is None:
            return
        painter = QPainter(self)
        bar = QRectF(2, 2, self.width() - 4, 10)
        gradient = QLinearGradient(bar.topLeft(), QPointF(bar.right(), bar.top()))
        for place in np.linspace(0, 1, _STOPS):
            colour = self._colouring.table[round(place * self._colouring.last)]
            gradient.setColorAt(float(place), QColor(*map(int, colour)))
        painter.fillRect(bar, gradient)
        painter.setPen(self.palette().windowText().color())
        room = QRectF(2, 13, self.width() - 4, self.height() - 13).toRect()
        places = (Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignHCenter, Qt.AlignmentFlag.AlignRight)
        for text, place in zip(self.texts(), places, strict=True):
            painter.drawText(room, int(place | Qt.AlignmentFlag.AlignTop), text)


class Legend(QWidget):
    """The legend of a colouring: ``categories`` or ``scale``, whichever it has."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.categories = CategoryList()
        self.scale = ScaleBar()
        self._pages = QStackedLayout(self)
        self._pages.setContentsMargins(0, 0, 0, 0)
        self._pages.addWidget(self.categories)
        self._pages.addWidget(self.scale)

    def show_colouring(self, colouring: Colouring | None) -> None:
        """Say what its colours mean; nothing for None."""
        self.setVisible(colouring is not None)
        if colouring is None:
            return
        if colouring.entries:
            self.categories.show_categories(colouring)
            self._pages.setCurrentWidget(self.categories)
            self._fit()
        else:
            self.scale.show_scale(colouring)
            self._pages.setCurrentWidget(self.scale)
            self.setFixedHeight(self.scale.minimumHeight() + 4)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """As high as its categories need at this width."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        if self._pages.currentWidget() is self.categories:
            rows = min(_MOST_ROWS, self.categories.rows(self.width()))
            self.setFixedHeight(6 + rows * (self.categories.sizeHintForRow(0) + 2 * self.categories.spacing()))


def swatch(colour: NDArray[np.uint8]) -> QIcon:
    """A small square of a colour (RGB, or RGBA)."""
    picture = QPixmap(_SWATCH, _SWATCH)
    picture.fill(QColor(*map(int, colour)))
    return QIcon(picture)
