"""How hard a search looks: bands, steps and iterations of its stages."""

from __future__ import annotations

from dataclasses import dataclass

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
