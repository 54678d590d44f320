"""``napari-harmony edit``: edits that were made by hand in the viewer, done again on the folder of a run."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_harmony.cli.jobs import announce, files_of, heeding_warnings
from napari_harmony.cli.progress import StageClock, drive, make_reporter
from napari_harmony.edits import apply_edit, describe, edits_of, edits_to_apply, read_edits, recompute
from napari_harmony.errors import InputError
from napari_harmony.outputs import check_target, load_output, names, write_output

if TYPE_CHECKING:
    from napari_harmony.edits import Edit
    from napari_harmony.particles.dataset import Particles
    from napari_harmony.results import Result


@dataclass(frozen=True)
class EditJob:
    """What the user asked of ``edit``.

    Attributes
    ----------
    source : folder of a finished run
    edits : file of edits, or a folder that has one
    target : folder for the edited result
    device : that averages are computed on
    json_progress : events as JSON on standard output
    relion_job : also write RELION's file names
    """

    source: Path
    edits: Path
    target: Path
    device: str = "auto"
    json_progress: bool = False
    relion_job: bool = False


def run_edit(job: EditJob) -> Result:
    """Replay edits on the folder of a run, average the classes they changed, and write another folder.

    Edits that the folder has behind it already are not done twice.

    Raises
    ------
    InputError : the folder, the edits or the images cannot be used; the message names the edit
    InferenceError : if averaging fails
    """
    check_target(job.target)
    result, wanted = load_output(job.source), read_edits(job.edits)
    clock = StageClock("reading")
    with make_reporter(job.json_progress) as reporter, heeding_warnings(reporter):
        particles = particles_of_run(job.source, result)
        check_target(job.target, files_of(particles))
        done = edits_of(result)
        left = edits_to_apply(done, wanted)
        if len(left) < len(wanted):
            reporter.note(f"{len(wanted) - len(left)} of {len(wanted)} edits are in {job.source} already.")
        edited = _replayed(result, left, job.edits, len(wanted) - len(left))
        edited = drive(recompute(particles, edited, job.device), reporter, clock).value
        model = SavedModel(job.source) if (job.source / names.MODEL[0]).is_file() else None
        write_output(job.target, particles, edited, model=model, relion_job=job.relion_job)
        announce(reporter, job.target, edited)
    return edited


def _replayed(result: Result, edits: tuple[Edit, ...], path: Path, before: int) -> Result:
    for place, edit in enumerate(edits, start=before + 1):
        try:
            result = apply_edit(result, edit)
        except InputError as error:
            raise InputError(f"{path}: edit {place} ({describe(edit)}): {error}") from error
    return result


def particles_of_run(folder: Path, result: Result) -> Particles:
    """The particles that a run was made from: those its own table names, else its input.

    Raises
    ------
    InputError : neither can be opened, or they are not as many
    """
    from napari_harmony.particles import open_particles

    known = result.pixel_size if result.summary.get("pixel_size_known", True) else None
    trouble = "no file names them"
    for path in (folder / names.PARTICLES, Path(str(result.summary.get("input") or ""))):
        if not path.is_file():
            continue
        try:
            particles = open_particles(path, pixel_size=known)
        except InputError as error:
            trouble = str(error)
            continue
        if len(particles) == len(result):
            return replace(particles, pixel_size_known=known is not None)
        trouble = f"{path} has {len(particles)} of them, the result {len(result)}"
    raise InputError(
        f"{folder}: averages of edited classes need the particle images, which cannot be opened ({trouble})."
    )


class SavedModel:
    """The model in the folder of a run, to be copied as it is: edits change classes of the result, not of the model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, path: Path) -> Any:
        """Copy its files into another folder."""
        for name in names.MODEL:
            shutil.copyfile(self.folder / name, path / name)
        return path
