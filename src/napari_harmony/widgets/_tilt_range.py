"""The tilt range of subtomograms, which says where their missing wedge is; it may be unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QHBoxLayout, QLabel, QWidget

from napari_harmony.errors import InputError
from napari_harmony.particles.wedge import TiltRange

if TYPE_CHECKING:
    from napari_harmony.particles.dataset import Particles

_USUAL = 60.0


class TiltRangeEdit(QWidget):
    """A check box for "known" and two angles.

    Signals
    -------
    changed : by the user
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.known = QCheckBox()
        self.known.setToolTip("Whether the tilt range is known; without it no missing wedge is taken into account.")
        self.low, self.high = QDoubleSpinBox(), QDoubleSpinBox()
        for spin, value, which in ((self.low, -_USUAL, "Lowest"), (self.high, _USUAL, "Highest")):
            spin.setRange(-90.0, 90.0)
            spin.setDecimals(1)
            spin.setSuffix("\N{DEGREE SIGN}")
            spin.setValue(value)
            spin.setKeyboardTracking(False)
            spin.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)  # two of them must fit a narrow dock
            spin.setStyleSheet("min-width: 44px;")
            spin.setToolTip(f"{which} tilt of the series, which was tilted about y.")
            spin.valueChanged.connect(self.changed)
        self.known.toggled.connect(self._on_known)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.known)
        layout.addWidget(self.low, 1)
        layout.addWidget(QLabel("to"))
        layout.addWidget(self.high, 1)
        self._on_known(False)

    @property
    def value(self) -> TiltRange | None:
        """The range, or None where it is not known; ask ``problem`` first."""
        return TiltRange(self.low.value(), self.high.value()) if self.known.isChecked() else None

    def set_value(self, value: TiltRange | None) -> None:
        """Show a range, without a signal."""
        self.blockSignals(True)
        if value is not None:
            self.low.setValue(value.low)
            self.high.setValue(value.high)
        self.known.setChecked(value is not None)
        self.blockSignals(False)

    def show_particles(self, particles: Particles | None) -> bool:
        """Show the tilt range of a data set; whether it is one that a tilt range can be given for."""
        wedge = particles.wedge if particles is not None else None
        known = wedge if isinstance(wedge, TiltRange) else None
        self.set_value(known)
        return particles is not None and particles.dimensions == 3 and known is wedge

    def problem(self) -> str:
        """What is wrong with the angles, or nothing."""
        try:
            _ = self.value
        except InputError as error:
            return str(error)[:1].upper() + str(error)[1:]
        return ""

    def _on_known(self, known: bool) -> None:
        self.low.setEnabled(known)
        self.high.setEnabled(known)
        self.changed.emit()
