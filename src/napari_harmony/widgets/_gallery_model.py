"""The classes of a result as rows: what stands under each tile, in which order, and how much of it is selected."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QAbstractListModel, QModelIndex, QObject, Qt

from napari_harmony._map_back import class_colours
from napari_harmony.edits import averaged_again, due_averages, junked_from

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.results import Result

#: A ``Tile`` for the delegate.
TILE_ROLE = Qt.ItemDataRole.UserRole


class Order(Enum):
    """What the tiles can be sorted by."""

    COUNT = "count"
    RESOLUTION = "resolution"
    SCORE = "score"
    NUMBER = "number"


class Lit(Enum):
    """How much of a class is selected."""

    NONE = 0
    SOME = 1
    ALL = 2


@dataclass(frozen=True)
class Tile:
    """One class as it is drawn.

    Attributes
    ----------
    number : of the class
    count : particles in it
    junked : particles that were junked from it by hand and can be restored
    resolution : angstrom, NaN for none; ``shared`` where its half sets have the poses of one run
    score : mean of its particles
    due : its average does not show its particles yet
    lit, share : how much of it is selected; 0 to 1
    colour : (red, green, blue), 0 to 255
    """

    number: int
    count: int
    junked: int
    resolution: float
    shared: bool
    score: float
    due: bool
    lit: Lit
    share: float
    colour: tuple[int, int, int]

    @property
    def lines(self) -> tuple[str, str]:
        """What stands under the picture."""
        if not self.count:
            return "junk", f"{self.junked:,} to restore"
        return f"{self.count:,}", "averaging" if self.due else self.resolution_words

    @property
    def resolution_words(self) -> str:
        """The resolution, "~" before an upper bound."""
        if not np.isfinite(self.resolution):
            return "no resolution"
        return f"{'~' if self.shared else ''}{self.resolution:.1f} \N{ANGSTROM SIGN}"

    @property
    def words(self) -> str:
        """All of it, for the tooltip and for screen readers."""
        if not self.count:
            return f"Class {self.number}: junk; {self.junked:,} particles can be restored."
        parts = [f"Class {self.number}: {self.count:,} particle{'s' if self.count != 1 else ''}"]
        if self.due:
            parts.append("the picture is of before the last edits")
        elif np.isfinite(self.resolution):
            parts.append(f"{self.resolution:.1f} \N{ANGSTROM SIGN} (half-set correlation 0.143)")
            if self.shared:
                parts.append("an upper bound, for both half sets have the poses of one run")
        else:
            parts.append("its half sets do not agree beyond chance")
        if np.isfinite(self.score):
            parts.append(f"mean score {self.score:.3f}")
        if self.lit is Lit.SOME:
            parts.append(f"{self.share:.0%} of it selected")
        return "; ".join(parts) + "."


class GalleryModel(QAbstractListModel):
    """One row per class that has particles, or junk to be restored; those without particles come last."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.result: Result | None = None
        self.order, self.descending = Order.COUNT, True
        self.numbers: NDArray[np.int64] = np.empty(0, np.int64)
        self._member: NDArray[np.int64] = np.empty(0, np.int64)
        self._chosen: NDArray[np.int64] = np.empty(0, np.int64)
        self._clear()

    def _clear(self) -> None:
        nothing = np.zeros(1, np.int64)
        self._counts = self._junked = self._selected = nothing
        self._score = np.full(1, np.nan)
        self._due: set[int] = set()
        self._again: set[int] = set()
        self._colours: NDArray[np.int64] = np.empty((0, 3), np.int64)

    # -- what is shown ----------------------------------------------------------------------------------------------

    def set_result(self, result: Result | None) -> None:
        """Show the classes of another result."""
        self.beginResetModel()
        self.result = result
        self._clear()
        if result is not None:
            table, size = result.table, result.classes + 1
            number = table["class_number"].to_numpy()
            junked = junked_from(result)
            self._member = np.where(number > 0, number, junked)
            self._counts = np.bincount(number, minlength=size)
            self._junked = np.bincount(junked, minlength=size) * (np.arange(size) > 0)
            total = np.bincount(number, weights=np.nan_to_num(table["score"].to_numpy(float)), minlength=size)
            self._score = np.divide(total, self._counts, out=np.full(size, np.nan), where=self._counts > 0)
            self._due, self._again = set(due_averages(result)), set(averaged_again(result))
            self._colours = np.rint(255 * class_colours(result.classes)[:, :3]).astype(int)
            self._selected = np.zeros(size, np.int64)
        self._sort()
        self.endResetModel()

    def set_order(self, order: Order, descending: bool) -> None:
        """Sort the tiles; a class without a value, and one without particles, comes last either way."""
        self.layoutAboutToBeChanged.emit()
        before, kept = self.numbers, self.persistentIndexList()
        self.order, self.descending = order, descending
        self._sort()
        rows = {int(number): row for row, number in enumerate(self.numbers)}
        self.changePersistentIndexList(kept, [self.index(rows[int(before[index.row()])]) for index in kept])
        self.layoutChanged.emit()

    def _sort(self) -> None:
        if self.result is None:
            self.numbers = np.empty(0, np.int64)
            return
        numbers = np.flatnonzero((self._counts + self._junked) > 0)
        numbers = numbers[numbers > 0]
        values = {
            Order.COUNT: self._counts[numbers].astype(float),
            Order.RESOLUTION: self.result.resolution[numbers - 1].astype(float),
            Order.SCORE: self._score[numbers],
            Order.NUMBER: numbers.astype(float),
        }[self.order]
        values = np.where(np.isfinite(values), -values if self.descending else values, np.inf)
        self.numbers = numbers[np.lexsort((numbers, values, self._counts[numbers] == 0))]

    def set_selection(self, ids: NDArray[np.int64]) -> None:
        """Light the classes of the selected particles."""
        self._chosen = ids
        if self.result is None:
            return
        size = self.result.classes + 1
        self._selected = np.bincount(self._member[ids], minlength=size) if len(ids) else np.zeros(size, np.int64)
        if len(self.numbers):
            self.dataChanged.emit(self.index(0), self.index(len(self.numbers) - 1), [TILE_ROLE])

    # -- classes and rows -------------------------------------------------------------------------------------------

    def members(self, numbers: NDArray[np.int64] | list[int]) -> NDArray[np.int64]:
        """Particles of some classes, junk that waits to be restored for those without particles."""
        if self.result is None:
            return np.empty(0, np.int64)
        chosen = np.zeros(len(self._counts), dtype=bool)
        chosen[np.asarray(numbers, np.int64)] = True
        waiting = chosen & (self._counts == 0)
        number = self.result.table["class_number"].to_numpy()
        return np.flatnonzero(np.where(number > 0, chosen[number], waiting[self._member]))

    def row_of(self, number: int) -> int | None:
        """The row of a class, None where it is not shown."""
        found = np.flatnonzero(self.numbers == number)
        return int(found[0]) if len(found) else None

    def lit_rows(self, lit: Lit) -> NDArray[np.int64]:
        """Rows of classes of which so much is selected."""
        return np.flatnonzero([self._lit(int(number)) is lit for number in self.numbers])

    def _whole(self, number: int) -> int:
        return int(self._counts[number] or self._junked[number])

    def _lit(self, number: int) -> Lit:
        chosen = int(self._selected[number])
        return Lit.NONE if not chosen else Lit.ALL if chosen >= self._whole(number) else Lit.SOME

    def tile(self, row: int) -> Tile:
        """What is drawn in a row."""
        assert self.result is not None
        number = int(self.numbers[row])
        red, green, blue = (int(value) for value in self._colours[number - 1])
        return Tile(
            number,
            int(self._counts[number]),
            int(self._junked[number]),
            float(self.result.resolution[number - 1]),
            number in self._again,
            float(self._score[number]),
            number in self._due,
            self._lit(number),
            min(1.0, float(self._selected[number] / max(1, self._whole(number)))),
            (red, green, blue),
        )

    # -- Qt ---------------------------------------------------------------------------------------------------------

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """How many tiles there are."""
        return 0 if parent is not None and parent.isValid() else len(self.numbers)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """The tile, or its words."""
        if not index.isValid() or index.row() >= len(self.numbers):
            return None
        if role == TILE_ROLE:
            return self.tile(index.row())
        if role in (Qt.ItemDataRole.ToolTipRole, Qt.ItemDataRole.AccessibleTextRole):
            return self.tile(index.row()).words
        return str(self.numbers[index.row()]) if role == Qt.ItemDataRole.DisplayRole else None
