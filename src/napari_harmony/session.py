"""What the dock widgets of one viewer share: the particles, the result, the selection and the state of the run.

Widgets never talk to each other. They set something here and listen to the signals; whoever set it hears it too.
No Qt and no napari is imported, so that every rule in this module can be tested without a window.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

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
    """Where the current run stands. Only ``RUNNING`` and ``CANCELLING`` mean that a worker is alive."""

    IDLE = "idle"
    RUNNING = "running"
    CANCELLING = "cancelling"
    DONE = "done"
    FAILED = "failed"

    @property
    def busy(self) -> bool:
        """Whether a worker is alive."""
        return self in (State.RUNNING, State.CANCELLING)


@dataclass
class _History:
    """Results before the edits that can be undone, and after those that can be done again; the last is the next."""

    past: list[Result] = field(default_factory=list)
    future: list[Result] = field(default_factory=list)


@dataclass(frozen=True)
class _Kept:
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
        self._kept: dict[int, _Kept] = {}
        self._link: ViewerLink | None = None

    def _keep(self) -> None:
        if self._data is not None:
            # by identity: data sets do not compare; the entry goes with its data set
            key = id(self._data)
            if key not in self._kept:
                weakref.finalize(self._data, self._kept.pop, key, None)
            self._kept[key] = _Kept(self._result, self._model, self._content_model, self._navigation, self._history)

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
        kept = self._kept.get(id(data), _Kept())
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


class ViewerLink:
    """Keeps the session's current particle and the viewer's slider at the same particle, both ways.

    The slider counts the images of the layer that is looked at, which may hold some of the particles only.
    """

    def __init__(self, session: Session, viewer: Any) -> None:
        self._session = session
        self._viewer = weakref.ref(viewer)
        self._moving = False
        viewer.dims.events.current_step.connect(self._on_slider)
        viewer.layers.selection.events.active.connect(self._on_slider)
        session.current_changed.connect(self._on_current)

    def _stacks(self) -> list[Any]:
        """Layers that show the session's particles, the one looked at first: the active one, then from the top."""
        viewer, data = self._viewer(), self._session.data
        if viewer is None or data is None:
            return []
        own = self._session.layer
        stacks = [x for x in reversed(viewer.layers) if x is own or getattr(x.data, "particles", None) is data]
        active = viewer.layers.selection.active
        return sorted(stacks, key=lambda layer: (layer is not active, not layer.visible))

    def _on_slider(self, _event: Any = None) -> None:
        viewer, stacks = self._viewer(), self._stacks()
        if self._moving or viewer is None or not stacks:
            return
        layer = stacks[0]
        axis = viewer.dims.ndim - layer.ndim
        particle = particle_at(layer, round(layer.world_to_data(viewer.dims.point[axis:])[0]))
        if particle is not None:
            self._moving = True
            self._session.set_current(particle)
            self._moving = False

    def _on_current(self, particle: int) -> None:
        viewer, stacks = self._viewer(), self._stacks()
        if self._moving or viewer is None or not stacks:
            return
        layer = next((x for x in stacks if _position_of(x, particle) is not None), None)
        if layer is None:
            return
        self._moving = True
        for other in stacks:
            # a stack of other particles would lie over the one asked for
            if _position_of(other, particle) != _position_of(layer, particle):
                other.visible = False
        if not layer.visible:
            layer.visible = True
        viewer.layers.selection.active = layer
        position = _position_of(layer, particle)
        axis = viewer.dims.ndim - layer.ndim
        if layer.ndim == 4:
            from napari_harmony._layers import stand_inside

            stand_inside(viewer, layer)
        viewer.dims.set_point(axis, layer.data_to_world((position, *[0] * (layer.ndim - 1)))[0])
        self._moving = False


def particle_at(layer: Any, position: int) -> int | None:
    """The particle that a layer shows at a slider position, or None."""
    find = getattr(layer.data, "particle_at", None)
    if find is not None:
        return find(position)
    return position if 0 <= position < layer.data.shape[0] else None


def _position_of(layer: Any, particle: int) -> int | None:
    find = getattr(layer.data, "position_of", None)
    if find is not None:
        return find(particle)
    return particle if 0 <= particle < layer.data.shape[0] else None


_sessions: weakref.WeakKeyDictionary[Any, Session] = weakref.WeakKeyDictionary()


def session_of(viewer: Any) -> Session:
    """The one session of a viewer; made when first asked for, gone with the viewer.

    ``viewer`` may be the proxy that napari hands to plugins.
    """
    model = getattr(viewer, "__wrapped__", viewer)
    if model not in _sessions:
        session = _sessions[model] = Session()
        session.link(model)
    return _sessions[model]
