"""What a data set is, and how it comes in and goes out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_harmony.particles.coordinates import read_coordinates as read_coordinates
    from napari_harmony.particles.cryosparc import write_cryosparc as write_cryosparc
    from napari_harmony.particles.dynamo import write_dynamo as write_dynamo
    from napari_harmony.particles.mrc import write_stack as write_stack
    from napari_harmony.particles.open import open_particles as open_particles
    from napari_harmony.particles.relion import write_relion as write_relion
    from napari_harmony.particles.tomogram import open_tomogram as open_tomogram

#: Where each name lives: imported at its first use, so that pandas and the file formats do not slow down start-up.
_HOMES = {
    "open_particles": "open",
    "open_tomogram": "tomogram",
    "read_coordinates": "coordinates",
    "write_cryosparc": "cryosparc",
    "write_dynamo": "dynamo",
    "write_relion": "relion",
    "write_stack": "mrc",
}

__all__ = [
    "open_particles",
    "open_tomogram",
    "read_coordinates",
    "write_cryosparc",
    "write_dynamo",
    "write_relion",
    "write_stack",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
