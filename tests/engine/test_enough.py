"""Runs that are told to finish early: whole results that say what was left out, and no difference where none are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event as Flag
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from engine_data import run, simulated

from napari_harmony.engine import api, learning, schedule
from napari_harmony.engine.enough import Enough
from napari_harmony.engine.events import Done, Event, Loss, Progress
from napari_harmony.engine.settings import Settings
from napari_harmony.outputs import load_output, write_output
from napari_harmony.particles.simulate import Simulated
from napari_harmony.results import Result

if TYPE_CHECKING:
    from conftest import Example

FAST = Settings(classes=3, preset="fast")


@pytest.fixture(scope="module")
def few(brief_training: None) -> Iterator[Simulated]:
    """Enough particles for a run; the network learns them in three passes of a batch each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(schedule.EPOCHS, "fast", (3, 3))
        yield simulated(60)


def asked_in(stage: str, events: Iterator[Event], flag: Flag) -> list[Event]:
    """All events of a run that is told, in the middle of a stage, that this is enough."""
    heard = []
    for event in events:
        heard.append(event)
        if isinstance(event, Progress) and event.stage == stage:
            flag.set()
    assert flag.is_set(), f"the run has no stage '{stage}'"
    return heard


def stages_of(events: list[Event]) -> list[str]:
    return list(dict.fromkeys(event.stage for event in events if isinstance(event, Progress)))


def early(result: Result) -> str:
    """The one warning that says what was left out, or nothing."""
    said = [warning for warning in result.warnings if warning.startswith("Stopped early: ")]
    assert len(said) <= 1
    return said[0] if said else ""


def assert_whole(result: Result, particles: int, classes: int) -> None:
    """All outputs are there, and numbers where there must be."""
    assert len(result) == particles and 1 <= result.classes <= classes
    assert np.isfinite(result.averages).all() and (result.averages.std(axis=(1, 2)) > 0).all()
    assert np.isfinite(result.table.drop(columns="flags").to_numpy(float)).all()
    assert result.counts.sum() + (result.table["class_number"] == 0).sum() == particles
    assert result.frc.shape[0] == result.resolution.shape[0] == result.classes


@pytest.mark.parametrize(
    ("stage", "missing", "said"),
    [
        ("searching half 1 of 2", ["searching half 2 of 2", "checking half 1 of 2"], "in one half"),
        ("searching half 2 of 2", ["checking half 1 of 2", "checking half 2 of 2"], "were not compared"),
        ("settling classes", ["checking half 1 of 2"], "were not compared"),
        ("checking half 2 of 2", [], "were not compared"),
    ],
)
def test_a_search_ends_with_the_classes_it_has(
    few: Simulated, tmp_path: Path, stage: str, missing: list[str], said: str
) -> None:
    flag = Flag()
    events = asked_in(stage, api.align(few.particles, FAST, enough=flag, checkpoint=tmp_path / "state"), flag)
    done = events[-1]
    assert isinstance(done, Done)
    assert_whole(done.value, 60, 3)
    assert not set(missing) & set(stages_of(events))
    assert said in early(done.value) and "1 of 3 batches" in early(done.value)
    assert np.isnan(done.value.resolution).all() and np.isnan(done.value.frc).all()
    assert not done.value.table["flags"].str.contains("junk").any()
    # What is searched again later is searched to the end.
    assert not (tmp_path / "state" / "search.safetensors").exists()


def test_a_result_that_was_stopped_early_is_saved_and_says_so(few: Simulated, tmp_path: Path) -> None:
    flag = Flag()
    done = asked_in("searching half 1 of 2", api.align(few.particles, FAST, enough=flag), flag)[-1]
    assert isinstance(done, Done)
    write_output(tmp_path / "out", few.particles, done.value, model=done.model)
    again = load_output(tmp_path / "out")
    assert early(again) == early(done.value) != ""
    np.testing.assert_array_equal(again.table["class_number"], done.value.table["class_number"])


def test_training_ends_after_the_batch(few: Simulated) -> None:
    flag, whole = Flag(), run(api.align(few.particles, FAST))
    events = asked_in("training", api.align(few.particles, FAST, enough=flag), flag)
    done, steps = events[-1], [event for event in events if isinstance(event, Loss)]
    assert isinstance(done, Done) and [step.done for step in steps] == [1]
    assert early(done.value) == (
        "Stopped early: the network learned from 1 of 3 batches, so that its content codes say less."
    )
    assert done.model.card.epochs == 0 and whole.model.card.epochs == 3
    assert not done.model.network.training
    # All that is not the network's is as without.
    columns = [name for name in whole.value.table if not name.startswith("content_")]
    pd.testing.assert_frame_equal(done.value.table[columns], whole.value.table[columns], check_exact=True)
    np.testing.assert_array_equal(done.value.frc, whole.value.frc)


def test_where_nothing_is_left_out_nothing_is_said(few: Simulated) -> None:
    flag, whole = Flag(), run(api.align(few.particles, FAST, enough=Flag()))
    done = asked_in("refining poses", api.align(few.particles, FAST, enough=flag), flag)[-1]
    assert isinstance(done, Done) and early(done.value) == early(whole.value) == ""
    pd.testing.assert_frame_equal(done.value.table, whole.value.table, check_exact=True)
    np.testing.assert_array_equal(done.value.averages, whole.value.averages)


def test_fit_cluster_and_a_model_finish_too(example: Example) -> None:
    flag, particles = Flag(), example.data.particles
    events = asked_in("searching half 1 of 2", api.fit(particles, FAST, enough=flag), flag)
    assert events[-1].value.card.classes <= 3  # type: ignore[union-attr]
    done = run(api.cluster(particles, example.result, FAST, enough=flag))
    assert "fewer iterations" in early(done.value)
    assert_whole(done.value, 120, 3)
    done = run(api.align(particles, Settings(), model=example.model, enough=flag))
    assert "near those that the model proposed" in early(done.value)
    assert_whole(done.value, 120, 3)


def test_the_published_objective_finishes_too(few: Simulated) -> None:
    flag = Flag()
    flag.set()
    done = run(api.align(few.particles, Settings(classes=2, preset="fast", objective="harmony-2022"), enough=flag))
    assert "1 of 2 batches" in early(done.value)
    assert_whole(done.value, 60, 2)


def test_the_loss_is_told_while_the_network_trains(few: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "LOSS_EVERY", 0.0)
    events = list(api.fit(few.particles, FAST))
    losses = [event for event in events if isinstance(event, Loss)]
    assert [(loss.done, loss.total) for loss in losses] == [(1, 3), (2, 3), (3, 3)]
    assert all(np.isfinite([loss.value, *loss.parts.values()]).all() and loss.parts for loss in losses)
    assert not any("." in name for loss in losses for name in loss.parts)
    trained = [i for i, event in enumerate(events) if isinstance(event, Progress) and event.stage == "training"]
    assert all(trained[0] < events.index(loss) < trained[-1] + 1 for loss in losses)


def test_the_loss_is_told_ten_times_a_second_and_at_the_end(few: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "LOSS_EVERY", 1e6)
    losses = [event for event in api.fit(few.particles, FAST) if isinstance(event, Loss)]
    assert [loss.done for loss in losses] == [1, 3]


def test_what_is_left_out_is_said_once() -> None:
    flag = Flag()
    enough = Enough(flag)
    assert not enough.leave_out("one", "one thing") and enough.warnings == []
    flag.set()
    assert all(enough.leave_out("one", "one thing") for _ in range(2)) and enough.leave_out("two", "and another")
    assert enough.warnings == ["Stopped early: one thing; and another."]
    assert enough.left_out("one") and not enough.left_out("three")
    assert not Enough().leave_out("one", "one thing")
