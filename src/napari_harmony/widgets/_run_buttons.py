"""The buttons that start runs, each of which says why it cannot be pressed, or that it adds to the queue."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_harmony.widgets._some_particles import TRIAL
from napari_harmony.widgets._work import Action

_TIPS = {
    Action.TRAIN: "Fit a model to these particles; Align then uses it, here or on other particles.",
    Action.ALIGN: "Give every particle its pose and class by the trained or saved model; without one, train one.",
    Action.CLUSTER: "Group the aligned particles anew, with the classes chosen above; aligns first where needed.",
    Action.ALIGN_AND_CLUSTER: "Do everything: train (or take a saved model), align, and find the classes.",
}
_TRIAL_TIP = (
    f"Align and Cluster on {TRIAL} particles taken at random (by the seed, so the same again), as a layer of their "
    "own: a quick look at whether the settings are right. Few particles give few and noisy classes."
)
_COPY_TIP = "Copy the command that does 'Align and Cluster' with these settings in a terminal, or on a cluster."
_SEND_TIP = "Write the script that does 'Align and Cluster' with these settings on a SLURM cluster."
_QUEUE_TIP = "Something is running: this waits for its turn, with the settings and particles as they are now."


class RunButtons(QWidget):
    """Train, Align, Cluster, Align and Cluster; a trial; and the same as a command or a script.

    Signals
    -------
    wanted(Action), trial_wanted(), command_wanted(), cluster_wanted()
    """

    wanted = Signal(object)
    trial_wanted = Signal()
    command_wanted = Signal()
    cluster_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.actions = {action: QPushButton(action.value) for action in Action}
        for action, button in self.actions.items():
            button.clicked.connect(lambda _checked=False, action=action: self.wanted.emit(action))
        self.actions[Action.ALIGN_AND_CLUSTER].setStyleSheet("font-weight: bold; padding: 6px;")
        self.trial_button = QPushButton()
        self.trial_button.clicked.connect(self.trial_wanted)
        self.command_button = QPushButton("Copy as command")
        self.command_button.clicked.connect(self.command_wanted)
        self.cluster_button = QPushButton("Send to cluster...")
        self.cluster_button.clicked.connect(self.cluster_wanted)
        self.reason_label = QLabel()
        self.reason_label.setWordWrap(True)
        self._arrange()
        self.show_queueing(False)

    def _arrange(self) -> None:
        steps, elsewhere = QHBoxLayout(), QHBoxLayout()
        for line, buttons in (
            (steps, [self.actions[a] for a in (Action.TRAIN, Action.ALIGN, Action.CLUSTER)]),
            (elsewhere, [self.command_button, self.cluster_button]),
        ):
            line.setSpacing(4)
            for button in buttons:
                line.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(5)
        layout.addLayout(steps)
        layout.addWidget(self.actions[Action.ALIGN_AND_CLUSTER])
        layout.addWidget(self.trial_button)
        layout.addLayout(elsewhere)
        layout.addWidget(self.reason_label)

    def show_queueing(self, queueing: bool) -> None:
        """Say whether a press runs at once, or adds to the queue."""
        self._queueing = queueing
        for action, button in self.actions.items():
            button.setText(f"Queue {action.value}" if queueing else action.value)
        self.trial_button.setText(f"Queue {TRIAL} particles" if queueing else f"Try {TRIAL} particles first")

    def show_reasons(self, reason: str, actions: dict[Action, str], trial: str, cluster: str) -> None:
        """Disable what cannot be done and say why.

        Parameters
        ----------
        reason : why nothing can be done, or ""; also shown under the buttons
        actions, trial, cluster : why each cannot be done, or ""
        """
        self.reason_label.setText(reason)
        self.reason_label.setVisible(bool(reason))
        for action, button in self.actions.items():
            self._show(button, reason or actions.get(action, ""), _TIPS[action], queues=True)
        self._show(self.trial_button, reason or trial, _TRIAL_TIP, queues=True)
        self._show(self.command_button, reason, _COPY_TIP, queues=False)
        self._show(self.cluster_button, reason or cluster, _SEND_TIP, queues=False)

    def _show(self, button: QPushButton, why_not: str, tip: str, *, queues: bool) -> None:
        button.setEnabled(not why_not)
        button.setToolTip(why_not or (f"{_QUEUE_TIP} {tip}" if queues and self._queueing else tip))
