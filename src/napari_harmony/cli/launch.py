"""The processes of a job: started here for one node, or found where torchrun, ``fabric run`` or srun started them.

The first process starts the others of its node with its own command, watches over them, and ends them when it ends.
They say nothing, but for what only they can know. A process that dies breaks the connection, of which the others hear
with their next message; where a message never comes back, they end some seconds later.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_harmony.cli.streams import complain
from napari_harmony.engine.processes import (
    STARTED,
    Place,
    check_shared,
    form_team,
    place_in,
    wanted_devices,
)
from napari_harmony.errors import InputError, TeamBroken

if TYPE_CHECKING:
    from napari_harmony.engine.team import Team

#: The command that runs, without the program's name: what the other processes are started with.
COMMAND: ContextVar[tuple[str, ...]] = ContextVar("command", default=())
#: Seconds between two looks at the others; that a process gets to notice by itself that another one is gone, and to
#: end when it is asked to.
_EVERY, _GRACE, _LEAVE = 0.2, 8.0, 3.0
#: Exit code of a process that cannot go on without another one.
_LOST = 1
_PROGRAM = "from napari_harmony.cli import console; console()"


@dataclass(frozen=True)
class Crew:
    """The processes of a job, as one of them sees them.

    Attributes
    ----------
    place : of this process
    device : as in ``Settings``
    children : those that this process has started, the second of the node first
    parent : the process that has started this one; 0 where none is watched
    over : set when this process needs the others no more
    """

    place: Place
    device: str
    children: tuple[subprocess.Popen[bytes], ...] = ()
    parent: int = 0
    over: threading.Event = field(default_factory=threading.Event, compare=False)

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.place.rank == 0

    def meet(self) -> Team:
        """The team of all processes, when all are there; raises as ``form_team``."""
        return form_team(self.place, self.device)

    def lost(self) -> int | None:
        """The rank of a process that is gone; None where all that can be seen are there."""
        if self.parent and os.getppid() != self.parent:
            return self.place.rank - self.place.rank % self.place.per_node
        gone = [number for number, child in enumerate(self.children, 1) if child.poll()]
        return self.place.rank + gone[0] if gone else None

    def missing(self, wait: float | None = None) -> str | None:
        """Which process is gone, in words, as soon as it can be seen; None where another process will say it."""
        end = time.monotonic() + (_LEAVE if wait is None else wait)
        while (lost := self.lost()) is None and time.monotonic() < end:
            time.sleep(_EVERY)
        if lost is not None:
            return f"Process {lost + 1} of {self.place.size} ended unexpectedly; run the same command with --resume."
        if self.parent:
            return None
        return f"One of {self.place.size} processes ended unexpectedly; run the same command with --resume."


@contextmanager
def crew_of(device: str, devices: str = "1", nodes: int = 1) -> Iterator[Crew]:
    """The processes that a job is asked to run in; those that are started for it end with the block.

    Parameters
    ----------
    device : as in ``Settings``
    devices : of each node, a number or "auto"
    nodes : how many there are

    Raises
    ------
    InputError : devices and nodes cannot be used together
    TeamBroken : another process ended before the job was complete
    """
    place = _place_for(device, devices, nodes)
    if place.size == 1:
        yield Crew(place, device)
        return
    starting = place.starter == "ourselves" and STARTED not in os.environ
    with _environment(place) if starting else _nothing():
        children = tuple(_start(rank) for rank in range(1, place.per_node)) if starting else ()
        parent = os.getppid() if place.starter == "ourselves" and not starting else 0
        crew = Crew(place, device, children, parent)
        threading.Thread(target=_watch, args=(crew,), name="the other processes", daemon=True).start()
        try:
            yield crew
        except TeamBroken as error:
            words = crew.missing()
            if words is None:
                raise SystemExit(_LOST) from error
            raise TeamBroken(words) from error
        else:
            _wait_for(children)
        finally:
            crew.over.set()
            _end(children)


def prepare(arguments: Sequence[str]) -> None:
    """Remember the command, for the processes that a job starts; one of these leaves Ctrl-C to the first."""
    COMMAND.set(tuple(arguments))
    if STARTED in os.environ:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def speaks(error: BaseException) -> bool:
    """Whether an error is for this process to tell: those of the input are found by all processes of a node alike."""
    place = place_in()
    alike = isinstance(error, InputError | KeyboardInterrupt) or not isinstance(error, Exception)
    return place.rank == 0 or not (alike and (place.nodes == 1 or place.rank % place.per_node))


def _place_for(device: str, devices: str, nodes: int) -> Place:
    """The place of this process among those asked for, or among those that somebody started."""
    place, given = place_in(), devices not in ("1", "auto")
    if place.starter == "nobody":
        count = wanted_devices(devices, device)
        if count * nodes > 1:
            place = Place("ourselves", _node_rank(nodes) * count, count, nodes)
    elif (given and wanted_devices(devices, device) != place.per_node) or (nodes > 1 and nodes != place.nodes):
        raise InputError(
            f"{place.per_node} processes were started on each of {place.nodes} nodes; leave out --devices and "
            "--num-nodes, or give the same."
        )
    check_shared(place, device)
    return place


def _node_rank(nodes: int) -> int:
    """Which node this is; raises ``InputError`` where it cannot be known."""
    missing = [name for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if nodes > 1 and missing:
        raise InputError(
            f"--num-nodes {nodes}: start the command on every node with srun or torchrun, or set {missing[0]} on each."
        )
    word = os.environ["NODE_RANK"] if nodes > 1 else "0"
    if not (word.isdecimal() and int(word) < nodes):
        raise InputError(f"NODE_RANK is '{word}': number the {nodes} nodes from 0.")
    return int(word)


@contextmanager
def _environment(place: Place) -> Iterator[None]:
    """Variables that say where the processes of this node meet; as before when the block ends."""
    given = {
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": str(place.per_node),
        "NODE_RANK": str(place.rank // place.per_node),
        "NAPARI_HARMONY_NODES": str(place.nodes),
    }
    if place.nodes == 1:
        given |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    before = {name: os.environ.get(name) for name in (*given, "WORLD_SIZE")}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(local_rank: int) -> subprocess.Popen[bytes]:
    """Start a process of this node with the command that runs."""
    environment = {**os.environ, STARTED: "1", "LOCAL_RANK": str(local_rank)}
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *COMMAND.get()],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def _watch(crew: Crew) -> None:
    """End this process when another one is gone and it has not noticed."""
    while crew.lost() is None:
        if crew.over.wait(_EVERY):
            return
    if not crew.over.wait(_GRACE):
        complain(f"Error: {crew.missing(0.0)}")
        _end(crew.children)
        os._exit(_LOST)


def _wait_for(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let the others finish."""
    end = time.monotonic() + _GRACE
    for child in children:
        try:
            child.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            return


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """End what still runs."""
    for child in children:
        if child.poll() is None:
            child.terminate()
    end = time.monotonic() + _LEAVE
    for child in children:
        try:
            child.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
