"""Docks and viewers opened and closed again and again leave nothing: no callback, no thread, no dock, no memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "support" / "life_cycle.py"
#: Every dock; and whole viewers with every dock, of which napari makes one in a second: fewer, unless asked for.
DOCK_ROUNDS, VIEWER_ROUNDS = 50, int(os.environ.get("HARMONY_VIEWER_ROUNDS", "8"))
MORE_MEMORY = 1.05

Rounds = list[dict[str, float]]

pytestmark = pytest.mark.timeout(1000)  # on a machine with much else to do


def run(what: str, rounds: int) -> Rounds:
    """What was left after some rounds, and after the last."""
    command = [sys.executable, "-W", "ignore", str(PROGRAM), what, str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env={**os.environ, "NAPARI_ASYNC": "0"})
    assert done.returncode == 0, done.stderr
    left = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(left) > 1
    return left


def check_no_growth(left: Rounds, *names: str) -> None:
    """The last round left no more than the first that was looked at, when everything had been imported."""
    for name in names:
        assert left[-1][name] <= left[0][name], f"{name}: {[round(one[name]) for one in left]}"


@pytest.fixture(scope="module")
def docks() -> Rounds:
    return run("docks", DOCK_ROUNDS)


@pytest.fixture(scope="module")
def viewers() -> Rounds:
    return run("viewers", VIEWER_ROUNDS)


def test_docks_leave_no_callback_thread_or_dock(docks: Rounds) -> None:
    check_no_growth(docks, "callbacks", "own", "threads")
    assert {one["docks"] for one in docks} == {0}


def test_docks_give_their_memory_back(docks: Rounds) -> None:
    assert docks[-1]["memory"] <= MORE_MEMORY * docks[0]["memory"]


def test_viewers_leave_no_callback_of_ours_and_no_session(viewers: Rounds) -> None:
    """napari itself leaves some callbacks of its settings behind each viewer."""
    check_no_growth(viewers, "own", "sessions", "threads")
    assert {one["docks"] for one in viewers} == {0}


def test_viewers_give_their_memory_back(viewers: Rounds) -> None:
    assert viewers[-1]["memory"] <= MORE_MEMORY * viewers[0]["memory"]
