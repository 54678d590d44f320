"""The manifest: valid, complete, and cheap at napari's start."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from npe2 import PluginManifest

FILE = Path(__file__).parents[1] / "src" / "napari_harmony" / "napari.yaml"


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_file(FILE)


def test_the_root_link_is_the_file_in_the_package() -> None:
    assert (FILE.parents[2] / "napari.yaml").resolve() == FILE.resolve()


def test_every_command_can_be_imported(manifest: PluginManifest) -> None:
    for command in manifest.contributions.commands or ():
        module, name = str(command.python_name).split(":")
        assert callable(getattr(importlib.import_module(module), name))
        assert command.title[0].isupper() and " " in command.title  # a phrase for the command palette


def test_every_command_is_used_and_every_use_is_a_command(manifest: PluginManifest) -> None:
    parts = manifest.contributions
    used = {
        c.command for group in (parts.readers, parts.writers, parts.widgets, parts.sample_data) for c in group or ()
    }
    used |= {item.command for items in (parts.menus or {}).values() for item in items}
    assert used == {c.id for c in parts.commands or ()}


def test_images_of_other_plugins_are_left_to_them(manifest: PluginManifest) -> None:
    patterns = [p for reader in manifest.contributions.readers or () for p in reader.filename_patterns]
    assert not [p for p in patterns if p.endswith((".tif", ".tiff", "*"))]
    assert {"*.mrcs", "*.mrc", "*.star", "*.cs"} <= set(patterns)


def test_keys_that_older_npe2_refuses_are_not_used() -> None:
    text = FILE.read_text()
    assert "default_dock_area" not in text and "tabify" not in text


def test_opening_a_dock_class_loads_nothing_heavy() -> None:
    code = (
        "import sys, napari_harmony, napari_harmony._reader, napari_harmony._writer, napari_harmony._sample_data;"
        "import napari_harmony.widgets.harmony, napari_harmony.widgets.transforms_table;"
        "import napari_harmony.widgets.latent_plot;"
        "napari_harmony._reader.get_reader('particles.star');"
        "print([m for m in ('torch', 'matplotlib', 'sklearn') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
