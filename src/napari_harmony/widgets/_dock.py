"""What all docks share: they listen while they are docked, stop when they are closed, and say errors in words."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import QWidget

from napari_harmony._layers import particles_of, result_of
from napari_harmony.errors import HarmonyError
from napari_harmony.session import Session
from napari_harmony.widgets._result_layers import is_source

Listener = tuple[Any, Callable[..., Any]]


class Dock(QWidget):
    """A dock widget with a life cycle.

    ``bind`` starts listening, ``unbind`` stops; both may be called again and again. napari takes the widget out of its
    dock when the dock is closed: that unbinds, and docking it again binds.
    """

    def __init__(self) -> None:
        super().__init__()
        self._listeners: list[Listener] = []
        self._bound = False
        # with the window everything is destroyed at once, and no method of this object may be called any more
        self.destroyed.connect(partial(_hang_up, self._listeners))

    def bind(self) -> None:
        """Start listening to the session and the viewer, and show what they hold."""
        if not self._bound:
            self._bound = True
            self._connect()

    def unbind(self) -> None:
        """Stop listening."""
        if self._bound:
            self._bound = False
            _hang_up(self._listeners)
            self._disconnect()
            _collection.order()

    def listen(self, signal: Any, callback: Callable[..., Any]) -> None:
        """Connect a psygnal or napari signal until ``unbind``."""
        signal.connect(callback)
        self._listeners.append((signal, callback))

    def attempt(self, action: Callable[[], Any]) -> None:
        """Do something at the user's wish; what they can act on is shown as one sentence."""
        try:
            action()
        except (HarmonyError, OSError) as error:
            show_error(str(error))

    def event(self, event: QEvent) -> bool:
        """Bind when docked, unbind when taken out of the dock."""
        if event.type() == QEvent.Type.ParentChange and hasattr(self, "_bound"):
            if self.parent() is None:
                self.unbind()
            else:
                self.bind()
        return super().event(event)

    def _connect(self) -> None:
        raise NotImplementedError

    def _disconnect(self) -> None:
        """Undo what ``_connect`` did beside ``listen``."""


def _hang_up(listeners: list[Listener]) -> None:
    for signal, callback in listeners:
        signal.disconnect(callback)
    listeners.clear()


class _Collection:
    """Gives back what closed docks held: Qt's and Python's objects hold each other in circles, and Python looks for
    those so seldom that memory would fall into pieces.
    """

    def __init__(self) -> None:
        self._due = False

    def order(self) -> None:
        """Collect once, when what happens now is over."""
        if not self._due:
            self._due = True
            QTimer.singleShot(0, self._collect)

    def _collect(self) -> None:
        self._due = False
        gc.collect()


_collection = _Collection()


def open_dock(viewer: Any, name: str) -> None:
    """Open another dock of this plugin, or bring it to the front."""
    dock, _ = viewer.window.add_plugin_dock_widget("napari-harmony", name)
    dock.show()
    dock.raise_()


def adopt_particles(viewer: Any, session: Session) -> None:
    """Take over a result as :func:`adopt_result`, or else the first particles there are, where there are none yet."""
    adopt_result(viewer, session)
    if session.data is not None or session.state.busy:
        return
    layer = next(filter(is_source, viewer.layers), None)
    if layer is not None:
        session.set_data(particles_of(layer), layer)


def adopt_result(viewer: Any, session: Session) -> None:
    """Take over a result that came with a layer, such as from a result folder, where the session has none yet."""
    if session.state.busy or session.result is not None:
        return
    for layer in reversed(viewer.layers):
        particles, result = particles_of(layer), result_of(layer)
        if particles is not None and result is not None and (session.data is None or session.data is particles):
            session.set_data(particles, layer)
            session.set_result(result)
            return
