"""Open any particle file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import ImageSource, Particles
from napari_harmony.particles.files import check_file, compression, inner_suffix
from napari_harmony.particles.images import FileImages, check_square
from napari_harmony.particles.mrc import open_frames
from napari_harmony.particles.relion import read_relion
from napari_harmony.particles.tiff import open_tiff, tiff_shape
from napari_harmony.particles.volumes import is_folder_of_volumes, mrc_volumes, open_folder, split_slices
from napari_harmony.particles.wedge import TiltRange

#: Suffixes of the files that ``open_particles`` reads, each also with .gz, .bz2 or .xz behind where it is MRC
SUFFIXES = (".star", ".cs", ".mrcs", ".mrc", ".map", ".st", ".tif", ".tiff")

_MRC_SUFFIXES = (".mrcs", ".mrc", ".map", ".st", ".rec", ".ali")


def open_particles(
    path: str | os.PathLike[str],
    *,
    pixel_size: float | None = None,
    tilt_range: tuple[float, float] | None = None,
) -> Particles:
    """Open particles from a RELION STAR file, a cryoSPARC .cs file, an MRC or TIFF stack, or a folder of subtomograms.

    Only metadata and image headers are read; images come when they are asked for. Whether they are images or
    subtomograms is read from the data: a STAR file says it, an MRC file of several volumes has a space group of 401 to
    630, and a TIFF file of them has four axes.

    Parameters
    ----------
    path : ``.star`` (RELION 3.0 to 5), ``.cs``, ``.mrcs``, ``.mrc`` or ``.tif``; MRC also packed (.gz, .bz2, .xz);
        a folder with one volume per file, or one that ``extract`` wrote
    pixel_size : angstrom per pixel, overriding what the files say
    tilt_range : of subtomograms, lowest and highest tilt in degrees, overriding what the files say of the wedge

    Raises
    ------
    InputError : one sentence on what cannot be read, where, and what to do
    """
    path = Path(path)
    if pixel_size is not None and not 0 < pixel_size < float("inf"):
        raise InputError(f"the pixel size is {pixel_size}; give a positive number of angstrom.")
    particles = _open(path, pixel_size)
    if tilt_range is None:
        return particles
    if particles.dimensions == 2:
        raise InputError(f"{path} holds images, which have no tilt range; leave it out, or give subtomograms.")
    return particles.with_wedge(TiltRange(*tilt_range))


def _open(path: Path, pixel_size: float | None) -> Particles:
    if path.is_dir():
        return _open_directory(path, pixel_size)
    check_file(path)
    kind = _kind(path)
    if kind == "star":
        return read_relion(path, pixel_size=pixel_size)
    if kind == "cs":
        from napari_harmony.particles.cryosparc import read_cryosparc

        return read_cryosparc(path, pixel_size=pixel_size)
    images, stated = _open_tiff(path) if kind == "tiff" else _open_mrc(path)
    return _bare(path, images, pixel_size or stated)


def _bare(path: Path, images: ImageSource, pixel_size: float | None) -> Particles:
    """Particles of which only the images are known."""
    return Particles(
        images=images,
        table=pd.DataFrame(index=pd.RangeIndex(images.shape[0])),
        pixel_size=pixel_size or 1.0,
        path=path,
        pixel_size_known=bool(pixel_size),
    )


def _open_directory(folder: Path, pixel_size: float | None) -> Particles:
    """A folder that ``extract`` wrote, or one of volumes."""
    listed = folder / "particles.star"
    if listed.is_file():
        return read_relion(listed, pixel_size=pixel_size)
    if not is_folder_of_volumes(folder):
        check_file(folder)
    images, paths, stated = open_folder(folder)
    names = np.array([str(path) for path in paths], dtype=object)
    known = pixel_size or stated
    return replace(_bare(folder, images, known), table=pd.DataFrame({"rlnImageName": names}))


def _open_tiff(path: Path) -> tuple[ImageSource, float | None]:
    axes = tiff_shape(path)
    if len(axes) == 4:
        frames, stated = open_tiff(path, square=False)
        return split_slices(frames, axes[0]), stated
    frames, stated = open_tiff(path)
    return FileImages([frames]), stated


def _open_mrc(path: Path) -> tuple[ImageSource, float | None]:
    frames, header = open_frames(path, square=False)
    volumes = mrc_volumes(frames, header)
    if volumes is not None:
        return volumes, header.pixel_size
    check_square(path, header.shape)
    if inner_suffix(path) not in (".mrcs", ".st") and header.is_volume:
        depth, height, width = header.shape
        raise InputError(
            f"{path} looks like a volume of {width} x {height} x {depth} voxels; if it is a stack of {depth} particle "
            "images, name it .mrcs, and if it is a subtomogram, give the folder it lies in."
        )
    return FileImages([frames]), header.pixel_size


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
