"""What waits to be run, and what failed meanwhile: a short list, there only when there is something in it."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QKeyEvent, QKeySequence
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_harmony.widgets._runs import Failure, Runs
from napari_harmony.widgets._work import LAST, TRAIN, Request

ERROR_COLOUR = "#e05252"
_MOST_ROWS = 4  # more are scrolled to
_ENTRY = Qt.ItemDataRole.UserRole
_NOTHING_CHOSEN = "Choose a row first."
_TIP = "Take the chosen rows out of the queue (Delete). A failed run is only taken off the list."


class _Rows(QListWidget):
    """Hears the Delete key."""

    delete_pressed = Signal()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Delete takes the chosen rows away; all other keys as ever."""
        if event.matches(QKeySequence.StandardKey.Delete):
            self.delete_pressed.emit()
        else:
            super().keyPressEvent(event)


class QueueBox(QWidget):
    """The queue of a viewer."""

    def __init__(self, runs: Runs, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._runs = runs
        self.title = QLabel()
        self.list = _Rows()
        self.list.setAccessibleName("Queue")
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.list.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.itemSelectionChanged.connect(self._on_chosen)
        self.title.setBuddy(self.list)
        self.remove_button = QPushButton("Remove")
        self.remove_button.clicked.connect(self.remove_chosen)
        self.list.delete_pressed.connect(self.remove_chosen)
        top = QHBoxLayout()
        top.addWidget(self.title, 1)
        top.addWidget(self.remove_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(top)
        layout.addWidget(self.list)
        self.refresh()

    def refresh(self) -> None:
        """Show what waits and what failed."""
        chosen = self._chosen()
        entries: tuple[Request | Failure, ...] = (*self._runs.failures, *self._runs.waiting)
        self.setVisible(bool(entries))
        self.title.setText(_title(len(self._runs.waiting), len(self._runs.failures)))
        self.list.clear()
        for entry in entries:
            item = QListWidgetItem(_line(entry))
            item.setData(_ENTRY, entry)
            item.setToolTip(_about(entry))
            if isinstance(entry, Failure):
                item.setForeground(QColor(ERROR_COLOUR))
            self.list.addItem(item)
            item.setSelected(entry in chosen)
        rows = min(_MOST_ROWS, max(1, len(entries)))
        self.list.setFixedHeight(rows * max(18, self.list.sizeHintForRow(0)) + 2 * self.list.frameWidth() + 4)
        self._on_chosen()

    def remove_chosen(self) -> None:
        """Take the chosen rows off the list."""
        for entry in self._chosen():
            self._runs.remove(entry)

    def _chosen(self) -> list[Request | Failure]:
        return [item.data(_ENTRY) for item in self.list.selectedItems()]

    def _on_chosen(self) -> None:
        some = bool(self.list.selectedItems())
        self.remove_button.setEnabled(some)
        self.remove_button.setToolTip(_TIP if some else _NOTHING_CHOSEN)


def _title(waiting: int, failed: int) -> str:
    parts = [f"{waiting} waiting" if waiting else "", f"{failed} failed" if failed else ""]
    return "Queue: " + ", ".join(part for part in parts if part)


def _line(entry: Request | Failure) -> str:
    if isinstance(entry, Failure):
        return f"Failed: {entry.request.words}: {entry.text}"
    return f"{entry.words}, {entry.settings.preset}"


def _about(entry: Request | Failure) -> str:
    """A row in full."""
    if isinstance(entry, Failure):
        return _line(entry)
    settings = entry.settings
    models = {TRAIN: "a model trained on these particles", LAST: "the model trained last"}
    model = models.get(str(entry.model), f"the model in {entry.model}")
    classes = "classes chosen from the data" if settings.classes is None else f"{settings.classes} classes"
    return f"{entry.words}: preset {settings.preset}, {classes}, {', '.join(settings.transforms)}, with {model}."
