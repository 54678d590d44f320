"""Edits of the result from the latent plot: at once, or in a thread where frames of classes must be aligned first."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_harmony.edits import complete, is_complete
from napari_harmony.engine.events import Done, Event, Progress
from napari_harmony.errors import HarmonyError
from napari_harmony.session import Session
from napari_harmony.widgets._run_row import RunRow
from napari_harmony.widgets._runner import Runner, describe

if TYPE_CHECKING:
    from napari_harmony.edits import Edit
    from napari_harmony.results import Result


class EditWork(QObject):
    """Brings edits to a session, one at a time.

    Signals
    -------
    failed(str) : a sentence on why an edit was not made
    changed() : work began or ended
    """

    failed = Signal(str)
    changed = Signal()

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._result: Result | None = None
        self._work = Session()  # the state of this work alone
        self.runner = Runner(self._work, self)
        self.run_row = RunRow(self._work, self.runner)
        self.runner.done.connect(self._on_done)
        self.runner.failed.connect(self._on_failed)
        self._work.state_changed.connect(self._on_state)

    @property
    def busy(self) -> bool:
        """Whether an edit is being prepared."""
        return self._work.state.busy

    def start(self, edit: Edit) -> None:
        """Make an edit.

        Raises
        ------
        InputError : it does not fit the result
        """
        result = self._session.result
        if result is None or self.busy:
            return
        if is_complete(result, edit):
            self._session.edit(edit)
        else:
            self._result = result
            self.runner.submit(partial(_completed, result, edit))

    def abandon(self) -> None:
        """Make nothing of the edit that is being prepared."""
        self.runner.abandon()

    def _on_done(self, done: Done) -> None:
        if self._session.result is self._result:  # otherwise it was made for a result that is gone
            try:
                self._session.edit(done.value)
            except HarmonyError as error:
                self.failed.emit(str(error))

    def _on_failed(self, error: Exception) -> None:
        self.failed.emit(str(error) if isinstance(error, HarmonyError) else describe(error))

    def _on_state(self, state: object) -> None:
        self.run_row.on_state(self._work.state)
        self.changed.emit()


def _completed(result: Result, edit: Edit) -> Iterator[Event]:
    yield Progress("aligning the classes with each other", 0.0)
    yield Done(complete(result, edit))
