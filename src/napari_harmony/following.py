"""Following a job that runs elsewhere, through its OUT folder: the events that the job itself would give. No Qt."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_harmony.engine.events import Done, Event, Loss, Preview, Progress
from napari_harmony.errors import InputError
from napari_harmony.outputs import names
from napari_harmony.outputs.live import Phase, Status, read_averages, read_status

#: Seconds between looks into the folder.
EVERY = 1.0
#: Looks without a status before a job counts as over: other machines see a folder late on a network file system.
_PATIENCE = 5
#: Seconds without a beat after which somebody should look whether the job was killed.
_SILENT = 60.0


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes
    ----------
    phase : finished, failed or stopped
    message : in words, one sentence
    result : the OUT folder, where it holds a result that can be opened
    """

    phase: Phase
    message: str
    result: Path | None = None


def follow(
    out: Path, *, wait: Callable[[float], object] = time.sleep, now: Callable[[], float] = time.monotonic
) -> Iterator[Event]:
    """What the job that writes into ``out`` does, until it is over; ends with ``Done(Ended)``.

    A job that has not begun is waited for, such as one in the queue of a cluster. At least one event comes every
    second; closing the generator ends the following and leaves the job alone.

    Parameters
    ----------
    out : OUT folder of ``napari-harmony align`` or ``train``; it may not be there yet
    wait : sleeps so many seconds
    now : a clock in seconds

    Raises
    ------
    InputError : ``out`` is a file
    """
    if out.is_file():
        raise InputError(f"{out}: this is a file; give the folder that the job was given with -o.")
    before, seen, beat, since, misses = _proofs(out), None, -1, now(), 0
    while True:
        status = _look(out)
        if status is None:
            misses += 1
            if seen is None and before:
                yield Done(Ended(Phase.FINISHED, "The job here is complete.", _opened(out)))
                return
            if seen is not None and misses >= _PATIENCE:
                yield Done(_vanished(out, before))
                return
            if seen is None:
                yield Progress("waiting for the job to begin", 0.0)
        else:
            misses = 0
            if status.beat != beat:
                yield from _news(out, seen, status)
                beat, since, seen = status.beat, now(), status
            if status.phase is not Phase.RUNNING:
                yield Done(Ended(status.phase, _words(status), None))
                return
            yield _progress(status, now() - since)
        wait(EVERY)


def _look(out: Path) -> Status | None:
    """The status of the job, or None where there is none; a half-readable one is looked at again."""
    try:
        return read_status(out)
    except InputError:
        return None


def _news(out: Path, before: Status | None, status: Status) -> Iterator[Event]:
    """What has come since the status ``before``."""
    last = before.losses[-1][0] if before is not None and before.losses else 0
    if status.losses and status.losses[-1][0] < last:  # another training
        last = 0
    for done, value in status.losses:
        if done > last:
            yield Loss(done, max(status.batches, done), value)
    if status.iteration and (before is None or status.iteration != before.iteration):
        averages = read_averages(out)
        if averages is not None and len(averages) == len(status.counts):
            yield Preview(averages, np.array(status.counts, np.float32), status.iteration)


def _progress(status: Status, silent: float) -> Progress:
    progress = Progress(status.stage or "starting", status.fraction, status.message, status.seconds_left)
    if silent < _SILENT:
        return progress
    where = f"process {status.process} on {status.host}"
    return replace(progress, message=f"no sign of life for {silent / 60:.0f} min: look for {where}", seconds_left=None)


def _words(status: Status) -> str:
    """How a job ended that left something to continue from."""
    reason = status.message or ("It failed." if status.phase is Phase.FAILED else "It was stopped.")
    return f"{reason} The same command with --resume continues it."


def _proofs(out: Path) -> dict[str, int]:
    """The files that a complete job leaves, with when they were written."""
    found = {}
    for name in (names.SUMMARY, names.MODEL[1]):
        try:
            found[name] = (out / name).stat().st_mtime_ns
        except OSError:
            continue
    return found


def _vanished(out: Path, before: dict[str, int]) -> Ended:
    """How a job ended that says nothing any more: its checkpoint goes when it is complete, or has nothing to keep."""
    if _proofs(out) != before:
        return Ended(Phase.FINISHED, "The job is complete.", _opened(out))
    return Ended(Phase.FAILED, "The job ended without a result: what it printed says why.")


def _opened(out: Path) -> Path | None:
    """The folder, if it holds a result; that of ``train`` holds a model alone."""
    return out if (out / names.SUMMARY).is_file() else None
