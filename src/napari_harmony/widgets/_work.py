"""What each button of the Harmony dock asks of the engine. No Qt here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_harmony.engine.events import Done, Event, Progress

if TYPE_CHECKING:
    from napari_harmony.engine.settings import Settings
    from napari_harmony.particles.dataset import Particles
    from napari_harmony.results import Result
    from napari_harmony.session import Known
    from napari_harmony.widgets._runner import Work

#: Models that are not files: fitted to the particles, or the one that was fitted to them last.
TRAIN, LAST = "train", "last"


class Action(Enum):
    """The four things that can be run."""

    TRAIN = "Train"
    ALIGN = "Align"
    CLUSTER = "Cluster"
    ALIGN_AND_CLUSTER = "Align and Cluster"


@dataclass(frozen=True, eq=False)
class Request:
    """What the user asked for: run at once, or when it is its turn.

    Attributes
    ----------
    action : which button
    particles : to work on
    settings : as they stood when it was asked for
    model : ``TRAIN``, ``LAST``, or the path of a saved one
    name : of the particles' layer
    layer : gives that layer, or None where it is gone
    whole : for a trial on some particles, gives the layer of all of them
    rescale : bring the particles to the pixel size and box of the saved model
    """

    action: Action
    particles: Particles
    settings: Settings
    model: str | Path
    name: str
    layer: Callable[[], Any]
    whole: Callable[[], Any] | None = None
    rescale: bool = False

    @property
    def words(self) -> str:
        """Such as "Align of 'stack'"."""
        return f"{self.action.value} of '{self.name}'"

    def same_as(self, other: Request) -> bool:
        """Whether both would do the same."""
        same_data = self.action is other.action and self.particles is other.particles
        same_model = self.model == other.model and self.rescale == other.rescale
        return same_data and same_model and self.settings == other.settings

    def job(self, known: Known, enough: threading.Event) -> Job:
        """The run, with the model and the result that there are by now."""
        model: Any = None
        if isinstance(self.model, Path):
            model = self.model
        elif self.model == LAST or self.action is Action.ALIGN:  # Align after Train: with what was just trained
            model = known.model
        rescale = self.rescale and isinstance(self.model, Path)
        return Job(self.action, self.particles, self.settings, model, known.result, enough, rescale, self.name)


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes
    ----------
    action : what the user asked for
    particles : to work on
    settings : parameters
    model : a trained model, the path of a saved one, or None to fit one on the particles
    result : an earlier result of the same particles, for ``CLUSTER``
    enough : set while it runs, it ends soon with what there is
    name : of the particles' layer
    rescale : bring the particles to the pixel size and box of the model
    """

    action: Action
    particles: Particles
    settings: Settings
    model: Any = None
    result: Result | None = None
    enough: threading.Event = field(default_factory=threading.Event)
    rescale: bool = False
    name: str = ""

    def work(self) -> Work:
        """The function that starts the engine; called in the worker thread, where torch may be imported."""
        return partial(_run, self)


def _run(job: Job) -> Iterator[Event]:
    yield Progress("loading the engine", 0.0)
    from napari_harmony.engine import api

    if job.action is Action.TRAIN:
        start = load_model(job.model) if isinstance(job.model, Path) else None
        settings = job.settings if start is None else _with_model(job.settings)
        yield from api.fit(job.particles, settings, enough=job.enough, model=start, rescale=job.rescale)
    elif job.action is Action.CLUSTER and job.result is not None:
        yield from api.cluster(job.particles, job.result, job.settings, enough=job.enough)
    else:
        model = load_model(job.model) if isinstance(job.model, Path) else job.model
        regroup = model is not None and not model.card.general and job.action is not Action.ALIGN
        settings = job.settings if job.model is None else _with_model(job.settings)
        aligned = api.align(job.particles, settings, model=model, enough=job.enough, rescale=job.rescale)
        done = yield from _part(aligned, 0.0, 0.8 if regroup else 1.0)
        if regroup and done is not None:
            # a model brings its own classes: those asked for are found among what it aligned
            grouped = api.cluster(job.particles, done.value, job.settings, enough=job.enough)
            again = yield from _part(grouped, 0.8, 1.0)
            done = Done(again.value, done.model) if again is not None else None
        if done is not None:
            yield done


def _with_model(settings: Settings) -> Settings:
    """The settings without what only a training asks for: a model brings its classes and their frame."""
    return replace(settings, start="search", local_search=None, free_rot=False, references=())


def _part(events: Iterator[Event], start: float, end: float) -> Generator[Event, None, Done | None]:
    """Pass on all events but the last, which is returned; the progress runs from ``start`` to ``end``."""
    for event in events:
        if isinstance(event, Done):
            return event
        if isinstance(event, Progress):
            # the time left of a part is not that of the whole
            left = event.seconds_left if end == 1.0 else None
            event = replace(event, fraction=start + (end - start) * event.fraction, seconds_left=left)
        yield event
    return None


def load_model(path: Path) -> Any:
    """A saved model; ``path`` is its folder or a file in it.

    Raises
    ------
    InputError
        Where there is no model, or one that does not match this version.
    """
    from napari_harmony.models import HarmonyModel

    return HarmonyModel.load(path)


def save_model(model: Any, folder: Path) -> None:
    """Write ``model.safetensors`` and ``model.json`` into a folder."""
    from napari_harmony.outputs import check_target, names
    from napari_harmony.outputs.staging import staged

    check_target(folder, owned=names.MODEL, proof=names.MODEL[1])
    with staged(folder, names.MODEL) as stage:
        model.save(stage)


def _named(model: Any, job: Job) -> Any:
    """A model that was trained on particles in no file, with a card that says what their layer is called."""
    card = getattr(model, "card", None)
    if card is None or job.particles.path is not None or not job.name:
        return model
    return replace(model, card=replace(card, trained_on=job.name))


def finished(job: Job, done: Done, seconds: float) -> Done:
    """The end of a run, with its wall time in the result's summary, and the layer's name on the card of a new model."""
    if job.action is Action.TRAIN:
        return replace(done, value=_named(done.value, job))
    if job.model is None:
        done = replace(done, model=_named(done.model, job))
    known = done.value.summary.get("seconds")
    told = {**known, "total": round(seconds, 3)} if isinstance(known, dict) else {"total": round(seconds, 3)}
    return replace(done, value=replace(done.value, summary={**done.value.summary, "seconds": told}))
