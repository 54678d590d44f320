"""Orientations in three dimensions: Euler angles of RELION and Dynamo, rotation matrices, quaternions.

A rotation matrix here is always the ``R`` of ``x_ref = R (x_vol - c + t) + c`` acting on (x, y, z): it turns the volume
of a particle into the frame of its reference. It is the transpose of what RELION calls the Euler matrix ``A``, which
turns the reference into the particle. For rot = tilt = 0 it is the rotation by psi of the convention in 2D.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_ZYZ = "ZYZ"  # capitals: about the axes that turn along, R = Rz(rot) Ry(tilt) Rz(psi)
_DYNAMO = "zxz"  # small letters: about fixed axes, R = Rz(narot) Rx(tilt) Rz(tdrot)
_POLE = 1e-5  # sine of the tilt below which the two angles about z cannot be told apart


def relion_to_matrix(angles: ArrayLike) -> NDArray[np.float64]:
    """Matrices R, shape (..., 3, 3), of RELION's (rot, tilt, psi) in degrees, shape (..., 3)."""
    return _matrices(_ZYZ, angles)


def matrix_to_relion(matrices: ArrayLike) -> NDArray[np.float64]:
    """RELION's (rot, tilt, psi) in degrees, shape (..., 3), of matrices R, shape (..., 3, 3).

    tilt is in [0, 180], rot and psi in (-180, 180]. At tilt 0 or 180 only one angle about z is defined: rot is then 0.
    """
    given = np.asarray(matrices, dtype=np.float64)
    r = given.reshape(-1, 3, 3)
    tilt = np.arctan2(np.hypot(r[:, 0, 2], r[:, 1, 2]), r[:, 2, 2])
    pole = np.hypot(r[:, 0, 2], r[:, 1, 2]) < _POLE
    rot = np.where(pole, 0.0, np.arctan2(r[:, 1, 2], r[:, 0, 2]))
    psi = np.where(pole, np.arctan2(r[:, 1, 0], r[:, 1, 1]), np.arctan2(r[:, 2, 1], -r[:, 2, 0]))
    return _wrapped(np.rad2deg(np.stack([rot, tilt, psi], -1))).reshape(*given.shape[:-2], 3)


def dynamo_to_matrix(angles: ArrayLike) -> NDArray[np.float64]:
    """Matrices R, shape (..., 3, 3), of Dynamo's (tdrot, tilt, narot) in degrees, shape (..., 3)."""
    return _matrices(_DYNAMO, angles)


def matrix_to_dynamo(matrices: ArrayLike) -> NDArray[np.float64]:
    """Dynamo's (tdrot, tilt, narot) in degrees, shape (..., 3), of matrices R, shape (..., 3, 3)."""
    return relion_to_dynamo(matrix_to_relion(matrices))


def relion_to_dynamo(angles: ArrayLike) -> NDArray[np.float64]:
    """Dynamo's (tdrot, tilt, narot) of RELION's (rot, tilt, psi), both in degrees, shape (..., 3)."""
    rot, tilt, psi = np.moveaxis(np.asarray(angles, dtype=np.float64), -1, 0)
    return _wrapped(np.stack([psi - 90, tilt, rot + 90], -1))


def dynamo_to_relion(angles: ArrayLike) -> NDArray[np.float64]:
    """RELION's (rot, tilt, psi) of Dynamo's (tdrot, tilt, narot), both in degrees, shape (..., 3)."""
    tdrot, tilt, narot = np.moveaxis(np.asarray(angles, dtype=np.float64), -1, 0)
    return _wrapped(np.stack([narot - 90, tilt, tdrot + 90], -1))


def matrix_to_quaternion(matrices: ArrayLike) -> NDArray[np.float64]:
    """Unit quaternions (w, x, y, z) with w >= 0, shape (..., 4), of matrices (..., 3, 3)."""
    given = np.asarray(matrices, dtype=np.float64)
    flat = Rotation.from_matrix(given.reshape(-1, 3, 3)).as_quat(canonical=True) if given.size else np.zeros((0, 4))
    return np.roll(flat, 1, axis=-1).reshape(*given.shape[:-2], 4)


def quaternion_to_matrix(quaternions: ArrayLike) -> NDArray[np.float64]:
    """Matrices (..., 3, 3) of quaternions (w, x, y, z) of any length but 0, shape (..., 4)."""
    given = np.asarray(quaternions, dtype=np.float64)
    scalar_last = np.roll(given.reshape(-1, 4), -1, axis=-1)
    flat = Rotation.from_quat(scalar_last).as_matrix() if given.size else np.zeros((0, 3, 3))
    return np.asarray(flat.reshape(*given.shape[:-1], 3, 3))


def angular_distance(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Angle in degrees of the rotation between matrices, both (..., 3, 3)."""
    between = np.swapaxes(np.asarray(first, np.float64), -1, -2) @ np.asarray(second, np.float64)
    # the sine keeps small angles exact, where the cosine alone would lose them
    axis = np.stack([between[..., i, j] - between[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0))], -1)
    return np.rad2deg(np.arctan2(np.linalg.norm(axis, axis=-1), np.trace(between, axis1=-2, axis2=-1) - 1))


def _matrices(sequence: str, angles: ArrayLike) -> NDArray[np.float64]:
    given = np.asarray(angles, dtype=np.float64)
    if not given.size:
        return np.zeros((*given.shape[:-1], 3, 3))
    flat = Rotation.from_euler(sequence, given.reshape(-1, 3), degrees=True).as_matrix()
    return np.asarray(flat.reshape(*given.shape[:-1], 3, 3))


def _wrapped(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Degrees in (-180, 180]."""
    return 180.0 - (180.0 - angles) % 360.0
