"""What a running job says of itself in its OUT folder, and what others may ask of it there.

Beside its checkpoint a job without a window writes ``live/status.json`` once a second and ``live/averages.npy`` now and
then, each beside and renamed, so that a reader on another machine finds whole files. A file ``live/finish`` or
``live/cancel`` is the request to end soon with what is there, or to stop. All of it goes with the checkpoint: when the
job is complete, or has left nothing that could be continued.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_harmony.engine.events import Event, Loss, Preview, Progress
from napari_harmony.errors import InputError
from napari_harmony.outputs import names

FOLDER = "live"
STATUS, AVERAGES = "status.json", "averages.npy"
_EVERY, _PICTURES_EVERY = 1.0, 4.0  # seconds between writes
_MOST_LOSSES = 256


class Phase(Enum):
    """Where a job stands."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"


class Request(Enum):
    """What a follower may ask of a job."""

    FINISH = "finish"
    CANCEL = "cancel"


@dataclass(frozen=True)
class Status:
    """A job at one moment.

    Attributes
    ----------
    phase : where it stands
    stage : what is being done; ``message``: more about it, or why the job failed
    fraction : of the whole run in [0, 1]
    seconds_left : None where it is not known
    host, process : where it runs
    beat : counts the writes; one that does not change any more belongs to a job that was killed, whatever the clocks
        of two machines say
    losses : batches done, and the objective after them, thinned to a few hundred
    batches : that the training has; 0 before it begins
    iteration : of the averages beside; 0 where there are none yet
    counts : particles in each of these averages
    """

    phase: Phase = Phase.RUNNING
    stage: str = ""
    message: str = ""
    fraction: float = 0.0
    seconds_left: float | None = None
    host: str = ""
    process: int = 0
    beat: int = 0
    losses: tuple[tuple[int, float], ...] = ()
    batches: int = 0
    iteration: int = 0
    counts: tuple[float, ...] = ()


class Live:
    """The writing side: kept by a job while it runs.

    Parameters
    ----------
    checkpoint : folder of the job's state, in which this one is made anew
    now : a clock in seconds

    What cannot be written is left out: a job never fails because nobody can follow it.
    """

    def __init__(self, checkpoint: Path, now: Callable[[], float] = time.monotonic) -> None:
        self.folder = checkpoint / FOLDER
        self._now = now
        self._status = Status(host=socket.gethostname(), process=os.getpid())
        self._written = self._drawn = -math.inf
        self._preview: Preview | None = None
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
        self._write()

    @property
    def status(self) -> Status:
        """As it stands, written or not."""
        return self._status

    def show(self, event: Event) -> None:
        """Take an event in, and write what is due."""
        self._status = _after(self._status, event)
        if isinstance(event, Preview):
            self._preview = event
        now = self._now()
        if self._preview is not None and now - self._drawn >= _PICTURES_EVERY:
            self._draw(self._preview, now)
        if now - self._written >= _EVERY:
            self._write()

    def requested(self) -> Request | None:
        """What a follower has asked for; a cancellation goes before all else."""
        return next((r for r in (Request.CANCEL, Request.FINISH) if (self.folder / r.value).exists()), None)

    def end(self, phase: Phase, message: str = "") -> None:
        """The job is over; pictures of what was not yet complete go."""
        for name in (AVERAGES, *(request.value for request in Request)):
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()
        whole = 1.0 if phase is Phase.FINISHED else self._status.fraction
        self._status = replace(
            self._status, phase=phase, message=message, fraction=whole, seconds_left=None, iteration=0, counts=()
        )
        self._write()

    def _draw(self, preview: Preview, now: float) -> None:
        """Pictures first, then the status that tells of them: a reader never looks for what is not there."""
        self._drawn, self._preview = now, None
        with contextlib.suppress(OSError):
            beside = self.folder / f"{AVERAGES}.new"
            with beside.open("wb") as file:
                np.save(file, np.asarray(preview.averages, dtype=np.float32), allow_pickle=False)
            os.replace(beside, self.folder / AVERAGES)
            counts = tuple(float(count) for count in preview.counts)
            self._status = replace(self._status, iteration=self._status.iteration + 1, counts=counts)
            self._written = -math.inf

    def _write(self) -> None:
        self._written = self._now()
        self._status = replace(self._status, beat=self._status.beat + 1)
        values = asdict(self._status) | {"phase": self._status.phase.value}
        with contextlib.suppress(OSError):
            beside = self.folder / f"{STATUS}.new"
            beside.write_text(json.dumps(values, allow_nan=False) + "\n", encoding="utf-8")
            os.replace(beside, self.folder / STATUS)


def read_status(out: Path) -> Status:
    """What the job that writes into ``out`` says of itself.

    Raises
    ------
    InputError : there is no such job, or what it wrote cannot be read
    """
    path = _folder(out) / STATUS
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return _status(values)
    except FileNotFoundError:
        raise InputError(
            f"{out}: no job writes here; give the OUT folder of a running 'napari-harmony align' or 'train'."
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path}: this is no status of a job ({error}); give the OUT folder of another job."
        ) from error


def read_averages(out: Path) -> NDArray[np.float32] | None:
    """Class averages (k, b, b) or (k, b, b, b) of the job as it goes on, or None where there are none to be read."""
    try:
        averages = np.load(_folder(out) / AVERAGES, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    usable = averages.ndim in (3, 4) and averages.dtype.kind == "f" and averages.size > 0
    return averages.astype(np.float32, copy=False) if usable else None


def ask(out: Path, request: Request) -> None:
    """Ask the job that writes into ``out`` for something; it hears within a second or two of its next batch.

    Raises
    ------
    InputError : no job writes there, or the folder is not the user's to write in
    """
    read_status(out)
    try:
        (_folder(out) / request.value).touch()
    except OSError as error:
        raise InputError(
            f"{out}: this folder cannot be written ({error.strerror}); ask whoever started the job."
        ) from error


def _folder(out: Path) -> Path:
    return out / names.CHECKPOINT / FOLDER


def _after(status: Status, event: Event) -> Status:
    """The status after an event."""
    if isinstance(event, Progress):
        left = event.seconds_left
        return replace(
            status,
            stage=event.stage,
            message=event.message,
            fraction=float(event.fraction),
            seconds_left=None if left is None else float(left),
        )
    if isinstance(event, Loss) and math.isfinite(event.value):
        losses = (*status.losses, (int(event.done), float(event.value)))
        return replace(status, losses=_thinned(losses), batches=int(event.total))
    return status


def _thinned(losses: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
    """Every second of too many; the last one stays."""
    return losses if len(losses) <= _MOST_LOSSES else losses[::-2][::-1]


def _status(values: Any) -> Status:
    """A status from JSON; raises ``ValueError`` or ``TypeError`` where it is none."""
    if not isinstance(values, dict):
        raise ValueError("it is not an object")
    known = {field.name: values[field.name] for field in fields(Status) if field.name in values}
    left = known.get("seconds_left")
    return Status(
        **known
        | {
            "phase": Phase(known.get("phase")),
            "stage": str(known.get("stage", "")),
            "message": str(known.get("message", "")),
            "fraction": min(1.0, max(0.0, float(known.get("fraction", 0.0)))),
            "seconds_left": None if left is None else float(left),
            "losses": tuple((int(done), float(value)) for done, value in known.get("losses", ())),
            "counts": tuple(float(count) for count in known.get("counts", ())),
        }
    )
