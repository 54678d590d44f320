"""The part of the navigator dock that plays a direction as a movie and exports it as a series of MRC files."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QPushButton, QSpinBox, QWidget

from napari_harmony.widgets._navigator_work import LIMIT, name_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.analysis.navigation import Navigation

_INTERVAL_MS = 50
_PERIOD = 4.0  # seconds there and back
_FRAMES = 21


class MovieBox(QWidget):
    """Which direction, Play, how many frames, Export.

    Signals
    -------
    frame_wanted(int, float) : move this direction to so many standard deviations
    export_wanted(int, int) : write this direction as so many frames
    stopped : the movie has ended
    """

    frame_wanted = Signal(int, float)
    export_wanted = Signal(int, int)
    stopped = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.direction_box = QComboBox()
        self.direction_box.setMinimumContentsLength(8)
        self.direction_box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.direction_box.setToolTip("The direction to play or to export; the slider that was moved last is chosen.")
        self.play_button = QPushButton("Pla&y")
        self.play_button.setCheckable(True)
        self.play_button.setToolTip(f"Move along the direction, from {-LIMIT:g} to {LIMIT:g} and back, until stopped.")
        self.frames_spin = QSpinBox()
        self.frames_spin.setRange(2, 500)
        self.frames_spin.setValue(_FRAMES)
        self.frames_spin.setSuffix(" frames")
        self.frames_spin.setMinimumWidth(100)
        self.frames_spin.setToolTip(f"Frames of the exported series, from {-LIMIT:g} to {LIMIT:g}.")
        self.export_button = QPushButton("E&xport...")
        self.export_button.setToolTip("Write the direction as a series of MRC files, the other sliders as they stand.")
        self.play_button.toggled.connect(self._on_play)
        self.direction_box.activated.connect(lambda _: self._restart())
        self.export_button.clicked.connect(
            lambda: self.export_wanted.emit(self.direction_box.currentIndex(), self.frames_spin.value())
        )
        self._start, self._phase = 0.0, 0.0
        self._coordinates: NDArray[np.floating] = np.zeros(0)
        self._timer = QTimer(self)
        self._timer.setInterval(_INTERVAL_MS)
        self._timer.timeout.connect(self._on_tick)
        label = QLabel("&Movie")
        label.setBuddy(self.direction_box)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        grid.addWidget(label, 0, 0)
        grid.addWidget(self.direction_box, 0, 1)
        grid.addWidget(self.play_button, 0, 2)
        grid.addWidget(self.frames_spin, 1, 1)
        grid.addWidget(self.export_button, 1, 2)

    @property
    def playing(self) -> bool:
        """Whether a movie runs."""
        return self._timer.isActive()

    def show_navigation(self, navigation: Navigation | None) -> None:
        """Offer these directions."""
        if navigation is None:
            self.stop()
        chosen = self.direction_box.currentIndex()
        self.direction_box.clear()
        if navigation is not None:
            self.direction_box.addItems([name_of(navigation, k) for k in range(len(navigation.basis))])
            self.direction_box.setCurrentIndex(chosen if 0 <= chosen < self.direction_box.count() else 0)

    def choose(self, direction: int) -> None:
        """The user has moved a slider: that direction is meant, and a movie would pull it from under the hand."""
        self.stop()
        self.direction_box.setCurrentIndex(direction)

    def start_at(self, coordinates: NDArray[np.floating]) -> None:
        """Where the next movie starts, (K,) standard deviations."""
        self._coordinates = coordinates

    def stop(self) -> None:
        """End the movie where it is."""
        self.play_button.setChecked(False)

    def _on_play(self, on: bool) -> None:
        self.play_button.setText("Stop (&Y)" if on else "Pla&y")
        if on and self.direction_box.currentIndex() >= 0:
            self._restart()
            self._timer.start()
        elif not on and self._timer.isActive():
            self._timer.stop()
            self.stopped.emit()

    def _restart(self) -> None:
        direction = self.direction_box.currentIndex()
        self._start = time.monotonic()
        self._phase = phase_of(float(self._coordinates[direction])) if direction < len(self._coordinates) else 0.0

    def _on_tick(self) -> None:
        value = swing(time.monotonic() - self._start, self._phase)
        self.frame_wanted.emit(self.direction_box.currentIndex(), value)


def swing(seconds: float, phase: float) -> float:
    """Where a movie is after so many seconds, between the ends of the sliders; it slows down at the ends."""
    return LIMIT * math.sin(2 * math.pi * seconds / _PERIOD + phase)


def phase_of(value: float) -> float:
    """The phase at which a movie is at ``value`` and moves up."""
    return math.asin(min(1.0, max(-1.0, value / LIMIT)))
