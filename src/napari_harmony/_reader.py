"""Opens particles, volumes and finished result folders in napari. No Qt, and nothing heavy until a file is opened."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_harmony._layers import LayerTuple
    from napari_harmony.particles.dataset import Particles
    from napari_harmony.particles.mrc import MrcHeader
    from napari_harmony.particles.tomogram import Tomogram

Reader = Callable[[str | Sequence[str]], "list[LayerTuple]"]

_TABLES = (".star", ".cs")
_STACKS = (".mrcs", ".st")
_VOLUMES = (".mrc", ".map", ".rec")
_MRC = (*_STACKS, *_VOLUMES)
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
        return _is_our_folder(path)
    return _kind(path) in (*_TABLES, *_MRC)


def _is_our_folder(path: Path) -> bool:
    """A finished run, extracted subtomograms, or a folder of MRC volumes; folders of TIFF files are left to napari."""
    try:
        names = os.listdir(path)
    except OSError:
        return False
    return "particles.star" in names or any(_kind(Path(name)) in _VOLUMES for name in names)


def _kind(path: Path) -> str:
    """Suffix in lower case, the one before .gz and the like."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in _PACKED else suffix


def _read_one(path: Path) -> list[LayerTuple]:
    from napari_harmony._layers import particles_layer
    from napari_harmony.outputs import is_output
    from napari_harmony.particles import open_particles

    if path.is_dir() and is_output(path):
        return read_output(path)
    if not path.is_dir() and _kind(path) in _MRC:
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
    space, box = stack_space(result.pixel_size, known, result.dimensions), result.averages.shape[-1]
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
    _look_at_them(str(folder), len(layers))
    return layers


def _look_at_them(folder: str, count: int) -> None:
    """Fit the view to the layers of a result when all are there; napari does so in an empty viewer only."""
    napari = sys.modules.get("napari")
    viewer = napari.current_viewer() if napari is not None else None
    if viewer is None or not viewer.layers:
        return
    from napari_harmony._layers import KEY, fit_visible

    def is_one(layer: Any) -> bool:
        about = layer.metadata.get(KEY)
        return isinstance(about, dict) and about.get("set") == folder

    before = {id(layer) for layer in viewer.layers}

    def on_inserted(_event: Any) -> None:
        new = [layer for layer in viewer.layers if is_one(layer) and id(layer) not in before]
        if len(new) == count:
            viewer.layers.events.inserted.disconnect(on_inserted)
            fit_visible(viewer, lambda layer: layer in new)

    viewer.layers.events.inserted.connect(on_inserted)


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
    from napari_harmony._tomograms import volume_layer
    from napari_harmony.particles.mrc import open_frames
    from napari_harmony.particles.tomogram import Tomogram

    frames, header = open_frames(path, square=False)
    if _holds_particles(path, header):
        return None
    opened = Tomogram(path, frames, header.pixel_size or 1.0, header.pixel_size is not None)
    return volume_layer(opened, _name(path)) if opened.shape[0] > 1 else _micrograph(opened, path)


def _holds_particles(path: Path, header: MrcHeader) -> bool:
    """Whether an MRC file is a stack of particle images or of subtomograms, as far as its header and name can tell."""
    depth, height, width = header.shape
    if header.volumes:
        return header.volumes > 1 or _kind(path) in _STACKS
    if height != width:
        return False
    if depth == 1:
        return _kind(path) in _STACKS or width <= _LARGEST_PARTICLE
    return _kind(path) in _STACKS or not (header.is_volume or _kind(path) == ".rec")


def _micrograph(opened: Tomogram, path: Path) -> LayerTuple:
    """A single image (y, x)."""
    from napari_harmony._layers import KEY, contrast_limits
    from napari_harmony._tomograms import volume_space

    image = opened.read()[0]
    space = {key: value[-2:] for key, value in volume_space(opened.voxel_size, opened.voxel_size_known).items()}
    about = {"role": "volume", "path": str(path), "pixel_size": opened.voxel_size}
    options = {
        "name": _name(path),
        "contrast_limits": contrast_limits(image[:: max(1, len(image) // 512)]),
        "colormap": "gray",
        "metadata": {KEY: about},
    }
    return image, {**options, **space}, "image"


#: A single square image of more pixels than this along an edge is a micrograph.
_LARGEST_PARTICLE = 1024
