"""The Harmony network: image -> content posterior and pose hypotheses; content -> canonical picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_harmony.models.encoding import Encoding, Proposals, join_proposals, proposals_from
from napari_harmony.models.polar import PolarEncoder
from napari_harmony.transforms import Transformation, built_in, choose, rotate, soft_circle

#: A content posterior narrower or wider than this (log variance) is noise of training and would only destabilise it.
LOG_VARIANCE_BOUND = 8.0


@dataclass(frozen=True)
class NetworkShape:
    """What decides the tensors of a network; all lengths in pixel of the grid that it works on.

    Attributes
    ----------
    box : edge of the images, at least 16
    content : dimensions of the content code
    hypotheses : poses proposed per image
    transforms : names of the transformations that are predicted
    max_shift : bound of the shift per axis
    mask_diameter : of the soft circle around the canonical picture
    """

    box: int = 32
    content: int = 8
    hypotheses: int = 16
    transforms: tuple[str, ...] = ("rotation", "translation", "contrast")
    max_shift: float = 5.0
    mask_diameter: float = 29.0


class PoseNetwork(nn.Module):
    """What training and prediction need of a network."""

    shape: NetworkShape
    transformations: tuple[Transformation, ...] = ()

    def encode(self, images: Tensor) -> Encoding:
        """(n, box, box) images to content posterior and pose hypotheses (see ``Encoding``)."""
        raise NotImplementedError

    def decode(self, content: Tensor) -> Tensor:
        """(n, d) content codes to canonical pictures (n, box, box), in units of the noise."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.parameters()).device

    def propose(self, images: Tensor, batch: int = 512) -> Proposals:
        """Content and poses of (n, box, box) images without gradients, ``batch`` at a time, on the network's device.

        Leaves the network in eval mode.
        """
        self.eval()
        with torch.inference_mode():
            parts = [proposals_from(self.encode(part.to(self.device))) for part in images.split(batch)]
        return join_proposals(parts)


class HarmonyNetwork(PoseNetwork):
    """Polar encoder with several pose hypotheses, and a decoder that draws the content unposed.

    Parameters
    ----------
    shape : sizes of everything
    known : the transformations that ``shape.transforms`` may name; default ``built_in`` with the shape's shift bound
    """

    def __init__(self, shape: NetworkShape, known: Sequence[Transformation] | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.transformations = choose(shape.transforms, known or built_in(shape.max_shift))
        # without rotation there is one way to look at an image, and orientation is part of the content
        self.hypotheses = shape.hypotheses if "rotation" in shape.transforms else 1
        self.encoder = PolarEncoder(shape.box, self.hypotheses)
        self.pose_head = nn.Linear(self.encoder.width, sum(t.raw_size for t in self.transformations) + 1)
        nn.init.zeros_(self.pose_head.bias)
        self.content_head = nn.Sequential(
            nn.Linear(2 * self.encoder.width, 256), nn.SiLU(), nn.Linear(256, 2 * shape.content)
        )
        self.decoder = nn.Sequential(
            nn.Linear(shape.content, 256), nn.SiLU(), nn.Linear(256, 512), nn.SiLU(), nn.Linear(512, shape.box**2)
        )
        self._register("mask", soft_circle(shape.box, shape.mask_diameter))
        # what a rotated copy has lost, an image must not show: the corners
        self._register("aperture", soft_circle(shape.box, shape.box))
        self._register("directions", torch.arange(self.hypotheses) * (2 * torch.pi / self.hypotheses))

    mask: Tensor
    aperture: Tensor
    directions: Tensor

    def _register(self, name: str, constant: Tensor) -> None:
        """Keep a constant on the network's device, out of its files."""
        self.register_buffer(name, constant, persistent=False)

    def encode(self, images: Tensor) -> Encoding:
        """(n, box, box) images to content posterior and pose hypotheses (see ``Encoding``).

        Hypothesis h looks at the image from direction ``2 pi h / hypotheses`` and says by how much to turn and shift
        from there. The content is read from the features of all directions, the likely ones above all.
        """
        features = self.encoder(images * self.aperture)
        raw = self.pose_head(features).float()
        logits = raw[..., -1]
        attention = torch.softmax(logits, dim=1)[..., None]
        pooled = torch.cat([(attention * features).sum(1), features.mean(1)], dim=1)
        mean, log_variance = self.content_head(pooled).float().chunk(2, dim=1)
        bounded = LOG_VARIANCE_BOUND * torch.tanh(log_variance / LOG_VARIANCE_BOUND)
        return Encoding(mean, bounded, self._values(raw), logits, pooled.float())

    def _values(self, raw: Tensor) -> dict[str, Tensor]:
        """Parameters (n, h, p) of every transformation from raw numbers in the frame of each direction."""
        values, start = {}, 0
        for transformation in self.transformations:
            own = raw[..., start : start + transformation.raw_size]
            start += transformation.raw_size
            if transformation.name == "rotation":
                own = rotate(own + own.new_tensor([1.0, 0.0]), self.directions)
            elif transformation.name == "translation":
                own = rotate(own, self.directions)
            values[transformation.name] = transformation.from_raw(own)
        values.setdefault("rotation", raw.new_zeros(*raw.shape[:2], 1))
        return values

    def decode(self, content: Tensor) -> Tensor:
        """(n, d) content codes to canonical pictures (n, box, box): masked, in units of the noise."""
        pixels: Tensor = self.decoder(content).float()
        return pixels.view(-1, *self.mask.shape) * self.mask
