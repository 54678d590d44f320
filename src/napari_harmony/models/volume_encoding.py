"""What a network says about subtomograms: a content posterior, and one over rotations on a grid with residuals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_harmony.models.encoding import drawn
from napari_harmony.transforms import Pose3D

#: Hypotheses among which modes are looked for: those beyond have hardly any odds.
_LOOKED_AT = 160


@dataclass(frozen=True)
class VolumeEncoding:
    """The encoder's answer for n subtomograms, with gradients.

    Attributes
    ----------
    content_mean, content_log_variance : (n, d), a Gaussian over the content code
    pose : (n, h) hypotheses, canonical volume -> subtomogram, shifts in voxels of the network's grid
    logits : (n, h), unnormalised log odds of the hypotheses
    pooled : (n, f), the features that the content was read from; None where the network has no such thing
    features : (n, h, f), what each hypothesis was read from; None likewise
    """

    content_mean: Tensor
    content_log_variance: Tensor
    pose: Pose3D
    logits: Tensor
    pooled: Tensor | None = None
    features: Tensor | None = None

    def __getitem__(self, rows: slice) -> VolumeEncoding:
        """The encoding of some of the subtomograms."""
        pooled, features = (None if kept is None else kept[rows] for kept in (self.pooled, self.features))
        mean, log_variance = self.content_mean[rows], self.content_log_variance[rows]
        return VolumeEncoding(mean, log_variance, self.pose[rows], self.logits[rows], pooled, features)

    def sample(self, generator: torch.Generator | None = None, normal: Callable[..., Tensor] = torch.randn) -> Tensor:
        """A content code (n, d) drawn from the posterior, differentiable in its mean and variance.

        ``normal`` draws the noise, as ``torch.randn`` does.
        """
        return drawn(self.content_mean, self.content_log_variance, generator, normal)

    def surprise(self, target: Pose3D, angle_width: float, shift_width: float) -> Tensor:
        """Minus log density (n,) of poses (n,) under the hypotheses and their odds, without its constants.

        Each hypothesis is a density that falls with ``1 - cos`` of the angle between rotations, over the squared
        width (radian), times a normal one in shift (voxels).
        """
        there, here = target.each(lambda field: field[:, None]), self.pose
        # 1 - cos(angle) = 2 (1 - <a, b>^2) for unit quaternions
        cosine = (here.quaternion * there.quaternion).sum(-1)
        misfit = 2 * (1 - cosine.square()) / angle_width**2
        misfit = misfit + (here.shift - there.shift).square().sum(-1) / (2 * shift_width**2)
        return -torch.logsumexp(torch.log_softmax(self.logits, dim=1) - misfit, dim=1)


@dataclass(frozen=True)
class VolumeProposals:
    """What a trained network proposes for n subtomograms, without gradients.

    Attributes
    ----------
    content_mean, content_log_variance : (n, d)
    pose : (n, k), the likeliest hypotheses for canonical volume -> subtomogram, most likely first; shifts in voxels
        of the network's grid
    log_odds : (n, k), natural logarithm of their probabilities
    """

    content_mean: Tensor
    content_log_variance: Tensor
    pose: Pose3D
    log_odds: Tensor

    def __len__(self) -> int:
        return len(self.content_mean)

    def subset(self, rows: Tensor) -> VolumeProposals:
        """Those of some of the subtomograms."""
        mean, log_variance = self.content_mean[rows], self.content_log_variance[rows]
        return VolumeProposals(mean, log_variance, self.pose[rows], self.log_odds[rows])

    @property
    def best(self) -> Pose3D:
        """The most likely hypothesis of every subtomogram, (n,)."""
        return self.pose[:, 0]


def volume_proposals(encoding: VolumeEncoding, kept: int = 16) -> VolumeProposals:
    """The likeliest hypotheses of an encoding, cut from the graph."""
    log_odds = torch.log_softmax(encoding.logits.detach(), dim=1)
    value, which = log_odds.topk(min(kept, log_odds.shape[1]), dim=1)
    rows = torch.arange(len(which), device=which.device)[:, None]
    return VolumeProposals(
        encoding.content_mean.detach(),
        encoding.content_log_variance.detach(),
        encoding.pose.detach()[rows, which],
        value,
    )


def volume_modes(encoding: VolumeEncoding, width: float, kept: int = 4) -> VolumeProposals:
    """The poses around which most of an encoding's odds lie, cut from the graph.

    Where odds are spread over many hypotheses the likeliest one alone says little. Each hypothesis has the odds of all
    within about ``width`` (radian); the best is moved to their mean, what is near it is left out, and so on. Shifts
    are means too.
    """
    every = torch.softmax(encoding.logits.detach(), dim=1)
    odds, which = every.topk(min(_LOOKED_AT, every.shape[1]), dim=1)
    rotation, shift = (
        field.detach().gather(1, which[..., None].expand(-1, -1, field.shape[-1]))
        for field in (encoding.pose.quaternion, encoding.pose.shift)
    )
    # 1 - cos(angle) = 2 (1 - <a, b>^2) for unit quaternions
    near = torch.exp(-2 * (1 - (rotation @ rotation.transpose(1, 2)).square()) / width**2)
    density, rows = (near @ odds[..., None])[..., 0], torch.arange(len(odds), device=odds.device)
    left, found = torch.ones_like(density), []
    for _ in range(min(kept, density.shape[1])):
        best = (density * left).argmax(1)
        weight = near[rows, best] * odds
        spread = torch.einsum("nh,nha,nhb->nab", weight, rotation, rotation)
        moved = (weight[..., None] * shift).sum(1) / weight.sum(1, keepdim=True)
        found.append((torch.linalg.eigh(spread).eigenvectors[..., -1], moved, density[rows, best]))
        left = left * (1 - near[rows, best]).clamp_min(0)
    quaternion, shifts, mass = (torch.stack(parts, dim=1) for parts in zip(*found, strict=True))
    return VolumeProposals(
        encoding.content_mean.detach(),
        encoding.content_log_variance.detach(),
        Pose3D.of(quaternion, shifts),
        mass.clamp(1e-12, 1.0).log(),
    )


def join_volume_proposals(parts: list[VolumeProposals]) -> VolumeProposals:
    """Proposals of consecutive batches as one."""
    fields = ("quaternion", "shift", "log_scale", "gain", "offset")
    pose = Pose3D(**{name: torch.cat([getattr(part.pose, name) for part in parts]) for name in fields})
    return VolumeProposals(
        torch.cat([part.content_mean for part in parts]),
        torch.cat([part.content_log_variance for part in parts]),
        pose,
        torch.cat([part.log_odds for part in parts]),
    )
