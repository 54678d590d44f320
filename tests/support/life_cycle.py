"""Open and close docks or whole viewers many times, and print what is left after rounds, as JSON lines.

A program of its own, because the memory of a process that has run other tests says nothing:
``python life_cycle.py docks|viewers ROUNDS``.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from ctypes import CDLL
from typing import Any

import napari
import psutil
from gui_fakes import make_particles, make_result
from napari.utils.events import EventEmitter
from npe2 import PluginManager
from psygnal import SignalInstance
from qtpy.QtCore import QEvent, QThreadPool
from qtpy.QtWidgets import QApplication

from napari_harmony._layers import particles_layer
from napari_harmony.session import Session, session_of
from napari_harmony.widgets._dock import Dock

PLUGIN, PACKAGE = "napari-harmony", "napari_harmony"
COUNT, BOX = 3000, 32
LOOKED_AT = (3, 10, 25)  # rounds; looking takes longer than opening and closing


def dock_names() -> list[str]:
    """All docks of the manifest."""
    manager = PluginManager.instance()
    manager.discover()
    return [widget.display_name for widget in manager.get_manifest(PLUGIN).contributions.widgets or ()]


def fill(viewer: Any) -> None:
    """Particles with a result, so that docks have something to show."""
    particles = make_particles(COUNT, BOX)
    data, options, _ = particles_layer(particles, "particles")
    session = session_of(viewer)
    session.set_data(particles, viewer.add_image(data, **options))
    session.set_result(make_result(COUNT, box=BOX))


def open_and_close(viewer: Any, names: list[str]) -> None:
    """Every dock, as by the menu and by the cross in its corner; particles are selected while all are open."""
    frames = [viewer.window.add_plugin_dock_widget(PLUGIN, name)[0] for name in names]
    session = session_of(viewer)
    for chosen in (range(100), []):
        session.select(chosen)
        QApplication.processEvents()
    for frame in frames:
        frame.destroyOnClose()
    settle()


def settle() -> None:
    """Carry out what was put off: deletions, and timers of no length."""
    for _ in range(3):
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        QApplication.processEvents()


def left() -> dict[str, float]:
    """What is alive: callbacks of all signals, those of this plugin among them, docks, sessions and threads; the memory
    in use in MB.
    """
    for _ in range(2):  # what is collected may put off deletions of its own
        settle()
        gc.collect()
    found = gc.get_objects()
    callbacks = [slot.dereference() for thing in found if type(thing) is SignalInstance for slot in thing._slots]
    callbacks += [_function(slot) for thing in found if isinstance(thing, EventEmitter) for slot in thing.callbacks]
    with suppress(OSError, AttributeError):
        CDLL("libc.so.6").malloc_trim(0)  # what is free goes back to the system
    return {
        "callbacks": len(callbacks),
        "own": sum((getattr(callback, "__module__", None) or "").startswith(PACKAGE) for callback in callbacks),
        "docks": sum(isinstance(thing, Dock) for thing in found),
        "sessions": sum(type(thing) is Session for thing in found),
        "threads": threading.active_count() + QThreadPool.globalInstance().activeThreadCount(),
        "memory": psutil.Process().memory_info().rss / 2**20,
    }


def _function(slot: Any) -> Any:
    """What an emitter of napari calls: it keeps functions, and methods as a weak reference and a name."""
    if not isinstance(slot, tuple):
        return slot
    owner = slot[0]()
    return getattr(owner, slot[1], None) if owner is not None else None


def docks(rounds: int, tell: Callable[[], None]) -> None:
    """All docks of one viewer, again and again."""
    viewer = napari.Viewer(show=False)
    fill(viewer)
    names = dock_names()
    for number in range(1, rounds + 1):
        open_and_close(viewer, names)
        if number in LOOKED_AT or number == rounds:
            tell()
    viewer.close()


def viewers(rounds: int, tell: Callable[[], None]) -> None:
    """Viewers that are closed while all docks are open."""
    names = dock_names()
    for number in range(1, rounds + 1):
        viewer = napari.Viewer(show=False)
        fill(viewer)
        for name in names:
            viewer.window.add_plugin_dock_widget(PLUGIN, name)
        QApplication.processEvents()
        viewer.close()
        del viewer
        if number in LOOKED_AT or number == rounds:
            tell()


def main() -> None:
    """Print one line for each round that is looked at, and for the last."""
    what, rounds = sys.argv[1], int(sys.argv[2])
    application = QApplication.instance() or QApplication([])
    {"docks": docks, "viewers": viewers}[what](rounds, lambda: print(json.dumps(left()), flush=True))
    application.quit()


if __name__ == "__main__":
    main()
