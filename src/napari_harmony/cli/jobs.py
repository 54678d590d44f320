"""The jobs behind the commands: from files to files."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.cli.checkpoint import Checkpoint, describe_run, open_checkpoint
from napari_harmony.cli.followed import Followed, followed
from napari_harmony.cli.launch import Crew, crew_of
from napari_harmony.cli.options import check_positive
from napari_harmony.cli.progress import Reporter, SilentReporter, StageClock, drive, make_reporter
from napari_harmony.cli.run_options import Asked
from napari_harmony.errors import InputError, InputWarning
from napari_harmony.outputs import check_target, names, write_output
from napari_harmony.outputs.staging import staged

if TYPE_CHECKING:
    from napari_harmony.engine.team import Team
    from napari_harmony.particles.dataset import Particles
    from napari_harmony.results import Result

TRAIN, BUNDLED = "train", "bundled"


@dataclass(frozen=True)
class Job:
    """From a file to a folder.

    Attributes
    ----------
    source : file with the particles
    target : OUT folder, or where the model goes
    asked : the options of the run
    model : ``train``, ``bundled``, the path of a model, or the name of one in the library
    relion_job : also write RELION's file names
    """

    source: Path
    target: Path
    asked: Asked
    model: str = TRAIN
    relion_job: bool = False


def run_align(job: Job) -> Result:
    """Align and cluster a file of particles and write the OUT folder.

    Raises
    ------
    InputError : if the input, the model or the output cannot be used; nothing is then written
    InferenceError : if the run fails
    """
    with crew_of(job.asked.settings.device, job.asked.devices, job.asked.nodes) as crew:
        return _align(job, crew)


def _align(job: Job, crew: Crew) -> Result:
    """What each process of a job does of ``run_align``; the first one writes."""
    from napari_harmony.engine import api

    if crew.first:
        check_target(job.target)
    asked, clock = job.asked, StageClock("reading")
    with _reporter_for(job, crew) as reporter, heeding_warnings(reporter) as heard:
        check_rescale(job)
        particles = load_particles(job.source, asked.pixel_size, asked.tilt_range)
        model, settings = _load_model(job.model, particles.dimensions), asked.settings
        if model is not None and asked.transforms is None and not model.card.general:
            settings = replace(settings, transforms=tuple(model.card.transforms))
        if crew.first:
            check_target(job.target, files_of(particles))
        run, team = describe_run(particles, settings, model=job.model, tilt_range=asked.tilt_range), crew.meet()
        checkpointed = _checkpointed(job.target / names.CHECKPOINT, run, job, reporter, team)
        with checkpointed as checkpoint, _teller(reporter, checkpoint, team) as teller:
            state = _state(checkpoint, teller, team)
            done = drive(api.align(particles, settings, model=model, rescale=asked.rescale, **state), teller, clock)
            crew.over.set()
            if not team.first:
                finished: Result = done.value
                return finished
            result = _with_provenance(done.value, clock.seconds(), list(heard))
            write_output(
                job.target, particles, result, model=done.model or model, settings=settings, relion_job=job.relion_job
            )
        announce(reporter, job.target, result)
    return result


def run_train(job: Job) -> Any:
    """Fit a model to a file of particles and save it; returns the model. Raises as ``run_align``."""
    with crew_of(job.asked.settings.device, job.asked.devices, job.asked.nodes) as crew:
        return _train(job, crew)


def _train(job: Job, crew: Crew) -> Any:
    """What each process of a job does of ``run_train``; the first one writes."""
    from napari_harmony.engine import api

    folder, files = model_place(job.target)
    if crew.first:
        check_target(folder, [job.source], owned=files, proof=files[1])
    asked, clock = job.asked, StageClock("reading")
    with _reporter_for(job, crew) as reporter, heeding_warnings(reporter):
        check_rescale(job)
        particles = load_particles(job.source, asked.pixel_size, asked.tilt_range)
        start, settings = _load_model(job.model, particles.dimensions), asked.settings
        run, team = describe_run(particles, settings, model=job.model, tilt_range=asked.tilt_range), crew.meet()
        checkpointed = _checkpointed(folder / names.CHECKPOINT, run, job, reporter, team)
        with checkpointed as checkpoint, _teller(reporter, checkpoint, team) as teller:
            state = _state(checkpoint, teller, team)
            events = api.fit(particles, settings, model=start, rescale=asked.rescale, **state)
            model = drive(events, teller, clock).value
            crew.over.set()
            if not team.first:
                return model
            with staged(folder, files) as stage:
                model.save(stage / files[0])
        reporter.finish(f"Model written to {job.target}.", out=str(job.target.resolve()))
    return model


def _reporter_for(job: Job, crew: Crew) -> Reporter:
    """Where a process of a job reports to."""
    return make_reporter(job.asked.json_progress) if crew.first else SilentReporter()


def _teller(
    reporter: Reporter, checkpoint: Checkpoint, team: Team
) -> AbstractContextManager[Followed | SilentReporter]:
    """Whom a process tells how far it is, and who says when there is enough."""
    return followed(reporter, checkpoint.folder) if team.first else SilentReporter()


def _state(checkpoint: Checkpoint, teller: Followed | SilentReporter, team: Team) -> dict[str, Any]:
    """What the engine is told of the job around it."""
    return {"checkpoint": checkpoint.folder, "resume": checkpoint.resume, "enough": teller.enough, "team": team}


def load_particles(
    path: Path, pixel_size: float | None = None, tilt_range: tuple[float, float] | None = None
) -> Particles:
    """Open a file of particles; ``pixel_size`` in angstrom and ``tilt_range`` in degrees override what it says."""
    from napari_harmony.particles import open_particles

    if pixel_size is not None:
        check_positive("pixel_size", pixel_size)
    return open_particles(path, pixel_size=pixel_size, tilt_range=tilt_range)


def files_of(particles: Particles) -> list[Path]:
    """Every file that a run on these particles reads."""
    metadata = [particles.path] if particles.path is not None else []
    return metadata + [Path(file.path) for file in getattr(particles.images, "files", ())]


def check_rescale(job: Job) -> None:
    """Raise ``InputError`` where particles are to be rescaled to no model."""
    if job.asked.rescale and job.model == TRAIN:
        raise InputError("--rescale fits particles to a trained model: give one with --model, or leave it out.")
    if job.asked.rescale and job.model == BUNDLED:
        raise InputError("--rescale: the bundled model takes particles of any pixel size and box; leave it out.")


def _load_model(word: str, dimensions: int) -> Any:
    """The model a run starts from: None to fit one on the data, which have so many ``dimensions``."""
    if word == TRAIN:
        return None
    from napari_harmony.models import HarmonyModel
    from napari_harmony.models.bundled import bundled_model

    return HarmonyModel.load(bundled_model(dimensions) if word == BUNDLED else find_model(word))


def find_model(word: str) -> Path:
    """Where a model lies that the user calls ``word``: a path, if there is one, else a name in the library.

    Raises
    ------
    InputError : it is neither, with the names that the library has
    """
    from napari_harmony.library import default_library

    if Path(word).exists():
        return Path(word)
    if len(Path(word).parts) > 1 or Path(word).suffix in (".safetensors", ".json"):
        raise InputError(f"--model {word}: there is no such file; give the folder that 'train' wrote.")
    try:
        return default_library().find(word).folder
    except InputError as error:
        raise InputError(f"--model {word}: there is no such file, and {error}") from None


def model_place(path: Path) -> tuple[Path, tuple[str, str]]:
    """The folder, and the names in it, of the files of a model that the user calls ``path``: a folder or a file."""
    if path.suffix in (".safetensors", ".json"):
        return path.parent, (path.with_suffix(".safetensors").name, path.with_suffix(".json").name)
    return path, names.MODEL


@contextmanager
def _checkpointed(folder: Path, run: dict[str, Any], job: Job, reporter: Reporter, team: Team) -> Iterator[Checkpoint]:
    """A checkpoint folder that goes when the block ends well, or when there is nothing to continue from."""
    if not team.first:
        yield Checkpoint(folder, team.agreed(False))
        return
    checkpoint = open_checkpoint(folder, run, job.asked.resume)
    team.agreed(checkpoint.resume)
    if checkpoint.resume:
        reporter.note(f"Continuing the interrupted run in {folder.parent}.")
    elif job.asked.resume:
        reporter.note("There is no interrupted run to continue, so this one starts from the beginning.")
    try:
        yield checkpoint
    except BaseException as error:
        if isinstance(error, InputError) or not checkpoint.resumable:
            checkpoint.remove()
        else:
            reporter.note("The same command with --resume continues this run.")
        raise
    checkpoint.remove()


@contextmanager
def heeding_warnings(reporter: Reporter) -> Iterator[list[str]]:
    """Show warnings about the input as they come, once each, and collect them."""
    heard: list[str] = []

    def hear(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        text = str(message)
        if issubclass(category, InputWarning):
            if text not in heard:
                heard.append(text)
                reporter.note(f"Warning: {text}")
        elif sys.stderr is not None:
            sys.stderr.write(warnings.formatwarning(message, category, *where[:2]))

    with warnings.catch_warnings():
        warnings.simplefilter("always", InputWarning)
        warnings.showwarning = hear
        yield heard


def _with_provenance(result: Result, seconds: dict[str, float], heard: list[str]) -> Result:
    """The result with how long it took, and what the input deserved a look for."""
    known = result.summary.get("seconds")
    if isinstance(known, dict):
        seconds = {"reading": seconds.get("reading", 0.0), **known, "total": seconds["total"]}
    told = [*result.warnings, *(text for text in heard if text not in result.warnings)]
    rounded = {stage: round(float(value), 3) for stage, value in seconds.items()}
    return replace(result, summary={**result.summary, "seconds": rounded, "warnings": told})


def announce(reporter: Reporter, folder: Path, result: Result) -> None:
    """Say in one line what came out; warnings of the run before it."""
    for warning in result.warnings:
        reporter.note(f"Warning: {warning}")
    finite = result.resolution[np.isfinite(result.resolution)]
    best = f", best resolution {finite.min():.1f} A" if len(finite) else ""
    classified = int(result.counts.sum())
    reporter.finish(
        f"{len(result)} particles, {classified} in {result.classes} classes{best}: {folder / names.REPORT}",
        out=str(folder.resolve()),
        particles=len(result),
        classified=classified,
        flagged=int(result.flagged.sum()),
        classes=result.classes,
        warnings=list(result.warnings),
        **{name: result.summary[name] for name in ("large",) if name in result.summary},
    )
