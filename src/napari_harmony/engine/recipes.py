"""How to train which objective: its terms, copies, rates and schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from napari_harmony.additions import addition_of
from napari_harmony.engine.schedule import BATCH
from napari_harmony.models import ModelCard
from napari_harmony.objectives import (
    ContentAgreement,
    ContentPrior,
    ContrastTarget,
    Harmony2022,
    Harmony2022Volumes,
    Objective,
    PoseTarget,
    Reconstruction,
    Rehearsal,
    Term,
    Weight,
    added_term,
    published_copy,
    published_gamma,
    published_volume_copy,
    random_poses,
)
from napari_harmony.transforms import Pose2D, Pose3D, built_in, choose, pose_of


@dataclass(frozen=True)
class Recipe:
    """Everything that the training loop asks while it runs.

    Attributes
    ----------
    objective : what is minimised
    sample_copy : (n, generator) -> poses (n,) that make the transformed copies
    epochs : of a whole training
    learning_rate : peak
    rate_factor : progress in [0, 1] -> factor of the learning rate
    temperature : progress -> temperature of the competition between pose hypotheses
    kept : progress -> hypotheses per image that are drawn with gradients
    """

    objective: Objective
    sample_copy: Callable[[int, torch.Generator], Any]
    epochs: int
    learning_rate: float
    rate_factor: Callable[[float], float]
    temperature: Callable[[float], float]
    kept: Callable[[float], int]


def recipe_for(card: ModelCard, seeded: bool, particles: int, batch: int) -> Recipe:
    """The recipe of the card's objective."""
    if card.objective == "harmony-2022":
        return published_recipe(card, particles, batch)
    recipe = volume_recipe(card, seeded) if card.dimensions == 3 else harmony_recipe(card, seeded, batch)
    return with_additions(recipe, card)


def with_additions(recipe: Recipe, card: ModelCard) -> Recipe:
    """The recipe with the objectives that the card adds to Harmony's own, less those of its own that they replace."""
    added = tuple(added_term(addition_of(word), card) for word in card.additions)
    replaced = {name for term in added for name in term.replaces}
    own = tuple(term for term in recipe.objective.terms if term.name not in replaced)
    return replace(recipe, objective=Objective((*own, *added)))


def harmony_recipe(card: ModelCard, seeded: bool, batch: int) -> Recipe:
    """Forward-model reconstruction with swapped contents, equal content posteriors, equivariant poses.

    Without seeds the hypotheses compete: softly at first, and as the temperature falls only the best are drawn.
    Larger batches have less noise in their gradients, and learn in larger steps.
    """
    # seeds are trusted; without them the target is only the best of what the network itself proposes
    pose = PoseTarget(Weight(20.0 if seeded else 1.0))
    terms: list[Term[Any]] = [Reconstruction(), ContentAgreement(), ContentPrior(), pose]
    if seeded:
        terms.append(Rehearsal(Weight(10.0, start=0.25, full=0.5)))
    if "contrast" in card.transforms:
        terms.append(ContrastTarget())
    limit = card.shape.max_shift
    copies = choose(card.transforms, built_in(limit, shift_spread=0.25 * limit))

    def sample_copy(n: int, generator: torch.Generator) -> Pose2D:
        values = {t.name: t.sample(n, generator) for t in copies}
        return pose_of(values) if values else Pose2D.identity(n, device=generator.device)

    def kept(progress: float) -> int:
        return max(3, round(card.hypotheses * (1 - progress / 0.4)))

    return Recipe(
        objective=Objective(tuple(terms)),
        sample_copy=sample_copy,
        epochs=25 if seeded else 100,
        learning_rate=4e-3 * math.sqrt(max(1.0, batch / BATCH)),
        rate_factor=_cosine,
        temperature=lambda progress: 25.0 ** (1 - min(progress / 0.6, 1.0)),
        kept=kept,
    )


def volume_recipe(card: ModelCard, seeded: bool) -> Recipe:
    """As for images; copies are turned by rotations uniform on SO(3), and drawn subtomograms are there from the start.

    What a search found is drawn anew without end, so that the network need not wait for its own volumes.
    """
    pose = PoseTarget(Weight(20.0 if seeded else 1.0), last_angle=8.0)
    rehearsal = Rehearsal(Weight(20.0) if seeded else Weight(10.0, start=0.25, full=0.5), widths=pose)
    limit = card.shape.max_shift
    return Recipe(
        objective=Objective((Reconstruction(), ContentAgreement(), ContentPrior(), pose, rehearsal)),
        sample_copy=lambda n, generator: random_poses(n, card.transforms, 0.25 * limit, generator),
        epochs=60 if seeded else 200,
        learning_rate=3e-3,
        rate_factor=_cosine,
        temperature=lambda progress: 25.0 ** (1 - min(progress / 0.6, 1.0)),
        kept=lambda progress: 4,
    )


def published_recipe(card: ModelCard, particles: int, batch: int) -> Recipe:
    """The published objective with its own copies and its constant learning rate."""
    gamma, volumes = published_gamma(particles, batch), card.dimensions == 3
    term: Term[Any] = Harmony2022Volumes(gamma) if volumes else Harmony2022(gamma)

    def sample_copy(n: int, generator: torch.Generator) -> Pose2D | Pose3D:
        if volumes:
            return published_volume_copy(n, card.transforms, generator)
        return published_copy(n, "scale" in card.transforms, generator)

    return Recipe(
        objective=Objective((term,)),
        sample_copy=sample_copy,
        epochs=200 if volumes else 100,
        learning_rate=1e-4,
        rate_factor=lambda progress: 1.0,
        temperature=lambda progress: 1.0,
        kept=lambda progress: 1,
    )


def _cosine(progress: float) -> float:
    """A short rise, then half a cosine down to nearly nothing."""
    return min(1.0, 0.1 + 20 * progress) * 0.5 * (1 + math.cos(math.pi * progress)) + 1e-3
