"""What particles and results look like as napari layers: lazy stacks, and the layer data tuples around them.

No Qt here: reader, writer, sample data and widgets all use these functions.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import affine_transform

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
AVERAGES = "class averages"
LABELS = "class labels"
_LABEL_COLOUR = "#ffd166"
_GROUND = -10.0  # between class averages, in their deviations: black whatever they hold
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


def stack_space(pixel_size: float) -> dict[str, Any]:
    """Scale, units and axis labels of a particle stack."""
    return {
        "scale": (1.0, pixel_size, pixel_size),
        "units": ("pixel", ANGSTROM, ANGSTROM),
        "axis_labels": ("particle", "y", "x"),
    }


def space_of(layer: Any) -> dict[str, Any]:
    """Scale, units, axis labels and translation of a layer, to be given to those drawn from it."""
    keys = ("scale", "units", "axis_labels", "translate")
    return {key: tuple(getattr(layer, key)) for key in keys}


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
    return stack, {**options, **stack_space(particles.pixel_size)}, "image"


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


# -- class averages -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Montage:
    """Class averages side by side in one picture.

    A picture in y and x lies beside the particles whatever the slider says; a stack of averages would be blank there
    from particle k on.

    Attributes
    ----------
    picture : (height, width) float32; every tile has mean 0 and deviation 1, so that all are seen at one contrast
    corners : (k, 2) of the tiles, (y, x) in pixels
    mean, deviation : (k,) that were taken away, so that the averages can be had back
    box : edge of a tile in pixels
    """

    picture: NDArray[np.float32]
    corners: NDArray[np.int64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    box: int

    @classmethod
    def of(cls, averages: NDArray[Any], gap: int = 2) -> Montage:
        """Lay out averages (k, box, box) with ``gap`` pixels between them."""
        count, box = len(averages), int(averages.shape[-1])
        clean = np.nan_to_num(np.asarray(averages, dtype=np.float64))
        mean, deviation = clean.mean(axis=(1, 2)), clean.std(axis=(1, 2))
        deviation = np.where(deviation > 0, deviation, 1.0)
        columns = montage_columns(count)
        step = box + gap
        rows = max(1, -(-count // columns))
        picture = np.full((rows * step - gap, columns * step - gap), _GROUND, dtype=np.float32)
        corners = np.array([(i // columns * step, i % columns * step) for i in range(count)], dtype=np.int64)
        for i, (y, x) in enumerate(corners):
            picture[y : y + box, x : x + box] = (clean[i] - mean[i]) / deviation[i]
        return cls(picture, corners.reshape(-1, 2), mean, deviation, box)

    def about(self) -> dict[str, Any]:
        """What ``averages_of`` needs beside the picture, in values that JSON can hold."""
        return {
            "corners": self.corners.tolist(),
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
            "box": self.box,
        }


def averages_of(picture: NDArray[Any], about: Mapping[str, Any]) -> NDArray[np.float32]:
    """The class averages (k, box, box) that a picture of them was made from."""
    box = about["box"]
    tiles = [np.asarray(picture)[y : y + box, x : x + box] for y, x in about["corners"]]
    scaled = zip(tiles, about["mean"], about["deviation"], strict=True)
    return np.array([tile * deviation + mean for tile, mean, deviation in scaled], dtype=np.float32)


def class_at(about: Mapping[str, Any], y: float, x: float) -> int | None:
    """The class (1-based) whose tile holds a pixel of the picture, or None between tiles."""
    for number, (top, left) in enumerate(about["corners"], start=1):
        if top - 0.5 <= y < top + about["box"] - 0.5 and left - 0.5 <= x < left + about["box"] - 0.5:
            return number
    return None


def montage_columns(count: int) -> int:
    """Tiles in a row, so that the picture is a little wider than high."""
    return max(1, int(np.ceil(np.sqrt(1.4 * max(1, count)))))


def average_layers(
    averages: NDArray[Any],
    counts: ArrayLike,
    resolution: ArrayLike,
    average_pixel_size: float,
    space: Mapping[str, Any],
    box: int,
) -> list[LayerTuple]:
    """Class averages beside the particles, and their numbers, counts and resolutions as text over them.

    Parameters
    ----------
    averages : (k, b, b), on their own grid
    counts, resolution : (k,) particles, and angstrom (NaN: none)
    average_pixel_size : angstrom per pixel of ``averages``
    space : scale, units, axis labels and translation of the particle stack
    box : edge of the particles in pixels
    """
    tiles = Montage.of(averages)
    pixel = float(tuple(space["scale"])[-1])
    zoom = box / tiles.box  # averages may be cropped in Fourier space
    flat = {**flat_space(space, right=1.08 * box * pixel), "scale": (pixel * zoom, pixel * zoom)}
    counts, resolution = np.asarray(counts), np.asarray(resolution, dtype=np.float64)
    about = {
        "role": "averages",
        "counts": [int(c) for c in counts],
        "resolution": [round(float(r), 2) if np.isfinite(r) else None for r in resolution],
        "pixel_size": average_pixel_size,
        **tiles.about(),
    }
    limits = contrast_limits(tiles.picture[tiles.picture > _GROUND])
    image = {"name": AVERAGES, "contrast_limits": limits, "colormap": "gray", "metadata": {KEY: about}}
    features = {
        "class_number": np.arange(1, len(averages) + 1),
        "count": counts.astype(int),
        "resolution": resolution,
        "label": caption(counts, resolution),
    }
    points = {
        "name": LABELS,
        "features": features,
        "text": {"string": "{label}", "color": _LABEL_COLOUR, "size": 9, "anchor": "lower_left"},
        "size": 1.0,
        "face_color": "transparent",
        "border_color": "transparent",
        "metadata": {KEY: {"role": "labels"}},
    }
    return [(tiles.picture, {**image, **flat}, "image"), (tiles.corners.astype(float), {**points, **flat}, "points")]


def caption(counts: NDArray[Any], resolution: NDArray[Any]) -> list[str]:
    """What stands over each class average: number, particles, resolution where there is one."""
    texts = []
    for number, (count, angstrom) in enumerate(zip(counts, resolution, strict=True), start=1):
        ending = f", {angstrom:.1f} \N{ANGSTROM SIGN}" if np.isfinite(angstrom) else ""
        texts.append(f"{number}: {int(count):,}{ending}")
    return texts
