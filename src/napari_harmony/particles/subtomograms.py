"""Subtomograms of a RELION STAR file: volumes, their pixel size, and where their wedge is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.files import warn
from napari_harmony.particles.relion_read import RelionMetadata, pixel_size_of, table_of, tilt_stacks_error
from napari_harmony.particles.resolve import PathFinder
from napari_harmony.particles.volumes import open_volume_files
from napari_harmony.particles.wedge import CoverageFiles, Wedge, common_tilt_range

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Our columns for a tilt range in degrees, in the optics table or the particles'; RELION keeps and ignores them
TILT_LOW, TILT_HIGH = "hrmTiltLow", "hrmTiltHigh"

_CTF_IMAGE = "rlnCtfImage"


def read_subtomograms(metadata: RelionMetadata, *, pixel_size: float | None = None) -> Particles:
    """Open the subtomograms that a STAR file lists, one volume per file; reads headers, no volumes.

    The wedge is that of ``rlnCtfImage``, or of ``hrmTiltLow`` and ``hrmTiltHigh``, else it is unknown.

    Parameters
    ----------
    metadata : of subtomograms
    pixel_size : angstrom per voxel, overriding the file

    Raises
    ------
    InputError : stacks of tilt images in place of volumes; missing or damaged files; volumes that are no cubes or
        differ in size; missing wedge files; tilt ranges that differ
    """
    finder = PathFinder(metadata.path, metadata.document.content[:4096])
    names = metadata.particles.texts("rlnImageName")
    for row, name in enumerate(names):
        if "@" in name or name.endswith("_stack2d.mrcs"):
            raise tilt_stacks_error(f"{_row(metadata, row)}: '{name}' is a stack of images, and the file")
    paths, file_of = _found(finder, names)
    images, in_header = open_volume_files([paths[number] for number in file_of.tolist()], metadata.path)
    stated = pixel_size or pixel_size_of(metadata)
    if stated and not pixel_size and in_header and abs(in_header / stated - 1) > 0.01 and in_header != 1:
        warn(f"{metadata.path} gives {stated:g} A per voxel and its volumes {in_header:g}; the STAR file was followed.")
    known = stated or in_header
    wedge = _wedge(metadata, finder)
    return Particles(
        images=images,
        table=table_of(metadata),
        pixel_size=known or 1.0,
        metadata=replace(metadata, roots=tuple(finder.used)),
        path=metadata.path,
        pixel_size_known=bool(known),
        wedge=wedge,
    )


def _found(finder: PathFinder, names: list[str]) -> tuple[list[Path], NDArray[np.int64]]:
    """The different files among ``names`` and which of them each row means."""
    numbers: dict[str, int] = {}
    paths: list[Path] = []
    for name in names:
        if name not in numbers:
            numbers[name] = len(paths)
            paths.append(finder.find(name.removesuffix(":mrc")))
    return paths, np.array([numbers[name] for name in names], np.int64)


def _wedge(metadata: RelionMetadata, finder: PathFinder) -> Wedge | None:
    if _CTF_IMAGE in metadata.particles:
        names = metadata.particles.texts(_CTF_IMAGE)
        try:
            return CoverageFiles(*_found(finder, names))
        except InputError as error:
            text = str(error).removesuffix(".")
            raise InputError(
                f"{text} (it is a wedge or CTF volume, {_CTF_IMAGE}); or remove that column and give a tilt range."
            ) from error
    low, high = metadata.values(TILT_LOW), metadata.values(TILT_HIGH)
    if low is None or high is None:
        return None
    return common_tilt_range(low, high, metadata.path, lambda row: f"in line {metadata.particles.lines[row] + 1}")


def _row(metadata: RelionMetadata, row: int) -> str:
    return f"{metadata.path}, line {metadata.particles.lines[row] + 1}"
