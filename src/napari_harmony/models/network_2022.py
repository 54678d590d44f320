"""The network of the published method: fully connected, one pose per image, no bounds on it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from napari_harmony.models.encoding import Encoding
from napari_harmony.models.network import NetworkShape, PoseNetwork


class Harmony2022Network(PoseNetwork):
    """Encoder P^2-512-512-512-512-128-(2d + 3) and decoder d-128-512-512-512-512-P^2 with tanh, output included.

    The encoder says how to turn the *image* into its canonical view: rotate by r (radian), shift by t (pixel), and
    with "scale" among the transformations magnify by exp(s), all as raw numbers. ``encode`` gives the inverse of
    that, the pose from canonical view to image that every network here speaks of. Contrast is not predicted.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = replace(shape, hypotheses=1)
        self.poses = 4 if "scale" in shape.transforms else 3
        pixels = shape.box**2
        self.encoder = _tanh_layers(pixels, 512, 512, 512, 512, 128)
        self.head = nn.Linear(128, self.poses + 2 * shape.content)
        self.decoder = _tanh_layers(shape.content, 128, 512, 512, 512, 512, pixels)

    def encode(self, images: Tensor) -> Encoding:
        """(n, box, box) images to content posterior and one pose."""
        numbers = self.head(self.encoder(images.flatten(1))).float()
        rotation, translation = numbers[:, :1], numbers[:, 1:3]
        log_scale = numbers[:, 3:4] if self.poses == 4 else torch.zeros_like(rotation)
        mean, log_variance = numbers[:, self.poses :].chunk(2, dim=1)
        # the inverse of rotating by r, shifting by t and scaling: unscale, shift by -t, rotate by -r
        cos, sin = rotation.cos(), rotation.sin()
        x, y = -translation[:, :1], -translation[:, 1:]
        shift = torch.cat([cos * x + sin * y, cos * y - sin * x], dim=1)
        values = {"rotation": -rotation[:, None], "translation": shift[:, None], "scale": -log_scale[:, None]}
        return Encoding(mean, log_variance, values, torch.zeros_like(rotation))

    def decode(self, content: Tensor) -> Tensor:
        """(n, d) content codes to canonical pictures (n, box, box), within +-1."""
        return self.decoder(content).float().view(-1, self.shape.box, self.shape.box)


def _tanh_layers(*sizes: int) -> nn.Sequential:
    """Linear layers of these sizes with tanh after each."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers)
