"""Discovery: halves apart, every class of a half on a joint class of its own, and averages as they were drawn."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from engine_data import basis_of, certain, draw, observations, stack, templates_of, wrapped

from napari_harmony.engine.discovery import (
    Search,
    Stage,
    _carried,
    _onto,
    over_cluster,
    render_averages,
)
from napari_harmony.engine.preprocess import prepare
from napari_harmony.engine.search import Arithmetic, Observations, Posterior, accumulate, maximise
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.subsets import split
from napari_harmony.engine.work import finish

COUNT = 48


def truth() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Content, psi in degrees and origin in pixels."""
    generator = np.random.default_rng(4)
    return np.arange(COUNT) % 3, generator.uniform(-180, 180, COUNT), generator.uniform(-1.5, 1.5, (COUNT, 2))


@lru_cache
def searched() -> Search:
    """A search on drawings in little noise."""
    content, psi, origin = truth()
    images = torch.cat([draw(c, p, o) for c, p, o in zip(content, psi, origin, strict=True)])
    images = 5 * images + torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    prepared = finish(prepare(stack(images), Settings(), torch.device("cpu")))
    return Search(prepared, Arithmetic(), torch.Generator().manual_seed(0))


def placed_on(label: np.ndarray, psi: np.ndarray, count: int = 3) -> tuple[Posterior, np.ndarray]:
    """A half's posterior with these classes and poses, carried onto the true classes; and the true psi."""
    search, (content, true_psi, origin) = searched(), truth()
    basis = search.basis(11)
    target = maximise(basis, accumulate(search.prepared.observe(basis), certain(true_psi, origin, content), 3))
    found = replace(certain(psi, origin, label), class_score=torch.zeros(COUNT, count))
    return finish(_onto(search, target, basis, search, found, torch.as_tensor(content))), true_psi


def test_classes_of_a_half_find_their_joint_class_and_its_frame() -> None:
    content, psi, origin = truth()
    # The half calls content 0, 1, 2 its class 2, 0, 1, and shows each at an angle of its own.
    placed, true_psi = placed_on((content + 2) % 3, psi + np.array([40.0, -75.0, 160.0])[content])
    assert placed.label.tolist() == content.tolist()
    assert np.abs(wrapped(np.degrees(placed.psi.numpy()) - true_psi)).max() < 4
    assert np.abs(placed.shift.numpy() - origin).max() < 0.8


def test_no_two_classes_of_a_half_share_a_joint_class() -> None:
    """Even where two show the same content."""
    content, psi, _ = truth()
    label = np.full(COUNT, 2)
    label[content == 0] = np.arange(int((content == 0).sum())) % 2
    placed, _ = placed_on(label, psi)
    joint = [set(placed.label[label == k].tolist()) for k in range(3)]
    assert all(len(labels) == 1 for labels in joint)
    assert set.union(*joint) == {0, 1, 2} and 0 in joint[0] | joint[1]


def test_fewer_classes_than_joint_ones_leave_some_empty() -> None:
    content, psi, _ = truth()
    placed, _ = placed_on(np.where(content == 2, 1, 0), psi, count=2)
    assert len(set(placed.label.tolist())) == 2 and set(placed.label[content == 2].tolist()) == {2}


def test_a_carried_class_is_turned_and_moved_as_a_whole() -> None:
    """Turning and moving the sum of a class gives what summing its carried particles gives."""
    content, psi, origin = truth()
    basis, some = basis_of(limit=8.0), content == 0
    data = observations(draw(0, psi[some], origin[some]), basis)
    found = certain(psi[some], origin[some], np.zeros(some.sum(), int))
    turn, move = torch.tensor([0.7]), torch.tensor([[1.2, -0.6]])
    carried = _carried(found, torch.tensor([1]), turn, move)
    assert set(carried.label.tolist()) == {1}
    together = accumulate(data, carried, 2).total[1]
    alone = Observations(basis.synthesise(accumulate(data, found, 1).total), data.ctf_power[:1], basis, 32)
    want = basis.rotate(alone.coefficients(torch.tensor([0]), move), turn)[0]
    assert float((together - want).norm() / want.norm()) < 0.05
    still = _carried(found, torch.tensor([1]), turn, -move)
    assert float((accumulate(data, still, 2).total[1] - want).norm() / want.norm()) > 0.3


@pytest.mark.parametrize(
    ("classes", "particles", "wanted"),
    [(None, 1000, 36), (3, 1000, 9), (12, 1000, 18), (50, 2500, 75), (50, 80, 10), (None, 4, 2), (1, 10, 2)],
)
def test_halves_start_with_more_classes_than_wanted_as_far_as_particles_go(
    classes: int | None, particles: int, wanted: int
) -> None:
    assert over_cluster(classes, particles) == wanted


@pytest.mark.parametrize("count", [4, 5, 101])
def test_halves_are_apart_complete_and_drawn_anew_by_every_seed(count: int) -> None:
    first, second = split(count, torch.Generator().manual_seed(0))
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(count))
    assert len(first) - len(second) == count % 2
    assert first.tolist() == sorted(first.tolist()) and second.tolist() == sorted(second.tolist())
    draws = {tuple(split(count, torch.Generator().manual_seed(seed))[0].tolist()) for seed in range(12)}
    assert len(draws) > 3


def test_averages_are_drawn_as_they_were_given() -> None:
    images = torch.cat([draw(k) for k in range(3)])
    basis = basis_of(limit=14.0)
    drawn = render_averages(basis, templates_of(images, basis).coefficients, 32)
    for one, two in zip(drawn, images, strict=True):
        assert float(torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1]) > 0.99
    assert float(drawn.std() / images.std()) == pytest.approx(1, abs=0.05)


def test_grids_keep_to_the_transformations_and_shifts_allowed() -> None:
    search = searched()
    basis = search.basis(7)
    free = search.grid(basis, False)
    assert len(free.psi) >= 6 * 7 and float(free.shift.norm(dim=1).max()) <= search.geometry.max_shift + 1e-4
    assert len(search.grid(basis, True).shift) < len(free.shift)
    still = Search(search.prepared, search.arithmetic, search.generator, ("rotation",)).grid(basis, False)
    assert still.shift.tolist() == [[0.0, 0.0]] and len(still.psi) == len(free.psi)
    fixed = Search(search.prepared, search.arithmetic, search.generator, ("translation",)).grid(basis, False)
    assert fixed.psi.tolist() == [0.0] and len(fixed.shift) == len(free.shift)


def test_iterations_from_right_classes_keep_them_and_learn_the_spread_of_shifts() -> None:
    content, psi, origin = truth()
    search = Search(searched().prepared, Arithmetic(), torch.Generator().manual_seed(0))
    work = search.iterate((Stage(7, 1), Stage(9, 1, True)), 3, certain(psi, origin, content))
    best = finish(work).best()  # type: ignore[arg-type]
    assert (best.label.numpy() == content).mean() > 0.95
    assert search.sigma == pytest.approx(1.5 / np.sqrt(3), abs=0.35)
