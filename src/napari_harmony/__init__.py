"""Align and classify cryo-EM particles: content disentangled from transformations, without labels.

Example
-------
>>> from napari_harmony import Harmony, open_particles
>>> particles = open_particles("particles.star")  # doctest: +SKIP
>>> result = Harmony(classes=10).align(particles)  # doctest: +SKIP
>>> result.table[["class_number", "psi", "origin_x", "origin_y"]]  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_harmony.engine.settings import Settings as Settings
    from napari_harmony.harmony import Harmony as Harmony
    from napari_harmony.particles import open_particles as open_particles
    from napari_harmony.results import Result as Result

    __version__: str

#: Where each public name lives: imported at its first use, so that napari starts without torch.
_HOMES = {
    "Harmony": "napari_harmony.harmony",
    "Result": "napari_harmony.results",
    "Settings": "napari_harmony.engine.settings",
    "open_particles": "napari_harmony.particles",
}

__all__ = ["Harmony", "Result", "Settings", "__version__", "open_particles"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("napari-harmony")
    except PackageNotFoundError:  # the source is on the path, but was never installed
        return "0+unknown"
