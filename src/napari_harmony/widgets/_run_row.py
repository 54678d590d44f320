"""One row for all work: what is being done, how far it is, how long it still takes, and Cancel."""

from __future__ import annotations

import time

from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget
from superqt import QElidingLabel

from napari_harmony.engine.events import Event, Progress
from napari_harmony.session import Session, State
from napari_harmony.widgets._runner import Runner

_STEPS = 1000


class RunRow(QWidget):
    """Progress bar, stage, time left and Cancel for the work of one ``Runner``; hidden unless something runs."""

    def __init__(self, session: Session, runner: Runner, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._started = 0.0
        self.bar = QProgressBar()
        self.bar.setRange(0, _STEPS)
        self.label = QElidingLabel()
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop after the current batch. Nothing of this run is kept.")
        self.cancel_button.clicked.connect(runner.cancel)

        top = QHBoxLayout()
        top.setContentsMargins(0, 0, 0, 0)
        top.addWidget(self.bar, 1)
        top.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(top)
        layout.addWidget(self.label)

        runner.event.connect(self._on_event)
        self.on_state(session.state)

    def on_state(self, state: State) -> None:
        """Show what the state of the session asks for."""
        self.setVisible(state.busy)
        self.cancel_button.setEnabled(state is State.RUNNING)
        if state is State.RUNNING:
            self._started = time.monotonic()
            self.bar.setValue(0)
            self.label.setText("Starting")
        elif state is State.CANCELLING:
            self.label.setText("Cancelling after the current batch")

    def _on_event(self, event: Event) -> None:
        if not isinstance(event, Progress) or self._session.state is not State.RUNNING:
            return
        self.bar.setValue(round(_STEPS * min(1.0, max(0.0, event.fraction))))
        left = event.seconds_left
        if left is None:
            left = seconds_left(event.fraction, time.monotonic() - self._started)
        parts = [event.stage, event.message, duration(left) + " left" if left is not None else ""]
        self.label.setText(", ".join(p for p in parts if p))


def seconds_left(fraction: float, elapsed: float) -> float | None:
    """Time left at constant speed, or None while too little is done to tell."""
    if fraction < 0.02 or elapsed < 1.0:
        return None
    return elapsed * (1.0 - min(fraction, 1.0)) / fraction


def duration(seconds: float) -> str:
    """A duration as a person would say it: "8 s", "3 min", "1 h 20 min"."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    if seconds < 3600:
        return f"{round(seconds / 60)} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"
