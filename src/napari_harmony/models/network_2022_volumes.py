"""The network of the published method for subtomograms: convolutions of 32^3 voxels, one pose, no bounds on it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from napari_harmony.errors import InputError
from napari_harmony.models.network import NetworkShape
from napari_harmony.models.volume_encoding import VolumeEncoding
from napari_harmony.models.volume_network import VolumePoseNetwork
from napari_harmony.transforms import Pose3D, so3
from napari_harmony.transforms.spectra import Band, half_space, volumes_from

#: Edge of the volumes, the only one that its layers fit.
BOX_2022 = 32


class Harmony2022VolumeNetwork(VolumePoseNetwork):
    """Convolutions 1-32-64-128-512 with tanh down to a single voxel, and their mirror image with a linear last layer.

    The encoder says how to turn the *subtomogram* into its canonical view: rotate by the vector r (axis times angle,
    radian), then shift by t (voxels), as raw numbers. ``encode`` gives the inverse of that, the pose from canonical
    volume to subtomogram that every network here speaks of. What is not among the transformations stays as it is.

    Attributes
    ----------
    band : the samples that it takes; subtomograms are scaled to standard deviation 1 before
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        if shape.box != BOX_2022:
            raise InputError(f"box: the network of harmony-2022 takes {BOX_2022} voxels, not {shape.box}.")
        self.shape = replace(shape, hypotheses=1)
        self.encoder = nn.Sequential(
            *_halving(1, 32, 64, 128),
            *(nn.Conv3d(128, 512, 4), nn.Tanh()),
            nn.Conv3d(512, 6 + 2 * shape.content, 1),
        )
        self.decoder = nn.Sequential(
            *(nn.ConvTranspose3d(shape.content, 512, 1), nn.Tanh()),
            *(nn.ConvTranspose3d(512, 128, 4), nn.Tanh()),
            *_doubling(128, 64, 32),
            nn.ConvTranspose3d(32, 1, 4, stride=2, padding=1),
        )
        band = published_band()
        self._limit = band.limit
        self.index: Tensor
        self.frequency: Tensor
        self.register_buffer("index", band.index, persistent=False)
        self.register_buffer("frequency", band.frequency, persistent=False)

    @property
    def band(self) -> Band:
        return Band(BOX_2022, self._limit, self.index, self.frequency)

    def encode(self, samples: Tensor, amplitude: Tensor) -> VolumeEncoding:
        """Samples (n, m) complex to content posterior and one pose; the network is not told of their amplitudes."""
        numbers = self.encoder(volumes_from(samples, self.band)[:, None]).flatten(1).float()
        turn = numbers[:, :3] * ("rotation" in self.shape.transforms)
        shift = numbers[:, 3:6] * ("translation" in self.shape.transforms)
        mean, log_variance = numbers[:, 6:].chunk(2, dim=1)
        pose = Pose3D.of(so3.from_rotation_vector(turn), shift).inverse()
        return VolumeEncoding(
            mean, log_variance, pose.each(lambda field: field[:, None]), torch.zeros_like(turn[:, :1])
        )

    def decode(self, content: Tensor) -> Tensor:
        """(n, d) content codes to canonical volumes (n, 32, 32, 32)."""
        voxels: Tensor = self.decoder(content[:, :, None, None, None])
        return voxels[:, 0].float()


def published_band(device: torch.device | str = "cpu") -> Band:
    """The samples that the published network takes: all below the Nyquist frequency."""
    return half_space(BOX_2022, BOX_2022 / 2 - 1, device)


def _halving(*channels: int) -> list[nn.Module]:
    """Convolutions with these numbers of channels and tanh, each to half as many voxels along each axis."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip(channels[:-1], channels[1:], strict=True):
        layers += [nn.Conv3d(inputs, outputs, 4, stride=2, padding=1), nn.Tanh()]
    return layers


def _doubling(*channels: int) -> list[nn.Module]:
    """The other way: each to twice as many voxels."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip(channels[:-1], channels[1:], strict=True):
        layers += [nn.ConvTranspose3d(inputs, outputs, 4, stride=2, padding=1), nn.Tanh()]
    return layers
