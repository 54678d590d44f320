"""Edits of a result by hand: particles moved between classes, classes merged, split, junked; undone and replayed.

An edit is a small frozen value that goes to JSON and back. :func:`apply_edit` makes a new result of a result; it reads
no images. The averages of the classes that changed are then due, which :func:`due_averages` lists, and are computed
from the particles by :func:`recompute`.

An edit changes no number of a class that it does not name. A class that loses all its particles keeps its number and
stands empty, and new classes get the next number, so that "class 7" means the same before and after; :class:`Renumber`
closes the gaps when the user asks for it.
"""

from __future__ import annotations

from napari_harmony.edits.apply import apply_edit, apply_edits
from napari_harmony.edits.complete import complete, is_complete
from napari_harmony.edits.files import edits_to_apply, from_json, read_edits, to_json, write_edits
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
    describe,
)
from napari_harmony.edits.recompute import recompute
from napari_harmony.edits.record import (
    averaged_again,
    due_averages,
    edits_of,
    junked_from,
    last_words,
    remarks,
    with_averages,
)

__all__ = [
    "Assign",
    "Edit",
    "Junk",
    "Keep",
    "Merge",
    "Renumber",
    "Restore",
    "Split",
    "Turn",
    "apply_edit",
    "apply_edits",
    "averaged_again",
    "complete",
    "describe",
    "due_averages",
    "edits_of",
    "edits_to_apply",
    "from_json",
    "is_complete",
    "junked_from",
    "last_words",
    "read_edits",
    "recompute",
    "remarks",
    "to_json",
    "with_averages",
    "write_edits",
]
