"""Preferences: napari's where it is loaded, defaults without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from npe2 import PluginManager, PluginManifest

from napari_harmony.engine.settings import Settings
from napari_harmony.library import default_folder
from napari_harmony.preferences import Preferences, plugin_settings, preferences

MANIFEST = Path(__file__).parents[1] / "src" / "napari_harmony" / "napari.yaml"


@pytest.fixture
def stored(plugin_settings: None, npe2pm: PluginManager) -> Any:
    """napari's settings of the plugin, in a temporary folder."""
    from napari.settings import get_plugin_settings

    npe2pm.register(PluginManifest.from_file(MANIFEST))
    return get_plugin_settings("napari-harmony")


def test_defaults_are_those_of_the_engine() -> None:
    assert Preferences().device == Settings().device
    assert Preferences().batch_memory == Settings().batch_memory
    assert Preferences().precision == Settings().precision
    assert Preferences().memory == Settings().memory and Preferences().cache_folder == Settings().cache


def test_the_page_starts_with_the_defaults(stored: Any) -> None:
    assert preferences() == Preferences()


def test_what_the_user_sets_is_read(stored: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stored.computing.device = "cpu"
    stored.computing.batch_memory = 64
    stored.computing.precision = "full"
    stored.models.model_folder = str(tmp_path / "mine")
    stored.display.colormap = "viridis"
    stored.computing.particle_memory, stored.computing.cache_folder = 512, str(tmp_path)
    mine = Preferences("cpu", 64 * 2**20, "full", str(tmp_path / "mine"), "viridis", 512 * 2**20, str(tmp_path))
    assert preferences() == mine
    monkeypatch.delenv("NAPARI_HARMONY_MODELS")
    assert default_folder() == tmp_path / "mine"


def test_nonsense_is_refused_and_changes_nothing(stored: Any) -> None:
    for group, name, value in (("computing", "batch_memory", 1), ("computing", "device", "abacus")):
        with pytest.raises(ValueError):
            setattr(getattr(stored, group), name, value)
    assert preferences() == Preferences()


def test_changes_are_heard(stored: Any) -> None:
    heard: list[Any] = []
    settings = plugin_settings()
    assert settings is not None
    settings.models.events.model_folder.connect(lambda event: heard.append(event.value))
    stored.models.model_folder = "elsewhere"
    assert heard == ["elsewhere"]


def test_a_plugin_that_is_not_registered_has_the_defaults(plugin_settings: None) -> None:
    import napari.settings  # noqa: F401 - loaded, as in napari

    assert preferences() == Preferences()


def test_without_napari_it_stays_unloaded() -> None:
    code = (
        "import sys; from napari_harmony.preferences import Preferences, preferences;"
        "assert preferences() == Preferences(); print('napari' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
