"""Learning from images that the network drew itself: fresh noise every time, and the truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from napari_harmony.objectives.cross_contrastive import PoseTarget
from napari_harmony.objectives.term import Term, Weight
from napari_harmony.objectives.views import Views


@dataclass(frozen=True)
class Rehearsal(Term[Views]):
    """Minus log likelihood of pose and content of simulated particles, as in the sleep phase of wake-sleep learning.

    The pictures of the batch are drawn, cut from the graph, under new poses and the CTFs of other particles, with new
    noise; the encoder must find pose and content again. Real images are few, and their noise can be learnt by heart;
    these are as many as there are steps. It only makes sense once the pictures show something.

    Attributes
    ----------
    shift_spread : standard deviation of the drawn shifts per axis, as a fraction of the shift bound
    content : weight of the content against the pose
    widths : the pose widths, as in ``PoseTarget``
    """

    weight: Weight = Weight(1.0, start=0.3, full=0.5)
    shift_spread: float = 0.3
    content: float = 0.05
    widths: PoseTarget = PoseTarget()
    name: str = "rehearsal"
    one_by_one: ClassVar[bool] = True

    def __call__(self, context: Views) -> tuple[Tensor, dict[str, Tensor]]:
        pose, content, encoding = context.rehearse(self.shift_spread)
        surprise = encoding.surprise(pose, *self.widths.widths(context)).mean()
        log_variance = encoding.content_log_variance
        misfit = (content - encoding.content_mean).square() * (-log_variance).exp()
        content_surprise = 0.5 * (misfit + log_variance).sum(1).mean()
        logged = {"pose": surprise.detach(), "content": content_surprise.detach()}
        return surprise + self.content * content_surprise, logged
