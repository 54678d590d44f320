"""The terms that tie an image to its transformed copy: same content, poses that differ by the known transformation."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from napari_harmony.objectives.context import Context
from napari_harmony.objectives.term import Term, Weight
from napari_harmony.objectives.views import Views
from napari_harmony.transforms import Contrast


@dataclass(frozen=True)
class ContentAgreement(Term[Views]):
    """Symmetric Kullback-Leibler divergence between the content posteriors of an image and of its copy, in nats.

    Together with the swap of contents in the reconstruction it keeps the pose out of the content.
    """

    weight: Weight = Weight(0.1, full=0.3)
    name: str = "content agreement"
    one_by_one: ClassVar[bool] = True

    def __call__(self, context: Views) -> tuple[Tensor, dict[str, Tensor]]:
        a, b = context.original.encoding, context.copy.encoding
        squares = (a.content_mean - b.content_mean).square()
        precisions = (-a.content_log_variance).exp() + (-b.content_log_variance).exp()
        ratio = a.content_log_variance - b.content_log_variance
        divergence = 0.5 * (squares * precisions + ratio.exp() + (-ratio).exp() - 2).sum(1)
        return 0.5 * divergence.mean(), {}


@dataclass(frozen=True)
class ContentPrior(Term[Views]):
    """Kullback-Leibler divergence from the content posteriors to a standard normal, in nats, both branches averaged.

    It gives the code a fixed scale, without which the agreement could be had by shrinking everything.
    """

    weight: Weight = Weight(0.1, full=0.3)
    name: str = "content prior"
    one_by_one: ClassVar[bool] = True

    def __call__(self, context: Views) -> tuple[Tensor, dict[str, Tensor]]:
        total = torch.zeros((), device=context.batch.images.device)
        for branch in context.branches:
            mean, log_variance = branch.encoding.content_mean, branch.encoding.content_log_variance
            total = total + 0.25 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        return total, {}


@dataclass(frozen=True)
class PoseTarget(Term[Views]):
    """Minus log likelihood of a target pose under the mixture that the hypotheses and their odds are, both branches.

    The target is the seed, or without seeds the best of all hypotheses of *both* branches (it explains the same
    image). In the copy's branch it is moved by the known transformation: poses become equivariant, and so do the
    odds. Each hypothesis is a density in rotation times one in shift (see the encodings); their widths shrink over
    the training, so that early on every hypothesis learns, and later the nearest.

    Attributes
    ----------
    first_angle, last_angle : width in degree at the beginning and at ``settled``
    first_shift, last_shift : width as a fraction of the box
    """

    weight: Weight = Weight(1.0)
    first_angle: float = 40.0
    last_angle: float = 6.0
    first_shift: float = 0.06
    last_shift: float = 0.02
    settled: float = 0.6
    name: str = "pose"
    one_by_one: ClassVar[bool] = True

    def __call__(self, context: Views) -> tuple[Tensor, dict[str, Tensor]]:
        target, trust = self._target(context)
        total = torch.zeros_like(trust)
        for branch in context.branches:
            there = branch.applied.compose(target)
            total = total + 0.5 * branch.encoding.surprise(there, *self.widths(context))
        return (trust * total).mean(), {}

    def widths(self, context: Views) -> tuple[float, float]:
        """Widths of the hypotheses at this point of the training: radian, pixel."""
        along = min(context.progress / self.settled, 1.0)
        angle = self.first_angle ** (1 - along) * self.last_angle**along
        shift = self.first_shift ** (1 - along) * self.last_shift**along
        return math.radians(angle), shift * context.network.shape.box

    @staticmethod
    @torch.no_grad()
    def _target(context: Views) -> tuple[Any, Tensor]:
        """Poses (n,) on the original images, and trust (n,)."""
        seeds = context.batch.seeds
        if seeds is not None:
            return seeds.pose, seeds.weight
        errors = torch.cat([fit.error for fit in context.fits], dim=1)
        best = errors.argmin(dim=1)
        rows = torch.arange(len(best), device=best.device)
        kept = errors.shape[1] // 2
        poses = [fit.pose.detach()[rows, best % kept] for fit in context.fits]
        return _either(best < kept, *poses), errors.new_ones(len(best))


def _either(first: Tensor, one: Any, other: Any) -> Any:
    """Poses (n,) from ``one`` where ``first`` (n,), else from ``other``."""
    pairs = {f.name: (getattr(one, f.name), getattr(other, f.name)) for f in fields(one)}
    return type(one)(
        **{name: torch.where(first.view(-1, *(1,) * (a.ndim - 1)), a, b) for name, (a, b) in pairs.items()}
    )


@dataclass(frozen=True)
class ContrastTarget(Term[Context]):
    """Squared distance of the predicted gain and offset, as features, from those solved for in the fit."""

    weight: Weight = Weight(1.0)
    name: str = "contrast"
    one_by_one: ClassVar[bool] = True

    def __call__(self, context: Context) -> tuple[Tensor, dict[str, Tensor]]:
        contrast = Contrast()
        total = torch.zeros((), device=context.batch.images.device)
        for branch, fit in zip(context.branches, context.fits, strict=True):
            best = fit.error.argmin(dim=1, keepdim=True)
            solved = torch.stack([fit.gain.gather(1, best).clamp_min(0.05), fit.offset.gather(1, best)], dim=-1)
            applied = torch.stack([branch.applied.gain, branch.applied.offset], dim=-1)[:, None]
            target = contrast.features(contrast.compose(applied, solved)).detach()
            predicted = contrast.features(branch.encoding.values["contrast"])
            total = total + 0.5 * (predicted - target).square().sum(-1).mean()
        return total, {}
