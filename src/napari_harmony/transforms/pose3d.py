"""The pose of a particle in its subtomogram: scale, rotation and shift, with gain and offset of the grey value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from napari_harmony.transforms import so3


@dataclass(frozen=True)
class Pose3D:
    """How the canonical volume of each particle became its subtomogram.

    In this order: scale about the centre voxel ``floor(box / 2)``, rotate about it, shift, then
    ``gain * value + offset``. A canonical point ``q`` = (x, y, z), voxels from the centre, is seen at
    ``exp(log_scale) * R(quaternion) @ q + shift``. All fields share the leading shape ``...``: (n,), or
    (n, hypotheses). Gradients pass through every method. The wedge is no part of a pose: see ``apply_coverage``.

    Attributes
    ----------
    quaternion : (..., 4), (w, x, y, z) of length 1, the rotation of the reference into the particle
    shift : (..., 3), voxel, (x, y, z)
    log_scale : (...), natural logarithm of the magnification
    gain, offset : (...), of the grey value
    """

    quaternion: Tensor
    shift: Tensor
    log_scale: Tensor
    gain: Tensor
    offset: Tensor

    @classmethod
    def of(
        cls,
        quaternion: Tensor,
        shift: Tensor | None = None,
        log_scale: Tensor | None = None,
        gain: Tensor | None = None,
        offset: Tensor | None = None,
    ) -> Pose3D:
        """A pose in which everything that is not given is the identity."""
        zero = torch.zeros_like(quaternion[..., 0])
        return cls(
            quaternion=quaternion,
            shift=zero[..., None].expand(*zero.shape, 3) if shift is None else shift,
            log_scale=zero if log_scale is None else log_scale,
            gain=torch.ones_like(zero) if gain is None else gain,
            offset=zero if offset is None else offset,
        )

    @classmethod
    def identity(
        cls, *shape: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Pose3D:
        """Poses of batch ``shape`` that change nothing."""
        return cls.of(so3.identity(*shape, device=device, dtype=dtype))

    @classmethod
    def from_relion(cls, angles: Tensor, origin: Tensor | None = None) -> Pose3D:
        """From (rot, tilt, psi) (..., 3) in degree and the origin (..., 3) = rlnOriginX, Y, Z in voxel.

        RELION shifts the volume by the origin and then turns it by R(rot, tilt, psi) to reach the reference; a pose
        goes the other way, from the reference to the volume.
        """
        return cls.of(so3.inverse(so3.from_zyz(angles)), None if origin is None else -origin)

    def to_relion(self) -> tuple[Tensor, Tensor]:
        """(rot, tilt, psi) (..., 3) in degree, rot and psi within (-180, 180], and the origin (..., 3) in voxel."""
        return so3.to_zyz(so3.inverse(self.quaternion)), -self.shift

    @property
    def shape(self) -> torch.Size:
        """The batch shape."""
        return self.log_scale.shape

    def __len__(self) -> int:
        return len(self.log_scale)

    def __getitem__(self, index: Any) -> Pose3D:
        """The poses at ``index`` of the batch axes."""
        return self.each(lambda field: field[index])

    def each(self, change: Callable[[Tensor], Tensor]) -> Pose3D:
        """The pose with ``change`` applied to every field; it must act on the leading axes only."""
        return Pose3D(**{f.name: change(getattr(self, f.name)) for f in fields(self)})

    def to(self, target: torch.device | torch.dtype | str) -> Pose3D:
        """The same poses on another device or in another precision."""
        return self.each(lambda field: field.to(target))

    def detach(self) -> Pose3D:
        """The same poses without gradient."""
        return self.each(Tensor.detach)

    def on_grid(self, factor: float) -> Pose3D:
        """The same poses for volumes resampled by ``factor`` (new box / old box): shifts are multiplied by it."""
        return replace(self, shift=self.shift * factor)

    def stepped(self, rotation_vector: Tensor, shift: Tensor) -> Pose3D:
        """Turned a little further in the frame of the particle, and moved: the step of a local refinement.

        ``rotation_vector`` (..., 3) in radian, ``shift`` (..., 3) in voxel. The shift itself is not turned.
        """
        step = so3.from_rotation_vector(rotation_vector)
        quaternion = so3.normalise(so3.multiply(step, self.quaternion))
        return replace(self, quaternion=quaternion, shift=self.shift + shift)

    def compose(self, first: Pose3D) -> Pose3D:
        """The pose that applies ``first``, then this one."""
        turned = so3.rotate_points(self.quaternion, first.shift)
        return Pose3D(
            quaternion=so3.multiply(self.quaternion, first.quaternion),
            shift=self.log_scale.exp()[..., None] * turned + self.shift,
            log_scale=self.log_scale + first.log_scale,
            gain=self.gain * first.gain,
            offset=self.gain * first.offset + self.offset,
        )

    def inverse(self) -> Pose3D:
        """The pose that undoes this one; a gain of zero gives infinities."""
        back = so3.inverse(self.quaternion)
        return Pose3D(
            quaternion=back,
            shift=-(-self.log_scale).exp()[..., None] * so3.rotate_points(back, self.shift),
            log_scale=-self.log_scale,
            gain=1 / self.gain,
            offset=-self.offset / self.gain,
        )

    def matrix(self) -> Tensor:
        """Scale and rotation as matrices (..., 3, 3) acting on (x, y, z)."""
        return self.log_scale.exp()[..., None, None] * so3.to_matrix(self.quaternion)

    def distance(self, other: Pose3D) -> tuple[Tensor, Tensor]:
        """Angle between the two rotations, radian in [0, pi], and distance of the two shifts, voxel."""
        angle = so3.angle_between(self.quaternion, other.quaternion)
        return angle, (self.shift - other.shift).norm(dim=-1)
