"""Edits applied: from a result to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_harmony.edits.complete import complete, target_frame
from napari_harmony.edits.files import to_json
from napari_harmony.edits.kinds import (
    Assign,
    Edit,
    Junk,
    Keep,
    Merge,
    Renumber,
    Restore,
    Split,
    Turn,
)
from napari_harmony.edits.record import averaged_again, due_averages, note, put
from napari_harmony.edits.state import (
    AGAIN,
    DUE,
    EDITS,
    JUNKED,
    UNUSABLE,
    check_classes,
    usable_ids,
    words_of,
)
from napari_harmony.errors import InputError
from napari_harmony.particle_ids import by_class, to_record
from napari_harmony.results import JUNK_FRAMES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.results import Result

_JUNK = "junk"
_ANGLES = ["rot", "tilt", "psi"]


def apply_edit(result: Result, edit: Edit) -> Result:
    """The result after an edit; its own arrays and table stay as they are.

    Tables, counts and flags are those after the edit. The averages of the classes it changed stand as they were until
    they are computed anew (:func:`due_averages`), without a correlation curve; their resolution is the best of the
    classes that their particles came from.

    Raises
    ------
    InputError : the edit does not fit the result
    """
    edit = complete(result, edit)
    draft = _Draft(result)
    _RULES[type(edit)](draft, edit)
    return draft.finished(edit)


def apply_edits(result: Result, edits: Iterable[Edit]) -> Result:
    """The result after several edits, one after the other; raises as :func:`apply_edit`."""
    for edit in edits:
        result = apply_edit(result, edit)
    return result


class _Draft:
    """A result while it is edited."""

    def __init__(self, result: Result) -> None:
        table, count = result.table, len(result)
        self.result = result
        self.number = table["class_number"].to_numpy(dtype=np.int64, copy=True)
        self.junked = by_class(result.summary.get(JUNKED), count)
        self.junk_frames = by_class(result.summary.get(JUNK_FRAMES), count)
        self.due, self.again = set(due_averages(result)), set(averaged_again(result))
        self.columns: dict[str, NDArray[Any]] = {}
        self.averages, self.halves = result.averages, result.half_averages
        self.frc, self.floor = result.frc.copy(), result.frc_floor
        self.resolution = result.resolution.copy()

    # -- the table --------------------------------------------------------------------------------------------------

    def column(self, name: str) -> NDArray[Any]:
        """A column of the table to be written to."""
        if name not in self.columns:
            kind = object if name == "flags" else np.float64
            self.columns[name] = self.result.table[name].to_numpy(dtype=kind, copy=True)
        return self.columns[name]

    def frames(self) -> NDArray[np.int64]:
        """The class (n,) in whose frame each pose is, 0 where nobody knows."""
        known = np.where(self.junked > 0, self.junked, self.junk_frames)
        return np.where(self.number > 0, self.number, known)

    def place(self, ids: NDArray[np.int64], to: int) -> None:
        """Particles to a class, by hand: nobody doubts it, and none is junk."""
        moved = ids[self.number[ids] != to]
        sources = set(np.unique(self.number[moved]).tolist()) - {0}
        self.number[moved] = to
        self.column("class_probability")[moved] = 1.0
        self.junked[ids] = self.junk_frames[ids] = 0
        self.flag(ids, junk=False)
        self.due |= sources | {to}
        self.resolution[to - 1] = self.best(sources | {to})

    def throw_away(self, ids: NDArray[np.int64]) -> None:
        """Particles to class 0, flagged; which class they were in is kept."""
        members = ids[self.number[ids] > 0]
        self.junked[members] = self.number[members]
        self.due |= set(np.unique(self.number[members]).tolist())
        self.number[members] = 0
        self.flag(ids, junk=True)

    def flag(self, ids: NDArray[np.int64], junk: bool) -> None:
        """Set or take away the flag of junk; images that hold nothing keep the flag that says so."""
        flags = self.column("flags")
        codes, entries = pd.factorize(flags[ids].astype(object), use_na_sentinel=False)
        changed = np.array([_flagged(entry, junk) for entry in entries], dtype=object)
        if len(ids):
            flags[ids] = changed[codes]

    def carry(self, rows: NDArray[np.int64], turn: Turn) -> None:
        """Turn and move poses into the frame on which theirs lies as ``turn`` says.

        A particle's point x lies at ``R (x - c + t) / m`` about the centre of its class, m its magnification, and at
        ``Q (R (x - c + t) / m + s)`` about that of the other: the rotation is Q R, and t grows by ``m R^-1 s``.
        """
        names = _ANGLES if self.result.dimensions == 3 else ["psi"]
        if len(turn.angles) != len(names):
            raise InputError("the turn of an edit is not of these dimensions: it was made for another result.")
        given = np.zeros((len(rows), 3))
        for i, name in enumerate(names, start=3 - len(names)):
            given[:, i] = self.column(name)[rows]
        rotation = _matrices(given)
        shift = np.zeros(3)
        shift[: len(turn.shift)] = turn.shift
        scale = self.result.table["scale"].to_numpy(dtype=np.float64)[rows, None]
        moved = scale * np.einsum("nij,i->nj", rotation, shift)
        for i, axis in enumerate("xyz"[: self.result.dimensions]):
            self.column(f"origin_{axis}")[rows] += moved[:, i]
        if self.result.dimensions == 2:
            self.column("psi")[rows] = 180.0 - (180.0 - given[:, 2] - turn.angles[0]) % 360.0
            return
        from napari_harmony.particles.euler import matrix_to_relion

        angles = matrix_to_relion(_matrices(np.asarray([turn.angles])) @ rotation)
        for i, name in enumerate(names):
            self.column(name)[rows] = angles[:, i]

    # -- the classes ------------------------------------------------------------------------------------------------

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.averages)

    def best(self, classes: Iterable[int]) -> float:
        """The best resolution among classes, NaN where none has one."""
        values = self.resolution[[number - 1 for number in classes]]
        return float(np.nanmin(values)) if np.isfinite(values).any() else np.nan

    def add_class(self, like: int) -> int:
        """A new class in the frame of another, whose average stands in for its own; returns its number."""
        row = [like - 1]
        self.averages = np.concatenate([self.averages, self.averages[row]])
        self.frc = np.concatenate([self.frc, self.frc[row]])
        self.floor = np.concatenate([self.floor, self.floor[row]])
        self.resolution = np.concatenate([self.resolution, self.resolution[row]])
        if self.halves is not None:
            self.halves = np.concatenate([self.halves, self.halves[:, row]], axis=1)
        return self.classes

    def blank(self, number: int) -> None:
        """A class that has gone into another: its number stays, with nothing behind it."""
        rows = np.array([number - 1])
        self.averages = put(self.averages, rows, np.zeros(1))
        self.frc[rows], self.resolution[rows] = np.nan, np.nan
        self.floor = put(self.floor, rows, np.full(1, np.nan))
        if self.halves is not None:
            self.halves = self.halves.copy()
            self.halves[:, rows] = 0.0
        self.again.discard(number)

    def renumber(self, order: NDArray[np.int64]) -> None:
        """Classes anew: the first is the one that was called ``order[0]``; those left out are gone."""
        new = np.zeros(self.classes + 1, dtype=np.int64)
        new[order] = np.arange(1, len(order) + 1)
        self.number, self.junked, self.junk_frames = new[self.number], new[self.junked], new[self.junk_frames]
        rows = order - 1
        self.averages, self.frc, self.floor = self.averages[rows], self.frc[rows], self.floor[rows]
        self.resolution = self.resolution[rows]
        self.halves = None if self.halves is None else self.halves[:, rows]
        self.due, self.again = ({int(new[n]) for n in numbers} - {0} for numbers in (self.due, self.again))

    # -- the end ----------------------------------------------------------------------------------------------------

    def finished(self, edit: Edit) -> Result:
        """The result, with the edit in its history."""
        counts = np.bincount(self.number, minlength=self.classes + 1)
        due = {number for number in self.due if counts[number]}  # an empty class keeps the average it had
        self.frc[[number - 1 for number in due]] = np.nan
        summary = {**self.result.summary, EDITS: [*self.result.summary.get(EDITS, ()), to_json(edit)]}
        note(summary, DUE, due)
        note(summary, AGAIN, self.again - due)
        for key, numbers in ((JUNKED, self.junked), (JUNK_FRAMES, self.junk_frames)):
            summary.pop(key, None)
            if numbers.any():
                summary[key] = to_record(numbers)
        return replace(
            self.result,
            table=self.result.table.assign(class_number=self.number, **self.columns),
            averages=self.averages,
            half_averages=self.halves,
            frc=self.frc,
            frc_floor=self.floor,
            resolution=self.resolution,
            summary=summary,
        )


def _matrices(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations (n, 3, 3) of (rot, tilt, psi) in degrees (n, 3), or of (psi,) alone, (n, 1)."""
    from napari_harmony.particles.euler import relion_to_matrix

    return relion_to_matrix(np.pad(angles, ((0, 0), (3 - angles.shape[1], 0))))


def _flagged(entry: Any, junk: bool) -> str:
    words = [word for word in str(entry).split(",") if word and word != _JUNK] if isinstance(entry, str) else []
    return ",".join([_JUNK, *words] if junk and not words_of(entry) & UNUSABLE else words)


def _assign(draft: _Draft, edit: Assign) -> None:
    if not edit.to:
        usable_ids(draft.result, edit.ids)
        draft.throw_away(np.asarray(edit.ids, dtype=np.int64))
        return
    ids = usable_ids(draft.result, edit.ids)
    onto, frames = target_frame(draft.result, edit), draft.frames()[ids]
    for number, turn in edit.turns:
        if number != onto:
            draft.carry(ids[frames == number], turn)
    if edit.to > draft.classes:
        draft.add_class(onto)
        sources = set(np.unique(draft.number[ids]).tolist()) - {0}
        draft.resolution[-1] = draft.best(sources)
    draft.place(ids, edit.to)


def _merge(draft: _Draft, edit: Merge) -> None:
    first, turns, frames = edit.classes[0], dict(edit.turns), draft.frames()
    draft.resolution[first - 1] = draft.best(edit.classes)
    for number in edit.classes[1:]:
        draft.carry(np.flatnonzero(frames == number), turns[number])
        for record in (draft.number, draft.junked, draft.junk_frames):
            record[record == number] = first
        draft.blank(number)
    draft.due.add(first)


def _split(draft: _Draft, edit: Split) -> None:
    check_classes(draft.result, (edit.class_number,))
    draft.due.add(edit.class_number)
    for part in edit.parts:
        ids = usable_ids(draft.result, part)
        if (draft.number[ids] != edit.class_number).any():
            raise InputError(
                f"the split of class {edit.class_number} names particles of other classes: it was made for another "
                "result, or not in this order."
            )
        new = draft.add_class(edit.class_number)
        draft.number[ids] = new
        draft.due.add(new)


def _junk(draft: _Draft, edit: Junk) -> None:
    check_classes(draft.result, edit.classes)
    draft.throw_away(np.flatnonzero(np.isin(draft.number, edit.classes)))


def _keep(draft: _Draft, edit: Keep) -> None:
    check_classes(draft.result, edit.classes)
    draft.throw_away(np.flatnonzero((draft.number > 0) & ~np.isin(draft.number, edit.classes)))


def _restore(draft: _Draft, edit: Restore) -> None:
    check_classes(draft.result, edit.classes)
    ids = np.flatnonzero(np.isin(draft.junked, edit.classes))
    if not len(ids):
        raise InputError("nothing was junked from these classes by hand, so nothing can be restored.")
    draft.number[ids] = draft.junked[ids]
    draft.due |= set(np.unique(draft.junked[ids]).tolist())
    draft.junked[ids] = 0
    draft.flag(ids, junk=False)


def _renumber(draft: _Draft, edit: Renumber) -> None:
    counts = np.bincount(draft.number, minlength=draft.classes + 1)
    waiting = np.bincount(draft.junked, minlength=draft.classes + 1)
    order = np.argsort(-counts[1:], kind="stable") + 1
    kept = order[(counts[order] > 0) | (waiting[order] > 0)]
    if not len(kept):
        raise InputError("all particles are junk, so there are no classes to number.")
    draft.renumber(kept)


_RULES: dict[type, Callable[[_Draft, Any], None]] = {
    Assign: _assign,
    Merge: _merge,
    Split: _split,
    Junk: _junk,
    Keep: _keep,
    Restore: _restore,
    Renumber: _renumber,
}
