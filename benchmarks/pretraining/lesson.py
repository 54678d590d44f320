"""What a network for any particles is taught: to tell contents apart, and to give a content the same pose every time.

A content that was never seen has no picture to be posed against. Its frame is the network's own choice: the turn at
which the hypotheses of all its images, brought back by their known poses, agree best. Each image then learns that turn.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from napari_harmony.models.encoding import Encoding
from napari_harmony.transforms import Pose2D
from pretraining.images import ImageBatch

#: Turns that are tried for the frame of a content, and the width in radian that hypotheses are blurred to for it.
TURNS, BLUR = 180, 0.2
#: Least density of a turn, so that one hypothesis far off rules out no turn.
FLOOR = 1e-3


@dataclass(frozen=True)
class Taught:
    """The loss and its parts."""

    loss: Tensor
    contents: Tensor
    poses: Tensor
    recognised: Tensor


def teach(encoding: Encoding, batch: ImageBatch, progress: float, pose_weight: float = 0.5) -> Taught:
    """The loss of a batch; poses are asked for ever more closely while ``progress`` goes from 0 to 1."""
    contents, recognised = prototype_loss(encoding.content_mean, batch.content)
    width = 0.35 * (1 - min(1.0, progress / 0.5)) + 0.12
    frame = frames(encoding, batch)
    target = Pose2D.of(batch.pose.angle + frame[batch.content], batch.pose.shift)
    poses = encoding.surprise(target, angle_width=width, shift_width=0.7).mean()
    return Taught(contents + pose_weight * poses, contents.detach(), poses.detach(), recognised)


def prototype_loss(codes: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy of each code (n, d) among the means of all contents, and the share that is right.

    A code is measured against the mean of the *other* images of its content, so that codes of one content become
    Gaussian clouds of unit variance about their mean, as mixtures fitted to codes expect (after Snell, Swersky and
    Zemel, "Prototypical networks for few-shot learning", 2017).
    """
    member = functional.one_hot(content, int(content.max()) + 1).to(codes.dtype)
    count, total = member.sum(0), member.T @ codes
    distance = torch.cdist(codes, total / count[:, None]).square()
    own = (total[content] - codes) / (count[content] - 1)[:, None]
    logits = torch.where(member.bool(), -0.5 * (codes - own).square().sum(1, keepdim=True), -0.5 * distance)
    right = (logits.argmax(1) == content).float().mean()
    return functional.cross_entropy(logits, content), right


@torch.no_grad()
def frames(encoding: Encoding, batch: ImageBatch) -> Tensor:
    """The turn (contents,), radian, by which each content's own frame differs from the true one."""
    turns = torch.arange(TURNS, device=encoding.logits.device) * (2 * torch.pi / TURNS)
    odds = torch.softmax(encoding.logits, 1)
    off = encoding.pose.angle - batch.pose.angle[:, None]
    near = torch.exp((torch.cos(off[..., None] - turns) - 1) / BLUR**2)
    density = (odds[..., None] * near).sum(1)
    contents = int(batch.content.max()) + 1
    log = torch.zeros(contents, TURNS, device=turns.device)
    log.index_add_(0, batch.content, torch.log(density + FLOOR))
    return turns[log.argmax(1)]
