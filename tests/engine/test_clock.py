"""Progress of the whole from that of its stages."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import pytest

from napari_harmony.engine import clock as clock_module
from napari_harmony.engine.clock import Clock
from napari_harmony.engine.events import Preview, Progress


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
    clock = Clock({"a": 1.0, "b": 3.0}, started=now[0])
    assert clock.at("a", 0.0).seconds_left is None
    now[0] += 10
    assert clock.at("a", 1.0).seconds_left == pytest.approx(30)
    clock.at("b", 0.0)
    now[0] += 30
    assert clock.at("b", 1.0).seconds_left == 0
    assert clock.seconds == {"a": 10.0, "b": 30.0}


def test_work_is_followed_to_its_value(now: list[float]) -> None:
    preview = Preview(np.zeros((1, 2, 2), np.float32), np.ones(1, np.float32), 1)

    def work() -> Generator[float | tuple[str, float] | Preview, None, str]:
        yield 0.5
        yield preview
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
    assert said[2] is preview
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
