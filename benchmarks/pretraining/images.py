"""Endless simulated images in a network's own units: made-up particles seen through an imaging model, with truth.

A batch is a few small data sets. Each has its own pixel size, dose and microscope; its contents are views of a few
particles, each seen several times, turned in its plane. Views of one particle are the hard negatives of each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from napari_harmony.particles.ctf import CtfParameters, ctf_at
from napari_harmony.transforms import Pose2D
from pretraining.assemblies import assembly

#: Edge of the network's grid, and of the pictures of contents, which are sampled twice as finely.
BOX, FINE = 32, 64
#: Signal energy of an image in units of the noise: 400 is a signal-to-noise ratio of 0.1 on 64 x 64 pixels.
ENERGY = (60.0, 2500.0)
#: Radius of a particle, in widths of the box.
RADIUS = (0.13, 0.42)
#: Angstrom per pixel of the network's grid.
PIXEL = (4.0, 14.0)


@dataclass(frozen=True)
class Layout:
    """How a batch is made up: data sets, contents of each, and images of each content."""

    sets: int = 4
    contents: int = 12
    images: int = 5


@dataclass(frozen=True)
class ImageBatch:
    """Images with their truth.

    Attributes
    ----------
    images : (n, BOX, BOX), phases flipped, noise of unit variance
    content : (n,) numbers of the contents
    pose : (n,) from the content's picture, centred on its mass, to the image; shifts in pixel of the grid
    """

    images: Tensor
    content: Tensor
    pose: Pose2D


class Pool:
    """Pictures of made-up particles from a few directions each; with every step the oldest particle is replaced.

    What it holds at a step depends on the seed and the step alone, so that a training can be resumed.
    """

    def __init__(self, seed: int, particles: int = 800, views: int = 6, renewed: int = 0) -> None:
        self.seed, self.size, self.views, self.made = seed, particles, views, renewed
        self.pictures = torch.empty(particles, views, FINE, FINE)
        for number in range(renewed, renewed + particles):
            self._put(number)
        self.made = renewed + particles

    def renew(self) -> None:
        """Replace the oldest particle."""
        self._put(self.made)
        self.made += 1

    def _put(self, number: int) -> None:
        generator = np.random.default_rng((self.seed, number))
        self.pictures[number % self.size] = pictures_of(generator, self.views)


def pictures_of(generator: np.random.Generator, views: int) -> Tensor:
    """Pictures (views, FINE, FINE) of a new particle from random directions, of unit mean energy, about their mass."""
    from scipy.spatial.transform import Rotation

    points = assembly(generator)
    turned = np.einsum("vij,pj->vpi", Rotation.random(views, random_state=generator).as_matrix()[:, :2], points)
    turned -= turned.mean(1, keepdims=True)
    reach = np.quantile(np.linalg.norm(points, axis=1), 0.98)
    radius = generator.uniform(*RADIUS) * FINE / reach
    width = generator.uniform(1.1, 2.2)
    coordinates = torch.as_tensor(turned * radius, dtype=torch.float32)
    axis = torch.arange(FINE) - FINE // 2
    x, y = (torch.exp((axis - coordinates[..., i, None]).square() * (-0.5 / width**2)) for i in range(2))
    weight = torch.as_tensor(np.exp(generator.normal(0, 0.3, len(points))), dtype=torch.float32)
    pictures = (y * weight[:, None]).transpose(1, 2) @ x
    return pictures / pictures.square().sum((1, 2)).mean().sqrt()


def draw_batch(pool: Pool, layout: Layout, generator: torch.Generator) -> ImageBatch:
    """A batch of ``sets * contents * images`` images."""
    pictures, content, energies = [], [], []
    for number in range(layout.sets):
        chosen = _contents(pool, layout.contents, generator)
        pictures.append(chosen.repeat_interleave(layout.images, 0))
        content.append(torch.arange(layout.contents).repeat_interleave(layout.images) + number * layout.contents)
        energies.append(torch.full((len(pictures[-1]),), _log_uniform(*ENERGY, generator)))
    return expose(torch.cat(pictures), torch.cat(content), torch.cat(energies), layout.sets, generator)


def _contents(pool: Pool, count: int, generator: torch.Generator) -> Tensor:
    """Pictures (count, FINE, FINE) of a data set: one to six views each of two to ``count`` particles."""
    options = [views for views in (1, 2, 3, 4, pool.views) if count % views == 0 and views <= pool.views]
    views = options[int(torch.randint(len(options), (1,), generator=generator))]
    particles = torch.randperm(pool.size, generator=generator)[: count // views]
    which = torch.rand(len(particles), pool.views, generator=generator).argsort(1)[:, :views]
    brightness = torch.exp(0.2 * torch.randn(len(particles), 1, 1, 1, generator=generator))
    return (pool.pictures[particles[:, None], which] * brightness).flatten(0, 1)


def expose(pictures: Tensor, content: Tensor, energy: Tensor, sets: int, generator: torch.Generator) -> ImageBatch:
    """Images of the pictures (n, FINE, FINE) under random poses and microscopes, one kind of microscope per data set.

    ``energy`` (n,) is the mean signal energy of the images of each data set; the n images are of ``sets`` equal parts.
    """
    n = len(pictures)
    pose = _random_poses(n, sets, generator)
    magnification = torch.exp(_uniform(sets, -0.15, 0.15, generator)).repeat_interleave(n // sets)
    signal = _sample(pictures, pose, magnification)
    signal = signal + _neighbours(pictures, sets, generator)
    spectrum = torch.fft.rfft2(signal, norm="ortho") * _amplitude(n, sets, generator)
    power = (spectrum.abs().square()).view(sets, -1).sum(1) * 2 * sets / n
    gain = (energy.view(sets, -1)[:, 0] / power.clamp_min(1e-9)).sqrt().repeat_interleave(n // sets)
    contrast = torch.exp(_uniform(n, -0.25, 0.25, generator))
    images = torch.fft.irfft2(spectrum, s=(BOX, BOX), norm="ortho") * (gain * contrast)[:, None, None]
    images = images + torch.randn(images.shape, generator=generator)
    images = images + 0.05 * torch.randn(n, 1, 1, generator=generator)
    return ImageBatch(images, content, pose)


def _random_poses(n: int, sets: int, generator: torch.Generator) -> Pose2D:
    angle = _uniform(n, 0, 2 * torch.pi, generator)
    spread = _uniform(sets, 0.1, 2.0, generator).repeat_interleave(n // sets)[:, None]
    shift = (torch.randn(n, 2, generator=generator) * spread).clamp(-5.5, 5.5)
    return Pose2D.of(angle, shift)


def _sample(pictures: Tensor, pose: Pose2D, magnification: Tensor | float = 1.0) -> Tensor:
    """Pictures under their poses on the network's grid, (n, BOX, BOX)."""
    axis = torch.arange(BOX) - float(BOX // 2)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack([x, y], -1)[None] - pose.shift[:, None, None]
    cos, sin = torch.cos(pose.angle)[:, None, None], torch.sin(pose.angle)[:, None, None]
    across, down = points.unbind(-1)
    scale = (FINE / BOX) / torch.as_tensor(magnification).reshape(-1, 1, 1)
    there = torch.stack([cos * across + sin * down, cos * down - sin * across], -1) * scale[..., None]
    grid = (2 * (there + FINE // 2) + 1) / FINE - 1
    return functional.grid_sample(pictures[:, None], grid, mode="bilinear", align_corners=False)[:, 0]


def _neighbours(pictures: Tensor, sets: int, generator: torch.Generator) -> Tensor:
    """Parts of other particles at the edge of some of the images, (n, BOX, BOX)."""
    n = len(pictures)
    crowded = (torch.rand(sets, generator=generator) < 0.5).float() * 0.4
    near = torch.rand(n, generator=generator) < crowded.repeat_interleave(n // sets)
    rows = near.nonzero()[:, 0]
    result = torch.zeros(n, BOX, BOX)
    if len(rows):
        size = n // sets
        others = (rows // size) * size + torch.randint(size, (len(rows),), generator=generator)
        bearing = _uniform(len(rows), 0, 2 * torch.pi, generator)
        distance = BOX * _uniform(len(rows), 0.6, 0.85, generator)
        shift = distance[:, None] * torch.stack([bearing.cos(), bearing.sin()], 1)
        pose = Pose2D.of(_uniform(len(rows), 0, 2 * torch.pi, generator), shift)
        result[rows] = _sample(pictures[others], pose)
    return result


def _amplitude(n: int, sets: int, generator: torch.Generator) -> Tensor:
    """|CTF| of the images, (n, BOX, BOX // 2 + 1); one data set in eight has none."""
    size = n // sets

    def spread(low: float, high: float) -> Tensor:
        return _uniform(sets, low, high, generator).repeat_interleave(size)

    pixel = torch.exp(_uniform(sets, np.log(PIXEL[0]), np.log(PIXEL[1]), generator))
    middle, width = spread(9_000, 22_000), spread(0, 8_000)
    defocus = (middle + width * _uniform(n, -1, 1, generator)).clamp_min(4_000)
    half = 300 * _uniform(n, 0, 1, generator)
    voltage = torch.where(spread(0, 1) < 0.75, 300.0, 200.0)
    fields = {
        "defocus_u": defocus + half,
        "defocus_v": defocus - half,
        "defocus_angle": _uniform(n, 0, 180, generator),
        "voltage": voltage,
        "spherical_aberration": torch.full((n,), 2.7),
        "amplitude_contrast": torch.full((n,), 0.1),
        "phase_shift": torch.zeros(n),
        "b_factor": spread(0, 300),
    }
    parameters = CtfParameters(**{name: value.double().numpy() for name, value in fields.items()})
    fy, fx = torch.meshgrid(torch.fft.fftfreq(BOX), torch.fft.rfftfreq(BOX), indexing="ij")
    rows = np.arange(n).reshape(sets, size)
    filters = [ctf_at(parameters.subset(own), fx / p, fy / p) for own, p in zip(rows, pixel, strict=True)]
    amplitude = torch.cat(filters).abs()
    without = (torch.rand(sets, generator=generator) < 0.125).repeat_interleave(size)
    return torch.where(without[:, None, None], torch.ones_like(amplitude), amplitude)


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator)


def _log_uniform(low: float, high: float, generator: torch.Generator) -> float:
    return float(torch.exp(_uniform(1, np.log(low), np.log(high), generator)))
