"""The grid of tiles: a list view that wraps, chooses several tiles, and says which one was opened."""

from __future__ import annotations

from qtpy.QtCore import QModelIndex, QSize, Qt, Signal
from qtpy.QtGui import QKeyEvent, QPaintEvent, QResizeEvent, QWheelEvent
from qtpy.QtWidgets import QAbstractItemView, QListView, QWidget

#: Pixels of a picture: the smallest, the largest, and by how much one turn of the wheel changes them.
SMALLEST, LARGEST, STEP = 48, 256, 16


class TilesView(QListView):
    """Tiles in rows.

    Signals
    -------
    opened(QModelIndex) : double click, or Enter
    zoomed(int) : Ctrl and the wheel, by so many pixels
    painted() : the tiles are about to be painted
    """

    opened = Signal(QModelIndex)
    zoomed = Signal(int)
    painted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._least = QSize(SMALLEST, SMALLEST)
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setFlow(QListView.Flow.LeftToRight)
        self.setWrapping(True)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setMovement(QListView.Movement.Static)
        self.setUniformItemSizes(True)  # Qt otherwise asks every tile how large it is
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        # where it may come and go Qt keeps room for it beside a bar that is there already
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setMouseTracking(True)
        self.doubleClicked.connect(self.opened)
        self.setAccessibleName("Classes")

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Open the current tile on Enter; letters are for the dock, not for a search among numbers."""
        letter = event.text().isalnum() and not event.modifiers() & ~Qt.KeyboardModifier.ShiftModifier
        if letter or event.key() == Qt.Key.Key_Delete:
            event.ignore()
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.currentIndex().isValid():
            self.opened.emit(self.currentIndex())
            event.accept()
        else:
            super().keyPressEvent(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Zoom with Ctrl, scroll without."""
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.zoomed.emit(STEP if event.angleDelta().y() > 0 else -STEP)
            event.accept()
        else:
            super().wheelEvent(event)

    def set_tile_size(self, size: QSize) -> None:
        """The least size of a tile; the current one stays in view."""
        self._least = size
        self._spread()
        self.verticalScrollBar().setSingleStep(max(1, size.height() // 3))
        if self.currentIndex().isValid():
            self.scrollTo(self.currentIndex())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Say that painting begins."""
        self.painted.emit()
        super().paintEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Spread the tiles over the new width."""
        self._spread()
        super().resizeEvent(event)

    def _spread(self) -> None:
        """As many tiles in a row as there is room for, with the rest of the width between them."""
        # a pixel less: Qt wraps a row that is as wide as the view
        width = self.viewport().width() - 1
        columns = max(1, width // max(1, self._least.width()))
        cell = QSize(max(self._least.width(), width // columns), self._least.height())
        if cell != self.gridSize():
            self.setGridSize(cell)
