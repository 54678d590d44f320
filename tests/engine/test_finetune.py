"""Further training of a model: classes and their frames stay, the network and the averages change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from engine_data import run
from volume_data import example as volume_example
from volume_data import subtomograms

from napari_harmony.analysis import metrics
from napari_harmony.engine import api
from napari_harmony.engine.events import Done, Progress
from napari_harmony.engine.finetune import tuning_settings
from napari_harmony.engine.settings import Settings
from napari_harmony.errors import InputError
from napari_harmony.models import HarmonyModel
from napari_harmony.particles.rescale import rescaled
from napari_harmony.particles.subset import subset

QUICK = Settings(preset="fast")


@pytest.fixture(scope="module")
def tuned(example) -> HarmonyModel:
    """The example's model after more training on the particles of all classes but the third."""
    members = np.flatnonzero(example.result.table["class_number"].isin([1, 2]))
    return run(api.fit(subset(example.data.particles, members), QUICK, model=example.model)).value


def test_the_classes_stay_what_they_were(example, tuned: HarmonyModel) -> None:
    assert tuned.card.classes == example.model.card.classes
    before = run(api.align(example.data.particles, QUICK, model=example.model)).value
    after = run(api.align(example.data.particles, QUICK, model=tuned)).value
    same = (before.table["class_number"] == after.table["class_number"]).mean()
    turned = metrics.wrap_degrees(before.table["psi"] - after.table["psi"])
    assert same > 0.95 and np.median(np.abs(turned)) < 2  # in the same frame, not only equally well


def test_the_network_has_learned_on_and_the_old_model_has_not_changed(example, tuned: HarmonyModel) -> None:
    old, new = example.model.tensors(), tuned.tensors()
    moved = [name for name in old if name.startswith("network.") and not torch.equal(old[name], new[name])]
    assert len(moved) > 10
    near = [
        torch.nn.functional.cosine_similarity(old[n].flatten(), new[n].flatten(), 0) for n in moved if old[n].dim() > 1
    ]
    assert float(torch.stack(near).median()) > 0.5  # gone on from the old weights, not from new ones


def test_a_class_without_new_particles_keeps_its_average(example, tuned: HarmonyModel) -> None:
    gain = tuned.templates[2] / example.model.templates[2]
    assert gain.std() < 1e-3 and 0.7 < gain.mean() < 1.4  # as strong as those of the new particles
    other = tuned.templates[0] / example.model.templates[0]
    assert other.std() > 1e-3
    assert torch.equal(tuned.mixture.means[2], example.model.mixture.means[2])


def test_the_card_says_where_it_started(example, tuned: HarmonyModel) -> None:
    card, old = tuned.card, example.model.card
    assert card.started_from == old.trained_on and card.trained_on and card.trained
    assert card.particles < old.particles
    assert (card.box, card.content, card.transforms) == (old.box, old.content, old.transforms)


def test_particles_of_another_box_are_rescaled(example) -> None:
    particles = example.data.particles
    wide = rescaled(particles, 0.9 * particles.pixel_size, round(1.3 * particles.box))
    with pytest.raises(InputError, match="wide"):
        run(api.fit(wide, QUICK, model=example.model))
    model = run(api.fit(wide, QUICK, model=example.model, rescale=True)).value
    assert model.card.box * model.card.pixel_size == pytest.approx(
        example.model.card.box * example.model.card.pixel_size
    )


def test_it_says_how_far_it_is_and_can_be_ended(example) -> None:
    enough = threading.Event()
    stages: list[str] = []
    for event in api.fit(example.data.particles, QUICK, model=example.model, enough=enough):
        if isinstance(event, Progress):
            stages.append(event.stage)
            if event.stage == "training":
                enough.set()
        if isinstance(event, Done):
            assert isinstance(event.value, HarmonyModel)
    begin = ["reading", "preparing the search", "proposing", "searching", "training", "refining poses"]
    assert list(dict.fromkeys(stages))[:6] == begin


@pytest.mark.parametrize(
    ("change", "settings", "words"),
    [
        (lambda card: replace(card, objective="harmony-2022"), QUICK, "harmony-2022 cannot be trained on"),
        (lambda card: card, replace(QUICK, start="input"), "start"),
        (lambda card: card, replace(QUICK, references=("a.mrc",)), "references"),
    ],
)
def test_what_a_model_decides_cannot_be_chosen(example, change: Callable, settings: Settings, words: str) -> None:
    with pytest.raises(InputError, match=words):
        tuning_settings(settings, change(example.model.card))


def test_models_of_images_are_not_trained_on_with_subtomograms(example) -> None:
    with pytest.raises(InputError, match="subtomograms"):
        run(api.fit(subtomograms().particles, QUICK, model=example.model))


def test_models_of_subtomograms_are_trained_on(brief_volume_training: None) -> None:
    done = volume_example()
    few = subset(subtomograms().particles, np.arange(24))
    model = run(api.fit(few, QUICK, model=done.model)).value
    assert model.card.dimensions == 3 and model.card.classes == done.model.card.classes
    assert model.card.particles == 24
    before = run(api.align(few, QUICK, model=done.model)).value
    after = run(api.align(few, QUICK, model=model)).value
    assert (before.table["class_number"] == after.table["class_number"]).mean() > 0.9
