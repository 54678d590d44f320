"""Standard output and error that may be closed, full, or a pipe whose reader has gone."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress

from napari_harmony.errors import HarmonyError


class OutputLost(HarmonyError):
    """Standard output cannot take what a command was asked to print."""


def reserve_descriptors() -> None:
    """Open the null device on closed standard descriptors.

    Otherwise the next file to be opened, such as the output of the run, would get the number of standard output, and
    whatever a library prints would end up in it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)


def say(text: str) -> None:
    """Print a line that is nice to have: a run whose reader has gone goes on without it."""
    with suppress(OSError, ValueError):
        _write(text)


def answer(text: str) -> None:
    """Print what the user asked for; raises ``OutputLost`` where it cannot arrive."""
    if sys.stdout is None:
        raise OutputLost("standard output is closed, so there is nowhere to print to.")
    try:
        _write(text)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            raise OutputLost("") from error  # the reader stopped on purpose, as ``head`` does: nothing to complain of
        raise OutputLost(f"standard output cannot be written ({error}).") from error


def complain(text: str) -> None:
    """Print one line on standard error, whatever line breaks the text has."""
    if text and sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(" ".join(text.split()), file=sys.stderr, flush=True)


def release() -> None:
    """Flush standard output and error; a stream that cannot be flushed is cut off.

    Python would otherwise try again while it exits, complain, and replace the exit code by 120.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _write(text: str) -> None:
    if sys.stdout is not None:
        print(text, file=sys.stdout, flush=True)
