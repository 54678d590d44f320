"""The *Follow a job* dock: how a run elsewhere goes, seen through its OUT folder, and its result in the end."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSize
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
)

from napari_harmony._followed_averages import FollowedAverages
from napari_harmony.engine.durations import time_left
from napari_harmony.engine.events import Done, Event, Loss, Preview, Progress
from napari_harmony.errors import HarmonyError
from napari_harmony.following import Ended, follow
from napari_harmony.outputs.live import Phase, Request, ask
from napari_harmony.session import Session, State
from napari_harmony.widgets._dock import Dock
from napari_harmony.widgets._loss_curve import LossCurve
from napari_harmony.widgets._loss_plot import LossPlot
from napari_harmony.widgets._runner import Runner, describe
from napari_harmony.widgets._theme import palette_of

if TYPE_CHECKING:
    import napari

_STEPS = 1000
_FOLDER_TIP = (
    "The folder that the job was given with -o, as this machine sees it. A job that has not begun yet is waited for."
)
_NO_FOLDER = "Give the OUT folder of a job first."
_NOT_FOLLOWING = "Follow a job first."
_NOT_BEGUN = "The job has not begun."


class FollowWidget(Dock):
    """Follows one job at a time; closing the dock ends the following, never the job."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._work = Session()  # the state of the following alone: runs here go on beside it
        self._averages = FollowedAverages(napari_viewer)
        self._curve = LossCurve()
        self._out = Path()
        self._begun = False
        self.runner = Runner(self._work)
        self.runner.heard.connect(self._on_event)
        self.runner.done.connect(self._on_done)
        self.runner.failed.connect(self._on_failed)
        self.runner.cancelled.connect(lambda: self._say("No longer followed; the job goes on."))
        self.destroyed.connect(lambda _gone=None, runner=self.runner: runner.abandon())
        self._make_parts()
        self._arrange()
        self.bind()

    # -- building ---------------------------------------------------------------------------------------------------

    def _make_parts(self) -> None:
        self.folder_edit = QLineEdit()
        self.folder_edit.setPlaceholderText("OUT folder of the job")
        self.folder_edit.setToolTip(_FOLDER_TIP)
        self.folder_edit.setAccessibleName("OUT folder of the job")
        self.folder_edit.textChanged.connect(lambda _text: self._show_state())
        self.folder_edit.returnPressed.connect(self.start)
        self.browse_button = QPushButton("&Browse...")
        self.browse_button.setToolTip("Choose the folder.")
        self.browse_button.clicked.connect(self._browse)
        self.follow_button = QPushButton("&Follow")
        self.follow_button.clicked.connect(self._on_follow)
        self.bar = QProgressBar()
        self.bar.setRange(0, _STEPS)
        self.label = QLabel()
        self.label.setWordWrap(True)
        self.loss_plot = LossPlot()
        self.finish_button = QPushButton("Finish &now")
        self.finish_button.clicked.connect(lambda: self._ask(Request.FINISH, "Asked to finish with what is there."))
        self.cancel_button = QPushButton("&Cancel the job...")
        self.cancel_button.clicked.connect(self._cancel)

    def _arrange(self) -> None:
        place = QHBoxLayout()
        place.addWidget(self.folder_edit, 1)
        place.addWidget(self.browse_button)
        requests = QHBoxLayout()
        requests.addWidget(self.finish_button)
        requests.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setSpacing(6)
        layout.addLayout(place)
        layout.addWidget(self.follow_button)
        layout.addWidget(self.bar)
        layout.addWidget(self.label)
        layout.addWidget(self.loss_plot)
        layout.addLayout(requests)
        layout.addStretch(1)

    def sizeHint(self) -> QSize:
        """Narrow and low."""
        return QSize(320, 260)

    # -- life cycle -------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self.listen(self._viewer.events.theme, lambda _event: self._on_theme())
        self.listen(self._work.state_changed, lambda _state: self._show_state())
        self._on_theme()
        self._show_state()

    def _disconnect(self) -> None:
        self.runner.abandon()

    def _on_theme(self) -> None:
        self.loss_plot.set_palette(palette_of(self._viewer))

    # -- following --------------------------------------------------------------------------------------------------

    def follow(self, out: str | Path) -> None:
        """Follow the job that writes into ``out``."""
        self.folder_edit.setText(str(out))
        self.start()

    def start(self) -> None:
        """Follow the job in the folder that is written in the field."""
        text = self.folder_edit.text().strip()
        if not text or self._work.state.busy:
            return
        self._out, self._begun = Path(text).expanduser(), False
        self._curve.clear()
        self.loss_plot.show_curve(self._curve)
        self.bar.setValue(0)
        self._say("Looking for the job")
        self.runner.submit(partial(follow, self._out), f"following {self._out.name}, which itself goes on")

    def _on_follow(self) -> None:
        if self._work.state.busy:
            self.runner.cancel()
        else:
            self.start()

    def _browse(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "OUT folder of the job", self.folder_edit.text())
        if folder:
            self.follow(folder)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Loss):
            self._curve.add(event)
            self.loss_plot.show_curve(self._curve)
        elif isinstance(event, Preview):
            self._averages.show(event, self._out)
        elif isinstance(event, Progress):
            self._begun = self._begun or event.fraction > 0
            self.bar.setValue(round(_STEPS * event.fraction))
            left = "" if event.seconds_left is None else time_left(event.seconds_left)
            self._say(", ".join(part for part in (event.stage, event.message, left) if part))
            self._show_state()

    def _on_done(self, done: Done) -> None:
        ended: Ended = done.value
        finished = ended.phase is Phase.FINISHED
        self._averages.remove()
        self._say(ended.message, error=ended.phase is Phase.FAILED)
        if finished:
            self.bar.setValue(_STEPS)
        if ended.result is not None:
            self.attempt(lambda: self._viewer.open(str(ended.result), plugin="napari-harmony"))

    def _on_failed(self, error: Exception) -> None:
        self._say(str(error) if isinstance(error, HarmonyError) else describe(error), error=True)

    # -- requests ---------------------------------------------------------------------------------------------------

    def _cancel(self) -> None:
        question = f"Stop the job that writes into {self._out}? The same command with --resume continues it."
        answer = QMessageBox.question(self, "Cancel the job", question)
        if answer == QMessageBox.StandardButton.Yes:
            self._ask(Request.CANCEL, "Asked to stop.")

    def _ask(self, request: Request, words: str) -> None:
        def attempt() -> None:
            ask(self._out, request)
            self._say(words)

        self.attempt(attempt)

    # -- what is shown ----------------------------------------------------------------------------------------------

    def _show_state(self) -> None:
        """Enable what can be done now, and say why the rest cannot."""
        busy = self._work.state.busy
        self.folder_edit.setEnabled(not busy)
        self.browse_button.setEnabled(not busy)
        self.follow_button.setText("Stop &following" if busy else "&Follow")
        named = bool(self.folder_edit.text().strip())
        self.follow_button.setEnabled(self._work.state is not State.CANCELLING and (busy or named))
        tip = "The job itself goes on." if busy else "Show how the job goes, and open its result when it is complete."
        self.follow_button.setToolTip(tip if busy or named else _NO_FOLDER)
        why = "" if busy and self._begun else _NOT_BEGUN if busy else _NOT_FOLLOWING
        self.finish_button.setEnabled(not why)
        self.finish_button.setToolTip(why or "The job ends soon with what it has, and writes that.")
        self.cancel_button.setEnabled(not why)
        self.cancel_button.setToolTip(why or "The job stops after its present batch, and can be continued by --resume.")
        self.bar.setVisible(busy)

    def _say(self, text: str, *, error: bool = False) -> None:
        self.label.setStyleSheet("color: #e05252;" if error else "")
        self.label.setText(text)
