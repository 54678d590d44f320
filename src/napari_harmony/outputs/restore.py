"""Read an OUT folder back into a ``Result``, from the folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_harmony.errors import InputError
from napari_harmony.outputs import names
from napari_harmony.outputs.columns import table_from_star
from napari_harmony.outputs.frc_table import read_frc
from napari_harmony.outputs.summary import read_summary
from napari_harmony.results import Result

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
    table = _particle_table(folder / names.PARTICLES, pixel_size, int(summary.get("content_size", 0)))
    if len(table) != summary["particles_in"]:
        raise InputError(
            f"{folder / names.PARTICLES}: {len(table)} rows, but the summary says {summary['particles_in']} particles."
        )
    averages = _stack(folder / names.AVERAGES) if summary["classes"] else np.empty((0, 0, 0), np.float32)
    if len(averages) != summary["classes"] or table["class_number"].max() > len(averages):
        raise InputError(f"{folder / names.AVERAGES}: it holds {len(averages)} classes, but the run found others.")
    frc, floor, frequency = read_frc(folder / names.FRC, len(averages))
    resolution = [np.nan if r is None else r for r in summary.get("resolution_per_class", [None] * len(averages))]
    halves = [folder / name for name in names.HALVES]
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
        half_averages=np.stack([_stack(h) for h in halves]) if all(h.is_file() for h in halves) else None,
    )


def _missing(folder: Path) -> str:
    return next(n for n in _REQUIRED if not (folder / n).is_file())


def _number(summary: dict[str, Any], key: str, folder: Path) -> float:
    value = summary.get(key)
    if not isinstance(value, int | float) or value <= 0:
        raise InputError(f"{folder / names.SUMMARY}: {key} is {value!r}, but must be a positive number.")
    return float(value)


def _stack(path: Path) -> np.ndarray:
    """All images of a stack, (k, box, box) float32."""
    from napari_harmony.particles.mrc import mrc_images

    return mrc_images(path).read(slice(None))


def _particle_table(path: Path, pixel_size: float, content_size: int) -> pd.DataFrame:
    """The result's columns of the particle table; the images it names need not exist.

    RELION multiplies pixels by the pixel size that the file itself says, and so does what wrote it, even where the
    user gave another one for the run.
    """
    from napari_harmony.particles.relion import read_metadata
    from napari_harmony.particles.relion_read import pixel_sizes

    metadata = read_metadata(path)
    sizes = pixel_sizes(metadata)
    return table_from_star(metadata.particles, pixel_size if sizes is None else sizes, content_size)
