"""What the user set once for all runs: the plugin's page in napari's preferences, and its defaults without napari."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from napari_harmony.engine.settings import Precision, Settings

PLUGIN = "napari-harmony"

_MEGABYTE = 2**20


@dataclass(frozen=True)
class Preferences:
    """What runs, models and pictures start from.

    Attributes
    ----------
    device : "auto", "cpu", "cuda" or "mps", as in ``Settings``
    batch_memory : bytes that one batch may take on the device, as in ``Settings``
    precision : "auto", "full" or "mixed", as in ``Settings``
    model_folder : where the model library lies; "" for the user's data folder
    colormap : napari's name of the colours that class averages are shown in
    memory : bytes of main memory that images may take, as in ``Settings``
    cache_folder : where images wait that do not fit in it; "" for the user's cache folder
    """

    device: str = Settings().device
    batch_memory: int = Settings().batch_memory
    precision: Precision = Settings().precision
    model_folder: str = ""
    colormap: str = "gray"
    memory: int = Settings().memory
    cache_folder: str = Settings().cache


def preferences() -> Preferences:
    """The preferences as they stand: those of napari where it is loaded, else the defaults. Never raises."""
    stored = plugin_settings()
    if stored is None:
        return Preferences()
    return Preferences(
        device=stored.computing.device,
        batch_memory=stored.computing.batch_memory * _MEGABYTE,
        precision=stored.computing.precision,
        model_folder=stored.models.model_folder.strip(),
        colormap=stored.display.colormap,
        memory=stored.computing.particle_memory * _MEGABYTE,
        cache_folder=stored.computing.cache_folder.strip(),
    )


def plugin_settings() -> Any | None:
    """napari's evented settings of this plugin; None without napari, or where the plugin is not registered there.

    They have one group per title of the page: ``computing``, ``models``, ``display``; each value has an event, as in
    ``plugin_settings().models.events.model_folder.connect(...)``.
    """
    napari_settings = sys.modules.get("napari.settings")  # never imported here: runs without a window need no napari
    if napari_settings is None:
        return None
    try:
        return napari_settings.get_plugin_settings(PLUGIN)
    except (KeyError, ValueError, OSError):  # not registered; a faulty manifest of any plugin; an unreadable file
        return None
