"""Following a job through its OUT folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_harmony.engine.events import Done, Event, Loss, Preview, Progress
from napari_harmony.errors import InputError
from napari_harmony.following import Ended, follow
from napari_harmony.outputs.live import Live, Phase
from napari_harmony.outputs.names import CHECKPOINT, MODEL, SUMMARY


class Job:
    """A job that does one step whenever its follower waits; the clock stands still but for that."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.live: Live | None = None
        self.time = 0.0
        self.steps: list[Callable[[], None]] = []

    def begin(self) -> None:
        self.live = Live(self.out / CHECKPOINT, lambda: self.time)

    def show(self, *events: Event) -> Callable[[], None]:
        def step() -> None:
            assert self.live is not None
            self.time += 10
            for event in events:
                self.live.show(event)

        return step

    def end(self, phase: Phase, message: str = "") -> Callable[[], None]:
        return lambda: self.live.end(phase, message) if self.live is not None else None

    def vanish(self, proof: str = "") -> Callable[[], None]:
        def step() -> None:
            if proof:
                (self.out / proof).write_text("{}")
            for path in sorted((self.out / CHECKPOINT).rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            (self.out / CHECKPOINT).rmdir()

        return step

    def wait(self, seconds: float) -> None:
        self.time += seconds
        if self.steps:
            self.steps.pop(0)()

    def follow(self, *steps: Callable[[], None]) -> Iterator[Event]:
        self.steps = list(steps)
        return follow(self.out, wait=self.wait, now=lambda: self.time)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path / "out")


def ended(events: list[Event]) -> Ended:
    assert isinstance(events[-1], Done)
    assert not any(isinstance(event, Done) for event in events[:-1])
    return events[-1].value


def test_a_job_is_waited_for_seen_and_its_result_named(job: Job) -> None:
    averages = np.random.default_rng(0).normal(size=(2, 8, 8)).astype(np.float32)
    events = list(
        job.follow(
            job.begin,
            job.show(Preview(averages, np.array([3.0, 4.0], np.float32), 1)),
            job.show(Progress("searching", 0.25, "half 1", 90.0)),
            job.vanish(SUMMARY),
        )
    )
    stages = [event.stage for event in events if isinstance(event, Progress)]
    assert stages[0] == "waiting for the job to begin" and "searching" in stages
    (preview,) = [event for event in events if isinstance(event, Preview)]
    assert (preview.averages == averages).all() and list(preview.counts) == [3.0, 4.0]
    assert ended(events) == Ended(Phase.FINISHED, "The job is complete.", job.out)


def test_every_loss_comes_once(job: Job) -> None:
    job.begin()
    events = list(
        job.follow(
            job.show(Loss(1, 9, 5.0), Loss(2, 9, 4.0), Progress("training", 0.5)),
            job.show(Loss(3, 9, 3.0), Progress("training", 0.6)),
            job.show(Loss(1, 4, 8.0), Progress("another training", 0.7)),
            job.vanish(MODEL[1]),
        )
    )
    losses = [(event.done, event.value) for event in events if isinstance(event, Loss)]
    assert losses[:3] == [(1, 5.0), (2, 4.0), (3, 3.0)] and losses[-1] == (1, 8.0)
    assert ended(events) == Ended(Phase.FINISHED, "The job is complete.", None)  # a model is no result to be opened


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.STOPPED])
def test_a_job_that_can_be_continued_says_so(job: Job, phase: Phase) -> None:
    job.begin()
    end = ended(list(job.follow(job.end(phase, "The disk is full."))))
    assert end == Ended(phase, "The disk is full. The same command with --resume continues it.", None)


def test_a_job_that_leaves_nothing_has_failed_even_over_an_earlier_result(job: Job) -> None:
    job.begin()
    (job.out / SUMMARY).write_text("{}")
    end = ended(list(job.follow(job.vanish())))
    assert end.phase is Phase.FAILED and end.result is None


def test_an_earlier_result_that_is_replaced_is_a_new_one(job: Job) -> None:
    job.begin()
    (job.out / SUMMARY).write_text("{}")
    os.utime(job.out / SUMMARY, ns=(1, 1))
    assert ended(list(job.follow(job.vanish(SUMMARY)))).phase is Phase.FINISHED


def test_a_complete_job_is_opened_at_once(job: Job) -> None:
    job.out.mkdir()
    (job.out / SUMMARY).write_text("{}")
    assert ended(list(job.follow())) == Ended(Phase.FINISHED, "The job here is complete.", job.out)


def test_a_status_that_a_slow_file_system_hides_for_a_moment_is_no_end(job: Job) -> None:
    job.begin()
    status = job.out / CHECKPOINT / "live" / "status.json"
    text = status.read_text()
    events = job.follow(status.unlink, lambda: None, lambda: status.write_text(text) and None, job.vanish(SUMMARY))
    assert ended(list(events)).phase is Phase.FINISHED


def test_a_killed_job_is_spoken_of_by_the_clock_of_the_follower(job: Job) -> None:
    job.begin()
    events = job.follow(job.show(Progress("searching", 0.5, seconds_left=60.0)))
    last = [next(events) for _ in range(300)][-1]
    assert isinstance(last, Progress) and last.seconds_left is None
    assert f"no sign of life for 5 min: look for process {os.getpid()} on " in last.message
    events.close()  # type: ignore[attr-defined]


def test_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="this is a file"):
        next(follow(tmp_path / "out"))
