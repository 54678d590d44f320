"""A result, or some of its rows, as one table: CSV, STAR, ``.cs`` or ``.tbl``, by the extension of the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from napari_harmony.errors import InputError
from napari_harmony.outputs.columns import defocus_columns, star_columns
from napari_harmony.particles.files import replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.particles.dataset import Particles
    from napari_harmony.results import Result

EXTENSIONS = (".csv", ".star", ".cs", ".tbl")


def export_table(
    path: Path | str, particles: Particles, result: Result, rows: Sequence[int] | NDArray[np.integer] | None = None
) -> Path:
    """Write the table of a result, or of some particles.

    Parameters
    ----------
    path : its extension chooses the format. ``.csv``: the row number (from 1), our columns (angles in degree, origins
        in pixels) and the input's; ``.star``: the input rows with RELION's and our labels; ``.cs``: the
        input rows with cryoSPARC's ``alignments2D`` fields; ``.tbl``: a table of Dynamo
    particles, result : of the same n particles
    rows : numbers (from 0) of the particles to write, in any order; None for all. They are written in input order

    Raises
    ------
    InputError : for other extensions, formats that do not hold images, or subtomograms, rows that do not exist, no
        rows at all, or a place that cannot be written
    """
    path = Path(path)
    chosen = _chosen(rows, len(particles))
    extension = path.suffix.lower()
    _check_format(path, extension, result.dimensions)
    if extension == ".csv":
        _write_csv(path, particles, result, chosen)
    elif extension == ".star":
        _write_star(path, particles, result, chosen)
    elif extension == ".cs":
        _write_cs(path, particles, result, chosen)
    else:
        from napari_harmony.outputs.export_dynamo import write_dynamo_table

        write_dynamo_table(path, particles, result, chosen)
    return path


def _check_format(path: Path, extension: str, dimensions: int) -> None:
    if extension not in EXTENSIONS:
        raise InputError(
            f"{path}: tables are written as {', '.join(EXTENSIONS)}; give the file one of these extensions."
        )
    if extension == ".cs" and dimensions == 3:
        raise InputError(f"{path}: cryoSPARC has no files of subtomograms; write them as .star, .tbl or .csv.")
    if extension == ".tbl" and dimensions == 2:
        raise InputError(f"{path}: a table of Dynamo describes subtomograms; write images as .star, .cs or .csv.")


def _chosen(rows: Sequence[int] | NDArray[np.integer] | None, count: int) -> NDArray[np.int64]:
    if rows is None:
        return np.arange(count)
    chosen = np.unique(np.asarray(rows, dtype=np.int64))
    if len(chosen) == 0:
        raise InputError("no particles are selected; select some rows, or export all.")
    if chosen[0] < 0 or chosen[-1] >= count:
        wrong = chosen[0] if chosen[0] < 0 else chosen[-1]
        raise InputError(f"row {wrong} does not exist; the rows are 0 to {count - 1}.")
    return chosen


def _write_csv(path: Path, particles: Particles, result: Result, rows: NDArray[np.int64]) -> None:
    both = pd.concat([result.table, particles.table], axis="columns").iloc[rows]
    both.insert(0, "particle", rows + 1)
    text = both.to_csv(index=False, lineterminator="\n")
    with replacing(path) as file:
        file.write(text.encode("utf-8", "surrogateescape"))


def _write_star(path: Path, particles: Particles, result: Result, rows: NDArray[np.int64]) -> None:
    from napari_harmony.particles.relion import write_relion

    columns = star_columns(result, particles.pixel_size) | defocus_columns(result, particles)
    write_relion(path, particles, columns, rows=rows)


def _write_cs(path: Path, particles: Particles, result: Result, rows: NDArray[np.int64]) -> None:
    from napari_harmony.particles.cryosparc import write_cryosparc

    write_cryosparc(path, particles, star_columns(result, particles.pixel_size), rows=rows)
