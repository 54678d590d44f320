"""``align`` as an External job of RELION.

RELION starts ``EXECUTABLE --o External/job007/ --in_parts FILE [--in_3dref FILE ...] [--LABEL [VALUE] ...] --j N`` in
its project folder, with N threads, and redirects what it prints to ``run.out`` and ``run.err``. The job is over for
RELION when a file ``RELION_JOB_EXIT_*`` appears in the job's folder; ``RELION_OUTPUT_NODES.star`` names its results; a
file ``RELION_JOB_ABORT_NOW`` is the request to stop.
"""

from __future__ import annotations

import _thread
import argparse
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from napari_harmony.cli.checkpoint import RUN
from napari_harmony.cli.main import BAD_INPUT, FAILED, INTERRUPTED, OK, TERMINATED, main
from napari_harmony.cli.progress import LogReporter, reporting_with
from napari_harmony.cli.streams import complain, say
from napari_harmony.errors import InputError
from napari_harmony.outputs import names
from napari_harmony.outputs.relion_nodes import OUTPUT_NODES, write_output_nodes

SUCCESS, FAILURE, ABORTED = (f"RELION_JOB_EXIT_{end}" for end in ("SUCCESS", "FAILURE", "ABORTED"))
ABORT_NOW = "RELION_JOB_ABORT_NOW"
_ENDS = {OK: SUCCESS, INTERRUPTED: ABORTED, TERMINATED: ABORTED}


class _AbortWatch:
    """While the block runs, a file ``RELION_JOB_ABORT_NOW`` in a folder interrupts it as Ctrl-C does, within a second.

    Shells start jobs in the background, as RELION's do, deaf to Ctrl-C; here they hear it.

    Parameters
    ----------
    folder : of the job
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / ABORT_NOW
        self._over, self._deaf = threading.Event(), signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        self._thread = threading.Thread(target=self._watch, name="RELION's request to abort", daemon=True)

    def __enter__(self) -> None:
        if self._deaf:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        if self._deaf:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            if self._file.exists():
                if hasattr(signal, "pthread_kill"):  # ends what the main thread waits for, too
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                else:
                    _thread.interrupt_main()
                return


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are ours."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see 'napari-harmony relion --help'.")


def run_external(arguments: Sequence[str]) -> int:
    """Run one External job in the current folder, RELION's project, and return its exit code.

    Parameters
    ----------
    arguments : as RELION gives them
    """
    parser = _make_parser()
    if not arguments or {"-h", "--help"} & set(arguments):
        say(parser.format_help().rstrip())
        return OK
    folder = _job_folder(arguments)
    if folder is None:
        complain("Error: --o is missing: RELION gives it; by hand, name the folder of the job.")
        return BAD_INPUT
    code = FAILED
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (SUCCESS, FAILURE, ABORTED, ABORT_NOW, OUTPUT_NODES):
            (folder / name).unlink(missing_ok=True)
        code = _run(parser, arguments, folder)
    except InputError as error:
        complain(f"Error: {error}")
        code = BAD_INPUT
    except OSError as error:
        complain(f"Error: {folder}: {error.strerror or error}.")
    except KeyboardInterrupt:  # asked for in the last moment
        code = INTERRUPTED
    finally:
        _mark(folder, code)
    return code


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="napari-harmony relion",
        description="Run 'napari-harmony align' as an External job of RELION.",
        epilog="Every option of 'align' is a parameter of the job: label 'classes', value '10'; label 'max_shift', "
        "value '20'; label 'resume' without a value.",
        allow_abbrev=False,
    )
    parser.add_argument("--o", required=True, metavar="FOLDER", help="folder of the job")
    parser.add_argument("--in_parts", required=True, metavar="FILE", help="input particles (.star)")
    parser.add_argument("--in_3dref", metavar="FILE", help="input 3D reference, for subtomograms")
    parser.add_argument("--j", type=int, metavar="THREADS", help="number of threads")
    for other in ("in_mask", "in_mics", "in_movies", "in_coords"):
        parser.add_argument(f"--{other}", help=argparse.SUPPRESS)
    parser.add_argument("--pipeline_control", help=argparse.SUPPRESS)
    return parser


def _job_folder(arguments: Sequence[str]) -> Path | None:
    """The folder after ``--o``, whatever else is wrong with the arguments: RELION waits for a marker there."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        word, _, value = argument.partition("=")
        if word == "--o" and (value or following):
            return Path(value or following)
    return None


def _run(parser: argparse.ArgumentParser, arguments: Sequence[str], folder: Path) -> int:
    given, parameters = parser.parse_known_args(arguments)
    command = _align_command(given, parameters, folder)
    if given.j is not None:  # read by torch when it is loaded
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(max(1, given.j))
    with reporting_with(LogReporter), _AbortWatch(folder):
        code = main(command)
    if code == OK:
        write_output_nodes(folder, f"{given.o.rstrip('/')}/", Path.cwd())
    return code


def _align_command(given: argparse.Namespace, parameters: Sequence[str], folder: Path) -> list[str]:
    """What ``align`` is given for the arguments of RELION.

    Raises
    ------
    InputError : for an input of RELION's form that ``align`` has no use for
    """
    for name, field in (("mics", "micrographs"), ("movies", "movies"), ("coords", "coordinates")):
        if getattr(given, f"in_{name}"):
            raise InputError(f"--in_{name}: leave 'Input {field}' empty and give 'Input particles'.")
    if given.in_mask:
        raise InputError("--in_mask: leave 'Input 3D mask' empty; the mask is round: give a parameter 'mask_diameter'.")
    words = [_option(word) for word in parameters]
    if given.in_3dref:
        words += ["--reference", given.in_3dref]
    if (folder / names.CHECKPOINT / RUN).is_file() and "--resume" not in words:
        words.append("--resume")  # RELION's button 'Continue!' gives the same arguments again
    return ["align", given.in_parts, *words, "--output", given.o, "--format", "relion"]


def _option(word: str) -> str:
    """RELION's labels are written with underscores, our options with hyphens."""
    if not word.startswith("--"):
        return word
    label, equals, value = word.partition("=")
    return label.replace("_", "-") + equals + value


def _mark(folder: Path, code: int) -> None:
    """Tell RELION how the job ended."""
    try:
        (folder / ABORT_NOW).unlink(missing_ok=True)
        (folder / _ENDS.get(code, FAILURE)).touch()
    except OSError as error:
        complain(f"Error: {folder}: RELION cannot be told that the job is over ({error.strerror or error}).")
