"""The Harmony network of subtomograms: samples inside the wedge -> content and poses; content -> canonical volume."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from napari_harmony.models.network import LOG_VARIANCE_BOUND, NetworkShape
from napari_harmony.models.spherical import SphericalEncoder
from napari_harmony.models.volume_encoding import (
    VolumeEncoding,
    VolumeProposals,
    join_volume_proposals,
    volume_proposals,
)
from napari_harmony.transforms import Pose3D, so3, soft_sphere
from napari_harmony.transforms.spectra import Band, half_space, spectra_of

#: Degrees between the rotations from which a subtomogram is looked at.
STEP = 30.0
#: How far a pose may lie from the rotation it is seen from, radian along each axis.
_RESIDUAL = 0.6
#: How far templates are turned to begin with, radian.
_NUDGE = 0.3
#: Finest detail that the encoder looks at, cycles per box.
_FINEST = 10.0


class VolumePoseNetwork(nn.Module):
    """What training and prediction need of a network of subtomograms."""

    shape: NetworkShape

    @property
    def band(self) -> Band:
        """Where its samples lie, on the network's device."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.parameters()).device

    def encode(self, samples: Tensor, amplitude: Tensor) -> VolumeEncoding:
        """Samples (n, m) complex and amplitudes (n or 1, m) to content posterior and pose hypotheses."""
        raise NotImplementedError

    def decode(self, content: Tensor) -> Tensor:
        """(n, d) content codes to canonical volumes (n, box, box, box)."""
        raise NotImplementedError

    def proposals(self, encoding: VolumeEncoding) -> VolumeProposals:
        """The likeliest hypotheses of an encoding."""
        return volume_proposals(encoding)

    def _encoded(self, samples: Tensor, amplitude: Tensor, batch: int) -> Iterator[VolumeEncoding]:
        """Encodings of samples (n, m), ``batch`` at a time; leaves the network in eval mode."""
        self.eval()
        shared = len(amplitude) == 1
        for rows in torch.arange(len(samples), device=samples.device).split(batch):
            seen_through = amplitude if shared else amplitude[rows]
            yield self.encode(samples[rows].to(self.device), seen_through.to(self.device))

    def propose(self, samples: Tensor, amplitude: Tensor, batch: int = 128) -> VolumeProposals:
        """Content and poses of samples (n, m) without gradients, ``batch`` at a time, on the network's device.

        Leaves the network in eval mode.
        """
        with torch.inference_mode():
            parts = [self.proposals(encoding) for encoding in self._encoded(samples, amplitude, batch)]
        return join_volume_proposals(parts)


class VolumeNetwork(VolumePoseNetwork):
    """Encoder with a pose hypothesis at every rotation of a grid, and a decoder that draws the content unposed.

    The network works on samples in Fourier space, half of those within ``band``: noise of unit variance, with the
    amplitude that the signal is seen through (coverage of the wedge over the noise).

    Attributes
    ----------
    band : the samples that it takes; boxes of ``shape.box`` voxels
    rotations : (h, 4) quaternions, the grid of hypotheses
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.turns = "rotation" in shape.transforms
        self.moves = "translation" in shape.transforms
        band = volume_band(shape.box)
        rotations = so3.rotation_grid(STEP) if self.turns else so3.identity(1).clone()
        self.encoder = SphericalEncoder(band, rotations, shape.max_shift if self.moves else 0.0)
        self._limit = band.limit
        self.pose_head = nn.Linear(self.encoder.width, 7)
        nn.init.zeros_(self.pose_head.bias)
        self.content_head = nn.Sequential(
            nn.Linear(2 * self.encoder.width, 128), nn.SiLU(), nn.Linear(128, 2 * shape.content)
        )
        self.decoder = nn.Sequential(
            nn.Linear(shape.content, 128), nn.SiLU(), nn.Linear(128, 256), nn.SiLU(), nn.Linear(256, shape.box**3)
        )
        self.rotations: Tensor
        self.mask: Tensor
        self.index: Tensor
        self.frequency: Tensor
        for name, constant in {
            "rotations": rotations,
            "mask": soft_sphere(shape.box, shape.mask_diameter / 2),
            "index": band.index,
            "frequency": band.frequency,
        }.items():
            self.register_buffer(name, constant, persistent=False)

    @torch.no_grad()
    def start_from(self, templates: Tensor) -> None:
        """Begin where a search has ended: filters look for its templates (k, b, b, b), as found and a little turned.

        The decoder begins with their mean.
        """
        band = self.band
        nudges = so3.identity(1, device=self.device)
        if self.turns:
            axes = torch.eye(3, device=self.device)
            nudges = torch.cat([nudges, so3.from_rotation_vector(_NUDGE * torch.cat([axes, -axes]))])
        patterns = spectra_of(templates.to(self.device), band.limit).turned(nudges, band.frequency)
        # all as they were found come first: where there are many, these must not be left out
        self.encoder.start_from(patterns.transpose(0, 1).flatten(0, 1))
        last = self.decoder[-1]
        assert isinstance(last, nn.Linear)
        last.weight.mul_(0.1)
        last.bias.copy_(templates.mean(0).flatten())

    @staticmethod
    def hypotheses(transforms: tuple[str, ...]) -> int:
        """How many hypotheses there are per subtomogram."""
        return so3.grid_size(STEP) if "rotation" in transforms else 1

    @property
    def band(self) -> Band:
        return Band(self.shape.box, self._limit, self.index, self.frequency)

    def encode(self, samples: Tensor, amplitude: Tensor) -> VolumeEncoding:
        """Samples (n, m) complex and amplitudes (n or 1, m) to content posterior and pose hypotheses.

        A hypothesis turns a little in the frame of the canonical volume, then by its rotation of the grid; it shifts
        by the centre that was found, and from there by a little in the frame of the canonical volume. The content
        is read from the features of all rotations, the likely ones above all.
        """
        features, centre = self._features(samples, amplitude)
        raw = self.pose_head(features).float()
        logits = raw[..., 6]
        attention = torch.softmax(logits, dim=1)[..., None]
        pooled = torch.cat([(attention * features).sum(1), features.mean(1)], dim=1)
        mean, log_variance = self.content_head(pooled).float().chunk(2, dim=1)
        bounded = LOG_VARIANCE_BOUND * torch.tanh(log_variance / LOG_VARIANCE_BOUND)
        return VolumeEncoding(mean, bounded, self._pose(raw, centre), logits, pooled.float(), features)

    def _features(self, samples: Tensor, amplitude: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, h, width) of every rotation of the grid, and centres (n, 3)."""
        features, centre = self.encoder(samples, amplitude)
        return features, centre

    def _pose(self, raw: Tensor, centre: Tensor) -> Pose3D:
        """Hypotheses (n, h) from raw numbers (n, h, 7) and centres (n, 3)."""
        vector = self.turns * _RESIDUAL * torch.tanh(raw[..., :3])
        quaternion = so3.multiply(self.rotations, so3.from_rotation_vector(vector))
        beside = self.moves * 0.5 * self.shape.max_shift * torch.tanh(raw[..., 3:6])
        return Pose3D.of(quaternion, centre[:, None] + so3.rotate_points(quaternion, beside))

    def decode(self, content: Tensor) -> Tensor:
        """(n, d) content codes to canonical volumes (n, box, box, box): masked, in units of the noise."""
        voxels: Tensor = self.decoder(content).float()
        return voxels.view(-1, *self.mask.shape) * self.mask


def volume_band(box: int) -> Band:
    """The samples that a network of this box takes."""
    return half_space(box, min(_FINEST, math.floor(box / 2) - 1))
