"""Where the words of a STAR file are: a fast split into lines and tokens that keeps every byte in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK = 16 * 2**20
_IS_SPACE = np.zeros(256, dtype=bool)
_BLANKS = " \t\r\n\v\f"  # str.isspace would also take bytes of UTF-8 characters for blanks
_IS_SPACE[[ord(c) for c in _BLANKS]] = True


@dataclass(frozen=True)
class Words:
    """Offsets into ``data``; quotes have no meaning yet.

    Attributes
    ----------
    data : the file, (bytes,) uint8
    start, stop : (t,) half-open extent of every run of characters that are not blank
    line_start, line_stop : (m,) half-open extent of every line, without its newline
    line_word : (m + 1,) words before each line, so that line i holds the words line_word[i]:line_word[i + 1]
    """

    data: NDArray[np.uint8]
    start: NDArray[Any]
    stop: NDArray[Any]
    line_start: NDArray[Any]
    line_stop: NDArray[Any]
    line_word: NDArray[Any]

    def text(self, start: int, stop: int) -> str:
        """The characters of ``data[start:stop]``; bytes that are not UTF-8 survive a round trip."""
        return self.data[start:stop].tobytes().decode("utf-8", "surrogateescape")

    def line(self, number: int) -> list[str]:
        """The words of a line (0-based)."""
        first, last = int(self.line_word[number]), int(self.line_word[number + 1])
        return [self.text(int(self.start[i]), int(self.stop[i])) for i in range(first, last)]


def split_words(content: bytes) -> Words:
    """Find all lines and words of a file."""
    data = np.frombuffer(content, np.uint8)
    offset = np.uint32 if len(data) < 2**32 - 1 else np.uint64
    starts, stops, newlines = [], [], []
    previous = True  # the character before the file counts as blank
    for begin in range(0, len(data), _CHUNK):
        chunk = data[begin : begin + _CHUNK]
        blank = _IS_SPACE[chunk]
        before = np.concatenate([[previous], blank[:-1]])
        starts.append((np.flatnonzero(before & ~blank) + begin).astype(offset))
        stops.append((np.flatnonzero(~before & blank) + begin).astype(offset))
        newlines.append((np.flatnonzero(chunk == 10) + begin).astype(offset))
        previous = bool(blank[-1])
    if not previous:
        stops.append(np.array([len(data)], offset))
    start, stop, newline = (np.concatenate(parts or [np.zeros(0, offset)]) for parts in (starts, stops, newlines))
    if len(data) and data[-1] != 10:
        newline = np.append(newline, np.array([len(data)], offset))
    line_start = np.concatenate([np.zeros(1, offset), newline[:-1] + np.ones(1, offset)])[: len(newline)]
    line_word = np.concatenate([[0], np.searchsorted(start, newline)])
    return Words(data, start, stop, line_start, newline, line_word)


def split_quoted(line: str) -> list[tuple[int, int]]:
    """Extents of the values of one line; a quoted value keeps its quotes.

    A quote opens at the beginning of a value and closes before a blank or the end; one that never closes is an
    ordinary character.
    """
    extents = []
    position, length = 0, len(line)
    while position < length:
        if line[position] in _BLANKS:
            position += 1
            continue
        stop = _closing_quote(line, position) if line[position] in "\"'" else 0
        if not stop:
            stop = position
            while stop < length and line[stop] not in _BLANKS:
                stop += 1
        extents.append((position, stop))
        position = stop
    return extents


def _closing_quote(line: str, start: int) -> int:
    """Where a quoted value ends, just behind its closing quote; 0 if it has none."""
    stop = line.find(line[start], start + 1)
    while stop >= 0 and stop + 1 < len(line) and line[stop + 1] not in _BLANKS:
        stop = line.find(line[start], stop + 1)
    return stop + 1


def unquote(value: str) -> str:
    """A value without the quotes around it."""
    return value[1:-1] if len(value) > 1 and value[0] in "\"'" and value[-1] == value[0] else value


def quote(value: str) -> str:
    """A value as it can stand in a STAR file: in quotes where it is empty, has blanks or would look like a keyword."""
    plain = value and not any(c.isspace() for c in value) and value[0] not in "\"'#_;"
    if plain and not value.lower().startswith(("data_", "loop_", "save_", "stop_", "global_")):
        return value
    for mark in "\"'":
        if mark not in value and "\n" not in value and "\r" not in value:
            return f"{mark}{value}{mark}"
    raise ValueError(f"{value!r} cannot be written into a STAR file: it has both kinds of quotes or a line break")


def cells(data: NDArray[np.uint8], start: NDArray[Any], stop: NDArray[Any]) -> NDArray[np.bytes_]:
    """The texts between ``start`` and ``stop``, both (n,), as an array of bytes; quotes around them are left out."""
    start, stop = start.astype(np.int64), stop.astype(np.int64)
    if len(start) == 0:
        return np.zeros(0, "S1")
    mark = data[start]
    quoted = ((mark == 34) | (mark == 39)) & (stop - start > 1) & (data[stop - 1] == mark)
    start, stop = start + quoted, stop - quoted
    width = max(1, int((stop - start).max()))
    out = np.zeros((len(start), width), np.uint8)
    step = max(1, 4 * 2**20 // width)
    for first in range(0, len(start), step):
        rows = slice(first, first + step)
        index = start[rows, None] + np.arange(width)
        inside = index < stop[rows, None]
        out[rows] = np.where(inside, data[np.minimum(index, len(data) - 1)], 0)
    return out.view(f"S{width}")[:, 0]
