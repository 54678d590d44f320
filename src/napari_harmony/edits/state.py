"""What a result says of its own edits: keys of its summary, frames of poses, and particles that no class can have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.errors import InputError
from napari_harmony.particle_ids import by_class
from napari_harmony.results import JUNK_FRAMES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.results import Result

#: Keys of ``Result.summary``: the edits so far; classes whose averages are due; classes averaged since in the poses
#: of the run; and which particles were junked by hand from each class, and would be restored to it.
EDITS, DUE, AGAIN, JUNKED = "edits", "averages_due", "averaged_again", "junked"
#: Flags of images that hold nothing to be averaged.
UNUSABLE = frozenset({"not-finite", "constant"})


def frames_of(result: Result) -> NDArray[np.int64]:
    """The class (n,) in whose frame the pose of each particle is, 0 where nobody knows."""
    frames = result.table["class_number"].to_numpy(dtype=np.int64, copy=True)
    for key in (JUNKED, JUNK_FRAMES):
        known = by_class(result.summary.get(key), len(result))
        frames = np.where(frames > 0, frames, known)
    return frames


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
