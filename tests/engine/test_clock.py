"""Progress of the whole from that of its stages."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import pytest

from napari_harmony.engine import clock as clock_module
from napari_harmony.engine.clock import Clock
from napari_harmony.engine.events import Done, Event, Loss, Preview, Progress


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which tests set."""
    time = [100.0]
    monkeypatch.setattr(clock_module.time, "monotonic", lambda: time[0])
    return time


def test_stages_count_by_their_weights(now: list[float]) -> None:
    clock = Clock({"a": 1.0, "b": 3.0})
    said = [clock.at("a", 0.0), clock.at("a", 0.5), clock.at("b", 0.0), clock.at("b", 1.0)]
    assert [(p.stage, p.fraction) for p in said] == [("a", 0.0), ("a", 0.125), ("b", 0.25), ("b", 1.0)]


def test_a_stage_that_is_skipped_counts_as_done_and_an_unknown_one_as_nothing(now: list[float]) -> None:
    clock = Clock({"a": 1.0, "b": 1.0, "c": 2.0})
    assert clock.at("c", 0.0).fraction == 0.5
    assert clock.at("elsewhere", 0.7).fraction == 0.5
    assert Clock({}).at("a", 0.5).fraction == 0


def test_time_left_follows_from_the_time_it_took(now: list[float]) -> None:
    clock = Clock({"a": 1.0, "b": 3.0})
    assert clock.at("a", 0.0).seconds_left is None
    now[0] += 10
    assert clock.at("a", 1.0).seconds_left == pytest.approx(30, rel=0.03)
    clock.at("b", 0.0)
    now[0] += 30
    assert clock.at("b", 1.0).seconds_left == 0
    assert clock.seconds == {"a": 10.0, "b": 30.0}


def test_work_is_followed_to_its_value(now: list[float]) -> None:
    preview = Preview(np.zeros((1, 2, 2), np.float32), np.ones(1, np.float32), 1)

    loss = Loss(1, 2, 3.0)

    def work() -> Generator[float | tuple[str, float] | Preview | Loss, None, str]:
        yield 0.5
        yield preview
        yield loss
        yield "b", 0.5
        return "value"

    clock, said = Clock({"a": 1.0, "b": 1.0}), []
    follow = clock.follow("a", work())
    while True:
        try:
            said.append(next(follow))
        except StopIteration as stop:
            assert stop.value == "value"
            break
    assert said[2] is preview and said[3] is loss
    steps = [(p.stage, p.fraction) for p in said if isinstance(p, Progress)]
    assert steps == [("a", 0.0), ("a", 0.25), ("b", 0.75)]


def test_closing_ends_the_work_that_is_followed() -> None:
    ended = []

    def work() -> Generator[float, None, None]:
        try:
            yield 0.1
            yield 0.2
        finally:
            ended.append(True)

    follow = Clock({"a": 1.0}).follow("a", work())
    next(follow), next(follow)
    assert not ended
    follow.close()
    assert ended


#: Stages that are expected to take 100 seconds in all, two of them alike.
STAGES = {"reading": 5.0, "half 1": 20.0, "half 2": 20.0, "training": 55.0}
ALIKE = {"half 1": "search", "half 2": "search", "training": "network"}


def lived(clock: Clock, now: list[float], taken: dict[str, float], steps: int = 20) -> list[tuple[float, Progress]]:
    """Times and what was said at them, of a run whose stages take so many seconds."""
    said = []
    for stage, seconds in taken.items():
        for step in range(steps + 1):
            said.append((now[0], clock.at(stage, step / steps)))
            now[0] += seconds / steps if step < steps else 0.0
    return said


def predicted(said: list[tuple[float, Progress]], start: float) -> list[float]:
    """Total times that were foretold after the first tenth, over the true one."""
    total = said[-1][0] - start
    left = [(at - start, progress.seconds_left) for at, progress in said if at - start >= 0.1 * total]
    return [(at + seconds) / total for at, seconds in left if seconds is not None]


@pytest.mark.parametrize("speed", [0.1, 1.0, 25.0])
def test_a_machine_of_another_speed_is_soon_known(now: list[float], speed: float) -> None:
    said = lived(Clock(STAGES, ALIKE), now, {stage: speed * seconds for stage, seconds in STAGES.items()})
    ratios = predicted(said, 100.0)
    assert len(ratios) > 50 and min(ratios) > 0.9 and max(ratios) < 1.2
    assert said[-1][1].fraction == 1.0 and said[-1][1].seconds_left == pytest.approx(0)


def test_a_stage_foretells_those_like_it_and_little_of_others(now: list[float]) -> None:
    clock = Clock(STAGES, ALIKE, trusted=True)
    lived(clock, now, {"reading": 5.0, "half 1": 60.0})
    ahead = clock.at("half 2", 0.0)
    # 20 s at three times the expected speed are known; what training takes is not, but more than was thought
    assert ahead.seconds_left is not None and 20 * 3 * 0.9 + 55 < ahead.seconds_left < 20 * 3 + 55 * 3
    assert clock.slowness(2.0) == {"search": pytest.approx(3.0)}
    assert clock.slowness(21.0) == {}


def test_the_fraction_never_falls_though_the_time_left_may_grow(now: list[float]) -> None:
    taken = {"reading": 1.0, "half 1": 2.0, "half 2": 80.0, "training": 300.0}
    said = lived(Clock(STAGES, ALIKE), now, taken)
    fractions = [progress.fraction for _, progress in said]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == 1.0
    left = [progress.seconds_left for _, progress in said if progress.seconds_left is not None]
    assert any(later > earlier for earlier, later in zip(left, left[1:], strict=False))


def test_expectations_that_suit_the_machine_are_told_from_the_beginning(now: list[float]) -> None:
    assert Clock(STAGES, ALIKE, trusted=True).at("reading", 0.0).seconds_left == pytest.approx(100)
    assert Clock(STAGES, ALIKE).at("reading", 0.0).seconds_left is None


def test_stages_that_an_interrupted_run_has_behind_it_cost_nothing(now: list[float]) -> None:
    clock = Clock(STAGES, ALIKE, trusted=True)
    lived(clock, now, {"reading": 5.0})
    now[0] += 1
    assert clock.at("training", 0.0).seconds_left == pytest.approx(55, rel=0.02)


def test_what_comes_before_the_first_stage_is_no_progress() -> None:
    """On a true clock, with time between any two of its readings."""
    clock = Clock(STAGES, ALIKE)
    assert clock.at("reading", 0.0).fraction == 0 and clock.at("reading", 0.5).fraction > 0


def test_a_pause_is_no_work(now: list[float]) -> None:
    """The one who takes the events leaves the run waiting for an hour, twice."""

    def run(clock: Clock) -> Generator[Event, None, str]:
        for stage in ("a", "b"):
            for step in (0.0, 0.5, 1.0):
                now[0] += 2.0 if step else 0.0
                yield clock.at(stage, step)
            yield Preview(np.zeros((1, 2, 2), np.float32), np.ones(1, np.float32), 1)
        return "value"

    clock, heard = Clock({"a": 1.0, "b": 1.0}), []
    events = clock.watch(run(clock))
    while True:
        try:
            heard.append(next(events))
        except StopIteration as stop:
            assert stop.value == "value"
            break
        if len(heard) in (2, 4):
            now[0] += 3600.0
    progress = [event for event in heard if isinstance(event, Progress)]
    assert progress[2].seconds_left == pytest.approx(4.0, rel=0.05)
    assert clock.seconds == {"a": pytest.approx(4.0), "b": pytest.approx(4.0)}
    assert [event.fraction for event in progress][-1] == 1.0


def test_closing_what_is_watched_ends_the_work() -> None:
    ended = []

    def run() -> Generator[Event, None, None]:
        try:
            yield Progress("a", 0.1)
            yield Done(None)
        finally:
            ended.append(True)

    events = Clock({"a": 1.0}).watch(run())
    next(events)
    events.close()
    assert ended
