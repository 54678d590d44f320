"""The setting of the publication on particles: pairs of images with one content, a small autoencoder of two codes.

A pair shows the same content (one of three kinds, in its own conformation) under two transformations of its own. One
code, of the first image, is free to hold anything and should be the transformation; the other, of the second image,
should be the content. The picture drawn from both is compared with the first image. Nothing but the penalty keeps the
first code from holding everything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from napari_harmony.objectives import Adam
from napari_harmony.objectives.independence import AdversarialIndependence
from napari_harmony.particles.conformations import FACTORS, simulate_conformations
from napari_harmony.transforms import Pose2D, render

BOX, CODE, BATCH, STEPS, WARM_UP = 32, 8, 64, 2500, 300
#: Images of every content to learn from; each step draws two of them, with new noise.
VIEWS = 16
LEARNING_RATE = 1e-3
#: Ranges of the transformations: radian, pixel, logarithm of the gain.
ANGLE, SHIFT, LOG_GAIN = 1.0, 0.07 * BOX, 0.3
#: Sum over pixels of the variance of the images, which sets the scale of the squared error, and their SNR.
POWER, SNR = 30.0, 2.0


@dataclass(frozen=True)
class Contents:
    """Clean pictures (n, b, b) in their canonical pose, kinds (n,), and conformations (n, 3)."""

    pictures: Tensor
    kind: Tensor
    conformation: Tensor

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True)
class Views:
    """Images (n, b, b) of some contents, what they show without noise, and how they were transformed (n,)."""

    noisy: Tensor
    clean: Tensor
    pose: Pose2D


def contents(count: int, seed: int, scale: float | None = None) -> tuple[Contents, float]:
    """Contents, with grey values such that images of them have ``POWER``; ``scale`` of others to take theirs."""
    made = simulate_conformations(count=count, box=BOX, kinds=3, snr=math.inf, seed=seed)
    pictures = torch.from_numpy(made.clean(np.arange(count)))
    if scale is None:
        clean = render(pictures, random_poses(count, torch.Generator().manual_seed(seed)), fast=True)
        scale = math.sqrt(POWER / float(clean.var(0).sum()))
    kind = torch.tensor(made.truth["kind"].to_numpy())
    conformation = torch.tensor(made.truth[list(FACTORS)].to_numpy(np.float32))
    return Contents(pictures * scale, kind, conformation), scale


def random_poses(count: int, generator: torch.Generator) -> Pose2D:
    """Transformations (count,), uniform in their ranges."""
    uniform = torch.rand(count, 4, generator=generator) * 2 - 1
    return Pose2D.of(ANGLE * uniform[:, 0], SHIFT * uniform[:, 1:3], gain=(LOG_GAIN * uniform[:, 3]).exp())


def views(pictures: Tensor, generator: torch.Generator) -> Views:
    """Each picture (n, b, b) under a transformation of its own, with noise."""
    pose = random_poses(len(pictures), generator)
    clean = render(pictures, pose, fast=True)
    return Views(noisy(clean, generator), clean, pose)


def noisy(clean: Tensor, generator: torch.Generator) -> Tensor:
    """Images (n, b, b) with white noise."""
    return clean + torch.randn(clean.shape, generator=generator) * math.sqrt(POWER / BOX**2 / SNR)


def album(data: Contents, seed: int) -> Tensor:
    """Clean images (n, VIEWS, b, b) of every content, each under a transformation of its own; drawn once, for speed."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [render(data.pictures, random_poses(len(data), generator), fast=True) for _ in range(VIEWS)]
    return torch.stack(drawn, dim=1)


class TwoCodes(nn.Module):
    """Autoencoder of a pair: a transformation code with its log variance, a content code, and a decoder of both."""

    def __init__(self) -> None:
        super().__init__()
        self.transformation, self.content = _encoder(2 * CODE), _encoder(CODE)
        self.decoder = nn.Sequential(
            nn.Linear(2 * CODE, 128), nn.SiLU(), nn.Linear(128, 320), nn.SiLU(), nn.Linear(320, BOX**2)
        )

    def transformation_of(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (n, CODE) of images (n, b, b)."""
        mean, log_variance = self.transformation(images).chunk(2, dim=1)
        return mean, 6 * torch.tanh(log_variance / 6)

    def content_of(self, images: Tensor) -> Tensor:
        """(n, CODE) of images (n, b, b)."""
        code: Tensor = self.content(images)
        return code

    def decode(self, transformation: Tensor, content: Tensor) -> Tensor:
        """Images (n, b, b)."""
        drawn: Tensor = self.decoder(torch.cat([transformation, content], dim=1))
        return drawn.view(-1, BOX, BOX)


def _encoder(size: int) -> nn.Sequential:
    """Of pictures at half the resolution, which show all that differs and keep it quick."""
    return nn.Sequential(
        nn.Unflatten(1, (1, BOX)), nn.AvgPool2d(2), nn.Flatten(), nn.Linear((BOX // 2) ** 2, 256), nn.SiLU(),
        nn.Linear(256, 128), nn.SiLU(), nn.Linear(128, size),
    )  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """An autoencoder, gamma and multiplier after every step, and the core that moved them."""

    network: TwoCodes
    gamma: list[float]
    multiplier: list[float]
    core: AdversarialIndependence


def train_pairs(
    images: Tensor, core: AdversarialIndependence, *, penalised: bool, seed: int, steps: int = STEPS
) -> Trained:
    """Train on pairs of an ``album``; ``penalised`` False leaves out all but gamma times the divergence.

    ``core`` comes with fresh critics; everything else depends on ``seed`` only.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = TwoCodes()
    optimiser = Adam(network.parameters(), LEARNING_RATE)
    gammas, multipliers = [], []
    for step in range(steps):
        optimiser.rate = LEARNING_RATE * min(1.0, 2 * (1 - step / steps))
        rows = torch.randint(len(images), (BATCH,), generator=generator)
        one = torch.randint(VIEWS, (BATCH,), generator=generator)
        other = (one + torch.randint(1, VIEWS, (BATCH,), generator=generator)) % VIEWS
        first, second = (noisy(images[rows, which], generator) for which in (one, other))
        mean, log_variance = network.transformation_of(first)
        code = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=generator)
        content = network.content_of(second)
        error = (network.decode(code, content) - first).square().sum((1, 2)).mean()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        if penalised:
            pressure, _ = core(code, content, divergence, generator, active=step >= WARM_UP)
        else:
            pressure = core.gamma * divergence
        optimiser.forget()
        (error + pressure).backward()
        optimiser.step()
        gammas.append(core.gamma)
        multipliers.append(core.lam)
    return Trained(network.eval(), gammas, multipliers, core)
