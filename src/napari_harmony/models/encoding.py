"""What a network says about images: content posterior and pose hypotheses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from napari_harmony.transforms import Pose2D, pose_of


@dataclass(frozen=True)
class Encoding:
    """The encoder's answer for n images, with gradients.

    Attributes
    ----------
    content_mean, content_log_variance : (n, d), a Gaussian over the content code
    values : per transformation name (n, h, parameters), the parameters of h pose hypotheses
    logits : (n, h), unnormalised log odds of the hypotheses
    pooled : (n, f), the features that the content was read from; None where the network has no such thing
    """

    content_mean: Tensor
    content_log_variance: Tensor
    values: dict[str, Tensor]
    logits: Tensor
    pooled: Tensor | None = None

    def __getitem__(self, rows: slice) -> Encoding:
        """The encoding of some of the images."""
        values = {name: value[rows] for name, value in self.values.items()}
        pooled = None if self.pooled is None else self.pooled[rows]
        return Encoding(self.content_mean[rows], self.content_log_variance[rows], values, self.logits[rows], pooled)

    @cached_property
    def pose(self) -> Pose2D:
        """The hypotheses as poses, (n, h)."""
        return pose_of(self.values)

    def sample(self, generator: torch.Generator | None = None, normal: Callable[..., Tensor] = torch.randn) -> Tensor:
        """A content code (n, d) drawn from the posterior, differentiable in its mean and variance.

        ``normal`` draws the noise, as ``torch.randn`` does.
        """
        return drawn(self.content_mean, self.content_log_variance, generator, normal)

    def surprise(self, target: Pose2D, angle_width: float, shift_width: float) -> Tensor:
        """Minus log density (n,) of poses (n,) under the hypotheses and their odds, without its constants.

        Each hypothesis is a von Mises distribution in angle, of a width in radian, times a normal one in shift, pixel.
        """
        there, here = target[:, None], self.pose
        misfit = (1 - torch.cos(here.angle - there.angle)) / angle_width**2
        misfit = misfit + (here.shift - there.shift).square().sum(-1) / (2 * shift_width**2)
        return -torch.logsumexp(torch.log_softmax(self.logits, dim=1) - misfit, dim=1)


def drawn(
    mean: Tensor,
    log_variance: Tensor,
    generator: torch.Generator | None,
    normal: Callable[..., Tensor] = torch.randn,
) -> Tensor:
    """A sample (n, d) of Gaussians, differentiable in their means and variances."""
    noise = normal(mean.shape, generator=generator, device=mean.device, dtype=torch.float32)
    return mean + noise * (0.5 * log_variance).exp()


@dataclass(frozen=True)
class Proposals:
    """What a trained network proposes for n particles, without gradients.

    Attributes
    ----------
    content_mean, content_log_variance : (n, d)
    pose : (n, h), hypotheses for canonical picture -> image, shifts in pixel of the network's grid, most likely first
    log_odds : (n, h), natural logarithm of the probabilities of the hypotheses, which sum to 1
    """

    content_mean: Tensor
    content_log_variance: Tensor
    pose: Pose2D
    log_odds: Tensor

    def __len__(self) -> int:
        return len(self.content_mean)

    @property
    def angle(self) -> Tensor:
        """(n, h) radian."""
        return self.pose.angle

    @property
    def shift(self) -> Tensor:
        """(n, h, 2) pixel of the network's grid, (x, y)."""
        return self.pose.shift

    @property
    def best(self) -> Pose2D:
        """The most likely hypothesis of every particle, (n,)."""
        return self.pose[:, 0]


def proposals_from(encoding: Encoding) -> Proposals:
    """The hypotheses of an encoding, sorted by their odds and cut from the graph."""
    log_odds, order = torch.log_softmax(encoding.logits.detach(), dim=1).sort(dim=1, descending=True, stable=True)
    rows = torch.arange(len(order), device=order.device)[:, None]
    return Proposals(
        content_mean=encoding.content_mean.detach(),
        content_log_variance=encoding.content_log_variance.detach(),
        pose=encoding.pose.detach()[rows, order],
        log_odds=log_odds,
    )


def join_proposals(parts: list[Proposals]) -> Proposals:
    """Proposals of consecutive batches as one."""
    poses = [part.pose for part in parts]
    return Proposals(
        content_mean=torch.cat([part.content_mean for part in parts]),
        content_log_variance=torch.cat([part.content_log_variance for part in parts]),
        pose=Pose2D(
            *(
                torch.cat([getattr(pose, field) for pose in poses])
                for field in ("angle", "shift", "log_scale", "gain", "offset")
            )
        ),
        log_odds=torch.cat([part.log_odds for part in parts]),
    )
