"""Write STAR files back: whatever was not changed keeps its bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.particles.files import replacing
from napari_harmony.particles.star import StarDocument, StarTable
from napari_harmony.particles.star_text import quote

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WIDTH = 12  # of a column in RELION's own files
_ROWS = 65536  # handled at a time
_NUMBERED = re.compile(rb"#(\s*)\d+")


def format_values(values: Any) -> list[str]:
    """Texts of an array (n,) as they stand in a STAR file: whole numbers, six decimals (or six digits), quoted text."""
    array = np.asarray(values)
    if array.dtype.kind == "b":
        return ["1" if value else "0" for value in array.tolist()]
    if array.dtype.kind in "iu":
        return [str(value) for value in array.tolist()]
    if array.dtype.kind == "f":
        return _numbers(array.astype(np.float64))
    return [quote(str(value)) for value in array.tolist()]


def _numbers(values: NDArray[np.float64]) -> list[str]:
    # One formatting operation for all is several times faster than one each
    texts = ("%.6f\n" * len(values) % tuple(values.tolist())).split()
    size = np.abs(values)
    for i in np.flatnonzero(((size < 1e-3) & (size > 0)) | (size >= 1e7)).tolist():
        texts[i] = f"{values[i]:.6g}"
    return texts


def write_star(
    path: str | os.PathLike[str],
    document: StarDocument,
    table: StarTable | None = None,
    columns: Mapping[str, Any] | None = None,
    *,
    rows: Sequence[int] | NDArray[np.int64] | None = None,
    comment: str = "",
) -> Path:
    """Write a STAR file in which one table may be changed; the file appears as a whole or not at all.

    Parameters
    ----------
    path : to write
    document : whose bytes are kept wherever nothing is changed
    table : the one of its tables to change
    columns : label -> values (rows of the table,); those it has are replaced, others appended behind the last
    rows : numbers of the rows to keep, in this order; None for all
    comment : a line to put at the top, beginning with ``#``

    Returns
    -------
    the path
    """
    with replacing(path) as file:
        if comment:
            file.write(comment.encode("utf-8", "surrogateescape") + b"\n")
        if table is None or (not columns and rows is None):
            file.write(document.content)
        else:
            for piece in _edited(document, table, columns or {}, rows):
                file.write(piece)
    return Path(path)


def write_loop(block: str, columns: Mapping[str, Any], version: int = 30001) -> Iterator[bytes]:
    """A new data block with one loop, in RELION's layout.

    Parameters
    ----------
    block : name without ``data_``
    columns : label -> values, all of one length
    version : RELION's number of the format
    """
    header = "".join(f"_{label} #{number}\n" for number, label in enumerate(columns, start=1))
    yield f"\n# version {version}\n\ndata_{block}\n\nloop_\n{header}".encode()
    arrays = [np.asarray(values) for values in columns.values()]
    for first in range(0, len(arrays[0]), _ROWS):
        texts = [format_values(array[first : first + _ROWS]) for array in arrays]
        lines = (" ".join(text.rjust(_WIDTH) for text in row) for row in zip(*texts, strict=True))
        yield ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")
    yield b"\n"


def _edited(
    document: StarDocument, table: StarTable, columns: Mapping[str, Any], rows: Sequence[int] | NDArray[np.int64] | None
) -> Iterator[bytes]:
    for label, values in columns.items():
        if len(values) != len(table):
            raise ValueError(f"{label} has {len(values)} values for {len(table)} rows")
    changed = {table.labels.index(label): values for label, values in columns.items() if label in table}
    added = {label: values for label, values in columns.items() if label not in table}
    if table.is_loop:
        yield from _edited_loop(document, table, changed, added, rows)
    else:
        yield from _edited_pairs(document, table, changed, added)


def _edited_loop(
    document: StarDocument,
    table: StarTable,
    changed: Mapping[int, Any],
    added: Mapping[str, Any],
    rows: Sequence[int] | NDArray[np.int64] | None,
) -> Iterator[bytes]:
    content, words = document.content, table.words
    yield content[: table.header_stop]
    yield from _label_lines(document, table, added)
    if len(table) == 0:
        yield content[table.header_stop :]
        return
    line_start = words.line_start[table.lines].astype(np.int64)
    line_stop = words.line_stop[table.lines].astype(np.int64)
    yield content[table.header_stop : line_start[0]]
    chosen = np.arange(len(table)) if rows is None else np.asarray(rows, dtype=np.int64)
    separator = b"\t" if b"\t" in content[line_start[0] : line_stop[0]] else b" "
    order = sorted(changed)
    for first in range(0, len(chosen), _ROWS):
        part = chosen[first : first + _ROWS]
        new = [_encoded(changed[column], part) for column in order]
        more = _appended([_encoded(values, part) for values in added.values()], separator)
        bounds = [table.start[part][:, order].tolist(), table.stop[part][:, order].tolist()]
        behind = table.stop[part, -1].tolist()
        starts, stops = line_start[part].tolist(), line_stop[part].tolist()
        pieces: list[bytes] = []
        for i, row in enumerate(part.tolist()):
            if rows is None and row:  # the line break, and any comments between two rows
                pieces.append(content[line_stop[row - 1] : starts[i]])
            elif i or first:
                pieces.append(b"\n")
            values = [column[i] for column in new]
            tail = _cells_replaced(content, starts[i], bounds[0][i], bounds[1][i], values, pieces)
            pieces.append(content[tail : behind[i]])
            if more:
                pieces.append(more[i])
            pieces.append(content[behind[i] : stops[i]])
        yield b"".join(pieces)
    yield content[line_stop[-1] :]


def _encoded(values: Any, rows: NDArray[np.int64]) -> list[bytes]:
    texts = format_values(np.asarray(values)[rows])
    return "\n".join(texts).encode("utf-8", "surrogateescape").split(b"\n") if texts else []


def _appended(columns: list[list[bytes]], separator: bytes) -> list[bytes]:
    """For every row, what stands behind its old values; empty without new columns."""
    if separator == b" ":
        columns = [[value.rjust(_WIDTH) for value in column] for column in columns]
    return [separator + separator.join(row) for row in zip(*columns, strict=True)]


def _cells_replaced(
    content: bytes, position: int, starts: list[int], stops: list[int], values: list[bytes], pieces: list[bytes]
) -> int:
    """Append one row's bytes up to its last changed cell; the right edges of aligned columns stay where they were."""
    line = position
    for start, stop, value in zip(starts, stops, values, strict=True):
        before = content[position:start]
        bare = before.rstrip(b" ")
        blanks = len(before) - len(bare)
        needed = 0 if start == line else min(blanks, 1)
        width = blanks - needed + stop - start if blanks else 0
        pieces.append(bare + b" " * needed + value.rjust(width))
        position = stop
    return position


def _label_lines(document: StarDocument, table: StarTable, added: Iterable[str]) -> Iterator[bytes]:
    """Lines for further labels in the style of the last one."""
    last = table.label_lines[-1]
    content = document.content
    line = content[int(table.words.line_start[last]) : table.header_stop]
    if not line.endswith(b"\n") and added:
        yield b"\n"
    numbered = _NUMBERED.search(line)
    ending = b"\r\n" if line.endswith(b"\r\n") else b"\n"
    blank = b" " if line.rstrip(b"\r\n").endswith(b" ") else b""
    for number, label in enumerate(added, start=len(table.labels) + 1):
        suffix = f" #{number}".encode() if numbered else b""
        yield b"_" + label.encode() + suffix + blank + ending


def _edited_pairs(
    document: StarDocument, table: StarTable, changed: Mapping[int, Any], added: Mapping[str, Any]
) -> Iterator[bytes]:
    content, position = document.content, 0
    for column in sorted(changed):
        start, stop = int(table.start[0, column]), int(table.stop[0, column])
        yield content[position:start]
        yield _encoded(changed[column], np.array([0]))[0]
        position = stop
    yield content[position : table.header_stop]
    if added and not content[: table.header_stop].endswith(b"\n"):
        yield b"\n"
    for label, values in added.items():
        yield b"_" + label.encode() + b" " + _encoded(values, np.array([0]))[0] + b"\n"
    yield content[table.header_stop :]
