"""The forward-model reconstruction term."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from napari_harmony.objectives.term import Term, Weight
from napari_harmony.objectives.views import Views


@dataclass(frozen=True)
class Reconstruction(Term[Views]):
    """Half the squared error of the images against the posed pictures, summed over pixels: minus log likelihood.

    Hypotheses share each image by their responsibilities (soft winner-takes-all), so that a hypothesis that explains
    an image badly is not dragged towards it. Seeded images have one hypothesis each, and count by their weight. Both
    branches are averaged.
    """

    weight: Weight = Weight(1.0)
    name: str = "reconstruction"
    one_by_one: ClassVar[bool] = True

    def __call__(self, context: Views) -> tuple[Tensor, dict[str, Tensor]]:
        errors = [(fit.responsibility * fit.error).sum(1) for fit in context.fits]
        per_image = 0.5 * (errors[0] + errors[1])
        if context.batch.seeds is None:
            return per_image.mean(), {}
        trust = context.batch.seeds.weight
        return (trust * per_image).mean(), {"gain": context.fits[0].gain.mean()}
