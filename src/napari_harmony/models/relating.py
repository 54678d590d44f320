"""A layer on SO(3) that relates what is seen from one rotation to what is seen from all others."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_harmony.transforms.rotation_functions import blocks_of, fitting, functions_of

#: Highest degree of the functions of rotation that are related.
DEGREE = 4


class Relating(nn.Module):
    """Features (n, h, c) of h rotations, with what correlations on SO(3) with learned filters add to them.

    The features are taken for functions of the rotation. A filter turns and mixes them from the left, a turned particle
    turns them from the right: what comes out turns as what goes in (Cohen et al., "Spherical CNNs", ICLR 2018). So the
    features of one rotation learn what there is a quarter turn away, which those of one look alone do not tell.

    At the beginning nothing is added.

    Parameters
    ----------
    width : channels c
    rotations : (h, 4) quaternions, more than there are functions up to ``DEGREE``
    """

    def __init__(self, width: int, rotations: Tensor) -> None:
        super().__init__()
        functions = functions_of(DEGREE, rotations)
        self.sizes = [size for _, size in blocks_of(functions.shape[1])]
        self.filters = nn.ParameterList(
            torch.randn(width * size, width * size) / math.sqrt(width * size) for size in self.sizes
        )
        self.norm, self.last = nn.BatchNorm1d(width), nn.Linear(width, width)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.fitting: Tensor
        self.functions: Tensor
        self.register_buffer("fitting", fitting(DEGREE, rotations).T.contiguous(), persistent=False)
        self.register_buffer("functions", functions.T.contiguous(), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Features (n, h, c) to features (n, h, c)."""
        n, _, c = features.shape
        coefficients = (features.mT @ self.fitting).split([size**2 for size in self.sizes], dim=2)
        parts = []
        for own, filters, size in zip(coefficients, self.filters, self.sizes, strict=True):
            # a row of the matrices is the filter's to mix, a column turns with the particle
            columns = own.reshape(n, c, size, size).permute(0, 3, 1, 2).reshape(n * size, c * size)
            mixed = (columns @ filters).view(n, size, c, size)
            parts.append(mixed.permute(0, 2, 3, 1).reshape(n, c, size**2))
        related = (torch.cat(parts, dim=2) @ self.functions).mT
        return features + self.last(functional.silu(self.norm(related.flatten(0, 1)).view_as(features)))
