"""The entry point: from arguments to an exit code, with no traceback on the way."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Any

from napari_harmony.cli.streams import complain, release, reserve_descriptors
from napari_harmony.errors import HarmonyError, InputError

OK, FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143
PROGRAM = "napari-harmony"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    arguments : without the program's name; ``sys.argv[1:]`` if None
    """
    reserve_descriptors()
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    with warnings.catch_warnings():
        if not debug:
            warnings.simplefilter("ignore")  # of libraries; ours are let through where particles are opened
        code = _run([a for a in given if a != "--debug"], debug)
    release()
    return code


def _run(arguments: list[str], debug: bool) -> int:
    from typer.main import get_command

    from napari_harmony.cli.app import app

    previous = _on_terminate(_terminate)
    try:
        returned = get_command(app).main(arguments, prog_name=PROGRAM, standalone_mode=False)
        return returned if isinstance(returned, int) else OK
    except SystemExit as request:
        return request.code if isinstance(request.code, int) else FAILED
    except KeyboardInterrupt:
        complain("Interrupted.")
        return INTERRUPTED
    except BaseException as error:
        if debug and not _is_usage_error(error):
            raise
        return _explain(error)
    finally:
        _on_terminate(previous)


def _explain(error: BaseException) -> int:
    """Say in one line what went wrong, and give the exit code for it."""
    if _is_usage_error(error):
        complain(f"Error: {error.format_message()} See '{PROGRAM} --help'.")  # type: ignore[attr-defined]
        return BAD_INPUT
    if type(error).__name__ == "Abort":  # typer's word for Ctrl-C and end of file, in some of its versions
        complain("Interrupted.")
        return INTERRUPTED
    if isinstance(error, HarmonyError):
        complain(f"Error: {error}" if str(error) else "")
        return BAD_INPUT if isinstance(error, InputError) else FAILED
    if isinstance(error, OSError):
        complain(f"Error: {_describe(error)}")
        return FAILED
    if isinstance(error, MemoryError):
        complain("Error: the memory is exhausted; close other programs, or use fewer or smaller images.")
        return FAILED
    complain(f"Error: {type(error).__name__}: {error} ('{PROGRAM} --debug ...' shows where.)")
    return FAILED


def _describe(error: OSError) -> str:
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes | os.PathLike) else ""
    return f"{where}{error.strerror or error}."


def _is_usage_error(error: BaseException) -> bool:
    """Whether the command line itself was wrong. Newer versions of typer carry their own copy of click's exceptions."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _terminate(signum: int, frame: FrameType | None) -> None:
    """Leave through the ``finally`` blocks, so that no temporary file stays behind."""
    raise SystemExit(TERMINATED)


def _on_terminate(handler: Any) -> Any:
    """Set what SIGTERM does and return what it did; outside the main thread nothing is changed."""
    try:
        return signal.signal(signal.SIGTERM, handler)
    except (ValueError, TypeError):
        return signal.SIG_DFL
