"""Many particles as a short text, to stand in JSON: "0-4,9"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def by_class(record: object, count: int) -> NDArray[np.int64]:
    """Numbers (count,) from a record of ids for each class; 0 for ids that stand nowhere."""
    numbers = np.zeros(count, dtype=np.int64)
    for number, text in record.items() if isinstance(record, Mapping) else ():
        numbers[ids_from(str(text), count)] = int(number)
    return numbers


def to_record(numbers: NDArray[np.int64]) -> dict[str, str]:
    """The record of ids for each class that :func:`by_class` reads."""
    return {str(number): to_ranges(np.flatnonzero(numbers == number)) for number in np.unique(numbers[numbers > 0])}


def to_ranges(ids: Iterable[int] | NDArray[np.int64]) -> str:
    """Ids as a short text, "0-4,9": a lasso around thousands of particles should stay readable."""
    numbers = np.unique(np.asarray(tuple(ids) if not isinstance(ids, np.ndarray) else ids, dtype=np.int64))
    if not len(numbers):
        return ""
    breaks = np.flatnonzero(np.diff(numbers) > 1)
    first, last = numbers[np.r_[0, breaks + 1]], numbers[np.r_[breaks, len(numbers) - 1]]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(first, last, strict=True))


def from_ranges(text: str) -> NDArray[np.int64]:
    """Ids of a text that :func:`to_ranges` wrote; raises ``ValueError`` for another."""
    parts = [part.split("-") for part in text.split(",")] if text.strip() else []
    if any(len(part) > 2 for part in parts):
        raise ValueError(f"'{text}' is no list of ranges")
    runs = [np.arange(int(part[0]), int(part[-1]) + 1) for part in parts]
    return np.concatenate(runs).astype(np.int64) if runs else np.empty(0, np.int64)


def ids_from(text: str, count: int) -> NDArray[np.int64]:
    """Ids of a text, those below ``count`` alone."""
    ids = from_ranges(text)
    return ids[ids < count]
