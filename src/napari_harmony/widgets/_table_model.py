"""A table of 100k particles that sorts and filters in the blink of an eye: numpy columns and one order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from qtpy.QtCore import QAbstractTableModel, QItemSelection, QModelIndex, Qt
from qtpy.QtGui import QFont

from napari_harmony.widgets._columns import COLUMNS, FLAGS, PARTICLE, columns_for, sort_keys, values_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    from napari_harmony.results import Result

_ROOT = QModelIndex()
_RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)


@dataclass(frozen=True)
class Filter:
    """Which rows are shown.

    ``class_number`` None: all; ``score``: lowest and highest, both included; ``flag``: "" for all rows, ``NO_FLAG`` for
    rows without any, else the word that must be among the flags.
    """

    class_number: int | None = None
    score: tuple[float, float] = (-np.inf, np.inf)
    flag: str = ""


NO_FLAG = "-"


class TransformsModel(QAbstractTableModel):
    """Rows are the particles of a result that pass the filter, in the chosen order.

    ``ids`` maps rows to particle ids. Sorting and filtering touch index arrays only; no value is copied or formatted
    until the view asks for it.
    """

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._values: list[NDArray[Any]] = []
        self._keys: list[NDArray[Any] | None] = []
        self._flags: dict[str, NDArray[np.bool_]] = {}
        self._order = self._mask = self._rows = np.empty(0, dtype=np.int64)
        self._pixel_size = 1.0
        self._current = -1
        #: the columns shown
        self.columns = COLUMNS
        self._bold = QFont()
        self._bold.setBold(True)
        #: ids of the particles shown, row after row, shape (rows,)
        self.ids: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def set_result(self, result: Result | None) -> None:
        """Show another result, unsorted and unfiltered."""
        self.beginResetModel()
        self.columns = columns_for(result)
        self._values = [values_of(result, c) for c in self.columns] if result is not None else []
        self._keys = [None] * len(self._values)
        self._flags = {}
        self._pixel_size = result.pixel_size if result is not None else 1.0
        self._order = np.arange(len(result) if result is not None else 0)
        self._mask = np.ones(len(self._order), dtype=bool)
        self._current = -1
        self._refresh()
        self.endResetModel()

    def values(self, key: str) -> NDArray[Any]:
        """A column in input order, shape (n,); empty without a result."""
        position = next(i for i, c in enumerate(self.columns) if c.key == key)
        return self._values[position] if self._values else np.empty(0)

    def set_filter(self, chosen: Filter) -> None:
        """Show only the rows that pass."""
        if not self._values:
            return
        mask = np.ones(len(self._order), dtype=bool)
        if chosen.class_number is not None:
            mask &= self.values("class_number") == chosen.class_number
        low, high = chosen.score
        if np.isfinite(low) or np.isfinite(high):
            score = self.values("score")
            mask &= (score >= low) & (score <= high)
        if chosen.flag:
            mask &= self._has_flag(chosen.flag)
        self.beginResetModel()
        self._mask = mask
        self._refresh()
        self.endResetModel()

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column, stably; a column below 0 restores the input order. NaN goes last either way."""
        if not self._values:
            return
        # a reset, for a change of layout would have Qt follow every selected row by itself
        self.beginResetModel()
        if column < 0:
            self._order = np.arange(len(self._mask))
        else:
            keys = self._sort_keys(column)
            if order == Qt.SortOrder.DescendingOrder:
                keys = -keys
            self._order = np.argsort(keys, kind="stable")
        self._refresh()
        self.endResetModel()

    def rows_of(self, ids: ArrayLike) -> NDArray[np.int64]:
        """Rows of the given particles, sorted; particles the filter hides have none."""
        wanted = np.asarray(ids, dtype=np.int64)
        rows = self._rows[wanted[wanted < len(self._rows)]]
        return np.sort(rows[rows >= 0])

    def selection_of(self, ids: ArrayLike) -> QItemSelection:
        """The rows of the given particles as a Qt selection of as few ranges as possible."""
        selection = QItemSelection()
        rows = self.rows_of(ids)
        last = self.columnCount() - 1
        for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
            if len(run):
                selection.select(self.index(int(run[0]), 0), self.index(int(run[-1]), last))
        return selection

    def set_current(self, particle: int) -> None:
        """Mark the particle the viewer stands at (its row is bold)."""
        before, self._current = self._current, particle
        for row in self.rows_of([p for p in (before, particle) if p >= 0]):
            last = self.index(int(row), self.columnCount() - 1)
            self.dataChanged.emit(self.index(int(row), 0), last, [Qt.ItemDataRole.FontRole])

    def text(self, rows: Iterable[int]) -> str:
        """Rows as tab-separated text with a line of headings: what Ctrl+C copies."""
        lines = ["\t".join(c.heading for c in self.columns)]
        for particle in self.ids[np.asarray(list(rows), dtype=np.int64)]:
            lines.append("\t".join(c.text(v[particle]) for c, v in zip(self.columns, self._values, strict=True)))
        return "\n".join(lines)

    def rowCount(self, parent: QModelIndex = _ROOT) -> int:
        return 0 if parent.isValid() else len(self.ids)

    def columnCount(self, parent: QModelIndex = _ROOT) -> int:
        return 0 if parent.isValid() else len(self.columns)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid() or index.row() >= len(self.ids):
            return None
        particle, column = self.ids[index.row()], self.columns[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return column.text(self._values[index.column()][particle])
        if role == Qt.ItemDataRole.TextAlignmentRole and column.decimals is not None:
            return _RIGHT
        if role == Qt.ItemDataRole.FontRole and particle == self._current:
            return self._bold
        if role == Qt.ItemDataRole.ToolTipRole and column.unit == "px":
            return f"{self._values[index.column()][particle] * self._pixel_size:.2f} \N{ANGSTROM SIGN}"
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation == Qt.Orientation.Horizontal and 0 <= section < len(self.columns):
            if role == Qt.ItemDataRole.DisplayRole:
                return self.columns[section].heading
            if role == Qt.ItemDataRole.ToolTipRole:
                return self.columns[section].meaning
        return None

    def _refresh(self) -> None:
        self.ids = self._order[self._mask[self._order]]
        self._rows = np.full(len(self._mask), -1, dtype=np.int64)
        self._rows[self.ids] = np.arange(len(self.ids))

    def _sort_keys(self, column: int) -> NDArray[Any]:
        keys = self._keys[column]
        if keys is None:
            keys = self._keys[column] = sort_keys(self._values[column])
        return keys

    def _has_flag(self, word: str) -> NDArray[np.bool_]:
        if word not in self._flags:
            codes, known = pd.factorize(self.values(FLAGS))
            passes = [entry == "" if word == NO_FLAG else word in entry.split(",") for entry in known]
            self._flags[word] = np.array(passes, dtype=bool)[codes]
        return self._flags[word]


PARTICLE_COLUMN = next(i for i, c in enumerate(COLUMNS) if c.key == PARTICLE)
