"""The ``extract`` command: subtomograms out of a tomogram."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from napari_harmony.cli.jobs import heeding_warnings
from napari_harmony.cli.options import check_positive
from napari_harmony.cli.progress import StageClock, drive, make_reporter
from napari_harmony.engine.events import Done, Event, Progress
from napari_harmony.errors import InputError
from napari_harmony.particles.coordinates import Coordinates, read_coordinates
from napari_harmony.particles.extract import Extracted, ExtractSettings, extract, particles_along_lines
from napari_harmony.particles.tomogram import Tomogram, open_tomogram
from napari_harmony.particles.wedge import TiltRange


@dataclass(frozen=True)
class ExtractJob:
    """What the user asked of ``extract``.

    Attributes
    ----------
    tomogram, coordinates : files
    target : OUT folder
    tomo_name : which tomogram of the coordinates is meant, None to tell by the name of the file
    tomograms : RELION's ``tomograms.star``, None to look for it
    pixel_size : angstrom per voxel of the tomogram, overriding the file
    every : angstrom between particles along filaments that the coordinates trace, None where each is a particle
    json_progress : events as JSON on standard output
    """

    tomogram: Path
    coordinates: Path
    target: Path
    tomo_name: str | None = None
    tomograms: Path | None = None
    pixel_size: float | None = None
    every: float | None = None
    json_progress: bool = False


def make_extract_settings(
    *, box: int, binning: int, tilt_range: tuple[float, float] | None, edge: str, invert: bool, normalise: bool
) -> ExtractSettings:
    """Settings from the words of the command line; raises ``InputError`` for those that cannot be used."""
    wedge = None if tilt_range is None else TiltRange(*tilt_range)
    return ExtractSettings(box, binning, edge, invert, normalise, wedge)


def run_extract(job: ExtractJob, settings: ExtractSettings) -> Extracted:
    """Cut the subtomograms out and write the OUT folder.

    Raises
    ------
    InputError : if an input or the output cannot be used; nothing is then written
    """
    if job.pixel_size is not None:
        check_positive("pixel_size", job.pixel_size)
    if job.every is not None:
        check_positive("every", job.every)
    with make_reporter(job.json_progress) as reporter, heeding_warnings(reporter) as heard:
        tomogram = open_tomogram(job.tomogram, voxel_size=job.pixel_size)
        known = read_coordinates(job.coordinates, tomograms=job.tomograms)
        chosen = known.in_tomogram(job.tomogram, job.tomo_name)
        if job.every is not None:
            chosen = particles_along_lines(tomogram, chosen, job.every)
        if job.target.resolve() in (job.tomogram.resolve(), job.coordinates.resolve()):
            raise InputError(f"{job.target} is an input; choose another folder for OUT.")
        events = _events(tomogram, chosen, job.target, settings)
        done: Extracted = drive(events, reporter, StageClock("extracting")).value
        reporter.finish(
            _sentence(done),
            out=str(job.target.resolve()),
            particles=done.count,
            padded=done.padded,
            dropped=done.dropped,
            flat=done.flat,
            warnings=list(heard),
        )
    return done


def _events(tomogram: Tomogram, coordinates: Coordinates, target: Path, settings: ExtractSettings) -> Iterator[Event]:
    """The steps of an extraction as events of a run."""
    steps = extract(tomogram, coordinates, target, settings)
    try:
        for step in steps:
            if isinstance(step, Extracted):
                yield Done(value=step)
            else:
                yield Progress("extracting", step.done / step.total, f"{step.done} of {step.total}")
    finally:
        steps.close()  # type: ignore[attr-defined]


def _sentence(done: Extracted) -> str:
    counted = [
        f"{number} {words}"
        for number, words in (
            (done.padded, "padded at the edge"),
            (done.dropped, "dropped at the edge"),
            (done.flat, "of one value everywhere"),
        )
        if number
    ]
    more = f" ({', '.join(counted)})" if counted else ""
    return f"{done.count} subtomograms{more}: {done.path}"
