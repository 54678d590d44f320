"""What may be chosen for subtomograms alone: where the search starts, symmetry, references."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFileDialog, QFormLayout, QLineEdit, QWidget

from napari_harmony.engine.settings import Settings
from napari_harmony.errors import InputError

if TYPE_CHECKING:
    from napari_harmony.particles.dataset import Particles

SEARCH, NEAR, FREE = "search", "near", "free"
NONE, OPEN, CHOSEN = "none", "open", "chosen"
_STARTS = {
    SEARCH: "everywhere",
    NEAR: "near the input's orientations",
    FREE: "near the input's axis, any turn about it",
}
_START_TIP = (
    "Where orientations are looked for: everywhere; near those that the particles come with; or near the direction of "
    "their z axis with any turn about it, as for filaments."
)
_REACH_TIP = "How far orientations may go from those of the input; auto: 30 degrees."
_REACH_UNUSED = "For a search near the input's orientations: choose it above."
_SYMMETRY_TIP = "Point group of the particles: C1 for none, C2, C3 ... about one axis, D2, D3 ... with two-fold axes."
_REFERENCE_TIP = "Volumes that the classes start from; their fine detail is not used."
_TILTS = ("rlnAngleTilt", "rlnAngleTiltPrior")


class VolumeOptions(QWidget):
    """Rows of the form that are there for subtomograms.

    Signals
    -------
    changed : after every edit
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._references: tuple[str, ...] = ()
        self._lowpass = Settings().reference_lowpass
        self.start_box, self.reference_box = QComboBox(), QComboBox()
        for key, words in _STARTS.items():
            self.start_box.addItem(words, key)
        self.start_box.setToolTip(_START_TIP)
        self.reach_spin = QDoubleSpinBox()
        self.reach_spin.setRange(0.0, 180.0)
        self.reach_spin.setDecimals(1)
        self.reach_spin.setSuffix("\N{DEGREE SIGN}")
        self.reach_spin.setSpecialValueText("auto")
        self.symmetry_edit = QLineEdit("C1")
        self.symmetry_edit.setToolTip(_SYMMETRY_TIP)
        self.reference_box.addItem("none", NONE)
        self.reference_box.addItem("open volumes...", OPEN)
        self.reference_box.setToolTip(_REFERENCE_TIP)
        for box in (self.start_box, self.reference_box):
            box.setMinimumContentsLength(8)  # a long name must not widen the dock
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._arrange()
        self._connect()

    def _arrange(self) -> None:
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(4)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Search", self.start_box)
        form.addRow("Within", self.reach_spin)
        form.addRow("Symmetry", self.symmetry_edit)
        form.addRow("References", self.reference_box)

    def _connect(self) -> None:
        self.start_box.currentIndexChanged.connect(self._on_start_chosen)
        self.reach_spin.valueChanged.connect(self.changed)
        self.symmetry_edit.textChanged.connect(self.changed)
        self.reference_box.activated.connect(self._on_reference_chosen)
        self._on_start_chosen()

    # -- values -----------------------------------------------------------------------------------------------------

    def into(self, settings: Settings) -> Settings:
        """``settings`` with what is shown here; raises ``InputError`` for a symmetry that does not exist."""
        start = self.start_box.currentData()
        return replace(
            settings,
            start="search" if start == SEARCH else "input",
            local_search=None if start == SEARCH else self.reach_spin.value() or None,
            free_rot=start == FREE,
            symmetry=self._symmetry(),
            references=self._references,
            reference_lowpass=self._lowpass,
        )

    def show_settings(self, settings: Settings) -> None:
        """Show these settings."""
        start = SEARCH if settings.start == "search" else FREE if settings.free_rot else NEAR
        self.start_box.setCurrentIndex(self.start_box.findData(start))
        self.reach_spin.setValue(settings.local_search or 0.0)
        self.symmetry_edit.setText(settings.symmetry)
        self._lowpass = settings.reference_lowpass
        self.set_references(settings.references)

    def set_references(self, paths: tuple[str, ...]) -> None:
        """Start from these volumes; from none where there are none."""
        self._references = paths
        index = self.reference_box.findData(CHOSEN)
        if index >= 0:
            self.reference_box.removeItem(index)
        if paths:
            self.reference_box.insertItem(1, ", ".join(Path(path).name for path in paths), CHOSEN)
            self.reference_box.setItemData(1, "\n".join(paths), 3)  # 3: Qt.ItemDataRole.ToolTipRole
        self.reference_box.setCurrentIndex(1 if paths else 0)
        self.changed.emit()

    def problems(self, particles: Particles, transforms: tuple[str, ...]) -> dict[QWidget, str]:
        """What is wrong with the fields for these particles and transformations."""
        found: dict[QWidget, str] = {}
        try:
            Settings(symmetry=self._symmetry())
        except InputError:
            found[self.symmetry_edit] = "The symmetry must be C1, C2, C3 ... or D2, D3 ..."
        if self.start_box.currentData() != SEARCH and not any(name in particles.table for name in _TILTS):
            found[self.start_box] = "These particles come without orientations to search near."
        elif self.start_box.currentData() == FREE and "rotation" not in transforms:
            found[self.start_box] = "A free turn about the axis needs rotation among the transforms."
        return found

    def _symmetry(self) -> str:
        return self.symmetry_edit.text().strip().upper()

    def _on_start_chosen(self) -> None:
        near = self.start_box.currentData() != SEARCH
        self.reach_spin.setEnabled(near)
        self.reach_spin.setToolTip(_REACH_TIP if near else _REACH_UNUSED)
        self.changed.emit()

    def _on_reference_chosen(self, _index: int) -> None:
        kind = self.reference_box.currentData()
        if kind == NONE:
            self.set_references(())
        elif kind == OPEN:
            paths, _ = QFileDialog.getOpenFileNames(self, "Open references", "", "Volumes (*.mrc *.map *.rec)")
            self.set_references(tuple(paths) or self._references)
