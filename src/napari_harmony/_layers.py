"""What particles and results look like as napari layers: lazy stacks, and the layer data tuples around them.

No Qt here: reader, writer, sample data and widgets all use these functions.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import affine_transform

from napari_harmony.errors import InputError
from napari_harmony.particles.images import ArrayImages, LazyStack

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from napari_harmony.particles.dataset import Indices, Particles
    from napari_harmony.results import Result

LayerTuple = tuple[Any, dict[str, Any], str]

#: Key of ``layer.metadata`` under which a layer says what it is, in values that JSON can hold.
KEY = "napari-harmony"
ANGSTROM = "angstrom"
ALIGNED = "aligned particles"
_LARGEST_READ = 2 * 2**30  # bytes that one look at a stack may read: the 3D view would ask for all of it
_SAMPLE = 32  # particles looked at for contrast limits


class ParticleStack(LazyStack):
    """The data of a layer that shows particles; carries what they are, so that a layer alone is enough to go on.

    Attributes
    ----------
    particles : the whole data set
    result : the result the layer was drawn from, or None for a bare stack
    ids : (m,) particle of each image, or None where image i is particle i
    """

    def __init__(
        self,
        particles: Particles,
        result: Result | None = None,
        ids: NDArray[np.int64] | None = None,
        *,
        aligned: bool = False,
    ) -> None:
        source = particles.images if ids is None else _Subset(particles, ids)
        posed = Aligner(result, ids) if aligned and result is not None else None
        super().__init__(source, posed)
        self.particles = particles
        self.result = result
        self.ids = ids
        self.aligned = aligned

    def __deepcopy__(self, memo: dict[int, Any]) -> ParticleStack:
        # nothing in here ever changes: duplicating a layer must not read a million particles
        return self

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        first = key[0] if isinstance(key, tuple) and key else key
        if isinstance(first, slice):
            count = len(range(*first.indices(self.shape[0])))
            size = count * self.nbytes // max(1, self.shape[0])
            if size > _LARGEST_READ:
                raise InputError(
                    f"{count:,} particles ({size / 2**30:.1f} GB) are too many to be shown at once; go back to the 2D "
                    "view with the particles on the slider."
                )
        return super().__getitem__(key)

    def particle_at(self, position: int) -> int | None:
        """The particle shown at a slider position, or None outside the stack."""
        if not 0 <= position < self.shape[0]:
            return None
        return position if self.ids is None else int(self.ids[position])

    def position_of(self, particle: int) -> int | None:
        """The slider position of a particle, or None where this stack does not hold it."""
        if self.ids is None:
            return particle if 0 <= particle < self.shape[0] else None
        found = np.flatnonzero(self.ids == particle)
        return int(found[0]) if len(found) else None


class _Subset:
    """Some particles of a data set as an image source of its own."""

    def __init__(self, particles: Particles, ids: NDArray[np.int64]) -> None:
        self._particles = particles
        self._ids = ids
        self.shape: tuple[int, ...] = (len(ids), particles.box, particles.box)

    def read(self, indices: Indices) -> NDArray[np.float32]:
        chosen = indices if isinstance(indices, slice) else np.asarray(indices)
        return self._particles.read(self._ids[chosen])


class Aligner:
    """Puts images into the canonical frame of their class: the function behind an aligned stack.

    Parameters
    ----------
    result : holds the poses, RELION's convention
    ids : (m,) particle of each image, or None where image i is particle i
    """

    def __init__(self, result: Result, ids: NDArray[np.int64] | None = None) -> None:
        columns = ["psi", "origin_x", "origin_y", "scale"]
        table = result.table if ids is None else result.table.iloc[ids]
        self._poses = table[columns].to_numpy(dtype=np.float64)

    def __call__(self, images: NDArray[np.float32], indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Images (k, box, box) of the numbers ``indices`` (k,), centred, turned upright and brought to scale 1."""
        posed = [align_image(image, *self._poses[i]) for image, i in zip(images, indices, strict=True)]
        return np.stack(posed) if posed else images


def align_image(
    image: NDArray[np.float32], psi: float, origin_x: float, origin_y: float, scale: float = 1.0
) -> NDArray[np.float32]:
    """One image (box, box) moved by +origin (pixel), turned by +psi (degree) about floor(box / 2), divided by scale.

    One cubic resampling. What lies outside the image becomes its median; an image or a pose that is not finite comes
    back as it is.
    """
    if not np.isfinite([psi, origin_x, origin_y, scale]).all() or scale <= 0 or not np.isfinite(image).all():
        return image
    centre = np.array(image.shape) // 2
    cos, sin = np.cos(np.deg2rad(psi)), np.sin(np.deg2rad(psi))
    # The pixel at (y, x) of the aligned image lies at c + scale * R(-psi) (. - c) - origin of the stored one.
    matrix = scale * np.array([[cos, -sin], [sin, cos]])
    offset = centre - matrix @ centre - (origin_y, origin_x)
    return affine_transform(image, matrix, offset, order=3, mode="constant", cval=float(np.median(image)))


def particles_of(layer: Any) -> Particles | None:
    """The particles a layer shows: what it was read from, or its own pixels for square images from elsewhere.

    Returns None for layers that are no particle stack, and for those drawn from a result (aligned, one class).
    """
    if isinstance(layer.data, ParticleStack):
        return None if layer.data.aligned or layer.data.ids is not None else layer.data.particles
    if role_of(layer) is not None or getattr(layer, "rgb", True) or getattr(layer, "multiscale", True):
        return None
    if layer.ndim != 3 or layer.data.shape[1] != layer.data.shape[2] or layer.data.dtype.kind not in "buif":
        return None
    return _plain_particles(layer)


#: Layers from elsewhere and what was made of them: asking twice gives the same particles, and so the same result.
_plain: weakref.WeakKeyDictionary[Any, tuple[Any, Particles]] = weakref.WeakKeyDictionary()


def _plain_particles(layer: Any) -> Particles:
    import pandas as pd

    from napari_harmony.particles.dataset import Particles

    unit = layer.units[-1]
    known = unit.is_compatible_with(ANGSTROM)  # nanometres of a TIFF are as good
    pixel_size = float((float(layer.scale[-1]) * unit).to(ANGSTROM).magnitude) if known else 1.0
    data, particles = _plain.get(layer, (None, None))
    if particles is not None and data is layer.data and particles.pixel_size == pixel_size:
        return particles
    particles = Particles(
        images=ArrayImages(layer.data),
        table=pd.DataFrame(index=pd.RangeIndex(layer.data.shape[0])),
        pixel_size=pixel_size,
        pixel_size_known=known,
    )
    _plain[layer] = (layer.data, particles)
    return particles


def set_pixel_size(layer: Any, pixel_size: float) -> Particles | None:
    """Tell a layer the pixel size (angstrom) its file does not; returns its particles, which now know it."""
    if isinstance(layer.data, ParticleStack):
        particles = replace(layer.data.particles, pixel_size=pixel_size, pixel_size_known=True)
        layer.data = ParticleStack(particles)
        about = {**layer.metadata.get(KEY, {}), "pixel_size": pixel_size, "pixel_size_known": True}
        layer.metadata = {**layer.metadata, KEY: about}
    for key, value in stack_space(pixel_size).items():
        setattr(layer, key, value)
    return particles_of(layer)


def result_of(layer: Any) -> Result | None:
    """The result a layer was drawn from, or None."""
    return layer.data.result if isinstance(layer.data, ParticleStack) else None


def role_of(layer: Any) -> str | None:
    """What the plugin made a layer for: "particles", "aligned", "class", "averages", "labels", "volume"; else None."""
    about = layer.metadata.get(KEY)
    return about.get("role") if isinstance(about, Mapping) else None


# -- layer data tuples ----------------------------------------------------------------------------------------------


def contrast_limits(images: NDArray[Any]) -> tuple[float, float]:
    """Robust limits from some images; never an empty range, whatever the images hold."""
    finite = images[np.isfinite(images)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, (0.5, 99.8))
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


def stack_space(pixel_size: float, known: bool = True) -> dict[str, Any]:
    """Scale, units and axis labels of a particle stack; in pixels where the pixel size is not known."""
    length = ANGSTROM if known else "pixel"
    return {
        "scale": (1.0, pixel_size, pixel_size),
        "units": ("pixel", length, length),
        "axis_labels": ("particle", "y", "x"),
    }


def space_of(layer: Any) -> dict[str, Any]:
    """Scale, units, axis labels and translation of a layer, to be given to those drawn from it."""
    space: dict[str, Any] = {key: tuple(getattr(layer, key)) for key in ("units", "axis_labels")}
    return {**space, **{key: tuple(map(float, getattr(layer, key))) for key in ("scale", "translate")}}


def flat_space(space: Mapping[str, Any], right: float = 0.0) -> dict[str, Any]:
    """The y and x part of a stack's space, moved to the right by so many world units."""
    flat = {key: tuple(value)[1:] for key, value in space.items()}
    y, x = flat.get("translate", (0.0, 0.0))
    return {**flat, "translate": (y, x + right)}


def particles_layer(particles: Particles, name: str, result: Result | None = None) -> LayerTuple:
    """A bare particle stack as a layer; reads a few particles for the contrast limits."""
    stack = ParticleStack(particles, result)
    chosen = np.unique(np.linspace(0, len(particles) - 1, min(_SAMPLE, len(particles))).astype(int))
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
    return stack, {**options, **stack_space(particles.pixel_size, particles.pixel_size_known)}, "image"


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
