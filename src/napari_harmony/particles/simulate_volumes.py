"""Simulated subtomograms with their truth: benchmarks and tests.

A subtomogram is ``wedge * (gain * density in its pose + white noise)``: the density is resampled once, about the centre
voxel, by a cubic spline on a grid twice as fine, and signal and noise are then cut to the same missing wedge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import fft
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.euler import matrix_to_relion, relion_to_matrix
from napari_harmony.particles.volumes import ArrayVolumes
from napari_harmony.particles.wedge import TiltRange

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Voxels of zeros around a density before it is refined, so that opposite faces do not meet.
_PADDING = 4
#: Where the low pass begins to fall, as a fraction of the Nyquist frequency at which it ends.
_PASS = 0.9
_AXES = (-3, -2, -1)
#: Volumes filtered at once; bounds memory, has no influence on the result.
_BATCH = 32
_ANGLES = ["rot", "tilt", "psi"]
_ORIGINS = ["origin_x", "origin_y", "origin_z"]


@dataclass(frozen=True)
class SimulatedVolumes:
    """Simulated subtomograms.

    Attributes
    ----------
    particles : what a user would open, volumes (n, box, box, box); the noise in them has variance 1 and mean 0
    truth : one row per particle: ``content`` (0-based), ``rot``, ``tilt``, ``psi`` (degree), ``origin_x``,
        ``origin_y``, ``origin_z`` (voxel) so that ``x_ref = R(rot, tilt, psi) (x_vol - c + origin) + c``, and ``gain``
    clean : (contents, box, box, box) float32 densities unturned, without wedge, in units of the noise
    """

    particles: Particles
    truth: pd.DataFrame
    clean: NDArray[np.float32]


@dataclass(frozen=True)
class PosableDensity:
    """A density made ready to be drawn in any pose.

    ``coefficients`` (m, m, m) of a cubic B-spline on a grid ``per_voxel`` times as fine as the drawn volumes;
    ``centre`` is where the centre voxel lies on that grid.
    """

    coefficients: NDArray[np.float32]
    centre: float
    per_voxel: float

    def draw(self, matrix: NDArray[np.float64], origin: NDArray[np.float64], box: int) -> NDArray[np.float32]:
        """The density (box, box, box), axes z, y, x, in a pose.

        ``matrix`` (3, 3) is the R and ``origin`` (3,) the t, voxel, of ``x_ref = R (x_vol - c + t) + c`` on (x, y, z).
        """
        linear = self.per_voxel * matrix[::-1, ::-1]
        offset = self.centre + linear @ (origin[::-1] - box // 2)
        drawn = affine_transform(self.coefficients, linear, offset, (box,) * 3, np.float32, order=3, prefilter=False)
        return np.asarray(drawn)


def posable(density: NDArray[np.floating], magnification: float = 1.0) -> PosableDensity:
    """A cubic density (n, n, n), axes z, y, x, centre voxel n // 2, made ready to be drawn.

    It is limited to the sphere of frequencies that its own grid and the drawn volumes both hold, so that every
    orientation shows the same.

    Parameters
    ----------
    density : any grey values
    magnification : voxels of the drawn volumes per voxel of the density: its voxel size over theirs

    Raises
    ------
    ValueError : the density is not cubic, or is constant
    """
    n = density.shape[0]
    if density.ndim != 3 or density.shape != (n, n, n):
        raise ValueError(f"a density of shape (n, n, n) is needed, not {density.shape}")
    if not np.ptp(density) > 0:
        raise ValueError("the density is constant: there is nothing to see")
    size = n + 2 * _PADDING + n % 2
    padded = np.zeros((size,) * 3, np.float32)
    inner = slice(_PADDING, _PADDING + n)
    padded[inner, inner, inner] = density
    weights = _sphere(size, 0.5 * min(1.0, magnification))
    spectrum = fft.rfftn(padded, workers=1) * weights
    fine, half = 2 * size, size // 2
    refined = np.zeros((fine, fine, fine // 2 + 1), np.complex64)
    for z_to, z_from in ((slice(0, half), slice(0, half)), (slice(fine - half, fine), slice(half, size))):
        for y_to, y_from in ((slice(0, half), slice(0, half)), (slice(fine - half, fine), slice(half, size))):
            refined[z_to, y_to, : half + 1] = spectrum[z_from, y_from]
    axis, along_x = (2 + np.cos(2 * np.pi * fft.fftfreq(fine))) / 3, (2 + np.cos(2 * np.pi * fft.rfftfreq(fine))) / 3
    refined *= (8 / (axis[:, None, None] * axis[:, None] * along_x)).astype(np.float32)
    coefficients = fft.irfftn(refined, (fine,) * 3, workers=1)
    return PosableDensity(coefficients, 2.0 * (_PADDING + n // 2), 2.0 / magnification)


def _sphere(size: int, cutoff: float) -> NDArray[np.float32]:
    """Low pass on the grid of ``rfftn``: 1 inside, 0 from ``cutoff`` (cycles per voxel) on, a cosine between."""
    axis, along_x = fft.fftfreq(size), fft.rfftfreq(size)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + along_x**2) / cutoff
    fall = np.clip((radius - _PASS) / (1 - _PASS), 0, 1)
    return (0.5 + 0.5 * np.cos(np.pi * fall)).astype(np.float32)


def simulate_subtomograms(
    volumes: Sequence[NDArray[np.floating]],
    count: int = 240,
    box: int = 32,
    *,
    pixel_size: float = 10.0,
    voxel_sizes: Sequence[float] | None = None,
    snr: float = 0.1,
    shift_sigma: float = 1.5,
    gain_range: tuple[float, float] = (0.0, 0.0),
    tilt_range: tuple[float, float] | None = (-60.0, 60.0),
    seed: int = 0,
) -> SimulatedVolumes:
    """Subtomograms of densities in uniformly distributed orientations.

    Parameters
    ----------
    volumes : cubic densities (n, n, n), each one content, all brought to the same power
    count : number of subtomograms; contents are drawn uniformly
    box : edge of the subtomograms in voxels
    pixel_size : of the subtomograms, angstrom
    voxel_sizes : of the densities, angstrom; None where they equal ``pixel_size``
    snr : mean variance over the box of the signal behind the wedge, over the variance of the noise behind it (which is
        the variance a user would measure); ``inf``: no noise
    shift_sigma : standard deviation of the origins in voxels, per axis
    gain_range : of the natural logarithm of the gain, uniform
    tilt_range : degrees of the first and the last tilt about y; None for no missing wedge
    seed : of everything random; the same seed gives the same data set

    Raises
    ------
    ValueError : a density is not cubic or is constant
    """
    generator = np.random.default_rng(seed)
    truth = _draw_truth(len(volumes), count, shift_sigma, gain_range, generator)
    sizes = [pixel_size] * len(volumes) if voxel_sizes is None else voxel_sizes
    signal, clean = _draw_all(volumes, [size / pixel_size for size in sizes], truth, box)
    wedge = None if tilt_range is None else TiltRange(*tilt_range)
    strength = see_through(wedge, signal, snr, generator)
    table = pd.DataFrame(index=pd.RangeIndex(count))
    particles = Particles(ArrayVolumes(signal), table, pixel_size, wedge=wedge)
    return SimulatedVolumes(particles, truth, clean * np.float32(strength))


def see_through(
    wedge: TiltRange | None, volumes: NDArray[np.float32], snr: float, generator: np.random.Generator
) -> float:
    """Make subtomograms of noise-free volumes (n, b, b, b), in place; the noise in them has variance 1.

    ``snr`` is as in ``simulate_subtomograms``. Returns what the volumes were multiplied by.
    """
    coverage = np.ones(()) if wedge is None else wedge.coverage([0], volumes.shape[-1])[0]
    _cut(volumes, coverage)
    if not np.isfinite(snr):
        return 1.0
    strength = np.float32(np.sqrt(snr / volumes.var(axis=_AXES, dtype=np.float64).mean()))
    volumes *= strength
    _add_noise(volumes, coverage, generator)
    return float(strength)


def simulate_volume_noise(
    count: int,
    box: int = 32,
    *,
    tilt_range: tuple[float, float] = (-60.0, 60.0),
    pixel_size: float = 10.0,
    seed: int = 0,
) -> Particles:
    """Noise of variance 1 behind a wedge and no particle: what must give no structure out and no preferred rotation."""
    wedge = TiltRange(*tilt_range)
    volumes = np.zeros((count, box, box, box), np.float32)
    _add_noise(volumes, wedge.coverage([0], box)[0], np.random.default_rng(seed))
    return Particles(ArrayVolumes(volumes), pd.DataFrame(index=pd.RangeIndex(count)), pixel_size, wedge=wedge)


def _draw_truth(
    contents: int, count: int, shift_sigma: float, gain_range: tuple[float, float], generator: np.random.Generator
) -> pd.DataFrame:
    """Contents and poses of all particles; rotations are uniform in the sense of Haar."""
    content = generator.integers(0, contents, count)
    angles = random_angles(count, generator)
    origin = generator.normal(0, shift_sigma, (count, 3))
    gain = np.exp(generator.uniform(*gain_range, count))
    return pd.DataFrame(
        {
            "content": content,
            **dict(zip(_ANGLES, angles.T, strict=True)),
            **dict(zip(_ORIGINS, origin.T, strict=True)),
            "gain": gain,
        }
    )


def random_angles(count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Uniform orientations as RELION's (rot, tilt, psi) in degrees: (count, 3)."""
    quaternions = generator.standard_normal((count, 4))
    return matrix_to_relion(Rotation.from_quat(quaternions).as_matrix()) if count else np.zeros((0, 3))


def _draw_all(
    volumes: Sequence[NDArray[np.floating]], magnifications: Sequence[float], truth: pd.DataFrame, box: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Every particle (n, box, box, box) and every content unturned (contents, box, box, box), of unit variance.

    The scale of a map is arbitrary: the signal shall be as strong for every density.
    """
    signal = np.empty((len(truth), box, box, box), np.float32)
    clean = np.empty((len(volumes), box, box, box), np.float32)
    matrices = relion_to_matrix(truth[_ANGLES].to_numpy())
    origins, gains = truth[_ORIGINS].to_numpy(), truth["gain"].to_numpy(np.float32)
    for number, (density, magnification) in enumerate(zip(volumes, magnifications, strict=True)):
        prepared = posable(density, magnification)
        upright = prepared.draw(np.eye(3), np.zeros(3), box)
        spread = np.float32(upright.std(dtype=np.float64))
        clean[number] = upright / spread
        for row in np.flatnonzero(truth["content"].to_numpy() == number):
            signal[row] = gains[row] / spread * prepared.draw(matrices[row], origins[row], box)
    return signal, clean


def _cut(volumes: NDArray[np.float32], coverage: NDArray[np.floating]) -> None:
    """Multiply the Fourier transform of volumes (n, b, b, b) by a coverage (b, b, b // 2 + 1) in place."""
    for start in range(0, len(volumes), _BATCH):
        part = volumes[start : start + _BATCH]
        part[:] = fft.irfftn(fft.rfftn(part, axes=_AXES) * coverage.astype(np.float32), part.shape[1:], axes=_AXES)


def _add_noise(volumes: NDArray[np.float32], coverage: NDArray[np.floating], generator: np.random.Generator) -> None:
    """Add Gaussian noise behind the wedge, of variance 1 there, to volumes (n, b, b, b) in place."""
    for start in range(0, len(volumes), _BATCH):
        part = volumes[start : start + _BATCH]
        noise = generator.standard_normal(part.shape, dtype=np.float32)
        _cut(noise, coverage)
        part += noise * np.float32(1 / np.sqrt(_kept(coverage, part.shape[-1])))


def _kept(coverage: NDArray[np.floating], box: int) -> float:
    """The part of the variance of white noise that a coverage on the grid of ``rfftn`` leaves."""
    if coverage.ndim == 0:
        return float(coverage**2)
    # inner columns of the half grid stand for two frequencies each
    columns = np.full(box // 2 + 1, 2.0)
    columns[0] = 1.0
    if box % 2 == 0:
        columns[-1] = 1.0
    return float((coverage.astype(np.float64) ** 2 * columns).sum() / box**3)
