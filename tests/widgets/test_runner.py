"""The runner: every way a run can end leaves the session in a state from which one can go on."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator

import pytest
from pytestqt.qtbot import QtBot
from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QThread
from qtpy.QtWidgets import QApplication

from napari_harmony.engine.events import Done, Event, Loss, Progress
from napari_harmony.errors import InferenceError, InputError
from napari_harmony.session import Session, State
from napari_harmony.widgets._run_row import RunRow, seconds_left
from napari_harmony.widgets._runner import Runner, drive


class OOM(RuntimeError):
    """What torch.OutOfMemoryError is: a RuntimeError."""


@pytest.fixture
def session() -> Session:
    return Session()


@pytest.fixture
def runner(qtbot: QtBot, session: Session) -> Runner:
    return Runner(session)


def events(*, count: int = 3, pause: float = 0.0, error: Exception | None = None) -> Iterator[Event]:
    for i in range(count):
        time.sleep(pause)
        yield Progress("stage", i / count)
    if error is not None:
        raise error
    yield Done("value", "model")


def test_events_and_the_end_arrive_in_the_main_thread(qtbot: QtBot, runner: Runner, session: Session) -> None:
    main = QApplication.instance()
    assert main is not None
    seen: list[tuple[Event, bool]] = []
    worker_threads = set()

    def work() -> Iterator[Event]:
        worker_threads.add(threading.get_ident())
        return events()

    runner.heard.connect(lambda event: seen.append((event, QThread.currentThread() is main.thread())))
    with qtbot.waitSignal(runner.done) as done:
        runner.submit(work)
        assert session.state is State.RUNNING
    assert done.args[0] == Done("value", "model")
    assert [e.fraction for e, _ in seen if isinstance(e, Progress)] == [0, 1 / 3, 2 / 3]
    assert all(in_main for _, in_main in seen)
    assert worker_threads and threading.get_ident() not in worker_threads
    assert session.state is State.DONE


def test_out_of_memory_ends_the_run_with_words(qtbot: QtBot, runner: Runner, session: Session) -> None:
    with qtbot.waitSignal(runner.failed) as failed:
        runner.submit(lambda: events(error=OOM("CUDA out of memory. Tried to allocate 2 GiB")))
    assert isinstance(failed.args[0], InferenceError)
    assert "choose the CPU" in str(failed.args[0])
    assert session.state is State.FAILED


def test_errors_of_the_input_come_through_as_they_are(qtbot: QtBot, runner: Runner) -> None:
    with qtbot.waitSignal(runner.failed) as failed:
        runner.submit(lambda: events(error=InputError("row 3 has no image.")))
    assert str(failed.args[0]) == "row 3 has no image."


def test_an_error_before_the_first_event_ends_the_run(qtbot: QtBot, runner: Runner, session: Session) -> None:
    def work() -> Iterator[Event]:
        raise OOM("no kernel image")

    with qtbot.waitSignal(runner.failed) as failed:
        runner.submit(work)
    assert isinstance(failed.args[0], InferenceError) and session.state is State.FAILED


def test_cancel_ends_at_the_next_event_and_closes_the_engine(qtbot: QtBot, runner: Runner, session: Session) -> None:
    closed = threading.Event()

    def work() -> Iterator[Event]:
        try:
            yield from events(count=1000, pause=0.05)
        finally:
            closed.set()

    seen: list[Event] = []
    runner.heard.connect(seen.append)
    with qtbot.waitSignal(runner.heard):
        runner.submit(work)
    with qtbot.waitSignal(runner.cancelled, timeout=1000):
        runner.cancel()
        assert session.state is State.CANCELLING
        heard = len(seen)
    assert closed.is_set()
    assert session.state is State.IDLE
    assert len(seen) == heard  # nothing was heard of the run after Cancel


def test_what_a_replaced_run_says_is_dropped(qtbot: QtBot, runner: Runner) -> None:
    done: list[Done] = []
    runner.done.connect(done.append)
    runner.submit(lambda: events(count=5, pause=0.05))
    with qtbot.waitSignal(runner.done):
        runner.submit(lambda: iter([Done("second")]))
    qtbot.wait(400)
    assert [d.value for d in done] == ["second"]


def test_an_abandoned_run_is_not_heard_of_again(qtbot: QtBot, runner: Runner, session: Session) -> None:
    said: list[object] = []
    for signal in (runner.heard, runner.done, runner.failed):
        signal.connect(said.append)
    runner.cancelled.connect(lambda: said.append("cancelled"))
    runner.submit(lambda: events(count=5, pause=0.02))
    runner.abandon()
    qtbot.wait(300)
    assert said == [] and session.state is State.IDLE


def test_napari_quitting_the_worker_closes_the_engine(
    qtbot: QtBot, runner: Runner, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_harmony.widgets import _runner

    workers = []
    make = _runner.create_worker
    monkeypatch.setattr(_runner, "create_worker", lambda *a, **k: workers.append(make(*a, **k)) or workers[-1])
    closed = threading.Event()

    def work() -> Iterator[Event]:
        try:
            yield from events(count=1000, pause=0.02)
        finally:
            closed.set()

    with qtbot.waitSignal(runner.heard):
        runner.submit(work)
    with qtbot.waitSignal(runner.cancelled):
        workers[0].quit()
    assert closed.is_set() and session.state is State.IDLE


def test_runtime_errors_become_plain_exceptions() -> None:
    with pytest.raises(InferenceError) as caught:
        list(drive(lambda: events(error=OOM("")), threading.Event()))
    assert "OOM" in str(caught.value) and not isinstance(caught.value, RuntimeError)


def test_a_runner_that_goes_with_its_window_ends_its_worker_without_a_word(qtbot: QtBot, session: Session) -> None:
    runner, closed = Runner(session), threading.Event()

    def work() -> Iterator[Event]:
        try:
            while True:
                time.sleep(0.01)
                yield Progress("stage", 0.5)
        finally:
            closed.set()

    with qtbot.waitSignal(runner.heard):
        runner.submit(work)
    with qtbot.captureExceptions() as raised:
        runner.deleteLater()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        assert not isalive(runner)
        qtbot.waitUntil(closed.is_set)
        qtbot.wait(50)
    assert not raised


def test_runs_that_overlap_leave_warnings_as_they_were(qtbot: QtBot, session: Session) -> None:
    before = warnings.showwarning
    first, second = Runner(session), Runner(Session())
    ends = [threading.Event(), threading.Event()]

    def until(end: threading.Event) -> Iterator[Event]:
        while not end.wait(0.01):
            yield Progress("stage", 0.5)
        yield Done("value")

    for runner, end in zip((first, second), ends, strict=True):
        with qtbot.waitSignal(runner.heard):
            runner.submit(lambda end=end: until(end))
    for runner, end in zip((first, second), ends, strict=True):  # the one that began first ends first
        with qtbot.waitSignal(runner.done):
            end.set()
    assert warnings.showwarning is before


def test_the_row_is_there_only_while_something_runs(qtbot: QtBot, session: Session, runner: Runner) -> None:
    row = RunRow(session, runner)
    qtbot.addWidget(row)
    for state in State:
        row.on_state(state)
        assert row.isHidden() is not state.busy
        assert row.cancel_button.isEnabled() is (state in (State.RUNNING, State.PAUSED))


def test_the_row_says_stage_and_time_left(qtbot: QtBot, session: Session, runner: Runner) -> None:
    row = RunRow(session, runner)
    qtbot.addWidget(row)
    session.set_state(State.RUNNING)
    row.on_state(State.RUNNING)
    runner.heard.emit(Progress("refining", 0.25, "round 2", seconds_left=125))
    assert row.label.text() == "refining, round 2, about 2 min left"
    assert row.bar.value() == 250


def wait_for(session: Session, qtbot: QtBot, state: State) -> None:
    qtbot.waitUntil(lambda: session.state is state, timeout=2000)


def test_a_pause_takes_effect_at_the_next_event_and_ends_when_asked(
    qtbot: QtBot, runner: Runner, session: Session
) -> None:
    seen: list[Event] = []
    runner.heard.connect(seen.append)
    with qtbot.waitSignal(runner.heard):
        runner.submit(lambda: events(count=20, pause=0.02))
    runner.pause()
    assert runner.pausing and session.state is State.RUNNING  # the batch at work is finished first
    wait_for(session, qtbot, State.PAUSED)
    heard = len(seen)
    qtbot.wait(200)
    assert len(seen) == heard and session.state.busy
    assert runner.seconds_paused == pytest.approx(0.2, abs=0.15)
    with qtbot.waitSignal(runner.done, timeout=5000):
        runner.resume()
    assert len(seen) == 20 and session.state is State.DONE
    assert runner.seconds_paused < 1


def test_a_pause_that_is_taken_back_at_once_does_not_hold_the_run(
    qtbot: QtBot, runner: Runner, session: Session
) -> None:
    with qtbot.waitSignal(runner.heard):
        runner.submit(lambda: events(count=10, pause=0.02))
    with qtbot.waitSignal(runner.done, timeout=5000):
        runner.pause()
        runner.resume()


@pytest.mark.parametrize("effective", [True, False])
def test_a_paused_run_is_cancelled_within_a_second(
    qtbot: QtBot, runner: Runner, session: Session, effective: bool
) -> None:
    closed = threading.Event()
    asked: list[int] = []

    def work() -> Iterator[Event]:
        try:
            for i in range(1000):
                asked.append(i)
                time.sleep(0.02)
                yield Progress("stage", 0)
        finally:
            closed.set()

    with qtbot.waitSignal(runner.heard):
        runner.submit(work)
    runner.pause()
    if effective:
        wait_for(session, qtbot, State.PAUSED)
    before = len(asked)
    with qtbot.waitSignal(runner.cancelled, timeout=1000):
        runner.cancel()
        assert session.state is State.CANCELLING
    assert closed.is_set() and session.state is State.IDLE
    if effective:
        assert len(asked) == before  # no further batch was begun for it


def test_a_run_in_the_place_of_a_paused_one_is_heard(qtbot: QtBot, runner: Runner, session: Session) -> None:
    with qtbot.waitSignal(runner.heard):
        runner.submit(lambda: events(count=1000, pause=0.02))
    runner.pause()
    wait_for(session, qtbot, State.PAUSED)
    with qtbot.waitSignal(runner.done, timeout=2000) as done:
        runner.submit(lambda: iter([Done("second")]))
    assert done.args[0].value == "second"


def test_napari_is_told_in_words_what_runs(monkeypatch: pytest.MonkeyPatch, qtbot: QtBot, runner: Runner) -> None:
    from napari_harmony.widgets import _runner

    functions = []
    make = _runner.create_worker
    monkeypatch.setattr(_runner, "create_worker", lambda f, **k: functions.append(f) or make(f, **k))
    with qtbot.waitSignal(runner.done):
        runner.submit(lambda: iter([Done(1)]), "Align of 'stack' (napari-harmony)")
    assert f"Executing {functions[0]}" == (
        "Executing Align of 'stack' (napari-harmony); closing ends it, and nothing of it is kept"
    )


def test_the_row_says_where_a_run_is_paused(qtbot: QtBot, session: Session, runner: Runner) -> None:
    row = RunRow(session, runner, steerable=True)
    qtbot.addWidget(row)
    session.state_changed.connect(row.on_state)

    def work() -> Iterator[Event]:
        for i in range(1000):
            time.sleep(0.01)
            yield Progress("training", 0.5, seconds_left=30)
            yield Loss(120 + 400 * i, 400_000, 0.5)

    heard: list[Event] = []
    runner.heard.connect(heard.append)
    runner.submit(work)
    qtbot.waitUntil(lambda: any(isinstance(event, Loss) for event in heard))
    row.pause_button.click()
    assert row.pause_button.text() == "Resume"
    wait_for(session, qtbot, State.PAUSED)
    assert row.label.text().startswith("Paused after training batch") and "of 400,000" in row.label.text()
    assert row.cancel_button.isEnabled() and row.finish_button.isEnabled()
    row.pause_button.click()
    wait_for(session, qtbot, State.RUNNING)
    assert row.pause_button.text() == "Pause"
    with qtbot.waitSignal(row.finish_wanted):
        row.finish_button.click()
    assert not row.finish_button.isEnabled() and row.label.text() == "Finishing with what is there"
    with qtbot.waitSignal(runner.cancelled, timeout=1000):
        row.cancel_button.click()
        assert {b.toolTip() for b in (row.pause_button, row.finish_button, row.cancel_button)} == {
            "Cancelling after the current batch"
        }
    row.on_state(State.RUNNING)  # of the next run
    assert "Nothing of this run is kept" in row.cancel_button.toolTip() and "End soon" in row.finish_button.toolTip()


def test_rows_of_short_work_have_cancel_alone(qtbot: QtBot, session: Session, runner: Runner) -> None:
    row = RunRow(session, runner)
    qtbot.addWidget(row)
    row.on_state(State.RUNNING)
    row.show()
    assert row.cancel_button.isVisible() and not row.pause_button.isVisible() and not row.finish_button.isVisible()


def test_time_left_at_constant_speed_is_not_told_too_early() -> None:
    assert seconds_left(0.001, 10) is None
    assert seconds_left(0.25, 10) == pytest.approx(30)
