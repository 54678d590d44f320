"""A simulated tomogram with its truth: the package's own sample data.

Densities are put into a volume, projected along a tilt series, seen through the CTF of every tilt, made noisy,
corrected by phase flipping, and put together again by weighted back-projection. So the wedge, the CTF and the
correlated noise are those of a real tomogram and not those of a mask. Unlike most raw tomograms it is bright where
there is matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import fft
from scipy.sparse import csr_array

from napari_harmony.particles.ctf import CtfParameters, ctf_at
from napari_harmony.particles.euler import relion_to_matrix
from napari_harmony.particles.simulate_volumes import posable, random_angles
from napari_harmony.particles.wedge import TiltRange

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Which of the package's made-up densities are put into the sample, and what the points are called.
_SAMPLE = {1: "ring", 2: "lobes", 3: "tripod"}
_SAMPLE_VOXEL = 5.0  # angstrom, of the made-up densities
#: Pixels of nothing around the tilt images, so that the CTF of one edge does not reach the other.
_MARGIN = 32
_TRIES = 300  # places tried per particle before the box counts as full
_NYQUIST_TAPER = 0.8  # of the ramp filter, from this fraction of the Nyquist frequency to none at it


@dataclass(frozen=True)
class SimulatedTomogram:
    """A simulated tomogram.

    Attributes
    ----------
    volume : (z, y, x) float32, bright particles, noise included
    pixel_size : angstrom per voxel
    tilts : (t,) degrees about y
    truth : one row per particle: ``kind`` (0-based), ``x``, ``y``, ``z`` (voxels from 0), ``rot``, ``tilt``, ``psi``
        (degree) so that ``x_ref = R(rot, tilt, psi) (x_tomogram - position) + c``
    clean : (kinds, box, box, box) float32 densities unturned
    snr : variance of the signal in the tilt images over that of their noise
    """

    volume: NDArray[np.float32]
    pixel_size: float
    tilts: NDArray[np.float64]
    truth: pd.DataFrame
    clean: NDArray[np.float32]
    snr: float

    @property
    def wedge(self) -> TiltRange:
        """What the tilt series covers."""
        return TiltRange(float(self.tilts.min()), float(self.tilts.max()))


@dataclass(frozen=True)
class TiltGeometry:
    """Projection of a volume (z, y, x) along a tilt series about y, and its transpose.

    The projections of one plane (z, x) are ``x' = x cos(tilt) + z sin(tilt)`` from the centre voxel, so all planes
    share one sparse matrix. It spreads every voxel linearly over pixels half as wide as those of the images, and the
    blur of that is divided out of the images' Fourier transform.

    Attributes
    ----------
    shape : (z, y, x) of the volume
    tilts : (t,) degrees
    """

    shape: tuple[int, int, int]
    tilts: NDArray[np.float64]

    @property
    def width(self) -> int:
        """Pixels of the images across the tilt axis: room for the volume at every tilt."""
        return int(fft.next_fast_len(int(np.hypot(self.shape[0], self.shape[2])) + 4 + 2 * _MARGIN, real=True))

    @cached_property
    def _matrix(self) -> csr_array:
        """Weights ((t * 2 * width), (z * x))."""
        depth, _, length = self.shape
        z, x = (index - size // 2 for index, size in zip(np.indices((depth, length)), (depth, length), strict=True))
        angles = np.radians(self.tilts)[:, None, None]
        position = 2 * (x * np.cos(angles) + z * np.sin(angles) + self.width // 2)
        first = np.floor(position).astype(np.int32)
        upper = (position - first).astype(np.float32)
        row = first + (2 * self.width * np.arange(len(angles), dtype=np.int32))[:, None, None]
        column = np.broadcast_to(np.arange(depth * length, dtype=np.int32).reshape(depth, length), row.shape)
        weights = np.concatenate([(1 - upper).ravel(), upper.ravel()])
        rows, columns = np.concatenate([row.ravel(), row.ravel() + 1]), np.concatenate([column.ravel()] * 2)
        return csr_array((weights, (rows, columns)), shape=(len(angles) * 2 * self.width, depth * length))

    def _frequency(self) -> NDArray[np.float64]:
        return fft.rfftfreq(self.width)

    def project(self, volume: NDArray[np.float32]) -> NDArray[np.float32]:
        """Images (t, x', y) of a volume (z, y, x): sums along the beam."""
        planes = volume.transpose(0, 2, 1).reshape(-1, self.shape[1])
        fine = (self._matrix @ planes).reshape(len(self.tilts), 2 * self.width, -1)
        f = self._frequency()
        spectrum = fft.rfft(fine, axis=1)[:, : len(f)] / np.sinc(f / 2)[:, None].astype(np.float32) ** 2
        return np.asarray(fft.irfft(spectrum, self.width, axis=1), np.float32)

    def back_project(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """The volume (z, y, x) of images (t, x', y) by weighted back-projection: a ramp filter, then sums of rays.

        A full tilt series of half a turn would give the grey values of the projected volume.
        """
        f = self._frequency()
        fall = np.clip((f / 0.5 - _NYQUIST_TAPER) / (1 - _NYQUIST_TAPER), 0, 1)
        # between equally spaced planes a ramp would give the mean a weight of 0: it belongs to all of them
        ramp = np.maximum(f, 0.25 / self.width) * (0.5 + 0.5 * np.cos(np.pi * fall))
        step = np.radians(np.ptp(self.tilts) / max(1, len(self.tilts) - 1))
        weights = (2 * step * ramp / np.sinc(f / 2) ** 2).astype(np.float32)  # twice as many pixels after refinement
        fine = fft.irfft(fft.rfft(images, axis=1) * weights[:, None], 2 * self.width, axis=1)
        depth, height, length = self.shape
        rays = self._matrix.T @ np.asarray(fine, np.float32).reshape(-1, height)
        return np.ascontiguousarray(rays.reshape(depth, length, height).transpose(0, 2, 1), dtype=np.float32)


def simulate_tomogram(
    densities: Sequence[NDArray[np.floating]],
    voxel_size: float,
    shape: tuple[int, int, int] = (96, 256, 256),
    count: int = 150,
    *,
    pixel_size: float = 10.0,
    box: int = 32,
    distance: float = 20.0,
    tilts: Sequence[float] = tuple(range(-60, 61, 3)),
    defocus: tuple[float, float] = (28_000.0, 32_000.0),
    snr: float = 0.2,
    seed: int = 0,
) -> SimulatedTomogram:
    """A crowded tomogram of particles in uniformly distributed orientations.

    Parameters
    ----------
    densities : cubic, each one kind of particle, all brought to the same power
    voxel_size : of the densities, angstrom
    shape : (z, y, x) of the tomogram
    count : number of particles, as equally many of each kind as can be
    pixel_size : angstrom per voxel of the tomogram
    box : edge in voxels that holds a particle
    distance : between the centres of two particles at least, in voxels
    tilts : degrees about y, equally spaced
    defocus : angstrom, of which every tilt has its own, uniform
    snr : variance of the signal in the tilt images over that of their white noise; ``inf``: no noise
    seed : of everything random

    Raises
    ------
    ValueError : the particles do not fit
    """
    generator = np.random.default_rng(seed)
    places = _scatter(shape, count, distance, box // 2, generator)
    angles = random_angles(count, generator)
    kind = generator.permutation(np.arange(count) % len(densities))
    prepared = [posable(density, voxel_size / pixel_size) for density in densities]
    clean = np.stack([one.draw(np.eye(3), np.zeros(3), box) for one in prepared])
    strength = clean.std(axis=(1, 2, 3), dtype=np.float64)
    specimen = np.zeros(shape, np.float32)
    for number, place, matrix in zip(kind, places, relion_to_matrix(angles), strict=True):
        whole = np.round(place).astype(int)
        first = whole[::-1] - box // 2
        inner = tuple(slice(start, start + box) for start in first)
        specimen[inner] += prepared[number].draw(matrix, whole - place, box) / np.float32(strength[number])
    geometry = TiltGeometry(shape, np.asarray(tilts, dtype=np.float64))
    images = _expose(geometry.project(specimen), pixel_size, defocus, snr, generator)
    truth = pd.DataFrame(np.hstack([places, angles]), columns=["x", "y", "z", "rot", "tilt", "psi"])
    truth.insert(0, "kind", kind)
    scaled = (clean / strength[:, None, None, None]).astype(np.float32)
    return SimulatedTomogram(geometry.back_project(images), pixel_size, geometry.tilts, truth, scaled, snr)


def _scatter(
    shape: tuple[int, int, int], count: int, distance: float, margin: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Places (count, 3), (x, y, z), ``margin`` from all faces and at least ``distance`` from each other."""
    low, high = np.full(3, margin + 1.0), np.array(shape[::-1]) - margin - 1.0
    places = np.empty((count, 3))
    found = 0
    for place in generator.uniform(low, np.maximum(low, high), (_TRIES * count, 3)):
        if found == count:
            break
        if found == 0 or ((places[:found] - place) ** 2).sum(axis=1).min() >= distance**2:
            places[found] = place
            found += 1
    if found < count or (high < low).any():
        raise ValueError(f"only {found} of {count} particles fit; make the tomogram larger or their distance smaller")
    return places


def _expose(
    images: NDArray[np.float32],
    pixel_size: float,
    defocus: tuple[float, float],
    snr: float,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """Tilt images (t, x', y) as a microscope records them, with noise of variance 1, and with their phases flipped."""
    import torch

    count, (width, height) = len(images), images.shape[1:]
    chosen = generator.uniform(*defocus, count)

    def constant(value: float) -> NDArray[np.float64]:
        return np.full(count, value)

    parameters = CtfParameters(
        defocus_u=chosen,
        defocus_v=chosen,
        defocus_angle=constant(0.0),
        voltage=constant(300.0),
        spherical_aberration=constant(2.7),
        amplitude_contrast=constant(0.07),
        phase_shift=constant(0.0),
        b_factor=constant(0.0),
    )
    padded = int(fft.next_fast_len(height + 2 * _MARGIN, real=True))
    along_x, along_y = torch.meshgrid(torch.fft.fftfreq(width), torch.fft.rfftfreq(padded), indexing="ij")
    ctf = ctf_at(parameters, along_x / pixel_size, along_y / pixel_size).numpy()
    signal = fft.irfft2(fft.rfft2(images, (width, padded)) * ctf, (width, padded))[..., :height]
    if np.isfinite(snr):
        seen = signal[:, _MARGIN:-_MARGIN]
        signal = signal * np.sqrt(snr / seen.var(dtype=np.float64)) + generator.standard_normal(signal.shape)
    flipped = fft.irfft2(fft.rfft2(signal, (width, padded)) * np.sign(ctf), (width, padded))[..., :height]
    return flipped.astype(np.float32)


def sample_tomogram(seed: int = 0) -> tuple[SimulatedTomogram, list[str]]:
    """The sample tomogram, 96 x 256 x 256 voxels of 10 angstrom with 150 particles, and the names of their kinds."""
    from napari_harmony.particles.simulate import sample_volumes

    volumes = sample_volumes()
    made = simulate_tomogram([volumes[number] for number in _SAMPLE], _SAMPLE_VOXEL, seed=seed)
    return made, list(_SAMPLE.values())
