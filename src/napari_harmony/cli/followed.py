"""Jobs that others can follow: what is reported also stands in the OUT folder, and requests made there are heard."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from napari_harmony.cli.progress import Reporter
from napari_harmony.engine.events import Event
from napari_harmony.errors import HarmonyError
from napari_harmony.outputs.live import Live, Phase, Request


class Followed:
    """A reporter that passes everything on to another one, and keeps what followers read up to date.

    Attributes
    ----------
    enough : set when a follower wants the job to end soon with what it has
    """

    def __init__(self, reporter: Reporter, live: Live) -> None:
        self.enough = threading.Event()
        self._reporter = reporter
        self._live = live

    def __enter__(self) -> Followed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, event: Event) -> None:
        """Pass an event on, write it down, and hear what is asked.

        Raises
        ------
        KeyboardInterrupt : a follower wants the job to stop
        """
        self._reporter.show(event)
        self._live.show(event)
        asked = self._live.requested()
        if asked is Request.CANCEL:
            raise KeyboardInterrupt
        if asked is Request.FINISH and not self.enough.is_set():
            self.enough.set()
            self.note("Finishing with what is there, as somebody who follows this job asked.")

    def note(self, text: str) -> None:
        """Pass a remark on."""
        self._reporter.note(text)

    def finish(self, text: str, **facts: Any) -> None:
        """Pass on that the job is complete."""
        self._reporter.finish(text, **facts)


@contextmanager
def followed(reporter: Reporter, checkpoint: Path) -> Iterator[Followed]:
    """While the block runs, the job whose state is in ``checkpoint`` can be followed; how it ended is said there."""
    live = Live(checkpoint)
    try:
        yield Followed(reporter, live)
    except (KeyboardInterrupt, SystemExit):  # the latter is what SIGTERM becomes
        live.end(Phase.STOPPED, "Stopped before it was complete.")
        raise
    except BaseException as error:
        words = str(error) if isinstance(error, HarmonyError | OSError) else f"{type(error).__name__}: {error}"
        live.end(Phase.FAILED, words)
        raise
    live.end(Phase.FINISHED)
