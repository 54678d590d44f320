"""Objectives to train for besides Harmony's own: a box to tick and a strength for each."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QGridLayout, QWidget

from napari_harmony.additions import ADDITIONS, Addition

_STRENGTH_TIP = "How much it counts; 1 is a sensible default."
_TICK_FIRST = "Tick the objective first."
_TIME_TIP = "Training then takes several times as long; classes and poses come from the search as before."
_WORDS = {"loocc": "LOOCC", "independence": "independence", "diffusion": "diffusion"}


class AdditionsBox(QWidget):
    """One row per objective.

    Signals
    -------
    changed : after every edit
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.boxes = {name: QCheckBox(_WORDS[name]) for name in ADDITIONS}
        self.strengths = {name: QDoubleSpinBox() for name in ADDITIONS}
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(2)
        for row, name in enumerate(ADDITIONS):
            box, spin = self.boxes[name], self.strengths[name]
            spin.setRange(0.05, 20.0)
            spin.setSingleStep(0.25)
            spin.setValue(1.0)
            box.toggled.connect(self._on_ticked)
            box.toggled.connect(self.changed)
            spin.valueChanged.connect(self.changed)
            grid.addWidget(box, row, 0)
            grid.addWidget(spin, row, 1)
        self.set_reason("")

    def set_reason(self, reason: str) -> None:
        """Why nothing can be added, which is then disabled; "" where it can."""
        self.setEnabled(not reason)
        self._reason = reason
        for name, words in ADDITIONS.items():
            self.boxes[name].setToolTip(reason or f"{words} {_TIME_TIP}")
        self._on_ticked()

    def _on_ticked(self, _ticked: bool = False) -> None:
        for name, spin in self.strengths.items():
            ticked = self.boxes[name].isChecked()
            spin.setEnabled(ticked)
            spin.setToolTip(self._reason or (_STRENGTH_TIP if ticked else _TICK_FIRST))

    @property
    def additions(self) -> tuple[Addition, ...]:
        """What is ticked."""
        ticked = (name for name, box in self.boxes.items() if box.isChecked())
        return tuple(Addition(name, round(self.strengths[name].value(), 2)) for name in ticked)

    def show_additions(self, additions: tuple[Addition, ...]) -> None:
        """Tick these and no others."""
        strengths = {addition.name: addition.strength for addition in additions}
        for name, box in self.boxes.items():
            box.setChecked(name in strengths)
            self.strengths[name].setValue(strengths.get(name, 1.0))
