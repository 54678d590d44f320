"""``napari-harmony navigate``: directions in the content of a finished run, as frames, scores and a file to load."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.cli.progress import StageClock, drive, make_reporter
from napari_harmony.errors import InputError
from napari_harmony.outputs import check_target, load_output, names
from napari_harmony.outputs.staging import staged

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.analysis.navigation import Navigation
    from napari_harmony.models import HarmonyModel

NAVIGATION, TABLE = "navigation.json", "directions.csv"
#: Frames reach this many standard deviations of the particles to both sides.
REACH = 2.0
_FRAMES = re.compile(r"direction_\d{2}\.mrcs|direction_\d{2}_frame_\d{2,}\.mrc")
_COLUMNS = ("direction", "verdict", "leaks_as", "score", "activity", "consistency", "overlap", "leak")


@dataclass(frozen=True)
class NavigateJob:
    """What the user asked of ``navigate``.

    Attributes
    ----------
    source : folder of a finished run, with its model
    target : folder for the directions
    directions : how many, None for all that the model draws anything of
    frames : per direction, from minus to plus two standard deviations
    sharp : draw them with the diffusion decoder
    device, seed : as of a run
    json_progress : events as JSON on standard output
    """

    source: Path
    target: Path
    directions: int | None = None
    frames: int = 11
    sharp: bool = False
    device: str = "auto"
    seed: int = 0
    json_progress: bool = False


def run_navigate(job: NavigateJob) -> Navigation:
    """Find the directions and write the folder.

    Raises
    ------
    InputError : if the run, its model or the output cannot be used; nothing is then written
    """
    if job.frames < 2:
        raise InputError(f"--frames is {job.frames}: give a number of at least 2.")
    if job.directions is not None and job.directions < 1:
        raise InputError(f"--directions is {job.directions}: give a number of at least 1.")
    check_target(job.target, owned=_owned(job.target), proof=NAVIGATION)
    from napari_harmony.engine.navigate import navigation_of

    clock = StageClock("reading")
    with make_reporter(job.json_progress) as reporter:
        result, model = load_output(job.source), _model_of(job.source)
        events = navigation_of(model, result, directions=job.directions, seed=job.seed, device=job.device)
        navigation: Navigation = drive(events, reporter, clock).value
        with staged(job.target, _owned(job.target)) as stage:
            _write(stage, navigation, model, job)
        lines = score_lines(navigation)
        for line in lines:
            reporter.note(line)
        reporter.finish(
            f"{len(navigation)} directions: {job.target}",
            out=str(job.target.resolve()),
            directions=len(navigation),
            verdicts=[row["verdict"] for row in rows_of(navigation)],
        )
    return navigation


def _model_of(folder: Path) -> HarmonyModel:
    from napari_harmony.models import HarmonyModel

    if not all((folder / name).is_file() for name in names.MODEL):
        raise InputError(f"{folder}: this run has no model in its folder; run align again, without --model.")
    return HarmonyModel.load(folder)


def _owned(folder: Path) -> tuple[str, ...]:
    """Files that this command writes, and those of an earlier one in the folder."""
    earlier = [path.name for path in folder.iterdir() if _FRAMES.fullmatch(path.name)] if folder.is_dir() else []
    return (NAVIGATION, TABLE, *earlier)


def frame_codes(navigation: Navigation, direction: int, frames: int) -> NDArray[np.float64]:
    """Content codes (frames, d) along one direction through the mean particle."""
    places = np.zeros((frames, len(navigation)))
    places[:, direction] = np.linspace(-REACH, REACH, frames)
    return np.stack([navigation.code(navigation.centre, place) for place in places])


def rows_of(navigation: Navigation) -> list[dict[str, Any]]:
    """One row of plain values per direction, with the entries of ``_COLUMNS``."""
    ways = navigation.tracking.directions if navigation.tracking is not None else ()
    return [
        {
            "direction": k + 1,
            "verdict": way.verdict,
            "leaks_as": way.leaks_as,
            "score": round(way.score, 4),
            "activity": round(float(navigation.activity[k]), 4),
            "consistency": round(way.consistency, 4),
            "overlap": round(way.overlap, 4),
            "leak": round(way.leak, 4),
        }
        for k, way in enumerate(ways)
    ]


def score_lines(navigation: Navigation) -> list[str]:
    """The scores for people, one line per direction."""
    lines = []
    for row in rows_of(navigation):
        verdict = row["verdict"] + (f" ({row['leaks_as']})" if "pose" in row["verdict"] else "")
        numbers = "  ".join(f"{name} {row[name]:.3f}" for name in ("score", "activity", "leak"))
        lines.append(f"direction {row['direction']}: {verdict}  {numbers}")
    return lines


def _write(folder: Path, navigation: Navigation, model: HarmonyModel, job: NavigateJob) -> None:
    """All files, into a folder that is published as a whole."""
    from napari_harmony.models.canonical import canonical
    from napari_harmony.particles.mrc import write_stack, write_volume

    navigation.save(folder / NAVIGATION)
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, _COLUMNS)
        table.writeheader()
        table.writerows(rows_of(navigation))
    for k in range(len(navigation)):
        pictures = canonical(model, frame_codes(navigation, k, job.frames), sharp=job.sharp)
        name = f"direction_{k + 1:02d}"
        if pictures.ndim == 3:
            write_stack(folder / f"{name}.mrcs", pictures, model.card.pixel_size)
            continue
        for number, volume in enumerate(pictures, start=1):
            write_volume(folder / f"{name}_frame_{number:02d}.mrc", volume, model.card.pixel_size)
