"""What can be done with the chosen classes: keep, junk, restore, merge, split, run on them again; undo and redo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QPoint, Qt, Signal
from qtpy.QtGui import QKeyEvent, QKeySequence
from qtpy.QtWidgets import QGridLayout, QMenu, QPushButton, QWidget

from napari_harmony.edits import Edit, Junk, Keep, Merge, Renumber, Restore, Split
from napari_harmony.edits.kinds import class_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.results import Result
    from napari_harmony.session import Session
    from napari_harmony.widgets._editing import Editing

NO_RESULT = "There is no result yet."
NOTHING = "Choose classes first: click, Ctrl or Shift and click, or Ctrl+A."
RUNNING = "A run is at work: its result will replace this one."
EDITING = "The last edit is still being carried out."


@dataclass(frozen=True)
class Entry:
    """A button: its text, what it does, and its key, in words for people and for Qt."""

    name: str
    text: str
    tip: str
    key: str
    code: Qt.Key | QKeySequence.StandardKey


ENTRIES = (
    Entry("keep", "Keep only", "Junk all classes but those chosen", "K", Qt.Key.Key_K),
    Entry("junk", "Junk", "Junk the chosen classes; they can be restored", "Del", QKeySequence.StandardKey.Delete),
    Entry("restore", "Restore", "Give the chosen classes back what was junked from them by hand", "U", Qt.Key.Key_U),
    Entry("merge", "Merge", "Put all chosen classes into the first of them, turned into its frame", "M", Qt.Key.Key_M),
    Entry("split", "Split", "Split the chosen class in two by the content codes of its particles", "S", Qt.Key.Key_S),
    Entry(
        "rerun",
        "Re-run...",
        "Open the Harmony dock on a new layer of the particles of these classes",
        "R",
        Qt.Key.Key_R,
    ),
    Entry("undo", "Undo", "Take the last edit back", "Ctrl+Z", QKeySequence.StandardKey.Undo),
    Entry("redo", "Redo", "Make it again", "Ctrl+Shift+Z", QKeySequence.StandardKey.Redo),
    Entry("renumber", "Renumber", "Number the classes anew from the largest, without gaps", "N", Qt.Key.Key_N),
)


class GalleryActions(QWidget):
    """Buttons, keys and a menu for the chosen classes.

    Signals
    -------
    rerun_wanted() : run on the particles of the chosen classes alone
    """

    rerun_wanted = Signal()

    def __init__(
        self, session: Session, editing: Editing, attempt: Callable[[Callable[[], Any]], None], parent: QWidget
    ) -> None:
        super().__init__(parent)
        self._session, self._editing, self._attempt = session, editing, attempt
        self._chosen: tuple[int, ...] = ()
        self._counts: NDArray[np.int64] = np.zeros(0, np.int64)
        self.buttons = {entry.name: QPushButton(entry.text) for entry in ENTRIES}
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for place, entry in enumerate(ENTRIES):
            button = self.buttons[entry.name]
            button.clicked.connect(lambda _checked=False, name=entry.name: self.do(name))
            layout.addWidget(button, place // 3, place % 3)

    # -- what is possible -------------------------------------------------------------------------------------------

    def set_chosen(self, classes: tuple[int, ...]) -> None:
        """The classes that are chosen, in the order in which they should be merged."""
        self._chosen = classes
        self.update_buttons()

    def update_buttons(self) -> None:
        """Enable what can be done, and say why the rest cannot."""
        result = self._session.result
        self._counts = np.zeros(0, np.int64) if result is None else result.counts
        for entry in ENTRIES:
            why, button = self.why_not(entry.name), self.buttons[entry.name]
            button.setEnabled(not why)
            button.setToolTip(why or f"{self._tip(entry)} ({entry.key}).")

    def _tip(self, entry: Entry) -> str:
        if entry.name == "merge":
            first, *others = self._full()
            return f"Put {class_words(tuple(others))} into class {first}, the first chosen, turned into its frame"
        words = {"undo": self._session.undo_words, "redo": self._session.redo_words}.get(entry.name)
        return f"{entry.tip}: {words}" if words else entry.tip

    def why_not(self, name: str) -> str:
        """Why something cannot be done now, or ""."""
        result = self._session.result
        if result is None:
            return NO_RESULT
        if name != "rerun" and self._session.state.busy:
            return RUNNING
        if self._editing.busy:
            return EDITING
        if name == "undo":
            return "" if self._session.can_undo else "No class was changed yet."
        if name == "redo":
            return "" if self._session.can_redo else "Nothing was taken back."
        if name == "renumber":
            return "" if self._counts.any() else "No class has particles."
        return NOTHING if not self._chosen else self._why_not_these(name, result)

    def _why_not_these(self, name: str, result: Result) -> str:
        full = self._full()
        if name == "restore":
            waiting = len(full) < len(self._chosen) or self._junked()
            return "" if waiting else "Nothing was junked from these classes by hand."
        if not full:
            return "The chosen classes are junk: restore them first."
        if name == "merge" and len(full) < 2:
            return "Choose at least two classes to merge (Ctrl and click)."
        if name == "split" and len(full) > 1:
            return "Choose one class alone to split it."
        if name == "split" and not result.content.shape[1]:
            return "The result holds no content codes to split by."
        if name == "keep" and len(full) == np.count_nonzero(self._counts):
            return "All classes are chosen: there is nothing else to junk."
        if name == "rerun" and self._session.data is None:
            return "The particle images are not open."
        return ""

    def _full(self) -> tuple[int, ...]:
        """The chosen classes that have particles."""
        return tuple(number for number in self._chosen if self._counts[number - 1])

    def _junked(self) -> bool:
        record = self._session.result.summary.get("junked", {}) if self._session.result is not None else {}
        return any(str(number) in record for number in self._chosen)

    def named(self, event: QKeyEvent) -> str | None:
        """What a key stands for, or None."""
        return next((entry.name for entry in ENTRIES if _is_pressed(entry.code, event)), None)

    # -- doing ------------------------------------------------------------------------------------------------------

    def do(self, name: str) -> None:
        """Do what a button stands for, where it can be done."""
        self.update_buttons()
        if self.why_not(name):
            return
        if name == "rerun":
            self.rerun_wanted.emit()
        elif name in ("undo", "redo"):
            self._attempt(self._session.undo if name == "undo" else self._session.redo)
        else:
            self._attempt(lambda: self._editing.edit(self._edit(name)))

    def _edit(self, name: str) -> Edit:
        full = self._full()
        if name == "merge":
            return Merge(full)
        if name == "split":
            return Split(full[0])
        if name == "renumber":
            return Renumber()
        if name == "restore":
            return Restore(self._chosen)
        return Keep(full) if name == "keep" else Junk(full)

    def show_menu(self, place: QPoint, open_class: Callable[[], Any]) -> None:
        """The same as a menu at a place of the screen."""
        menu = QMenu(self)
        menu.addAction("Show the aligned particles\tEnter", open_class).setEnabled(len(self._chosen) == 1)
        menu.addSeparator()
        for entry in ENTRIES:
            action = menu.addAction(f"{entry.text}\t{entry.key}", lambda name=entry.name: self.do(name))
            action.setEnabled(not self.why_not(entry.name))
        menu.exec(place)
        menu.deleteLater()


def _is_pressed(code: Qt.Key | QKeySequence.StandardKey, event: QKeyEvent) -> bool:
    if isinstance(code, QKeySequence.StandardKey):
        return bool(event.matches(code))
    return event.key() == code and not event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
