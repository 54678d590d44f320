"""What a running job says of itself, and what may be asked of it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_harmony.engine.events import Loss, Preview, Progress
from napari_harmony.errors import InputError
from napari_harmony.outputs.live import (
    AVERAGES,
    FOLDER,
    STATUS,
    Live,
    Phase,
    Request,
    ask,
    read_averages,
    read_status,
)
from napari_harmony.outputs.names import CHECKPOINT


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def live(tmp_path: Path, clock: Clock) -> Live:
    return Live(tmp_path / "out" / CHECKPOINT, clock)


def preview(value: float = 1.0, shape: tuple[int, ...] = (3, 8, 8)) -> Preview:
    return Preview(np.full(shape, value, np.float32), np.array([5.0, 2.0, 1.0], np.float32), 4)


def test_a_job_that_has_just_begun_can_be_found(live: Live, tmp_path: Path) -> None:
    status = read_status(tmp_path / "out")
    assert status.phase is Phase.RUNNING and status.process == os.getpid() and status.host
    assert read_averages(tmp_path / "out") is None


def test_progress_arrives_once_a_second(live: Live, tmp_path: Path, clock: Clock) -> None:
    live.show(Progress("searching", 0.25, "half 1", 90.0))
    assert read_status(tmp_path / "out").stage == ""
    clock.time += 1.0
    live.show(Progress("searching", 0.5, "half 2", 60.0))
    status = read_status(tmp_path / "out")
    assert (status.stage, status.fraction, status.message, status.seconds_left) == ("searching", 0.5, "half 2", 60.0)
    assert status == live.status


def test_every_write_is_a_beat(live: Live, tmp_path: Path, clock: Clock) -> None:
    before = read_status(tmp_path / "out").beat
    clock.time += 2.0
    live.show(Progress("searching", 0.5))
    assert read_status(tmp_path / "out").beat == before + 1


def test_averages_come_with_the_status_that_tells_of_them(live: Live, tmp_path: Path, clock: Clock) -> None:
    live.show(preview(1.0))
    clock.time += 1.0
    live.show(preview(2.0))  # too soon to be drawn again
    clock.time += 5.0
    live.show(Progress("searching", 0.5))
    averages = read_averages(tmp_path / "out")
    status = read_status(tmp_path / "out")
    assert averages is not None and (averages == 2.0).all() and averages.shape == (3, 8, 8)
    assert status.iteration == 2 and status.counts == (5.0, 2.0, 1.0)


def test_losses_are_thinned_and_the_last_one_stays(live: Live, tmp_path: Path, clock: Clock) -> None:
    for done in range(1, 5000):
        live.show(Loss(done, 5000, 1.0 / done))
    live.show(Loss(5000, 5000, float("nan")))
    clock.time += 1.0
    live.show(Progress("training", 0.9))
    status = read_status(tmp_path / "out")
    assert 100 < len(status.losses) <= 256 and status.batches == 5000
    assert status.losses[-1] == (4999, 1.0 / 4999)
    assert list(status.losses) == sorted(status.losses)


@pytest.mark.parametrize("phase", [Phase.FINISHED, Phase.FAILED, Phase.STOPPED])
def test_the_end_is_said_and_pictures_go(live: Live, tmp_path: Path, phase: Phase) -> None:
    live.show(preview())
    live.show(Progress("searching", 0.5, seconds_left=3.0))
    ask(tmp_path / "out", Request.FINISH)
    live.end(phase, "in words")
    status = read_status(tmp_path / "out")
    assert status.phase is phase and status.message == "in words" and status.seconds_left is None
    assert status.fraction == (1.0 if phase is Phase.FINISHED else 0.5) and status.iteration == 0
    assert [path.name for path in (tmp_path / "out" / CHECKPOINT / FOLDER).iterdir()] == [STATUS]


def test_requests_are_heard_and_a_cancellation_goes_first(live: Live, tmp_path: Path) -> None:
    assert live.requested() is None
    ask(tmp_path / "out", Request.FINISH)
    assert live.requested() is Request.FINISH
    ask(tmp_path / "out", Request.CANCEL)
    assert live.requested() is Request.CANCEL


def test_requests_of_an_earlier_job_are_forgotten(live: Live, tmp_path: Path) -> None:
    ask(tmp_path / "out", Request.CANCEL)
    assert Live(tmp_path / "out" / CHECKPOINT).requested() is None


def test_a_job_goes_on_where_nothing_can_be_written(live: Live, tmp_path: Path, clock: Clock) -> None:
    shutil.rmtree(tmp_path / "out")
    clock.time += 10
    live.show(preview())
    live.show(Progress("searching", 0.5))
    live.end(Phase.FINISHED)
    assert not (tmp_path / "out").exists()


def test_no_job_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no job writes here"):
        read_status(tmp_path)
    with pytest.raises(InputError, match="no job writes here"):
        ask(tmp_path, Request.CANCEL)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"phase": "dancing"}', '{"phase": "running", "fraction": "half"}'])
def test_what_is_no_status_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / CHECKPOINT / FOLDER).mkdir(parents=True)
    (tmp_path / CHECKPOINT / FOLDER / STATUS).write_text(text)
    with pytest.raises(InputError, match="no status of a job"):
        read_status(tmp_path)


def test_what_a_later_version_adds_is_ignored(live: Live, tmp_path: Path) -> None:
    path = tmp_path / "out" / CHECKPOINT / FOLDER / STATUS
    path.write_text(json.dumps({**json.loads(path.read_text()), "mood": "good"}))
    assert read_status(tmp_path / "out") == live.status


def test_pickles_and_other_shapes_are_no_averages(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT / FOLDER).mkdir(parents=True)
    path = tmp_path / CHECKPOINT / FOLDER / AVERAGES
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert read_averages(tmp_path) is None
    np.save(path, np.zeros(4, np.float32))
    assert read_averages(tmp_path) is None
