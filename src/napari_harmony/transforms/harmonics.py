"""Real spherical harmonics, and how they turn: what a rotation does to a function on the sphere, as small matrices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.special import sph_harm_y
from torch import Tensor

from napari_harmony.transforms import so3

#: Directions on which matrices are solved for, per harmonic of the highest degree; any number above 1 will do.
_OVERSAMPLING = 4


def harmonics_up_to(degree: int) -> int:
    """How many harmonics there are up to and including a degree."""
    return (degree + 1) ** 2


def blocks(degree: int) -> Iterator[slice]:
    """Where the ``2 l + 1`` harmonics of each degree l stand among all."""
    return (slice(k**2, (k + 1) ** 2) for k in range(degree + 1))


def real_harmonics(degree: int, directions: Tensor) -> Tensor:
    """All real spherical harmonics up to ``degree`` in ``directions`` (m, 3), (x, y, z): float64 (m, harmonics).

    Orthonormal over the unit sphere; of degree l the orders run from -l to l. The length of a direction does not
    matter, but it must not be 0.
    """
    x, y, z = (directions.double().cpu() / directions.double().cpu().norm(dim=-1, keepdim=True)).numpy().T
    polar, azimuth = np.arccos(z.clip(-1, 1)), np.arctan2(y, x)
    columns = []
    for n in range(degree + 1):
        upper = [sph_harm_y(n, order, polar, azimuth) for order in range(n + 1)]
        # the factor (-1)^m undoes the Condon-Shortley phase
        signed = [np.sqrt(2) * (-1) ** order * value for order, value in enumerate(upper)]
        columns += [value.imag for value in reversed(signed[1:])] + [upper[0].real] + [v.real for v in signed[1:]]
    return torch.as_tensor(np.stack(columns, axis=-1))


def turning_matrices(degree: int, rotation: Tensor) -> list[Tensor]:
    """Per degree l the matrices M (r, 2 l + 1, 2 l + 1), float64, of rotations (r, 4): Y(R^T x) = M Y(x).

    A function with the coefficients a has the coefficients ``a @ M`` once it is turned by R. The matrices (Wigner's,
    in the real basis) are solved for on many directions, which is exact to rounding: turned harmonics of one degree
    are sums of those of the same degree.
    """
    count = _OVERSAMPLING * (2 * degree + 1)
    directions = so3.rotate_points(
        so3.rotation_grid(_step_for(count)).double(), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    )
    fixed = real_harmonics(degree, directions)
    back = torch.einsum("rji,kj->rki", so3.to_matrix(rotation.double().cpu()), directions)
    turned = real_harmonics(degree, back.reshape(-1, 3)).reshape(len(rotation), len(directions), -1)
    return [(torch.linalg.pinv(fixed[:, block]) @ turned[..., block]).transpose(-1, -2) for block in blocks(degree)]


def _step_for(count: int) -> float:
    """Step in degree of a grid of rotations of at least ``count`` members."""
    return float(np.rad2deg((8 * np.pi**2 / count) ** (1 / 3))) * 0.98
