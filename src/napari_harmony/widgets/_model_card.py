"""What a model is, in words: the lower half of the *Models* dock."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget
from superqt import QElidingLabel

from napari_harmony.library import Entry, card_facts

_TIPS = {
    "Trained on": "The particles that the model has learned from, and how many they were.",
    "Trained": "The day, and the version of napari-harmony.",
    "Box": "The images that it was trained on; particles must be as wide, or are rescaled.",
    "Network": "The grid on which the network looks at images, and how many numbers say what a particle is.",
    "Mask": "Diameter of the round mask, and how far off centre particles may lie.",
    "Transforms": "What the model finds of each particle apart from its class.",
    "Classes": "How many class averages the model places particles on.",
    "Objective": "What the training made small.",
    "Started from": "The model that this training went on from.",
    "For": "What the model can be used on.",
    "Data": "What the model has seen.",
    "Training": "How long the model was trained, and on what machine.",
    "Figures": "How well it did on particles that it had not seen.",
    "Limits": "What it is not good at.",
}


class ModelCardView(QWidget):
    """The card of one model, or why there is none."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.problem_label = QLabel()
        self.problem_label.setWordWrap(True)
        self.problem_label.setStyleSheet("color: #e05252;")
        self.path_label = QElidingLabel()
        self.path_label.setElideMode(Qt.TextElideMode.ElideMiddle)
        self.values: dict[str, QLabel] = {}
        self._form = QFormLayout()
        self._form.setContentsMargins(0, 0, 6, 0)
        self._form.setVerticalSpacing(2)
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for about, tip in _TIPS.items():
            value = QLabel()
            value.setWordWrap(True)
            value.setTextFormat(Qt.TextFormat.PlainText)  # names come from files
            value.setTextInteractionFlags(
                Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
            )
            value.setToolTip(tip)
            value.setAccessibleName(about)
            self._form.addRow(about, value)
            self.values[about] = value
        self._form.addRow("Folder", self.path_label)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.problem_label)
        layout.addLayout(self._form)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.show_entry(None)

    def show_entry(self, entry: Entry | None) -> None:
        """Show a model; None: nothing."""
        self.setVisible(entry is not None)
        if entry is None:
            return
        facts = card_facts(entry.card) if entry.card is not None else {}
        for about, value in self.values.items():
            value.setText(facts.get(about, ""))
            self._form.setRowVisible(value, about in facts)
        self.problem_label.setText(entry.problem)
        self.problem_label.setVisible(bool(entry.problem))
        self._show_path(entry.folder)

    def _show_path(self, folder: Path) -> None:
        self.path_label.setText(str(folder))
        self.path_label.setToolTip(str(folder))
