"""What each button of the Harmony dock asks of the engine. No Qt here."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_harmony.engine.events import Done, Event, Progress

if TYPE_CHECKING:
    from napari_harmony.engine.settings import Settings
    from napari_harmony.particles.dataset import Particles
    from napari_harmony.results import Result
    from napari_harmony.widgets._runner import Work


class Action(Enum):
    """The four things that can be run."""

    TRAIN = "Train"
    ALIGN = "Align"
    CLUSTER = "Cluster"
    ALIGN_AND_CLUSTER = "Align and Cluster"


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
    """

    action: Action
    particles: Particles
    settings: Settings
    model: Any = None
    result: Result | None = None

    def work(self) -> Work:
        """The function that starts the engine; called in the worker thread, where torch may be imported."""
        return partial(_run, self)


def _run(job: Job) -> Iterator[Event]:
    yield Progress("loading the engine", 0.0)
    from napari_harmony.engine import api

    if job.action is Action.TRAIN:
        yield from api.fit(job.particles, job.settings)
    elif job.action is Action.CLUSTER and job.result is not None:
        yield from api.cluster(job.particles, job.result, job.settings)
    else:
        model = load_model(job.model) if isinstance(job.model, Path) else job.model
        regroup = model is not None and job.action is not Action.ALIGN
        settings = job.settings if job.model is None else _with_model(job.settings)
        done = yield from _part(api.align(job.particles, settings, model=model), 0.0, 0.8 if regroup else 1.0)
        if regroup and done is not None:
            # a model brings its own classes: those asked for are found among what it aligned
            again = yield from _part(api.cluster(job.particles, done.value, job.settings), 0.8, 1.0)
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


def finished(job: Job, done: Done, seconds: float) -> Done:
    """The end of a run with its wall time written into the result's summary."""
    if job.action is Action.TRAIN:
        return done
    known = done.value.summary.get("seconds")
    told = {**known, "total": round(seconds, 3)} if isinstance(known, dict) else {"total": round(seconds, 3)}
    return replace(done, value=replace(done.value, summary={**done.value.summary, "seconds": told}))
