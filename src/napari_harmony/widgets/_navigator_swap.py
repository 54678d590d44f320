"""The part of the navigator dock that puts the content of one particle into the pose of another."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QGroupBox, QLabel, QPushButton, QSpinBox, QWidget

SLIDERS, PARTICLE = "sliders", "particle"
_SPIN_WIDTH = 84  # pixels: six digits; what Qt asks for would be too wide for the dock
_USE_TIP = "Take the particle that the viewer stands at."


class SwapBox(QGroupBox):
    """Choose A and B.

    Signals
    -------
    wanted : show A in the pose of B
    changed : another A or B was chosen
    current_wanted(str) : take the viewer's particle as "A" or "B"
    """

    wanted = Signal()
    changed = Signal()
    current_wanted = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Content of A in the pose of B", parent)
        self.a_box = QComboBox()
        self.a_box.addItem("sliders", SLIDERS)
        self.a_box.addItem("particle", PARTICLE)
        self.a_box.setToolTip("Whose content: what the sliders show, or a particle.")
        self.a_spin, self.b_spin = QSpinBox(), QSpinBox()
        self.a_spin.setToolTip("Index of the particle whose content is drawn, from 0 as on the viewer's slider.")
        self.b_spin.setToolTip("Index of the particle whose pose is used, from 0 as on the viewer's slider.")
        self.a_button, self.b_button = QPushButton("Current"), QPushButton("Current")
        self.show_button = QPushButton("Sh&ow")
        self.show_button.setToolTip(
            "Draw the content of A in the pose of B, with the picture of B beside it. Where content and pose are told "
            "apart, A then lies as B does and is otherwise unchanged."
        )
        for spin in (self.a_spin, self.b_spin):
            spin.setRange(0, 0)
            spin.setMinimumWidth(_SPIN_WIDTH)
            spin.valueChanged.connect(self.changed)
        for which, button in (("A", self.a_button), ("B", self.b_button)):
            button.setToolTip(_USE_TIP)
            button.clicked.connect(lambda _checked=False, which=which: self.current_wanted.emit(which))
        self.a_box.currentIndexChanged.connect(self._on_kind)
        self.show_button.clicked.connect(self.wanted)
        self._arrange()
        self._on_kind()

    def _arrange(self) -> None:
        a_label, b_label = QLabel("&A"), QLabel("&B")
        a_label.setBuddy(self.a_box)
        b_label.setBuddy(self.b_spin)
        grid = QGridLayout(self)
        grid.setContentsMargins(6, 4, 6, 6)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        grid.setColumnStretch(2, 1)
        grid.addWidget(a_label, 0, 0)
        grid.addWidget(self.a_box, 0, 1)
        grid.addWidget(self.a_spin, 0, 2)
        grid.addWidget(self.a_button, 0, 3)
        grid.addWidget(b_label, 1, 0)
        grid.addWidget(QLabel("particle"), 1, 1)
        grid.addWidget(self.b_spin, 1, 2)
        grid.addWidget(self.b_button, 1, 3)
        grid.addWidget(self.show_button, 2, 1, 1, 3)

    def set_count(self, count: int) -> None:
        """How many particles there are to choose from."""
        for spin in (self.a_spin, self.b_spin):
            spin.setMaximum(max(0, count - 1))

    def take(self, which: str, particle: int) -> None:
        """Choose a particle as "A" or "B"."""
        if which == "A":
            self.a_box.setCurrentIndex(self.a_box.findData(PARTICLE))
            self.a_spin.setValue(particle)
        else:
            self.b_spin.setValue(particle)

    @property
    def content_particle(self) -> int | None:
        """The particle that is A, or None where the sliders are."""
        return self.a_spin.value() if self.a_box.currentData() == PARTICLE else None

    @property
    def pose_particle(self) -> int:
        """The particle that is B."""
        return self.b_spin.value()

    def _on_kind(self, _index: int = 0) -> None:
        self.a_spin.setEnabled(self.content_particle is not None)
        self.changed.emit()
