"""What a result says of the edits behind it, and which of its averages wait to be computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.edits.files import from_json
from napari_harmony.edits.kinds import Edit, class_words, describe
from napari_harmony.edits.state import AGAIN, DUE, EDITS, JUNKED
from napari_harmony.particle_ids import by_class

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.results import Result

_EDITED = "edited by hand:"


def edits_of(result: Result) -> tuple[Edit, ...]:
    """The edits that made a result of the result of a run, from the first on."""
    return tuple(from_json(entry) for entry in result.summary.get(EDITS, ()))


def last_words(result: Result) -> str:
    """The last edit of a result in words, empty where it has none."""
    entries = result.summary.get(EDITS, ())
    return describe(from_json(entries[-1])) if entries else ""


def due_averages(result: Result) -> tuple[int, ...]:
    """Classes whose averages do not show their particles yet."""
    return tuple(number for number in result.summary.get(DUE, ()) if number <= result.classes)


def averaged_again(result: Result) -> tuple[int, ...]:
    """Classes whose averages were computed after an edit: the poses of their half sets are those of the run."""
    return tuple(number for number in result.summary.get(AGAIN, ()) if number <= result.classes)


def junked_from(result: Result) -> NDArray[np.int64]:
    """The class (n,) that each particle was junked from by hand and would be restored to, 0 for none."""
    return by_class(result.summary.get(JUNKED), len(result))


def remarks(result: Result, warnings: Iterable[str] = ()) -> list[str]:
    """Warnings with what edits leave to be said of a result: which averages are due, and which halves share poses."""
    kept = [text for text in warnings if not text.startswith(_EDITED)]
    due, again = due_averages(result), averaged_again(result)
    if due:
        kept.append(f"{_EDITED} {class_words(due)} not averaged since")
    if again:
        kept.append(
            f"{_EDITED} the resolution of {class_words(again)} is an upper bound, for both half sets have the poses of "
            "one run"
        )
    return kept


def with_averages(
    result: Result,
    classes: Sequence[int],
    averages: NDArray[np.float32],
    frc: NDArray[np.float32],
    floor: NDArray[np.float32],
    resolution: NDArray[np.float32],
    halves: NDArray[np.float32] | None,
) -> Result:
    """The result with new averages of some classes, which are then no longer due.

    A class has a resolution only where one of the classes that its particles came from had: halves that share the
    poses of one run agree on noise as well.

    Parameters
    ----------
    classes : (m,) numbers
    averages, frc, floor, resolution : of them, with shapes as in ``Result``
    halves : (2, m, box, box[, box]), used where the result has half averages
    """
    rows = np.asarray(classes, dtype=np.int64) - 1
    known = np.isfinite(result.resolution[rows])
    changed: dict[str, Any] = {
        "averages": put(result.averages, rows, averages),
        "frc": put(result.frc, rows, frc),
        "frc_floor": put(result.frc_floor, rows, floor),
        "resolution": put(result.resolution, rows, np.where(known, resolution, np.nan)),
    }
    if result.half_averages is not None and halves is not None:
        both = result.half_averages.copy()
        both[:, rows] = halves
        changed["half_averages"] = both
    summary = dict(result.summary)
    note(summary, DUE, set(due_averages(result)) - set(classes))
    note(summary, AGAIN, set(averaged_again(result)) | set(classes))
    return replace(result, summary=summary, **changed)


def put(whole: NDArray[np.float32], rows: NDArray[np.int64], part: NDArray[Any]) -> NDArray[np.float32]:
    """A copy of an array with other rows."""
    changed = whole.copy()
    changed[rows] = part
    return changed


def note(summary: dict[str, Any], key: str, numbers: Iterable[int]) -> None:
    """Write a list of classes into a summary; an empty one leaves no trace."""
    summary.pop(key, None)
    if found := sorted(map(int, numbers)):
        summary[key] = found
