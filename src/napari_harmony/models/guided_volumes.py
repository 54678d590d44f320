"""A network of subtomograms for contents it never saw: what it looks at decides by which features poses are told."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_harmony.models.network import LOG_VARIANCE_BOUND, NetworkShape
from napari_harmony.models.relating import Relating
from napari_harmony.models.volume_encoding import (
    VolumeEncoding,
    VolumeProposals,
    join_volume_proposals,
    volume_modes,
)
from napari_harmony.models.volume_network import VolumeNetwork
from napari_harmony.transforms.rotation_functions import fitting

#: Radian within which hypotheses speak for one pose.
_BLUR = 0.35
#: Marks of a particle, and the highest degree of their change with the rotation.
MARKS, MARK_DEGREE = 16, 5
#: Strength of the ridge of a decoder's last layer, as a share of the mean power of what it starts from.
_RIDGE = 0.02


class GuidedVolumeNetwork(VolumeNetwork):
    """A ``VolumeNetwork`` whose features of a rotation are weighed by what all rotations together show.

    Of one content fixed filters can tell how it lies; of any content the filters that tell it best differ. Here the
    mean and the largest features over all rotations, which do not change as the particle turns, scale and offset the
    features of every rotation (E. Perez et al., "FiLM", AAAI 2018). Then features of different rotations are related to
    each other, before poses are read from them. Samples are brought to unit power first, for subtomograms of all
    signal-to-noise ratios.

    Besides it makes ``marks``, which turn as the particle does: two particles of one content lie as their marks do.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__(shape)
        width = self.encoder.width
        self.guide = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.SiLU(), nn.Linear(2 * width, 2 * width))
        self.mix = nn.Linear(width, width)
        self.relating = Relating(width, self.rotations)
        self.mark_head = nn.Linear(width, MARKS, bias=False)
        self.fitting: Tensor
        self.register_buffer("fitting", fitting(MARK_DEGREE, self.rotations).T.contiguous(), persistent=False)

    def _features(self, samples: Tensor, amplitude: Tensor) -> tuple[Tensor, Tensor]:
        power = samples.abs().square().sum(1, keepdim=True)
        seen = (samples != 0).sum(1, keepdim=True).clamp_min(1)
        features, centre = self.encoder(samples / (power / seen).sqrt().clamp_min(1e-6), amplitude)
        together = torch.cat([features.mean(1), features.amax(1)], dim=1)
        gain, offset = self.guide(together)[:, None].chunk(2, dim=2)
        related: Tensor = self.relating(functional.silu(self.mix(features * (1 + gain) + offset)))
        return related, centre

    def marks(self, encoding: VolumeEncoding) -> Tensor:
        """Marks (n, MARKS, k) of an encoding, as coefficients of ``transforms.rotation_functions``."""
        assert encoding.features is not None
        return self.mark_head(encoding.features).mT @ self.fitting

    def proposals(self, encoding: VolumeEncoding) -> VolumeProposals:
        """The poses around which the odds lie: of contents never seen they are spread over many hypotheses."""
        return volume_modes(encoding, _BLUR)

    def look(self, samples: Tensor, amplitude: Tensor, batch: int = 128) -> tuple[VolumeProposals, Tensor]:
        """``propose``, and with it the marks (n, MARKS, k) of every subtomogram, in half precision."""
        with torch.inference_mode():
            parts = [(self.proposals(e), self.marks(e).half()) for e in self._encoded(samples, amplitude, batch)]
        proposals, marks = zip(*parts, strict=True)
        return join_volume_proposals(list(proposals)), torch.cat(marks)

    @torch.no_grad()
    def settle_on(self, codes: Tensor, label: Tensor, volumes: Tensor) -> Tensor:
        """Let codes be of unit spread, and draw the volume of their class; returns them so.

        A network that was pretrained on many contents has codes far apart, of unit variance each, and a decoder that
        has drawn nothing yet. Its last layer is solved for by least squares.

        Parameters
        ----------
        codes : (n, d) content means that the network gives particles of a data set
        label : (n,) their classes
        volumes : (k, b, b, b) of the classes, on the network's grid
        """
        head, last = self.content_head[-1], self.decoder[-1]
        assert isinstance(head, nn.Linear) and isinstance(last, nn.Linear)
        d = self.shape.content
        mean, spread = codes.mean(0), codes.std(0).clamp_min(1e-3)
        head.weight[:d] /= spread[:, None]
        head.bias[:d] = (head.bias[:d] - mean) / spread
        head.weight[d:] = 0
        own = (-2 * spread.log()).clamp(0.9 * -LOG_VARIANCE_BOUND, 0.0)
        head.bias[d:] = LOG_VARIANCE_BOUND * torch.atanh(own / LOG_VARIANCE_BOUND)
        scaled = (codes - mean) / spread
        hidden = self.decoder[:-1](scaled)
        middle, shown = hidden.mean(0), volumes.flatten(1)
        member = functional.one_hot(label, len(volumes)).to(hidden.dtype)
        centred, average = hidden - middle, member.mean(0) @ shown
        power = centred.T @ centred
        ridge = _RIDGE * power.diagonal().mean() * torch.eye(len(power), device=power.device)
        weight = torch.linalg.solve(power + ridge, (centred.T @ member) @ (shown - average))
        last.weight.copy_(weight.T)
        last.bias.copy_(average - middle @ weight)
        return scaled
