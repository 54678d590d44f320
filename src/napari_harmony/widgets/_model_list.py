"""The models of a library as a list: name, kind, and whether each fits the particles at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QModelIndex, QSize, Qt, Signal
from qtpy.QtGui import QBrush, QColor
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTreeWidget, QTreeWidgetItem, QWidget

from napari_harmony.library import Entry, mismatch, why_not_rescaled
from napari_harmony.models.bundled import WORD

if TYPE_CHECKING:
    from napari_harmony.particles.dataset import Particles

NAME, KIND, FITS = range(3)
_ROW = 20  # pixels
_RED = QBrush(QColor("#e05252"))


class ModelList(QTreeWidget):
    """One row per model; names of own models are edited in place (F2).

    Signals
    -------
    chosen(Entry | None) : the row that the user stands on
    activated_entry(Entry) : Enter or a double click
    renamed(Entry, str) : the user typed another name; the list shows the old one until the library has changed
    """

    chosen = Signal(object)
    activated_entry = Signal(object)
    renamed = Signal(object, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._entries: list[Entry] = []
        self.setHeaderLabels(["Model", "Of", "Fits"])
        self.setRootIsDecorated(False)
        self.setUniformRowHeights(True)
        self.setAllColumnsShowFocus(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.EditKeyPressed)
        self.setAccessibleName("Models")
        self.setToolTip("Enter: use in the Harmony dock. F2: rename. Delete: delete.")
        header = self.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        for column in (KIND, FITS):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        self.currentItemChanged.connect(lambda _now, _before: self.chosen.emit(self.entry))
        self.itemActivated.connect(lambda _item, _column: self._on_activated())
        self.itemChanged.connect(self._on_changed)

    @property
    def entry(self) -> Entry | None:
        """The model that the user stands on."""
        index = self.indexOfTopLevelItem(self.currentItem()) if self.currentItem() is not None else -1
        return self._entries[index] if 0 <= index < len(self._entries) else None

    def show_entries(self, entries: list[Entry], particles: Particles | None, current: str | None = None) -> None:
        """Show these models, and stand on the one of that name, or where the user stood."""
        row = self.currentIndex().row()
        name = current if current is not None else self.entry.name if self.entry is not None else ""
        self.blockSignals(True)
        self.clear()
        self._entries = entries
        for entry in entries:
            self.addTopLevelItem(_item(entry, particles))
        found = next((i for i, entry in enumerate(entries) if entry.name == name), min(max(row, 0), len(entries) - 1))
        if entries:
            self.setCurrentItem(self.topLevelItem(found))
        self.blockSignals(False)
        self.setColumnHidden(FITS, particles is None)
        self.chosen.emit(self.entry)

    def begin_rename(self) -> None:
        """Edit the name of the model that the user stands on."""
        item = self.currentItem()
        if item is not None:
            self.editItem(item, NAME)

    def edit(self, index: QModelIndex, *more: object) -> bool:
        """Of a row only the name is edited, wherever in the row the user stands."""
        return super().edit(index.siblingAtColumn(NAME), *more) if more else super().edit(index)

    def _on_activated(self) -> None:
        if self.entry is not None:
            self.activated_entry.emit(self.entry)

    def _on_changed(self, item: QTreeWidgetItem, column: int) -> None:
        entry = self._entries[self.indexOfTopLevelItem(item)]
        text = item.text(NAME)
        if column != NAME or text == entry.title:
            return
        self.blockSignals(True)
        item.setText(NAME, entry.title)
        self.blockSignals(False)
        self.renamed.emit(entry, text)


def _item(entry: Entry, particles: Particles | None) -> QTreeWidgetItem:
    card = entry.card
    kind = "" if card is None else "subtomograms" if card.dimensions == 3 else "images"
    item = QTreeWidgetItem([entry.title, kind, _fit(entry, particles)])
    item.setSizeHint(NAME, QSize(0, _ROW))
    if not entry.bundled:
        item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
    if entry.problem:
        item.setForeground(NAME, _RED)
        item.setToolTip(NAME, entry.problem)
    elif entry.bundled:
        item.setToolTip(NAME, f"Comes with napari-harmony; on the command line: --model {WORD}")
    return item


def _fit(entry: Entry, particles: Particles | None) -> str:
    """One word on whether the model can be used on the particles."""
    if entry.problem or entry.card is None:
        return "broken"
    if particles is None:
        return ""
    if not mismatch(entry.card, particles):
        return "yes"
    return "no" if why_not_rescaled(entry.card, particles) else "rescaled"
