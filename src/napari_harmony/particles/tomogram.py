"""Tomograms and other single volumes: opened by their headers, read box by box."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_harmony.errors import InputError
from napari_harmony.particles.files import check_file, inner_suffix, warn
from napari_harmony.particles.images import FileImages, Frames, LazyStack, RawFrames
from napari_harmony.particles.mrc import open_frames
from napari_harmony.particles.tiff import open_tiff, tiff_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Suffixes of the files that ``open_tomogram`` reads; MRC also with .gz, .bz2 or .xz behind
TOMOGRAM_SUFFIXES = (".mrc", ".rec", ".map", ".tif", ".tiff")

_TIFF = (".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class Tomogram:
    """One volume in a file, of which only what is asked for is read.

    Boxes are read with plain file reads, one per slice, like the images of stacks: a file that shrinks while a memory
    map of it is read would end the whole program.

    Attributes
    ----------
    path : what the user opened
    frames : its slices along z
    voxel_size : angstrom (1.0 and ``voxel_size_known=False`` where the file does not say it)
    """

    path: Path
    frames: Frames = field(repr=False)
    voxel_size: float
    voxel_size_known: bool = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x) in voxels."""
        return self.frames.shape

    def read(self, start: Sequence[int] = (0, 0, 0), stop: Sequence[int] | None = None) -> NDArray[np.float32]:
        """The voxels from ``start`` to below ``stop``, float32 of shape (z, y, x).

        Parameters
        ----------
        start, stop : corners (z, y, x) inside the volume; by default all of it

        Raises
        ------
        InputError : the file cannot be read any more
        """
        begin, end = tuple(map(int, start)), tuple(map(int, self.shape if stop is None else stop))
        if any(not 0 <= b < e <= size for b, e, size in zip(begin, end, self.shape, strict=True)):
            raise IndexError(f"the box from {begin} to {end} does not lie inside a volume of {self.shape} voxels")
        if isinstance(self.frames, RawFrames):
            return _read_box(self.frames, begin, end)
        slices = np.arange(begin[0], end[0])
        whole = np.empty((len(slices), *self.shape[1:]), np.float32)
        self.frames.read_frames(slices, whole, np.arange(len(slices)))
        return np.ascontiguousarray(whole[:, begin[1] : end[1], begin[2] : end[2]])

    def lazy(self) -> LazyStack:
        """An array (z, y, x) whose slices are read when they are looked at, for a viewer."""
        return LazyStack(FileImages([self.frames]))


def _read_box(frames: RawFrames, start: tuple[int, ...], stop: tuple[int, ...]) -> NDArray[np.float32]:
    """The rows of a box, which lie together in each slice, read at once, cut along x afterwards."""
    _, height, width = frames.shape
    rows = stop[1] - start[1]
    out = np.empty((stop[0] - start[0], rows, stop[2] - start[2]), np.float32)
    try:
        with frames.path.open("rb", buffering=0) as file:
            for z in range(start[0], stop[0]):
                file.seek(frames.offset + (z * height + start[1]) * width * frames.dtype.itemsize)
                run = np.fromfile(file, dtype=frames.dtype, count=rows * width)
                if run.size < rows * width:
                    raise InputError(f"{frames.path} ended while slice {z + 1} was read; was it changed?")
                out[z - start[0]] = run.reshape(rows, width)[:, start[2] : stop[2]]
    except OSError as error:
        raise InputError(f"{frames.path} cannot be read any more ({error.strerror}).") from error
    return out


def open_volume(path: str | os.PathLike[str], *, voxel_size: float | None = None) -> Tomogram:
    """Open a volume of any sizes, MRC (also .gz, .bz2, .xz, which are unpacked) or TIFF, by its header.

    Parameters
    ----------
    path : of the file
    voxel_size : angstrom, overriding what the file says

    Raises
    ------
    InputError : missing or damaged file, or not one volume of real numbers
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; give one volume ({', '.join(TOMOGRAM_SUFFIXES)}).")
    check_file(path)
    frames: Frames
    if inner_suffix(path) in _TIFF:
        axes = tiff_shape(path)
        if len(axes) > 3:
            raise InputError(f"{path} has {len(axes)} axes of {axes}; a volume has three.")
        frames, stated = open_tiff(path, square=False)
    else:
        frames, header = open_frames(path, square=False)
        stated = header.pixel_size
        if header.volumes > 1:
            raise InputError(f"{path} holds {header.volumes} volumes one behind another; give a file of one volume.")
    known = voxel_size or stated
    return Tomogram(path, frames, known or 1.0, bool(known))


def open_tomogram(path: str | os.PathLike[str], *, voxel_size: float | None = None) -> Tomogram:
    """Open a tomogram: ``open_volume``, and what can only be wrong with tomograms.

    A voxel size of exactly 1, which many programs write where they do not know it, counts as unknown.

    Raises
    ------
    InputError : as ``open_volume``; a single image; a voxel size that is no positive number
    """
    if voxel_size is not None and not 0 < voxel_size < float("inf"):
        raise InputError(f"the voxel size is {voxel_size}; give a positive number of angstrom.")
    path = Path(path)
    if inner_suffix(path) not in TOMOGRAM_SUFFIXES and path.is_file():
        warn(f"{path} is not named like a tomogram ({', '.join(TOMOGRAM_SUFFIXES)}); it was opened as one.")
    opened = open_volume(path, voxel_size=voxel_size)
    if opened.shape[0] == 1:
        raise InputError(f"{path} is a single image of {opened.shape[2]} x {opened.shape[1]} pixels, not a tomogram.")
    known = opened.voxel_size_known and (voxel_size is not None or opened.voxel_size != 1.0)
    return Tomogram(opened.path, opened.frames, opened.voxel_size, known)
