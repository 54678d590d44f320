"""Opens particles, volumes and finished result folders in napari. No Qt, and nothing heavy until a file is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_harmony._layers import LayerTuple
    from napari_harmony.particles.dataset import Particles
    from napari_harmony.particles.mrc import MrcHeader

Reader = Callable[[str | Sequence[str]], "list[LayerTuple]"]

_TABLES = (".star", ".cs")
_STACKS = (".mrcs", ".st")
_MRC = (*_STACKS, ".mrc", ".map", ".rec")
_PACKED = (".gz", ".bz2", ".xz")


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """The function that reads ``path``, or None where this plugin does not; looks at names only."""
    paths = [path] if isinstance(path, str) else list(path)
    return read if paths and all(_is_readable(Path(p)) for p in paths) else None


def read(path: str | Sequence[str]) -> list[LayerTuple]:
    """Layers of one or several files or result folders.

    Raises
    ------
    InputError
        For what cannot be read: one sentence that says why.
    """
    paths = [path] if isinstance(path, str) else list(path)
    return [layer for p in paths for layer in _read_one(Path(p))]


def _is_readable(path: Path) -> bool:
    if path.is_dir():
        from napari_harmony.outputs import is_output

        return is_output(path)
    return _kind(path) in (*_TABLES, *_MRC)


def _kind(path: Path) -> str:
    """Suffix in lower case, the one before .gz and the like."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in _PACKED else suffix


def _read_one(path: Path) -> list[LayerTuple]:
    if path.is_dir():
        return read_output(path)
    from napari_harmony._layers import particles_layer
    from napari_harmony.particles import open_particles

    if _kind(path) in _MRC:
        volume = _as_volume(path)
        if volume is not None:
            return [volume]
    return [particles_layer(open_particles(path), _name(path))]


def _name(path: Path) -> str:
    return Path(path.stem).stem if path.suffix.lower() in _PACKED else path.stem


def read_output(folder: Path) -> list[LayerTuple]:
    """The layers of a finished run: particles and aligned particles where the images are still there, averages."""
    from napari_harmony._averages import average_layers
    from napari_harmony._layers import KEY, aligned_layer, particles_layer, stack_space
    from napari_harmony.outputs import load_output

    result = load_output(folder)
    particles, trouble = _particles_of_run(folder, result.summary)
    layers = []
    known = particles is None or particles.pixel_size_known
    space, box = stack_space(result.pixel_size, known), result.averages.shape[-1]
    if particles is not None and len(particles) == len(result):
        stack = particles_layer(particles, _name(particles.path or folder), result)
        layers = [stack, aligned_layer(particles, result, space, stack[1]["contrast_limits"])]
        box = particles.box
    else:
        from napari_harmony.particles.files import warn

        warn(f"{folder}: only the class averages were restored, for the particle images cannot be opened ({trouble})")
    layers += average_layers(result.averages, result.counts, result.resolution, result.average_pixel_size, space, box)
    for _, options, _ in layers:
        options["metadata"][KEY]["set"] = str(folder)
    return layers


def _particles_of_run(folder: Path, summary: dict[str, Any]) -> tuple[Particles | None, str]:
    """The particles a run was made from: its own table, which keeps all labels of the input, else the input itself."""
    from napari_harmony.errors import InputError
    from napari_harmony.outputs import names
    from napari_harmony.particles import open_particles

    trouble = "no file names them"
    for path in (folder / names.PARTICLES, Path(str(summary.get("input") or ""))):
        if path.is_file():
            try:
                return open_particles(path), ""
            except InputError as error:
                trouble = str(error)
    return None, trouble


def _as_volume(path: Path) -> LayerTuple | None:
    """A volume, or one large image, as a layer in angstrom; None where the file is a stack of particles."""
    import numpy as np

    from napari_harmony._layers import ANGSTROM, KEY, contrast_limits

    opened = _open_mrc(path)
    if opened is None:
        return None
    header, data = opened
    single = header.shape[0] == 1
    pixel_size = header.pixel_size or 1.0
    units = ANGSTROM if header.pixel_size else "pixel"
    array = data[0] if single else data
    sample = np.asarray(array[len(array) // 2] if not single else array[:: max(1, len(array) // 512)])
    options = {
        "name": _name(path),
        "scale": (pixel_size,) * array.ndim,
        "units": (units,) * array.ndim,
        "axis_labels": ("z", "y", "x")[-array.ndim :],
        "contrast_limits": contrast_limits(sample.astype(np.float32)),
        "colormap": "gray",
        "metadata": {KEY: {"role": "volume", "path": str(path), "pixel_size": pixel_size}},
    }
    return array, options, "image"


def _open_mrc(path: Path) -> tuple[MrcHeader, Any] | None:
    """Header and data of an MRC file that holds no particles; the data stay on disk."""
    import numpy as np

    from napari_harmony.particles.files import Decompressed, check_file, compression
    from napari_harmony.particles.images import FileImages, LazyStack, RawFrames
    from napari_harmony.particles.mrc import read_header

    check_file(path)
    unpacked = Decompressed(path) if compression(path) else None
    plain = unpacked.path if unpacked else path
    header = read_header(plain)
    depth, height, width = header.shape
    square = height == width
    if square and (_kind(path) in _STACKS or not (header.is_volume or _kind(path) == ".rec")) and depth > 1:
        return None
    if square and depth == 1 and (_kind(path) in _STACKS or width <= _LARGEST_PARTICLE):
        return None
    if unpacked is None and header.dtype.isnative:
        return header, np.memmap(plain, header.dtype, "r", header.offset, header.shape)
    return header, LazyStack(FileImages([RawFrames(plain, header.shape, header.dtype, header.offset, keep=unpacked)]))


#: A single square image of more pixels than this along an edge is a micrograph.
_LARGEST_PARTICLE = 1024
