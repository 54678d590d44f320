"""Edits as JSON: in the summary of a result, and in a file of their own that can be replayed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_harmony.edits.kinds import Assign, Edit, Junk, Keep, Merge, Renumber, Restore, Split, Turn, Turns
from napari_harmony.edits.state import EDITS
from napari_harmony.errors import InputError
from napari_harmony.particle_ids import from_ranges, to_ranges

_KINDS: dict[str, type] = {
    "assign": Assign,
    "merge": Merge,
    "split": Split,
    "junk": Junk,
    "keep": Keep,
    "restore": Restore,
    "renumber": Renumber,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_SUMMARY = "summary.json"


def to_json(edit: Edit) -> dict[str, Any]:
    """An edit in JSON's types; ids as ranges, "0-4,9"."""
    entry: dict[str, Any] = {"edit": _NAMES[type(edit)]}
    if isinstance(edit, Assign):
        entry |= {"ids": to_ranges(edit.ids), "to": edit.to}
    elif isinstance(edit, Split):
        entry |= {"class": edit.class_number, "count": edit.count, "parts": [to_ranges(part) for part in edit.parts]}
    elif not isinstance(edit, Renumber):
        entry["classes"] = list(edit.classes)
    if isinstance(edit, Assign | Merge) and edit.turns:
        entry["turns"] = {
            str(number): {"angles": list(turn.angles), "shift": list(turn.shift)} for number, turn in edit.turns
        }
    return entry


def from_json(entry: Any) -> Edit:
    """The edit that :func:`to_json` wrote.

    Raises
    ------
    InputError : it is none, or a field is missing or not what it must be
    """
    name = entry.get("edit") if isinstance(entry, Mapping) else None
    if name not in _KINDS:
        raise InputError(f"'{name}' is no edit; these are: {', '.join(_KINDS)}.")
    try:
        return _made(name, entry)
    except KeyError as error:
        raise InputError(f"{name}: the field {error} is missing.") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{name}: a field holds something else than it must ({error}).") from error


def _made(name: str, entry: Mapping[str, Any]) -> Edit:
    if name == "assign":
        return Assign(_ids(entry["ids"]), _whole(entry["to"]), _turns(entry))
    if name == "split":
        parts = tuple(_ids(part) for part in entry.get("parts", ()))
        return Split(_whole(entry["class"]), _whole(entry.get("count", 2)), parts)
    if name == "renumber":
        return Renumber()
    classes = tuple(_whole(number) for number in entry["classes"])
    if name == "merge":
        return Merge(classes, _turns(entry))
    made: Edit = _KINDS[name](classes)
    return made


def _ids(value: Any) -> tuple[int, ...]:
    return tuple(from_ranges(value).tolist()) if isinstance(value, str) else tuple(_whole(item) for item in value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is no whole number")
    return value


def _turns(entry: Mapping[str, Any]) -> Turns:
    found = entry.get("turns", {}).items()
    return tuple(sorted(((int(k), Turn(tuple(t["angles"]), tuple(t["shift"]))) for k, t in found), key=lambda t: t[0]))


def write_edits(path: Path | str, edits: Iterable[Edit]) -> Path:
    """Write edits as a file that ``napari-harmony edit --edits`` replays; written beside it and renamed."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.writing")
    entries = [json.dumps(to_json(edit), ensure_ascii=False) for edit in edits]
    lines = ",\n".join(f"    {entry}" for entry in entries)
    text = '{\n  "edits": [' + (f"\n{lines}\n  " if lines else "") + "]\n}\n"
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def read_edits(path: Path | str) -> tuple[Edit, ...]:
    """The edits in a file that :func:`write_edits` wrote, in a ``summary.json``, or in the folder of a run.

    Raises
    ------
    InputError : the file cannot be read or holds no edits; an edit that is none is named by its place
    """
    path = Path(path)
    path = path / _SUMMARY if path.is_dir() else path
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file of edits.") from error
    except ValueError as error:
        raise InputError(f"{path}: this is not valid JSON ({error}); give a file of edits.") from error
    entries = held.get(EDITS) if isinstance(held, Mapping) else None
    if not isinstance(entries, list):
        raise InputError(f"{path}: it holds no edits; give an edits.json, or the folder of a result that was edited.")
    edits = []
    for place, entry in enumerate(entries, start=1):
        try:
            edits.append(from_json(entry))
        except InputError as error:
            raise InputError(f"{path}: edit {place}: {error}") from error
    return tuple(edits)


def edits_to_apply(done: Sequence[Edit], wanted: Sequence[Edit]) -> tuple[Edit, ...]:
    """What is left of ``wanted`` for a result that has the edits ``done`` behind it already.

    Where ``wanted`` begins with all of ``done`` these are not done twice; otherwise all of it is left.
    """
    known = tuple(wanted[: len(done)]) == tuple(done)
    return tuple(wanted[len(done) :]) if known else tuple(wanted)
