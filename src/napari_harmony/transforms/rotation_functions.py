"""Functions of a rotation as sums of Wigner's matrices: fitted to values on a grid, turned, and compared.

``f(R) = sum_l <C_l, M_l(R)>``, with the matrices of ``turning_matrices``. The coefficients of all degrees from 1 on
stand in one row; the constant, which says nothing of how a function lies, is left out. Where ``f`` tells of a particle
how it looks from R, a particle turned by Q has the coefficients ``C_l M_l(Q)``, for ``M(A B) = M(B) M(A)``.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from napari_harmony.transforms.harmonics import turning_matrices


def blocks_of(count: int) -> Iterator[tuple[slice, int]]:
    """Where the coefficients of each degree stand among ``count``, and how many rows its matrices have."""
    start, size = 0, 3
    while start < count:
        yield slice(start, start + size**2), size
        start, size = start + size**2, size + 2


def functions_up_to(degree: int) -> int:
    """How many coefficients there are from degree 1 up to and including ``degree``."""
    return sum((2 * k + 1) ** 2 for k in range(1, degree + 1))


def functions_of(degree: int, rotation: Tensor) -> Tensor:
    """Entries (r, k) of the matrices of rotations (r, 4), on their device: what the coefficients are factors of."""
    matrices = turning_matrices(degree, rotation)[1:]
    return torch.cat([matrix.flatten(1) for matrix in matrices], dim=1).to(rotation)


def fitting(degree: int, rotations: Tensor) -> Tensor:
    """The matrix (k, r) that makes coefficients of values on a grid of rotations (r, 4), by least squares.

    Values times its transpose, (..., r) @ (r, k), are the coefficients.
    """
    functions = functions_of(degree, rotations.double())
    constant = functions.new_ones(len(functions), 1)
    return torch.linalg.pinv(torch.cat([constant, functions], dim=1))[1:].to(rotations)


def turned(coefficients: Tensor, functions: Tensor, backwards: bool = False) -> Tensor:
    """Coefficients (n, c, k) of what is turned by the rotations whose ``functions`` (n or 1, k) are given, or back."""
    parts = []
    for block, size in blocks_of(coefficients.shape[-1]):
        own = coefficients[..., block].unflatten(-1, (size, size))
        matrix = functions[:, None, block].unflatten(-1, (size, size))
        parts.append((own @ (matrix.mT if backwards else matrix)).flatten(-2))
    return torch.cat(parts, dim=-1)


def likeness(coefficients: Tensor, others: Tensor) -> Tensor:
    """How alike (n, c, k) are to ``others`` (n, c, k) turned by a rotation: factors (n, k) of its functions.

    ``likeness(a, b) @ functions_of(degree, rotation).T`` is the sum of products of a with b turned, (n, r).
    """
    parts = []
    for block, size in blocks_of(coefficients.shape[-1]):
        # channels and rows of a block are summed over alike
        one, two = (x[..., block].unflatten(-1, (size, size)).flatten(1, 2) for x in (coefficients, others))
        parts.append((two.mT @ one).flatten(1))
    return torch.cat(parts, dim=1)
