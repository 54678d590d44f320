"""Rotations of space as unit quaternions: algebra, RELION's Euler angles, grids, small steps and symmetry groups.

A quaternion is the last axis of a tensor (..., 4) = (w, x, y, z) of length 1; ``q`` and ``-q`` are the same rotation.
It turns the point ``p`` = (x, y, z) into ``matrix(q) @ p``. Angles are radian unless a name says degrees.
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

from napari_harmony.errors import InputError

#: The number that a super-Fibonacci spiral on the 3-sphere turns by: the real root of psi^4 = psi + 4 above 1.
_SUPER_FIBONACCI = 1.533751168755204288118041
_LARGEST_ORDER = 100  # of a symmetry axis: nothing that is known to turn has more


def identity(*shape: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """Rotations (*shape, 4) that change nothing."""
    one = torch.tensor([1.0, 0.0, 0.0, 0.0], device=device, dtype=dtype)
    return one.expand(*shape, 4)


def normalise(quaternion: Tensor) -> Tensor:
    """Quaternions (..., 4) of length 1; what is shorter than 1e-12 stays as short as it is."""
    return torch.nn.functional.normalize(quaternion, dim=-1)


def canonical(quaternion: Tensor) -> Tensor:
    """Of ``q`` and ``-q`` the one whose first component that is not 0 is positive: (..., 4)."""
    first = (quaternion != 0).to(torch.int8).argmax(-1, keepdim=True)
    return torch.where(quaternion.gather(-1, first) < 0, -quaternion, quaternion)


def multiply(second: Tensor, first: Tensor) -> Tensor:
    """The rotation that applies ``first``, then ``second``: (..., 4); leading axes broadcast."""
    a, b, c, d = second.unbind(-1)
    w, x, y, z = first.unbind(-1)
    return torch.stack(
        [
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        ],
        -1,
    )


def inverse(quaternion: Tensor) -> Tensor:
    """The opposite rotations, (..., 4)."""
    return quaternion * quaternion.new_tensor([1.0, -1.0, -1.0, -1.0])


def rotate_points(quaternion: Tensor, points: Tensor) -> Tensor:
    """Points (..., 3) = (x, y, z), one per rotation (..., 4), turned; leading axes broadcast."""
    axis = quaternion[..., 1:]
    axis, points = torch.broadcast_tensors(axis, points)
    half = torch.linalg.cross(axis, points, dim=-1)
    return points + 2 * (quaternion[..., :1] * half + torch.linalg.cross(axis, half, dim=-1))


# -- other descriptions ---------------------------------------------------------------------------------------------


def to_matrix(quaternion: Tensor) -> Tensor:
    """Matrices (..., 3, 3) acting on (x, y, z)."""
    w, x, y, z = quaternion.unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def from_matrix(matrix: Tensor) -> Tensor:
    """Quaternions (..., 4) of rotation matrices (..., 3, 3); the matrices are not checked.

    A rotation matrix holds four times the products of the components of its quaternion; the row of the largest
    component is the one that loses no digits.
    """
    (m00, m01, m02), (m10, m11, m12), (m20, m21, m22) = (row.unbind(-1) for row in matrix.unbind(-2))
    products = [
        [1 + m00 + m11 + m22, m21 - m12, m02 - m20, m10 - m01],
        [m21 - m12, 1 + m00 - m11 - m22, m10 + m01, m02 + m20],
        [m02 - m20, m10 + m01, 1 - m00 + m11 - m22, m12 + m21],
        [m10 - m01, m02 + m20, m12 + m21, 1 - m00 - m11 + m22],
    ]
    table = torch.stack([torch.stack(row, -1) for row in products], -2)
    largest = torch.diagonal(table, dim1=-2, dim2=-1).argmax(-1)
    row = table.gather(-2, largest[..., None, None].expand(*largest.shape, 1, 4))[..., 0, :]
    return canonical(normalise(row))


def from_zyz(degrees: Tensor) -> Tensor:
    """Quaternions (..., 4) of ``Rz(rot) Ry(tilt) Rz(psi)`` for angles (..., 3) = (rot, tilt, psi) in degree.

    With RELION's angles of a particle this is the rotation of its volume back onto the reference,
    ``x_ref = R (x_vol - c + t) + c``, the transpose of the matrix that RELION calls A.
    """
    rot, tilt, psi = torch.deg2rad(degrees).unbind(-1)
    half_sum, half_difference = (rot + psi) / 2, (rot - psi) / 2
    cos, sin = torch.cos(tilt / 2), torch.sin(tilt / 2)
    parts = [
        cos * torch.cos(half_sum),
        -sin * torch.sin(half_difference),
        sin * torch.cos(half_difference),
        cos * torch.sin(half_sum),
    ]
    return torch.stack(parts, -1)


def to_zyz(quaternion: Tensor) -> Tensor:
    """Angles (..., 3) = (rot, tilt, psi) in degree: rot and psi within (-180, 180], tilt within [0, 180].

    Where tilt is 0 or 180 only the sum or the difference of rot and psi is defined; rot is then 0.
    """
    w, x, y, z = quaternion.unbind(-1)
    upright, tipped = torch.hypot(w, z), torch.hypot(x, y)
    half_sum, half_difference = torch.atan2(z, w), torch.atan2(-x, y)
    nothing = 4 * torch.finfo(quaternion.dtype).eps
    half_difference = torch.where(tipped < nothing, -half_sum, half_difference)
    half_sum = torch.where(upright < nothing, -half_difference, half_sum)
    rot, psi = half_sum + half_difference, half_sum - half_difference
    degrees = torch.rad2deg(torch.stack([rot, 2 * torch.atan2(tipped, upright), psi], -1))
    turns = torch.ceil((degrees - 180) / 360)  # none for tilt
    wrapped = degrees - 360 * turns
    # A number just above 180 may have been rounded onto it when turns were counted.
    return torch.where(wrapped > 180, wrapped - 360, wrapped)


def from_rotation_vector(vector: Tensor) -> Tensor:
    """The exponential map: turn by ``|vector|`` radian about ``vector`` (..., 3). Smooth at 0: fit for small steps."""
    angle = vector.norm(dim=-1, keepdim=True)
    return torch.cat([torch.cos(angle / 2), vector / 2 * torch.sinc(angle / (2 * math.pi))], -1)


def to_rotation_vector(quaternion: Tensor) -> Tensor:
    """The shortest vector (..., 3), radian, whose exponential map is the rotation."""
    positive = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    sine = positive[..., 1:].norm(dim=-1, keepdim=True)
    half = torch.atan2(sine, positive[..., :1])
    return positive[..., 1:] * torch.where(sine > 0, 2 * half / sine.clamp(min=1e-30), torch.full_like(half, 2.0))


def angle(quaternion: Tensor) -> Tensor:
    """How far rotations (..., 4) turn: (...), radian in [0, pi]."""
    return 2 * torch.atan2(quaternion[..., 1:].norm(dim=-1), quaternion[..., 0].abs())


def angle_between(a: Tensor, b: Tensor) -> Tensor:
    """Geodesic distance of rotations (..., 4): (...), radian in [0, pi]; leading axes broadcast."""
    return angle(multiply(inverse(a), b))


# -- sampling -------------------------------------------------------------------------------------------------------


def random_rotations(n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """``n`` rotations (n, 4), uniform in the sense of Haar, on the device of ``generator``."""
    return canonical(normalise(torch.randn(n, 4, generator=generator, device=generator.device, dtype=dtype)))


def grid_size(step_degrees: float) -> int:
    """How many rotations a grid needs so that each has a cube of edge ``step_degrees`` to itself."""
    # rotation vectors of length up to pi, measured by the geodesic angle, have the volume 8 pi^2
    return max(1, math.ceil(8 * math.pi**2 / math.radians(step_degrees) ** 3))


def rotation_grid(step_degrees: float, device: torch.device | str | None = None) -> Tensor:
    """Rotations spread evenly over all of SO(3), float32 (grid_size(step_degrees), 4); always the same ones.

    Super-Fibonacci spirals (M. Alexa, "Super-Fibonacci Spirals: Fast, Low-Discrepancy Sampling of SO(3)", CVPR
    2022): no rotation is farther than about one step from the grid, and half of all are within 0.5 steps.

    Raises InputError unless the step is between 1 and 180 degrees.
    """
    if not 1 <= step_degrees <= 180:
        raise InputError(f"angular step: {step_degrees:g} degrees is not possible; give 1 to 180.")
    n = grid_size(step_degrees)
    position = torch.arange(n, dtype=torch.float64) + 0.5
    inner, outer = torch.sqrt(position / n), torch.sqrt(1 - position / n)
    alpha, beta = (2 * math.pi * position / turn for turn in (math.sqrt(2), _SUPER_FIBONACCI))
    spiral = [inner * torch.sin(alpha), inner * torch.cos(alpha), outer * torch.sin(beta), outer * torch.cos(beta)]
    return canonical(torch.stack(spiral, -1)).to(device=device, dtype=torch.float32)


def local_grid(centre: Tensor, step_degrees: float, radius_degrees: float) -> Tensor:
    """Rotations within ``radius_degrees`` of each ``centre`` (..., 4), ``step_degrees`` apart: (..., m, 4).

    The first is the centre itself. They are a cubic lattice of rotation vectors, applied before the centre.
    """
    reach = int(radius_degrees / step_degrees + 1e-6)
    axis = torch.arange(-reach, reach + 1, dtype=torch.float64)
    lattice = torch.cartesian_prod(axis, axis, axis)
    length = lattice.norm(dim=-1)
    order = torch.argsort(length, stable=True)
    kept = order[length[order] * step_degrees <= radius_degrees * (1 + 1e-6)]
    steps = from_rotation_vector(torch.deg2rad(lattice[kept] * step_degrees)).to(centre)
    return multiply(centre[..., None, :], steps)


# -- symmetry -------------------------------------------------------------------------------------------------------


def symmetry_group(name: str, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """All rotations (g, 4) of a symmetry, the identity first.

    ``Cn``: n-fold about z. ``Dn``: besides, two-fold axes across it, one of them along x, as RELION places them.

    Raises InputError for other names.
    """
    found = re.fullmatch(r"([CD])([0-9]+)", name.strip().upper())
    order = int(found[2]) if found else 0
    if found is None or not 1 <= order <= _LARGEST_ORDER:
        raise InputError(f"symmetry: '{name}' is unknown; give C1, C2, C3 ... or D1, D2 ... (up to {_LARGEST_ORDER}).")
    half = math.pi * torch.arange(order, dtype=torch.float64) / order
    zero = torch.zeros_like(half)
    about_z = torch.stack([half.cos(), zero, zero, half.sin()], -1)
    group = about_z
    if found[1] == "D":
        across = torch.tensor([0.0, 1.0, 0.0, 0.0], dtype=torch.float64)
        group = torch.cat([about_z, multiply(about_z, across)])
    return group.to(device=device, dtype=dtype or torch.float32)


def angle_modulo(a: Tensor, b: Tensor, group: Tensor) -> Tensor:
    """The smallest angle between ``a`` and any equivalent of ``b``: (...), radian.

    ``a``, ``b`` (..., 4) take the reference to the particle, and turning the reference by an element of ``group``
    (g, 4) changes nothing: ``b`` and ``multiply(b, element)`` are the same pose.
    """
    return angle_between(a[..., None, :], multiply(b[..., None, :], group)).amin(-1)
