"""What a result says of its own edits: keys of its summary, frames of poses, and particles that no class can have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.results import Result

#: Keys of ``Result.summary``: the edits so far; classes whose averages are due; classes averaged since in the poses
#: of the run; and of particles in class 0 those in whose frame their poses are: junked by hand, and by the run.
EDITS, DUE, AGAIN, JUNKED, JUNK_FRAMES = "edits", "averages_due", "averaged_again", "junked", "junk_frames"
#: Flags of images that hold nothing to be averaged.
UNUSABLE = frozenset({"not-finite", "constant"})


def frames_of(result: Result) -> NDArray[np.int64]:
    """The class (n,) in whose frame the pose of each particle is, 0 where nobody knows."""
    frames = result.table["class_number"].to_numpy(dtype=np.int64, copy=True)
    for key in (JUNKED, JUNK_FRAMES):
        known = by_class(result.summary.get(key), len(result))
        frames = np.where(frames > 0, frames, known)
    return frames


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


def words_of(flags: Any) -> set[str]:
    """The words of one entry of the column of flags."""
    return {word for word in str(flags).split(",") if word} if isinstance(flags, str) else set()


def usable_ids(result: Result, ids: tuple[int, ...]) -> NDArray[np.int64]:
    """Those particles that hold an image.

    Raises
    ------
    InputError : there is no such particle, or none of them holds an image
    """
    chosen = np.asarray(ids, dtype=np.int64)
    if len(chosen) and chosen[-1] >= len(result):
        raise InputError(f"particle {chosen[-1]} does not exist: the result has {len(result)}, counted from 0.")
    flags = result.table["flags"].to_numpy()[chosen]
    kept = chosen[[not (words_of(entry) & UNUSABLE) for entry in flags]]
    if not len(kept):
        raise InputError("none of the chosen particles holds an image that a class could have.")
    return kept


def check_classes(result: Result, classes: Iterable[int], new: bool = False) -> None:
    """Raise ``InputError`` unless the result has the classes; with ``new`` the next free number is fine too."""
    most = result.classes + int(new)
    for number in classes:
        if not 1 <= number <= most:
            raise InputError(f"class {number} does not exist: give 1 to {most}.")
