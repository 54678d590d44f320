"""Whether particles are what a model was made for, and whether rescaling makes them so. No torch here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_harmony.models.card import ModelCard

if TYPE_CHECKING:
    from napari_harmony.particles.dataset import Particles

#: Share by which the width of images may differ from that of the training; the engine's own bound.
WIDTH_TOLERANCE = 0.01
#: Of the diameter of the model's mask, what images must at least show of the particle for it to be recognised.
LEAST_SHOWN = 0.75
#: Pixels of the particles per pixel of the network's grid beyond which too little detail is left to fill up.
COARSEST = 1.5

ANGSTROM = "\N{ANGSTROM SIGN}"


def mismatch(card: ModelCard, particles: Particles) -> str:
    """Why a model cannot be used on these particles as they are, in one sentence; "" where it can."""
    if card.dimensions != particles.dimensions:
        of, these = ("images", "subtomograms") if card.dimensions == 2 else ("subtomograms", "images")
        return f"The model is of {of}, these are {these}: choose another model, or train one."
    if card.general:
        return _too_coarse(card, particles)
    if not card.classes:
        return "The model knows no classes to place particles on: train it again."
    unit = "voxels" if particles.dimensions == 3 else "px"
    width, wanted = particles.box * particles.pixel_size, card.box * card.pixel_size
    same = abs(width / wanted - 1) <= WIDTH_TOLERANCE
    if not same and not particles.pixel_size_known:
        return "The pixel size of these particles is not known: give it first, so that the model sees the right size."
    if not same:
        return (
            f"The particles' box is {width:.0f} {ANGSTROM} wide ({particles.box} {unit} of "
            f"{particles.pixel_size:.3g} {ANGSTROM}), the model's {wanted:.0f} {ANGSTROM}."
        )
    if particles.box < card.box:
        return (
            f"The particles' pixels of {particles.pixel_size:.3g} {ANGSTROM} are coarser than the model's of "
            f"{card.pixel_size:.3g} {ANGSTROM}."
        )
    return ""


def _too_coarse(card: ModelCard, particles: Particles) -> str:
    """Why a model for any particles cannot be used on these, in one sentence; "" where it can."""
    if particles.box >= card.box:
        return ""
    unit = "voxels" if particles.dimensions == 3 else "pixels"
    return f"The particles are {particles.box} {unit} wide, the model needs {card.box}: train a model on them instead."


def why_not_rescaled(card: ModelCard, particles: Particles) -> str:
    """Why rescaling does not make the particles fit the model, in one sentence; "" where it does or is not needed."""
    if card.dimensions != particles.dimensions or card.general or not card.classes:
        return mismatch(card, particles)
    if not particles.pixel_size_known:
        return "The pixel size of these particles is not known: give it first."
    width = particles.box * particles.pixel_size
    if width < LEAST_SHOWN * card.mask_diameter:
        return (
            f"The box is {width:.0f} {ANGSTROM} wide, too narrow for the model's particle of "
            f"{card.mask_diameter:.0f} {ANGSTROM}: extract the particles in a wider box, or train a model."
        )
    if particles.pixel_size > COARSEST * card.pixel_size:
        return (
            f"The pixels of {particles.pixel_size:.3g} {ANGSTROM} are too coarse for the model, which looks at "
            f"{card.pixel_size:.3g} {ANGSTROM}: extract the particles with less binning, or train a model."
        )
    return ""
