"""Lazy image sources: in files, in memory, over several files, and as an array that napari can show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import ImageSource, Indices

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

_RUN_BYTES = 32 * 2**20  # images are read at most this many bytes at a time before conversion to float32


def as_indices(indices: Indices, count: int) -> NDArray[np.int64]:
    """Row numbers in ``range(count)``, shape (k,), for a slice, numbers (negative from the end) or a (count,) mask."""
    if isinstance(indices, slice):
        return np.arange(*indices.indices(count), dtype=np.int64)
    chosen = np.asarray(indices)
    if chosen.dtype == bool:
        if chosen.shape != (count,):
            raise IndexError(f"a mask of shape {chosen.shape} does not fit {count} images")
        return np.flatnonzero(chosen)
    chosen = chosen.reshape(-1).astype(np.int64)
    chosen = np.where(chosen < 0, chosen + count, chosen)
    if chosen.size and (chosen.min() < 0 or chosen.max() >= count):
        raise IndexError(f"image index out of range for {count} images")
    return chosen


class Frames(Protocol):
    """One file of equally sized images."""

    @property
    def path(self) -> Path: ...

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def read_frames(self, frames: NDArray[np.int64], out: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        """Put image ``frames[i]`` into ``out[rows[i]]``; ``frames`` ascend."""
        ...


@dataclass(frozen=True)
class RawFrames:
    """Images stored one after another in an uncompressed file.

    They are read with plain file reads, not through a memory map: a map would raise SIGBUS, and end napari, when the
    file shrinks or its network drive goes away, would count against the memory of the process, and would keep the file
    locked on Windows.

    Attributes
    ----------
    path : of the uncompressed file
    shape : (n, height, width)
    dtype : as stored, with byte order
    offset : bytes before the first image
    keep : whatever must live as long as the file is needed, such as a temporary folder
    packed : the file the user knows, where ``path`` is an unpacked copy of it
    """

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    keep: Any = field(default=None, repr=False, compare=False)
    packed: Path | None = None

    def read_frames(self, frames: NDArray[np.int64], out: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        """Put image ``frames[i]`` into ``out[rows[i]]``, one read per run of neighbouring images."""
        _, height, width = self.shape
        pixels = height * width
        longest = max(1, _RUN_BYTES // (pixels * self.dtype.itemsize))
        try:
            with self.path.open("rb", buffering=0) as file:
                for first, last in _runs(frames, longest):
                    file.seek(self.offset + int(frames[first]) * pixels * self.dtype.itemsize)
                    run = np.fromfile(file, dtype=self.dtype, count=(last - first) * pixels)
                    if run.size < (last - first) * pixels:
                        raise InputError(f"{self.path} ended while image {frames[first] + 1} was read; was it changed?")
                    out[rows[first:last]] = run.reshape(-1, height, width)
        except OSError as error:
            raise InputError(f"{self.path} cannot be read any more ({error.strerror}).") from error


def _runs(frames: NDArray[np.int64], longest: int) -> Iterator[tuple[int, int]]:
    """Half-open ranges of positions whose frames follow one another, none longer than ``longest``."""
    breaks = np.flatnonzero(np.diff(frames) != 1) + 1
    edges = np.concatenate([[0], breaks, [len(frames)]])
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        for first in range(start, stop, longest):
            yield first, min(first + longest, stop)


class FileImages:
    """Particle images spread over one or several files, in the order of the metadata rows.

    Parameters
    ----------
    files : the files; all hold square images of one size
    file_of : (n,) which file each particle lies in; None for one file read in order
    frame_of : (n,) 0-based image within its file
    sign : (n,) factor of each image, or None for 1
    """

    def __init__(
        self,
        files: Sequence[Frames],
        file_of: NDArray[np.integer[Any]] | None = None,
        frame_of: NDArray[np.integer[Any]] | None = None,
        sign: NDArray[np.floating[Any]] | None = None,
    ) -> None:
        self.files = tuple(files)
        count = files[0].shape[0] if frame_of is None else len(frame_of)
        self.file_of = np.zeros(count, np.int32) if file_of is None else np.asarray(file_of, np.int32)
        self.frame_of = np.arange(count, dtype=np.int64) if frame_of is None else np.asarray(frame_of, np.int64)
        self.sign = None if sign is None or np.all(sign == 1) else np.asarray(sign, np.float32)
        self._shape = (count, *files[0].shape[1:])

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, box, box)."""
        return self._shape

    def storage_order(self) -> NDArray[np.int64]:
        """All rows (n,) in the order in which their images lie, file after file."""
        return np.lexsort((self.frame_of, self.file_of)).astype(np.int64)

    def read(self, indices: Indices) -> NDArray[np.float32]:
        """Images (k, box, box) float32 in the order asked; each file is read in ascending runs."""
        chosen = as_indices(indices, self._shape[0])
        out = np.empty((len(chosen), *self._shape[1:]), np.float32)
        files = self.file_of[chosen]
        for number in np.unique(files):
            rows = np.flatnonzero(files == number)
            frames = self.frame_of[chosen[rows]]
            order = np.argsort(frames, kind="stable")
            self.files[number].read_frames(frames[order], out, rows[order])
        if self.sign is not None:
            out *= self.sign[chosen][:, None, None]
        return out


def storage_order(source: ImageSource) -> NDArray[np.int64]:
    """The rows (n,) of a source in an order in which reading them never goes back in a file."""
    known = getattr(source, "storage_order", None)
    return np.arange(source.shape[0], dtype=np.int64) if known is None else known()


class ArrayImages:
    """Images of an array that is already there: numpy, memory map, dask, or a napari layer's data.

    Parameters
    ----------
    array : (n, box, box) real numbers, or one image (box, box)

    Raises
    ------
    InputError : for other shapes, images that are not square, or values that are not real numbers
    """

    def __init__(self, array: Any) -> None:
        shape = tuple(int(size) for size in array.shape)
        if len(shape) == 2:
            array, shape = array[None], (1, *shape)
        if len(shape) != 3 or 0 in shape:
            raise InputError(f"the array has shape {shape}; a particle stack has the shape (particles, box, box).")
        check_square("the array", shape)
        if np.dtype(array.dtype).kind not in "buif":
            raise InputError(f"the array holds {array.dtype} values; particle images are real numbers.")
        self._array = array
        self._shape = shape

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, box, box)."""
        return self._shape

    def read(self, indices: Indices) -> NDArray[np.float32]:
        """Images (k, box, box) float32, a copy."""
        chosen = as_indices(indices, self._shape[0])
        if len(chosen) and np.all(np.diff(chosen) == 1):
            picked = self._array[int(chosen[0]) : int(chosen[-1]) + 1]
        else:
            picked = self._array[chosen]
        return np.array(picked, dtype=np.float32)


def check_square(name: object, shape: tuple[int, ...]) -> None:
    """Raise ``InputError`` unless images of shape (..., height, width) are square."""
    height, width = shape[-2:]
    if height != width:
        raise InputError(f"{name} holds images of {width} x {height} pixels; particle images must be square.")


class LazyStack:
    """An array of images, or volumes, that are read, and optionally changed, only when they are looked at.

    Parameters
    ----------
    source : of n images (box, box) or volumes (box, box, box)
    function : ``function(images, indices)`` with images (k, box, box[, box]) float32 and their numbers (k,) gives the
        images to show, (k, *image_shape); None shows them as they are
    image_shape : of one image after ``function``, by default that of the source
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self,
        source: ImageSource,
        function: Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float32]] | None = None,
        image_shape: tuple[int, ...] | None = None,
    ) -> None:
        self.source = source
        self.function = function
        self.shape: tuple[int, ...] = (source.shape[0], *(image_shape or source.shape[1:]))

    @property
    def ndim(self) -> int:
        """3 for images, 4 for volumes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of pixels in all images."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that all images would take."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        parts = key if isinstance(key, tuple) else (key,)
        first, rest = (parts[0], parts[1:]) if parts else (slice(None), ())
        if first is Ellipsis:
            missing = self.ndim - (len(parts) - 1)
            first, rest = slice(None), (slice(None),) * (missing - 1) + parts[1:]
        if isinstance(first, (int, np.integer)):
            return self._images(np.array([first]))[0][rest]
        return self._images(first)[(slice(None), *rest)]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self._images(slice(None)), dtype=dtype)

    def _images(self, indices: Indices) -> NDArray[np.float32]:
        chosen = as_indices(indices, self.shape[0])
        images = self.source.read(chosen)
        return images if self.function is None else np.asarray(self.function(images, chosen), np.float32)
