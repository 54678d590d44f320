"""What a data set is, and how it comes in and goes out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_harmony.particles.cryosparc import write_cryosparc as write_cryosparc
    from napari_harmony.particles.mrc import write_stack as write_stack
    from napari_harmony.particles.open import open_particles as open_particles
    from napari_harmony.particles.relion import write_relion as write_relion

#: Where each name lives: imported at its first use, so that pandas and the file formats do not slow down start-up.
_HOMES = {
    "open_particles": "open",
    "write_cryosparc": "cryosparc",
    "write_relion": "relion",
    "write_stack": "mrc",
}

__all__ = ["open_particles", "write_cryosparc", "write_relion", "write_stack"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
