"""Batch normalisation over a batch that several processes share: each normalises as if it had seen all of it.

The synchronised normalisation of torch runs on graphics cards alone; this one does with any device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from napari_harmony.engine.team import Team


class SharedNorm(nn.BatchNorm1d):
    """``BatchNorm1d`` of (n, channels) whose statistics are those of all processes; otherwise the same module.

    Parameters
    ----------
    norm : whose parameters and statistics it shares
    team : the processes
    """

    def __init__(self, norm: nn.BatchNorm1d, team: Team) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.team = team

    def forward(self, values: Tensor) -> Tensor:
        if not self.training:
            return super().forward(values)
        normalised, mean, variance = _Normalise.apply(values.float(), self.weight, self.bias, self.eps, self.team)
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum or 0.1)
            self.running_var.lerp_(variance, self.momentum or 0.1)
        out: Tensor = normalised.to(values.dtype)
        return out


class _Normalise(torch.autograd.Function):
    """Normalised values, and mean and unbiased variance per channel (no gradients pass through these two)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor, eps: float, team: Team) -> Any:
        # In two passes over the values: torch.var_mean along the first axis takes ten times as long.
        mean = values.mean(0)
        variance = (values - mean).square_().mean(0)
        here = values.new_full((1,), len(values), dtype=torch.float64)
        # In double precision, where squares of means may be taken off again.
        first = here * mean.double()
        told = team.sum(torch.cat([here, first, here * variance.double() + first * mean]))
        count, first, second = told[0], *told[1:].chunk(2)
        mean = first / count
        variance = (second / count - mean**2).clamp_min(0)
        scale = (variance + eps).rsqrt()
        unbiased = variance * count / (count - 1).clamp_min(1)
        mean, scale = mean.float(), scale.float()
        ctx.save_for_backward(values, weight, mean, scale)
        ctx.team, ctx.count = team, float(count)
        gain = weight * scale
        ctx.mark_non_differentiable(mean, unbiased)
        return torch.addcmul(bias - mean * gain, values, gain), mean, unbiased.float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *unused: Any) -> Any:
        values, weight, mean, scale = ctx.saved_tensors
        total = gradient.sum(0)
        along = ((gradient * values).sum(0) - mean * total) * scale
        everywhere, along_everywhere = ctx.team.sum(torch.cat([total, along])).chunk(2)
        # d loss / d values = gain (g - mean(g) - x mean(g x)), with x the values normalised
        gain, slope = weight * scale, scale * along_everywhere / ctx.count
        offset = everywhere / ctx.count - mean * slope
        return gain * (gradient - torch.addcmul(offset, values, slope)), along, total, None, None


@contextmanager
def shared_norms(network: nn.Module, team: Team) -> Iterator[None]:
    """While the block runs, every ``BatchNorm1d`` of a network normalises over the batches of all processes."""
    places = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.BatchNorm1d) and not isinstance(child, SharedNorm)
    ]
    if team.size > 1:
        for parent, name, child in places:
            setattr(parent, name, SharedNorm(child, team).train(child.training))
    try:
        yield
    finally:
        for parent, name, child in places:
            child.train(getattr(parent, name).training)
            setattr(parent, name, child)
