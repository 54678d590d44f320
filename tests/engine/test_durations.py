"""Times in words."""

from __future__ import annotations

import pytest

from napari_harmony.engine.durations import duration, time_left


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (59, "59 s"), (59.7, "1 min"), (61, "1 min"), (3599, "1 h 0 min"), (4800, "1 h 20 min")],
)
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "a few seconds"),
        (9.9, "a few seconds"),
        (12, "about 10 s"),
        (58, "about 1 min"),
        (88, "about 1 min 30 s"),
        (118, "about 2 min"),
        (200, "about 3 min"),
        (1790, "about 30 min"),
        (3599, "about 1 h"),
        (5000, "about 1 h 20 min"),
        (3 * 86400 + 600, "about 72 h"),
    ],
)
def test_what_is_left_is_told_no_finer_than_it_is_known(seconds: float, words: str) -> None:
    assert time_left(seconds) == f"{words} left"
