"""Real spherical harmonics: orthonormal, known at low degree, and turned as functions are."""

from __future__ import annotations

import math

import pytest
import torch

from napari_harmony.transforms import so3
from napari_harmony.transforms.harmonics import blocks, harmonics_up_to, real_harmonics, turning_matrices


def _directions(n: int, seed: int = 0) -> torch.Tensor:
    points = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return points / points.norm(dim=1, keepdim=True)


def test_low_degrees_are_those_of_the_tables() -> None:
    points = _directions(20)
    x, y, z = points.T
    values = real_harmonics(2, 3.0 * points)
    root = math.sqrt(3 / (4 * math.pi))
    assert torch.allclose(values[:, 0], torch.full_like(x, math.sqrt(1 / (4 * math.pi))))
    assert torch.allclose(values[:, 1:4], root * torch.stack([y, z, x], 1))
    assert torch.allclose(values[:, 6], math.sqrt(5 / (16 * math.pi)) * (3 * z**2 - 1))


def test_they_are_orthonormal_over_the_sphere() -> None:
    points = _directions(200_000)
    values = real_harmonics(4, points)
    product = 4 * math.pi * values.T @ values / len(points)
    assert torch.allclose(product, torch.eye(25, dtype=torch.float64), atol=0.03)


@pytest.mark.parametrize("degree", [0, 1, 5, 8])
def test_matrices_turn_functions(degree: int) -> None:
    generator = torch.Generator().manual_seed(1)
    rotation = so3.random_rotations(3, generator, dtype=torch.float64)
    points = _directions(40)
    a = torch.randn(harmonics_up_to(degree), generator=generator, dtype=torch.float64)
    matrices = turning_matrices(degree, rotation)
    for r in range(3):
        back = so3.rotate_points(so3.inverse(rotation[r]), points)
        expected = real_harmonics(degree, back) @ a
        turned = torch.cat([a[block] @ m[r] for block, m in zip(blocks(degree), matrices, strict=True)])
        assert torch.allclose(real_harmonics(degree, points) @ turned, expected, atol=1e-9)


def test_matrices_are_orthogonal_and_a_representation() -> None:
    generator = torch.Generator().manual_seed(2)
    a, b = so3.random_rotations(2, generator, dtype=torch.float64)
    m = [turning_matrices(3, q[None])[3][0] for q in (a, b, so3.multiply(b, a))]
    assert torch.allclose(m[0] @ m[0].T, torch.eye(7, dtype=torch.float64), atol=1e-9)
    # Turned by a, then by b: the coefficients are multiplied from the right in that order.
    assert torch.allclose(m[0] @ m[1], m[2], atol=1e-9)
