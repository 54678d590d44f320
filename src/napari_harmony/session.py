"""What the dock widgets of one viewer share: the particles, the result, the selection and the state of the run.

Widgets never talk to each other. They set something here and listen to the signals; whoever set it hears it too.
No Qt and no napari is imported, so that every rule in this module can be tested without a window.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_harmony._removed_layers import draw_safely_after_removals
from napari_harmony._viewer_link import ViewerLink
from napari_harmony.edits import apply_edit, last_words
from napari_harmony.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from napari_harmony.analysis.navigation import Navigation
    from napari_harmony.edits import Edit
    from napari_harmony.particles.dataset import Particles
    from napari_harmony.results import Result

#: Edits that can be undone.
_STEPS = 50
_NOTHING: NDArray[np.int64] = np.empty(0, dtype=np.int64)


class State(Enum):
    """Where the current run stands. ``RUNNING``, ``PAUSED`` and ``CANCELLING`` mean that a worker is alive."""

    IDLE = "idle"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    DONE = "done"
    FAILED = "failed"

    @property
    def busy(self) -> bool:
        """Whether a worker is alive."""
        return self in (State.RUNNING, State.PAUSED, State.CANCELLING)


@dataclass
class _History:
    """Results before the edits that can be undone, and after those that can be done again; the last is the next."""

    past: list[Result] = field(default_factory=list)
    future: list[Result] = field(default_factory=list)


@dataclass(frozen=True)
class Known:
    """What is known about one data set, so that looking at another layer loses nothing."""

    result: Result | None = None
    model: Any = None
    content_model: Any = None
    navigation: Navigation | None = None
    history: _History = field(default_factory=_History)


class Session:
    """The shared state of one viewer.

    A particle is named by its row number in the input, from 0; this id never changes, however a table is sorted.

    Signals
    -------
    data_changed(Particles | None), result_changed(Result | None), model_changed(model | None),
    navigation_changed(Navigation | None), selection_changed(ids of shape (m,)), current_changed(int),
    state_changed(State), history_changed(): what can be undone and done again
    """

    data_changed = Signal(object)
    result_changed = Signal(object)
    model_changed = Signal(object)
    navigation_changed = Signal(object)
    selection_changed = Signal(object)
    current_changed = Signal(int)
    state_changed = Signal(object)
    history_changed = Signal()

    def __init__(self) -> None:
        self._data: Particles | None = None
        self._layer: weakref.ref[Any] | None = None
        self._result: Result | None = None
        self._model: Any = None
        self._content_model: Any = None
        self._navigation: Navigation | None = None
        self._selection = _NOTHING
        self._current = 0
        self._state = State.IDLE
        self._history = _History()
        self._kept: dict[int, Known] = {}
        self._link: ViewerLink | None = None

    def _keep(self) -> None:
        if self._data is not None:
            self._put_away(self._data, self.known(self._data))

    def _put_away(self, data: Particles, known: Known) -> None:
        # by identity: data sets do not compare; the entry goes with its data set
        key = id(data)
        if key not in self._kept:
            weakref.finalize(data, self._kept.pop, key, None)
        self._kept[key] = known

    @property
    def data(self) -> Particles | None:
        """The particles that result, selection and current particle speak of."""
        return self._data

    @property
    def layer(self) -> Any:
        """The napari layer the particles came from, or None where it was removed."""
        return self._layer() if self._layer is not None else None

    def set_data(self, data: Particles | None, layer: Any = None) -> None:
        """Change the particles. The result and the model they had before come back; the selection is emptied."""
        self._layer = weakref.ref(layer) if layer is not None else None
        if data is self._data:
            return
        self._data = data
        self._selection, self._current = _NOTHING, 0
        kept = self._kept.get(id(data), Known())
        self._result, self._model = kept.result, kept.model
        self._content_model, self._navigation = kept.content_model, kept.navigation
        self._history = kept.history
        self.data_changed.emit(data)
        self.model_changed.emit(self._model)
        self.result_changed.emit(self._result)
        self.history_changed.emit()
        self.navigation_changed.emit(self._navigation)
        self.selection_changed.emit(self._selection)
        self.current_changed.emit(self._current)

    @property
    def result(self) -> Result | None:
        """The latest result for ``data``."""
        return self._result

    def set_result(self, result: Result | None, model: Any = None) -> None:
        """Change the result; the selection is emptied, for it was made by looking at the old one.

        ``model`` is the one that gave the result its content codes; None: the one of the result before, whose codes
        were kept. Directions found in other codes are dropped.
        """
        if result is self._result:
            return
        if result is not None and self._data is not None and len(result) != len(self._data):
            raise ValueError(f"the result has {len(result)} rows, the particles are {len(self._data)}")
        self._result, self._history = result, _History()
        if model is not None or result is None:
            self._content_model = model
        self._navigation = None
        self._keep()
        self.select(_NOTHING)
        self.result_changed.emit(result)
        self.history_changed.emit()
        self.navigation_changed.emit(None)

    def deliver(self, data: Particles, result: Result | None = None, model: Any = None) -> None:
        """Take what a run on ``data`` gave: shown where these are the particles looked at, else kept until they are.

        Without ``result`` the earlier one stays; without ``model`` the earlier one.
        """
        if data is self._data:
            if model is not None:
                self.set_model(model)
            if result is not None:
                self.set_result(result, model)
            return
        kept = self.known(data)
        if model is not None:
            kept = replace(kept, model=model)
        if result is not None:
            content_model = model if model is not None else kept.content_model
            kept = replace(kept, result=result, content_model=content_model, navigation=None, history=_History())
        self._put_away(data, kept)

    def known(self, data: Particles) -> Known:
        """What is known of a data set, looked at or not."""
        if data is self._data:
            return Known(self._result, self._model, self._content_model, self._navigation, self._history)
        return self._kept.get(id(data), Known())

    def edit(self, edit: Edit) -> None:
        """Change the result by hand; the selection stays. Takes seconds where frames of classes must be aligned first,
        unless :func:`napari_harmony.edits.complete` has done that.

        Raises
        ------
        InputError : there is no result, or the edit does not fit it
        """
        if self._result is None:
            raise InputError("There is no result to edit: run Align and Cluster first.")
        after = apply_edit(self._result, edit)
        past = [*self._history.past, self._result][-_STEPS:]
        self._show(after, _History(past, []))

    def undo(self) -> None:
        """Take the last edit back, if there is one."""
        if self._result is not None and self.can_undo:
            *past, before = self._history.past
            self._show(before, _History(past, [*self._history.future, self._result]))

    def redo(self) -> None:
        """Do the edit again that was undone last, if there is one."""
        if self._result is not None and self.can_redo:
            *future, after = self._history.future
            self._show(after, _History([*self._history.past, self._result], future))

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to take back."""
        return bool(self._history.past)

    @property
    def can_redo(self) -> bool:
        """Whether there is an edit to do again."""
        return bool(self._history.future)

    @property
    def undo_words(self) -> str:
        """What ``undo`` would take back; empty where there is nothing."""
        return last_words(self._result) if self._result is not None and self.can_undo else ""

    @property
    def redo_words(self) -> str:
        """What ``redo`` would do again; empty where there is nothing."""
        return last_words(self._history.future[-1]) if self.can_redo else ""

    def set_averages(self, result: Result) -> None:
        """Take over averages that were computed since the last edit; of an outdated table they are dropped."""
        if self._result is not None and result.table is self._result.table and result is not self._result:
            self._show(result, self._history)

    def _show(self, result: Result, history: _History) -> None:
        """The same particles in other classes: selection, codes and directions stay."""
        self._result, self._history = result, history
        self._keep()
        self.result_changed.emit(result)
        self.history_changed.emit()

    @property
    def model(self) -> Any:
        """The model that was trained on or used for ``data``, or None."""
        return self._model

    def set_model(self, model: Any) -> None:
        """Change the model."""
        if model is not self._model:
            self._model = model
            self._keep()
            self.model_changed.emit(model)

    @property
    def content_model(self) -> Any:
        """The model that gave ``result`` its content codes, or None where it is not known; ``model`` may be newer."""
        return self._content_model

    @property
    def navigation(self) -> Navigation | None:
        """The directions found in the content codes of ``result``, or None."""
        return self._navigation

    def set_navigation(self, navigation: Navigation | None, model: Any = None) -> None:
        """Change the directions, or their names; ``model`` is the one they were found with, if it was not known."""
        if model is not None:
            self._content_model = model
        if navigation is not self._navigation:
            self._navigation = navigation
            self._keep()
            self.navigation_changed.emit(navigation)

    @property
    def selection(self) -> NDArray[np.int64]:
        """Ids of the selected particles, sorted, each once, shape (m,)."""
        return self._selection

    def select(self, ids: ArrayLike) -> None:
        """Replace the selection. Ids outside the data are dropped; an unchanged selection emits nothing."""
        chosen = np.array(ids, dtype=np.int64).ravel()
        if (chosen[1:] <= chosen[:-1]).any():  # numpy.unique takes seconds for a million
            chosen = np.sort(chosen)
            chosen = chosen[np.r_[True, chosen[1:] != chosen[:-1]]]
        if self._data is not None:
            chosen = chosen[(chosen >= 0) & (chosen < len(self._data))]
        if not np.array_equal(chosen, self._selection):
            self._selection = chosen
            self.selection_changed.emit(chosen)

    @property
    def current(self) -> int:
        """Id of the particle the viewer stands at."""
        return self._current

    def set_current(self, particle: int) -> None:
        """Go to a particle."""
        if particle != self._current:
            self._current = int(particle)
            self.current_changed.emit(self._current)

    def link(self, viewer: Any) -> None:
        """Let the current particle and the viewer's slider follow each other."""
        self._link = ViewerLink(self, viewer)

    @property
    def state(self) -> State:
        """Where the current run stands."""
        return self._state

    def set_state(self, state: State) -> None:
        """Change the state of the run."""
        if state is not self._state:
            self._state = state
            self.state_changed.emit(state)


_sessions: weakref.WeakKeyDictionary[Any, Session] = weakref.WeakKeyDictionary()


def session_of(viewer: Any) -> Session:
    """The one session of a viewer; made when first asked for, gone with the viewer.

    ``viewer`` may be the proxy that napari hands to plugins.
    """
    model = getattr(viewer, "__wrapped__", viewer)
    if model not in _sessions:
        session = _sessions[model] = Session()
        session.link(model)
        draw_safely_after_removals(model)
    return _sessions[model]
