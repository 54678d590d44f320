"""Navigation of a finished run: a small network whose decoder draws from its code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from napari_harmony.analysis.navigation import Navigation
from napari_harmony.engine.events import Done, Progress
from napari_harmony.engine.navigate import codes_of, navigation_of
from napari_harmony.errors import InputError
from napari_harmony.models import HarmonyModel, ModelCard, build_network
from napari_harmony.results import COLUMNS, COLUMNS_3D, Result


def model_of(dimensions: int = 2, content: int = 3) -> HarmonyModel:
    """A network as it is before training; its decoder's last layer is made large, so that it draws something."""
    box = 16
    card = ModelCard(
        box=box,
        pixel_size=5.0,
        original_box=box,
        transforms=("rotation", "translation"),
        content=content,
        hypotheses=4,
        mask_diameter=70.0,
        max_shift=10.0,
        dimensions=dimensions,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(card).eval()
    with torch.no_grad():
        network.decoder[-1].weight.mul_(20)
    return HarmonyModel(network, card)


def result_of(dimensions: int = 2, content: int = 3, count: int = 60) -> Result:
    generator = np.random.default_rng(0)
    columns = COLUMNS if dimensions == 2 else COLUMNS_3D
    table = pd.DataFrame({name: np.zeros(count) for name in columns})
    table["class_number"] = np.arange(count) % 3  # 0: no class
    table["flags"] = ""
    for k in range(content):
        table[f"content_{k}"] = generator.normal(size=count) * (table["class_number"] > 0)
    nothing = np.zeros((2, 4), np.float32)
    averages = np.zeros((2, *[16] * dimensions), np.float32)
    return Result(table, averages, 5.0, nothing, nothing, nothing[0], nothing[:, 0], 5.0)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_run_of_events_that_ends_with_directions(dimensions: int) -> None:
    model, result = model_of(dimensions), result_of(dimensions)
    *before, last = navigation_of(model, result, steps=3, device="cpu")
    assert isinstance(last, Done) and isinstance(last.value, Navigation) and last.model is model
    assert 1 <= len(last.value) <= 3 and len(last.value.tracking.directions) == len(last.value)
    fractions = [event.fraction for event in before if isinstance(event, Progress)]
    assert len(fractions) == 4 and fractions == sorted(fractions)
    assert all(parameter.grad is None for parameter in model.network.parameters())  # the model is not trained


def test_the_number_of_directions_and_the_class_can_be_chosen() -> None:
    model, result = model_of(), result_of()
    *_, last = navigation_of(model, result, directions=2, class_number=1, steps=2, device="cpu")
    assert len(last.value) == 2
    members = result.table["class_number"].to_numpy() == 1
    np.testing.assert_allclose(last.value.centre, result.content[members].mean(axis=0), atol=1e-6)


def test_particles_without_a_class_or_a_code_are_left_out() -> None:
    model, result = model_of(), result_of()
    assert len(codes_of(model, result)) == 40
    table = result.table.copy()
    table.loc[1, "content_0"] = np.nan
    assert len(codes_of(model, result.with_table(table))) == 39


def test_what_does_not_belong_together_is_refused() -> None:
    model, result = model_of(), result_of()
    with pytest.raises(InputError, match="content codes of 3 numbers in 2D, the result of 4 in 2D"):
        next(navigation_of(model, result_of(content=4)))
    with pytest.raises(InputError, match="of 3 in 3D"):
        next(navigation_of(model, result_of(dimensions=3)))
    with pytest.raises(InputError, match="no class 3"):
        next(navigation_of(model, result, class_number=3))
    with pytest.raises(InputError, match="directions is 4"):
        list(navigation_of(model, result, directions=4, device="cpu"))
    still = replace(result, table=result.table.assign(content_0=0.0, content_1=0.0, content_2=0.0))
    with pytest.raises(InputError, match="never vary"):
        list(navigation_of(model, still, device="cpu"))
    with pytest.raises(InputError, match="Fewer than two"):
        next(navigation_of(model, result.with_table(result.table.assign(class_number=0))))
