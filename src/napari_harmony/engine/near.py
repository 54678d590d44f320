"""Messages between the processes of one node, through memory that they share.

Those of torch pass through sockets and several threads each, and take a millisecond or two where every processor is
busy; a training sends a dozen with every batch. Here everybody writes, says that it has written, and reads what the
others wrote.
"""

from __future__ import annotations

import mmap
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch
from torch import Tensor

#: Folder of files in memory.
MEMORY = Path("/dev/shm")
#: Bytes that a process says at once; what is longer is said in pieces.
PIECE = 2**22
#: Two areas in turn: who writes into one has heard, with the message before, that all have read it.
_AREAS = 2
#: Bytes from the counter of one process to that of the next: no two share a line of a processor's cache.
_APART = 128
#: Looks at a counter before the processor is left to others, seconds of the naps from then on, and seconds after which
#: it is looked whether the other process is still there.
_LOOKS, _NAP, _LIFE = 20_000, 0.0005, 0.2


def can_share() -> bool:
    """Whether processes of this machine can speak through memory.

    What one writes first, others must see first, which x86 processors alone promise without further ado.
    """
    return sys.platform == "linux" and platform.machine() in ("x86_64", "AMD64")


def create(size: int) -> Path:
    """A new file in memory through which ``size`` processes can speak; OSError where there is no room for it."""
    handle, name = tempfile.mkstemp(prefix="napari-harmony-", dir=MEMORY if MEMORY.is_dir() else None)
    try:
        os.posix_fallocate(handle, 0, _length(size))
    except OSError:
        os.unlink(name)
        raise
    finally:
        os.close(handle)
    return Path(name)


@dataclass(frozen=True)
class Near:
    """Memory that all processes of a run share, as one of them sees it.

    Attributes
    ----------
    rank : of this process
    processes : the process ids of all
    words : (areas, processes, ``PIECE``) uint8, what each says
    marks : int64, how many pieces each has said
    """

    rank: int
    processes: tuple[int, ...]
    words: Tensor
    marks: memoryview = field(compare=False)

    @classmethod
    def opened(cls, path: Path, rank: int, processes: tuple[int, ...]) -> Near:
        """As ``create`` made it; the file may go when all have opened it. OSError where it cannot be."""
        with path.open("r+b") as file:
            memory = mmap.mmap(file.fileno(), _length(len(processes)))
        words = torch.frombuffer(memory, dtype=torch.uint8, count=_AREAS * len(processes) * PIECE)
        marks = memoryview(memory)[-_APART * len(processes) :].cast("q")[:: _APART // 8]
        return cls(rank, processes, words.view(_AREAS, len(processes), PIECE), marks)

    def sum(self, message: Tensor) -> None:
        """Add up the messages (n,) of all in place, to the same bits in every process; raises as ``exchanged``."""
        for piece in message.split(PIECE // message.element_size()):
            parts = self._said(piece)
            torch.add(parts[0], parts[1], out=piece)
            for part in parts[2:]:
                piece += part

    def exchanged(self, message: Tensor) -> list[Tensor]:
        """The messages (n,) of all, of one length and kind, in the order of their ranks.

        Raises
        ------
        RuntimeError : another process is gone
        """
        everyone = [torch.empty_like(message) for _ in self.processes]
        size = PIECE // message.element_size()
        for start in range(0, len(message), size):
            rows = slice(start, start + size)
            for whole, part in zip(everyone, self._said(message[rows]), strict=True):
                whole[rows] = part
        return everyone

    def complete(self, whole: Tensor, shares: Sequence[slice]) -> None:
        """Fill in rows (n, ...) in place, of which each process knows its share; raises as ``exchanged``."""
        rows = [whole[share].reshape(-1).view(torch.uint8) for share in shares]
        longest = max(map(len, rows))
        for start in range(0, longest, PIECE):
            size = min(PIECE, longest - start)
            parts = [row[start : start + size] for row in rows]
            mine = torch.nn.functional.pad(parts[self.rank], (0, size - len(parts[self.rank])))
            for part, said in zip(parts, self._said(mine), strict=True):
                part.copy_(said[: len(part)])

    def _said(self, piece: Tensor) -> list[Tensor]:
        """What all say, to be read before the next piece."""
        turn = self.marks[self.rank] + 1
        area = self.words[turn % _AREAS, :, : piece.numel() * piece.element_size()]
        parts = [row.view(piece.dtype) for row in area]
        parts[self.rank].copy_(piece)
        self.marks[self.rank] = turn
        for other in range(len(parts)):
            self._hear(other, turn)
        return parts

    def _hear(self, other: int, turn: int) -> None:
        """Wait until a process has said so many pieces."""
        for _ in range(_LOOKS):
            if self.marks[other] >= turn:
                return
        looked = time.monotonic()
        while self.marks[other] < turn:
            time.sleep(_NAP)
            if time.monotonic() - looked > _LIFE:
                looked = time.monotonic()
                if _gone(self.processes[other]) and self.marks[other] < turn:
                    raise RuntimeError(f"process {other} is gone")


def _length(size: int) -> int:
    """Bytes of the memory of so many processes: their words, then their marks."""
    return size * (_AREAS * PIECE + _APART)


def _gone(process: int) -> bool:
    """Whether a process has ended, be it that nobody has asked yet how."""
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
