"""What the navigator dock looks like: its labels, buttons and boxes, and where they are. It decides nothing."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_harmony.widgets._column import Column
from napari_harmony.widgets._navigator_movie import MovieBox
from napari_harmony.widgets._navigator_rows import DirectionRows
from napari_harmony.widgets._navigator_swap import SwapBox
from napari_harmony.widgets._navigator_words import LEAST
from napari_harmony.widgets._run_row import RunRow

_FIND = "Fin&d directions"
_AMONG_TIP = (
    "Particles to look for directions among. Where classes are different molecules, choose one of them: directions are "
    "then what moves within it, and not the way from one molecule to another."
)
_ERROR = "color: #e05252;"
_START_TIP = (
    "Put the sliders where the particle is that the viewer stands at. A click on its picture, or on its row in the "
    "Transforms table, does the same."
)
_SHARP_TIP = "Draw by the diffusion decoder when a slider is let go. It takes longer, so dragging stays quick without."
_NO_SHARP_TIP = "The model has no diffusion decoder: train with 'diffusion' ticked (Advanced) to have one."


class NavigatorPanel(Column):
    """All controls of the dock.

    Parameters
    ----------
    run_row : progress of the dock's work
    """

    def __init__(self, run_row: RunRow, parent: QWidget | None = None) -> None:
        body = QWidget()
        super().__init__(body, parent=parent)
        self._body, self.run_row = body, run_row
        self.status_label, self.message_label, self.place_label = QLabel(), QLabel(), QLabel()
        for label in (self.status_label, self.message_label):
            label.setWordWrap(True)
        self.message_label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.message_label.hide()
        self.among_box = QComboBox()
        self.among_box.setToolTip(_AMONG_TIP)
        self.among_label = QLabel("Amon&g")
        self.among_label.setBuddy(self.among_box)
        self.find_button = QPushButton(_FIND)
        self.open_button, self.save_button = QPushButton("Ope&n..."), QPushButton("Sav&e...")
        self.open_button.setToolTip("Take directions from a navigation.json, of Save or of 'napari-harmony navigate'.")
        self.save_button.setToolTip("Write the directions with their names and scores into a file.")
        self.start_button = QPushButton()
        self.start_button.setToolTip(_START_TIP)
        self.reset_button = QPushButton("Rese&t")
        self.reset_button.setToolTip("All sliders to 0, at the centre of all particles.")
        self.sharp_box = QCheckBox("Sha&rp")
        self.rows, self.movie, self.swap = DirectionRows(), MovieBox(), SwapBox()
        self._arrange()

    def _arrange(self) -> None:
        place = QHBoxLayout()
        place.addWidget(self.place_label, 1)
        place.addWidget(self.sharp_box)
        start = QHBoxLayout()
        start.addWidget(self.start_button, 1)
        start.addWidget(self.reset_button)
        self._found_part = QWidget()
        found = QVBoxLayout(self._found_part)
        found.setContentsMargins(0, 0, 0, 0)
        found.setSpacing(6)
        found.addLayout(place)
        found.addWidget(self.rows)
        found.addLayout(start)
        found.addWidget(self.movie)
        found.addWidget(self.swap)
        among = QHBoxLayout()
        among.addWidget(self.among_label)
        among.addWidget(self.among_box, 1)
        find = QHBoxLayout()
        find.addWidget(self.find_button, 1)
        find.addWidget(self.open_button)
        find.addWidget(self.save_button)
        layout = QVBoxLayout(self._body)
        layout.setSpacing(6)
        layout.addWidget(self.status_label)
        layout.addLayout(among)
        layout.addLayout(find)
        for widget in (self.run_row, self.message_label, self._found_part):
            layout.addWidget(widget)
        layout.addStretch(1)

    def sizeHint(self) -> QSize:
        """As high as the contents, but never more than a small screen has."""
        return QSize(330, min(700, self._body.sizeHint().height()))

    def show_state(self, status: str, reason: str, *, found: bool, busy: bool, sharp: bool) -> None:
        """Enable what can be done.

        Parameters
        ----------
        status : where things stand, in words
        reason : why directions cannot be looked for, or empty
        found : whether there are directions
        busy : whether work is going on
        sharp : whether the model can draw sharp
        """
        self._found_part.setVisible(found)
        self.status_label.setText(status)
        self.find_button.setText("Fin&d anew" if found else _FIND)
        for widget in (self.among_label, self.among_box):
            widget.setVisible(self.among_box.count() > 2)
            widget.setEnabled(not busy)
        self.find_button.setEnabled(not reason and not busy)
        self.find_button.setToolTip(reason or "Look for directions in the content code that each change one thing.")
        self.open_button.setEnabled(not reason and not busy)
        self.save_button.setEnabled(found)
        self.movie.export_button.setEnabled(not busy)
        self.sharp_box.setEnabled(sharp)
        self.sharp_box.setToolTip(_SHARP_TIP if sharp else _NO_SHARP_TIP)
        if not sharp:
            self.sharp_box.setChecked(False)

    def show_classes(self, counts: Sequence[int]) -> None:
        """Offer all particles, or those of one class, to look for directions among; ``counts`` of each class."""
        chosen = self.among_class
        self.among_box.clear()
        self.among_box.addItem("all classes", None)
        for number, count in enumerate(counts, start=1):
            if count >= LEAST:
                self.among_box.addItem(f"class {number} ({count:,})", number)
        self.among_box.setCurrentIndex(max(0, self.among_box.findData(chosen)))

    @property
    def among_class(self) -> int | None:
        """The class to look for directions in, or None for all."""
        return self.among_box.currentData()

    def show_current(self, particle: int) -> None:
        """Offer to start from the particle that the viewer stands at."""
        self.start_button.setText(f"&Start from particle {particle}")

    def say(self, text: str, *, error: bool = False) -> None:
        """Show a sentence; an empty one shows none."""
        self.message_label.setStyleSheet(_ERROR if error else "")
        self.message_label.setText(text)
        self.message_label.setVisible(bool(text))
