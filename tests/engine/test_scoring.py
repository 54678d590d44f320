"""Scores in blocks and by halves of the circle are the scores of all poses, one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from engine_data import basis_of, draw, observations, templates_of
from scipy.special import jv

from napari_harmony.engine import search
from napari_harmony.engine.scoring import Arithmetic, Moves, Turned, portions
from napari_harmony.engine.search import Observations, Posterior, Templates, expect, pose_grid
from napari_harmony.engine.steerable import bessel
from napari_harmony.engine.work import finish


def noisy(count: int) -> Observations:
    generator = np.random.default_rng(0)
    images = torch.cat([draw(k % 3, 40.0 * k, (1.0, -0.5)) for k in range(count)])
    return observations(
        30 * images + torch.as_tensor(generator.standard_normal(images.shape), dtype=torch.float32), basis_of()
    )


def three() -> Templates:
    return templates_of(30 * torch.cat([draw(k) for k in range(3)]), basis_of())


def one_by_one(data: Observations, psi: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Scores (n * s, k, r) of every shift, template and rotation."""
    basis, count = data.basis, len(psi)
    rows = torch.arange(len(data)).repeat_interleave(len(shift))
    images = data.coefficients(rows, shift.repeat(len(data), 1))
    turned = basis.rotate(three().coefficients[:, None].expand(-1, count, -1), -psi[None])
    return torch.einsum("ni,kri->nkr", images, turned)


@pytest.mark.parametrize(("rotations", "halved"), [(12, True), (9, False), (1, False)])
@pytest.mark.parametrize("block", [1, 50, 10**9])
def test_the_best_rotation_is_found_in_half_of_the_products(rotations: int, halved: bool, block: int) -> None:
    data, grid = noisy(4), pose_grid(rotations, 1.0, 1.0, 1.0)
    turned = Turned.of(data.basis, three().coefficients, grid.psi)
    images = Moves.of(data.basis, grid.shift, data.box, torch.float32).analysed(data.matched)
    want = one_by_one(data, grid.psi, grid.shift)
    assert turned.halved is halved and turned.rotations == (rotations // 2 if halved else rotations)
    torch.testing.assert_close(turned.best(images, block), want.amax(2), rtol=1e-4, atol=0.02)


@pytest.mark.parametrize("rotations", [12, 9])
def test_chosen_pairs_are_scored_at_every_rotation(rotations: int) -> None:
    data, grid = noisy(4), pose_grid(rotations, 0.0, 1.0, 1.0)
    turned = Turned.of(data.basis, three().coefficients, grid.psi)
    images = Moves.of(data.basis, grid.shift, data.box, torch.float32).analysed(data.matched)
    want, label = one_by_one(data, grid.psi, grid.shift), torch.tensor([2, 0, 2, 1])
    torch.testing.assert_close(turned.each(images, label), want[range(4), label], rtol=1e-4, atol=0.02)
    every = turned.every(images[torch.arange(4).expand(3, -1)])
    torch.testing.assert_close(every, want.transpose(0, 1), rtol=1e-4, atol=0.02)


def test_coarse_products_choose_and_exact_ones_decide() -> None:
    """What is kept has the rounding of its coefficients alone; each of these products would be rounded to 16 or 32."""
    data, grid = noisy(12), pose_grid(60, 2.0, 0.75, 1.0)
    exact, coarse = (
        finish(expect(data, three(), grid, torch.zeros(12, 2), Arithmetic(kind)))
        for kind in (torch.float32, torch.bfloat16)
    )
    assert torch.equal(torch.unique(coarse.particle), torch.arange(12))
    assert coarse.best().label.tolist() == exact.best().label.tolist()
    assert float(exact.log_evidence.min()) > 500
    # Rounding of the coefficients averages out, but for now and then a neighbouring shift.
    assert float((coarse.log_evidence / exact.log_evidence - 1).abs().median()) < 3e-3
    torch.testing.assert_close(coarse.class_score, exact.class_score, rtol=0.05, atol=20.0)


def test_a_batch_takes_no_more_than_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    data, grid, score = noisy(12), pose_grid(12, 2.0, 0.5, 1.0), search._score
    sizes: list[int] = []

    def noted(*arguments: object) -> Posterior:
        sizes.append(len(arguments[-1]))  # type: ignore[arg-type]
        return score(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(search, "_score", noted)
    found = []
    for memory in (2**28, 2**18, 1):
        sizes.clear()
        found.append(finish(expect(data, three(), grid, torch.zeros(12, 2), Arithmetic(memory=memory))))
        coefficients = 4 * len(grid.shift) * data.basis.size
        assert max(sizes) == 1 or max(sizes) * coefficients < memory
        assert max(sizes) == {2**28: 12, 1: 1}.get(memory, max(sizes))
    for other in found[1:]:
        torch.testing.assert_close(other.log_evidence, found[0].log_evidence, rtol=1e-4, atol=1e-2)


def test_bessel_functions_are_those_of_scipy() -> None:
    x = np.geomspace(1e-6, 120, 300).reshape(10, 30)
    assert np.abs(bessel(90, x) - jv(np.arange(90)[:, None, None], x)).max() < 1e-13
    assert bessel(2, np.array([math.pi])).shape == (2, 1)


def test_portions_cover_everything_once() -> None:
    assert [(p.start, p.stop) for p in portions(5, 2)] == [(0, 2), (2, 4), (4, 5)]
    assert list(portions(0, 3)) == []
