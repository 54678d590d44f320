"""Write the OUT folder of a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from napari_harmony.edits import edits_of, remarks, write_edits
from napari_harmony.errors import InputError
from napari_harmony.outputs import names
from napari_harmony.outputs.averages import write_averages
from napari_harmony.outputs.columns import defocus_columns, star_columns
from napari_harmony.outputs.frc_table import write_frc
from napari_harmony.outputs.masked_fsc import masked_curves, write_masked_fsc
from napari_harmony.outputs.staging import staged
from napari_harmony.outputs.summary import summarise, write_summary

if TYPE_CHECKING:
    from napari_harmony.analysis.fsc import MaskedFsc
    from napari_harmony.engine.settings import Settings
    from napari_harmony.particles.dataset import Particles
    from napari_harmony.results import Result

UNKNOWN_PIXEL_SIZE = (
    "the pixel size is unknown and was taken as 1 angstrom: origins and resolutions are in pixels; give --pixel-size"
)


class Saveable(Protocol):
    """A model that writes ``model.safetensors`` and ``model.json`` into a folder."""

    def save(self, path: Path) -> object: ...


def check_target(
    folder: Path,
    inputs: Sequence[Path] = (),
    *,
    owned: Sequence[str] | None = None,
    proof: str = names.SUMMARY,
) -> None:
    """Refuse an OUT that cannot be written or would destroy something; creates nothing.

    Parameters
    ----------
    folder : OUT; a folder of an earlier run is fine, its files will be replaced
    inputs : files the run reads, which must not be among those it writes
    owned : names of the files that the run may write; by default those of a run that aligns
    proof : the file whose presence shows that such files are from an earlier run

    Raises
    ------
    InputError : if OUT or a parent is a file or not writable, if an input lies in OUT under a name that the run
        writes, or if OUT holds such a file that no run of napari-harmony wrote
    """
    owned = (*names.OWNED, *names.volumes_in(folder)) if owned is None else owned
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: this is a file; give a folder for the output.")
    parent = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not parent.is_dir():
        raise InputError(f"{parent}: this is a file, so the folder {folder} cannot be made; give another output.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{parent}: this folder is not writable; give another output.")
    for path in inputs:
        if path.exists() and path.resolve().parent == folder.resolve() and path.name in owned:
            raise InputError(f"{path}: the output would overwrite this input; give another folder.")
    taken = [name for name in owned if os.path.lexists(folder / name)]
    if taken and not (folder / proof).is_file():
        raise InputError(f"{folder / taken[0]}: this file is not from napari-harmony; give another folder.")
    for name in taken:
        if (folder / name).is_dir() != (name == names.PARTICLES_VOLUMES):
            raise InputError(f"{folder / name}: this is not a file, so it cannot be replaced; give another folder.")


def write_output(
    folder: Path | str,
    particles: Particles,
    result: Result,
    *,
    model: Saveable | None = None,
    settings: Settings | None = None,
    relion_job: bool = False,
) -> Path:
    """Write a finished run: all of OUT, or nothing.

    Parameters
    ----------
    folder : OUT; made if missing. Files of an earlier run are replaced, other files stay
    particles : the input, n particles
    result : of the same n particles in the same order
    model : saved beside the result if given
    settings : the parameters, for the summary
    relion_job : also write RELION's file names of a classification (``run_it025_*``), for its Select job

    Returns
    -------
    the folder

    Raises
    ------
    InputError : as ``check_target``, and if result and particles differ in number
    OSError : if the disk is full or fails; OUT is then as it was before
    """
    folder = Path(folder)
    if len(particles) != len(result):
        raise InputError(f"{folder}: the result has {len(result)} rows, but the input {len(particles)} particles.")
    check_target(folder, [particles.path] if particles.path is not None else [])
    summary = summarise(particles, result, settings)
    curves = masked_curves(result)
    summary["warnings"] = remarks(result, summary["warnings"])
    if not particles.pixel_size_known and UNKNOWN_PIXEL_SIZE not in summary["warnings"]:
        summary["warnings"].append(UNKNOWN_PIXEL_SIZE)
    with staged(folder, (*names.OWNED, *names.volumes_in(folder))) as stage:
        _write_tables(stage, folder, particles, result)
        write_averages(stage, result)
        write_frc(stage / names.FRC, result)
        if edits := edits_of(result):
            write_edits(stage / names.EDITS, edits)
        write_masked_fsc(stage, result, curves)
        if model is not None:
            model.save(stage)
        if relion_job:
            from napari_harmony.outputs.relion_job import write_relion_job

            write_relion_job(stage, folder, result)
        _write_report(stage, particles, result, summary, curves)
        write_summary(stage / names.SUMMARY, summary)
    return folder


def _write_tables(stage: Path, folder: Path, particles: Particles, result: Result) -> None:
    from napari_harmony.particles.cryosparc import CryosparcMetadata, write_cryosparc
    from napari_harmony.particles.relion import write_relion

    columns = star_columns(result, particles.pixel_size)
    write_relion(stage / names.PARTICLES, particles, columns | defocus_columns(result, particles), place=folder)
    if isinstance(particles.metadata, CryosparcMetadata):
        write_cryosparc(stage / names.PARTICLES_CS, particles, columns)


def _write_report(
    stage: Path,
    particles: Particles,
    result: Result,
    summary: dict[str, object],
    curves: Sequence[MaskedFsc | None],
) -> None:
    from napari_harmony.report import render_report

    (stage / names.REPORT).write_text(render_report(particles, result, summary, curves), encoding="utf-8")
