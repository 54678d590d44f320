"""The runs of a viewer, one after another: they go on when the dock is closed, and draw their layers by themselves.

There is one of these for each viewer. It knows no widgets; the dock shows what it says.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QObject, Signal

from napari_harmony.engine.durations import duration
from napari_harmony.engine.events import Done, Event, Loss, Preview
from napari_harmony.errors import HarmonyError
from napari_harmony.session import session_of
from napari_harmony.widgets._loss_curve import LossCurve
from napari_harmony.widgets._result_layers import ResultLayers
from napari_harmony.widgets._runner import Runner, describe
from napari_harmony.widgets._work import Action, Job, Request, finished

if TYPE_CHECKING:
    from napari_harmony.engine.settings import Settings
    from napari_harmony.particles.dataset import Particles


@dataclass(frozen=True, eq=False)
class Notice:
    """A sentence for the user.

    Attributes
    ----------
    text : what to say
    error : whether it is about an error
    layer : gives the particles that the sentence leads to, or None
    lead : words of the button that goes there
    """

    text: str
    error: bool = False
    layer: Callable[[], Any] | None = None
    lead: str = ""


@dataclass(frozen=True, eq=False)
class Failure:
    """A run that failed while others waited, and why."""

    request: Request
    text: str


class Runs(QObject):
    """Runs what is asked for, in the order asked; what is asked for while something runs waits.

    Signals
    -------
    said(Notice) : something for the user to read
    changed() : what runs, waits or failed has changed
    """

    said = Signal(object)
    changed = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.session = session_of(viewer)
        self.runner = Runner(self.session, self)
        self.curve = LossCurve()
        self.current: Request | None = None
        self.finishing = False
        self.notice: Notice | None = None
        self._settings: dict[int, Settings] = {}  # by identity: data sets do not compare
        self._viewer = weakref.ref(getattr(viewer, "__wrapped__", viewer))
        self._waiting: list[Request] = []
        self._failures: list[Failure] = []
        self._job: Job | None = None
        self._started = 0.0
        self._watchers: set[int] = set()
        self.runner.heard.connect(self._on_event)
        self.runner.done.connect(self._on_done)
        self.runner.failed.connect(self._on_failed)
        self.runner.cancelled.connect(self._on_cancelled)
        self.runner.aborted.connect(self._waiting.clear)
        weakref.finalize(self._viewer(), self.runner.abandon)

    # -- who looks ---------------------------------------------------------------------------------------------------

    def watch(self, dock: int) -> None:
        """A dock, known by a number, shows what is said."""
        self._watchers.add(dock)

    def unwatch(self, dock: int) -> None:
        """A dock is closed; without any, napari's notifications say how runs end."""
        self._watchers.discard(dock)
        if self.current is not None and not self._watchers:
            show_info(f"{self.current.words} goes on; open the Harmony dock to see it, or to stop it.")

    def _say(self, notice: Notice) -> None:
        self.notice = notice
        self.said.emit(notice)
        if not self._watchers:
            (show_error if notice.error else show_info)(notice.text)

    # -- what is asked for -------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> tuple[Request, ...]:
        """What waits, the next first."""
        return tuple(self._waiting)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Runs that failed while others waited, until the user has taken note."""
        return tuple(self._failures)

    def submit(self, request: Request) -> None:
        """Run at once, or when everything before it is done."""
        if self.current is not None:
            self._waiting.append(request)
            self.changed.emit()
        else:
            self._start(request)

    def remove(self, entry: Request | Failure) -> None:
        """Take something out of the queue, or take note of a failure."""
        for entries in (self._waiting, self._failures):
            if entry in entries:
                entries.remove(entry)  # type: ignore[arg-type]
        self.changed.emit()

    def finish(self) -> None:
        """Let the run end soon with what it has; also where it is paused."""
        if self._job is not None:
            self._job.enough.set()
            self.finishing = True
            self.runner.resume()
            self.changed.emit()

    def why_not(self, request: Request) -> str:
        """Why this need not be asked for once more, or ""."""
        if self.current is not None and request.same_as(self.current):
            return "Exactly this is running already."
        if any(request.same_as(waiting) for waiting in self._waiting):
            return "Exactly this is in the queue already."
        return ""

    def uses(self, particles: Particles | None) -> bool:
        """Whether something runs, or waits to run, on these particles."""
        requests = [self.current, *self._waiting] if self.current is not None else self._waiting
        return any(request is not None and request.particles is particles for request in requests)

    def settings_of(self, particles: Particles) -> Settings | None:
        """What the latest result of these particles was made with."""
        return self._settings.get(id(particles))

    def _remember_settings(self, request: Request) -> None:
        key = id(request.particles)
        if key not in self._settings:
            weakref.finalize(request.particles, self._settings.pop, key, None)
        self._settings[key] = request.settings

    # -- running -----------------------------------------------------------------------------------------------------

    def _start(self, request: Request) -> None:
        self.current, self.finishing = request, False
        self._job = request.job(self.session.known(request.particles), threading.Event())
        self._started = time.monotonic()
        self.curve.clear()
        self.notice = None
        self.runner.submit(self._job.work(), f"{request.words} (napari-harmony)")
        self.changed.emit()

    def _next(self) -> None:
        """What ran has ended: run the first of what waits whose particles are still open."""
        self.current, self._job, self.finishing = None, None, False
        while self._waiting:
            request = self._waiting.pop(0)
            if self._layers(request)[0] is not None:
                self._start(request)
                return
            self._failures.append(Failure(request, "Its particles were removed from the viewer."))
        self.changed.emit()

    def _on_event(self, event: Event) -> None:
        request = self.current
        if isinstance(event, Loss):
            self.curve.add(event)
        elif isinstance(event, Preview) and request is not None and self._looked_at(request):
            layers, layer = self._layers(request)
            if layers is not None:
                layers.show_preview(event, layer, request.particles)

    def _on_done(self, done: Done) -> None:
        request, job = self.current, self._job
        if request is None or job is None:
            return
        seconds = time.monotonic() - self._started - self.runner.seconds_paused
        done = finished(job, done, seconds)
        if request.action is Action.TRAIN:
            self.session.deliver(request.particles, model=done.value)
        else:
            self._remember_settings(request)
            self.session.deliver(request.particles, done.value, done.model)
            self._draw(request, done.value)
        self._say(self._how_it_ended(request, duration(seconds)))
        self._next()

    def _how_it_ended(self, request: Request, took: str) -> Notice:
        whole = request.whole() if request.whole is not None else None
        if whole is not None:
            text = f"Tried on {len(request.particles):,} particles in {took}; the same settings are ready for all."
            return Notice(text, layer=request.whole, lead=f"Back to all of '{whole.name}'")
        if request.action is Action.TRAIN:
            text = f"Trained in {took}. Align now uses this model; Save model... keeps it."
        else:
            text = f"{request.action.value}: done in {took}."
        if self._looked_at(request):
            return Notice(text)
        return Notice(f"'{request.name}': {text}", layer=request.layer, lead=f"Show '{request.name}'")

    def _on_failed(self, error: Exception) -> None:
        text = str(error) if isinstance(error, HarmonyError) else describe(error)
        if self.current is not None:
            self._take_back(self.current)
            if self._waiting:
                self._failures.append(Failure(self.current, text))
        self._say(Notice(text, error=True))
        self._next()

    def _on_cancelled(self) -> None:
        if self.current is not None:
            self._take_back(self.current)
        self._say(Notice("Cancelled; nothing of that run was kept."))
        self._next()

    # -- layers ------------------------------------------------------------------------------------------------------

    def _looked_at(self, request: Request) -> bool:
        return self.session.data is request.particles

    def _layers(self, request: Request) -> tuple[ResultLayers | None, Any]:
        """What draws, and the layer of the particles; None where either is gone."""
        viewer, layer = self._viewer(), request.layer()
        if viewer is None or layer is None or layer not in viewer.layers:
            return None, None
        return ResultLayers(viewer), layer

    def _draw(self, request: Request, result: Any) -> None:
        layers, layer = self._layers(request)
        if layers is not None:
            layers.show_result(result, layer, request.particles)
            if not self._looked_at(request):
                layers.hide(layer)

    def _take_back(self, request: Request) -> None:
        """The result there was before takes the place of the previews; where there was none they go."""
        result = self.session.known(request.particles).result
        layers, layer = self._layers(request)
        if layers is None:
            return
        if result is None:
            layers.remove(layer)
        elif self._looked_at(request):
            layers.show_result(result, layer, request.particles)


_runs: weakref.WeakKeyDictionary[Any, Runs] = weakref.WeakKeyDictionary()


def runs_of(viewer: Any) -> Runs:
    """Those of a viewer; made when first asked for, gone with the viewer."""
    model = getattr(viewer, "__wrapped__", viewer)
    if model not in _runs:
        _runs[model] = Runs(model)
    return _runs[model]
