"""Half sets as the input names them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from engine_data import simulated, stack

from napari_harmony.engine.discovery import Search, discover
from napari_harmony.engine.plans import PLANS
from napari_harmony.engine.preprocess import prepare
from napari_harmony.engine.search import Arithmetic
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.subsets import COLUMN, split, subsets_of
from napari_harmony.engine.work import finish
from napari_harmony.particles.dataset import Particles


def named(values: object, count: int = 12) -> Particles:
    """Particles of noise with a column of half sets."""
    noise = np.random.default_rng(0).normal(size=(count, 16, 16))
    return replace(stack(noise), table=pd.DataFrame({COLUMN: values}, index=pd.RangeIndex(count)))


@pytest.mark.parametrize("values", [[1] * 5 + [2] * 7, ["1"] * 5 + ["2"] * 7, [1.0] * 5 + [2.0] * 7])
def test_particles_of_a_subset_stay_together(values: list[object]) -> None:
    subset = subsets_of(named(values))
    assert subset is not None
    first, second = split(12, torch.Generator(), subset)
    assert first.tolist() == list(range(5)) and second.tolist() == list(range(5, 12))


@pytest.mark.parametrize("values", [[1] * 12, [1, 2, 0] * 4, [1, 2, np.nan] * 4, [1, 2, 3] * 4, ["one", "two"] * 6])
def test_a_column_that_leaves_some_particle_out_names_no_halves(values: list[object]) -> None:
    assert subsets_of(named(values)) is None


def test_without_a_column_or_with_too_few_of_one_subset_chance_decides() -> None:
    assert subsets_of(stack(np.zeros((12, 16, 16)))) is None
    for subset in (None, np.array([1, 2, 2] + [2] * 9)):
        first, second = split(12, torch.Generator().manual_seed(0), subset)
        assert len(first) == len(second) == 6


def test_subsets_follow_the_particles_that_can_be_used() -> None:
    values = np.array([1, 2] * 6)
    prepared = finish(prepare(named(values), Settings(), torch.device("cpu")))
    rows = torch.tensor([7, 2, 5, 0])
    np.testing.assert_array_equal(prepared.subset(rows).subset_number, values[rows.numpy()])


def test_a_search_keeps_to_the_subsets(monkeypatch: pytest.MonkeyPatch) -> None:
    data = simulated(40).particles
    values = 1 + (np.arange(40) >= 15)
    particles = replace(data, table=data.table.assign(**{COLUMN: values}))
    prepared = finish(prepare(particles, Settings(), torch.device("cpu")))
    search, whole, halves = Search(prepared, Arithmetic(), torch.Generator().manual_seed(0)), Search.part, []

    def part(self: Search, rows: torch.Tensor) -> Search:
        halves.append(rows.tolist())
        return whole(self, rows)

    monkeypatch.setattr(Search, "part", part)
    for _ in discover(search, 3, PLANS["fast"]):
        if halves:
            break
    assert halves == [list(range(15)), list(range(15, 40))]
