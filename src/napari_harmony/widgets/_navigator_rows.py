"""The sliders of the navigator dock: one direction each, with its name, verdict and score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QSignalBlocker, QSize, Qt, Signal
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QFrame, QGridLayout, QLabel, QLineEdit, QScrollArea, QSlider, QVBoxLayout, QWidget

from napari_harmony.widgets._navigator_words import COLOURS, SHORT, tip
from napari_harmony.widgets._navigator_work import LIMIT, name_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.analysis.disentanglement import Direction
    from napari_harmony.analysis.navigation import Navigation

_TICKS = 100  # slider steps per standard deviation
_HIGHEST = 300  # pixels of all rows together; more of them scroll
_SLIDER_TIP = (
    "Moves the picture along this direction, in standard deviations of the particles. Arrow keys: 0.1, Page Up and "
    "Page Down: 0.5, Home and End: the ends."
)


class PatientSlider(QSlider):
    """A horizontal slider that the mouse wheel turns only when it has the focus, so that one can scroll past it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(Qt.Orientation.Horizontal, parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave the wheel to the scroll area unless the user is at this slider."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class DirectionRow(QWidget):
    """Name and score of one direction over its slider.

    Signals
    -------
    moved(float) : the user moved the slider to so many standard deviations
    released : the user let go of it
    renamed(str) : the user gave it another name
    """

    moved = Signal(float)
    released = Signal()
    renamed = Signal(str)

    def __init__(self, name: str, direction: Direction | None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.name_edit = QLineEdit(name)
        self.name_edit.setFrame(False)
        self.name_edit.setMaxLength(60)
        self.name_edit.setToolTip("What you call this direction; exported files are called so too.")
        self.name_edit.editingFinished.connect(self._on_name)
        self._name = name
        self.score_label, self.value_label = QLabel(), QLabel()
        self.slider = PatientSlider()
        self.slider.setRange(round(-LIMIT * _TICKS), round(LIMIT * _TICKS))
        self.slider.setSingleStep(_TICKS // 10)
        self.slider.setPageStep(_TICKS // 2)
        self.slider.setToolTip(_SLIDER_TIP)
        self.slider.valueChanged.connect(self._on_slider)
        self.slider.sliderReleased.connect(self.released)
        self.value_label.setMinimumWidth(self.fontMetrics().horizontalAdvance(_in_deviations(-0.05)))
        self.value_label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._arrange()
        self._show_scores(direction)
        self.show_name(name)
        self.show_value(0.0)

    def _arrange(self) -> None:
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 2, 4, 2)
        grid.setVerticalSpacing(0)
        grid.setColumnStretch(0, 1)
        grid.addWidget(self.name_edit, 0, 0)
        grid.addWidget(self.score_label, 0, 1, 1, 2)
        grid.addWidget(self.slider, 1, 0, 1, 2)
        grid.addWidget(self.value_label, 1, 2)

    def _show_scores(self, direction: Direction | None) -> None:
        if direction is None:
            self.score_label.setText("not scored")
            return
        self.score_label.setText(f"{SHORT[direction.verdict]} {direction.score:.2f}")
        self.score_label.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.score_label.setStyleSheet(
            f"background: {COLOURS[direction.verdict]}; color: white; border-radius: 3px; padding: 1px 4px;"
        )
        self.score_label.setToolTip(tip(direction))
        self.score_label.setAccessibleName(f"{direction.verdict}, score {direction.score:.2f}")

    @property
    def value(self) -> float:
        """Where the slider stands, in standard deviations."""
        return self.slider.value() / _TICKS

    def show_value(self, value: float) -> None:
        """Put the slider there without a word to anybody; a particle may lie beyond its ends."""
        with QSignalBlocker(self.slider):
            self.slider.setValue(round(float(np.clip(value, -LIMIT, LIMIT)) * _TICKS))
        self.value_label.setText(_in_deviations(value))

    def show_name(self, name: str) -> None:
        """Show another name."""
        self._name = name
        if self.name_edit.text() != name:
            self.name_edit.setText(name)
        self.name_edit.setAccessibleName(f"name of {name}")
        self.slider.setAccessibleName(name)

    def _on_slider(self, value: int) -> None:
        self.value_label.setText(_in_deviations(value / _TICKS))
        self.moved.emit(value / _TICKS)

    def _on_name(self) -> None:
        text = self.name_edit.text().strip()
        if not text:
            self.name_edit.setText(self._name)
        elif text != self._name:
            self._name = text
            self.renamed.emit(text)


def _in_deviations(value: float) -> str:
    """A place along a direction, in standard deviations."""
    return f"{value + 0.0:.2f} \N{GREEK SMALL LETTER SIGMA}"


class DirectionRows(QScrollArea):
    """All directions, one below the other.

    Signals
    -------
    moved(int, float) : the user moved the slider of a direction
    released : the user let go of a slider
    renamed(int, str) : the user renamed a direction
    """

    moved = Signal(int, float)
    released = Signal()
    renamed = Signal(int, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows: list[DirectionRow] = []
        self._shown: Navigation | None = None
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)

    def show_navigation(self, navigation: Navigation | None) -> None:
        """One slider per direction; where only names have changed, the sliders stay as they are."""
        before, self._shown = self._shown, navigation
        if navigation is not None and before is not None and navigation.basis is before.basis:
            for k, row in enumerate(self.rows):
                row.show_name(name_of(navigation, k))
            return
        self.rows = []
        body = QWidget()
        layout = QVBoxLayout(body)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        if navigation is not None:
            for k in range(len(navigation.basis)):
                layout.addWidget(self._row(navigation, k))
        layout.addStretch(1)
        old = self.takeWidget()
        if old is not None:
            old.deleteLater()
        self.setWidget(body)
        self.updateGeometry()

    def _row(self, navigation: Navigation, k: int) -> DirectionRow:
        scores = navigation.tracking.directions if navigation.tracking is not None else ()
        row = DirectionRow(name_of(navigation, k), scores[k] if k < len(scores) else None)
        row.moved.connect(lambda value: self.moved.emit(k, value))
        row.released.connect(self.released)
        row.renamed.connect(lambda name: self.renamed.emit(k, name))
        self.rows.append(row)
        return row

    def show_coordinates(self, coordinates: NDArray[np.floating]) -> None:
        """Put the sliders (K,) there without a word to anybody."""
        for row, value in zip(self.rows, coordinates, strict=True):
            row.show_value(float(value))

    @property
    def dragging(self) -> bool:
        """Whether the user holds a slider."""
        return any(row.slider.isSliderDown() for row in self.rows)

    def sizeHint(self) -> QSize:
        """As high as the rows, up to a bound."""
        body = self.widget()
        return QSize(280, min(_HIGHEST, body.sizeHint().height() + 2)) if body is not None else QSize(280, 0)

    def minimumSizeHint(self) -> QSize:
        """Room for three rows, or all there are."""
        return QSize(200, min(self.sizeHint().height(), 150))
