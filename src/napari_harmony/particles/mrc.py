"""MRC files: headers of every make, images read on demand, stacks written in one pass.

The header is read here and not by mrcfile, whose checks are too strict for the files of older programs (machine
stamps, map identifier) and whose permissive mode returns no data, without a reason, for truncated ones. The layout of
the header is mrcfile's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from napari_harmony.errors import InputError
from napari_harmony.particles.files import Decompressed, check_file, compression, replacing, warn
from napari_harmony.particles.images import FileImages, RawFrames, check_square

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HEADER_BYTES = 1024
_MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_REFUSED_MODES = {
    3: "complex integers (a Fourier transform)",
    4: "complex numbers (a Fourier transform)",
    16: "RGB colours",
    101: "4-bit numbers",
}
_LARGEST_EDGE = 2**20  # no detector is larger; a bigger number is one read in the wrong byte order
_IMOD_STAMP = 1146047817
_VOLUME_STACK_GROUPS = range(401, 631)  # MRC2014: space group + 400 for stacks of volumes


@dataclass(frozen=True)
class MrcHeader:
    """What an MRC header says.

    Attributes
    ----------
    path : of the file as the user knows it
    shape : (nz, ny, nx)
    dtype : of one stored pixel, with byte order
    offset : bytes before the first pixel
    pixel_size : angstrom along x, None where the header does not say
    space_group : ``ispg``; 0 for images, 1 for volumes, but programs differ
    slices_per_cell : ``mz``
    slice_spacing : angstrom along z, 0 where the header does not say
    """

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    pixel_size: float | None
    space_group: int
    slices_per_cell: int
    slice_spacing: float

    @property
    def volumes(self) -> int:
        """How many volumes the file says it holds one behind another (space group 401 to 630), 0 where it does not."""
        depth = self.slices_per_cell
        stacked = self.space_group in _VOLUME_STACK_GROUPS and depth > 0 and self.shape[0] % depth == 0
        return self.shape[0] // depth if stacked else 0

    @property
    def is_volume(self) -> bool:
        """Whether this is one volume rather than a stack of images, as far as a header can tell.

        Programs do not agree on flags, so the geometry is asked: a cube, or as many cell intervals as slices with the
        spacing of x and y, is a volume. Correct stack flags (group 0, one slice per cell) always mean a stack.
        """
        depth, height, width = self.shape
        if self.space_group in _VOLUME_STACK_GROUPS:
            return True
        if depth == 1 or (self.space_group == 0 and self.slices_per_cell == 1):
            return False
        if depth == height == width:
            return True
        cell_in_z = self.slices_per_cell == depth and self.slice_spacing > 0 and self.pixel_size is not None
        return cell_in_z and abs(self.slice_spacing / (self.pixel_size or 1.0) - 1) < 1e-3


def read_header(path: str | os.PathLike[str]) -> MrcHeader:
    """Read the header of an uncompressed MRC file and check it against the size of the file.

    Raises
    ------
    InputError : not an MRC file, a pixel type that is no real number, or fewer images than the header promises
    """
    path = Path(path)
    check_file(path)
    return _read_header(path, path)


def _read_header(path: Path, name: Path) -> MrcHeader:
    """The header of ``path``, called ``name`` in messages where it is a temporary copy."""
    with path.open("rb") as file:
        raw = file.read(_HEADER_BYTES)
    if len(raw) < _HEADER_BYTES:
        raise InputError(f"{name} is no MRC file: it has {len(raw)} bytes and a header alone has {_HEADER_BYTES}.")
    header = _in_byte_order(raw, name)
    shape = (int(header["nz"]), int(header["ny"]), int(header["nx"]))
    extended = int(header["nsymbt"])
    if extended < 0:
        raise InputError(f"{name} has a damaged header: its extended header would have {extended} bytes.")
    dtype = _pixel_type(header, raw, name)
    if bytes(header["map"].tobytes())[:3] != b"MAP":
        warn(f"{name} does not carry the MRC identifier 'MAP'; it was read as MRC by its other fields.")
    offset = _HEADER_BYTES + extended
    _check_size(name, path.stat().st_size - offset, shape, dtype)
    spacing = _spacing(float(header["cella"]["x"]), int(header["mx"]))
    return MrcHeader(
        path=name,
        shape=shape,
        dtype=dtype,
        offset=offset,
        pixel_size=spacing or None,
        space_group=int(header["ispg"]),
        slices_per_cell=int(header["mz"]),
        slice_spacing=_spacing(float(header["cella"]["z"]), int(header["mz"])),
    )


def _spacing(length: float, intervals: int) -> float:
    return length / intervals if intervals > 0 and np.isfinite(length) and length > 0 else 0.0


def _in_byte_order(raw: bytes, name: Path) -> np.void:
    """The header in the byte order of its stamp, or in the other one where only that makes sense."""
    little = np.frombuffer(raw, HEADER_DTYPE.newbyteorder("<"))[0]
    big = np.frombuffer(raw, HEADER_DTYPE.newbyteorder(">"))[0]
    stamped_big = raw[212:214] == b"\x11\x11"
    stamped, other = (big, little) if stamped_big else (little, big)
    if _plausible(stamped):
        return stamped
    if _plausible(other):
        if raw[212:213] in (b"\x44", b"\x11"):
            warn(f"{name} is stamped with the wrong byte order; the other one was used because its sizes make sense.")
        return other
    raise InputError(
        f"{name} is no readable MRC file: its header says {stamped['nx']} x {stamped['ny']} x {stamped['nz']} pixels "
        f"of mode {stamped['mode']}; check that it is an MRC file and copy it again."
    )


def _plausible(header: np.void) -> bool:
    known = int(header["mode"]) in _MODES or int(header["mode"]) in _REFUSED_MODES
    edges = all(0 < int(header[edge]) <= _LARGEST_EDGE for edge in ("nx", "ny"))
    return known and edges and int(header["nz"]) > 0


def _pixel_type(header: np.void, raw: bytes, name: Path) -> np.dtype[Any]:
    mode = int(header["mode"])
    if mode in _REFUSED_MODES:
        raise InputError(f"{name} holds {_REFUSED_MODES[mode]} (MRC mode {mode}); convert it to real images first.")
    order: Any = header.dtype["nx"].byteorder
    code = _MODES[mode]
    if mode == 0:
        code = "i1" if _bytes_are_signed(header, raw, order, name) else "u1"
    return np.dtype(code).newbyteorder(order)


def _bytes_are_signed(header: np.void, raw: bytes, order: Any, name: Path) -> bool:
    """IMOD says whether bytes are signed; else the extremes in the header may; else MRC2014 holds: signed."""
    stamp, flags = np.frombuffer(raw, np.dtype("i4").newbyteorder(order), 2, 152)
    if stamp == _IMOD_STAMP:
        return bool(flags & 1)
    lowest, highest = float(header["dmin"]), float(header["dmax"])
    if lowest < 0 < highest <= 127 and lowest >= -128:
        return True
    if lowest >= 0 and 127 < highest <= 255:
        return False
    warn(f"{name} holds bytes and does not say whether they are signed; they were read as signed, as MRC2014 says.")
    return True


def _check_size(name: Path, there: int, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
    count, height, width = shape
    image_bytes = height * width * dtype.itemsize
    whole = max(0, there) // image_bytes
    if whole < count:
        found = f"only {whole} {'is' if whole == 1 else 'are'} there" if whole else "there is none"
        raise InputError(f"{name} is incomplete: its header promises {count} images and {found}; copy it again.")
    if there > count * image_bytes:
        warn(f"{name} has {there - count * image_bytes} bytes more than its {count} images need; they were ignored.")


def open_frames(path: str | os.PathLike[str], *, square: bool = True) -> tuple[RawFrames, MrcHeader]:
    """The images of an MRC file, plain or compressed (gzip, bzip2, xz), with its header; reads no image.

    Raises
    ------
    InputError : as ``read_header``, and, where ``square`` is asked for, for images that are not
    """
    path = Path(path)
    check_file(path)
    unpacked = Decompressed(path) if compression(path) else None
    plain = unpacked.path if unpacked else path
    header = _read_header(plain, path)
    if square:
        check_square(path, header.shape)
    return RawFrames(plain, header.shape, header.dtype, header.offset, unpacked, path if unpacked else None), header


def mrc_images(path: str | os.PathLike[str]) -> FileImages:
    """All images of one MRC stack, in file order, whatever its flags say about volumes."""
    frames, _ = open_frames(path)
    return FileImages([frames])


def write_stack(
    path: str | os.PathLike[str],
    images: NDArray[Any] | Iterable[NDArray[Any]],
    pixel_size: float,
    *,
    half_precision: bool = False,
) -> int:
    """Write a stack of images that RELION and cryoSPARC read, and return how many were written.

    Parameters
    ----------
    path : to write; replaced as a whole when the last image is in
    images : (n, height, width), or batches of that shape one after another, which are never held together
    pixel_size : angstrom per pixel
    half_precision : store float16 (MRC mode 12, RELION >= 4) in place of float32

    Raises
    ------
    InputError : no images, or images of different sizes
    """
    dtype = np.dtype("<f2" if half_precision else "<f4")
    batches = [images] if isinstance(images, np.ndarray) else images
    statistics = _Statistics()
    size: tuple[int, ...] | None = None
    with replacing(path) as file:
        file.write(bytes(_HEADER_BYTES))
        for batch in batches:
            block = np.asarray(batch)
            block = block[None] if block.ndim == 2 else block
            if block.ndim != 3 or (size is not None and block.shape[1:] != size):
                raise InputError(f"{path} cannot be written: images of shape {block.shape[1:]} do not fit {size}.")
            size = block.shape[1:]
            stored = np.ascontiguousarray(block, dtype)
            statistics.add(stored)
            file.write(stored.tobytes())
        if size is None or statistics.images == 0:
            raise InputError(f"{path} cannot be written: there are no images.")
        file.seek(0)
        file.write(_stack_header(statistics, size, pixel_size, half_precision))
    return statistics.images


def write_volume(
    path: str | os.PathLike[str], volume: NDArray[Any] | Iterable[NDArray[Any]], voxel_size: float
) -> None:
    """Write one volume (z, y, x) as float32; it appears as a whole or not at all.

    Parameters
    ----------
    path : to write
    volume : of any sizes, or slabs of it (depth, y, x) from the first slice to the last, which are never held together
    voxel_size : angstrom

    Raises
    ------
    InputError : no volume, slabs of different sizes, or a place that cannot be written
    """
    statistics = _Statistics()
    size: tuple[int, ...] | None = None
    with replacing(path) as file:
        file.write(bytes(_HEADER_BYTES))
        for slab in [volume] if isinstance(volume, np.ndarray) else volume:
            stored = np.ascontiguousarray(slab, "<f4")
            if stored.ndim != 3 or 0 in stored.shape:
                raise InputError(f"{path} cannot be written: an array of shape {stored.shape} is no volume.")
            if size is not None and stored.shape[1:] != size:
                raise InputError(f"{path} cannot be written: slices of {stored.shape[1:]} do not fit {size}.")
            size = stored.shape[1:]
            statistics.add(stored)
            file.write(stored.data)
        if size is None:
            raise InputError(f"{path} cannot be written: there are no slices.")
        file.seek(0)
        file.write(_volume_header(statistics, size, voxel_size))


def _volume_header(statistics: _Statistics, size: tuple[int, ...], voxel_size: float) -> bytes:
    raw = _stack_header(statistics, size, voxel_size, False)
    header = np.frombuffer(raw, HEADER_DTYPE.newbyteorder("<")).copy()
    header["ispg"], header["mz"] = 1, statistics.images
    header["cella"]["z"] = statistics.images * voxel_size
    return header.tobytes()


class _Statistics:
    """Extremes, mean and deviation of finite pixels, gathered batch by batch."""

    def __init__(self) -> None:
        self.images = 0
        self.pixels = 0
        self.total = 0.0
        self.squares = 0.0
        self.lowest = np.inf
        self.highest = -np.inf

    def add(self, block: NDArray[Any]) -> None:
        self.images += len(block)
        values = block[np.isfinite(block)].astype(np.float64)
        if values.size:
            self.pixels += values.size
            self.total += float(values.sum())
            self.squares += float(np.square(values).sum())
            self.lowest = min(self.lowest, float(values.min()))
            self.highest = max(self.highest, float(values.max()))


def _stack_header(statistics: _Statistics, size: tuple[int, ...], pixel_size: float, half_precision: bool) -> bytes:
    height, width = size
    header = np.zeros(1, HEADER_DTYPE.newbyteorder("<"))
    header["nx"], header["ny"], header["nz"] = width, height, statistics.images
    header["mode"] = 12 if half_precision else 2
    header["mx"], header["my"], header["mz"] = width, height, 1
    for axis, cells in (("x", width), ("y", height), ("z", 1)):
        header["cella"][axis] = cells * pixel_size
    for angle in ("alpha", "beta", "gamma"):
        header["cellb"][angle] = 90
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    # MRC2014: dmax < dmin and rms < 0 say that statistics are not known
    header["dmin"], header["dmax"], header["dmean"], header["rms"] = 0, -1, -2, -1
    if statistics.pixels:
        mean = statistics.total / statistics.pixels
        header["dmin"], header["dmax"], header["dmean"] = statistics.lowest, statistics.highest, mean
        header["rms"] = np.sqrt(max(0.0, statistics.squares / statistics.pixels - mean * mean))
    header["nversion"] = 20141 if half_precision else 20140
    header["map"] = b"MAP "
    header["machst"] = (0x44, 0x44, 0, 0)
    header["nlabl"] = 1
    header["label"][0, 0] = b"napari-harmony"
    return header.tobytes()
