"""Runs on subtomograms that are told to finish early: whole results that say what was left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event as Flag

import numpy as np
import pytest
from engine_data import run
from volume_data import example, subtomograms

from napari_harmony.engine import api
from napari_harmony.engine.events import Done, Event, Loss, Preview, Progress
from napari_harmony.engine.settings import Settings
from napari_harmony.outputs import load_output, write_output
from napari_harmony.results import Result

SETTINGS = Settings(classes=2, preset="fast")
COUNT = 24


def asked_in(stage: str, events: Iterator[Event], flag: Flag) -> list[Event]:
    """All events of a run that is told, in the middle of a stage, that this is enough."""
    heard = []
    for event in events:
        heard.append(event)
        if isinstance(event, Progress) and event.stage == stage:
            flag.set()
    assert flag.is_set(), f"the run has no stage '{stage}'"
    return heard


def early(result: Result) -> str:
    """The one warning that says what was left out, or nothing."""
    said = [warning for warning in result.warnings if warning.startswith("Stopped early: ")]
    assert len(said) <= 1
    return said[0] if said else ""


def assert_whole(result: Result, particles: int) -> None:
    assert len(result) == particles and np.isfinite(result.averages).all()
    assert np.isfinite(result.table.drop(columns="flags").to_numpy(float)).all()
    assert result.counts.sum() + (result.table["class_number"] == 0).sum() == particles


@pytest.mark.parametrize(
    ("stage", "said"),
    [("searching half 1 of 2", "in one half"), ("checking half 1 of 2", "were not compared")],
)
def test_a_search_ends_with_the_classes_it_has(tmp_path: Path, stage: str, said: str) -> None:
    flag, particles = Flag(), subtomograms(COUNT).particles
    events = asked_in(stage, api.align(particles, SETTINGS, enough=flag, checkpoint=tmp_path / "state"), flag)
    done = events[-1]
    assert isinstance(done, Done)
    assert_whole(done.value, COUNT)
    assert said in early(done.value) and "1 of 2 batches" in early(done.value)
    assert "comparing halves" not in {event.stage for event in events if isinstance(event, Progress)}
    assert np.isnan(done.value.resolution).all() and done.value.half_averages is None
    assert not (tmp_path / "state" / "volumes.safetensors").exists()
    write_output(tmp_path / "out", particles, done.value, model=done.model)
    again = load_output(tmp_path / "out")
    assert early(again) == early(done.value) and again.dimensions == 3
    assert any(isinstance(event, Loss) for event in events)


def test_training_ends_after_the_batch_and_leaves_the_rest_as_it_is() -> None:
    flag, particles = Flag(), subtomograms().particles
    done = asked_in("training", api.align(particles, Settings(classes=3, preset="fast"), enough=flag), flag)[-1]
    assert isinstance(done, Done)
    assert early(done.value).startswith("Stopped early: the network learned from 1 of 2 batches")
    whole = example().value
    for name in ("averages", "frc", "half_averages"):
        np.testing.assert_array_equal(getattr(done.value, name), getattr(whole, name), err_msg=name)
    np.testing.assert_array_equal(done.value.table["rot"], whole.table["rot"])


def test_cluster_and_a_model_finish_too() -> None:
    flag, particles, before = Flag(), subtomograms().particles, example()
    flag.set()
    done = run(api.cluster(particles, before.value, Settings(classes=3, preset="balanced"), enough=flag))
    assert "fewer iterations" in early(done.value) and "fewer rounds" in early(done.value)
    assert_whole(done.value, len(particles))
    done = run(api.align(particles, SETTINGS, model=before.model, enough=flag))
    assert "near those that the model proposed" in early(done.value)
    assert_whole(done.value, len(particles))


def test_the_published_objective_finishes_too() -> None:
    flag = Flag()
    flag.set()
    settings = Settings(classes=2, preset="fast", objective="harmony-2022")
    done = run(api.align(subtomograms(12).particles, settings, enough=flag))
    assert "1 of 40 batches" in early(done.value)
    assert_whole(done.value, 12)


def test_volumes_are_shown_from_the_first_iteration() -> None:
    """While half of the particles are searched, not only when classes have settled."""
    stages: dict[str, int] = {}
    stage = ""
    for event in api.align(subtomograms(COUNT).particles, SETTINGS):
        if isinstance(event, Progress):
            stage = event.stage
        elif isinstance(event, Preview):
            stages[stage] = stages.get(stage, 0) + 1
            assert event.averages.shape == (len(event.counts), 24, 24, 24)
            assert event.counts.sum() == pytest.approx(COUNT / 2 if "half" in stage else COUNT, abs=0.01)
    assert stages["searching half 1 of 2"] == 6 and {"settling classes", "refining classes"} <= set(stages)
