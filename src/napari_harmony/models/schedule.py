"""How much of a picture is left at each level of a diffusion, and how much a decoder can have said by then."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

#: Offset that keeps the first level from being free of noise (Nichol & Dhariwal 2021), and the most that one step adds.
_OFFSET, _LARGEST_STEP = 8e-3, 0.999


@dataclass(frozen=True)
class NoiseSchedule:
    """The cosine schedule: level 0 is a picture with hardly any noise, the last level is hardly anything but noise.

    Attributes
    ----------
    kept : (levels,) share of the variance of a noised picture that is the picture's, falling
    """

    kept: Tensor

    @classmethod
    def cosine(cls, levels: int) -> NoiseSchedule:
        """The cosine schedule of Nichol & Dhariwal (2021), as monai's schedulers have it."""
        along = torch.linspace(0, 1, levels + 1, dtype=torch.float64)
        wave = torch.cos((along + _OFFSET) / (1 + _OFFSET) * math.pi / 2) ** 2
        steps = (1 - wave[1:] / wave[:-1]).clamp(0, _LARGEST_STEP)
        return cls(torch.cumprod(1 - steps, 0).float())

    def __len__(self) -> int:
        return len(self.kept)

    @property
    def snr(self) -> Tensor:
        """(levels,) variance of the picture over that of the noise."""
        return self.kept / (1 - self.kept)

    @property
    def capacity(self) -> Tensor:
        """(levels,) nats per pixel that one step back from each level can carry, rising towards level 0.

        The Kullback-Leibler divergence from ``q(x_{t-1} | x_t, x_0)`` to a standard normal, in the mean over pictures
        of unit variance: the bottleneck of the reverse diffusion loosens as it goes (after EncDiff, Yang et al. 2024).
        """
        now, before = self.kept[1:].double(), self.kept[:-1].double()
        step = 1 - now / before
        variance = (1 - before) / (1 - now) * step
        # the posterior mean is a mixture of the picture and of its noised version, both of unit variance
        of_picture, of_noised = before.sqrt() * step / (1 - now), (1 - step).sqrt() * (1 - before) / (1 - now)
        square = of_picture**2 + of_noised**2 + 2 * of_picture * of_noised * now.sqrt()
        nats = 0.5 * (variance - 1 - variance.log() + square)
        return torch.cat([nats[:1], nats]).float()

    def loosened(self, progress: float) -> float:
        """Share in [0, 1] of the bottleneck's final width when the diffusion has run back by ``progress``."""
        nats, last = self.capacity, len(self) - 1
        level = round(last * (1 - min(max(progress, 0.0), 1.0)))
        return float((nats[level] - nats[-1]) / (nats[0] - nats[-1]))

    def information(self, limit: float | Tensor) -> Tensor:
        """(levels,) by how much the signal-to-noise ratio falls from each level to the next, up to ``limit`` only.

        Summed over levels, half of these times a gain in squared error are nats (I-MMSE: Guo, Shamai & Verdu 2005).
        """
        snr = self.snr.clamp_max(limit)
        return snr - torch.cat([snr[1:], snr.new_zeros(1)])
