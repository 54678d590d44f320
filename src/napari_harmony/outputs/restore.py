"""Read an OUT folder back into a ``Result``, from the folder alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_harmony.errors import InputError
from napari_harmony.outputs import names
from napari_harmony.outputs.averages import read_averages
from napari_harmony.outputs.columns import table_from_star
from napari_harmony.outputs.frc_table import read_frc
from napari_harmony.outputs.summary import read_summary
from napari_harmony.results import OPTIONAL_COLUMNS, Result

_REQUIRED = (names.SUMMARY, names.PARTICLES, names.FRC)


def is_output(path: Path | str) -> bool:
    """Whether a path looks like a finished OUT folder; reads nothing."""
    folder = Path(path)
    return all((folder / name).is_file() for name in _REQUIRED)


def load_output(folder: Path | str) -> Result:
    """Restore the result of a run; neither the input images nor the model are needed.

    Numbers come back with the digits of the STAR file.

    Raises
    ------
    InputError : if a file is missing, malformed, or does not belong to the others
    """
    folder = Path(folder)
    if not is_output(folder):
        raise InputError(f"{folder}: this is not the folder of a finished run; it has no {_missing(folder)}.")
    summary = read_summary(folder / names.SUMMARY)
    pixel_size = _number(summary, "pixel_size", folder)
    dimensions, classes = int(summary.get("dimensions", 2)), int(summary["classes"])
    content_size = int(summary.get("content_size", 0))
    table = _particle_table(folder / names.PARTICLES, pixel_size, content_size, dimensions, _optional(summary))
    if len(table) != summary["particles_in"]:
        raise InputError(
            f"{folder / names.PARTICLES}: {len(table)} rows, but the summary says {summary['particles_in']} particles."
        )
    averages, halves = read_averages(folder, classes, dimensions)
    if table["class_number"].max() > classes:
        raise InputError(f"{folder / names.PARTICLES}: it has more classes than the {classes} that the run found.")
    frc, floor, frequency = read_frc(folder / names.FRC, classes, dimensions)
    resolution = [np.nan if r is None else r for r in summary.get("resolution_per_class", [None] * classes)]
    return Result(
        table=table,
        averages=averages,
        average_pixel_size=_number(summary, "average_pixel_size", folder),
        frc=frc,
        frc_floor=floor,
        frc_frequency=frequency,
        resolution=np.asarray(resolution, dtype=np.float32),
        pixel_size=pixel_size,
        summary=summary,
        half_averages=halves,
    )


def _missing(folder: Path) -> str:
    return next(n for n in _REQUIRED if not (folder / n).is_file())


def _number(summary: dict[str, Any], key: str, folder: Path) -> float:
    value = summary.get(key)
    if not isinstance(value, int | float) or value <= 0:
        raise InputError(f"{folder / names.SUMMARY}: {key} is {value!r}, but must be a positive number.")
    return float(value)


def _optional(summary: dict[str, Any]) -> tuple[str, ...]:
    """Columns that the run was asked to fill; the file may have such columns from a run before."""
    chosen = (summary.get("parameters") or {}).get("transforms") or ()
    return OPTIONAL_COLUMNS if "defocus" in chosen else ()


def _particle_table(
    path: Path, pixel_size: float, content_size: int, dimensions: int, optional: Sequence[str]
) -> pd.DataFrame:
    """The result's columns of the particle table; the images it names need not exist.

    RELION multiplies pixels by the pixel size that the file itself says, and so does what wrote it, even where the
    user gave another one for the run.
    """
    from napari_harmony.particles.relion import read_metadata
    from napari_harmony.particles.relion_read import pixel_sizes

    metadata = read_metadata(path)
    sizes = pixel_sizes(metadata)
    unit = pixel_size if sizes is None else sizes
    return table_from_star(metadata.particles, unit, content_size, dimensions, optional)
