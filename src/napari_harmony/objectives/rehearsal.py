"""Learning from images that the network drew itself: fresh noise every time, and the truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_harmony.objectives.context import Context, mixed_precision
from napari_harmony.objectives.cross_contrastive import PoseTarget, pose_surprise
from napari_harmony.objectives.data import Branch
from napari_harmony.objectives.forward import GAIN_SPREAD
from napari_harmony.objectives.term import Term, Weight
from napari_harmony.transforms import Pose2D, apply_ctf, render


@dataclass(frozen=True)
class Rehearsal(Term):
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

    def __call__(self, context: Context) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            pose, content, images = self._simulate(context)
        with mixed_precision(images.device):
            encoding = context.network.encode(images)
        branch = Branch(images, Pose2D.identity(len(images), device=images.device), encoding, content)
        surprise = pose_surprise(branch, pose, *self.widths.widths(context)).mean()
        log_variance = encoding.content_log_variance
        misfit = (content - encoding.content_mean).square() * (-log_variance).exp()
        content_surprise = 0.5 * (misfit + log_variance).sum(1).mean()
        logged = {"pose": surprise.detach(), "content": content_surprise.detach()}
        return surprise + self.content * content_surprise, logged

    def _simulate(self, context: Context) -> tuple[Pose2D, Tensor, Tensor]:
        """New poses (n,), the contents (n, d) shown, and the images (n, b, b)."""
        batch, generator = context.batch, context.generator
        n, device = len(batch), batch.images.device
        names = {t.name for t in context.network.transformations}
        random = torch.randn(n, 3, generator=generator, device=device)
        turn = torch.rand(n, generator=generator, device=device) * 2 * torch.pi
        limit = context.network.shape.max_shift
        pose = Pose2D.of(
            turn * ("rotation" in names),
            (random[:, :2] * self.shift_spread * limit).clamp(-limit, limit) * ("translation" in names),
        )
        gain = (GAIN_SPREAD * random[:, 2]).exp() if "contrast" in names else torch.ones_like(turn)
        others = torch.randperm(n, generator=generator, device=device)
        drawn = render(context.pictures[0].detach(), pose, fast=True)
        clean = apply_ctf(drawn, None if batch.ctf is None else batch.ctf[others]) * gain[:, None, None]
        noise = torch.randn(clean.shape, generator=generator, device=device)
        return pose, context.original.content.detach(), clean + noise
