"""STAR files: tables that keep every byte of the file they came from.

A parsed file is its bytes plus the offsets of every cell, so that a million rows are split without a Python loop, a
column is converted only when asked for, and whatever is not changed is written back as it was.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.errors import InputError
from napari_harmony.particles.files import check_file
from napari_harmony.particles.star_text import Words, cells, split_quoted, split_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INTEGERS = re.compile(rb"[-+0-9\x00]*")


@dataclass(frozen=True, eq=False)
class StarTable:
    """One table of a STAR file: a loop, or label-value pairs (a table of one row).

    Attributes
    ----------
    path : of the file, for messages
    block : name of the data block it stands in, without ``data_``
    labels : column names without the leading underscore
    is_loop : a loop rather than pairs
    words : of the file
    start, stop : (rows, columns) extent of every cell, quotes included
    lines : (rows,) line of each row, 0-based; for pairs, of the first pair
    header_stop : where the next label line (or pair) would stand
    label_lines : 0-based line of every label
    """

    path: Path
    block: str
    labels: tuple[str, ...]
    is_loop: bool
    words: Words = field(repr=False)
    start: NDArray[Any] = field(repr=False)
    stop: NDArray[Any] = field(repr=False)
    lines: NDArray[np.int64] = field(repr=False)
    header_stop: int
    label_lines: tuple[int, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.start)

    def __contains__(self, label: object) -> bool:
        return label in self.labels

    @property
    def name(self) -> str:
        """What messages call the table."""
        return f"table data_{self.block}"

    def _cells(self, label: str) -> NDArray[np.bytes_]:
        if label not in self.labels:
            raise InputError(f"{self.path}, {self.name}: the column {label} is missing; add it to the file.")
        column = self.labels.index(label)
        return cells(self.words.data, self.start[:, column], self.stop[:, column])

    def texts(self, label: str) -> list[str]:
        """The values of a column as they are written, without quotes."""
        return [value.decode("utf-8", "surrogateescape") for value in self._cells(label).tolist()]

    def numbers(self, label: str) -> NDArray[np.float64]:
        """A column as numbers, (rows,).

        Raises
        ------
        InputError : the column is missing, or a value is no number (its line is named)
        """
        values = self._cells(label)
        try:
            return values.astype(np.float64)
        except ValueError:
            for row, value in enumerate(values.tolist()):
                if not _is_number(value):
                    raise self._value_error(row, label, "a number") from None
            raise  # pragma: no cover - float() and numpy disagree

    def integers(self, label: str) -> NDArray[np.int64]:
        """A column as whole numbers, (rows,); ``InputError`` as for ``numbers``."""
        numbers = self.numbers(label)
        wrong = np.flatnonzero(~np.isfinite(numbers) | (numbers != np.round(numbers)))
        if len(wrong):
            raise self._value_error(int(wrong[0]), label, "a whole number")
        return numbers.astype(np.int64)

    def column(self, label: str) -> NDArray[Any]:
        """A column in the type of its values: int64, float64, or object (str); names always stay text."""
        values = self._cells(label)
        if not label.endswith("Name") and len(values):
            try:
                if values.itemsize < 19 and _INTEGERS.fullmatch(values.tobytes()):
                    return values.astype(np.int64)
                return values.astype(np.float64)
            except ValueError:
                pass
        out = np.empty(len(values), dtype=object)
        out[:] = [value.decode("utf-8", "surrogateescape") for value in values.tolist()]
        return out

    def _value_error(self, row: int, label: str, expected: str) -> InputError:
        value = self._cells(label)[row].decode("utf-8", "replace")
        line = self.lines[row] + 1
        return InputError(f"{self.path}, line {line}: {label} is '{value}', which is not {expected}; correct it.")


def _is_number(value: bytes) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, eq=False)
class StarDocument:
    """A whole STAR file.

    Attributes
    ----------
    path : it was read from
    content : its bytes
    tables : in file order
    """

    path: Path
    content: bytes = field(repr=False)
    tables: tuple[StarTable, ...]

    def table(self, *blocks: str) -> StarTable | None:
        """The first table in one of the named blocks (earlier names first), None if there is none."""
        for block in blocks:
            for table in self.tables:
                if table.block == block:
                    return table
        return None

    def table_with(self, *labels: str) -> StarTable | None:
        """The first table that has one of the labels (earlier labels first), None if there is none."""
        for label in labels:
            for table in self.tables:
                if label in table:
                    return table
        return None

    @cached_property
    def version(self) -> int | None:
        """RELION's number in the first ``# version`` line (30001 for 3.1 and 4, 50001 for 5), None without one."""
        found = re.search(rb"(?m)^# version[ \t]+(\d+)", self.content)
        return int(found[1]) if found else None


def read_star(path: str | os.PathLike[str]) -> StarDocument:
    """Read a STAR file of any RELION version.

    Raises
    ------
    InputError : missing file, not a STAR file, a row with too many or too few values, a label used twice; the file and
        the line are named
    """
    path = Path(path)
    check_file(path)
    try:
        return parse_star(path.read_bytes(), path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error


def parse_star(content: bytes, path: str | os.PathLike[str] = "STAR text") -> StarDocument:
    """Parse the bytes of a STAR file; ``path`` is what messages call it."""
    path = Path(path)
    if b"\x00" in content[:4096]:
        raise InputError(f"{path} is no STAR file: it holds binary data (or UTF-16 text; save it as UTF-8).")
    tables = tuple(_Parser(path, split_words(content)).tables())
    if not tables:
        raise InputError(f"{path} is no STAR file: it has no table (data_..., loop_, _labels).")
    return StarDocument(path, content, tables)


class _Parser:
    """One pass over the lines that are not rows; rows are found all at once."""

    def __init__(self, path: Path, words: Words) -> None:
        self.path = path
        self.words = words
        self.counts = np.diff(words.line_word)
        self.first = np.full(len(self.counts), 10, np.uint8)  # first character of each line, a newline where blank
        filled = np.flatnonzero(self.counts)
        self.first[filled] = words.data[words.start[words.line_word[filled]]]

    def tables(self) -> Iterable[StarTable]:
        line, block, lines = 0, None, len(self.counts)
        while line < lines:
            if self._skipped(line):
                line += 1
                continue
            words = self.words.line(line)
            word = words[0].removeprefix("\ufeff") if line == 0 else words[0]
            if word.lower().startswith("data_"):
                block, line = word[5:], line + 1
            elif block is not None and word.lower() == "loop_":
                table, line = self._loop(block, line + 1)
                yield table
            elif block is not None and word.startswith("_"):
                table, line = self._pairs(block, line)
                yield table
            else:
                raise InputError(
                    f"{self.path}, line {line + 1}: '{word[:40]}' stands outside any table; "
                    "a STAR file has data_ blocks of loops or label-value pairs."
                )

    def _skipped(self, line: int) -> bool:
        return self.counts[line] == 0 or self.first[line] == ord("#")

    def _loop(self, block: str, line: int) -> tuple[StarTable, int]:
        labels, label_lines = [], []
        while line < len(self.counts) and (self._skipped(line) or self.first[line] == ord("_")):
            if not self._skipped(line):
                labels.append(self.words.line(line)[0][1:])
                label_lines.append(line)
            elif labels and self.counts[line] == 0:
                break  # an empty line behind the labels: rows, or nothing, follow
            line += 1
        if not labels:
            raise InputError(f"{self.path}, line {line}: loop_ has no labels behind it; add them or delete the loop.")
        self._check_unique(block, labels, label_lines)
        rows, after = self._rows(line, len(labels))
        start, stop = self._cells(block, rows, len(labels))
        return self._table(block, labels, True, start, stop, rows, label_lines), after

    def _pairs(self, block: str, line: int) -> tuple[StarTable, int]:
        labels, label_lines, extents = [], [], []
        while line < len(self.counts) and (self._skipped(line) or self.first[line] == ord("_")):
            if not self._skipped(line):
                values = self._extents(line)
                if len(values) < 2 or (len(values) > 2 and self.words.data[values[2][0]] != ord("#")):
                    raise InputError(
                        f"{self.path}, line {line + 1}: {self.words.line(line)[0]} needs one value and has "
                        f"{len(values) - 1}; put a value with blanks in quotes."
                    )
                labels.append(self.words.line(line)[0][1:])
                label_lines.append(line)
                extents.append(values[1])
            line += 1
        self._check_unique(block, labels, label_lines)
        bounds = np.array(extents, dtype=np.int64).reshape(1, -1, 2)
        rows = np.array(label_lines[:1], dtype=np.int64)
        return self._table(block, labels, False, bounds[..., 0], bounds[..., 1], rows, label_lines), line

    def _table(
        self,
        block: str,
        labels: list[str],
        is_loop: bool,
        start: NDArray[Any],
        stop: NDArray[Any],
        rows: NDArray[np.int64],
        label_lines: list[int],
    ) -> StarTable:
        header_stop = min(int(self.words.line_stop[label_lines[-1]]) + 1, len(self.words.data))
        return StarTable(
            self.path, block, tuple(labels), is_loop, self.words, start, stop, rows, header_stop, tuple(label_lines)
        )

    def _check_unique(self, block: str, labels: list[str], lines: list[int]) -> None:
        seen: dict[str, int] = {}
        for label, line in zip(labels, lines, strict=True):
            if label in seen:
                raise InputError(
                    f"{self.path}, line {line + 1}: the label _{label} of table data_{block} stands on line "
                    f"{seen[label] + 1} already; delete one of the two columns."
                )
            seen[label] = line

    def _rows(self, line: int, columns: int) -> tuple[NDArray[np.int64], int]:
        """Lines of the rows from ``line`` on, and the line where the table is over."""
        first = self.first[line:]
        keyword = np.isin(first, np.frombuffer(b"dDlL_", np.uint8))
        after = len(self.counts)
        for candidate in np.flatnonzero(keyword):
            if self._ends_table(line + int(candidate), columns):
                after = line + int(candidate)
                break
        inside = slice(line, after)
        is_row = (self.counts[inside] > 0) & (self.first[inside] != ord("#"))
        return np.flatnonzero(is_row) + line, after

    def _ends_table(self, line: int, columns: int) -> bool:
        """Whether a line is a keyword, and not a row whose first value looks like one (``data_1.mrc 3.1 2.0``)."""
        index = int(self.words.line_word[line])
        word = self.words.text(int(self.words.start[index]), int(self.words.stop[index])).lower()
        if not (word.startswith(("data_", "_")) or word == "loop_"):
            return False
        if self.counts[line] == 1:
            return True
        comment = self.words.data[self.words.start[index + 1]] == ord("#")
        if word.startswith("_"):
            return bool(self.counts[line] != columns or comment or self.counts[line - 1] == 0)
        return bool(comment)

    def _cells(self, block: str, rows: NDArray[np.int64], columns: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Extents of the cells, each (rows, columns)."""
        words = self.words
        special = np.flatnonzero(self.counts[rows] != columns).tolist()
        if len(rows):
            first, last = int(words.line_word[rows[0]]), int(words.line_word[rows[-1] + 1])
            opening = words.data[words.start[first:last]]
            quoted = np.flatnonzero((opening == 34) | (opening == 39)) + first
            quoted_lines = np.searchsorted(words.line_word, quoted, side="right") - 1
            special = sorted({*special, *np.searchsorted(rows, np.unique(quoted_lines)).tolist()})
            if not special and last - first == len(rows) * columns:
                shape = (len(rows), columns)
                return words.start[first:last].reshape(shape), words.stop[first:last].reshape(shape)
        odd = {row: self._row_extents(block, int(rows[row]), columns) for row in special if row < len(rows)}
        index = words.line_word[rows][:, None] + np.arange(columns)
        index = np.minimum(index, max(0, len(words.start) - 1))
        start, stop = words.start[index], words.stop[index]
        for row, extents in odd.items():
            start[row], stop[row] = np.array(extents).T
        return start, stop

    def _extents(self, line: int) -> list[tuple[int, int]]:
        begin = int(self.words.line_start[line])
        # latin-1 keeps one character per byte, so that positions are offsets
        text = self.words.data[begin : int(self.words.line_stop[line])].tobytes().decode("latin-1")
        return [(begin + first, begin + last) for first, last in split_quoted(text)]

    def _row_extents(self, block: str, line: int, columns: int) -> list[tuple[int, int]]:
        extents = self._extents(line)
        if len(extents) > columns and self.words.data[extents[columns][0]] == ord("#"):
            extents = extents[:columns]  # a comment behind the row
        if len(extents) != columns:
            verb = "too many" if len(extents) > columns else "too few"
            raise InputError(
                f"{self.path}, line {line + 1}: the row has {len(extents)} values for the {columns} labels of table "
                f"data_{block}, {verb}; correct the row."
            )
        return extents
