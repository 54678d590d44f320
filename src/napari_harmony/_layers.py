"""What particles and results look like as napari layers: the layer data tuples around lazy stacks, and the way back.

No Qt here: reader, writer, sample data and widgets all use these functions.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony._stacks import ParticleStack
from napari_harmony.particles.images import ArrayImages
from napari_harmony.particles.volumes import ArrayVolumes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from napari_harmony.particles.dataset import Particles
    from napari_harmony.particles.wedge import Wedge
    from napari_harmony.results import Result

LayerTuple = tuple[Any, dict[str, Any], str]

#: Key of ``layer.metadata`` under which a layer says what it is, in values that JSON can hold.
KEY = "napari-harmony"
ANGSTROM = "angstrom"
ALIGNED = "aligned particles"
_SAMPLE = 32  # particles looked at for contrast limits
_SAMPLE_VOLUMES = 8


def particles_of(layer: Any) -> Particles | None:
    """The particles a layer shows: what it was read from, or its own pixels for square images or cubes from elsewhere.

    Returns None for layers that are no particle stack, and for those drawn from a result (aligned, one class).
    """
    if isinstance(layer.data, ParticleStack):
        return None if layer.data.aligned or layer.data.ids is not None else layer.data.particles
    if role_of(layer) is not None or getattr(layer, "rgb", True) or getattr(layer, "multiscale", True):
        return None
    if layer.ndim not in (3, 4) or len(set(layer.data.shape[1:])) != 1 or layer.data.dtype.kind not in "buif":
        return None
    return _plain_particles(layer)


#: Layers from elsewhere and what was made of them: asking twice gives the same particles, and so the same result.
_plain: weakref.WeakKeyDictionary[Any, tuple[Any, Particles]] = weakref.WeakKeyDictionary()


def _plain_particles(layer: Any) -> Particles:
    import pandas as pd

    from napari_harmony.particles.dataset import Particles

    stated = pixel_size_of(layer)
    pixel_size, known = stated or 1.0, stated is not None
    data, particles = _plain.get(layer, (None, None))
    if particles is not None and data is layer.data and particles.pixel_size == pixel_size:
        return particles
    particles = Particles(
        images=ArrayImages(layer.data) if layer.ndim == 3 else ArrayVolumes(layer.data),
        table=pd.DataFrame(index=pd.RangeIndex(layer.data.shape[0])),
        pixel_size=pixel_size,
        pixel_size_known=known,
    )
    _plain[layer] = (layer.data, particles)
    return particles


def pixel_size_of(layer: Any) -> float | None:
    """Angstrom per pixel along x, or None where the unit of the layer is no length (nanometres are as good)."""
    unit = layer.units[-1]
    if not unit.is_compatible_with(ANGSTROM):
        return None
    return float((float(layer.scale[-1]) * unit).to(ANGSTROM).magnitude)


def set_pixel_size(layer: Any, pixel_size: float) -> Particles | None:
    """Tell a layer the pixel size (angstrom) its file does not; returns its particles, which now know it."""
    if isinstance(layer.data, ParticleStack):
        particles = replace(layer.data.particles, pixel_size=pixel_size, pixel_size_known=True)
        layer.data = ParticleStack(particles)
        about = {**layer.metadata.get(KEY, {}), "pixel_size": pixel_size, "pixel_size_known": True}
        layer.metadata = {**layer.metadata, KEY: about}
    for key, value in stack_space(pixel_size, dimensions=layer.ndim - 1).items():
        setattr(layer, key, value)
    return particles_of(layer)


def set_wedge(layer: Any, wedge: Wedge | None) -> Particles | None:
    """Tell a layer of subtomograms where they have data in Fourier space; returns its particles, which now know it."""
    particles = particles_of(layer)
    if particles is None:
        return None
    changed = particles.with_wedge(wedge)
    if isinstance(layer.data, ParticleStack):
        layer.data = ParticleStack(changed)
    else:
        _plain[layer] = (layer.data, changed)
    return changed


def result_of(layer: Any) -> Result | None:
    """The result a layer was drawn from, or None."""
    return layer.data.result if isinstance(layer.data, ParticleStack) else None


def role_of(layer: Any) -> str | None:
    """What the plugin made a layer for ("particles", "aligned", "class", "averages", "labels", "volume"...) or None."""
    about = layer.metadata.get(KEY)
    return about.get("role") if isinstance(about, Mapping) else None


def fit_visible(viewer: Any, among: Callable[[Any], bool] = lambda layer: True) -> None:
    """Fit what is shown, ``among`` some layers, to the canvas; a hidden tomogram must not make the particles small."""
    shown = [layer for layer in viewer.layers if layer.visible and among(layer)]
    # napari cannot fit layers that have fewer axes than the viewer
    whole = max((layer.ndim for layer in shown), default=0) == viewer.dims.ndim
    try:
        viewer.fit_to_view(layers=shown if whole else None)
    except TypeError:  # napari 0.9.1 knows no choice
        viewer.fit_to_view()


def stand_inside(viewer: Any, layer: Any) -> None:
    """Move the sliders of z, y and x, where they stand beside a stack of subtomograms or a volume, to its middle."""
    offset = viewer.dims.ndim - layer.ndim
    low, high = layer.extent.world
    for axis in range(1 if layer.ndim == 4 else 0, layer.ndim):
        place = viewer.dims.point[offset + axis]
        if not low[axis] <= place <= high[axis]:
            middle = [size // 2 for size in layer.data.shape]
            viewer.dims.set_point(offset + axis, layer.data_to_world(middle)[axis])


# -- layer data tuples ----------------------------------------------------------------------------------------------


def contrast_limits(images: NDArray[Any]) -> tuple[float, float]:
    """Robust limits from some images; never an empty range, whatever the images hold."""
    finite = images[np.isfinite(images)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, (0.5, 99.8))
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


def stack_space(pixel_size: float, known: bool = True, dimensions: int = 2) -> dict[str, Any]:
    """Scale, units and axis labels of a stack of images (2) or subtomograms (3); in pixels where no size is known."""
    length = ANGSTROM if known else "pixel"
    return {
        "scale": (1.0, *[pixel_size] * dimensions),
        "units": ("pixel", *[length] * dimensions),
        "axis_labels": ("particle", *"zyx"[-dimensions:]),
    }


def space_of(layer: Any) -> dict[str, Any]:
    """Scale, units, axis labels and translation of a layer, to be given to those drawn from it."""
    space: dict[str, Any] = {key: tuple(getattr(layer, key)) for key in ("units", "axis_labels")}
    return {**space, **{key: tuple(map(float, getattr(layer, key))) for key in ("scale", "translate")}}


def flat_space(space: Mapping[str, Any], right: float = 0.0) -> dict[str, Any]:
    """The y and x part of a stack's space, moved to the right by so many world units."""
    flat = {key: tuple(value)[-2:] for key, value in space.items()}
    y, x = flat.get("translate", (0.0, 0.0))
    return {**flat, "translate": (y, x + right)}


def volume_space_of(space: Mapping[str, Any]) -> dict[str, Any]:
    """The z, y and x part of the space of a stack of subtomograms."""
    return {key: tuple(value)[-3:] for key, value in space.items()}


def particles_layer(particles: Particles, name: str, result: Result | None = None) -> LayerTuple:
    """A bare particle stack as a layer; reads a few particles for the contrast limits."""
    stack = ParticleStack(particles, result)
    sample = _SAMPLE if particles.dimensions == 2 else _SAMPLE_VOLUMES
    chosen = np.unique(np.linspace(0, len(particles) - 1, min(sample, len(particles))).astype(int))
    about = {
        "role": "particles",
        "path": str(particles.path) if particles.path is not None else None,
        "particles": len(particles),
        "pixel_size": particles.pixel_size,
        "pixel_size_known": particles.pixel_size_known,
        "ctf": particles.ctf is not None,
    }
    limits = contrast_limits(particles.read(chosen))
    options = {"name": name, "contrast_limits": limits, "colormap": "gray", "metadata": {KEY: about}}
    space = stack_space(particles.pixel_size, particles.pixel_size_known, particles.dimensions)
    return stack, {**options, **space}, "image"


def aligned_layer(
    particles: Particles, result: Result, space: Mapping[str, Any], limits: ArrayLike, class_number: int | None = None
) -> LayerTuple:
    """Aligned particles, all or those of one class, computed for the slice that is looked at."""
    ids = None if class_number is None else result.members(class_number)
    about: dict[str, Any] = {"role": "aligned" if ids is None else "class", "run": run_of(result)}
    name = ALIGNED
    if ids is not None:
        about["class"] = class_number
        name = f"class {class_number} ({len(ids)})" if class_number else f"no class ({len(ids)})"
    stack = ParticleStack(particles, result, ids, aligned=True)
    options = {"name": name, "contrast_limits": tuple(limits), "colormap": "gray", "metadata": {KEY: about}}  # type: ignore[arg-type]
    return stack, {**options, **space}, "image"


def run_of(result: Result) -> dict[str, Any]:
    """The part of a result's provenance that fits into a layer."""
    kept = ("parameters", "seed", "device", "version", "versions", "wall_time", "warnings")
    return {key: result.summary[key] for key in kept if key in result.summary}
