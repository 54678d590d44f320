"""Simulated particle stacks with their truth: benchmarks, tests and the package's own sample data.

An image is ``CTF * (contrast * projection, rotated by -psi, magnified, moved by -origin) + white noise``. Rotation is
a slice of the density at that angle, shift a phase ramp, and the CTF acts on a box twice as large that is cropped
afterwards, so that nothing is interpolated in the image and nothing wraps around.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from napari_harmony.particles import projection
from napari_harmony.particles.ctf import CtfParameters, ctf_at
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.images import ArrayImages
from napari_harmony.particles.projection import project

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CtfRange",
    "Simulated",
    "project",
    "sample_particles",
    "sample_volumes",
    "simulate_noise",
    "simulate_particles",
]

#: Images made at once; bounds memory, has no influence on the result.
_BATCH = 128


@dataclass(frozen=True)
class CtfRange:
    """What the microscope's parameters are drawn from: ranges are uniform, the rest is the same for all particles.

    ``defocus`` is the mean of u and v in angstrom, ``astigmatism`` half their difference in angstrom, ``voltage`` in
    kilovolt, ``spherical_aberration`` in millimetre, ``b_factor`` in square angstrom, ``phase_shift`` in degrees.
    """

    defocus: tuple[float, float] = (10_000.0, 25_000.0)
    astigmatism: tuple[float, float] = (0.0, 0.0)
    voltage: float = 300.0
    spherical_aberration: float = 2.7
    amplitude_contrast: float = 0.1
    b_factor: float = 100.0
    phase_shift: float = 0.0

    def sample(self, count: int, generator: np.random.Generator) -> CtfParameters:
        """Parameters of ``count`` particles."""
        defocus = generator.uniform(*self.defocus, count)
        half_difference = generator.uniform(*self.astigmatism, count)

        def constant(value: float) -> NDArray[np.float64]:
            return np.full(count, value)

        return CtfParameters(
            defocus_u=defocus + half_difference,
            defocus_v=defocus - half_difference,
            defocus_angle=generator.uniform(0, 180, count) if self.astigmatism[1] > 0 else constant(0.0),
            voltage=constant(self.voltage),
            spherical_aberration=constant(self.spherical_aberration),
            amplitude_contrast=constant(self.amplitude_contrast),
            phase_shift=constant(self.phase_shift),
            b_factor=constant(self.b_factor),
        )


@dataclass(frozen=True)
class Simulated:
    """A simulated data set.

    Attributes
    ----------
    particles : what a user would open; the noise has variance 1 and mean 0
    truth : one row per particle: ``content`` (0-based), ``psi`` (degree), ``origin_x``, ``origin_y`` (pixel, both in
        RELION's sense), ``scale``, ``contrast``, ``rot``, ``tilt`` (degree, the viewing direction)
    clean : (contents, box, box) float32 noise-free projections without CTF at psi 0 and origin 0, in units of the
        noise. Where every particle has its own view the content is the density and ``clean`` is its view along z.
    """

    particles: Particles
    truth: pd.DataFrame
    clean: NDArray[np.float32]


def _random_views(count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Viewing directions (count, 2), rot and tilt in degrees, uniform on the sphere."""
    rot = generator.uniform(-180, 180, count)
    tilt = np.degrees(np.arccos(generator.uniform(-1, 1, count)))
    return np.stack([rot, tilt], axis=1)


def _draw_truth(
    views: NDArray[np.float64] | None,
    volumes: int,
    count: int,
    shift_sigma: float,
    contrast_range: tuple[float, float],
    scale_range: tuple[float, float] | None,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Contents and transformations of all particles; ``views`` (volumes, per volume, 2), None for one per particle."""
    if views is None:
        content = generator.integers(0, volumes, count)
        direction = _random_views(count, generator)
    else:
        content = generator.integers(0, views.shape[0] * views.shape[1], count)
        direction = views.reshape(-1, 2)[content]
    psi = generator.uniform(0, 360, count)
    origin = generator.normal(0, shift_sigma, (count, 2))
    contrast = np.exp(generator.uniform(*contrast_range, count))
    scale = (
        np.ones(count)
        if scale_range is None
        else np.exp(generator.uniform(np.log(scale_range[0]), np.log(scale_range[1]), count))
    )
    return pd.DataFrame(
        {
            "content": content,
            "psi": psi,
            "origin_x": origin[:, 0],
            "origin_y": origin[:, 1],
            "scale": scale,
            "contrast": contrast,
            "rot": direction[:, 0],
            "tilt": direction[:, 1],
        }
    )


def _render(
    volume: projection.FourierVolume,
    truth: pd.DataFrame,
    grid: projection.SliceGrid,
    box: int,
    pixel_size: float,
    ctf: CtfParameters | None,
) -> NDArray[np.float32]:
    """Noise-free images (n, box, box) of the particles in ``truth``, all of one density."""
    result = np.empty((len(truth), box, box), dtype=np.float32)
    frequency_x, frequency_y = grid.frequency_x, grid.frequency_y
    for part in projection.batches(len(truth), _BATCH):
        rows = truth.iloc[part]
        matrices = projection.euler_matrices(rows["rot"], rows["tilt"], rows["psi"])
        spectra = projection.slices(volume, matrices, grid, rows["scale"].to_numpy())
        x, y = (torch.from_numpy(rows[c].to_numpy(dtype=np.float32))[:, None] for c in ("origin_x", "origin_y"))
        # The particle sits at the centre minus its origin.
        phase = 2 * torch.pi * (x * frequency_x + y * frequency_y)
        gain = torch.from_numpy(rows["contrast"].to_numpy(dtype=np.float32))[:, None]
        if ctf is not None:
            gain = gain * ctf_at(
                ctf.subset(np.arange(len(truth))[part]), frequency_x / pixel_size, frequency_y / pixel_size
            )
        result[part] = projection.images(spectra * torch.polar(gain, phase), grid, box).numpy()
    return result


def _render_all(
    volumes: Sequence[NDArray[np.floating]],
    views: NDArray[np.float64] | None,
    truth: pd.DataFrame,
    box: int,
    pixel_size: float,
    ctf: CtfParameters | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Noise-free images of all particles, and clean contents, every density brought to the same power.

    A density is scaled so that its projections, along its own views or along fixed ones over the sphere, have unit
    variance over the box on average: the scale of a map is arbitrary, and the SNR shall hold for every density.
    """
    grid = projection.slice_grid(2 * box)
    per_volume = 1 if views is None else views.shape[1]
    which = truth["content"].to_numpy() // per_volume
    signal, clean = np.empty((len(truth), box, box), dtype=np.float32), []
    for number, density in enumerate(volumes):
        prepared = projection.fourier_volume(density)
        sampled = _random_views(32, np.random.default_rng(0)) if views is None else views[number]
        matrices = projection.euler_matrices(sampled[:, 0], sampled[:, 1], 0.0)
        projections = projection.project_prepared(prepared, matrices, grid, box)
        scale = np.sqrt(projections.var(axis=(1, 2)).mean())
        if not scale > 0:
            raise ValueError(f"density {number} is constant: nothing can be projected")
        members = np.flatnonzero(which == number)
        chosen = None if ctf is None else ctf.subset(members)
        signal[members] = _render(prepared, truth.iloc[members], grid, box, pixel_size, chosen) / scale
        front = projection.euler_matrices(0.0, 0.0, 0.0)
        shown = projections if views is not None else projection.project_prepared(prepared, front, grid, box)
        clean.append(shown / scale)
    return signal, np.concatenate(clean)


def simulate_particles(
    volumes: Sequence[NDArray[np.floating]],
    *,
    views: int | NDArray[np.float64] | None,
    count: int,
    box: int = 64,
    pixel_size: float = 5.0,
    snr: float = 0.1,
    shift_sigma: float = 2.0,
    contrast_range: tuple[float, float] = (-0.2, 0.2),
    scale_range: tuple[float, float] | None = None,
    ctf: CtfRange | None = CtfRange(),
    seed: int = 0,
) -> Simulated:
    """Simulate a particle stack from densities.

    Parameters
    ----------
    volumes : cubic densities (n, n, n), axes z, y, x, each with its own n, one voxel being ``pixel_size``. Each is
        scaled to the same mean variance of its projections, so that the SNR holds for every one of them.
    views : number of random viewing directions per density; or an array (densities, views, 2) of rot and tilt in
        degrees; or None for a direction of its own, uniform on the sphere, for every particle. Each (density, view)
        is one content.
    count : number of particles; contents are drawn uniformly
    box : edge of the images in pixels
    pixel_size : angstrom
    snr : mean variance over the box of the CTF-filtered signal, over the variance of the white noise; ``inf``: no noise
    shift_sigma : standard deviation of the origins in pixels, per axis
    contrast_range : of the natural logarithm of the gain, uniform
    scale_range : of the magnification, uniform in its logarithm; None for 1
    ctf : what CTF parameters are drawn from; None for no CTF
    seed : of everything random; the same seed gives the same data set

    Raises
    ------
    ValueError : a density is not cubic or is constant
    """
    generator = np.random.default_rng(seed)
    directions = np.stack([_random_views(views, generator) for _ in volumes]) if isinstance(views, int) else views
    truth = _draw_truth(directions, len(volumes), count, shift_sigma, contrast_range, scale_range, generator)
    parameters = None if ctf is None else ctf.sample(count, generator)
    signal, clean = _render_all(volumes, directions, truth, box, pixel_size, parameters)
    if np.isfinite(snr):
        noise_sd = np.sqrt(signal.var(axis=(1, 2), dtype=np.float64).mean() / snr)
        signal, clean = signal / np.float32(noise_sd), clean / np.float32(noise_sd)
        signal += generator.standard_normal(signal.shape, dtype=np.float32)
    particles = Particles(ArrayImages(signal), pd.DataFrame(index=pd.RangeIndex(count)), pixel_size, ctf=parameters)
    return Simulated(particles, truth, clean)


def simulate_noise(count: int, box: int = 64, *, pixel_size: float = 5.0, seed: int = 0) -> Particles:
    """White noise of variance 1 and no particle: what must give no structure out. Images (count, box, box)."""
    generator = np.random.default_rng(seed)
    images = generator.standard_normal((count, box, box), dtype=np.float32)
    parameters = CtfRange().sample(count, generator)
    return Particles(ArrayImages(images), pd.DataFrame(index=pd.RangeIndex(count)), pixel_size, ctf=parameters)


def _beads(points: NDArray[np.float64], sigma: float, box: int) -> NDArray[np.float64]:
    """Sum of Gaussians of width ``sigma`` voxels at ``points`` (n, 3), x, y, z from the centre voxel."""
    axis = np.arange(box) - box // 2
    x, y, z = (np.exp(-((axis[None] - points[:, i, None]) ** 2) / (2 * sigma**2)) for i in range(3))
    return np.einsum("nz,ny,nx->zyx", z, y, x)


def _rod(start: Sequence[float], end: Sequence[float], step: float = 1.0) -> NDArray[np.float64]:
    """Points every ``step`` voxels on a line, like the axis of an alpha helix."""
    a, b = np.asarray(start, dtype=float), np.asarray(end, dtype=float)
    return a + np.linspace(0, 1, max(2, int(np.linalg.norm(b - a) / step)))[:, None] * (b - a)


def _ball(centre: Sequence[float], radius: float, count: int, seed: int) -> NDArray[np.float64]:
    """Points spread over a ball, like the residues of a globular domain."""
    generator = np.random.default_rng(seed)
    direction = generator.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return np.asarray(centre, dtype=float) + radius * direction * generator.uniform(0, 1, (count, 1)) ** (1 / 3)


def _arc(radius: float, height: float, first: float, last: float, climb: float = 0.0) -> NDArray[np.float64]:
    """Points on an arc about the z axis from ``first`` to ``last`` degrees that climbs by ``climb`` voxels."""
    angle = np.radians(np.linspace(first, last, max(2, int(radius * np.radians(last - first)))))
    z = height + climb * np.linspace(0, 1, len(angle))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)


def sample_volumes(box: int = 64) -> list[NDArray[np.float32]]:
    """Five made-up densities (box, box, box), compact and without symmetry, clearly distinct from each other.

    A bundle of helices with a head, an open ring with a lid, two lobes with an arm, a tripod, and a climbing coil with
    a core. They reach at most a third of a 64-voxel box from the centre.
    """
    unit = box / 64
    drawings = [
        [_rod((-6, -3, -15), (-6, -3, 12)), _rod((1, -5, -13), (1, -5, 9)), _rod((-2, 4, -15), (-2, 4, 3))]
        + [_ball((3, 2, 13), 7, 90, 1), _rod((6, 4, 8), (15, 8, 2)), _ball((-9, 3, -9), 4, 25, 2)],
        [_arc(12, -6, 0, 270), _arc(12, 0, 20, 290), _arc(11, 6, 0, 200), _ball((4, -3, 12), 6, 70, 3)]
        + [_ball((13, 8, -9), 4, 30, 4)],
        [_ball((-9, 2, 4), 8, 130, 5), _ball((9, -3, -4), 6, 80, 6), _rod((-4, 2, 2), (7, -2, -3))]
        + [_rod((-10, 4, 10), (-2, 14, 15)), _ball((0, 15, 15), 3, 15, 7)],
        [_rod((0, 0, 8), (14, 2, -12)), _rod((0, 0, 8), (-9, 11, -10)), _rod((0, 0, 8), (-5, -13, -14))]
        + [_ball((0, 1, 11), 6, 80, 8), _ball((14, 2, -12), 4, 40, 9), _ball((-5, -13, -13), 3, 15, 10)],
        [_arc(9, -16, 0, 660, 30), _rod((0, 0, -10), (0, 0, 6)), _ball((6, 6, 14), 5, 50, 11)]
        + [_ball((-12, 0, -10), 5, 40, 12)],
    ]
    return [_beads(unit * np.concatenate(parts), 1.6 * unit, box).astype(np.float32) for parts in drawings]


def sample_particles(count: int = 600, seed: int = 0) -> Simulated:
    """The sample data set: five contents, 64 px of 5 angstrom, CTF with a little astigmatism, SNR 0.2, with truth."""
    ctf = CtfRange(astigmatism=(0.0, 300.0))
    volumes = sample_volumes()
    views = np.array([[[20.0, 75.0]], [[10.0, 25.0]], [[-60.0, 60.0]], [[5.0, 15.0]], [[40.0, 90.0]]])
    return simulate_particles(volumes, views=views, count=count, snr=0.2, ctf=ctf, seed=seed)
