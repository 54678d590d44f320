"""The engine as the rest of the package calls it: ``fit``, ``align`` and ``cluster``, generators of events."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from threading import Event as Flag
from typing import TypeAlias, TypeVar

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
RunT = TypeVar("RunT", bound=AnyRun)
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
    order = _Order(particles, settings, checkpoint, resume, enough, team)
    if model is None:
        check_references(settings.references)
        yield from _in_words(_fit(order.fitting()))
    elif model.card.general:
        for event in _in_words(_adapt(order, model)):
            yield Done(event.model, event.model) if isinstance(event, Done) else event
    else:
        yield from _in_words(_tune(order, model, rescale))


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
    order = _Order(particles, settings, checkpoint, resume, enough, team)
    if model is None:
        check_references(settings.references)
        yield from _in_words(_align(order.fitting()))
    elif model.card.general:
        yield from _in_words(_adapt(order, model))
    else:
        yield from _in_words(_place(order, model, rescale))


def cluster(particles: Particles, result: Result, settings: Settings, *, enough: Flag | None = None) -> Iterator[Event]:
    """Group the content codes of an earlier result anew and average again; ends with ``Done(result)``.

    Poses start from those of ``result``. ``enough`` and errors as for :func:`fit`.
    """
    yield from _in_words(_cluster(_Order(particles, settings, enough=enough).fitting(), result))


def average_classes(
    particles: Particles, result: Result, classes: Sequence[int], *, device: str = "auto"
) -> Iterator[Event]:
    """Average some classes of a result again in the poses it has, after edits; ends with ``Done(Averaged)``.

    Errors as for :func:`fit`.
    """
    from napari_harmony.engine import reaverage

    yield from _in_words(reaverage.average_classes(particles, result, classes, device))


@dataclass(frozen=True)
class _Order:
    """What a run is asked to do, whichever kind of run does it; attributes as the parameters of :func:`fit`."""

    particles: Particles
    settings: Settings
    checkpoint: Path | None = None
    resume: bool = False
    enough: Flag | None = None
    team: Team = ALONE

    def given_to(self, kind: type[RunT]) -> RunT:
        """A run of a kind that does it."""
        self.settings.check_defocus(self.particles.dimensions, self.particles.ctf is not None)
        if self.particles.dimensions == 2:
            self.settings.check_images()
        return kind(self.particles, self.settings, self.checkpoint, self.resume, self.enough, self.team)

    def fitting(self) -> AnyRun:
        """The run that fits the particles, or places them on what was fitted before."""
        if self.particles.dimensions == 3:
            return self.given_to(VolumeRun)
        return self.given_to(StreamedRun if self.in_portions else Run)

    @property
    def in_portions(self) -> bool:
        """Whether the images are too many to be held at a time."""
        return portions_of(self.particles, self.settings) is not None


def _fit(run: AnyRun) -> Events:
    _, model = yield from run.clock.watch(run.fit())
    model = _signed(model, run.particles)
    yield _done(run, model, model)


def _tune(order: _Order, model: HarmonyModel, rescale: bool) -> Events:
    from napari_harmony.engine.finetune import FineTuning, VolumeFineTuning, tuning_settings

    _check_dimensions(model, order.particles)
    particles = rescaled_for(order.particles, model.card) if rescale else order.particles
    suited = replace(order, particles=particles, settings=tuning_settings(order.settings, model.card))
    run: VolumeFineTuning | FineTuning
    run = suited.given_to(VolumeFineTuning) if particles.dimensions == 3 else suited.given_to(FineTuning)
    _, tuned = yield from run.clock.watch(run.tune(model))
    tuned = _signed(tuned, order.particles)
    yield _done(run, tuned, tuned)


def _adapt(order: _Order, model: HarmonyModel) -> Events:
    from napari_harmony.engine.adapt import Adapting, StreamedAdapting
    from napari_harmony.engine.volumes.adapt import VolumeAdapting

    _check_dimensions(model, order.particles)
    run: VolumeAdapting | Adapting
    if order.particles.dimensions == 3:
        run = order.given_to(VolumeAdapting)
    else:
        run = order.given_to(StreamedAdapting if order.in_portions else Adapting)
    result, adapted = yield from run.clock.watch(run.adapt(model))
    yield _done(run, result, _signed(adapted, order.particles))


def _place(order: _Order, model: HarmonyModel, rescale: bool) -> Events:
    given = order.particles
    particles = rescaled_for(given, model.card) if rescale else given
    _check_dimensions(model, particles)
    if particles.dimensions == 3:
        order.settings.check_model()
    events = _apply(replace(order, particles=particles).fitting(), model)
    yield from events if particles is given else in_original_pixels(events, particles, given)


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
