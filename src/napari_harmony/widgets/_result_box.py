"""The part of the Harmony dock that speaks of a finished run: what came out, and where to go from here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QGroupBox, QLabel, QPushButton, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from napari_harmony.results import Result

LEAKAGE_TIP = (
    "How much the content code tells of a particle's rotation, shift and contrast, from 0 % for nothing to 100 %. Over "
    "about 20 % classes may be poses instead of contents: train again with 'independence' (under Advanced), or with a "
    "more thorough preset. Some of it can be true, where contents lie in preferred ways."
)
MAP_TIP = "Put the class average of every particle into the tomogram it was cut from, in its place and orientation."


class ResultBox(QGroupBox):
    """Summary of the result and what can be done with it.

    Signals
    -------
    class_wanted(int) : show the particles of this class
    """

    class_wanted = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Result", parent)
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        self.warnings = QLabel()
        self.warnings.setWordWrap(True)
        self.warnings.setStyleSheet("color: #e0a030;")
        self.leakage = QLabel()
        self.leakage.setWordWrap(True)
        self.leakage.setToolTip(LEAKAGE_TIP)
        self.class_box = QComboBox()
        self.class_box.setMinimumContentsLength(8)
        self.class_box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.class_box.setToolTip("A class, with its particles; a click on a class average chooses it too.")
        self.class_button = QPushButton("Show class")
        self.class_button.setToolTip(
            "Add the aligned particles of this class as a layer, and select them in the table."
        )
        self.table_button = QPushButton("Open table")
        self.table_button.setToolTip("Open the Transforms table: one row per particle.")
        self.save_button = QPushButton("Save result...")
        self.save_button.setToolTip("Write particles.star, class averages, model and report into a folder.")
        self.model_button = QPushButton("Save model...")
        self.model_button.setToolTip("Write the trained model into a folder, to use it on other particles.")
        self.map_button = QPushButton("Map back")
        self.map_button.setToolTip(MAP_TIP)
        self.navigate_button = QPushButton("Navigate...")
        self.navigate_button.setToolTip(
            "Open the Content navigator: sliders for what differs between the particles, movies, and one particle's "
            "content in another's pose."
        )
        self.class_button.clicked.connect(lambda: self.class_wanted.emit(self.class_box.currentData()))

        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        for i, widget in enumerate(
            (
                self.class_box,
                self.class_button,
                self.save_button,
                self.table_button,
                self.model_button,
                self.navigate_button,
                self.map_button,
            )
        ):
            grid.addWidget(widget, i // 2, i % 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 6)
        layout.addWidget(self.summary)
        layout.addWidget(self.warnings)
        layout.addWidget(self.leakage)
        layout.addLayout(grid)

    def show_result(self, result: Result | None, model: object) -> None:
        """Speak of this result; hidden where there is neither a result nor a model."""
        self.setVisible(result is not None or model is not None)
        for widget in (self.class_box, self.class_button, self.table_button, self.save_button, self.navigate_button):
            widget.setVisible(result is not None)
        self.map_button.setVisible(result is not None and result.dimensions == 3)
        self.model_button.setVisible(model is not None)
        self.summary.setText(summary(result) if result is not None else "A model is trained: Align uses it.")
        warnings = "\n".join(w[:1].upper() + w[1:] for w in result.warnings) if result is not None else ""
        self.warnings.setText(warnings)
        self.warnings.setVisible(bool(warnings))
        self.leakage.setText(leakage(result) if result is not None else "")
        self.leakage.setVisible(bool(self.leakage.text()))
        self.class_box.clear()
        if result is not None:
            for number, count in enumerate(result.counts, start=1):
                self.class_box.addItem(f"class {number} ({count:,})", number)
            unassigned = len(result.members(0))
            if unassigned:
                self.class_box.addItem(f"no class ({unassigned:,})", 0)

    def choose_class(self, number: int) -> None:
        """Choose a class in the list."""
        self.class_box.setCurrentIndex(max(0, self.class_box.findData(number)))


def summary(result: Result) -> str:
    """One or two sentences about a result."""
    classified = int(result.counts.sum())
    text = f"{classified:,} of {len(result):,} particles in {result.classes} class{'es' if result.classes != 1 else ''}"
    finite = result.resolution[np.isfinite(result.resolution)]
    if len(finite):
        text += f", best {finite.min():.1f} \N{ANGSTROM SIGN}"
    flagged = result.flag_counts
    if flagged:
        text += "; flagged: " + ", ".join(f"{count:,} {word}" for word, count in flagged.items())
    return text + "."


def leakage(result: Result) -> str:
    """What the content tells of the transformations, in a line; nothing where it was not measured."""
    found = result.summary.get("leakage")
    if not found:
        return ""
    parts = ", ".join(f"{name} {_percent(leak)}" for name, leak in found["factors"].items())
    return f"Leakage of poses into content: {_percent(found['overall'])} ({parts})."


def _percent(leak: dict[str, float]) -> str:
    return f"{100 * leak['share']:.0f} %"
