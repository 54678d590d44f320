"""Whole runs with further objectives: classes and poses stay, codes change, models are saved, stopped runs go on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from engine_data import run, simulated

from napari_harmony.additions import ADDITIONS, additions_of
from napari_harmony.engine import api, schedule
from napari_harmony.engine.events import Done
from napari_harmony.engine.settings import Settings
from napari_harmony.models import HarmonyModel
from napari_harmony.results import content_columns

PLAIN = Settings(classes=3, preset="fast")
ALL = replace(PLAIN, additions=additions_of(",".join(ADDITIONS)))


@pytest.fixture(scope="module")
def short(brief_training: None) -> Iterator[None]:
    """Three batches: enough to see that something is added, not what it is good for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(schedule.ADDED_STEPS, "fast", 3)
        yield


@pytest.fixture(scope="module")
def plain(short: None) -> Done:
    return run(api.align(simulated(40).particles, PLAIN))


@pytest.fixture(scope="module")
def added(short: None) -> Done:
    return run(api.align(simulated(40).particles, ALL))


def test_classes_and_poses_do_not_depend_on_what_is_added(plain: Done, added: Done) -> None:
    codes = content_columns(plain.value.table.columns)
    one, two = plain.value.table, added.value.table
    pd.testing.assert_frame_equal(one.drop(columns=codes), two.drop(columns=codes), check_exact=True)
    assert not one[codes].equals(two[codes])


def test_the_card_of_a_saved_model_says_what_was_added(added: Done, tmp_path: Path) -> None:
    added.model.save(tmp_path)
    loaded = HarmonyModel.load(tmp_path)
    assert loaded.card.additions == tuple(ADDITIONS)
    particles = simulated(40).particles
    there, back = (run(api.align(particles, PLAIN, model=model)).value for model in (added.model, loaded))
    pd.testing.assert_frame_equal(there.table, back.table, check_exact=True)


def test_a_training_with_all_of_them_that_was_stopped_goes_on(added: Done, tmp_path: Path) -> None:
    events = api.align(simulated(40).particles, ALL, checkpoint=tmp_path)
    while not (tmp_path / "training.safetensors").exists():
        next(events)
    events.close()
    resumed = run(api.align(simulated(40).particles, ALL, checkpoint=tmp_path, resume=True))
    pd.testing.assert_frame_equal(resumed.value.table, added.value.table, check_exact=True)


def test_the_summary_tells_how_they_went(added: Done) -> None:
    traces = added.value.summary["traces"]
    assert {name.split(".")[0] for name in traces} >= {"independence", "diffusion"}
