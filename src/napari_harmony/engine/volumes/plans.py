"""How hard a search of subtomograms looks, and how long their networks are trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from napari_harmony.engine.schedule import added_epochs
from napari_harmony.engine.settings import Preset, Settings

#: Where a stage looks for a particle: at all poses; at all rotations, but near its shift; near its classes and poses.
EVERYWHERE, ALL_ROTATIONS, NEARBY = "everywhere", "all rotations", "nearby"


@dataclass(frozen=True)
class Stage:
    """Some iterations on one band.

    Attributes
    ----------
    limit : cycles per mask diameter
    step : degrees between rotations
    iterations : how many
    where : EVERYWHERE, ALL_ROTATIONS or NEARBY
    """

    limit: float
    step: float
    iterations: int
    where: str


@dataclass(frozen=True)
class Plan:
    """How hard to search: each half from single particles, then all particles with the classes that stay."""

    explore: tuple[Stage, ...]
    weigh: Stage
    settle: tuple[Stage, ...]


PLANS = {
    "fast": Plan(
        (Stage(4, 30, 4, EVERYWHERE), Stage(5.5, 24, 2, ALL_ROTATIONS)),
        Stage(5.5, 24, 1, ALL_ROTATIONS),
        (Stage(7, 18, 2, ALL_ROTATIONS), Stage(9, 9, 1, NEARBY)),
    ),
    "balanced": Plan(
        (Stage(4, 30, 5, EVERYWHERE), Stage(5.5, 24, 3, ALL_ROTATIONS), Stage(7, 18, 1, ALL_ROTATIONS)),
        Stage(7, 18, 1, ALL_ROTATIONS),
        (Stage(7, 18, 1, ALL_ROTATIONS), Stage(8, 15, 1, ALL_ROTATIONS), Stage(10, 8, 2, NEARBY)),
    ),
    "thorough": Plan(
        (Stage(4, 30, 6, EVERYWHERE), Stage(5.5, 24, 4, ALL_ROTATIONS), Stage(7, 18, 3, ALL_ROTATIONS)),
        Stage(8, 15, 1, ALL_ROTATIONS),
        (Stage(8, 15, 3, ALL_ROTATIONS), Stage(10, 8, 2, NEARBY), Stage(12, 5, 3, NEARBY)),
    ),
}
#: The same from a pretrained network, shorter by what it knows: its poses are better than a first look at every pose
#: would find.
SHORTENED = {
    "fast": Plan(
        (Stage(5.5, 24, 1, ALL_ROTATIONS),),
        Stage(5.5, 24, 1, ALL_ROTATIONS),
        (Stage(7, 18, 1, ALL_ROTATIONS), Stage(9, 9, 1, NEARBY)),
    ),
    "balanced": Plan(
        (Stage(5.5, 24, 2, ALL_ROTATIONS),),
        Stage(5.5, 24, 1, ALL_ROTATIONS),
        (Stage(7, 18, 1, ALL_ROTATIONS), Stage(10, 8, 2, NEARBY)),
    ),
    "thorough": Plan(
        (Stage(5.5, 24, 2, ALL_ROTATIONS), Stage(7, 18, 1, ALL_ROTATIONS)),
        PLANS["thorough"].weigh,
        PLANS["thorough"].settle,
    ),
}
#: Of the passes over the particles that a new network needs, how many a pretrained one does.
ADAPTING = {"fast": 0.0, "balanced": 0.15, "thorough": 0.5}
#: Degrees between the rotations that are tried where the network's proposals are the better guess.
COARSEST = 30.0
#: Band, in cycles per mask diameter, on which final poses are refined, and how often averages and poses take turns.
REFINE_BAND = {"fast": 11.0, "balanced": 14.0, "thorough": 18.0}
ROUNDS = {"fast": 1, "balanced": 2, "thorough": 3}

#: Edge of the network's grid; finer detail is left to the search and to refinement.
NETWORK_BOX = 20
#: Batches to learn from, and the largest number of passes over the particles.
STEPS = {"fast": 60, "balanced": 160, "thorough": 600}
#: Particles per batch.
BATCH = 48
#: The same of the published objective. Its demonstration, 200 passes, is the thorough one for 250 particles.
STEPS_2022 = {"fast": 40, "balanced": 120, "thorough": 1000}
BATCH_2022 = 50


def beside_and_everywhere(preset: Preset) -> tuple[Stage, Stage]:
    """How volumes are looked for on the classes of a model: beside what its network proposes, and everywhere."""
    weigh = PLANS[preset].weigh
    step = COARSEST if preset == "fast" else weigh.step
    return replace(weigh, step=COARSEST, where=NEARBY), replace(weigh, step=step, where=EVERYWHERE)


def adapting_plan(settings: Settings) -> Plan:
    """How hard to search from a pretrained network: as from nothing with a symmetry, whose axes it does not know."""
    return (SHORTENED if settings.symmetry == "C1" else PLANS)[settings.preset]


def over_cluster(classes: int | None, particles: int) -> int:
    """How many classes each half starts with, so that no content is missed."""
    wanted = 10 if classes is None else classes + max(2, classes // 2)
    return max(1, min(wanted, particles // 4))


def epochs(settings: Settings, particles: int) -> int:
    """Passes over the particles that make up the steps of a preset."""
    published = settings.objective == "harmony-2022"
    steps, batch = (STEPS_2022, BATCH_2022) if published else (STEPS, BATCH)
    own = math.ceil(steps[settings.preset] / max(1, round(particles / batch)))
    return max(1, own, added_epochs(settings, particles, batch))
