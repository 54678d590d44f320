"""The grid that a run works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_harmony.errors import InputError

if TYPE_CHECKING:
    from napari_harmony.engine.settings import Settings
    from napari_harmony.particles.dataset import Particles

#: Smallest number of pixels across that a run makes sense with.
LEAST_BOX = 16
#: Smallest mask diameter in pixels of the working grid.
LEAST_MASK = 4
#: Edge of the working grid of images and of volumes: finer detail is Fourier-cropped away.
LARGEST_IMAGE, LARGEST_VOLUME = 64, 48


@dataclass(frozen=True)
class Geometry:
    """Lengths of a run in pixels of the working grid.

    Attributes
    ----------
    source_box, box : edge of the stored and of the working images
    pixel_size : angstrom per working pixel
    mask_radius, max_shift : working pixels
    """

    source_box: int
    box: int
    pixel_size: float
    mask_radius: float
    max_shift: float

    @property
    def scale(self) -> float:
        """Source pixels per working pixel."""
        return self.source_box / self.box


def name_of(particles: Particles) -> str:
    """What messages call the particles."""
    return str(particles.path or "the layer")


def working_geometry(particles: Particles, settings: Settings, largest: int | None = None) -> Geometry:
    """Choose the working grid of images or volumes: the source's own, or Fourier-cropped to ``largest`` across."""
    largest = largest or (LARGEST_VOLUME if particles.dimensions == 3 else LARGEST_IMAGE)
    source, pixel = particles.box, particles.pixel_size
    things, unit = ("volumes", "voxels") if particles.dimensions == 3 else ("images", "pixels")
    if source < LEAST_BOX:
        raise InputError(
            f"{name_of(particles)}: the {things} are {source} {unit} wide; at least {LEAST_BOX} are needed."
        )
    box = min(source, largest)
    scale = source / box
    diameter = settings.mask_diameter / pixel if settings.mask_diameter is not None else 0.9 * source
    reach = settings.max_shift / pixel if settings.max_shift is not None else 0.16 * source
    if not LEAST_MASK * scale <= diameter <= source:
        raise InputError(
            f"mask diameter: {settings.mask_diameter:g} A is {diameter:.1f} {unit}; "
            f"give {LEAST_MASK * scale * pixel:g} to {source * pixel:g} A for this {source}-{unit[:-1]} box."
        )
    if not 0 <= reach <= source / 2:
        raise InputError(
            f"max shift: {settings.max_shift:g} A is beyond half the box; give up to {source * pixel / 2:g} A."
        )
    return Geometry(source, box, pixel * scale, 0.5 * diameter / scale, reach / scale)
