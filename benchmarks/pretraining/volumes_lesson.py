"""What a network of subtomograms is pretrained for: one frame for every content, and codes that tell contents apart."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from napari_harmony.models.guided_volumes import MARK_DEGREE
from napari_harmony.models.volume_encoding import VolumeEncoding
from napari_harmony.transforms import so3
from napari_harmony.transforms.rotation_functions import functions_of, likeness, turned
from pretraining.lesson import Taught, prototype_loss
from pretraining.volumes import VolumeBatch

#: Likeliest hypotheses of each view that are proposed as the frame of its content.
PROPOSED = 3
#: Width of a hypothesis, radian and voxels, at the beginning and from ``SETTLED`` of the training on.
ANGLES, SHIFTS, SETTLED = (0.8, 0.16), (3.0, 0.8), 0.5
#: Weights of the contents and of the agreement of marks against the poses.
CONTENT, AGREEMENT = 1.0, 1.0
#: Degrees between the wrong rotations that marks must tell from the right one, and how far off the nearest is.
WRONG, OFF = 20.0, 10.0


def frame_surprise(encoding: VolumeEncoding, batch: VolumeBatch, progress: float) -> Tensor:
    """Minus log likelihood of the known poses, the frame of each content being free: mean over subtomograms.

    The frame is a rotation G of the content, the same for all its views: a view with the known rotation Q is expected
    at Q G. Of the frames that views propose, those count that all views together find likely; they are held fixed
    while the network learns (expectation-maximisation).
    """
    settled = min(1.0, progress / SETTLED)
    angle, shift = (first * (last / first) ** settled for first, last in (ANGLES, SHIFTS))
    rotation, known, contents, views = encoding.pose.quaternion, batch.pose, batch.contents, batch.views
    n, h = encoding.logits.shape
    with torch.no_grad():
        likely = encoding.logits.topk(PROPOSED, dim=1).indices
        proposed = rotation.gather(1, likely[..., None].expand(-1, -1, 4))
        frames = so3.multiply(so3.inverse(known.quaternion)[:, None], proposed).view(contents, -1, 4)
        expected = so3.multiply(known.quaternion.view(contents, views, 1, 4), frames[:, None]).view(n, -1, 4)
    beside = (encoding.pose.shift - known.shift[:, None]).square().sum(-1) / (2 * shift**2)
    odds = torch.log_softmax(encoding.logits, dim=1) - beside
    cosine = expected @ rotation.transpose(1, 2)
    fits = torch.logsumexp(odds[:, None] - 2 * (1 - cosine.square()) / angle**2, dim=2)
    fits = fits.view(contents, views, -1)
    shared = torch.softmax(fits.detach().sum(1), dim=1)
    return -(shared[:, None] * fits).sum(2).mean()


@cache
def wrong_functions(degree: int) -> Tensor:
    """The functions (r, k) of rotations that are not right."""
    grid = so3.rotation_grid(WRONG)
    return functions_of(degree, grid[so3.angle_between(grid, so3.identity()) > math.radians(OFF)])


def disagreement(marks: Tensor, batch: VolumeBatch) -> Tensor:
    """Cross entropy of the right rotation of each view, among many wrong ones, by its marks and those of the others.

    A view whose marks (k coefficients in each of c channels: (n, c, k)) turn as it does is most like the other views
    of its content, all brought back by their known poses, where it is brought back by its own.
    """
    right = turned(marks, functions_of(MARK_DEGREE, batch.pose.quaternion), backwards=True)
    views = right.view(batch.contents, batch.views, *right.shape[1:])
    others = (views.sum(1, keepdim=True) - views).flatten(0, 1) / (batch.views - 1)
    wrong = likeness(right, others) @ wrong_functions(MARK_DEGREE).to(right).T
    same = (right * others).sum((1, 2))
    return (torch.logsumexp(torch.cat([same[:, None], wrong], dim=1), dim=1) - same).mean()


def teach(encoding: VolumeEncoding, marks: Tensor, batch: VolumeBatch, progress: float) -> Taught:
    """The loss of a batch; poses are asked for ever more closely while ``progress`` goes from 0 to 1."""
    poses = frame_surprise(encoding, batch, progress)
    content = torch.arange(batch.contents, device=poses.device).repeat_interleave(batch.views)
    contents, recognised = prototype_loss(encoding.content_mean, content)
    loss = poses + CONTENT * contents + AGREEMENT * disagreement(marks, batch)
    return Taught(loss, contents.detach(), poses.detach(), recognised)
