"""The engine as the rest of the package calls it: ``fit``, ``align`` and ``cluster``, generators of events."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from threading import Event as Flag
from typing import Any, TypeAlias

from napari_harmony.engine.events import Done, Event
from napari_harmony.engine.memory import is_out_of_memory
from napari_harmony.engine.pace import remember
from napari_harmony.engine.portions import portions_of
from napari_harmony.engine.rescaled import in_original_pixels, rescaled_for
from napari_harmony.engine.run import Run
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.streamed import StreamedRun
from napari_harmony.engine.team import ALONE, Team
from napari_harmony.engine.volumes.references import check_references
from napari_harmony.engine.volumes.run import VolumeRun
from napari_harmony.errors import InferenceError, InputError
from napari_harmony.models import HarmonyModel
from napari_harmony.particles.dataset import Particles
from napari_harmony.results import Result

AnyRun: TypeAlias = Run | VolumeRun
Events: TypeAlias = Generator[Event, None, None]


def fit(
    particles: Particles,
    settings: Settings,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    enough: Flag | None = None,
    model: HarmonyModel | None = None,
    rescale: bool = False,
    team: Team = ALONE,
) -> Iterator[Event]:
    """Search the particles and train a Harmony network on them; ends with ``Done(model, model)``.

    Parameters
    ----------
    model : one whose training goes on with these particles; it stays as it is, and the new one has its classes, or
        classes of its own where the model is one for any particles
    rescale : bring particles of another pixel size or box to those of ``model``
    checkpoint : folder to keep the state of the run in; None keeps nothing
    resume : continue from the state in ``checkpoint``
    enough : when it is set, from whichever thread, the run ends soon with what it has; what was left out for that is
        said in a warning of the result that begins with "Stopped early"
    team : processes that share the particles out; each makes this call with the same arguments and gets the same

    Raises
    ------
    InputError for input that cannot be used, InferenceError for a run that failed; both in one sentence.
    """
    if model is not None and model.card.general:
        more: dict[str, Any] = {"checkpoint": checkpoint, "resume": resume, "enough": enough, "team": team}
        for event in align(particles, settings, model=model, **more):
            yield Done(event.model, event.model) if isinstance(event, Done) else event
        return
    if model is not None:
        yield from _in_words(_tune(particles, settings, model, checkpoint, resume, enough, rescale, team))
        return
    run = _run(particles, settings, checkpoint, resume, enough, team)
    check_references(settings.references)
    yield from _in_words(_fit(run))


def align(
    particles: Particles,
    settings: Settings,
    *,
    model: HarmonyModel | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    enough: Flag | None = None,
    rescale: bool = False,
    team: Team = ALONE,
) -> Iterator[Event]:
    """Class, pose and content of every particle; ends with ``Done(result, model)``.

    Without ``model`` one is fitted to the particles; with one, its classes are kept and each particle is placed on
    them. With ``rescale`` particles of another pixel size or box are first brought to those of the model; the result
    is one of the particles given. From a model for any particles (``card.general``) a run starts that finds classes of
    its own; nothing is rescaled for it. Other parameters, and errors, as for :func:`fit`.
    """
    if model is not None and model.card.general:
        yield from _in_words(_adapt(particles, settings, model, checkpoint, resume, enough, team))
        return
    given = particles
    if model is not None and rescale:
        particles = rescaled_for(given, model.card)
    run = _run(particles, settings, checkpoint, resume, enough, team)
    if model is not None:
        _check_dimensions(model, particles)
    if model is not None and particles.dimensions == 3:
        settings.check_model()
    if model is None:
        check_references(settings.references)
    events = _align(run) if model is None else _apply(run, model)
    yield from _in_words(events if particles is given else in_original_pixels(events, particles, given))


def cluster(particles: Particles, result: Result, settings: Settings, *, enough: Flag | None = None) -> Iterator[Event]:
    """Group the content codes of an earlier result anew and average again; ends with ``Done(result)``.

    Poses start from those of ``result``. ``enough`` and errors as for :func:`fit`.
    """
    yield from _in_words(_cluster(_run(particles, settings, None, False, enough, ALONE), result))


def average_classes(
    particles: Particles, result: Result, classes: Sequence[int], *, device: str = "auto"
) -> Iterator[Event]:
    """Average some classes of a result again in the poses it has, after edits; ends with ``Done(Averaged)``.

    Errors as for :func:`fit`.
    """
    from napari_harmony.engine import reaverage

    yield from _in_words(reaverage.average_classes(particles, result, classes, device))


def _run(
    particles: Particles, settings: Settings, checkpoint: Path | None, resume: bool, enough: Flag | None, team: Team
) -> AnyRun:
    """The run that fits the particles."""
    settings.check_defocus(particles.dimensions, particles.ctf is not None)
    if particles.dimensions == 3:
        return VolumeRun(particles, settings, checkpoint, resume, enough, team)
    settings.check_images()
    kind = Run if portions_of(particles, settings) is None else StreamedRun
    return kind(particles, settings, checkpoint, resume, enough, team)


def _fit(run: AnyRun) -> Events:
    _, model = yield from run.clock.watch(run.fit())
    model = _signed(model, run.particles)
    yield _done(run, model, model)


def _tune(
    particles: Particles,
    settings: Settings,
    model: HarmonyModel,
    checkpoint: Path | None,
    resume: bool,
    enough: Flag | None,
    rescale: bool,
    team: Team,
) -> Events:
    from napari_harmony.engine.finetune import FineTuning, VolumeFineTuning, tuning_settings

    _check_dimensions(model, particles)
    settings = tuning_settings(settings, model.card)
    settings.check_defocus(particles.dimensions, particles.ctf is not None)
    used = rescaled_for(particles, model.card) if rescale else particles
    tuning = VolumeFineTuning if particles.dimensions == 3 else FineTuning
    run = tuning(used, settings, checkpoint, resume, enough, team)
    _, tuned = yield from run.clock.watch(run.tune(model))
    tuned = _signed(tuned, particles)
    yield _done(run, tuned, tuned)


def _adapt(
    particles: Particles,
    settings: Settings,
    model: HarmonyModel,
    checkpoint: Path | None,
    resume: bool,
    enough: Flag | None,
    team: Team,
) -> Events:
    from napari_harmony.engine.adapt import Adapting, StreamedAdapting
    from napari_harmony.engine.volumes.adapt import VolumeAdapting

    _check_dimensions(model, particles)
    settings.check_defocus(particles.dimensions, particles.ctf is not None)
    kind: type[VolumeAdapting | Adapting] = VolumeAdapting
    if particles.dimensions == 2:
        settings.check_images()
        kind = Adapting if portions_of(particles, settings) is None else StreamedAdapting
    run = kind(particles, settings, checkpoint, resume, enough, team)
    result, adapted = yield from run.clock.watch(run.adapt(model))
    yield _done(run, result, _signed(adapted, particles))


def _check_dimensions(model: HarmonyModel, particles: Particles) -> None:
    """Raise ``InputError`` where a model is of images and the particles are subtomograms, or the other way round."""
    if model.card.dimensions != particles.dimensions:
        of, these = ("images", "subtomograms") if model.card.dimensions == 2 else ("subtomograms", "images")
        raise InputError(f"The model is of {of}, but these are {these}: train one on them, or choose another model.")


def _align(run: AnyRun) -> Events:
    result, model = yield from run.clock.watch(run.fit())
    yield _done(run, result, _signed(model, run.particles))


def _signed(model: HarmonyModel, particles: Particles) -> HarmonyModel:
    """The model with a card that says on what and when it was trained."""
    name = particles.path.name if particles.path is not None else "particles in memory"
    return replace(model, card=replace(model.card, trained_on=name, trained=date.today().isoformat()))


def _apply(run: AnyRun, model: HarmonyModel) -> Events:
    result = yield from run.clock.watch(run.apply(model))
    yield _done(run, result, model)


def _cluster(run: AnyRun, result: Result) -> Events:
    clustered = yield from run.clock.watch(run.cluster(result))
    yield _done(run, clustered, None)


def _done(run: AnyRun, value: HarmonyModel | Result, model: HarmonyModel | None) -> Done:
    """The last event of a run; how fast it was helps to foretell the next one."""
    if run.team.size == 1 and not run.enough.warnings:
        remember(run.pace, run.clock)
    return Done(value, model)


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
