"""Models of subtomograms from end to end: trained, kept in files, used on other particles, clustered anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from engine_data import run, stack
from gui_fakes import make_result_3d
from volume_data import prepared, subtomograms, true_poses

from napari_harmony.engine import api
from napari_harmony.engine.events import Progress
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.volumes.learning import certain, volume_card
from napari_harmony.engine.volumes.posteriors import better_of
from napari_harmony.errors import InputError
from napari_harmony.models import ContentMixture, HarmonyModel, ModelCard, build_network
from napari_harmony.results import Result
from napari_harmony.transforms import so3

pytestmark = pytest.mark.usefixtures("brief_volume_training")
FAST = Settings(classes=3, preset="fast")


@pytest.fixture(scope="module")
def model() -> HarmonyModel:
    """Classes that are the true contents, in the true frame, and a network that has learnt nothing yet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        card = replace(volume_card(prepared().geometry, FAST, 3, 48), classes=3, template_box=24)
        size = card.content
        mixture = ContentMixture(torch.zeros(3, size), torch.eye(size).repeat(3, 1, 1), torch.full((3,), 1 / 3))
        return HarmonyModel(build_network(card).eval(), card, torch.tensor(subtomograms().clean), mixture)


@pytest.fixture(scope="module")
def result() -> Result:
    """The truth as a result, with codes that tell the contents apart."""
    truth = subtomograms().truth
    made = make_result_3d(48, 3, box=24, truth=truth.rename(columns={"content": "kind"}))
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 48))
    codes = {f"content_{i}": 2.0 * (truth["content"] == i + 1) + noise[i] for i in range(2)}
    origins = {name: truth[name] for name in ("origin_x", "origin_y", "origin_z")}
    return replace(made, table=made.table.assign(**codes, **origins))


def rotations(table: pd.DataFrame) -> torch.Tensor:
    return so3.from_zyz(torch.as_tensor(table[["rot", "tilt", "psi"]].to_numpy(), dtype=torch.float32))


def test_a_model_comes_with_the_result() -> None:
    done = run(api.align(subtomograms(16).particles, replace(FAST, classes=1)))
    result, model = done.value, done.model
    assert model.card.dimensions == 3 and model.card.classes == result.classes == 1 and model.card.particles == 16
    assert model.templates is not None and model.templates.shape == (1, *[model.card.template_box] * 3)
    np.testing.assert_allclose(model.templates.numpy(), result.averages, atol=1e-5)
    assert model.mixture is not None and float(model.mixture.weights.sum()) == pytest.approx(1, abs=1e-5)
    assert result.content.shape == (16, model.card.content) and np.isfinite(result.content).all()


def test_new_particles_get_the_classes_and_the_frame_of_the_model(model: HarmonyModel, tmp_path: Path) -> None:
    """Whatever the network says: but for the preset 'fast' the search looks everywhere."""
    model.save(tmp_path)
    new = subtomograms(16, seed=7)
    found = run(api.align(new.particles, Settings(), model=HarmonyModel.load(tmp_path))).value
    assert float((found.table["class_number"] == new.truth["content"] + 1).mean()) > 0.85
    # poses as they are: no frame is taken out
    error = torch.rad2deg(so3.angle_between(rotations(found.table), true_poses(new.truth).rotation))
    assert float(error.median()) < 6
    origins = ["origin_x", "origin_y", "origin_z"]
    assert float((found.table[origins] - new.truth[origins]).abs().median().max()) < 0.5
    assert found.content.shape == (16, model.card.content) and found.averages.shape == (3, 24, 24, 24)


def test_content_is_grouped_anew(result: Result) -> None:
    events = list(api.cluster(subtomograms().particles, result, FAST))
    again, truth = events[-1].value, subtomograms().truth["content"]
    assert {e.stage for e in events if isinstance(e, Progress)} >= {"grouping", "settling classes", "refining poses"}
    assert pd.crosstab(again.table["class_number"], truth).max(axis=1).sum() >= 44 and again.classes == 3
    np.testing.assert_allclose(again.content, result.content, atol=1e-6)
    error = torch.rad2deg(so3.angle_between(rotations(again.table), true_poses(subtomograms().truth).rotation))
    assert float(error.median()) < 8


def test_a_result_of_other_particles_or_without_codes_is_refused(result: Result) -> None:
    with pytest.raises(InputError, match="48 rows, the stack 30"):
        run(api.cluster(subtomograms(30, seed=7).particles, result, FAST))
    bare = result.table.drop(columns=[name for name in result.table if str(name).startswith("content_")])
    with pytest.raises(InputError, match="no content codes"):
        run(api.cluster(subtomograms().particles, replace(result, table=bare), FAST))


def test_models_are_of_images_or_of_subtomograms(model: HarmonyModel) -> None:
    images = stack(np.random.default_rng(0).normal(size=(10, 24, 24)))
    with pytest.raises(InputError, match="The model is of subtomograms, but these are images"):
        run(api.align(images, Settings(), model=model))
    card = ModelCard(16, 10.0, 24, ("rotation",), 2, 4, 100.0, 20.0)
    flat = HarmonyModel(build_network(card).eval(), card)
    with pytest.raises(InputError, match="The model is of images, but these are subtomograms"):
        run(api.align(subtomograms().particles, FAST, model=flat))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"start": "input"}, "start: a model"), ({"references": ("one.mrc",)}, "references: a model")],
)
def test_what_a_model_decides_cannot_be_chosen(model: HarmonyModel, change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(api.align(subtomograms().particles, replace(FAST, **change), model=model))


def test_boxes_of_another_width_are_refused(model: HarmonyModel) -> None:
    wider = replace(subtomograms().particles, pixel_size=15.0)
    with pytest.raises(InputError, match="the box is 360 A wide, the model was trained on 240 A"):
        run(api.align(wider, FAST, model=model))


def test_of_two_searches_each_particle_keeps_the_better() -> None:
    one, other = (certain(so3.identity(3), torch.full((3, 3), float(i)), torch.tensor([0, 1, 0])) for i in (0, 1))
    one = replace(one, class_score=torch.tensor([[5.0, 0.0], [0.0, 1.0], [2.0, 0.0]]), log_evidence=torch.ones(3))
    other = replace(other, class_score=torch.tensor([[4.0, 4.5], [0.0, 3.0], [2.0, 1.0]]))
    both = better_of(one, other)
    assert both.particle.tolist() == [0, 1, 2]
    assert both.shift[:, 0].tolist() == [0.0, 1.0, 0.0]
    assert both.log_evidence.tolist() == [1.0, 0.0, 1.0]
    assert both.class_score.tolist() == [[5.0, 4.5], [0.0, 3.0], [2.0, 1.0]]
