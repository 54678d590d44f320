"""How hard a search of images looks: bands and iterations of its stages."""

from __future__ import annotations

import math
from dataclasses import dataclass

from napari_harmony.engine.settings import Preset


@dataclass(frozen=True)
class Stage:
    """Some iterations on one band. ``limit`` is in cycles per mask diameter; ``local`` keeps to the shifts found."""

    limit: float
    iterations: int
    local: bool = False


@dataclass(frozen=True)
class Plan:
    """How hard to search.

    Attributes
    ----------
    explore : stages of the search of each half, from random particles to too many classes
    settle : bands at which classes are split, weighed against each other and reduced to those wanted
    refine : last stages on all particles
    """

    explore: tuple[Stage, ...]
    settle: tuple[float, ...]
    refine: tuple[Stage, ...]

    @property
    def bands(self) -> list[float]:
        """The limits of all stages, and the whole band for averages."""
        return [*(stage.limit for stage in (*self.explore, *self.refine)), *self.settle, math.inf]


PLANS = {
    "fast": Plan((Stage(7, 4), Stage(10, 2)), (11,), (Stage(11, 1), Stage(15, 1, True))),
    "balanced": Plan(
        (Stage(7, 5), Stage(9, 3), Stage(11, 2)), (11, 13), (Stage(11, 1), Stage(15, 1, True), Stage(19, 1, True))
    ),
    "thorough": Plan(
        (Stage(6, 6), Stage(7, 5), Stage(9, 4), Stage(11, 3)),
        (11, 13, 15),
        (Stage(11, 2), Stage(17, 2, True), Stage(21, 3, True)),
    ),
}
#: The same from a pretrained network, shorter by what it knows: shifts are looked for near those that it proposes.
SHORTENED = {
    "fast": Plan((Stage(9, 1, True), Stage(11, 1, True)), (11,), (Stage(15, 1, True),)),
    "balanced": Plan((Stage(9, 2, True), Stage(11, 1, True)), (13,), (Stage(15, 1, True), Stage(19, 1, True))),
    "thorough": Plan(
        (Stage(7, 2), Stage(9, 2, True), Stage(11, 2, True)),
        PLANS["thorough"].settle,
        PLANS["thorough"].refine,
    ),
}
#: Of the passes over the particles that a new network needs, how many a pretrained one does.
ADAPTING = {"fast": 0.0, "balanced": 0.15, "thorough": 0.4}

#: Band, in cycles per mask diameter, on which final poses are refined, and the widest on which a model's are placed.
REFINE_BAND = {"fast": 15.0, "balanced": 19.0, "thorough": 23.0}
MODEL_BAND = 15.0


def placing_bands(plan: Plan) -> tuple[tuple[float, bool], ...]:
    """Limit, and whether to look near what was found, of the looks at a particle that is placed on known classes.

    The first tells junk apart.
    """
    return (plan.refine[0].limit, plan.refine[0].local), (plan.settle[-1], True), (plan.refine[-1].limit, True)


def grouping_bands(preset: Preset) -> list[float]:
    """The limits of what is done where content codes are grouped anew."""
    return [*(stage.limit for stage in PLANS[preset].refine), REFINE_BAND[preset], math.inf]


def over_cluster(classes: int | None, particles: int) -> int:
    """How many classes each half starts with, so that no content is missed."""
    wanted = 36 if classes is None else classes + max(6, classes // 2)
    return max(2, min(wanted, particles // 8))
