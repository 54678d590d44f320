"""RELION particle files (STAR of versions 3.0 to 5): reading and writing."""

from __future__ import annotations

from napari_harmony.particles.relion_read import RelionMetadata as RelionMetadata
from napari_harmony.particles.relion_read import read_metadata as read_metadata
from napari_harmony.particles.relion_read import read_relion as read_relion
from napari_harmony.particles.relion_write import write_relion as write_relion

__all__ = ["RelionMetadata", "read_metadata", "read_relion", "write_relion"]
