"""What a network of subtomograms is pretrained for: one frame for every content, and codes that tell contents apart."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_harmony.models.volume_encoding import VolumeEncoding
from napari_harmony.transforms import so3
from pretraining.lesson import Taught, prototype_loss
from pretraining.volumes import VolumeBatch

#: Likeliest hypotheses of each view that are proposed as the frame of its content.
PROPOSED = 3
#: Width of a hypothesis, radian and voxels, at the beginning and from ``SETTLED`` of the training on.
ANGLES, SHIFTS, SETTLED = (0.8, 0.16), (3.0, 0.8), 0.5
#: Weight of the contents against the poses.
CONTENT = 1.0


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


def teach(encoding: VolumeEncoding, batch: VolumeBatch, progress: float) -> Taught:
    """The loss of a batch; poses are asked for ever more closely while ``progress`` goes from 0 to 1."""
    poses = frame_surprise(encoding, batch, progress)
    content = torch.arange(batch.contents, device=poses.device).repeat_interleave(batch.views)
    contents, recognised = prototype_loss(encoding.content_mean, content)
    return Taught(poses + CONTENT * contents, contents.detach(), poses.detach(), recognised)
