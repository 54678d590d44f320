"""Leave-one-out cycle contrast: an encoder whose answers move one by one, as the physical factors do.

Each batch one factor is left out: the particles are drawn anew through the forward model with that factor alone
changed, with new noise, and encoded again. Content and all *other* factors must agree, told apart from those of other
particles; the changed factor must be read back. After Klinghoffer, Tiwary, Balata, Sharma and Raskar, "Physically
Disentangled Representations" (2022). Ours are: noise in the new images, features of unit length, reading back, the
guard at the start, and that factors of recorded particles are left to what explains them: only the reading of drawn
ones, whose factors are known, is taught here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_harmony.models import ModelCard
from napari_harmony.objectives.data import Batch
from napari_harmony.objectives.perturbation import Reading, Redrawn, reading_sizes
from napari_harmony.objectives.term import Term, Weight
from napari_harmony.objectives.views import Views

#: Weight of the contrast against a reconstruction term of order 1: see ``reconstruction_scale``.
RELATIVE_WEIGHT = 0.1
#: Width of the features that are compared, per factor.
FEATURES = 32


class LeaveOneOutCycle(Term[Views]):
    """Contrast of content and factors of particles with those of the same particles with another factor changed.

    The value is given in units of the reconstruction (see ``reconstruction_scale``), so that the weight is a relative
    one. Nothing happens before the content is in use, which is when its divergence from the prior exceeds
    ``guard`` nats after the share ``earliest`` of the training (the prior is at full weight by then); the value then
    rises over the share ``ramp``. To be cheap it runs on half of the batch, every second step.

    Attributes
    ----------
    weight : relative to a reconstruction term of order 1
    temperature : of the contrast
    read_back : weight of the factor that is read back, against the contrast
    portion, every : share of the batch that is drawn anew, and how often, in steps
    divergence : nats, running mean of the content's divergence from its prior
    started : progress of the training at which the guard gave way, -1 before
    """

    name = "loocc"
    guard, earliest, ramp = 1.0, 0.3, 0.1
    temperature, read_back = 0.5, 1.0
    portion, every = 0.5, 2

    def __init__(self, card: ModelCard, strength: float = 1.0) -> None:
        self.weight = Weight(RELATIVE_WEIGHT * strength)
        self.heads = nn.ModuleDict({name: _head(size) for name, size in reading_sizes(card).items()})
        self.divergence, self.started, self.calls = 0.0, -1.0, 0

    def __call__(self, context: Views) -> tuple[Tensor, dict[str, Tensor]]:
        strength, due = self._strength(context), self.calls % self.every == 0
        self.calls += 1
        # heads that are left out still get a gradient, zero: the optimiser then keeps the same state for all
        idle = sum((parameter.sum() for parameter in self.parameters()), context.batch.images.real.new_zeros(())) * 0.0
        factors = context.factors
        if strength == 0.0 or not due or not factors:
            return idle, {}
        which = torch.randint(len(factors), (1,), generator=context.generator, device=context.generator.device)
        factor = factors[int(which)]
        redrawn = context.redraw(factor, slice(0, max(2, round(self.portion * len(context.batch)))))
        contrast = contrast_of(
            self._features(redrawn.drawn, factor), self._features(redrawn.said, factor), self.temperature
        )
        misread = misreading(redrawn, factor)
        value = strength * reconstruction_scale(context.batch) * (contrast + self.read_back * misread)
        logged = {"contrast": contrast.detach(), f"misread {factor}": misread.detach()}
        return idle + value, {**logged, "strength": value.new_tensor(strength)}

    def _strength(self, context: Views) -> float:
        """0 while the guard holds, then rising to 1."""
        encoding = context.original.encoding
        mean, log_variance = encoding.content_mean.detach(), encoding.content_log_variance.detach()
        now = float(0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean())
        self.divergence = now if self.calls == 0 else 0.9 * self.divergence + 0.1 * now
        if self.started < 0 and context.progress >= self.earliest and self.divergence > self.guard:
            self.started = context.progress
        return 0.0 if self.started < 0 else min(1.0, (context.progress - self.started) / self.ramp)

    def _features(self, reading: Reading, left_out: str) -> Tensor:
        """(n, f) features of all but one factor, each of unit length."""
        kept = [name for name in reading if name != left_out]
        return torch.cat([functional.normalize(self.heads[name](reading[name]), dim=1) for name in kept], dim=1)

    def to(self, device: torch.device) -> None:
        self.heads.to(device)

    def parameters(self) -> tuple[nn.Parameter, ...]:
        return tuple(self.heads.parameters())

    def state_dict(self) -> dict[str, Tensor]:
        numbers: dict[str, Any] = {"divergence": self.divergence, "started": self.started, "calls": self.calls}
        kept = {name: torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()}
        return {**kept, **{f"heads.{name}": value for name, value in self.heads.state_dict().items()}}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.divergence, self.started = float(state["divergence"]), float(state["started"])
        self.calls = int(state["calls"])
        heads = {name.removeprefix("heads."): value for name, value in state.items() if name.startswith("heads.")}
        self.heads.load_state_dict(heads)


def _head(size: int) -> nn.Module:
    return nn.Sequential(nn.Linear(size, FEATURES), nn.SiLU(), nn.Linear(FEATURES, FEATURES))


def reconstruction_scale(batch: Batch) -> float:
    """Half the number of real values per particle: what ``Reconstruction`` is for noise alone.

    Divided by it, the reconstruction is of order 1. A weight ``w`` relative to *that* is ``w`` times this number
    beside the reconstruction itself.
    """
    values = batch.images[0].numel()
    return float(values) if batch.images.is_complex() else 0.5 * values


def contrast_of(one: Tensor, two: Tensor, temperature: float) -> Tensor:
    """NT-Xent of features (n, f) and (n, f): each must find its partner among the ``2 n - 1`` others.

    The normalised temperature-scaled cross entropy of Chen et al. 2020 (SimCLR), mean over all ``2 n``.
    """
    n, both = len(one), functional.normalize(torch.cat([one, two]), dim=1)
    itself = torch.eye(2 * n, dtype=torch.bool, device=both.device)
    likeness = (both @ both.T / temperature).masked_fill(itself, -torch.inf)
    return functional.cross_entropy(likeness, torch.arange(2 * n, device=both.device).roll(n))


def misreading(redrawn: Redrawn, factor: str) -> Tensor:
    """Half the squared distance of the changed factor, as it is read, from what was drawn; 0 where it is never read.

    Of rotations it is ``1 - cos`` of the angle between, where one hypothesis has all the odds.
    """
    if factor not in redrawn.drawn:
        return redrawn.said["content"].new_zeros(())
    return 0.5 * (redrawn.said[factor] - redrawn.drawn[factor]).square().sum(1).mean()
