"""What an edit needs to have computed before it can be applied: groups of a split, and how frames lie on each other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_harmony.edits.kinds import Assign, Edit, Merge, Split, Turn, Turns
from napari_harmony.edits.state import check_classes, frames_of, usable_ids
from napari_harmony.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.results import Result

#: Random starts of the mixture that splits a class, and its seed.
_STARTS, _SEED = 5, 0
#: Particles per content dimension from which on groups may have shapes of their own.
_ENOUGH = 12


def is_complete(result: Result, edit: Edit) -> bool:
    """Whether :func:`complete` has nothing to compute, so that an edit can be applied at once."""
    if isinstance(edit, Split):
        return bool(edit.parts)
    return not _turns_wanted(result, edit)[1]


def complete(result: Result, edit: Edit) -> Edit:
    """The edit with everything written down that was computed for it, so that it does the same wherever it is replayed.

    Takes up to some seconds, for averages of subtomograms are aligned.

    Raises
    ------
    InputError : the edit does not fit the result
    """
    if isinstance(edit, Split):
        return edit if edit.parts else replace(edit, parts=_groups(result, edit))
    onto, wanted = _turns_wanted(result, edit)
    if wanted and isinstance(edit, Assign | Merge):
        found = turns_between(result, wanted, onto)
        return replace(edit, turns=tuple(sorted((*edit.turns, *found), key=lambda turn: turn[0])))
    return edit


def target_frame(result: Result, edit: Assign) -> int:
    """The class whose frame the particles of an ``Assign`` get: their new class, or where most of them come from."""
    if edit.to <= result.classes:
        return edit.to
    frames = frames_of(result)[usable_ids(result, edit.ids)]
    return int(np.bincount(frames[frames > 0], minlength=2).argmax())


def _turns_wanted(result: Result, edit: Edit) -> tuple[int, list[int]]:
    """The class onto whose frame others must be turned, and which of these have no turn yet."""
    if isinstance(edit, Merge):
        check_classes(result, edit.classes)
        onto, others = edit.classes[0], list(edit.classes[1:])
    elif isinstance(edit, Assign) and edit.to:
        check_classes(result, (edit.to,), new=True)
        onto = target_frame(result, edit)
        frames = frames_of(result)[usable_ids(result, edit.ids)]
        others = [int(number) for number in np.unique(frames) if number not in (0, onto)]
    else:
        return 0, []
    known = {number for number, _ in edit.turns}
    return onto, [number for number in others if number not in known]


def turns_between(result: Result, classes: list[int], onto: int) -> Turns:
    """How the frames of ``classes`` lie on that of the class ``onto``, by aligning their averages."""
    still = Turn((0.0,) * (1 if result.dimensions == 2 else 3), (0.0,) * result.dimensions)
    target, shown = result.averages[onto - 1], [number for number in classes if _shows(result.averages[number - 1])]
    if not shown or not _shows(target):
        return tuple((number, still) for number in classes)
    from napari_harmony.engine.frames import poses_onto

    parameters = result.summary.get("parameters", {})
    angles, shifts = poses_onto(result.averages[[number - 1 for number in shown]], target, parameters)
    shifts = shifts * (result.average_pixel_size / result.pixel_size)
    found = {
        number: Turn(tuple(angle), tuple(shift)) for number, angle, shift in zip(shown, angles, shifts, strict=True)
    }
    return tuple((number, found.get(number, still)) for number in classes)


def _shows(average: NDArray[np.float32]) -> bool:
    return bool(np.isfinite(average).all() and average.std() > 0)


def _groups(result: Result, edit: Split) -> tuple[tuple[int, ...], ...]:
    """Particles of each group of a class but the largest."""
    check_classes(result, (edit.class_number,))
    members, codes = result.members(edit.class_number), result.content
    if not codes.shape[1]:
        raise InputError(
            "The result holds no content codes to split by: select particles and move them to a new class instead."
        )
    if len(members) < 2 * edit.count:
        raise InputError(
            f"Class {edit.class_number} has {len(members)} particles: too few to be split in {edit.count}."
        )
    label = _mixture(codes[members].astype(np.float64), edit.count)
    sizes = np.bincount(label, minlength=edit.count)
    if (sizes == 0).any():
        raise InputError(
            f"The content codes of class {edit.class_number} do not fall into {edit.count} groups: "
            "select particles and move them to a new class instead."
        )
    order = np.argsort(-sizes, kind="stable")[1:]
    return tuple(tuple(members[label == group].tolist()) for group in order)


def _mixture(codes: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Group (n,) of each content code (n, d)."""
    from sklearn.mixture import GaussianMixture

    spread = codes.std(0)
    scaled = (codes - codes.mean(0)) / np.where(spread > 0, spread, 1.0)
    kind = "full" if len(codes) >= _ENOUGH * codes.shape[1] * count else "diag"
    mixture = GaussianMixture(count, covariance_type=kind, n_init=_STARTS, reg_covar=1e-3, random_state=_SEED)
    return np.asarray(mixture.fit_predict(scaled), dtype=np.int64)
