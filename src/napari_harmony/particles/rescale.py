"""Particles at another pixel size and box, without a file of their own: resampled as they are read."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import ImageSource, Indices, Particles
from napari_harmony.particles.images import as_indices, storage_order
from napari_harmony.particles.wedge import Wedge

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Share of the band, from its end, whose power the frequencies beyond it are filled with.
_OUTER = 0.2


@dataclass(frozen=True)
class Grid:
    """Images as wide as they are high, the centre at pixel ``box // 2``.

    Attributes
    ----------
    box : edge in pixels
    pixel_size : angstrom
    """

    box: int
    pixel_size: float

    @property
    def width(self) -> float:
        """Angstrom."""
        return self.box * self.pixel_size


def rescaled(particles: Particles, pixel_size: float, box: int) -> Particles:
    """The same particles about the same centres on another grid; read lazily like the ones given.

    Detail that the new pixels cannot hold is left out (Fourier cropping). Of images, what the old ones never held is
    filled with noise as strong as that at the end of their band; of subtomograms, the wedge says that there is none.
    Where the new box is wider than the old, its rim mirrors the image, which has the noise of the image.

    Parameters
    ----------
    particles : images or subtomograms
    pixel_size : angstrom, of the new grid
    box : edge of the new grid in pixels

    Raises
    ------
    InputError : the pixel size of the particles is not known
    """
    if not particles.pixel_size_known:
        raise InputError(f"{particles.path or 'the layer'}: the pixel size is not known; give it to rescale.")
    old, new = Grid(particles.box, particles.pixel_size), Grid(box, pixel_size)
    volumes = particles.dimensions == 3
    return replace(
        particles,
        images=RescaledImages(particles.images, old, new),
        pixel_size=pixel_size,
        wedge=RescaledWedge(particles.wedge, old, new)
        if volumes and _needs_wedge(particles.wedge, old, new)
        else particles.wedge,
    )


class RescaledImages:
    """Images, or volumes, of a source on another grid.

    Parameters
    ----------
    source : (n, box, box[, box]) on the grid ``old``
    new : the grid to read on
    """

    def __init__(self, source: ImageSource, old: Grid, new: Grid) -> None:
        self.source, self.old, self.new = source, old, new

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, new box, new box[, new box])."""
        dimensions = len(self.source.shape) - 1
        return (self.source.shape[0], *(self.new.box,) * dimensions)

    def storage_order(self) -> NDArray[np.int64]:
        """All rows (n,) in the order in which the source has them."""
        return storage_order(self.source)

    def read(self, indices: Indices) -> NDArray[np.float32]:
        """Images in the order asked."""
        stored = self.source.read(as_indices(indices, self.source.shape[0]))
        images = resampled(stored, self.old, self.new)
        band = band_of(self.old, self.new)
        if images.ndim == 3 and band < self.new.box // 2:
            seeds = [zlib.crc32(np.ascontiguousarray(image).tobytes()) for image in stored]
            images = _filled(images, band, seeds)
        return images


def resampled(images: NDArray[np.float32], old: Grid, new: Grid) -> NDArray[np.float32]:
    """Images (k, box, box[, box]) on another grid, by trigonometric interpolation about the centre.

    Grey values are those of the same places; around images that are narrower than the new grid lies their mirror.
    """
    axes = tuple(range(1, images.ndim))
    mean = images.mean(axis=axes, keepdims=True, dtype=np.float64).astype(np.float32)
    first, last = _pixels(old, new)
    before, after = max(0, -first), max(0, last + 1 - old.box)
    centred = images - mean
    if before or after:
        margin = [(0, 0), *[(before, after)] * len(axes)]
        centred = np.pad(centred, margin, mode="reflect")
    kept = slice(first + before, last + 1 + before)
    matrix = _interpolation(old, new)
    out = centred[(slice(None), *(kept,) * len(axes))]
    for axis in axes:
        out = np.moveaxis(np.moveaxis(out, axis, -1) @ matrix.T, -1, axis)
    return np.ascontiguousarray(out + mean, dtype=np.float32)


def band_of(old: Grid, new: Grid) -> int:
    """Highest frequency that both grids hold, in cycles per width of the new one."""
    return min(new.box // 2, int(old.box / 2 * new.width / old.width + 1e-6))


def _pixels(old: Grid, new: Grid) -> tuple[int, int]:
    """First and last pixel of the old grid within the new one; beyond 0 and ``old.box - 1`` where the new is wider."""
    half = 0.5 * new.width / old.pixel_size
    first = old.box // 2 + int(np.ceil(-half - 1e-6))
    last = old.box // 2 + int(np.ceil(half - 1e-6)) - 1
    return first, last


@lru_cache(maxsize=8)
def _interpolation(old: Grid, new: Grid) -> NDArray[np.float32]:
    """Values at the new pixels from those at the old ones along an axis, (new box, pixels of the old within the new).

    The kernel is the sum of all cosines of the common band with the period of the new width; at the highest frequency
    that an even number of old pixels holds, one cosine is all there is of two waves, and counts once.
    """
    first, last = _pixels(old, new)
    known = (np.arange(first, last + 1) - old.box // 2) * old.pixel_size
    wanted = (np.arange(new.box) - new.box // 2) * new.pixel_size
    band = band_of(old, new)
    weight = np.full(band + 1, 2.0)
    weight[0] = 1.0
    if 2 * band == last - first + 1:
        weight[band] = 1.0
    phase = 2 * np.pi * np.arange(band + 1) / new.width
    distance = wanted[:, None] - known[None, :]
    kernel = (weight * np.cos(phase * distance[..., None])).sum(-1)
    return (kernel * old.pixel_size / new.width).astype(np.float32)


def _filled(images: NDArray[np.float32], band: int, seeds: list[int]) -> NDArray[np.float32]:
    """Images (k, box, box) with noise in the frequencies above ``band``, as strong as that below it.

    Empty frequencies would pass for a measurement that there is nothing, more certain than any other. Equal images get
    equal noise, and so stay recognisable as copies.
    """
    box = images.shape[-1]
    rows, columns = np.abs(np.fft.fftfreq(box) * box)[:, None], np.arange(box // 2 + 1)[None, :]
    frequency = np.maximum(rows, columns)
    # the very last may hold one of two waves only
    empty, outer = frequency > band, (frequency < band) & (frequency > (1 - _OUTER) * band - 1)
    spectrum = np.fft.rfft2(images, norm="ortho")
    level = np.sqrt((np.abs(spectrum[:, outer]) ** 2).mean(axis=1))
    noise = np.stack([np.random.default_rng(seed).standard_normal((box, box)) for seed in seeds])
    spectrum += np.fft.rfft2(noise, norm="ortho") * empty * level[:, None, None]
    return np.fft.irfft2(spectrum, s=(box, box), norm="ortho").astype(np.float32)


def _needs_wedge(wedge: Wedge | None, old: Grid, new: Grid) -> bool:
    """Whether the coverage on the new grid is another: where weights are of files, or data end within the band."""
    from napari_harmony.particles.wedge import TiltRange

    complete = band_of(old, new) >= new.box // 2
    return not (complete and (wedge is None or isinstance(wedge, TiltRange)))


class RescaledWedge:
    """The coverage of subtomograms on another grid: that of the same frequencies, none beyond those of the old grid.

    Parameters
    ----------
    wedge : on the grid ``old``; None for complete data
    new : the grid of the rescaled volumes
    """

    def __init__(self, wedge: Wedge | None, old: Grid, new: Grid) -> None:
        self.wedge, self.old, self.new = wedge, old, new

    def coverage(self, indices: Indices, box: int) -> NDArray[np.float32]:
        """As ``Wedge.coverage``, of volumes as wide as the new grid."""
        chosen = np.asarray(indices)
        count = int(chosen.sum()) if chosen.dtype == bool else chosen.size
        size = self.old.box
        if self.wedge is None:
            given = np.broadcast_to(np.float32(1), (count, size, size, size // 2 + 1))
        else:
            given = self.wedge.coverage(indices, size)
        if count > 1 and given.strides[0] == 0:  # one for all
            return np.broadcast_to(self._on_new(given[:1], box), (count, box, box, box // 2 + 1))
        return self._on_new(given, box)

    def _on_new(self, given: NDArray[np.float32], box: int) -> NDArray[np.float32]:
        """Coverages (k, n, n, n // 2 + 1) on the old grid at the frequencies of the new one, cut to ``box``."""
        size, particle = self.old.box, np.arange(len(given))
        step = self.old.width / self.new.width  # samples of the old grid per sample of the new
        full = np.round(np.round(np.fft.fftfreq(box) * box) * step).astype(np.int64)
        half = np.round(np.arange(box // 2 + 1) * step).astype(np.int64)
        known, known_half = np.flatnonzero(np.abs(full) <= size // 2), np.flatnonzero(half <= size // 2)
        out = np.zeros((len(given), box, box, box // 2 + 1), np.float32)
        rows = full[known] % size
        out[np.ix_(particle, known, known, known_half)] = given[np.ix_(particle, rows, rows, half[known_half])]
        return out

    def subset(self, rows: Indices) -> RescaledWedge:
        """The wedge of some particles, in the order of ``rows``."""
        return RescaledWedge(None if self.wedge is None else self.wedge.subset(rows), self.old, self.new)
