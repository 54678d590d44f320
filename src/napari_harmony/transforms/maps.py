"""Affine maps of images: where every pixel goes, and what happens to its grey value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageMap:
    """A batch of affine maps of the plane with a linear map of the grey value.

    A point at ``q`` (x, y; pixels from the centre) goes to ``matrix @ q + shift``; a value ``v`` becomes
    ``gain * v + offset``. Every field shares the leading (batch) shape ``...``.

    Attributes
    ----------
    matrix : (..., 2, 2), acts on (x = column, y = row)
    shift : (..., 2), pixel, (x, y)
    gain : (...), factor of the grey value
    offset : (...), added to the grey value
    """

    matrix: Tensor
    shift: Tensor
    gain: Tensor
    offset: Tensor

    def compose(self, first: ImageMap) -> ImageMap:
        """The map that applies ``first``, then this one."""
        return ImageMap(
            matrix=self.matrix @ first.matrix,
            shift=(self.matrix @ first.shift[..., None])[..., 0] + self.shift,
            gain=self.gain * first.gain,
            offset=self.gain * first.offset + self.offset,
        )

    def inverse(self) -> ImageMap:
        """The map that undoes this one; a singular ``matrix`` or a zero ``gain`` gives infinities."""
        matrix = inverse_2x2(self.matrix)
        return ImageMap(
            matrix=matrix,
            shift=-(matrix @ self.shift[..., None])[..., 0],
            gain=1 / self.gain,
            offset=-self.offset / self.gain,
        )

    def apply(self, points: Tensor) -> Tensor:
        """Where ``points`` (..., k, 2), pixels from the centre, go."""
        return points @ self.matrix.transpose(-1, -2) + self.shift[..., None, :]


def inverse_2x2(matrix: Tensor) -> Tensor:
    """Inverse of (..., 2, 2) matrices in closed form: faster and more exact than a general solver."""
    (a, b), (c, d) = matrix.unbind(-2)[0].unbind(-1), matrix.unbind(-2)[1].unbind(-1)
    adjugate = torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2)
    return adjugate / (a * d - b * c)[..., None, None]
