"""A job can be followed from elsewhere, asked to finish, and stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_run import FakeEngine

from napari_harmony.cli import main
from napari_harmony.engine.events import Event
from napari_harmony.errors import InferenceError, InputError
from napari_harmony.outputs.live import Phase, Request, ask, read_averages, read_status


def test_a_running_job_is_seen(engine: FakeEngine, stack: Path, tmp_path: Path) -> None:
    seen = []
    engine.on_event = lambda: seen.append((read_status(tmp_path / "out"), read_averages(tmp_path / "out")))
    assert main(["align", str(stack), "-o", str(tmp_path / "out")]) == 0
    status, averages = seen[0]
    assert status.phase is Phase.RUNNING and status.iteration == 1
    assert averages is not None and averages.shape == (2, 4, 4)
    with pytest.raises(InputError, match="no job writes here"):  # it is complete
        read_status(tmp_path / "out")


def test_training_can_be_followed_too(engine: FakeEngine, stack: Path, tmp_path: Path) -> None:
    seen = []
    engine.on_event = lambda: seen.append(read_status(tmp_path / "model"))
    assert main(["train", str(stack), "-o", str(tmp_path / "model")]) == 0
    assert seen[0].phase is Phase.RUNNING


def test_a_request_to_finish_reaches_the_engine(
    engine: FakeEngine, stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[threading.Event] = []

    def heard(*arguments: Any, enough: threading.Event, **named: Any) -> Iterator[Event]:
        given.append(enough)
        yield from engine.align(*arguments, enough=enough, **named)

    import napari_harmony.engine.api as api

    monkeypatch.setattr(api, "align", heard)
    engine.on_event = lambda: ask(tmp_path / "out", Request.FINISH)
    assert main(["align", str(stack), "-o", str(tmp_path / "out")]) == 0
    assert given[0].is_set()
    assert capsys.readouterr().err.count("as somebody who follows this job asked") == 1


def test_a_request_to_stop_ends_the_job_as_an_interruption(
    engine: FakeEngine, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.on_event = lambda: ask(tmp_path / "out", Request.CANCEL)
    assert main(["align", str(stack), "-o", str(tmp_path / "out")]) == 130
    assert engine.closed
    assert read_status(tmp_path / "out").phase is Phase.STOPPED
    assert "--resume continues this run" in capsys.readouterr().err
    engine.on_event = None
    assert main(["align", str(stack), "-o", str(tmp_path / "out"), "--resume"]) == 0


def test_a_failure_is_said_in_words(engine: FakeEngine, stack: Path, tmp_path: Path) -> None:
    engine.failure = InferenceError("The memory of the device is exhausted.")
    assert main(["align", str(stack), "-o", str(tmp_path / "out")]) == 1
    status = read_status(tmp_path / "out")
    assert status.phase is Phase.FAILED and status.message == "The memory of the device is exhausted."


def test_a_refused_job_leaves_nothing(engine: FakeEngine, stack: Path, tmp_path: Path) -> None:
    engine.failure = InputError("classes: too many.")
    assert main(["align", str(stack), "-o", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
