"""How a run shows what it is doing: a bar on a terminal, plain lines in a log, JSON for machines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from napari_harmony.cli.streams import complain, say
from napari_harmony.engine.durations import time_left
from napari_harmony.engine.events import Done, Event, Loss, Preview, Progress
from napari_harmony.errors import InferenceError

if TYPE_CHECKING:
    from types import TracebackType


class Reporter(AbstractContextManager["Reporter"], Protocol):
    """Something that shows events to somebody."""

    def show(self, event: Event) -> None:
        """Show one event."""

    def note(self, text: str) -> None:
        """Show one remark."""

    def finish(self, text: str, **facts: Any) -> None:
        """Say that the job is complete."""


class _Quiet:
    """A reporter that holds nothing open."""

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class SilentReporter(_Quiet):
    """For a process that leaves it to another one to speak, and to hear what is asked."""

    enough = None

    def show(self, event: Event) -> None:
        return None

    def note(self, text: str) -> None:
        return None

    def finish(self, text: str, **facts: Any) -> None:
        return None


class JsonReporter(_Quiet):
    """One JSON object per line on standard output, and nothing else there."""

    def show(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._write(
                "progress",
                stage=event.stage,
                fraction=round(float(event.fraction), 6),
                message=event.message,
                seconds_left=event.seconds_left,
            )
        elif isinstance(event, Preview):
            counts = [float(count) for count in event.counts]
            self._write("preview", iteration=int(event.iteration), classes=len(counts), counts=counts)
        elif isinstance(event, Loss):
            parts = {name: float(value) for name, value in event.parts.items()}
            self._write("loss", done=event.done, total=event.total, value=float(event.value), parts=parts)

    def note(self, text: str) -> None:
        self._write("note", message=text)

    def finish(self, text: str, **facts: Any) -> None:
        self._write("done", message=text, **facts)

    def _write(self, kind: str, **fields: Any) -> None:
        from napari_harmony.outputs.summary import to_json

        say(json.dumps(to_json({"event": kind, **fields}), ensure_ascii=False, allow_nan=False))


class PlainReporter(_Quiet):
    """One line per stage, and per tenth of the whole, on standard error."""

    def __init__(self) -> None:
        self._last = ("", -1)
        self._print = complain

    def show(self, event: Event) -> None:
        if not isinstance(event, Progress):
            return
        key = (event.stage, int(10 * event.fraction))
        if key == self._last:
            return
        self._last = key
        left = f", {time_left(event.seconds_left)}" if event.seconds_left is not None else ""
        about = f" ({event.message})" if event.message else ""
        self._print(f"{event.stage}: {100 * event.fraction:.0f} %{left}{about}")

    def note(self, text: str) -> None:
        self._print(text)

    def finish(self, text: str, **facts: Any) -> None:
        say(text)


class LogReporter(PlainReporter):
    """The same on standard output, where programs look that take any word on standard error for a complaint."""

    def __init__(self) -> None:
        super().__init__()
        self._print = say

    def note(self, text: str) -> None:
        (complain if text.startswith("Warning: ") else say)(text)


class BarReporter(_Quiet):
    """A progress bar with stage and time left on standard error, which is a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self._console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("[bold]{task.description}", markup=True),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", style="dim"),
            console=self._console,
            transient=True,
            expand=True,
        )
        self._task = self._bar.add_task("Starting", total=1.0, left="")
        self._stage = self._loss = ""

    def __enter__(self) -> BarReporter:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, event: Event) -> None:
        if isinstance(event, Progress):
            from rich.markup import escape

            if event.stage != self._stage:
                self._stage, self._loss = event.stage, ""
            left = time_left(event.seconds_left) if event.seconds_left is not None else ""
            stage = escape(" ".join(filter(None, (event.stage, event.message, self._loss))))
            self._bar.update(self._task, description=stage, completed=float(event.fraction), left=left)
        elif isinstance(event, Loss):
            self._loss = f"(loss {event.value:.4g})"

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def finish(self, text: str, **facts: Any) -> None:
        self._bar.stop()
        say(text)


_CHOSEN: ContextVar[Callable[[], Reporter] | None] = ContextVar("reporter", default=None)


@contextmanager
def reporting_with(make: Callable[[], Reporter]) -> Iterator[None]:
    """Jobs started in this block report to what ``make`` returns, wherever the program runs."""
    token = _CHOSEN.set(make)
    try:
        yield
    finally:
        _CHOSEN.reset(token)


def make_reporter(as_json: bool) -> Reporter:
    """The reporter for where the program runs."""
    if chosen := _CHOSEN.get():
        return chosen()
    if as_json:
        return JsonReporter()
    terminal = sys.stderr is not None and sys.stderr.isatty()
    return BarReporter() if terminal else PlainReporter()


class StageClock:
    """Seconds spent in each stage, in the order they came. A stage lasts until the next one begins."""

    def __init__(self, stage: str) -> None:
        self._seconds: dict[str, float] = {}
        self._stage = stage
        self._since = time.perf_counter()

    def enter(self, stage: str) -> None:
        """Another stage, or the same one, begins."""
        now = time.perf_counter()
        self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now

    def seconds(self) -> dict[str, float]:
        """Stage -> seconds so far, and their ``total``."""
        self.enter(self._stage)
        return {**self._seconds, "total": sum(self._seconds.values())}


def drive(events: Iterator[Event], reporter: Reporter, clock: StageClock) -> Done:
    """Run an engine call to its end and return its last event; whatever happens, the call is closed.

    Raises
    ------
    InferenceError : if it ends without a result
    """
    try:
        for event in events:
            if isinstance(event, Done):
                return event
            if isinstance(event, Progress):
                clock.enter(event.stage)
            reporter.show(event)
    finally:
        if isinstance(events, Generator):
            events.close()
    raise InferenceError("The run ended without a result; please report this.")
