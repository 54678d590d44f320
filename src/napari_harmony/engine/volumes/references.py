"""Volumes that the user gives to start from: checked, resampled, blurred, and brought to the scale of the data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from napari_harmony.engine.geometry import Geometry
from napari_harmony.engine.volumes.prepare import Prepared, cropped
from napari_harmony.engine.volumes.search import Posterior, Templates
from napari_harmony.engine.volumes.seeding import signal_variance_of
from napari_harmony.errors import InputError
from napari_harmony.particles.tomogram import Tomogram, open_volume
from napari_harmony.transforms import soft_sphere
from napari_harmony.transforms.spectra import Band, half_space, spectra_of, volumes_from

#: The low pass falls from 1 to 0 between these multiples of its frequency.
EDGE = (0.85, 1.15)
#: How many standard errors exchanged contrast must fit better to be called evident, and on how many particles.
EVIDENT, LOOKED_AT = 5.0, 64


@dataclass(frozen=True)
class References:
    """Volumes (k, b, b, b) on the working grid, scaled as the whitened data are, and the low pass in angstrom."""

    volumes: torch.Tensor
    lowpass: float

    def __len__(self) -> int:
        return len(self.volumes)

    def templates(self) -> Templates:
        """First templates, of equal shares."""
        share = torch.full((len(self),), -float(np.log(len(self))), device=self.volumes.device)
        return Templates(self.volumes, share)

    def both_signs(self) -> Templates:
        """The references, and behind them the same with bright and dark exchanged."""
        return Templates(
            torch.cat([self.volumes, -self.volumes]), torch.zeros(2 * len(self), device=self.volumes.device)
        )


def check_references(paths: tuple[str, ...]) -> None:
    """Look at the headers of references, so that one that cannot be used is known before particles are read.

    Raises
    ------
    InputError : naming the file that is missing, no volume, no cube, or without a pixel size
    """
    for path in paths:
        _opened(Path(path))


def load_references(paths: tuple[str, ...], lowpass: float, prepared: Prepared) -> References:
    """Read volumes of any box and pixel size onto the working grid of the data.

    Raises
    ------
    InputError : naming the file that is missing, no cube, without a pixel size, not finite or constant, or of which
        the low pass leaves nothing
    """
    device, band = prepared.energy.device, prepared.data.band
    samples = torch.stack([_resampled(Path(path), prepared.geometry, band).to(device) for path in paths])
    weight = _low_pass(prepared.geometry, lowpass, band)
    # The data were divided by their noise, so that the references must be.
    samples = samples * weight / prepared.noise[band.shell]
    variance = signal_variance_of(prepared.data)[band.shell] * weight**2
    power = (samples.abs() ** 2).sum(1)
    for path, some in zip(paths, power, strict=True):
        if not float(some) > 0:
            raise InputError(f"{path}: a low pass of {lowpass:g} A leaves nothing of it; give a smaller number of A.")
    scale = (variance.sum().clamp_min(1e-6) / power).sqrt()
    return References(volumes_from(samples * scale[:, None], band), lowpass)


def _low_pass(geometry: Geometry, lowpass: float, band: Band) -> torch.Tensor:
    """Weight (m,) of each sample."""
    ratio = band.radius / (geometry.box * geometry.pixel_size) * lowpass
    low, high = EDGE
    return 0.5 + 0.5 * torch.cos(torch.pi * ((ratio - low) / (high - low)).clamp(0, 1))


def _resampled(path: Path, geometry: Geometry, band: Band) -> torch.Tensor:
    """Samples (m,) on the band of the working grid of a volume about its centre voxel, on the CPU."""
    volume, pixel = _read(path)
    coarse = max(16, 2 * int(np.ceil(len(volume) * pixel / geometry.pixel_size / 2)))
    if coarse < len(volume):
        own = half_space(coarse, coarse / 2 - 1)
        pixel *= len(volume) / coarse
        volume = volumes_from(cropped(volume[None], coarse, own), own)[0]
    size = len(volume)
    # What lies outside the working box would come in again at its other side.
    reach = min(geometry.mask_radius * geometry.pixel_size / pixel, size / 2 - 2)
    inside = soft_sphere(size, reach)
    volume = (volume - (volume * inside).sum() / inside.sum()) * inside
    limit = size / 2 - 1
    frequency = band.frequency.cpu() * (size * pixel / (geometry.box * geometry.pixel_size))
    samples = spectra_of(volume[None], limit).at(frequency)[0]
    return torch.where(frequency.norm(dim=1) <= limit, samples, torch.zeros_like(samples))


def _opened(path: Path) -> Tomogram:
    """A cubic volume that says how large its voxels are."""
    opened = open_volume(path)
    depth, height, width = opened.shape
    if not depth == height == width:
        raise InputError(f"{path} has {width} x {height} x {depth} voxels; a reference is a cube, cut or pad it.")
    if not opened.voxel_size_known:
        raise InputError(f"{path} does not say how large its voxels are; write their size in angstrom into its header.")
    return opened


def _read(path: Path) -> tuple[torch.Tensor, float]:
    """A cubic volume (n, n, n) and its pixel size in angstrom."""
    opened = _opened(path)
    values = opened.read()
    if not np.isfinite(values).all():
        raise InputError(f"{path} holds {int((~np.isfinite(values)).sum())} voxels that are no numbers; repair it.")
    if values.min() == values.max():
        raise InputError(f"{path} has the same value everywhere; a reference must show the particle.")
    return torch.as_tensor(values), float(opened.voxel_size)


def looks_inverted(seen: Posterior, references: int) -> bool:
    """Whether particles fit references evidently better with bright and dark exchanged.

    ``seen`` is a posterior over ``References.both_signs``.
    """
    better = seen.class_score[:, references:].amax(1) - seen.class_score[:, :references].amax(1)
    error = better.std() / len(better) ** 0.5
    return bool(better.mean() > EVIDENT * error.clamp_min(1e-9))
