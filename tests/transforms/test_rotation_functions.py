"""Functions of a rotation: fitted on a grid, turned as what they tell of is turned, and compared."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_harmony.transforms import so3
from napari_harmony.transforms.rotation_functions import fitting, functions_of, functions_up_to, likeness, turned

DEGREE = 4


def rotations(count: int, seed: int) -> torch.Tensor:
    return so3.random_rotations(count, torch.Generator().manual_seed(seed), dtype=torch.float64)


def coefficients(count: int, seed: int, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, functions_up_to(DEGREE), generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("degree", "count"), [(1, 9), (2, 34), (5, 285)])
def test_there_are_as_many_as_entries_of_the_matrices(degree: int, count: int) -> None:
    assert functions_up_to(degree) == count
    assert functions_of(degree, rotations(2, 0)).shape == (2, count)


def test_coefficients_are_those_of_the_values_whatever_constant_is_added() -> None:
    grid, own = so3.rotation_grid(40.0).double(), coefficients(2, 1)
    assert len(grid) > functions_up_to(DEGREE) + 1
    values = own @ functions_of(DEGREE, grid).T + 7.0
    torch.testing.assert_close(values @ fitting(DEGREE, grid).T, own)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31))
def test_what_is_turned_looks_as_it_did_from_where_it_was_turned_from(seed: int) -> None:
    """f of a particle turned by Q, seen from R, is f of the particle seen from Q^-1 R."""
    own, turn, seen_from = coefficients(1, seed), rotations(1, seed + 1), rotations(5, seed + 2)
    after = turned(own, functions_of(DEGREE, turn)) @ functions_of(DEGREE, seen_from).T
    before = own @ functions_of(DEGREE, so3.multiply(so3.inverse(turn), seen_from)).T
    torch.testing.assert_close(after, before)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31))
def test_turns_follow_one_another_and_are_undone(seed: int) -> None:
    own, (first, second) = coefficients(1, seed), rotations(2, seed + 1)
    one, two = functions_of(DEGREE, first[None]), functions_of(DEGREE, second[None])
    both = functions_of(DEGREE, so3.multiply(second, first)[None])
    torch.testing.assert_close(turned(turned(own, one), two), turned(own, both))
    torch.testing.assert_close(turned(turned(own, one), one, backwards=True), own)


def test_likeness_is_the_product_with_the_other_turned() -> None:
    one, other, turns = coefficients(2, 1), coefficients(2, 2), rotations(3, 3)
    found = likeness(one, other) @ functions_of(DEGREE, turns).T
    for j, functions in enumerate(functions_of(DEGREE, turns)):
        torch.testing.assert_close(found[:, j], (one * turned(other, functions[None])).sum((1, 2)))


def test_the_same_turned_is_most_alike_at_its_turn() -> None:
    own, grid = coefficients(1, 5), so3.rotation_grid(25.0).double()
    for place in (0, 100, 400):
        shown = turned(own, functions_of(DEGREE, grid[place : place + 1]))
        assert int((likeness(shown, own) @ functions_of(DEGREE, grid).T).argmax()) == place
