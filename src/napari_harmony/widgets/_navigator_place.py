"""Where the navigator is: a particle, or the centre of all, and how far it was moved along each direction. No Qt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_harmony.errors import HarmonyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.analysis.navigation import Navigation
    from napari_harmony.results import Result


@dataclass(frozen=True, eq=False)
class Place:
    """A place in the space of content codes.

    Attributes
    ----------
    navigation : the directions
    base : content code (d,) that was started from
    coordinates : (K,) standard deviations along the directions
    particle : that was started from, or None for the centre of all
    """

    navigation: Navigation
    base: NDArray[np.floating]
    coordinates: NDArray[np.floating]
    particle: int | None = None

    @classmethod
    def at_centre(cls, navigation: Navigation) -> Place:
        """The centre of all particles: every slider at 0."""
        return cls(navigation, navigation.centre, np.zeros(len(navigation.basis)))

    @classmethod
    def at_particle(cls, navigation: Navigation, result: Result | None, particle: int) -> Place:
        """Where a particle is; HarmonyError where it has no content code."""
        code = code_of(result, particle)
        return cls(navigation, code, navigation.coordinates(code[None])[0], particle)

    @property
    def code(self) -> NDArray[np.floating]:
        """The content code (d,) of the place."""
        return self.navigation.code(self.base, self.coordinates)

    @property
    def words(self) -> str:
        """What was started from."""
        return "the centre of all" if self.particle is None else f"particle {self.particle}"

    @property
    def caption(self) -> str:
        """The same in little space, for the picture."""
        return "from the centre" if self.particle is None else f"from {self.particle}"

    def of(self, navigation: Navigation) -> Place:
        """The same place along directions that differ in their names only."""
        return replace(self, navigation=navigation)

    def moved(self, direction: int, value: float) -> Place:
        """The place with one coordinate changed."""
        coordinates = self.coordinates.copy()
        coordinates[direction] = value
        return replace(self, coordinates=coordinates)

    def along(self, direction: int, count: int, limit: float) -> NDArray[np.floating]:
        """Content codes (count, d) from ``-limit`` to ``limit`` along a direction, the others as they stand."""
        return np.stack([self.moved(direction, value).code for value in np.linspace(-limit, limit, count)])


def code_of(result: Result | None, particle: int) -> NDArray[np.float32]:
    """The content code (d,) of a particle.

    Raises
    ------
    HarmonyError : there is no such particle, or its image could not be used
    """
    if result is None or not 0 <= particle < len(result):
        raise HarmonyError(f"Particle {particle} is not in the result: choose one of its particles.")
    code = result.content[particle]
    if not np.isfinite(code).all():
        raise HarmonyError(
            f"Particle {particle} has no content code, because its image could not be used: take another."
        )
    return code
