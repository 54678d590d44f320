"""Fourier samples of volumes on a band, at any rotation, and back: slices of an oversampled transform.

Samples between the points of an oversampled grid are interpolated linearly; what that does to a volume in real space
is known and divided out (gridding: Jackson et al. 1991). Frequencies and positions are (x, y, z) everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from napari_harmony.transforms import so3

#: Oversampling of transforms that are interpolated in.
PADDING = 2
#: Variance of a linearly interpolated cell over that of one sample of the same weight: (2/3)^3.
SPREAD = 8 / 27


@dataclass(frozen=True)
class Band:
    """Fourier samples of a real volume in one half space, below a frequency.

    Attributes
    ----------
    box : edge of the volumes in voxels
    limit : cycles per box
    index : (m,) where each sample stands in a flattened ``rfftn`` of a (box, box, box) volume
    frequency : (m, 3) in cycles per box
    """

    box: int
    limit: float
    index: torch.Tensor
    frequency: torch.Tensor

    @property
    def radius(self) -> torch.Tensor:
        """(m,) modulus of the frequency, cycles per box."""
        return self.frequency.norm(dim=1)

    @property
    def shell(self) -> torch.Tensor:
        """(m,) shell of each sample: 0 is half a cycle per box to one and a half."""
        return (self.radius.round().long() - 1).clamp_min(0)

    def within(self, limit: float) -> torch.Tensor:
        """(m,) bool, which samples lie below another limit."""
        return self.radius <= limit + 1e-6


def half_space(box: int, limit: float, device: torch.device | str = "cpu") -> Band:
    """All samples of a box^3 volume with 0 < |f| <= limit, one of each Friedel pair."""
    axis = torch.fft.fftfreq(box, 1 / box).round()
    fz, fy, fx = torch.meshgrid(axis, axis, torch.arange(box // 2 + 1).float(), indexing="ij")
    unique = (fx > 0) | ((fx == 0) & ((fy > 0) | ((fy == 0) & (fz > 0))))
    frequency = torch.stack([fx, fy, fz], dim=-1).reshape(-1, 3)
    index = (unique.flatten() & (frequency.norm(dim=1) <= limit + 1e-6)).nonzero()[:, 0]
    return Band(box, limit, index.to(device), frequency[index].to(device))


def volumes_from(samples: torch.Tensor, band: Band, box: int | None = None) -> torch.Tensor:
    """Real volumes (n, b, b, b) with the samples (n, m) of a band, on its own grid or a smaller one that holds it."""
    box = box or band.box
    fx, fy, fz = band.frequency.round().long().T
    spectrum = torch.zeros(len(samples), box, box, box // 2 + 1, dtype=samples.dtype, device=samples.device)
    spectrum[:, fz % box, fy % box, fx] = samples
    # Within the plane fx = 0 the band holds one of each Friedel pair; the transform wants both.
    edge = fx == 0
    spectrum[:, -fz[edge] % box, -fy[edge] % box, 0] = samples[:, edge].conj()
    volumes = torch.fft.irfftn(spectrum, s=(box,) * 3, dim=(1, 2, 3), norm="ortho")
    return torch.fft.fftshift(volumes, dim=(1, 2, 3))


def regridded(volumes: torch.Tensor, box: int) -> torch.Tensor:
    """Volumes (n, b, b, b) about floor(b / 2) on a grid of ``box`` voxels with the same edge in angstrom.

    Samples in Fourier space keep their size (orthonormal transforms), so that white noise stays of unit variance;
    the mean is dropped.
    """
    old = volumes.shape[-1]
    band = half_space(old, min(old, box) / 2 - 0.5, volumes.device)
    transform = torch.fft.rfftn(torch.fft.ifftshift(volumes, dim=(1, 2, 3)), dim=(1, 2, 3), norm="ortho")
    return volumes_from(transform.flatten(1)[:, band.index], band, box)


@dataclass(frozen=True)
class Spectra:
    """Oversampled transforms of k volumes around the origin of frequency: (k, 2, g, g, g), real and imaginary parts."""

    values: torch.Tensor

    def at(self, frequency: torch.Tensor) -> torch.Tensor:
        """Samples (k, p) of all volumes at frequencies (p, 3) in cycles per box."""
        k, _, g = self.values.shape[:3]
        grid = (frequency * (PADDING / (g // 2))).reshape(1, 1, 1, -1, 3)
        flat = self.values.reshape(1, 2 * k, g, g, g)
        out = torch.nn.functional.grid_sample(flat, grid, mode="bilinear", align_corners=True)
        pairs = out.reshape(k, 2, -1)
        return torch.complex(pairs[:, 0], pairs[:, 1])

    def each_at(self, frequency: torch.Tensor) -> torch.Tensor:
        """Samples (k, p) of each volume at frequencies of its own (k, p, 3) in cycles per box."""
        grid = (frequency * (PADDING / (self.values.shape[-1] // 2)))[:, None, None]
        out = torch.nn.functional.grid_sample(self.values, grid, mode="bilinear", align_corners=True)
        return torch.complex(out[:, 0, 0, 0], out[:, 1, 0, 0])

    def turned(self, rotation: torch.Tensor, frequency: torch.Tensor) -> torch.Tensor:
        """Samples (k, r, m) at frequencies (m, 3) turned by quaternions (r, 4): of volumes turned back by them."""
        points = turned_points(rotation, frequency)
        return self.at(points.reshape(-1, 3)).reshape(len(self.values), *points.shape[:2])

    def only(self, labels: torch.Tensor) -> Spectra:
        """Of some of the volumes."""
        return Spectra(self.values[labels])


def turned_points(rotation: torch.Tensor, frequency: torch.Tensor) -> torch.Tensor:
    """Frequencies (r, m, 3): each of (m, 3) turned by each quaternion of (r, 4)."""
    return torch.einsum("rij,mj->rmi", so3.to_matrix(rotation), frequency)


def grid_edge(limit: float) -> int:
    """Edge of an oversampled grid that holds all frequencies up to ``limit``, with a cell to spare."""
    return 2 * int(PADDING * limit + 2) + 1


def spectra_of(volumes: torch.Tensor, limit: float) -> Spectra:
    """Transforms (orthonormal) of volumes (k, b, b, b) [z, y, x] about floor(b / 2)."""
    one = _transform_matrix(volumes.shape[-1], grid_edge(limit), volumes.device)
    # Three products of small matrices: faster than a transform of the padded volume of which most is thrown away.
    along_x = volumes.to(one.dtype) @ one.T
    along_y = one @ along_x
    k, b, g = len(volumes), volumes.shape[-1], len(one)
    values = (one @ along_y.reshape(k, b, g * g)).reshape(k, g, g, g)
    return Spectra(torch.stack([values.real, values.imag], dim=1))


def _transform_matrix(box: int, edge: int, device: torch.device) -> torch.Tensor:
    """(edge, box) complex: one axis of the oversampled transform, the envelope of interpolation divided out."""
    if edge - 1 > PADDING * box:
        raise ValueError(f"a transform of {PADDING * box} samples has no {edge // 2} on both sides of its origin")
    position = torch.arange(box, device=device) - box // 2
    frequency = (torch.arange(edge, device=device) - edge // 2) / (PADDING * box)
    phase = -2 * torch.pi * frequency[:, None] * position
    weight = 1 / (torch.sinc(position / (PADDING * box)) ** 2 * box**0.5)
    return torch.polar(weight.expand_as(phase), phase)


def volumes_of(grids: torch.Tensor, box: int) -> torch.Tensor:
    """Volumes (k, b, b, b) of complex oversampled transforms (k, g, g, g); the inverse of :func:`spectra_of`."""
    size, half = PADDING * box, grids.shape[-1] // 2
    rows = _centred_rows(half, size).to(grids.device)
    transform = torch.zeros(len(grids), size, size, size, dtype=grids.dtype, device=grids.device)
    transform[:, rows[:, None, None], rows[None, :, None], rows[None, None, :]] = grids
    padded = torch.fft.fftshift(torch.fft.ifftn(transform, dim=(1, 2, 3)).real, dim=(1, 2, 3)) * box**1.5
    before = size // 2 - box // 2
    inner = slice(before, before + box)
    return padded[:, inner, inner, inner] / _envelope(box, grids.device)


def _centred_rows(half: int, size: int) -> torch.Tensor:
    """Rows of an fft of ``size`` that hold -half to half; the Nyquist row may stand for both signs."""
    if 2 * half > size:
        raise ValueError(f"a transform of {size} samples has no {half} on both sides of its origin")
    return torch.arange(-half, half + 1) % size


def _envelope(box: int, device: torch.device) -> torch.Tensor:
    """What linear interpolation in the oversampled transform multiplies a volume with, (b, b, b)."""
    axis = (torch.arange(box, device=device) - box // 2) / (PADDING * box)
    one = torch.sinc(axis) ** 2
    return one[:, None, None] * one[None, :, None] * one[None, None, :]


def insert(total: torch.Tensor, grid: torch.Tensor, points: torch.Tensor, values: list[torch.Tensor]) -> None:
    """Add samples to oversampled grids, spread linearly over the eight cells around each; in place.

    Parameters
    ----------
    total : (c, k, g, g, g), contiguous
    grid : (e,) which of the k grids each entry belongs to
    points : (e, m, 3) cycles per box
    values : c tensors (e, m)
    """
    g = total.shape[-1]
    position = points * PADDING + g // 2
    lower = position.floor()
    part = position - lower
    corner = lower.long().clamp(0, g - 2)
    base = ((grid[:, None] * g + corner[..., 2]) * g + corner[..., 1]) * g + corner[..., 0]
    # One channel at a time: adding rows of three numbers is ten times slower than adding numbers.
    channels = [channel.view(-1) for channel in total]
    for dz in (0, 1):
        for dy in (0, 1):
            for dx in (0, 1):
                weight = torch.ones_like(part[..., 0])
                for d, axis in ((dx, 0), (dy, 1), (dz, 2)):
                    weight = weight * (part[..., axis] if d else 1 - part[..., axis])
                place = (base + (dz * g + dy) * g + dx).flatten()
                for channel, value in zip(channels, values, strict=True):
                    channel.index_add_(0, place, (value * weight).flatten())


def add_mates(total: torch.Tensor) -> torch.Tensor:
    """Grids (3, k, g, g, g) of real part, imaginary part and weight with the Friedel mate of every sample added."""
    mate = total.flip(2, 3, 4)
    return total + torch.stack([mate[0], -mate[1], mate[2]])
