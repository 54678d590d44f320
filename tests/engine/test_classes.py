"""Which classes stay, which are split, and where their centres are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from engine_data import basis_of, certain, draw, observations

from napari_harmony.engine.classes import (
    WORTH,
    best_pairs,
    centred,
    eliminate,
    fair_scores,
    occupied,
    own_share,
    pool,
    relabel,
    split,
)
from napari_harmony.engine.search import Arithmetic, Posterior, accumulate, expect, maximise, pose_grid, signal_variance
from napari_harmony.engine.work import finish


def scores_of(groups: int, columns: list[int], particles: int = 90, gain: float = 40.0) -> torch.Tensor:
    """Scores of particles of ``groups`` contents under classes that show the contents named in ``columns``."""
    generator = torch.Generator().manual_seed(0)
    content = torch.arange(particles) % groups
    fits = content[:, None] == torch.tensor(columns)[None]
    return gain * fits + torch.rand(particles, len(columns), generator=generator)


def test_pairs_have_the_most_in_common_in_all() -> None:
    """The first row would rather have the second column, but the last has nothing else."""
    table = torch.tensor([[4.0, 5.0, 0.0], [0.0, 0.0, 0.0], [0.0, 5.0, 0.0]])
    rows, columns = best_pairs(table)
    assert rows.tolist() == [0, 1, 2] and columns.tolist() == [0, 2, 1]
    rows, columns = best_pairs(table[:, :2])
    assert rows.tolist() == [0, 2] and columns.tolist() == [0, 1]


@pytest.mark.parametrize("columns", [[0, 1, 2, 0, 1], [2, 2, 2, 1, 0], [7, 0, 8, 1, 2]])
@pytest.mark.parametrize("wanted", [3, None])
def test_every_content_keeps_one_class(columns: list[int], wanted: int | None) -> None:
    kept = eliminate(scores_of(3, columns), wanted)
    assert kept == sorted(kept)
    assert sorted(columns[k] for k in kept) == [0, 1, 2]


def test_fewer_classes_than_contents_are_kept_if_so_wanted() -> None:
    assert len(eliminate(scores_of(3, [0, 1, 2]), 2)) == 2
    assert len(eliminate(scores_of(3, [0, 1, 2]), 1)) == 1


def test_a_class_must_be_worth_its_place() -> None:
    assert len(eliminate(scores_of(2, [0, 1], gain=0.5 * WORTH), None)) == 1
    assert len(eliminate(scores_of(2, [0, 1], gain=2 * WORTH), None)) == 2
    assert len(eliminate(torch.randn(50, 6, generator=torch.Generator().manual_seed(0)), None)) == 1
    assert eliminate(torch.randn(5, 1), None) == [0]


def test_a_class_of_a_single_particle_is_not_worth_its_place() -> None:
    scores = scores_of(2, [0, 1, 9])
    scores[0, 2] = scores[0].max() + 2 * WORTH
    assert eliminate(scores, None) == [0, 1]


def test_a_particle_whose_class_is_dropped_is_still_looked_for_where_it_was() -> None:
    posterior = Posterior(
        particle=torch.tensor([0, 0, 1, 2]),
        label=torch.tensor([0, 1, 2, 1]),
        psi=torch.tensor([0.1, 0.2, 0.3, 0.4]),
        shift=torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 4.0], [5.0, 0.0]]),
        weight=torch.tensor([0.7, 0.3, 1.0, 1.0]),
        log_evidence=torch.zeros(3),
        class_score=torch.tensor([[9.0, 8.0, 0.0], [1.0, 2.0, 9.0], [0.0, 9.0, 0.0]]),
    )
    kept = relabel(posterior, [0, 1], 3)
    best = kept.best()
    assert best.particle.tolist() == [0, 1, 2]
    assert best.label.tolist() == [0, 1, 1]
    assert best.shift[1].tolist() == [3.0, 4.0]
    assert float(best.weight[1]) == 0
    torch.testing.assert_close(kept.class_weights(2), torch.tensor([[0.7, 0.3], [0.0, 0.0], [0.0, 1.0]]))
    moved = relabel(posterior, [2], 3)
    assert moved.best().label.tolist() == [0, 0, 0]
    assert moved.class_weights(1)[:, 0].tolist() == [0, 1, 0]


def test_a_class_that_fits_no_particle_best_goes() -> None:
    label = np.array([0, 2, 2, 3])
    posterior = certain(np.zeros(4), np.zeros((4, 2)), label)
    posterior = replace(posterior, class_score=torch.eye(4)[torch.as_tensor(label)])
    everybody, last_is_junk = torch.zeros(4, dtype=torch.bool), torch.tensor([False, False, False, True])
    kept, classes = occupied(posterior, 4, everybody)
    assert classes == 3 and kept.best().label.tolist() == [0, 1, 1, 2]
    kept, classes = occupied(posterior, 4, last_is_junk)
    assert classes == 2 and kept.best().label[:3].tolist() == [0, 1, 1]
    unchanged, classes = occupied(kept, 2, last_is_junk)
    assert unchanged is kept and classes == 2


def test_a_class_of_two_contents_splits_into_them() -> None:
    generator = np.random.default_rng(0)
    content, psi, origin = np.arange(60) % 2, generator.uniform(-180, 180, 60), generator.uniform(-2, 2, (60, 2))
    images = torch.cat([draw(c, p, o) for c, p, o in zip(content, psi, origin, strict=True)])
    noise = torch.as_tensor(generator.standard_normal(images.shape), dtype=torch.float32)
    data = observations(8 * images + noise, basis_of())
    one_class = certain(psi, origin, np.zeros(60))
    templates = maximise(data.basis, accumulate(data, one_class, 1))
    label = split(data, one_class, templates).label.numpy()
    assert set(label.tolist()) == {0, 1}
    assert max((label == content).mean(), (label != content).mean()) == 1.0


def test_a_class_of_few_particles_is_left_whole() -> None:
    data = observations(torch.cat([draw(k % 3) for k in range(7)]), basis_of())
    whole = certain(np.zeros(7), np.zeros((7, 2)), np.zeros(7))
    templates = maximise(data.basis, accumulate(data, whole, 1))
    assert not split(data, whole, templates).label.any()


def test_a_class_is_moved_to_where_its_particles_are_centred() -> None:
    generator = np.random.default_rng(1)
    psi, label = generator.uniform(-180, 180, 400), np.arange(400) % 2
    offset = np.array([[3.0, -1.0], [-2.0, 0.5]])[label]
    c, s = np.cos(np.radians(psi)), np.sin(np.radians(psi))
    # A particle turned by psi onto its class sees an offset of the class turned back by psi.
    in_image = np.stack([c * offset[:, 0] + s * offset[:, 1], c * offset[:, 1] - s * offset[:, 0]], axis=1)
    true = generator.normal(0, 1, (400, 2))
    moved = centred(certain(psi, true + in_image, label), 2)
    assert np.abs(moved.shift.numpy() - true).max() < 0.25
    again = centred(moved, 2)
    torch.testing.assert_close(again.shift, moved.shift, atol=1e-4, rtol=0)


def test_averages_do_not_depend_on_where_their_class_was_centred() -> None:
    psi = np.linspace(-180, 150, 12)
    c, s = np.cos(np.radians(psi)), np.sin(np.radians(psi))
    off = np.stack([2 * c, -2 * s], axis=1)
    data = observations(draw(0, psi), basis_of())
    placed = certain(psi, off, np.zeros(12))
    want = accumulate(data, certain(psi, np.zeros((12, 2)), np.zeros(12)), 1).total
    away = accumulate(data, placed, 1).total
    back = accumulate(data, centred(placed, 1), 1).total
    assert float(torch.cosine_similarity(back, want)) > 0.999
    assert float(torch.cosine_similarity(away, want)) < 0.9


def test_fair_scores_take_away_only_what_a_particle_gave() -> None:
    generator = torch.Generator().manual_seed(0)
    data = observations(torch.randn(20, 32, 32, generator=generator), basis_of())
    before = certain(np.zeros(20), np.zeros((20, 2)), np.arange(20) % 2)
    sums = accumulate(data, before, 2)
    templates = maximise(data.basis, sums)
    still = pose_grid(1, 0.0, 1.0, 1.0)
    after = finish(expect(data, templates, still, torch.zeros(20, 2), Arithmetic()))
    taken = after.class_score - fair_scores(data, before, after, sums, templates)
    own = torch.nn.functional.one_hot(before.label, 2).bool() & (after.best().label == before.label)[:, None]
    assert (taken[~own] == 0).all()
    assert (taken[own] > 0).all()


@pytest.mark.parametrize("count", [2, 5, 40])
def test_a_particle_owes_its_class_what_it_loses_when_left_out(count: int) -> None:
    generator = np.random.default_rng(0)
    psi = generator.uniform(-180, 180, count)
    noise = torch.as_tensor(generator.standard_normal((count, 32, 32)), dtype=torch.float32)
    data, known = (
        observations(4 * draw(0, psi) + noise, basis_of()),
        certain(psi, np.zeros((count, 2)), np.zeros(count)),
    )
    sums = accumulate(data, known, 1)
    variance = signal_variance(data.basis, sums)
    share = own_share(data, known, sums, maximise(data.basis, sums))
    seen = data.basis.rotate(data.coefficients(torch.arange(count), torch.zeros(count, 2)), known.psi)

    def score(i: int, members: torch.Tensor) -> float:
        template = maximise(data.basis, accumulate(data, known.only(members), 1), variance).coefficients[0]
        return float(seen[i] @ template - 0.5 * data.ctf_power[i] @ data.basis.radial_power(template))

    every = torch.ones(count, dtype=torch.bool)
    lost = [score(i, every) - score(i, torch.arange(count) != i) for i in range(count)]
    np.testing.assert_allclose(share.numpy(), lost, rtol=1e-3)


def test_halves_are_pooled_without_mixing_their_classes() -> None:
    first = certain([10.0, 20.0], np.zeros((2, 2)), [1, 0])
    second = certain([30.0], np.ones((1, 2)), [1])
    union = pool(first, second, (torch.tensor([2, 0]), torch.tensor([1])), 2).best()
    assert union.label.tolist() == [0, 3, 1]
    np.testing.assert_allclose(np.degrees(union.psi.numpy()), [20, 30, 10], atol=1e-4)
    assert union.shift[1].tolist() == [1.0, 1.0]
