"""Navigation of a finished run: directions in the content space of its model, as a run that can be followed."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from napari_harmony.analysis.navigation import Navigation, navigate
from napari_harmony.engine.clock import Clock
from napari_harmony.engine.devices import choose_device
from napari_harmony.engine.events import Done, Event
from napari_harmony.errors import InputError
from napari_harmony.models import HarmonyModel
from napari_harmony.results import Result

#: Pairs of pictures learned from, per batch and in all, of images and of volumes, which take longer to draw.
_BATCH, _STEPS = {2: 48, 3: 24}, {2: 400, 3: 300}


def navigation_of(
    model: HarmonyModel,
    result: Result,
    *,
    directions: int | None = None,
    class_number: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Generator[Event, None, None]:
    """Find directions in the content codes of a result.

    Parameters
    ----------
    model : that gave the result its content codes; it is moved to the device
    result : of images or of subtomograms
    directions : how many, None for as many as the model draws anything of, at most 8
    class_number : look at the particles of this class alone; None for all that have a class
    steps : batches of pairs of pictures to learn from, None for the usual number
    seed, device : as in ``Settings``

    Yields
    ------
    Progress, and last of all Done with the ``Navigation`` and the model

    Raises
    ------
    InputError : model and result do not belong together, the codes never vary, there is no such class or device, or not
        so many directions
    """
    codes = codes_of(model, result, class_number)
    where, dimensions = choose_device(device), model.card.dimensions
    network = model.network.to(where).eval()
    clock = Clock({"finding directions": 1.0})
    work = navigate(
        network.decode,
        codes,
        directions=directions,
        steps=steps if steps is not None else _STEPS[dimensions],
        batch=_BATCH[dimensions],
        seed=seed,
        device=where,
    )
    try:
        found: Navigation = yield from clock.watch(clock.follow("finding directions", work))
    except ValueError as error:
        raise InputError(f"No directions can be found: {error}.") from error
    yield Done(found, model)


def codes_of(model: HarmonyModel, result: Result, class_number: int | None = None) -> np.ndarray:
    """Content codes (n, d) of the particles that have a class, or of one class.

    Raises
    ------
    InputError : they are not those of the model, or there are too few
    """
    codes = result.content
    if codes.shape[1] != model.card.content or result.dimensions != model.card.dimensions:
        raise InputError(
            f"The model has content codes of {model.card.content} numbers in {model.card.dimensions}D, the result of "
            f"{codes.shape[1]} in {result.dimensions}D: give the result of this model."
        )
    number = result.table["class_number"].to_numpy()
    if class_number is not None and not 1 <= class_number <= result.classes:
        raise InputError(f"There is no class {class_number}: give a number from 1 to {result.classes}.")
    kept = number != 0 if class_number is None else number == class_number
    kept &= np.isfinite(codes).all(axis=1)
    if kept.sum() < 2:
        raise InputError("Fewer than two particles have a class and a content code: there is nothing to move between.")
    return codes[kept]
