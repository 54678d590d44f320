"""Averages that are due after edits, from the particles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from napari_harmony.edits.record import due_averages, with_averages
from napari_harmony.engine.events import Done, Event

if TYPE_CHECKING:
    from napari_harmony.particles.dataset import Particles
    from napari_harmony.results import Result


def recompute(particles: Particles, result: Result, device: str = "auto") -> Iterator[Event]:
    """The result with the averages, curves and resolutions that are due; ends with ``Done(result)``.

    Raises
    ------
    InputError : result and particles do not belong together
    InferenceError : the computation failed
    """
    due = due_averages(result)
    if due:
        from napari_harmony.engine import api

        for event in api.average_classes(particles, result, due, device=device):
            if not isinstance(event, Done):
                yield event
                continue
            made = event.value
            result = with_averages(
                result, made.classes, made.averages, made.frc, made.frc_floor, made.resolution, made.half_averages
            )
    yield Done(result)
