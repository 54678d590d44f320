"""Drives one run of the engine in a worker thread and says how it goes."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from qtpy.compat import isalive
from qtpy.QtCore import QObject, Signal

from napari_harmony.engine.events import Done, Event
from napari_harmony.errors import InferenceError
from napari_harmony.session import Session, State
from napari_harmony.widgets._workers import GeneratorInThread

if TYPE_CHECKING:
    from collections.abc import Generator

Work = Callable[[], Iterator[Event]]

_numbers = itertools.count(1)


class Runner(QObject):
    """Runs one piece of work at a time; a new one cancels the one before.

    Every signal is emitted in the main thread. What a cancelled run still has to say is dropped.

    Signals
    -------
    heard(Event) : each event but the last; not called "event", which is a method of every QObject
    done(Done) : the last event
    failed(Exception) : the run ended with an error
    cancelled() : the run was cancelled and its worker is gone
    aborted() : napari stopped the run, because its window closes; ``cancelled`` follows
    """

    heard = Signal(object)
    done = Signal(object)
    failed = Signal(object)
    cancelled = Signal()
    aborted = Signal()

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._task = 0
        self._stop = threading.Event()
        self._result: Done | None = None
        self._worker: Any = None
        self._pausing = False
        self._paused_at: float | None = None
        self._seconds_paused = 0.0

    def submit(self, work: Work, words: str = "work of napari-harmony") -> None:
        """Start ``work`` (a function that gives the generator of events) in a worker thread.

        ``words`` say what it is, for napari's question when its window is closed meanwhile.
        """
        self._halt()
        self._stop = stop = threading.Event()
        self._task = task = next(_numbers)
        self._result, self._pausing = None, False
        self._paused_at, self._seconds_paused = None, 0.0
        self._session.set_state(State.RUNNING)

        generator = drive(work, stop)

        def relay() -> Generator[Event, None, None]:  # superqt asks for a generator function, not for a generator
            yield from generator

        worded = _Worded(relay, words)
        self._worker = worker = create_worker(worded, _ignore_errors=True, _worker_class=GeneratorInThread)
        worker.yielded.connect(lambda event: self._on_event(task, event))
        worker.returned.connect(lambda _: self._on_returned(task))
        worker.errored.connect(lambda error: self._on_error(task, error))
        worker.paused.connect(lambda: self._on_paused(task, worker))
        worker.resumed.connect(lambda: self._on_resumed(task))
        # napari quits workers when its window closes: only then the generator is left suspended
        worker.aborted.connect(generator.close)
        worker.aborted.connect(lambda: self._on_aborted(task))
        worker.start()

    @property
    def pausing(self) -> bool:
        """Whether the run is paused, or will be at its next event."""
        return self._pausing

    @property
    def seconds_paused(self) -> float:
        """How long the latest run has been paused so far."""
        now = time.monotonic()
        return self._seconds_paused + (now - self._paused_at if self._paused_at is not None else 0.0)

    def pause(self) -> None:
        """Ask the run to wait; it does at its next event, and the state becomes ``PAUSED``."""
        if self._session.state is State.RUNNING and self._task:
            self._pausing = True
            self._worker.pause()

    def resume(self) -> None:
        """Let a paused run go on."""
        self._pausing = False
        if self._session.state is State.PAUSED and self._task:
            self._worker.resume()

    def cancel(self) -> None:
        """Ask the run to stop; it does at its next event. ``cancelled`` follows when it has."""
        if self._session.state in (State.RUNNING, State.PAUSED) and self._task:
            self._session.set_state(State.CANCELLING)
            self._halt()

    def abandon(self) -> None:
        """Cancel without waiting and without further signals: for a widget that is going away."""
        self._halt()
        if self._task and self._session.state.busy:
            self._session.set_state(State.IDLE)
        self._task = 0

    def _halt(self) -> None:
        """Stop the worker, also where it waits."""
        self._stop.set()
        if self._worker is not None:
            self._worker.resume()

    def _on_paused(self, task: int, worker: Any) -> None:
        # a pause that was taken back, or a cancel, may have come before the pause took effect
        if not self._is_current(task) or self._stop.is_set() or not self._pausing:
            worker.resume()
        else:
            self._paused_at = time.monotonic()
            self._session.set_state(State.PAUSED)

    def _on_resumed(self, task: int) -> None:
        if self._is_current(task) and self._session.state is State.PAUSED:
            self._seconds_paused, self._paused_at = self.seconds_paused, None
            self._session.set_state(State.RUNNING)

    def _is_current(self, task: int) -> bool:
        """Whether a signal comes from the worker that runs: no longer, once this object went with its window."""
        if not isalive(self):
            self._stop.set()
            return False
        return task == self._task

    def _on_aborted(self, task: int) -> None:
        if self._is_current(task):
            self._stop.set()
            self.aborted.emit()
            self._on_returned(task)

    def _on_event(self, task: int, event: Event) -> None:
        if not self._is_current(task) or self._stop.is_set():
            return
        if isinstance(event, Done):
            self._result = event
        else:
            self.heard.emit(event)

    def _on_returned(self, task: int) -> None:
        if not self._is_current(task):
            return
        self._task, self._worker = 0, None
        result, self._result = self._result, None
        if result is None:
            self._session.set_state(State.IDLE)
            self.cancelled.emit()
        else:
            self._session.set_state(State.DONE)
            self.done.emit(result)

    def _on_error(self, task: int, error: Exception) -> None:
        if not self._is_current(task):
            return
        self._task, self._worker = 0, None
        self._session.set_state(State.FAILED)
        self.failed.emit(error)


class _Worded(partial[Any]):
    """A function that napari calls by words: it shows them when its window is closed while the function runs."""

    def __new__(cls, function: Callable[..., Any], words: str) -> _Worded:
        made = super().__new__(cls, function)
        made.words = words
        return made

    words: str

    def __str__(self) -> str:
        return f"{self.words}; closing ends it, and nothing of it is kept"


def drive(work: Work, stop: threading.Event) -> Generator[Event, None, None]:
    """The events of ``work`` until it ends or ``stop`` is set; runs in the worker thread.

    Raises
    ------
    InferenceError
        For any RuntimeError, which torch's out-of-memory error is: superqt would take it for the deletion of the
        worker and the run would never end.
    """
    events: Any = None
    try:
        events = work()
        for event in events:
            if stop.is_set():
                return
            yield event
            if stop.is_set():  # cancelled while paused: the engine is not asked for more
                return
    except RuntimeError as error:
        raise InferenceError(describe(error)) from error
    finally:
        if hasattr(events, "close"):
            events.close()
        _release_device_memory()


def describe(error: BaseException) -> str:
    """One sentence for the user about an error of the device or of torch."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "out of memory" in text.lower() or "OutOfMemory" in type(error).__name__:
        return f"The device ran out of memory: choose the CPU, or close other programs that use the device ({text})."
    return f"The run stopped with {type(error).__name__}: {text}"


def _release_device_memory() -> None:
    """Give cached device memory back, if torch was used at all."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
