"""Leakage of transformations into the content: its scale, what it sees, and what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from napari_harmony.analysis.disentanglement import angles, leak_between, leakage_of, numbers, rotations
from napari_harmony.analysis.disentanglement.leakage import FEWEST, measure_leakage

COUNT = 600


def drawn(count: int = COUNT, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes (n, 4), angles (n,) in degrees and shifts (n, 2), all independent."""
    random = np.random.default_rng(seed)
    return random.normal(size=(count, 4)), random.uniform(-180, 180, count), random.normal(size=(count, 2))


def test_independent_ones_do_not_leak() -> None:
    codes, psi, shift = drawn()
    found = leakage_of(codes, (angles("rotation", psi), numbers("shift", shift)))
    assert found is not None and found.particles == COUNT
    assert found.overall.share < 0.01 and found.overall.nats < 0.05
    assert set(found.factors) == {"rotation", "shift"}


def test_the_factor_that_leaks_is_named() -> None:
    codes, psi, shift = drawn()
    codes[:, 0] += 2 * np.cos(np.radians(psi))
    codes[:, 1] += 2 * np.sin(np.radians(psi))
    found = leakage_of(codes, (angles("rotation", psi), numbers("shift", shift)))
    assert found is not None
    assert found.factors["rotation"].share > 0.2 and found.factors["rotation"].nats > 0.6
    assert found.factors["shift"].share < 0.02
    assert found.factors["rotation"].share <= found.overall.share < found.factors["rotation"].share + 0.08


@pytest.mark.parametrize(("correlation", "share"), [(0.6, (0.02, 0.1)), (0.98, (0.4, 0.75))])
def test_nats_are_those_of_gaussians(correlation: float, share: tuple[float, float]) -> None:
    random = np.random.default_rng(1)
    one, noise = random.normal(size=(2000, 1)), random.normal(size=(2000, 1))
    two = correlation * one + np.sqrt(1 - correlation**2) * noise
    found = leak_between(one, two)
    assert found.nats == pytest.approx(-0.5 * np.log(1 - correlation**2), rel=0.3)
    assert share[0] < found.share < share[1]


def test_it_sees_what_no_line_and_no_mean_would() -> None:
    """A code that tells how far, but not which way; an angle that is doubled; a rotation in space."""
    codes, psi, shift = drawn(1000)
    codes[:, 0] = np.linalg.norm(shift, axis=1) + 0.2 * codes[:, 0]
    assert leak_between(codes, shift).share > 0.1
    codes[:, 0] = 3 * np.cos(2 * np.radians(psi)) + 0.3 * codes[:, 1]
    assert leak_between(codes, angles("psi", psi).features()).share > 0.15
    turns = Rotation.random(1000, random_state=0)
    codes[:, :3] = 3 * turns.apply([0.0, 0.0, 1.0]) + codes[:, 1:]
    found = leakage_of(codes, (rotations("rotation", turns.as_matrix()),))
    assert found is not None and found.overall.share > 0.2 and found.overall == found.factors["rotation"]


def test_neither_the_order_nor_the_units_matter() -> None:
    codes, psi, shift = drawn(400)
    codes[:, 0] += shift[:, 0]
    rows = np.random.default_rng(3).permutation(400)
    there = leakage_of(codes, (angles("rotation", psi), numbers("shift", shift)))
    back = leakage_of(codes[rows], (angles("rotation", psi[rows]), numbers("shift", shift[rows])))
    assert there == back
    assert there is not None
    scaled = leakage_of(codes * 50 - 3, (angles("rotation", psi), numbers("shift", 1e-3 * shift)))
    assert scaled is not None and scaled.factors["shift"].share == pytest.approx(there.factors["shift"].share, abs=0.02)


def test_what_cannot_leak_is_left_out() -> None:
    codes, psi, _ = drawn(200)
    same = numbers("scale", np.ones(200))
    found = leakage_of(codes, (angles("rotation", psi), same))
    assert found is not None and set(found.factors) == {"rotation"}
    assert leakage_of(codes, (same,)) is None
    assert leakage_of(np.ones((200, 3)), (angles("rotation", psi),)) is None
    assert leakage_of(codes[: FEWEST - 1], (angles("rotation", psi[: FEWEST - 1]),)) is None


def test_only_so_many_particles_are_used() -> None:
    codes, psi, _ = drawn(700)
    found = leakage_of(codes, (angles("rotation", psi),), most=300)
    assert found is not None and 200 < found.particles <= 300
    assert found.to_dict()["factors"]["rotation"]["share"] == found.overall.share


def test_others_keep_their_threads() -> None:
    """Critics learn on one thread, but never between two words of how far they are, when others compute."""
    random, before = np.random.default_rng(0), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        work = measure_leakage(random.normal(size=(200, 3)), [numbers("shift", random.normal(size=(200, 2)))])
        assert {torch.get_num_threads() for _ in work} == {2}
    finally:
        torch.set_num_threads(before)
