"""File names inside an OUT folder."""

from __future__ import annotations

import re
from pathlib import Path

PARTICLES = "particles.star"
PARTICLES_IMAGES = "particles_images.mrcs"  # only where RELION cannot read the input's own images
PARTICLES_VOLUMES = "particles_volumes"  # the same for subtomograms: a folder with one file each
PARTICLES_CS = "particles.cs"
AVERAGES = "class_averages.mrcs"
HALVES = ("class_averages_half1.mrcs", "class_averages_half2.mrcs")
FRC = "frc.csv"  # of subtomograms too: the correlation of shells
MODEL = ("model.safetensors", "model.json")
SUMMARY = "summary.json"
REPORT = "report.html"
EDITS = "edits.json"  # only where the result was edited by hand
CHECKPOINT = ".checkpoint"

#: RELION's names for the files of a finished 2D classification, read by its Select job.
RELION_ROOT = "run_it025"
RELION_JOB = tuple(f"{RELION_ROOT}_{part}" for part in ("data.star", "model.star", "optimiser.star", "classes.mrcs"))

#: Every name a run may write. A new run replaces those of an earlier one and touches nothing else in the folder.
OWNED = (
    *(PARTICLES, PARTICLES_IMAGES, PARTICLES_CS, AVERAGES, *HALVES, FRC),
    *(*MODEL, SUMMARY, REPORT, EDITS, *RELION_JOB),
)

_CLASS = re.compile(rf"class_\d{{3,}}(_half[12]|_mask)?\.mrc|class_\d{{3,}}_fsc\.star|{RELION_ROOT}_class\d{{3,}}\.mrc")


def class_file(number: int, half: int | None = None) -> str:
    """The average of a class of subtomograms, counted from 1, or of one of its half sets, 1 or 2."""
    return f"class_{number:03d}{'' if half is None else f'_half{half}'}.mrc"


def is_class_file(name: str) -> bool:
    """Whether a file holds the average of a class of subtomograms, of all its members."""
    return bool(re.fullmatch(r"class_\d{3,}\.mrc", name))


def class_fsc(number: int) -> str:
    """The shell correlation of a class of subtomograms under a mask."""
    return f"class_{number:03d}_fsc.star"


def class_mask(number: int) -> str:
    """That mask."""
    return f"class_{number:03d}_mask.mrc"


def relion_class_file(number: int) -> str:
    """What RELION calls the average of a class of subtomograms, counted from 1."""
    return f"{RELION_ROOT}_class{number:03d}.mrc"


def volumes_in(folder: Path) -> tuple[str, ...]:
    """What a folder holds under the names that a run on subtomograms writes beside those of ``OWNED``."""
    if not folder.is_dir():
        return ()
    found = (path.name for path in folder.iterdir())
    return tuple(sorted(name for name in found if name == PARTICLES_VOLUMES or _CLASS.fullmatch(name)))
