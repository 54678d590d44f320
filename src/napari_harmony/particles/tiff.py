"""TIFF stacks: pages read on demand, pixel size where the file says one."""

from __future__ import annotations

import html
import logging
import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.errors import InputError
from napari_harmony.particles.files import check_file
from napari_harmony.particles.images import Frames, RawFrames, check_square

if TYPE_CHECKING:
    import tifffile
    from numpy.typing import NDArray

#: Angstrom in one unit, by the names that ImageJ and OME use
_ANGSTROM = {
    "a": 1.0,
    "å": 1.0,
    "\u212b": 1.0,
    "ang": 1.0,
    "angst": 1.0,
    "angstrom": 1.0,
    "nm": 10.0,
    "nanometer": 10.0,
    "nanometre": 10.0,
    "um": 1e4,
    "µm": 1e4,
    "\u03bcm": 1e4,
    "\\u00b5m": 1e4,
    "micron": 1e4,
    "micrometer": 1e4,
    "mm": 1e7,
    "cm": 1e8,
}
_CENTIMETRE = 3  # value of the tag ResolutionUnit
_PLAUSIBLE = (0.01, 1000.0)  # angstrom per pixel; a resolution outside is one for printers


class PageFrames:
    """Images of a TIFF file that can only be read page by page (compressed or scattered).

    The file stays open: finding the pages again would mean to walk through all of them. A lock keeps threads apart.
    """

    def __init__(self, path: Path, file: tifffile.TiffFile, pages: Any, shape: tuple[int, int, int]) -> None:
        self.path = path
        self.shape = shape
        self._pages = pages
        self._file = file
        self._lock = threading.Lock()

    def read_frames(self, frames: NDArray[np.int64], out: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        """Put page ``frames[i]`` into ``out[rows[i]]``."""
        with self._lock:
            for frame, row in zip(frames.tolist(), rows.tolist(), strict=True):
                try:
                    out[row] = self._pages[frame].asarray().reshape(self.shape[1:])
                except Exception as error:  # decoders of damaged data raise all kinds of errors
                    raise InputError(f"{self.path}: page {frame + 1} cannot be read ({error}).") from error

    def __del__(self) -> None:
        self._file.close()


class _PageErrors(logging.Handler):
    """Notices that the chain of pages is broken, which tifffile logs before it goes on with the pages it found."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.broken = False

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage().lower()
        self.broken |= any(word in message for word in ("page", "corrupted", "invalid value offset"))

    def __enter__(self) -> None:
        logging.getLogger("tifffile").addHandler(self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("tifffile").removeHandler(self)


def tiff_shape(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """Sizes of the axes of a TIFF file that are longer than 1, such as (n, z, y, x); reads page headers, no pixels.

    Raises
    ------
    InputError : not a TIFF
    """
    import tifffile

    path = Path(path)
    check_file(path)
    try:
        with _PageErrors(), tifffile.TiffFile(path) as file:
            series = file.series[0]
            pages = len(file.pages) if len(file.series) > 1 and series.ndim == 2 else 1
            return tuple(size for size in (pages, *series.shape) if size > 1)
    except Exception as error:  # tifffile raises many kinds of errors on damaged files
        raise InputError(f"{path} is no readable TIFF file; write or copy it again ({error}).") from error


def open_tiff(path: str | os.PathLike[str], *, square: bool = True) -> tuple[Frames, float | None]:
    """The images of a TIFF stack (also BigTIFF, ImageJ, OME) and its pixel size in angstrom, None if it says none.

    Reads page headers, no pixels.

    Parameters
    ----------
    path : of the file
    square : a stack of square images with one axis of images is asked for; else any axes in front of the last two are
        taken together, as of a volume or a series of volumes

    Raises
    ------
    InputError : not a TIFF, not a stack of (square) grey images, or an incomplete file
    """
    import tifffile

    path = Path(path)
    check_file(path)
    log = _PageErrors()
    try:
        with log:
            file = tifffile.TiffFile(path)
            series = file.series[0]
            count = len(file.pages)
    except Exception as error:  # tifffile raises many kinds of errors on damaged files
        raise InputError(f"{path} is no readable TIFF file; write or copy it again ({error}).") from error
    try:
        if log.broken:
            raise InputError(f"{path} is incomplete: its list of pages breaks off after {count}; copy it again.")
        if len(file.series) > 1 and series.ndim == 2:  # images saved one by one, each a series of its own
            _check_last_page(path, file)
            shape = _stack_shape(path, (count, *series.shape), "IYX", series.dtype, square)
            return PageFrames(path, file, file.pages, shape), _pixel_size(file)
        shape = _stack_shape(path, series.shape, series.axes, series.dtype, square)
        if series.dataoffset is None and len(series.pages) != shape[0]:
            raise InputError(f"{path} has {shape[0]} images in {count} pages; save it as a plain stack.")
        pixel_size = _pixel_size(file)
    except BaseException:
        file.close()
        raise
    if series.dataoffset is None:
        _check_last_page(path, file)
        return PageFrames(path, file, series.pages, shape), pixel_size
    file.close()
    dtype = np.dtype(series.dtype).newbyteorder(file.byteorder)
    whole = (path.stat().st_size - series.dataoffset) // (shape[1] * shape[2] * dtype.itemsize)
    if whole < shape[0]:
        there = max(0, whole)
        raise InputError(f"{path} is incomplete: it promises {shape[0]} images and {there} are there; copy it again.")
    return RawFrames(path, shape, dtype, int(series.dataoffset)), pixel_size


def _check_last_page(path: Path, file: tifffile.TiffFile) -> None:
    last: Any = file.pages[-1]
    stop = max((at + size for at, size in zip(last.dataoffsets, last.databytecounts, strict=True)), default=0)
    if stop > path.stat().st_size:
        file.close()
        raise InputError(f"{path} is incomplete: the pixels of its last page are not there; copy it again.")


def _stack_shape(path: Path, shape: tuple[int, ...], axes: str, dtype: Any, square: bool) -> tuple[int, int, int]:
    if "S" in axes:
        raise InputError(f"{path} holds colour images; save them as grey images.")
    if dtype is None or np.dtype(dtype).kind not in "buif":
        raise InputError(f"{path} holds {dtype} values; particle images are real numbers.")
    if len(shape) < 2 or (square and sum(size > 1 for size in shape[:-2]) > 1):
        raise InputError(f"{path} has the axes {axes} of {shape}; a particle stack has one axis of images.")
    if square:
        check_square(path, shape)
    count = int(np.prod(shape[:-2], dtype=np.int64))
    return count, int(shape[-2]), int(shape[-1])


def _pixel_size(file: tifffile.TiffFile) -> float | None:
    """Angstrom per pixel from OME or ImageJ metadata, or from a resolution in centimetres; None where implausible."""
    size = _ome_pixel_size(file.ome_metadata) if file.ome_metadata else _tag_pixel_size(file)
    return size if size is not None and _PLAUSIBLE[0] <= size <= _PLAUSIBLE[1] else None


def _ome_pixel_size(xml: str) -> float | None:
    size = re.search(r'PhysicalSizeX="([^"]+)"', xml)
    unit = re.search(r'PhysicalSizeXUnit="([^"]+)"', xml)
    try:
        return float(size[1]) * _ANGSTROM[html.unescape(unit[1]).lower() if unit else "um"] if size else None
    except (ValueError, KeyError):
        return None


def _tag_pixel_size(file: tifffile.TiffFile) -> float | None:
    page: Any = file.pages[0]
    resolution = page.tags.get("XResolution")
    if resolution is None or 0 in resolution.value:
        return None
    pixels_per_unit = resolution.value[0] / resolution.value[1]
    if file.imagej_metadata:
        unit = str(file.imagej_metadata.get("unit", "")).lower()
        return _ANGSTROM[unit] / pixels_per_unit if unit in _ANGSTROM else None
    unit_tag = page.tags.get("ResolutionUnit")
    return 1e8 / pixels_per_unit if unit_tag is not None and int(unit_tag.value) == _CENTIMETRE else None
