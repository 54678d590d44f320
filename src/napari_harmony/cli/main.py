"""The entry point: from arguments to an exit code, with no traceback on the way."""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

from napari_harmony.cli import launch
from napari_harmony.cli.streams import complain, release, reserve_descriptors, say
from napari_harmony.errors import HarmonyError, InputError

OK, FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143
PROGRAM = "napari-harmony"


def console() -> NoReturn:
    """The program: run the command that it was given, and end at once with its exit code.

    Taking apart all that was loaded, as Python does when it ends, takes two seconds once torch is among it.
    """
    code = main()
    atexit._run_exitfuncs()
    os._exit(code)


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
    launch.prepare(arguments)
    try:
        returned = get_command(app).main(arguments, prog_name=PROGRAM, standalone_mode=False)
        if returned == INTERRUPTED:  # typer turns Ctrl-C into this code without a word
            complain("Interrupted.")
        return returned if isinstance(returned, int) else OK
    except SystemExit as request:
        return request.code if isinstance(request.code, int) else FAILED
    except BaseException as error:
        if debug and isinstance(error, Exception) and not _is_usage_error(error):
            raise
        return _explain(error, "--json-progress" in arguments)
    finally:
        _on_terminate(previous)


def _explain(error: BaseException, as_json: bool) -> int:
    """Say in one line what went wrong, and give the exit code for it."""
    code, message = _judge(error)
    if not launch.speaks(error):
        return code
    complain(message if code == INTERRUPTED else f"Error: {message}" if message else "")
    if as_json:
        say(json.dumps({"event": "error", "message": message, "exit_code": code}, ensure_ascii=False))
    return code


def _judge(error: BaseException) -> tuple[int, str]:
    """The exit code of an error and what to say about it."""
    if _is_usage_error(error):
        return BAD_INPUT, f"{error.format_message()} See '{PROGRAM} --help'."  # type: ignore[attr-defined]
    # Abort is typer's word for Ctrl-C and end of file, in some of its versions
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return INTERRUPTED, "Interrupted."
    if isinstance(error, HarmonyError):
        return BAD_INPUT if isinstance(error, InputError) else FAILED, str(error)
    if isinstance(error, OSError):
        return FAILED, _describe(error)
    if isinstance(error, MemoryError):
        return FAILED, "The memory is exhausted; close other programs, or use fewer or smaller images."
    return FAILED, f"{type(error).__name__}: {error} ('{PROGRAM} --debug ...' shows where.)"


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
