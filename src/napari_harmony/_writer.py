"""Saves image layers as MRC stacks, and particles with their transformations as tables. No Qt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BATCH_BYTES = 64 * 2**20


def write_image_stack(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write an image layer as an MRC stack (n, y, x), batch by batch; a picture of class averages as the averages.

    Raises
    ------
    InputError
        For images with other than two or three dimensions or in colour.
    """
    from napari_harmony._averages import averages_of
    from napari_harmony._layers import KEY
    from napari_harmony.errors import InputError
    from napari_harmony.particles.mrc import write_stack

    about = meta.get("metadata", {}).get(KEY, {})
    if about.get("role") == "averages" and about.get("slices"):
        raise InputError(f"{path} cannot be written: this is a picture of slices; save the volumes beside it as .mrc.")
    if about.get("role") == "averages":
        write_stack(path, averages_of(data, about), float(about["pixel_size"]))
        return [path]
    if meta.get("rgb") or len(data.shape) not in (2, 3):
        raise InputError(f"{path} cannot be written: an MRC stack holds grey images (n, y, x), not {data.shape}.")
    write_stack(path, _batches(data), _pixel_size(meta))
    return [path]


def write_volume_file(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a volume (z, y, x), such as averages in their tomogram, as MRC; class averages as one file for each class.

    Volumes are drawn and written slab by slab, so that they may be larger than the memory.

    Raises
    ------
    InputError
        For layers that are no volume.
    """
    from napari_harmony._layers import KEY
    from napari_harmony._volume_averages import volumes_of
    from napari_harmony.errors import InputError
    from napari_harmony.particles.mrc import write_volume

    about = meta.get("metadata", {}).get(KEY, {})
    if about.get("role") == "average volumes":
        target, written = Path(path), []
        for number, volume in enumerate(volumes_of(data, about), start=1):
            file = target.with_name(f"{target.stem}_{number:03d}{target.suffix}")
            write_volume(file, volume, float(about["pixel_size"]))
            written.append(str(file))
        return written
    if meta.get("rgb") or len(data.shape) != 3:
        raise InputError(f"{path} cannot be written: a volume has the axes z, y and x, not {data.shape}.")
    write_volume(path, _batches(data), _pixel_size(meta))
    return [path]


def write_particle_table(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write the particles of a layer, with the transformations of the result it was drawn from, as STAR, CSV or .cs.

    A layer of one class writes the particles of that class.

    Raises
    ------
    InputError
        For layers that show no result.
    """
    from napari_harmony._stacks import ParticleStack
    from napari_harmony.errors import InputError
    from napari_harmony.outputs import export_table

    if not isinstance(data, ParticleStack) or data.result is None:
        raise InputError(
            f"{path} cannot be written: layer '{meta.get('name')}' has no transformations; save the aligned particles, "
            "or give the file the name .mrcs to save the images."
        )
    export_table(Path(path), data.particles, data.result, rows=data.ids)
    return [path]


def _batches(data: Any) -> Iterator[NDArray[np.float32]]:
    if len(data.shape) == 2:
        yield np.asarray(data, dtype=np.float32)[None]
        return
    step = max(1, _BATCH_BYTES // (4 * int(np.prod(data.shape[1:]))))
    for first in range(0, data.shape[0], step):
        yield np.asarray(data[first : first + step], dtype=np.float32)


def _pixel_size(meta: dict[str, Any]) -> float:
    """Angstrom per pixel of a layer; its scale as it is where the unit is no length."""
    scale = float(np.atleast_1d(meta.get("scale", 1.0))[-1])
    unit = meta.get("units")
    if unit is None:
        return scale
    last = unit[-1] if not isinstance(unit, str) else unit
    from pint import DimensionalityError, UndefinedUnitError, get_application_registry

    try:
        return float(get_application_registry().Quantity(scale, str(last)).to("angstrom").magnitude)
    except (DimensionalityError, UndefinedUnitError):
        return scale
