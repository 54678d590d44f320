"""An encoder that turns with its image: polar sampling, then correlation along the whole circle.

In polar coordinates a rotation is a shift along the angle, and a layer that correlates along the angle answers a
turned image with a turned answer. The layers therefore need not learn every orientation of every content, which is
what makes a network of plain convolutions slow to learn poses. The first layer is a bank of rotating matched filters.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Filters of the first and of the second layer.
_FILTERS = (96, 128)


class PolarEncoder(nn.Module):
    """(n, box, box) images to features (n, hypotheses, width): entry h describes the image as seen from angle h.

    Turning the image by ``2 pi / hypotheses`` moves the entries on by one. ``width`` is an attribute.
    """

    def __init__(self, box: int, hypotheses: int) -> None:
        super().__init__()
        self.stride = math.ceil(box / hypotheses)
        angles = self.stride * hypotheses
        points, weights = _polar_points(box, 2 * angles)
        self.points: Tensor
        self.weights: Tensor
        self.register_buffer("points", points, persistent=False)
        self.register_buffer("weights", weights, persistent=False)
        self.matched = CircularCorrelation(len(weights), _FILTERS[0], angles)
        self.combined = CircularCorrelation(_FILTERS[0], _FILTERS[1], angles)
        self.width = _FILTERS[1]
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) for size in (*_FILTERS, self.width))
        self.last = nn.Linear(self.width, self.width, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        grid = self.points.expand(len(images), -1, -1, -1)
        rings = functional.grid_sample(images[:, None], grid, mode="bilinear", align_corners=False)[:, 0]
        features = self._activate(self.matched(rings * self.weights), 0)
        features = self._activate(self.combined(features), 1)[:, :: self.stride]
        return self._activate(self.last(features), 2)

    def _activate(self, features: Tensor, layer: int) -> Tensor:
        """Normalise (n, angles, channels) per channel, then SiLU."""
        return functional.silu(self.norms[layer](features.flatten(0, 1)).view_as(features))


class CircularCorrelation(nn.Module):
    """Filters as long as the circle: (n, a, inputs) to (n, angles, outputs), a >= angles, band-limited to ``angles``.

    The product is taken in Fourier space, one small matrix per angular frequency.
    """

    def __init__(self, inputs: int, outputs: int, angles: int) -> None:
        super().__init__()
        self.angles = angles
        self.filters = nn.Parameter(torch.randn(angles // 2 + 1, inputs, outputs, 2) / math.sqrt(2 * inputs))

    def forward(self, signal: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(signal.float(), dim=1, norm="ortho")[:, : len(self.filters)]
        product = torch.bmm(spectrum.transpose(0, 1), torch.view_as_complex(self.filters))
        return torch.fft.irfft(product.transpose(0, 1), n=self.angles, dim=1, norm="ortho")


def _polar_points(box: int, angles: int) -> tuple[Tensor, Tensor]:
    """Sampling positions (1, angles, radii, 2) for ``grid_sample``, and weights (radii,) that even out the noise.

    Angles run from the x axis towards the y axis, like ``Pose2D.angle``; radii are one pixel apart.
    """
    radius = torch.arange(box // 2 - 1) + 0.75
    angle = torch.arange(angles)[:, None] * (2 * math.pi / angles)
    points = torch.stack([radius * angle.cos(), radius * angle.sin()], -1)
    # every sample stands for a piece of the ring that grows with the radius
    return (2 * (points[None] + box // 2) + 1) / box - 1, (radius / radius.mean()).sqrt()
