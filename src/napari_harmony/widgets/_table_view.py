"""The view of the transforms table: what its keys do beyond those of every table."""

from __future__ import annotations

from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtGui import QKeyEvent, QKeySequence
from qtpy.QtWidgets import QTableView

#: What to press to sort by the column that the keyboard stands in, and what that does, in words.
SORT_KEYS = {
    Qt.SortOrder.AscendingOrder: ("Alt+Up", "smallest first"),
    Qt.SortOrder.DescendingOrder: ("Alt+Down", "largest first"),
}
_ARROWS = {Qt.Key.Key_Up: Qt.SortOrder.AscendingOrder, Qt.Key.Key_Down: Qt.SortOrder.DescendingOrder}


class RowsView(QTableView):
    """A table view whose Ctrl+C asks for whole rows, where Qt's own copies one cell, and that is sorted by keys too.

    Signals
    -------
    copy_wanted()
    sort_wanted(Qt.SortOrder) : by the column of the current cell, which the left and right arrows change
    """

    copy_wanted = Signal()
    sort_wanted = Signal(object)

    def event(self, event: QEvent) -> bool:
        """Claim these keys before any shortcut of the window does."""
        if event.type() == QEvent.Type.ShortcutOverride and (_copies(event) or _order_of(event) is not None):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Ask for a copy on Ctrl+C, for another order on Alt and an arrow."""
        order = _order_of(event)
        if _copies(event):
            self.copy_wanted.emit()
        elif order is not None:
            self.sort_wanted.emit(order)
        else:
            super().keyPressEvent(event)


def _copies(event: QKeyEvent) -> bool:
    return bool(event.matches(QKeySequence.StandardKey.Copy))


def _order_of(event: QKeyEvent) -> Qt.SortOrder | None:
    modifiers = event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier  # set for arrows on a Mac
    return _ARROWS.get(event.key()) if modifiers == Qt.KeyboardModifier.AltModifier else None
