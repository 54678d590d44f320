"""The published cross-contrastive loss, kept as a baseline.

It compares the decoder with the *transformed input*. A blank picture is therefore its global minimum, and poses that
blur the noise are rewarded; ``reconstruction`` has neither trap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from napari_harmony.models.encoding import Encoding
from napari_harmony.models.volume_encoding import VolumeEncoding
from napari_harmony.objectives.context import Context
from napari_harmony.objectives.term import Term, Weight
from napari_harmony.transforms import Pose2D, rotate


@dataclass(frozen=True)
class Harmony2022(Term[Context]):
    """gamma (|D(z) - x_c|^2 + |D(z') - x'_c|^2 + |x_c - x'_c|^2) + KL(q(z|x) || q(z|x')) / d, mean over images.

    ``x_c`` is the input turned by the predicted pose: rotated, then shifted, then scaled, each in a resampling of its
    own with linear interpolation. The divergence goes one way, and there is none to a prior.

    Attributes
    ----------
    gamma : ceil(training images / (1000 * batch size)) in the published work, see ``published_gamma``
    """

    gamma: float = 1.0
    weight: Weight = Weight(1.0)
    name: str = "harmony-2022"

    def __call__(self, context: Context) -> tuple[Tensor, dict[str, Tensor]]:
        first, second = (canonical_view(b.images, b.encoding.pose[:, 0]) for b in context.branches)
        codes = context.original.encoding, context.copy.encoding
        return published_loss(self.gamma, context.pictures, (first, second), codes)


def published_loss(
    gamma: float,
    pictures: tuple[Tensor, Tensor],
    views: tuple[Tensor, Tensor],
    codes: tuple[Encoding | VolumeEncoding, Encoding | VolumeEncoding],
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of decoded ``pictures`` and canonical ``views`` (n, ...) of both branches, and what is logged of it."""
    pairs = [(pictures[0], views[0]), (pictures[1], views[1]), views]
    terms = [(one - other).square().flatten(1).sum(1).mean() for one, other in pairs]
    a, b = codes
    ratio = a.content_log_variance - b.content_log_variance
    squares = (a.content_mean - b.content_mean).square() / b.content_log_variance.exp()
    divergence = 0.5 * (ratio.exp() + squares - 1 - ratio).mean(1).mean()
    logged = {"views": terms[2].detach(), "content": divergence.detach()}
    return gamma * (terms[0] + terms[1] + terms[2]) + divergence, logged


def published_gamma(images: int, batch: int) -> float:
    """The published weight of the image terms for a training set of so many images."""
    return float(math.ceil(images / (1000 * batch)))


def published_copy(n: int, scale: bool, generator: torch.Generator) -> Pose2D:
    """The published random copies (n,): rotation within +-90 degrees, shifts within +-3 pixel, magnified 1 to 1.5."""
    uniform = torch.rand(n, 4, generator=generator, device=generator.device)
    angle = (uniform[:, 0] - 0.5) * torch.pi
    shift = (uniform[:, 1:3] - 0.5) * 6
    if not scale:
        return Pose2D.of(angle, shift)
    magnification = 1 + 0.5 * uniform[:, 3]
    return Pose2D.of(angle, magnification[:, None] * shift, magnification.log())


def canonical_view(images: Tensor, pose: Pose2D) -> Tensor:
    """Undo ``pose`` (n,) on images (n, b, b) as the published work does: rotate, shift, scale, one after the other."""
    undo = pose.inverse()
    shift = undo.shift / undo.log_scale.exp()[:, None]
    zero = torch.zeros_like(undo.angle)
    turned = _resample(images, Pose2D.of(undo.angle))
    moved = _resample(turned, Pose2D.of(zero, shift))
    return _resample(moved, Pose2D.of(zero, log_scale=undo.log_scale))


def _resample(images: Tensor, pose: Pose2D) -> Tensor:
    """One pass of linear interpolation, zeros outside."""
    box = images.shape[-1]
    axis = torch.arange(box, device=images.device, dtype=images.dtype) - box // 2
    points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    back = pose.inverse()
    at = back.log_scale.exp()[:, None, None, None] * rotate(points[None], back.angle[:, None, None])
    at = at + back.shift[:, None, None] + box // 2
    grid = (2 * at + 1) / box - 1
    return functional.grid_sample(images[:, None], grid, padding_mode="zeros", align_corners=False)[:, 0]
