"""Halves of the data agree on what is there, and on noise no more than chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_data import basis_of, certain, draw, observations, templates_of

from napari_harmony.engine.halves import (
    THRESHOLD,
    Agreement,
    chance_level,
    compare_halves,
    crossing,
    judged,
    random_structure,
    ring_correlation,
    unexplained,
)
from napari_harmony.engine.search import Sums, accumulate, pose_grid
from napari_harmony.engine.work import finish

GRID = pose_grid(72, 2.0, 0.5, 1.0)
#: Shells on which decoys can differ from each other.
TELLING = 0.95


def sums_of(images: torch.Tensor, label: np.ndarray, classes: int) -> Sums:
    data = observations(images, basis_of(32, 13.0))
    return accumulate(data, certain(np.zeros(len(images)), np.zeros((len(images), 2)), label), classes)


def noise(seed: int, count: int = 60) -> torch.Tensor:
    return torch.randn(count, 32, 32, generator=torch.Generator().manual_seed(seed))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def compared(first: Sums, second: Sums) -> Agreement:
    return finish(compare_halves(basis_of(32, 13.0), 32, first, second, GRID, generator()))


def test_equal_halves_agree_everywhere() -> None:
    label = np.arange(60) % 3
    half = sums_of(5 * torch.cat([draw(k) for k in label]) + noise(0), label, 3)
    agreement = compared(half, half)
    assert agreement.frc.shape == agreement.floor.shape == (3, 13)
    assert agreement.frc.min() > 0.99
    assert agreement.significant.all()
    np.testing.assert_allclose(agreement.resolution, 13, atol=0.01)


def test_halves_of_noise_stay_within_the_floor() -> None:
    label = np.arange(60) % 3
    agreement = compared(sums_of(noise(1), label, 3), sums_of(noise(2), label, 3))
    telling = agreement.floor[0] < TELLING
    assert telling.sum() >= 5
    assert (agreement.frc <= agreement.floor)[:, telling].all()
    assert not agreement.significant.any()
    assert np.isnan(agreement.resolution).all()


def test_a_class_without_two_halves_has_no_curve() -> None:
    label = np.arange(60) % 2
    both = sums_of(5 * torch.cat([draw(k) for k in label]) + noise(0), label, 2)
    only_first = sums_of(5 * draw(0) + noise(3), np.zeros(60, dtype=int), 2)
    agreement = compared(both, only_first)
    assert agreement.significant.tolist() == [True, False]
    assert np.isfinite(agreement.frc[0]).all()
    assert np.isnan(agreement.frc[1]).all()
    assert np.isnan(agreement.resolution[1])


def test_decoys_have_the_same_spectrum_and_another_structure() -> None:
    basis = basis_of()
    c = templates_of(torch.cat([draw(0), draw(1)]), basis).coefficients
    decoy = random_structure(basis, c, generator())
    ring = basis.ring()
    for r in ring.unique():
        power = [basis.to_complex(x)[:, ring == r].abs().square().sum(1) for x in (c, decoy)]
        torch.testing.assert_close(*power)
    assert torch.cosine_similarity(decoy, c).abs().max() < 0.4


def test_halves_of_one_particle_agree_up_to_its_resolution() -> None:
    one_class = np.zeros(60, dtype=int)
    halves = [sums_of(0.8 * draw(0).expand(60, -1, -1) + noise(seed), one_class, 1) for seed in (1, 2)]
    agreement = compared(*halves)
    # In rings 2 to 4 the average has over ten times the power of its noise, beyond ring 7 less than a tenth.
    assert agreement.significant.all()
    assert agreement.frc[0, 1:4].min() > 0.85
    assert np.abs(agreement.frc[0, 7:]).max() < 0.3
    assert 5 < agreement.resolution[0] < 8
    assert (agreement.floor[0, 5:] < 0.85).all()


def test_chance_stays_below_what_can_be_passed() -> None:
    few = np.tanh(np.random.default_rng(0).normal(0.4, 0.4, (24, 1))).astype(np.float32)
    assert few.mean() + 4 * few.std() > 1 > chance_level(few)[0] > few.max()
    faint = np.random.default_rng(0).normal(0.05, 0.02, (24, 1)).astype(np.float32)
    np.testing.assert_allclose(chance_level(faint), faint.mean(0) + 4 * faint.std(0), atol=1e-3)
    assert chance_level(np.ones((6, 1), np.float32))[0] == pytest.approx(1, abs=1e-5)


def test_a_class_that_explains_no_particle_has_no_resolution() -> None:
    curves = np.ones((2, 5), np.float32)
    agreement = Agreement(curves, curves, np.array([5, 4], np.float32), np.array([True, True]))
    left = agreement.only(np.array([False, True]))
    assert left.significant.tolist() == [False, True]
    assert np.isnan(left.resolution[0])
    assert left.resolution[1] == 4


def test_particles_too_faint_one_by_one_can_show_something_together() -> None:
    curves = np.ones((2, 5), np.float32)
    agreement = Agreement(curves, curves, np.array([5, 4], np.float32), np.array([True, True]))
    label = torch.arange(1000) % 2
    margins = torch.randn(1000, generator=generator()) + 0.4 * (label == 1)
    left, junk = judged(agreement, margins, label)
    assert left.significant.tolist() == [False, True]
    assert not junk.any()
    left, junk = judged(agreement, torch.randn(1000, generator=generator()), label)
    assert not left.significant.any() and junk.float().mean() > 0.99


def test_ring_correlation_is_that_of_each_ring() -> None:
    one = torch.randn(2, 6, dtype=torch.complex64, generator=generator())
    two = torch.cat([2 * one[:, :3], -0.5 * one[:, 3:]], dim=1)
    rings = ring_correlation(one, two, torch.tensor([0, 0, 0, 1, 1, 1]), 2)
    torch.testing.assert_close(rings, torch.tensor([[1.0, -1.0], [1.0, -1.0]]))


def test_resolution_is_read_between_shells() -> None:
    # Shell i is at i + 1 cycles per box.
    curve = np.array([1.0, 0.8, THRESHOLD + 0.1, THRESHOLD - 0.1, 0.5], np.float32)
    assert crossing(curve) == pytest.approx(3.5)
    assert crossing(np.array([0.0, 0.9, 0.9], np.float32)) == 3


@pytest.mark.parametrize("seed", range(5))
def test_junk_is_told_from_particles(seed: int) -> None:
    drawn = np.random.default_rng(seed)
    junk, real = drawn.normal(0, 3, 400), drawn.normal(15, 3, 400)
    rejected = unexplained(torch.as_tensor(np.concatenate([junk, real]))).numpy()
    assert (~rejected[:400]).sum() / (~rejected).sum() < 0.03
    assert rejected[400:].mean() < 0.05


@pytest.mark.parametrize("seed", range(5))
def test_weak_particles_are_not_given_up_for_a_little_junk(seed: int) -> None:
    """Whose margins lie on both sides of zero: a cleaner rest would cost most of them."""
    weak = torch.as_tensor(np.random.default_rng(seed).normal(2.0, 1.5, 2000))
    rejected = unexplained(weak)
    threshold = float(weak[~rejected].min())
    junk = float((weak <= -threshold).sum()) / float((~rejected).sum())
    assert 0.03 < junk <= 0.05 and float(rejected.float().mean()) < 0.4


def test_of_nothing_but_junk_nothing_is_explained() -> None:
    junk = torch.randn(300, generator=generator())
    assert float(unexplained(junk).float().mean()) > 0.95
    assert unexplained(torch.zeros(10)).all()


def test_of_nothing_but_particles_all_are_explained() -> None:
    assert not unexplained(10 + torch.rand(100, generator=generator())).any()
