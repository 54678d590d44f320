"""The settings of the last run, for the next start of the program: JSON beside napari's own settings."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from napari_harmony.additions import ADDITIONS, additions_of
from napari_harmony.engine.settings import TRANSFORMS, Settings
from napari_harmony.errors import InputError
from napari_harmony.outputs.staging import staged
from napari_harmony.preferences import preferences

FILE = "napari-harmony-last-run.json"

#: Settings that are numbers, or None for what the program chooses.
_NUMBERS_OR_NONE = {"classes": int, "mask_diameter": float, "max_shift": float, "local_search": float}


def remember(settings: Settings) -> None:
    """Keep the settings for the next start. Where nothing can be written nothing happens: it is a comfort only."""
    path = remembered_file()
    if path is None:
        return
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    values["additions"] = [str(addition) for addition in settings.additions]
    try:
        with staged(path.parent, [path.name]) as stage:
            (stage / path.name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    except OSError:
        return


def remembered() -> Settings | None:
    """The settings of the last run, or None where there are none that can be used.

    What this version does not know, what is of another type, and files that are gone are left at their defaults.
    """
    path = remembered_file()
    if path is None:
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(stored, dict):
        return None
    try:
        return replace(Settings(), **_known(stored))
    except InputError:  # values that no longer go together
        return None


def starting_settings() -> Settings:
    """What a form begins with: the settings of the last run, with the device and precision of the preferences."""
    last, chosen, usual = remembered() or Settings(), preferences(), Settings()
    named = {name: getattr(chosen, name) for name in ("device", "precision")}
    return replace(last, **{name: value for name, value in named.items() if value != getattr(usual, name)})


def remembered_file() -> Path | None:
    """Where the settings are kept; None where napari keeps none of its own either, as in its tests."""
    from napari.settings import get_settings

    path = get_settings().config_path
    return Path(path).with_name(FILE) if path is not None else None


def _known(stored: dict[str, Any]) -> dict[str, Any]:
    """The stored values that a setting of this version can have."""
    found = {field.name: _value(field.name, field.default, stored.get(field.name)) for field in fields(Settings)}
    return {name: value for name, value in found.items() if value is not None}


def _value(name: str, default: Any, stored: Any) -> Any:
    """A stored value as the setting has it, None where it is not of its kind."""
    if name in _STILL_THERE:
        is_list = isinstance(stored, list) and all(isinstance(item, str) for item in stored)
        return _STILL_THERE[name](stored) if is_list else None
    kind = _NUMBERS_OR_NONE.get(name, type(default))
    if isinstance(stored, bool) or kind is bool:
        return stored if isinstance(stored, kind) and kind is bool else None
    return kind(stored) if isinstance(stored, (int, float) if kind is float else kind) else None


#: Settings that are lists, and how to keep of them what there still is.
_STILL_THERE = {
    "transforms": lambda names: tuple(name for name in names if name in TRANSFORMS),
    "additions": lambda words: additions_of(",".join(word for word in words if word.split("=")[0] in ADDITIONS)),
    "references": lambda paths: tuple(path for path in paths if Path(path).is_file()),
}
