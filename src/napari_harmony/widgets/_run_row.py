"""One row for all work: what is being done, how far it is, how long it still takes, Pause, Finish now and Cancel."""

from __future__ import annotations

import time

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget
from superqt import QElidingLabel

from napari_harmony.engine.durations import time_left
from napari_harmony.engine.events import Event, Loss, Progress
from napari_harmony.session import Session, State
from napari_harmony.widgets._runner import Runner

_STEPS = 1000
_CANCEL_TIP = "Stop after the current batch. Nothing of this run is kept."
_CANCEL_OR_FINISH_TIP = f"{_CANCEL_TIP} 'Finish now' keeps what there is."
_CANCELLING = "Cancelling after the current batch"
_PAUSE_TIP = "Wait after the current batch, and leave the processor to other work; what is in memory stays there."
_RESUME_TIP = "Go on where it was paused."
_FINISH_TIP = "End soon and keep what there is: no further rounds, no further training. The result says so."
_FINISHING = "Finishing with what is there"


class RunRow(QWidget):
    """Progress bar, stage, time left and buttons for the work of one ``Runner``; hidden unless something runs.

    Work that takes long is ``steerable``: it can be paused, and ended early with what there is.

    Signals
    -------
    finish_wanted() : end soon and keep what there is
    """

    finish_wanted = Signal()

    def __init__(
        self,
        session: Session,
        runner: Runner,
        parent: QWidget | None = None,
        *,
        steerable: bool = False,
        cancel_tip: str = _CANCEL_TIP,
    ) -> None:
        super().__init__(parent)
        self._runner, self._state = runner, session.state
        self._started = 0.0
        self._doing = self._stage = ""
        self._fresh = True
        self.bar = QProgressBar()
        self.bar.setRange(0, _STEPS)
        self.label = QElidingLabel()
        self.pause_button, self.finish_button = QPushButton("Pause"), QPushButton("Finish now")
        self.pause_button.clicked.connect(self.toggle_pause)
        self.finish_button.clicked.connect(self._on_finish)
        self.cancel_button = QPushButton("Cancel")
        self._cancel_tip = _CANCEL_OR_FINISH_TIP if steerable else cancel_tip
        self.cancel_button.clicked.connect(runner.cancel)
        self._arrange(steerable)
        runner.heard.connect(self._on_event)
        self.on_state(session.state)

    def _arrange(self, steerable: bool) -> None:
        top, below = QHBoxLayout(), QHBoxLayout()
        for line in (top, below):
            line.setContentsMargins(0, 0, 0, 0)
        top.addWidget(self.bar, 1)
        if steerable:
            for button in (self.pause_button, self.finish_button, self.cancel_button):
                below.addWidget(button)
        else:
            top.addWidget(self.cancel_button)
            for button in (self.pause_button, self.finish_button):
                button.setParent(self)
                button.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(top)
        layout.addWidget(self.label)
        layout.addLayout(below)

    # -- buttons ----------------------------------------------------------------------------------------------------

    def toggle_pause(self) -> None:
        """Pause what runs, or let what is paused go on."""
        if self._runner.pausing:
            self._runner.resume()
        else:
            self._runner.pause()
        self._show_buttons()
        if self._runner.pausing:
            self.label.setText("Pausing after the current batch")
        elif self._state is State.RUNNING:
            self.label.setText(self._doing or "Starting")

    def _on_finish(self) -> None:
        self.finish_wanted.emit()
        self.show_finishing()

    def show_finishing(self) -> None:
        """The run was asked to end with what there is."""
        self.finish_button.setEnabled(False)
        self.finish_button.setToolTip(_FINISHING)
        self.label.setText(_FINISHING)

    def _show_buttons(self) -> None:
        running = self._state in (State.RUNNING, State.PAUSED)
        self.cancel_button.setEnabled(running)
        self.pause_button.setEnabled(running)
        self.pause_button.setText("Resume" if self._runner.pausing else "Pause")
        self.pause_button.setToolTip(_RESUME_TIP if self._runner.pausing else _PAUSE_TIP)
        if self._state is State.CANCELLING:
            self.finish_button.setEnabled(False)
            for button in (self.cancel_button, self.pause_button, self.finish_button):
                button.setToolTip(_CANCELLING)
        else:
            self.cancel_button.setToolTip(self._cancel_tip)

    # -- what is said -----------------------------------------------------------------------------------------------

    def on_state(self, state: State) -> None:
        """Show what the state of the session asks for."""
        self._state = state
        self.setVisible(state.busy)
        if not state.busy:
            self._fresh = True
        elif state is State.RUNNING and self._fresh:
            self._begin()
        elif state is State.RUNNING:
            self.label.setText(self._doing or "Starting")
        elif state is State.PAUSED:
            self._fresh = False
            self.label.setText(f"Paused after {self._doing}" if self._doing else "Paused")
        else:
            self.label.setText(_CANCELLING)
        self._show_buttons()

    def _begin(self) -> None:
        self._fresh, self._started = False, time.monotonic()
        self._doing = self._stage = ""
        self.bar.setValue(0)
        self.finish_button.setEnabled(True)
        self.finish_button.setToolTip(_FINISH_TIP)
        self.label.setText("Starting")

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Loss):
            self._doing = f"training batch {event.done:,} of {event.total:,}"
        if not isinstance(event, Progress) or self._state is not State.RUNNING:
            return
        self.bar.setValue(round(_STEPS * min(1.0, max(0.0, event.fraction))))
        words = ", ".join(part for part in (event.stage, event.message) if part)
        if event.stage != self._stage or event.message or not self._doing.startswith("training batch"):
            self._doing = words
        self._stage = event.stage
        left = event.seconds_left
        if left is None:
            left = seconds_left(event.fraction, time.monotonic() - self._started - self._runner.seconds_paused)
        if self._runner.pausing:
            return  # the label says so
        first = _FINISHING if not self.finish_button.isEnabled() else ""
        parts = (first, words, time_left(left) if left is not None else "")
        self.label.setText(", ".join(part for part in parts if part))


def seconds_left(fraction: float, elapsed: float) -> float | None:
    """Time left at constant speed, or None while too little is done to tell."""
    if fraction < 0.02 or elapsed < 1.0:
        return None
    return elapsed * (1.0 - min(fraction, 1.0)) / fraction
