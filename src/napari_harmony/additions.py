"""The objectives that may be added to Harmony's own, by name and strength. Loads nothing heavy."""

from __future__ import annotations

import math
from dataclasses import dataclass

from napari_harmony.errors import InputError

#: Name, and what it does for the user, in a sentence.
ADDITIONS = {
    "loocc": "Leave-one-out cycle: redrawn with one factor changed, a particle must keep its content and all others.",
    "independence": "Adaptive independence: content is kept from telling the pose, by as much pressure as it takes.",
    "diffusion": "Closed loop: a diffusion decoder draws sharp canonical pictures and says how much content may hold.",
}


@dataclass(frozen=True)
class Addition:
    """An objective that is added to Harmony's own.

    Attributes
    ----------
    name : one of ``ADDITIONS``
    strength : factor of its weight, above 0; 1 is the default of its own
    """

    name: str
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in ADDITIONS:
            raise InputError(f"with: '{self.name}' is unknown; choose from {', '.join(ADDITIONS)}.")
        if not (math.isfinite(self.strength) and self.strength > 0):
            raise InputError(f"with: the strength of '{self.name}' is {self.strength:g}; give a number above 0.")

    def __str__(self) -> str:
        """``name`` or ``name=strength``, as ``addition_of`` reads it."""
        return self.name if self.strength == 1.0 else f"{self.name}={self.strength:g}"


def addition_of(word: str) -> Addition:
    """The addition that ``name`` or ``name=strength`` stands for; InputError where it is none."""
    name, _, strength = (part.strip() for part in word.partition("="))
    try:
        return Addition(name.lower(), float(strength) if strength else 1.0)
    except ValueError:
        raise InputError(f"with: the strength of '{name}' is '{strength}'; give a number above 0.") from None


def additions_of(words: str) -> tuple[Addition, ...]:
    """The additions of a list with commas, each once; InputError where one is unknown or named twice."""
    found = tuple(addition_of(word) for word in words.split(",") if word.strip())
    names = [addition.name for addition in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"with: '{name}' is named twice; name it once.")
    return found
