"""Small volumes and what a network of subtomograms is given of them: samples on its band, behind a wedge or not."""

from __future__ import annotations

import math

import torch

from napari_harmony.models import NetworkShape, VolumeNetwork, volume_band
from napari_harmony.transforms import Pose3D, so3
from napari_harmony.transforms.spectra import Band

BOX = 20
ALL = ("rotation", "translation", "contrast")


def band() -> Band:
    """The samples of a network of ``BOX``."""
    return volume_band(BOX)


def blobs(count: int, seed: int = 0, width: float = 1.6, box: int = BOX) -> torch.Tensor:
    """Volumes (count, box, box, box) of six blobs each, without symmetry, within a quarter of the box."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.arange(box) - box // 2
    centre = (torch.rand(count, 6, 3, generator=generator) - 0.5) * 0.5 * box
    size = torch.rand(count, 6, generator=generator) + 0.5
    x, y, z = (torch.exp(-((axis - centre[..., i, None]) ** 2) / (2 * width**2)) for i in range(3))
    return torch.einsum("nk,nkx,nky,nkz->nzyx", size, x, y, z)


def wedge(tilt: float = 60.0) -> torch.Tensor:
    """Amplitudes (1, m): 1 within ``tilt`` degrees of the plane of the untilted projection, else 0."""
    x, _, z = band().frequency.T
    return (z.abs() <= math.tan(math.radians(tilt)) * x.abs() + 0.5).float()[None]


def full() -> torch.Tensor:
    """Amplitudes (1, m) without a wedge."""
    return torch.ones(1, len(band().index))


def random_pose(count: int, shift: float = 1.0, seed: int = 3) -> Pose3D:
    """Poses (count,) with shifts of ``shift`` voxels per axis."""
    generator = torch.Generator().manual_seed(seed)
    return Pose3D.of(so3.random_rotations(count, generator), shift * torch.randn(count, 3, generator=generator))


def network(transforms: tuple[str, ...] = ALL, content: int = 4) -> VolumeNetwork:
    """A fresh network, the same every time, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = NetworkShape(
            box=BOX,
            content=content,
            hypotheses=VolumeNetwork.hypotheses(transforms),
            transforms=transforms,
            max_shift=3.0,
            mask_diameter=17.0,
        )
        return VolumeNetwork(shape).eval()


def likeness(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    """Cosine (n,) between complex samples (n, m)."""
    a, b = (torch.view_as_real(samples).flatten(1) for samples in (one, two))
    return torch.cosine_similarity(a, b)
