"""Edits from any dock: frames aligned and averages made in a thread, and the layers drawn anew.

There is one of these for each viewer. It works while at least one dock holds it, and stops when the last lets go.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_harmony.edits import complete, describe, due_averages, is_complete, recompute
from napari_harmony.engine.events import Done, Event, Progress
from napari_harmony.errors import HarmonyError
from napari_harmony.session import Session, session_of
from napari_harmony.widgets._result_layers import ResultLayers
from napari_harmony.widgets._runner import Runner
from napari_harmony.widgets._runner import describe as in_words

if TYPE_CHECKING:
    from napari_harmony.edits import Edit
    from napari_harmony.particles.dataset import Particles
    from napari_harmony.results import Result

_PAUSE_MS = 400  # after an edit before averaging begins: edits come in rows


class Editing(QObject):
    """Carries out edits of the session's result.

    Signals
    -------
    said(str, bool) : a sentence for the user, and whether it is about an error
    changed() : an edit, or averaging, began or ended
    """

    said = Signal(str, bool)
    changed = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.session = session_of(viewer)
        self._viewer = weakref.ref(getattr(viewer, "__wrapped__", viewer))
        self._holders: set[int] = set()
        self._edit_work, self._average_work = Session(), Session()  # the states of this work: a run may go on beside it
        self.editor, self.averager = Runner(self._edit_work, self), Runner(self._average_work, self)
        self._asked: tuple[Result, Edit] | None = None
        self._paused = False  # the user stopped averaging
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE_MS)
        self._timer.timeout.connect(self.average)
        self.editor.done.connect(self._on_edit)
        self.averager.done.connect(self._on_averages)
        self.averager.cancelled.connect(self._on_stopped)
        for runner, work in ((self.editor, self._edit_work), (self.averager, self._average_work)):
            runner.failed.connect(self._on_failed)
            work.state_changed.connect(self._on_state)

    # -- life cycle -------------------------------------------------------------------------------------------------

    def hold(self, dock: int) -> None:
        """A dock, known by a number, wants edits to be carried out."""
        first = not self._holders
        self._holders.add(dock)
        if first:
            self.session.result_changed.connect(self._on_result)
            self.session.state_changed.connect(self._on_result)
            self._on_result()

    def let_go(self, dock: int) -> None:
        """A dock is closed; with the last one all work ends."""
        if dock not in self._holders:
            return
        self._holders.remove(dock)
        if not self._holders:
            self.session.result_changed.disconnect(self._on_result)
            self.session.state_changed.disconnect(self._on_result)
            with suppress(RuntimeError):  # with the whole program the timer may have gone before the dock
                self._stop()

    def _stop(self) -> None:
        self._timer.stop()
        self.editor.abandon()
        self.averager.abandon()

    # -- edits ------------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether an edit is being carried out."""
        return self._edit_work.state.busy

    @property
    def averaging(self) -> bool:
        """Whether averages are being made."""
        return self._average_work.state.busy

    @property
    def will_average(self) -> bool:
        """Whether averages will be made in a moment, without being asked for."""
        return self._timer.isActive()

    @property
    def work(self) -> Session:
        """What holds the state of averaging, for a row with its progress."""
        return self._average_work

    def edit(self, edit: Edit) -> None:
        """Change the result, at once where nothing has to be computed for it.

        Raises
        ------
        InputError : the edit does not fit the result
        """
        result = self.session.result
        if result is None or self.busy:
            return
        if is_complete(result, edit):
            self._paused = False
            self.session.edit(edit)
            return
        self.averager.abandon()
        self._asked = (result, edit)
        self.said.emit(f"Working on it: {describe(edit)}.", False)
        self.editor.submit(partial(_completed, result, edit))

    def _on_edit(self, done: Done) -> None:
        asked, self._asked = self._asked, None
        if asked is None or self.session.result is None:
            return
        before, now = asked[0], self.session.result
        if before.table is not now.table:
            self.said.emit("The result has changed meanwhile: do the edit again.", True)
            return
        self._paused = False
        self.said.emit("", False)
        self._attempt(lambda: self.session.edit(done.value))

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except HarmonyError as error:
            self.said.emit(str(error), True)

    def _on_failed(self, error: Exception) -> None:
        self._asked = None
        self._paused = True
        self.said.emit(str(error) if isinstance(error, HarmonyError) else in_words(error), True)

    # -- averages ---------------------------------------------------------------------------------------------------

    @property
    def due(self) -> tuple[int, ...]:
        """Classes whose averages wait to be made."""
        return due_averages(self.session.result) if self.session.result is not None else ()

    def _on_result(self, _changed: Any = None) -> None:
        self._timer.stop()
        if self.averaging:
            self.averager.abandon()
        if self.due and self.session.data is not None and not self._paused and not self.session.state.busy:
            self._timer.start()
        self._draw()
        self.changed.emit()

    def average(self) -> None:
        """Make the averages that are due."""
        result, particles = self.session.result, self.session.data
        if result is None or not self.due or self.session.state.busy or self.busy:
            return
        if particles is None:
            self.said.emit("Averages need the particle images: open those of this result.", True)
            return
        self._paused = False
        self.averager.submit(partial(_averages, particles, result))

    def _on_averages(self, done: Done) -> None:
        self.session.set_averages(done.value)

    def _on_stopped(self) -> None:
        self._paused = True
        self.changed.emit()

    def _on_state(self, _state: Any) -> None:
        self.changed.emit()

    # -- layers -----------------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        """Draw what is there of the result anew."""
        viewer, session = self._viewer(), self.session
        layer = session.layer
        if viewer is None or session.result is None or session.data is None or session.state.busy:
            return
        if layer is not None and layer in viewer.layers:
            ResultLayers(viewer).update(session.result, layer, session.data)


def _completed(result: Result, edit: Edit) -> Iterator[Event]:
    yield Progress("aligning averages", 0.0)
    yield Done(complete(result, edit))


def _averages(particles: Particles, result: Result) -> Iterator[Event]:
    yield Progress("averaging", 0.0)
    yield from recompute(particles, result)


_editing: weakref.WeakKeyDictionary[Any, Editing] = weakref.WeakKeyDictionary()


def editing_of(viewer: Any) -> Editing:
    """The one of a viewer; made when first asked for, gone with the viewer."""
    model = getattr(viewer, "__wrapped__", viewer)
    if model not in _editing:
        _editing[model] = Editing(model)
    return _editing[model]
