"""The terms of the objectives that a user may add to Harmony's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_harmony.additions import Addition
from napari_harmony.models import ModelCard
from napari_harmony.objectives.diffusion import DiffusionFeedback
from napari_harmony.objectives.independence import IndependencePenalty
from napari_harmony.objectives.loocc import LeaveOneOutCycle
from napari_harmony.objectives.term import Term, Weight

#: Each makes its term from a strength, a factor of its default weight, and the card of the model.
MAKERS: dict[str, Callable[[float, ModelCard], Term[Any]]] = {
    "diffusion": lambda strength, card: DiffusionFeedback(card, Weight(strength)),
    "independence": lambda strength, card: IndependencePenalty(card, strength),
    "loocc": lambda strength, card: LeaveOneOutCycle(card, strength),
}


def added_term(addition: Addition, card: ModelCard) -> Term[Any]:
    """A fresh term; what it has of random weights comes from torch's generator."""
    return MAKERS[addition.name](addition.strength, card)
