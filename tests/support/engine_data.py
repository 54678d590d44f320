"""Small data for tests of the engine: drawings that can be posed exactly, and simulated stacks."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from napari_harmony.engine.events import Done, Event
from napari_harmony.engine.preprocess import cropped_transform
from napari_harmony.engine.search import Observations, Posterior, Templates
from napari_harmony.engine.steerable import SteerableBasis, steerable_basis
from napari_harmony.particles.ctf import CtfParameters
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.images import ArrayImages
from napari_harmony.particles.simulate import Simulated, sample_volumes, simulate_particles

#: Contents as Gaussian blobs: x, y, width and height, in pixels of a 32-pixel box. The wide one makes the mean zero, as
#: the engine never sees a mean.
DRAWINGS = (
    ((5.0, 1.0, 1.9, 1.0), (-4.0, 3.0, 2.2, 0.8), (0.0, -5.0, 1.8, 0.7), (0.0, 0.0, 4.0, -0.609)),
    ((4.0, 0.0, 1.8, 1.0), (-4.0, 0.0, 2.5, 0.7), (0.0, 5.0, 1.8, 0.9), (0.0, 0.0, 4.0, -0.658)),
    ((0.0, 0.0, 3.0, 0.8), (6.0, 2.0, 1.8, 1.0), (-5.0, -3.0, 1.8, 0.9), (0.0, 0.0, 4.0, -0.835)),
)
VIEWS = np.array([[[20.0, 75.0]], [[10.0, 25.0]], [[-60.0, 60.0]]])


def draw(content: int, psi: ArrayLike = (0.0,), origin: ArrayLike = ((0.0, 0.0),), box: int = 32) -> torch.Tensor:
    """Images (n, box, box) of a drawing at RELION's psi (n,) in degrees and origin (n, 2) in pixels, not resampled."""
    angle, origin = np.radians(np.atleast_1d(np.asarray(psi, float))), np.atleast_2d(np.asarray(origin, float))
    c, s = np.cos(angle), np.sin(angle)
    axis = np.arange(box) - box // 2
    images, unit = np.zeros((len(angle), box, box)), box / 32
    for x, y, width, height in DRAWINGS[content]:
        px, py = unit * (c * x + s * y) - origin[:, 0], unit * (c * y - s * x) - origin[:, 1]
        across, down = ((axis - p[:, None]) ** 2 / (2 * (unit * width) ** 2) for p in (px, py))
        images += height * np.exp(-down)[:, :, None] * np.exp(-across)[:, None, :]
    return torch.as_tensor(images, dtype=torch.float32)


@lru_cache
def basis_of(box: int = 32, limit: float = 9.0) -> SteerableBasis:
    """A basis for particles within 0.45 of the box."""
    return steerable_basis(box, 0.45 * box, limit)


def samples(images: torch.Tensor, basis: SteerableBasis) -> torch.Tensor:
    """Fourier samples (n, f) of images (n, box, box) on the band."""
    return cropped_transform(images, images.shape[-1])[:, basis.band.row, basis.band.column]


def observations(images: torch.Tensor, basis: SteerableBasis) -> Observations:
    """Images (n, box, box) without CTF as the search sees them."""
    power = torch.ones(len(images), len(basis.node_frequency))
    return Observations(samples(images, basis), power, basis, images.shape[-1])


def templates_of(images: torch.Tensor, basis: SteerableBasis) -> Templates:
    """Equally frequent templates that look like the images (k, box, box)."""
    shares = torch.full((len(images),), -float(np.log(len(images))))
    return Templates(basis.analyse(samples(images, basis)), shares)


def certain(psi: ArrayLike, shift: ArrayLike, label: ArrayLike) -> Posterior:
    """A posterior that is sure of psi (n,) in degrees, shift (n, 2) and class (n,)."""
    angle = torch.deg2rad(torch.as_tensor(np.asarray(psi), dtype=torch.float32))
    n, chosen = len(angle), torch.as_tensor(np.asarray(label)).long()
    at = torch.as_tensor(np.asarray(shift), dtype=torch.float32)
    return Posterior(torch.arange(n), chosen, angle, at, torch.ones(n), torch.zeros(n), torch.zeros(n, 1))


def stack(images: ArrayLike, pixel_size: float = 10.0, ctf: CtfParameters | None = None) -> Particles:
    """Particles (n, box, box) that came from no file."""
    array = np.asarray(images, dtype=np.float32)
    return Particles(ArrayImages(array), pd.DataFrame(index=pd.RangeIndex(len(array))), pixel_size, ctf=ctf)


def simulated(count: int, box: int = 24, snr: float = 1.0, seed: int = 1) -> Simulated:
    """Three contents with CTF in a box of 312 angstrom."""
    return simulate_particles(
        _volumes(box),
        views=VIEWS,
        count=count,
        box=box,
        pixel_size=312.0 / box,
        snr=snr,
        shift_sigma=box / 24,
        seed=seed,
    )


@lru_cache
def _volumes(box: int) -> list[NDArray[np.float32]]:
    return sample_volumes(box)[:3]


def run(events: Iterable[Event]) -> Done:
    """The last event of a run."""
    event = list(events)[-1]
    assert isinstance(event, Done)
    return event


def wrapped(degrees: ArrayLike) -> NDArray[np.float64]:
    """Angles within -180 to 180 degrees."""
    return (np.asarray(degrees, dtype=float) + 180) % 360 - 180
