"""Particles on the grid that a model was trained on, and what was found there as a result of the particles given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from napari_harmony.engine.events import Done, Event
from napari_harmony.engine.geometry import LARGEST_IMAGE, LARGEST_VOLUME, name_of
from napari_harmony.errors import InputError
from napari_harmony.models.card import ModelCard
from napari_harmony.models.fitness import why_not_rescaled
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.rescale import Grid, resampled, rescaled
from napari_harmony.results import Result

#: Columns of a result that are lengths in pixels of the input.
_LENGTHS = ("origin_x", "origin_y", "origin_z", "shift_spread")


def rescaled_for(particles: Particles, card: ModelCard) -> Particles:
    """The particles as wide as the model's, with as many pixels as they have in that width and a run looks at.

    Raises
    ------
    InputError : rescaling does not make them fit the model
    """
    if reason := why_not_rescaled(card, particles):
        raise InputError(f"{name_of(particles)}: {reason}")
    width = card.box * card.pixel_size
    own = 2 * round(0.5 * width / particles.pixel_size)
    box = max(card.box, min(own, _largest(particles)))
    return rescaled(particles, width / box, box)


def in_original_pixels(events: Iterator[Event], used: Particles, particles: Particles) -> Iterator[Event]:
    """The events of a run on rescaled particles, its result as one of the particles given."""
    for event in events:
        if isinstance(event, Done) and isinstance(event.value, Result):
            event = replace(event, value=restored(event.value, used, particles))
        yield event


def restored(result: Result, used: Particles, particles: Particles) -> Result:
    """A result of rescaled particles as one of those given: lengths in their pixels, averages on their grid.

    Parameters
    ----------
    result : of the particles ``used``, which are ``particles`` rescaled
    """
    ratio = used.pixel_size / particles.pixel_size
    table = result.table.copy()
    for name in (column for column in _LENGTHS if column in table):
        table[name] = table[name] * ratio
    box = min(particles.box, _largest(particles))
    old = Grid(result.averages.shape[-1], result.average_pixel_size)
    new = Grid(box, particles.box * particles.pixel_size / box)
    halves = result.half_averages
    return replace(
        result,
        table=table,
        averages=resampled(result.averages, old, new),
        average_pixel_size=new.pixel_size,
        half_averages=None if halves is None else np.stack([resampled(half, old, new) for half in halves]),
        pixel_size=particles.pixel_size,
        summary={**result.summary, "rescaled": {"box": used.box, "pixel_size": used.pixel_size}},
    )


def _largest(particles: Particles) -> int:
    """Edge of the largest grid that runs work on."""
    return LARGEST_VOLUME if particles.dimensions == 3 else LARGEST_IMAGE
