"""The published loss, transformations and copies for subtomograms; see ``harmony_2022`` for what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from napari_harmony.models.volume_network import VolumePoseNetwork
from napari_harmony.objectives.data import Batch, VolumeBranch
from napari_harmony.objectives.harmony_2022 import published_loss
from napari_harmony.objectives.term import Term, Weight
from napari_harmony.objectives.volume_context import VolumeContext
from napari_harmony.transforms import Pose3D, so3
from napari_harmony.transforms.spectra import Band, volumes_from

#: Largest shift of a copy along each axis, voxels.
_SHIFT = 4.0


@dataclass(frozen=True)
class Harmony2022Volumes(Term[VolumeContext]):
    """``Harmony2022`` with sums over voxels: the input is rotated, then shifted, each in a resampling of its own.

    The missing wedge is not heeded: it turns with the input.

    Attributes
    ----------
    gamma : as of ``Harmony2022``
    """

    gamma: float = 1.0
    weight: Weight = Weight(1.0)
    name: str = "harmony-2022"

    def __call__(self, context: VolumeContext) -> tuple[Tensor, dict[str, Tensor]]:
        band = context.network.band
        first, second = (
            canonical_volumes(volumes_from(b.images, band), b.encoding.pose[:, 0]) for b in context.branches
        )
        codes = context.original.encoding, context.copy.encoding
        return published_loss(self.gamma, context.pictures, (first, second), codes)


def published_volume_copy(n: int, transforms: tuple[str, ...], generator: torch.Generator) -> Pose3D:
    """The published random copies (n,): each component of the rotation vector within +-90 degrees, shifts within +-4.

    These rotations are not uniform on SO(3). What is not among ``transforms`` is left alone.
    """
    uniform = torch.rand(n, 6, generator=generator, device=generator.device) - 0.5
    vector = torch.pi * uniform[:, :3] * ("rotation" in transforms)
    shift = 2 * _SHIFT * uniform[:, 3:] * ("translation" in transforms)
    return Pose3D.of(so3.from_rotation_vector(vector), shift)


def published_volume_branches(
    network: VolumePoseNetwork, batch: Batch, applied: Pose3D, generator: torch.Generator
) -> tuple[VolumeBranch, VolumeBranch]:
    """Encode the subtomograms of a batch and their copies, together in one pass.

    As published, copies are the subtomograms resampled by ``applied`` (n,), blurred noise, turned wedge and all.
    """
    n = len(batch)
    assert batch.ctf is not None
    with torch.no_grad():
        copies = _samples_of(moved_volumes(volumes_from(batch.images, network.band), applied), network.band)
    samples = torch.cat([batch.images, copies])
    encoding = network.encode(samples, torch.cat([batch.ctf, batch.ctf]))
    content = encoding.sample(generator, batch.share.drawing_pairs())
    identity = Pose3D.identity(n, device=batch.images.device)
    return (
        VolumeBranch(samples[:n], identity, encoding[:n], content[:n]),
        VolumeBranch(samples[n:], applied, encoding[n:], content[n:]),
    )


def canonical_volumes(volumes: Tensor, pose: Pose3D) -> Tensor:
    """Undo ``pose`` (n,) on volumes (n, b, b, b) as the published work does."""
    return moved_volumes(volumes, pose.inverse())


def moved_volumes(volumes: Tensor, pose: Pose3D) -> Tensor:
    """Volumes (n, b, b, b) rotated, then shifted by ``pose`` (n,), in two passes of linear interpolation."""
    n, box = len(volumes), volumes.shape[-1]
    back = so3.to_matrix(pose.quaternion).transpose(1, 2)
    # grid_sample counts from the middle of the box in halves of it; rotations are about the voxel box // 2
    centre = volumes.new_full((n, 3, 1), (2 * (box // 2) + 1) / box - 1)
    turned = _resampled(volumes, torch.cat([back, centre - back @ centre], dim=2))
    still = torch.eye(3, device=volumes.device, dtype=volumes.dtype).expand(n, 3, 3)
    return _resampled(turned, torch.cat([still, -2 / box * pose.shift[:, :, None]], dim=2))


def _resampled(volumes: Tensor, affine: Tensor) -> Tensor:
    """One pass: volumes (n, b, b, b) at the points that matrices (n, 3, 4) make of the voxels; zeros outside."""
    grid = functional.affine_grid(affine, [len(volumes), 1, *volumes.shape[1:]], align_corners=False)
    return functional.grid_sample(volumes[:, None], grid, padding_mode="zeros", align_corners=False)[:, 0]


def _samples_of(volumes: Tensor, band: Band) -> Tensor:
    """Samples (n, m) of volumes on a band: the inverse of ``volumes_from``."""
    transform = torch.fft.rfftn(torch.fft.ifftshift(volumes, dim=(1, 2, 3)), dim=(1, 2, 3), norm="ortho")
    return transform.flatten(1)[:, band.index]
