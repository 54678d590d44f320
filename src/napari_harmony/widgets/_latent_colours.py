"""Colours of particles by class, flag or any number, and what the legend says of them. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_harmony._map_back import class_colours
from napari_harmony.results import content_columns
from napari_harmony.widgets._columns import FLAGS, Column, columns_for, values_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.results import Result

CLASS = "class_number"
COUNT = "particles"
_GREY = (128, 128, 128, 255)
_STEPS = 256
_CYCLIC = ("psi", "rot")  # degrees in which -180 and 180 are one
_MOST_CATEGORIES = 60
#: What is cut off the colour scale at its dark and at its bright end, where it would vanish in the background.
_CUT = {"dark": (0.15, 1.0), "light": (0.0, 0.88)}


@dataclass(frozen=True)
class Entry:
    """A line of the legend: a category, its number of particles, and its code."""

    label: str
    count: int
    code: int


@dataclass(frozen=True, eq=False)
class Colouring:
    """A colour for every particle.

    Attributes
    ----------
    title : what the colours mean
    codes : (n,) row of ``table`` of each particle
    table : (k, 4) uint8 RGBA; with ``limits`` a scale, followed by the colour of NaN
    entries : the categories that occur; empty for numbers
    limits : numbers at the ends of the scale, or None for categories
    by_count : the scale is for the number of particles in a cell of the density
    """

    title: str
    codes: NDArray[Any]
    table: NDArray[np.uint8]
    entries: tuple[Entry, ...] = ()
    limits: tuple[float, float] | None = None
    by_count: bool = False

    @property
    def last(self) -> int:
        """Code of the upper end of the scale."""
        return len(self.table) - 2

    def colours(self, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """RGBA of some particles, (m, 4)."""
        return self.table[self.codes[ids]]


def numbers_of(result: Result) -> tuple[Column, ...]:
    """Every column of a result that holds numbers: those of the table, the content codes, and any other."""
    known = [c for c in columns_for(result) if c.decimals is not None]
    shown = {c.key for c in known}
    contents = content_columns(result.table.columns)
    extra = [
        str(name)
        for name in result.table.columns
        if name not in shown and name not in contents and pd.api.types.is_numeric_dtype(result.table[name])
    ]
    codes = [Column(name, name.replace("_", " "), "", "A number of the content code.", 3) for name in contents]
    return (*known, *codes, *(Column(name, name, "", "A column of the table.", 3) for name in extra))


def words_of(result: Result) -> tuple[Column, ...]:
    """Every column of a result that holds text of few kinds."""
    known = [c for c in columns_for(result) if c.decimals is None]
    shown = {c.key for c in known} | {c.key for c in numbers_of(result)}
    extra = [str(n) for n in result.table.columns if n not in shown and result.table[n].nunique() <= _MOST_CATEGORIES]
    return (*known, *(Column(name, name, "", "A column of the table.", None) for name in extra))


def colour_by(result: Result, key: str, theme: str = "dark") -> Colouring:
    """Colours by a column of a result, or by ``COUNT``; ``theme`` "dark" or "light" says what they are seen against.

    Classes have the colours they have in the tomogram. Numbers run along a perceptual scale between their 0.5 and
    99.5 percentiles, angles along a cyclic one.
    """
    if key == COUNT:
        codes = np.full(len(result), _STEPS // 2, dtype=np.uint8)
        scale = _scale("viridis", theme)
        if theme == "light":  # few particles must be nearest to the ground
            scale[:_STEPS] = scale[:_STEPS][::-1]
        return Colouring(COUNT, codes, scale, by_count=True)
    if key == CLASS:
        return _by_class(result)
    texts = next((c for c in words_of(result) if c.key == key), None)
    if texts is not None:
        return _by_word(result, texts)
    column = next(c for c in numbers_of(result) if c.key == key)
    return _by_number(values_of(result, column), column, theme)


def _by_class(result: Result) -> Colouring:
    numbers = result.table[CLASS].to_numpy()
    counts = np.bincount(numbers, minlength=result.classes + 1)
    table = np.concatenate([[_GREY], _bytes(class_colours(len(counts) - 1))]).astype(np.uint8)
    entries = [Entry(str(number), int(counts[number]), number) for number in range(1, len(counts))]
    if counts[0]:
        entries.append(Entry("none", int(counts[0]), 0))
    return Colouring("class", numbers, table, tuple(entries))


def _by_word(result: Result, column: Column) -> Colouring:
    codes, words = pd.factorize(np.asarray(values_of(result, column), dtype=object).astype(str), sort=True)
    if column.key == FLAGS and len(words) > _MOST_CATEGORIES:
        codes, words = pd.factorize(np.array([word.split(",")[0] for word in words], dtype=object)[codes], sort=True)
    counts = np.bincount(codes, minlength=len(words))
    table = _bytes(class_colours(len(words)))
    table[np.flatnonzero(np.asarray(words) == "")] = _GREY
    empty = "no flag" if column.key == FLAGS else "empty"
    entries = tuple(Entry(str(word).replace(",", ", ") or empty, int(counts[i]), i) for i, word in enumerate(words))
    return Colouring(column.heading, codes, table, entries)


def _by_number(values: NDArray[Any], column: Column, theme: str) -> Colouring:
    values = np.asarray(values, dtype=np.float64)
    known = np.isfinite(values)
    cyclic = column.key in _CYCLIC
    if cyclic or not known.any():
        low, high = (-180.0, 180.0) if cyclic else (0.0, 1.0)
    else:
        low, high = (float(v) for v in np.percentile(values[known], (0.5, 99.5)))
        high = high if high > low else low + 1.0
    codes = np.full(len(values), _STEPS, dtype=np.uint16)
    part = (values[known] - low) / (high - low)
    part = part % 1.0 if cyclic else np.clip(part, 0.0, 1.0)
    codes[known] = np.rint(part * (_STEPS - 1))
    table = _scale("twilight_shifted" if cyclic else "viridis", theme)
    return Colouring(column.heading, codes, table, limits=(low, high))


def _scale(name: str, theme: str) -> NDArray[np.uint8]:
    """A scale of napari's, (_STEPS + 1, 4), with grey for NaN at its end."""
    from napari.utils.colormaps import ensure_colormap

    start, stop = _CUT[theme] if name == "viridis" else (0.0, 1.0)
    scale = _bytes(np.asarray(ensure_colormap(name).map(np.linspace(start, stop, _STEPS))))
    return np.concatenate([scale, [_GREY]]).astype(np.uint8)


def _bytes(colours: NDArray[Any]) -> NDArray[np.uint8]:
    return np.rint(255 * colours).astype(np.uint8)
