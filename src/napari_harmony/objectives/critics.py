"""Critics, which learn from pairs how much two codes tell of each other."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional


class Critic(nn.Module):
    """The logarithm of a density ratio, as the dot product of what two small networks make of two codes.

    Trained by ``critic_loss`` it tends to log p(a, b) / (p(a) p(b)), whose mean over pairs that belong together is
    the mutual information of a and b in nats.

    Parameters
    ----------
    first, second : dimensions of the two codes
    width : of the layers
    """

    def __init__(self, first: int, second: int, width: int = 64) -> None:
        super().__init__()
        self.first, self.second = _tower(first, width), _tower(second, width)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Log ratios (n,) of pairs a (n, first), b (n, second)."""
        product: Tensor = (self.first(a) * self.second(b)).sum(-1)
        return product

    def table(self, a: Tensor, b: Tensor) -> Tensor:
        """Log ratios (n, m) of every a (n, first) with every b (m, second)."""
        product: Tensor = self.first(a) @ self.second(b).T
        return product

    def as_constant(self, a: Tensor, b: Tensor) -> Tensor:
        """As ``forward``; gradients reach the codes, not the critic."""
        weights = {name: value.detach() for name, value in self.named_parameters()}
        ratios: Tensor = functional_call(self, weights, (a, b))
        return ratios


def _tower(size: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))


def critic_loss(joint: Tensor, product: Tensor) -> Tensor:
    """Cross-entropy of telling pairs that belong together from others, from their log ratios; at best log 2 - JSD."""
    return 0.5 * (functional.softplus(-joint).mean() + functional.softplus(product).mean())


def dependence_share(joint: Tensor, product: Tensor) -> float:
    """Jensen-Shannon divergence of joint and product distribution as a share of its largest value, in [0, 1].

    From log ratios of pairs that the critic did not learn from, it is a lower bound, up to the noise of the sample.
    """
    return min(1.0, max(0.0, 1 - float(critic_loss(joint, product)) / math.log(2)))


def shuffled(values: Tensor, generator: torch.Generator) -> Tensor:
    """Rows (n, ...) moved on by a random number that is not zero, so that none keeps its place; n is at least 2."""
    step = torch.randint(1, len(values), (1,), generator=generator, device=generator.device)
    return values.roll(int(step), 0)
