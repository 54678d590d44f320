"""Subtomograms without end: made-up particles of no symmetry in random poses, behind random wedges, under noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from napari_harmony.objectives.volume_context import posed, seen_noise
from napari_harmony.transforms import Pose3D, so3
from napari_harmony.transforms.spectra import Band
from pretraining.assemblies import assembly

#: Share of contents with a symmetry: of those no pose can be learned but up to it.
SYMMETRIC = 0.05
BEADS = 512
#: Root mean square radius of a particle as a share of the box, and of a bead in voxels.
SIZES, BEAD = (0.11, 0.29), (0.7, 1.4)
#: Share of contents that are seen with a neighbour, and its distance as a share of the box.
CROWDED, APART = 0.3, (0.45, 0.7)
#: Natural logarithm of the energy of the signal in units of white noise, of one sample of each Friedel pair.
ENERGY = (5.2, 9.2)
#: How much detail is lifted at most: factor of the squared frequency, cycles per box.
SHARPEST = 0.4
#: Degrees of the largest tilt, and share of subtomograms without a wedge.
TILTS, WHOLE = (40.0, 72.0), 0.05


@dataclass(frozen=True)
class VolumeBatch:
    """Subtomograms of ``contents`` contents, ``views`` of each in a row.

    Attributes
    ----------
    samples, amplitude : (contents * views, m), as ``VolumeNetwork.encode`` takes them
    pose : (contents * views,) content -> subtomogram
    contents, views : how many
    """

    samples: Tensor
    amplitude: Tensor
    pose: Pose3D
    contents: int
    views: int

    def to(self, device: torch.device) -> VolumeBatch:
        """The same on a device."""
        return replace(
            self, samples=self.samples.to(device), amplitude=self.amplitude.to(device), pose=self.pose.to(device)
        )


def draw_batch(
    band: Band, contents: int, views: int, ease: float, shift_spread: float, seed: tuple[int, ...]
) -> VolumeBatch:
    """One batch; the same seed gives the same.

    Parameters
    ----------
    ease : 1 for little noise and narrow wedges, 0 for the whole range
    shift_spread : voxels, standard deviation of the shifts per axis
    """
    beads = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(int(beads.integers(2**62)))
    n = contents * views
    shown = contents_of(band.box, contents, beads)
    shift = shift_spread * torch.randn(n, 3, generator=generator)
    pose = Pose3D.of(so3.random_rotations(n, generator), shift)
    clean = posed(shown, pose.each(lambda field: field.view(contents, views, *field.shape[1:])), band).flatten(0, 1)
    clean = clean + _neighbours(shown, views, band, generator)
    clean = clean * _sharpened(contents, band, generator).repeat_interleave(views, 0)
    coverage, noise = random_coverage(n, band, ease, generator), random_noise(n, band, generator)
    low, high = ENERGY
    energy = _uniform((n, 1), low + ease * 0.6 * (high - low), high, generator).exp()
    signal = clean * coverage
    signal = signal * (energy / signal.abs().square().sum(1, keepdim=True)).sqrt()
    # what is taken for noise is in part that: the rest is what particle and neighbours leave around the mask
    true = noise ** _uniform((n, 1), 0.0, 1.0, generator)
    samples = (signal + true * seen_noise(coverage, band, generator)) / noise
    return VolumeBatch(samples, coverage / noise, pose, contents, views)


def contents_of(box: int, count: int, generator: np.random.Generator) -> Tensor:
    """Volumes (count, box, box, box) of made-up particles, their mean position in the middle."""
    return torch.stack([_drawn(box, generator) for _ in range(count)])


def _drawn(box: int, generator: np.random.Generator) -> Tensor:
    """One particle: Gaussian beads of different weights, in half of all cases filled up to one density."""
    points = _rounded(assembly(generator, BEADS, SYMMETRIC), generator)
    weight = _composition(points, generator)
    points = points - np.average(points, axis=0, weights=weight)
    spread = np.sqrt((points**2).sum(1).mean())
    size = min(generator.uniform(*SIZES) * box / spread, 0.46 * box / np.quantile(np.linalg.norm(points, axis=1), 0.98))
    axis = torch.arange(box) - box // 2
    places = torch.as_tensor(size * points, dtype=torch.float32)
    width = generator.uniform(*BEAD)
    x, y, z = torch.exp(-0.5 * ((axis - places[:, :, None]) / width) ** 2).unbind(1)
    planes = (y[:, :, None] * x[:, None, :]).flatten(1)
    volume = ((z * torch.as_tensor(weight, dtype=torch.float32)[:, None]).T @ planes).view(box, box, box)
    if generator.random() < 0.5:
        typical = volume[volume > 0.2 * volume.max()].mean()
        volume = 1 - torch.exp(-volume / (generator.uniform(0.3, 2.0) * typical))
    return volume / volume.square().mean().sqrt()


def _rounded(points: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Beads (n, 3), some as extended as they are, others squeezed to equal extent in all directions.

    What is nearly a ball, as many large complexes are, tells how it lies by its surface and inner detail alone.
    """
    variance, axes = np.linalg.eigh(np.cov(points.T))
    strength = max(0.0, generator.uniform(-1.0, 1.0))
    points = (points @ axes) * variance.clip(1e-4) ** (-0.5 * strength)
    return points / np.sqrt((points**2).sum(1).mean())


def _composition(points: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Weights (n,) that differ from part to part, as nucleic acid is denser than protein."""
    wave = generator.normal(size=(3, 3)) * generator.uniform(0.5, 2.5)
    field = np.sin(points @ wave + generator.uniform(0, 2 * np.pi, 3)).sum(1)
    return np.exp(generator.uniform(0, 0.6) * field)


def _neighbours(shown: Tensor, views: int, band: Band, generator: torch.Generator) -> Tensor:
    """Samples (n, m) of other contents beside some of the particles."""
    contents = len(shown)
    n = contents * views
    rotation = so3.random_rotations(n, generator)
    away = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=1)
    away = away * _uniform((n, 1), *APART, generator) * band.box
    pose = Pose3D.of(rotation, away)
    others = posed(shown.roll(1, 0), pose.each(lambda field: field.view(contents, views, *field.shape[1:])), band)
    there = torch.rand(n, 1, generator=generator) < CROWDED
    return others.flatten(0, 1) * there * _uniform((n, 1), 0.3, 1.0, generator)


def random_coverage(n: int, band: Band, ease: float, generator: torch.Generator) -> Tensor:
    """(n, m) which samples a wedge about a random tilt axis lets through."""
    azimuth = _uniform((n, 1), 0, np.pi, generator)
    x, y, z = band.frequency.T
    across = azimuth.cos() * x + azimuth.sin() * y
    tilt = torch.deg2rad(_uniform((n, 1), TILTS[0] + ease * 25, TILTS[1], generator))
    whole = torch.rand(n, 1, generator=generator) < WHOLE + 0.5 * ease
    tilt = torch.where(whole, np.deg2rad(89.9), tilt)
    return (z.abs() <= tilt.tan() * across.abs() + 1e-4).float()


def random_noise(n: int, band: Band, generator: torch.Generator) -> Tensor:
    """(n, m) what is taken for the amplitude of the noise: more of it towards the middle of Fourier space."""
    rise, reach = _uniform((n, 1), 0.0, 3.6, generator).exp() - 1, _uniform((n, 1), 0.4, 1.4, generator)
    fall = _uniform((n, 1), -0.6, 0.6, generator).clamp_min(0)
    profile = 1 + rise * torch.exp(-(band.radius - 1) / reach) + fall * (band.radius / band.limit) ** 2
    return profile.sqrt() * (0.15 * torch.randn(n, 1, generator=generator)).exp()


def _sharpened(contents: int, band: Band, generator: torch.Generator) -> Tensor:
    """Factors (contents, m) that lift fine detail of half of the contents."""
    lift = _uniform((contents, 1), -SHARPEST, SHARPEST, generator).clamp_min(0)
    return 1 + lift * band.radius**2


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)
