"""The pose of a particle in its image: scale, rotation and shift, with gain and offset of the grey value."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from napari_harmony.transforms.maps import ImageMap


@dataclass(frozen=True)
class Pose2D:
    """How the canonical picture of each particle became its image.

    In this order: scale about the centre pixel ``floor(box / 2)``, rotate about it, shift, then
    ``gain * value + offset``. A canonical point ``q`` (pixels from the centre) is seen at
    ``exp(log_scale) * R(angle) @ q + shift`` with ``R = [[cos, -sin], [sin, cos]]`` acting on (x = column, y = row).
    All fields share the leading shape ``...``: (n,), or (n, hypotheses). Gradients pass through every method.

    Attributes
    ----------
    angle : (...), radian
    shift : (..., 2), pixel, (x, y)
    log_scale : (...), natural logarithm of the magnification
    gain, offset : (...), of the grey value
    """

    angle: Tensor
    shift: Tensor
    log_scale: Tensor
    gain: Tensor
    offset: Tensor

    @classmethod
    def of(
        cls,
        angle: Tensor,
        shift: Tensor | None = None,
        log_scale: Tensor | None = None,
        gain: Tensor | None = None,
        offset: Tensor | None = None,
    ) -> Pose2D:
        """A pose in which everything that is not given is the identity."""
        zero = torch.zeros_like(angle)
        return cls(
            angle=angle,
            shift=zero[..., None].expand(*angle.shape, 2) if shift is None else shift,
            log_scale=zero if log_scale is None else log_scale,
            gain=torch.ones_like(angle) if gain is None else gain,
            offset=zero if offset is None else offset,
        )

    @classmethod
    def identity(
        cls, *shape: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Pose2D:
        """Poses of batch ``shape`` that change nothing."""
        return cls.of(torch.zeros(shape, device=device, dtype=dtype))

    @classmethod
    def from_relion(cls, psi: Tensor, origin: Tensor) -> Pose2D:
        """From rlnAnglePsi (n,) in degree and the origin (n, 2) = (rlnOriginX, rlnOriginY) in pixel.

        RELION shifts the image by the origin and then rotates it by psi to reach the reference; a pose goes the
        other way, from the reference to the image.
        """
        return cls.of(torch.deg2rad(-psi), -origin)

    def to_relion(self) -> tuple[Tensor, Tensor]:
        """rlnAnglePsi (...) in degree within (-180, 180], and the origin (..., 2) in pixel."""
        psi = torch.rad2deg(wrap(-self.angle))
        return torch.where(psi <= -180.0, psi + 360.0, psi), -self.shift

    @property
    def shape(self) -> torch.Size:
        """The batch shape."""
        return self.angle.shape

    def __len__(self) -> int:
        return len(self.angle)

    def __getitem__(self, index: Any) -> Pose2D:
        """The poses at ``index`` of the batch axes."""
        return self.each(lambda field: field[index])

    def each(self, change: Callable[[Tensor], Tensor]) -> Pose2D:
        """The pose with ``change`` applied to every field; it must act on the leading axes only."""
        return Pose2D(**{f.name: change(getattr(self, f.name)) for f in fields(self)})

    def to(self, target: torch.device | torch.dtype | str) -> Pose2D:
        """The same poses on another device or in another precision."""
        return self.each(lambda field: field.to(target))

    def detach(self) -> Pose2D:
        """The same poses without gradient."""
        return self.each(Tensor.detach)

    def on_grid(self, factor: float) -> Pose2D:
        """The same poses for images resampled by ``factor`` (new box / old box): shifts are multiplied by it."""
        return Pose2D(self.angle, self.shift * factor, self.log_scale, self.gain, self.offset)

    def compose(self, first: Pose2D) -> Pose2D:
        """The pose that applies ``first``, then this one."""
        return Pose2D(
            angle=self.angle + first.angle,
            shift=self.log_scale.exp()[..., None] * rotate(first.shift, self.angle) + self.shift,
            log_scale=self.log_scale + first.log_scale,
            gain=self.gain * first.gain,
            offset=self.gain * first.offset + self.offset,
        )

    def inverse(self) -> Pose2D:
        """The pose that undoes this one; a gain of zero gives infinities."""
        return Pose2D(
            angle=-self.angle,
            shift=-(-self.log_scale).exp()[..., None] * rotate(self.shift, -self.angle),
            log_scale=-self.log_scale,
            gain=1 / self.gain,
            offset=-self.offset / self.gain,
        )

    def map(self) -> ImageMap:
        """The affine map of the plane and of the grey value."""
        cos, sin = torch.cos(self.angle), torch.sin(self.angle)
        rotation = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
        return ImageMap(self.log_scale.exp()[..., None, None] * rotation, self.shift, self.gain, self.offset)

    def distance(self, other: Pose2D) -> tuple[Tensor, Tensor]:
        """Angle between the two rotations, radian in [0, pi], and distance of the two shifts, pixel."""
        return wrap(self.angle - other.angle).abs(), (self.shift - other.shift).norm(dim=-1)


def wrap(angle: Tensor) -> Tensor:
    """The same angle within [-pi, pi); the gradient is that of ``angle``."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def rotate(points: Tensor, angle: Tensor) -> Tensor:
    """``R(angle) @ points`` for points (..., 2) = (x, y) and angles (...) in radian."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y = points.unbind(-1)
    return torch.stack([cos * x - sin * y, sin * x + cos * y], -1)
