"""Runs on images that start from the model of the package for any particles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from engine_data import run

from napari_harmony import Harmony
from napari_harmony.additions import additions_of
from napari_harmony.analysis import metrics
from napari_harmony.engine import api, costs
from napari_harmony.engine.adapt import Telling, check_adaptable, discriminants
from napari_harmony.engine.counts import LOOKING
from napari_harmony.engine.events import Done
from napari_harmony.engine.learning import cluster_content
from napari_harmony.engine.settings import Settings
from napari_harmony.errors import InputError
from napari_harmony.models import HarmonyModel
from napari_harmony.models.bundled import bundled_model
from napari_harmony.models.canonical import canonical
from napari_harmony.models.fitness import mismatch, why_not_rescaled
from napari_harmony.particles.rescale import rescaled
from napari_harmony.particles.simulate import Simulated, sample_particles

FAST = Settings(classes=5, preset="fast")


@pytest.fixture(scope="module")
def general() -> HarmonyModel:
    return HarmonyModel.load(bundled_model(2))


@pytest.fixture(scope="module")
def data() -> Simulated:
    return sample_particles(300, seed=3)


@pytest.fixture(scope="module")
def begun(general: HarmonyModel, data: Simulated) -> Done:
    """A fast run on five densities that the model has never seen."""
    return run(api.align(data.particles, FAST, model=general))


def test_unseen_contents_are_told_apart_and_aligned(begun: Done, data: Simulated) -> None:
    scores = metrics.evaluate(begun.value.table, data.truth)
    assert scores["accuracy"] > 0.9
    assert scores["rotation_under_10"] > 0.95 and scores["rotation_median"] < 3


def test_its_codes_tell_contents_apart_without_a_training(begun: Done, data: Simulated) -> None:
    label = cluster_content(begun.value.content, 5, 0)
    assert metrics.hungarian_accuracy(label + 1, data.truth["content"]) > 0.8


def test_the_model_of_the_run_is_one_of_these_particles(begun: Done, data: Simulated) -> None:
    card = begun.model.card
    assert (card.general, card.classes, card.epochs) == (False, 5, 0)
    assert card.started_from and card.particles == 300
    again = run(api.align(data.particles, FAST, model=begun.model)).value
    assert (again.table["class_number"] == begun.value.table["class_number"]).mean() > 0.95


def test_its_pictures_are_the_class_averages(begun: Done) -> None:
    model: HarmonyModel = begun.model
    assert model.templates is not None and model.mixture is not None
    drawn = canonical(model, model.mixture.means.numpy()).reshape(5, -1)
    shown = model.templates.flatten(1).numpy()
    likeness = np.corrcoef(drawn, shown)[:5, 5:]
    assert (likeness.argmax(1) == np.arange(5)).all() and likeness.diagonal().min() > 0.7


def test_stages_that_run_are_those_foretold(begun: Done, data: Simulated) -> None:
    foretold = costs.expected(data.particles, FAST, "adapt")
    assert [stage for stage in begun.value.summary["seconds"] if stage != "total"] == list(foretold)
    assert LOOKING in foretold


def test_it_takes_any_pixel_size_and_any_box_that_is_wide_enough(general: HarmonyModel, data: Simulated) -> None:
    particles = data.particles
    assert mismatch(general.card, replace(particles, pixel_size=1.3)) == ""
    assert why_not_rescaled(general.card, replace(particles, pixel_size=1.3)) == ""
    small = rescaled(particles, 2 * particles.pixel_size * particles.box / 62, 31)
    assert "31 pixels wide" in mismatch(general.card, small)
    with pytest.raises(InputError, match="31 pixels wide"):
        run(api.align(small, FAST, model=general))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": "harmony-2022"}, "harmony-2022"),
        ({"transforms": ("translation",)}, "rotation"),
        ({"transforms": ("rotation", "scale")}, "scale"),
        ({"additions": additions_of("loocc")}, "with"),
    ],
)
def test_what_cannot_be_combined_is_said(general: HarmonyModel, changes: dict[str, object], said: str) -> None:
    particles = SimpleNamespace(box=64)
    with pytest.raises(InputError, match=said):
        check_adaptable(particles, replace(FAST, **changes), general.card)  # type: ignore[arg-type]


def test_a_model_for_any_particles_is_asked_for_by_its_word(data: Simulated) -> None:
    with pytest.raises(InputError, match="'pretrained' is unknown"):
        Harmony(model="pretrained").fit(data.particles)
    with pytest.raises(InputError, match="31 pixels"):
        Harmony(model="bundled").fit(rescaled(data.particles, 10.0, 31))


def test_discriminants_separate_classes_with_unit_spread_within() -> None:
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(3).repeat(200)
    means = torch.tensor([[0.0, 0, 0, 0], [8, 0, 0, 0], [0, 4, 0, 0]])
    codes = means[label] + torch.randn(600, 4, generator=generator) * torch.tensor([2.0, 1.0, 5.0, 1.0])
    telling: Telling = discriminants(codes, label, 3)
    told = telling(codes)
    within = torch.cat([told[label == k] - told[label == k].mean(0) for k in range(3)])
    assert torch.allclose(within.T @ within / 600, torch.eye(3), atol=0.02)
    between = torch.stack([told[label == k].mean(0) for k in range(3)]).var(0)
    assert between[0] > between[1] > 20 * between[2]


def test_of_more_images_than_fit_in_memory_a_sample_is_looked_at(
    general: HarmonyModel, data: Simulated, tmp_path: Path
) -> None:
    little = replace(FAST, memory=2**20, cache=str(tmp_path))
    result = run(api.align(data.particles, little, model=general)).value
    assert {LOOKING, "placing particles"} <= set(result.summary["seconds"])
    assert metrics.evaluate(result.table, data.truth)["accuracy"] > 0.9
