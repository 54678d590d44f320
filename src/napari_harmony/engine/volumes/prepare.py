"""From subtomograms as stored to whitened samples on a band, with what covers each of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from napari_harmony.engine.geometry import Geometry, name_of, working_geometry
from napari_harmony.engine.preprocess import flagged, repeated
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.subsets import subsets_of
from napari_harmony.engine.volumes.search import Observations
from napari_harmony.engine.work import Work
from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import Particles
from napari_harmony.transforms import soft_sphere
from napari_harmony.transforms.spectra import Band, half_space

#: Volumes per read.
BATCH = 32


@dataclass(frozen=True)
class Prepared:
    """Subtomograms ready for the engine.

    Attributes
    ----------
    data : whitened samples (noise of unit variance inside the wedge) and their coverage, on the whole band
    energy : (n, shells) squared norm of each particle's samples per shell
    noise : (shells,) noise amplitude that was divided out
    usable : (n,) bool; flags : (n,) why not; keys : (n,) fingerprints, as for images
    geometry : lengths in working voxels
    subset_number : (n,) half sets, 1 or 2, that the input names; None where it names none
    """

    data: Observations
    energy: torch.Tensor
    noise: torch.Tensor
    usable: NDArray[np.bool_]
    flags: NDArray[np.object_]
    keys: NDArray[np.uint64]
    geometry: Geometry
    subset_number: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.data)

    def subset(self, rows: torch.Tensor) -> Prepared:
        """Some of the particles."""
        chosen = rows.cpu().numpy()
        return replace(
            self,
            data=self.data.subset(rows),
            energy=self.energy[rows],
            usable=self.usable[chosen],
            flags=self.flags[chosen],
            keys=self.keys[chosen],
            subset_number=None if self.subset_number is None else self.subset_number[chosen],
        )


def prepare(particles: Particles, settings: Settings, device: torch.device) -> Work[Prepared]:
    """Read, check, normalise, whiten and Fourier-crop all subtomograms; yields the fraction done."""
    geometry = working_geometry(particles, settings)
    count, band = len(particles), half_space(geometry.box, geometry.box / 2 - 1, device)
    samples = torch.zeros(count, len(band.index), dtype=torch.complex64, device=device)
    flags, keys = np.full(count, "", dtype=object), np.zeros(count, np.uint64)
    outside = _outside(geometry, device)
    coverage = _Coverage(particles, geometry, band, device)
    noise = _Noise(band, device)
    for start in range(0, count, BATCH):
        rows = range(start, min(start + BATCH, count))
        stored = np.asarray(particles.read(rows), dtype=np.float32)
        part = slice(start, rows[-1] + 1)
        flags[part], keys[part] = flagged(stored)
        bad = flags[part] != ""
        stored[bad] = 0
        volumes = _normalised(torch.as_tensor(stored, device=device), outside)
        samples[part] = cropped(volumes, geometry.box, band)
        good = torch.as_tensor(~bad, device=device)
        background = volumes * outside
        noise.add(cropped(background, geometry.box, band)[good], coverage.add(rows)[good], float((outside**2).mean()))
        yield min(1.0, (rows[-1] + 1) / count)
    amplitude = noise.amplitude()
    flags[(flags == "") & repeated(keys)] = "duplicate"
    usable = flags == ""
    if not usable.any():
        raise InputError(f"{name_of(particles)}: no volume holds a finite signal; check the files.")
    inverse = (1 / amplitude)[band.shell]
    seen = coverage.together()
    data = Observations(samples * inverse**2 * seen, (seen * inverse) ** 2, band)
    energy = torch.zeros(count, len(amplitude), device=device)
    energy.index_add_(1, band.shell, (samples * inverse).abs() ** 2)
    return Prepared(data, energy, amplitude, usable, flags, keys, geometry, subsets_of(particles))


class _Coverage:
    """Coverage on the band, one row where all particles share it."""

    def __init__(self, particles: Particles, geometry: Geometry, band: Band, device: torch.device) -> None:
        self.wedge, self.geometry, self.band, self.device = particles.wedge, geometry, band, device
        self.rows: list[torch.Tensor] = []

    def add(self, rows: range) -> torch.Tensor:
        """That of some particles, (len(rows), m), or (len(rows), m) views of a single one."""
        if self.wedge is None:
            part = torch.ones(1, len(self.band.index), device=self.device).expand(len(rows), -1)
        else:
            given = self.wedge.coverage(list(rows), self.geometry.box)
            shared = len(given) > 1 and given.strides[0] == 0
            flat = torch.tensor(given[:1] if shared else given, device=self.device).reshape(-1, given[0].size)
            part = flat[:, self.band.index].expand(len(rows), -1)
        self.rows.append(part)
        return part

    def together(self) -> torch.Tensor:
        """(n, m), or (1, m) where all are the same."""
        first = self.rows[0][:1]
        if all(torch.equal(part[:1], first) and (part == first).all() for part in self.rows):
            return first.contiguous()
        return torch.cat([part.contiguous() for part in self.rows])


class _Noise:
    """Averages the spectrum of the background inside the wedge."""

    def __init__(self, band: Band, device: torch.device) -> None:
        self.band = band
        self.power = torch.zeros(int(band.shell.max()) + 1, dtype=torch.float64, device=device)
        self.weight = torch.zeros_like(self.power)

    def add(self, background: torch.Tensor, coverage: torch.Tensor, share: float) -> None:
        """``share``: mean square of the window through which the background is seen."""
        self.power.index_add_(0, self.band.shell, (background.abs() ** 2 / share).double().sum(0))
        self.weight.index_add_(0, self.band.shell, (coverage**2).double().sum(0))

    def amplitude(self) -> torch.Tensor:
        """Noise amplitude per shell."""
        power = self.power / self.weight.clamp_min(1e-9)
        return power.clamp_min(1e-6 * float(power.max())).sqrt().float()


def _outside(geometry: Geometry, device: torch.device) -> torch.Tensor:
    """Soft weight (box, box, box) of the background of stored volumes."""
    return 1 - soft_sphere(
        geometry.source_box, min(geometry.mask_radius * geometry.scale, 0.48 * geometry.source_box), device
    )


def _normalised(volumes: torch.Tensor, outside: torch.Tensor) -> torch.Tensor:
    """Background of each volume to mean 0 and standard deviation 1."""
    total = outside.sum()
    mean = (volumes * outside).sum((1, 2, 3)) / total
    centred = volumes - mean[:, None, None, None]
    deviation = ((centred**2 * outside).sum((1, 2, 3)) / total).sqrt()
    whole = centred.std(dim=(1, 2, 3))
    return centred / torch.maximum(deviation, 0.1 * whole).clamp_min(1e-12)[:, None, None, None]


def cropped(volumes: torch.Tensor, box: int, band: Band) -> torch.Tensor:
    """Samples (n, m) of volumes about their centre, on the band of a box^3 grid: white noise stays of unit variance."""
    source = volumes.shape[-1]
    transform = torch.fft.rfftn(torch.fft.ifftshift(volumes, dim=(1, 2, 3)), dim=(1, 2, 3), norm="ortho")
    if source != box:
        half = box // 2
        rows = torch.cat([torch.arange((box + 1) // 2), torch.arange(source - half, source)]).to(volumes.device)
        transform = transform[:, rows][:, :, rows][..., : half + 1]
    return transform.reshape(len(volumes), -1)[:, band.index]
