"""The engine as the rest of the package calls it: ``fit``, ``align`` and ``cluster``, generators of events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from napari_harmony.engine.events import Done, Event
from napari_harmony.engine.memory import is_out_of_memory
from napari_harmony.engine.rescaled import in_original_pixels, rescaled_for
from napari_harmony.engine.run import Run
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.volumes.references import check_references
from napari_harmony.engine.volumes.run import VolumeRun
from napari_harmony.errors import InferenceError, InputError
from napari_harmony.models import HarmonyModel
from napari_harmony.particles.dataset import Particles
from napari_harmony.results import Result


def fit(
    particles: Particles, settings: Settings, *, checkpoint: Path | None = None, resume: bool = False
) -> Iterator[Event]:
    """Search the particles and train a Harmony network on them; ends with ``Done(model, model)``.

    Parameters
    ----------
    checkpoint : folder to keep the state of the run in; None keeps nothing
    resume : continue from the state in ``checkpoint``

    Raises
    ------
    InputError for input that cannot be used, InferenceError for a run that failed; both in one sentence.
    """
    run = _run(particles, settings, checkpoint, resume)
    check_references(settings.references)
    yield from _in_words(_fit(run))


def align(
    particles: Particles,
    settings: Settings,
    *,
    model: HarmonyModel | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    rescale: bool = False,
) -> Iterator[Event]:
    """Class, pose and content of every particle; ends with ``Done(result, model)``.

    Without ``model`` one is fitted to the particles; with one, its classes are kept and each particle is placed on
    them. With ``rescale`` particles of another pixel size or box are first brought to those of the model; the result
    is one of the particles given. Other parameters, and errors, as for :func:`fit`.
    """
    given = particles
    if model is not None and rescale:
        particles = rescaled_for(given, model.card)
    run = _run(particles, settings, checkpoint, resume)
    if model is not None and model.card.dimensions != particles.dimensions:
        of, these = ("images", "subtomograms") if model.card.dimensions == 2 else ("subtomograms", "images")
        raise InputError(f"The model is of {of}, but these are {these}: train one on them, or choose another model.")
    if model is not None and particles.dimensions == 3:
        settings.check_model()
    if model is None:
        check_references(settings.references)
    events = _align(run) if model is None else _apply(run, model)
    yield from _in_words(events if particles is given else in_original_pixels(events, particles, given))


def cluster(particles: Particles, result: Result, settings: Settings) -> Iterator[Event]:
    """Group the content codes of an earlier result anew and average again; ends with ``Done(result)``.

    Poses start from those of ``result``. Errors as for :func:`fit`.
    """
    yield from _in_words(_cluster(_run(particles, settings, None, False), result))


def average_classes(
    particles: Particles, result: Result, classes: Sequence[int], *, device: str = "auto"
) -> Iterator[Event]:
    """Average some classes of a result again in the poses it has, after edits; ends with ``Done(Averaged)``.

    Errors as for :func:`fit`.
    """
    from napari_harmony.engine import reaverage

    yield from _in_words(reaverage.average_classes(particles, result, classes, device))


def _run(particles: Particles, settings: Settings, checkpoint: Path | None, resume: bool) -> Run | VolumeRun:
    """The run that fits the particles."""
    settings.check_defocus(particles.dimensions, particles.ctf is not None)
    if particles.dimensions == 3:
        return VolumeRun(particles, settings, checkpoint, resume)
    settings.check_images()
    return Run(particles, settings, checkpoint, resume)


def _fit(run: Run | VolumeRun) -> Iterator[Event]:
    _, model = yield from run.fit()
    model = _signed(model, run.particles)
    yield Done(model, model)


def _align(run: Run | VolumeRun) -> Iterator[Event]:
    result, model = yield from run.fit()
    yield Done(result, _signed(model, run.particles))


def _signed(model: HarmonyModel, particles: Particles) -> HarmonyModel:
    """The model with a card that says on what and when it was trained."""
    name = particles.path.name if particles.path is not None else "particles in memory"
    return replace(model, card=replace(model.card, trained_on=name, trained=date.today().isoformat()))


def _apply(run: Run | VolumeRun, model: HarmonyModel) -> Iterator[Event]:
    result = yield from run.apply(model)
    yield Done(result, model)


def _cluster(run: Run | VolumeRun, result: Result) -> Iterator[Event]:
    clustered = yield from run.cluster(result)
    yield Done(clustered, None)


def _in_words(events: Iterator[Event]) -> Iterator[Event]:
    """The same events; failures of torch and exhausted memory become one sentence."""
    try:
        yield from events
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise InferenceError(
                "The run needs more memory than there is: close other programs, "
                "lower the batch memory, or choose the CPU."
            ) from error
        reason = str(error).strip() or type(error).__name__
        raise InferenceError(f"The computation failed: {reason.splitlines()[0]}") from error
