"""How long networks of images are trained."""

from __future__ import annotations

import math

from napari_harmony.engine.settings import Settings

#: Edge of the network's grid; finer detail is left to the search and to refinement.
NETWORK_BOX = 32
#: Pairs of image and copy per step, and the most where there are many particles.
BATCH, LARGEST_BATCH = 64, 256
#: Particles up to which each is looked at as often as there are passes. Of more, a network learns as much in fewer
#: passes, which fall with the root of their number, and in larger batches, which grow with it.
MANY = 2000
#: Passes over the particles, with poses from the search and without.
EPOCHS = {"fast": (4, 60), "balanced": (8, 120), "thorough": (40, 200)}
#: Batches that controllers and critics of added objectives need to settle.
ADDED_STEPS = {"fast": 400, "balanced": 1500, "thorough": 4000}
#: Batches, and the most passes over the particles, where all particles are of one class: what still differs between
#: them is continuous, and weak motions show up late.
ONE_CLASS_STEPS, ONE_CLASS_EPOCHS = {"fast": 600, "balanced": 1900, "thorough": 4000}, 60
#: The published objective is cheap per pass and slow to learn.
EPOCHS_2022 = {"fast": 60, "balanced": 200, "thorough": 400}


def epochs(settings: Settings, seeded: bool, particles: int, classes: int | None = None) -> int:
    """Passes over the particles that a preset asks for, and that one class alone or what is added needs."""
    if settings.objective == "harmony-2022":
        return EPOCHS_2022[settings.preset]
    own = EPOCHS[settings.preset][0 if seeded else 1]
    if classes == 1:
        own = max(own, min(ONE_CLASS_EPOCHS, _passes(ONE_CLASS_STEPS[settings.preset], particles, BATCH)))
    else:
        own = math.ceil(own / _crowd(particles))
    return max(own, added_epochs(settings, particles, BATCH))


def batch_of(settings: Settings, particles: int, classes: int | None = None) -> int:
    """Pairs of image and copy per step; no more than ``BATCH`` where it is steps that count."""
    if settings.objective != "harmony" or settings.additions or classes == 1:
        return BATCH
    return min(LARGEST_BATCH, BATCH * 2 ** math.floor(math.log2(_crowd(particles))))


def _crowd(particles: int) -> float:
    """How many times fewer passes there are than over few particles."""
    return math.sqrt(max(1.0, particles / MANY))


def added_epochs(settings: Settings, particles: int, batch: int) -> int:
    """Passes over the particles that what is added to the objective needs, 0 without."""
    if not settings.additions:
        return 0
    return _passes(ADDED_STEPS[settings.preset], particles, batch)


def _passes(steps: int, particles: int, batch: int) -> int:
    """Passes over the particles that are at least so many batches."""
    return math.ceil(steps / max(1, round(particles / batch)))
