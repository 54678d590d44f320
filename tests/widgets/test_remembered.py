"""The last settings come back; what no longer exists or is damaged does not."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from napari_harmony.additions import additions_of
from napari_harmony.engine.settings import Settings
from napari_harmony.widgets import _remembered
from napari_harmony.widgets._remembered import FILE, remember, remembered
from napari_harmony.widgets._remembered import remembered_file as real_file


def stored() -> Path:
    path = _remembered.remembered_file()
    assert path is not None
    return path


def write(**values: Any) -> None:
    stored().write_text(json.dumps(values))


def test_nothing_is_remembered_at_first() -> None:
    assert remembered() is None


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(classes=7, transforms=("rotation",), mask_diameter=200, max_shift=12.5, preset="fast", seed=9),
        Settings(device="cpu", additions=additions_of("loocc,independence=0.5"), batch_memory=2**20),
        Settings(start="input", local_search=12, free_rot=True, symmetry="D2", reference_lowpass=30),
        Settings(objective="harmony-2022", precision="full"),
    ],
)
def test_settings_come_back_the_same(settings: Settings) -> None:
    remember(settings)
    assert remembered() == settings
    assert [path.name for path in stored().parent.iterdir()] == [stored().name]


def test_files_that_are_gone_are_left_out(tmp_path: Path) -> None:
    there = tmp_path / "reference.mrc"
    there.touch()
    remember(Settings(references=(str(there), str(tmp_path / "gone.mrc"))))
    assert remembered() == Settings(references=(str(there),))


def test_what_this_version_does_not_know_is_ignored() -> None:
    write(classes=3, colour="blue", transforms=["rotation", "levitation"], additions=["loocc", "telepathy=2"])
    assert remembered() == Settings(classes=3, transforms=("rotation",), additions=additions_of("loocc"))


@pytest.mark.parametrize(
    "values",
    [
        {"classes": "many"},
        {"classes": True},
        {"classes": 2.5},
        {"transforms": "rotation"},
        {"transforms": [1]},
        {"free_rot": 1},
        {"seed": None},
        {"preset": ["fast"]},
        {"mask_diameter": {"a": 1}},
    ],
)
def test_values_of_another_type_are_ignored(values: dict[str, Any]) -> None:
    write(**values, symmetry="C2")
    assert remembered() == Settings(symmetry="C2")


def test_values_that_do_not_go_together_are_dropped() -> None:
    write(classes=0)
    assert remembered() is None
    write(additions=["loocc=heavy"])
    assert remembered() is None


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_a_damaged_file_is_no_harm(text: str) -> None:
    stored().write_text(text)
    assert remembered() is None
    remember(Settings(classes=2))
    assert remembered() == Settings(classes=2)


def test_where_nothing_can_be_written_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(_remembered, "remembered_file", lambda: tmp_path / "file" / "x.json")
    remember(Settings())
    assert remembered() is None


def test_it_lies_beside_naparis_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = SimpleNamespace(config_path=str(tmp_path / "settings.yaml"))
    monkeypatch.setattr("napari.settings.get_settings", lambda: place)
    assert real_file() == tmp_path / FILE
    place.config_path = None
    assert real_file() is None


def test_tests_keep_out_of_the_home_folder() -> None:
    path = real_file()
    assert path is None or "napari-harmony-tests-" in str(path)
