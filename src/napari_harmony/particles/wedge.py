"""The missing wedge: which Fourier voxels of a subtomogram hold data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import Indices
from napari_harmony.particles.files import warn
from napari_harmony.particles.images import as_indices
from napari_harmony.particles.tomogram import open_volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TOLERANCE = 1e-6  # degrees by which a plane may lie outside a range and still belong to it


class Wedge(Protocol):
    """How much data stand behind every Fourier voxel of every particle, in the frame of the stored volumes."""

    def coverage(self, indices: Indices, box: int) -> NDArray[np.float32]:
        """Coverage in 0 (no data) to 1 of the chosen particles, (k, box, box, box // 2 + 1).

        The grid is that of ``rfftn`` of a volume (z, y, x): fz and fy in ``fftfreq`` order, fx from 0 on. Where k
        particles share one coverage the array may be a read-only view that repeats it.
        """
        ...

    def subset(self, rows: Indices) -> Wedge:
        """The wedge of some particles, in the order of ``rows``."""
        ...


@dataclass(frozen=True)
class TiltRange:
    """A single-axis tilt series about y with the beam along z, the same for all particles.

    A tilt by theta samples the Fourier plane spanned by y and (cos theta, 0, sin theta) in the order (x, y, z): that
    of projections ``x' = x cos theta + z sin theta``. A voxel (fx, fy, fz) therefore has the tilt atan(fz / fx), and
    holds data where ``low <= atan(fz / fx) <= high``; the line fx = fz = 0, which all planes share, always does.

    Attributes
    ----------
    low, high : degrees, -90 <= low < high <= 90
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not -90 <= self.low < self.high <= 90:
            raise InputError(
                f"the tilt range {self.low:g} to {self.high:g} makes no sense; give two angles in degrees, the lower "
                "one first, between -90 and 90."
            )

    def coverage(self, indices: Indices, box: int) -> NDArray[np.float32]:
        """As ``Wedge.coverage``; values are 0 or 1, and 1/2 where an edge of the grid stands for two frequencies."""
        if isinstance(indices, slice):
            raise TypeError("a tilt range does not know how many particles there are; give their numbers")
        chosen = np.asarray(indices)
        count = int(chosen.sum()) if chosen.dtype == bool else chosen.size
        return np.broadcast_to(_range_coverage(self.low, self.high, box), (count, box, box, box // 2 + 1))

    def subset(self, rows: Indices) -> TiltRange:
        """Itself: all particles have the same wedge."""
        return self


@lru_cache(maxsize=8)
def _range_coverage(low: float, high: float, box: int) -> NDArray[np.float32]:
    fz = np.round(np.fft.fftfreq(box) * box)[:, None]
    fx = np.arange(box // 2 + 1, dtype=np.float64)[None]
    covered = _in_range(low, high, fz, fx)
    if box % 2 == 0:
        # -box/2 and +box/2 are one voxel: it holds half the data where only one of its two frequencies is sampled,
        # which also keeps the coverage of a real volume symmetric
        mirrored = _in_range(low, high, -fz, fx)
        edge = (np.abs(fz) == box // 2) | (fx == box // 2)
        covered = np.where(edge, 0.5 * (covered + mirrored), covered)
    out = np.broadcast_to(covered[:, None, :], (box, box, box // 2 + 1)).astype(np.float32)
    out.flags.writeable = False
    return out


def _in_range(low: float, high: float, fz: NDArray[np.float64], fx: NDArray[np.float64]) -> NDArray[np.float64]:
    tilt = np.rad2deg(np.arctan2(fz, fx))
    inside = (tilt >= low - _TOLERANCE) & (tilt <= high + _TOLERANCE)
    # at 90 and at -90 degrees the same plane is sampled
    upright = (fx == 0) & (low <= -90 + _TOLERANCE or high >= 90 - _TOLERANCE)
    return (inside | upright | ((fx == 0) & (fz == 0))).astype(np.float64)


class CoverageFiles:
    """One volume of weights per particle: RELION's ``rlnCtfImage``.

    A cube is centred, its zero frequency at voxel floor(n / 2); a volume of (n, n, n // 2 + 1) voxels is in the order
    of ``rfftn``. RELION 4 may put a second such volume, of multiplicities, behind the first: it is not used. Values
    are taken without their sign and, where they exceed 1 (sums over tilts), divided by the largest.

    Parameters
    ----------
    files : the different volumes
    file_of : (n,) which of them each particle has; None for one each
    """

    def __init__(self, files: Sequence[Path], file_of: NDArray[np.int64] | None = None) -> None:
        self.files = tuple(files)
        self.file_of = np.arange(len(self.files)) if file_of is None else np.asarray(file_of, np.int64)
        self._read = lru_cache(maxsize=32)(self._load)

    def coverage(self, indices: Indices, box: int) -> NDArray[np.float32]:
        """As ``Wedge.coverage``. Frequencies beyond those of the file hold no data.

        Raises
        ------
        InputError : a missing file, one of another shape, or one with values that are not numbers
        """
        numbers = self.file_of[as_indices(indices, len(self.file_of))]
        out = np.empty((len(numbers), box, box, box // 2 + 1), np.float32)
        for row, number in enumerate(numbers.tolist()):
            out[row] = self._read(number, box)
        return out

    def subset(self, rows: Indices) -> CoverageFiles:
        """The files of some particles, in the order of ``rows``."""
        return CoverageFiles(self.files, self.file_of[as_indices(rows, len(self.file_of))])

    def _load(self, number: int, box: int) -> NDArray[np.float32]:
        path = self.files[number]
        volume = open_volume(path).read()
        half = half_complex(volume, path)
        wrong = int((~np.isfinite(half)).sum())
        if wrong:
            raise InputError(f"{path} holds {wrong} values that are not numbers; write this wedge or CTF volume again.")
        if half.min() < 0:
            warn(f"{path} and perhaps others hold negative values (a CTF with its sign); their size was used.")
        size = np.abs(half)
        peak = float(size.max())
        if peak == 0:
            raise InputError(f"{path} is zero everywhere, so its particle would have no data; write it again.")
        return resized((size / max(1.0, peak)).astype(np.float32), box)


def half_complex(volume: NDArray[np.float32], name: object = "the volume") -> NDArray[np.float32]:
    """A volume of weights in the order of ``rfftn``, (n, n, n // 2 + 1), from a centred or a half-complex one.

    Raises
    ------
    InputError : a shape that is neither
    """
    depth, height, width = volume.shape
    if depth == height == width:
        return np.fft.ifftshift(volume)[:, :, : width // 2 + 1]
    if width == height // 2 + 1 and depth in (height, 2 * height):
        return volume[:height]
    raise InputError(
        f"{name} has {width} x {height} x {depth} voxels; a wedge or CTF volume is a centred cube of n x n x n or "
        "half-complex with n/2 + 1 x n x n voxels."
    )


def resized(half: NDArray[np.float32], box: int) -> NDArray[np.float32]:
    """Weights (n, n, n // 2 + 1) in the order of ``rfftn`` cut to, or filled up with zeros for, another box."""
    size = half.shape[0]
    if size == box:
        return half
    full = np.round(np.fft.fftfreq(box) * box).astype(np.int64)
    along_x = np.arange(box // 2 + 1)
    known, known_x = np.abs(full) <= size // 2, along_x <= size // 2
    out = np.zeros((box, box, box // 2 + 1), np.float32)
    source = full[known] % size
    out[np.ix_(known, known, known_x)] = half[np.ix_(source, source, along_x[known_x])]
    return out


def common_tilt_range(
    low: NDArray[np.float64], high: NDArray[np.float64], where: object, name: Callable[[int], str]
) -> TiltRange:
    """The one tilt range of all particles.

    Parameters
    ----------
    low, high : degrees, (n,)
    where : the file, for messages
    name : what to call a row in messages

    Raises
    ------
    InputError : the rows differ, or one is no range of tilts
    """
    wrong = np.flatnonzero(~((low >= -90) & (low < high) & (high <= 90)))
    if len(wrong):
        row = int(wrong[0])
        raise InputError(
            f"{where}: the tilt range {name(row)} is {low[row]:g} to {high[row]:g} degrees; give two angles between "
            "-90 and 90, the lower one first."
        )
    other = np.flatnonzero((low != low[0]) | (high != high[0]))
    if len(other):
        row = int(other[0])
        raise InputError(
            f"{where} mixes tilt ranges: {low[0]:g} to {high[0]:g} degrees and, {name(row)}, {low[row]:g} to "
            f"{high[row]:g}; split it, or give wedge volumes (rlnCtfImage)."
        )
    return TiltRange(float(low[0]), float(high[0]))
