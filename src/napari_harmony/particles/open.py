"""Open any particle file."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.files import check_file, compression, inner_suffix
from napari_harmony.particles.images import FileImages, Frames
from napari_harmony.particles.mrc import open_frames
from napari_harmony.particles.relion import read_relion
from napari_harmony.particles.tiff import open_tiff

#: Suffixes of the files that ``open_particles`` reads, each also with .gz, .bz2 or .xz behind where it is MRC
SUFFIXES = (".star", ".cs", ".mrcs", ".mrc", ".map", ".st", ".tif", ".tiff")

_MRC_SUFFIXES = (".mrcs", ".mrc", ".map", ".st", ".rec", ".ali")


def open_particles(path: str | os.PathLike[str], *, pixel_size: float | None = None) -> Particles:
    """Open 2D particles from a RELION STAR file, a cryoSPARC .cs file, or an MRC or TIFF stack.

    Only metadata and image headers are read; images come when they are asked for.

    Parameters
    ----------
    path : ``.star`` (RELION 3.0 to 5), ``.cs``, ``.mrcs``, ``.mrc`` or ``.tif``; MRC also packed (.gz, .bz2, .xz)
    pixel_size : angstrom per pixel, overriding what the files say

    Raises
    ------
    InputError : one sentence on what cannot be read, where, and what to do
    """
    path = Path(path)
    if pixel_size is not None and not 0 < pixel_size < float("inf"):
        raise InputError(f"the pixel size is {pixel_size}; give a positive number of angstrom.")
    check_file(path)
    kind = _kind(path)
    if kind == "star":
        return read_relion(path, pixel_size=pixel_size)
    if kind == "cs":
        from napari_harmony.particles.cryosparc import read_cryosparc

        return read_cryosparc(path, pixel_size=pixel_size)
    frames: Frames
    if kind == "tiff":
        frames, stated = open_tiff(path)
    else:
        frames, stated = _open_mrc(path)
    known = pixel_size or stated
    return Particles(
        images=FileImages([frames]),
        table=pd.DataFrame(index=pd.RangeIndex(frames.shape[0])),
        pixel_size=known or 1.0,
        path=path,
        pixel_size_known=bool(known),
    )


def _open_mrc(path: Path) -> tuple[Frames, float | None]:
    frames, header = open_frames(path)
    if inner_suffix(path) not in (".mrcs", ".st") and header.is_volume:
        depth, height, width = header.shape
        raise InputError(
            f"{path} looks like a volume of {width} x {height} x {depth} voxels; if it is a stack of {depth} particle "
            "images, name it .mrcs."
        )
    return frames, header.pixel_size


def _kind(path: Path) -> str:
    """``"star"``, ``"cs"``, ``"tiff"`` or ``"mrc"``, by the first bytes where they are clear, else by the suffix."""
    with path.open("rb") as file:
        head = file.read(1024)
    suffix = inner_suffix(path)
    if compression(path):
        if suffix in (".star", ".cs", ".tif", ".tiff"):
            raise InputError(f"{path} is compressed; unpack it first (only MRC files are read packed).")
        return "mrc"
    if head[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
        return "tiff"
    if head[:6] == b"\x93NUMPY":
        return "cs"
    if suffix == ".star":
        return "star"
    if suffix in (".cs", ".tif", ".tiff"):
        kind = "cryoSPARC" if suffix == ".cs" else "TIFF"
        raise InputError(f"{path} is no {kind} file although it is named so; check what it is and rename it.")
    if suffix in _MRC_SUFFIXES or head[208:211] == b"MAP":
        return "mrc"
    if b"\x00" not in head and (b"data_" in head or b"loop_" in head):
        return "star"
    raise InputError(f"{path} is of no known kind; particles are read from {', '.join(SUFFIXES)} files.")
