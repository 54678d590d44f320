"""Sources of subtomograms: many files of one volume each, one file of many volumes, or an array."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import Indices
from napari_harmony.particles.files import inner_suffix, warn
from napari_harmony.particles.images import Frames, as_indices
from napari_harmony.particles.mrc import MrcHeader, open_frames
from napari_harmony.particles.tiff import open_tiff

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.particles.dataset import Particles

#: Suffixes of files that count as volumes in a folder
VOLUME_SUFFIXES = (".mrc", ".map", ".rec", ".tif", ".tiff")

_TIFF = (".tif", ".tiff")
_BATCH_BYTES = 64 * 2**20


class VolumeImages:
    """Subtomograms in files: each is a run of consecutive slices.

    Parameters
    ----------
    files : of square slices of one size
    file_of : (n,) which file each volume lies in; None for one volume per file
    first_slice : (n,) where in its file each volume begins; None for the beginning
    """

    def __init__(
        self,
        files: Sequence[Frames],
        file_of: NDArray[np.integer[Any]] | None = None,
        first_slice: NDArray[np.integer[Any]] | None = None,
    ) -> None:
        self.files = tuple(files)
        self.file_of = np.arange(len(self.files)) if file_of is None else np.asarray(file_of, np.int64)
        count = len(self.file_of)
        self.first_slice = np.zeros(count, np.int64) if first_slice is None else np.asarray(first_slice, np.int64)
        self._shape = (count, *[self.files[0].shape[-1]] * 3)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, box, box, box)."""
        return self._shape

    def read(self, indices: Indices) -> NDArray[np.float32]:
        """Volumes (k, box, box, box) float32, (z, y, x), in the order asked."""
        chosen = as_indices(indices, self._shape[0])
        out = np.empty((len(chosen), *self._shape[1:]), np.float32)
        slices = np.arange(self._shape[1])
        for row, number in enumerate(chosen.tolist()):
            first = int(self.first_slice[number])
            self.files[int(self.file_of[number])].read_frames(slices + first, out[row], slices)
        return out


class ArrayVolumes:
    """Subtomograms of an array that is already there.

    Parameters
    ----------
    array : (n, box, box, box) real numbers, in the order z, y, x

    Raises
    ------
    InputError : for other shapes, or values that are not real numbers
    """

    def __init__(self, array: Any) -> None:
        shape = tuple(int(size) for size in array.shape)
        if len(shape) != 4 or 0 in shape or len(set(shape[1:])) != 1:
            raise InputError(f"the array has shape {shape}; subtomograms have the shape (particles, box, box, box).")
        if np.dtype(array.dtype).kind not in "buif":
            raise InputError(f"the array holds {array.dtype} values; subtomograms are real numbers.")
        self._array = array
        self._shape = shape

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, box, box, box)."""
        return self._shape

    def read(self, indices: Indices) -> NDArray[np.float32]:
        """Volumes (k, box, box, box) float32, a copy."""
        return np.array(self._array[as_indices(indices, self._shape[0])], dtype=np.float32)


def open_volume_files(paths: Sequence[Path], where: object) -> tuple[VolumeImages, float | None]:
    """One subtomogram per file, in this order, and their voxel size in angstrom (None where they say none, or differ).

    Only headers are read.

    Parameters
    ----------
    paths : of the files; one that comes several times is opened once
    where : the STAR file or folder that names them, for messages

    Raises
    ------
    InputError : a missing or damaged file, one that is no cube, or boxes of different sizes
    """
    numbers: dict[Path, int] = {}
    files: list[Frames] = []
    sizes: set[float] = set()
    for path in paths:
        if path in numbers:
            continue
        frames, stated = open_tiff(path, square=False) if inner_suffix(path) in _TIFF else _open_mrc(path)
        check_cube(path, frames.shape)
        if files and frames.shape != files[0].shape:
            raise InputError(
                f"{where} mixes box sizes: {files[0].shape[0]} voxels in {files[0].path} and {frames.shape[0]} in "
                f"{path}; rescale the subtomograms to one size, or separate them."
            )
        numbers[path] = len(files)
        files.append(frames)
        if stated:
            sizes.add(round(stated, 4))
    if len(sizes) > 1:
        warn(f"{where}: the headers of the subtomograms give voxel sizes from {min(sizes):g} to {max(sizes):g} A.")
    return VolumeImages(files, np.array([numbers[path] for path in paths])), sizes.pop() if len(sizes) == 1 else None


def _open_mrc(path: Path) -> tuple[Frames, float | None]:
    frames, header = open_frames(path, square=False)
    return frames, header.pixel_size


def check_cube(path: object, shape: tuple[int, ...]) -> None:
    """Raise ``InputError`` unless a volume (z, y, x) has three equal edges."""
    if len(set(shape)) != 1:
        depth, height, width = shape
        raise InputError(f"{path} has {width} x {height} x {depth} voxels; a subtomogram is a cube.")


def open_folder(folder: Path) -> tuple[VolumeImages, list[Path], float | None]:
    """All subtomograms of a folder in the order of their names (numbers by value): source, files, voxel size.

    Raises
    ------
    InputError : no volumes in it, or as ``open_volume_files``
    """
    try:
        paths = [path for path in folder.iterdir() if _is_volume_name(path)]
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}); check its permissions.") from error
    if not paths:
        raise InputError(f"{folder} holds no volumes ({', '.join(VOLUME_SUFFIXES)}); give a folder of subtomograms.")
    paths.sort(key=_natural)
    images, size = open_volume_files(paths, folder)
    return images, paths, size


def _is_volume_name(path: Path) -> bool:
    return inner_suffix(path) in VOLUME_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """A key by which ``p_10`` comes behind ``p_9``."""
    words = re.split(r"(\d+)", path.name)
    return [(0, int(word), "") if word.isdigit() else (1, 0, word) for word in words]


def split_slices(frames: Frames, count: int) -> VolumeImages:
    """``count`` cubes that lie one behind another in a file.

    Raises
    ------
    InputError : they are no cubes
    """
    depth = frames.shape[0] // count
    check_cube(frames.path, (depth, *frames.shape[1:]))
    return VolumeImages([frames], np.zeros(count, np.int64), depth * np.arange(count))


def mrc_volumes(frames: Frames, header: MrcHeader) -> VolumeImages | None:
    """The subtomograms of an MRC file that says that it holds several volumes, None for any other file."""
    return split_slices(frames, header.volumes) if header.volumes else None


def count_not_finite(particles: Particles) -> Iterator[tuple[int, int]]:
    """For each particle in turn its number and how many of its voxels (pixels) are NaN or infinite."""
    step = max(1, _BATCH_BYTES // (4 * particles.box**particles.dimensions))
    for first in range(0, len(particles), step):
        batch = particles.read(np.arange(first, min(first + step, len(particles))))
        wrong = (~np.isfinite(batch)).reshape(len(batch), -1).sum(1)
        yield from ((first + i, int(n)) for i, n in enumerate(wrong))


def is_folder_of_volumes(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder with at least one file that is named like a volume."""
    folder = Path(path)
    return folder.is_dir() and any(_is_volume_name(file) for file in folder.iterdir())
