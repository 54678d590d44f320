"""How directions of a content code that change a picture in ways of their own are learned.

Directions are the rows of an orthonormal matrix, the exponential of a skew-symmetric one. A small network sees a pair
of pictures, one of a particle and one of the same particle moved along one direction, and says which direction it was
and how far. Directions and network are learned together: directions that are easy to tell apart win. Described by
Voynov and Babenko (2020); that changes shall lie in different places of the picture is our addition.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from napari_harmony.analysis.disentanglement.tracking import tangents
from napari_harmony.objectives.adam import Adam

#: How far a code is moved, in standard deviations: at least, and at most.
_LEAST, _MOST = 0.25, 1.5
_RATE_DIRECTIONS, _RATE_PREDICTOR = 5e-3, 1e-3
#: Weight of the error in how far, and of changes that lie in the same place.
_SIZE_WEIGHT, _OVERLAP_WEIGHT = 0.25, 1.0
#: Particles of every batch whose changes along all directions are compared.
_COMPARED = 8
#: Edge of what the predictor sees; larger pictures are averaged down.
_SEEN = {2: 32, 3: 16}
#: Fresh pairs on which the predictor is tried at the end.
_HELD_OUT = 512
#: Particles at which the decoder's slope is measured, of images and of volumes.
_PLACES = {2: 64, 3: 16}

#: Whitened codes (n, r) to pictures (n, b, b) or (n, b, b, b), with gradients.
Draw = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Learned:
    """``directions`` (k, r), orthonormal rows; ``accuracy`` of the predictor on pairs it has not seen, in [0, 1]."""

    directions: Tensor
    accuracy: float


@dataclass(frozen=True)
class Sensitivity:
    """How much pictures change along directions of whitened codes of r numbers.

    Attributes
    ----------
    change : (r, r), ``v @ change @ v`` is the squared change of the picture per standard deviation along v, summed over
        pixels and averaged over particles
    posing : (r, r), the same of that part of the change which a change of pose makes, to first order
    """

    change: Tensor
    posing: Tensor

    def within(self, rows: Tensor) -> Sensitivity:
        """The same for coordinates along orthonormal ``rows`` (k, r)."""
        return Sensitivity(rows @ self.change @ rows.T, rows @ self.posing @ rows.T)

    def poses(self, least: float) -> Tensor:
        """Orthonormal directions (p, r) of which a change of pose explains at least the share ``least``; p may be 0."""
        squares, axes = torch.linalg.eigh(self.change)
        scale = squares.clamp_min(1e-9 * squares.max().clamp_min(1e-30)).rsqrt()
        narrow = axes * scale
        shares, ways = torch.linalg.eigh(narrow.T @ self.posing @ narrow)
        found = narrow @ ways[:, shares >= least]
        return torch.linalg.qr(found)[0].T if found.shape[1] else found.T


@torch.no_grad()
def sensitivity(draw: Draw, codes: Tensor, places: int | None = None) -> Sensitivity:
    """How much pictures change along directions of whitened codes (n, r), from the first ``places`` of them."""
    step, axes = 0.25, torch.eye(codes.shape[1], device=codes.device, dtype=codes.dtype)
    picture = draw(codes[:1])
    rows = codes[: places or _PLACES[picture.ndim - 1]]
    change, posing = torch.zeros_like(axes).double(), torch.zeros_like(axes).double()
    for code in rows:
        slopes = (draw(code + step * axes) - draw(code - step * axes)).flatten(1).double() / (2 * step)
        groups = tangents(draw(code[None])[0].double().cpu().numpy()).values()
        span = torch.as_tensor(np.concatenate(list(groups)), device=codes.device)
        inside = slopes @ torch.linalg.qr(span.T)[0]
        change += slopes @ slopes.T
        posing += inside @ inside.T
    return Sensitivity(change / len(rows), posing / len(rows))


def learn_directions(
    draw: Draw,
    codes: Tensor,
    start: Tensor,
    *,
    radius: float,
    steps: int,
    batch: int,
    seed: int,
    free: int | None = None,
) -> Generator[float, None, Learned]:
    """Turn the first rows of ``start`` (k, r), orthonormal, among themselves until all are easy to tell apart.

    Parameters
    ----------
    draw : decoder of whitened codes
    codes : (n, r) whitened codes of particles, from which pairs start
    radius : codes are not moved further than this from 0, unless they were there already
    steps, batch : how many pairs are learned from
    seed : of everything random
    free : how many rows of ``start`` turn, None for all; the others stay as they are

    Yields
    ------
    the fraction done, once per batch
    """
    generator = torch.Generator().manual_seed(seed)
    lesson = _Lesson(draw, codes, start, len(start) if free is None else free, radius, generator)
    for step in range(steps):
        with torch.enable_grad():
            lesson.learn(batch, 1 - step / steps)
        yield (step + 1) / steps
    with torch.no_grad():
        return Learned(lesson.directions(), lesson.accuracy(batch))


class _Lesson:
    """Directions and predictor while they are learned; grad mode is left to the caller, who must not yield inside."""

    def __init__(
        self, draw: Draw, codes: Tensor, start: Tensor, free: int, radius: float, generator: torch.Generator
    ) -> None:
        self.draw, self.codes, self.start, self.radius, self.generator = draw, codes, start, radius, generator
        k, device, self.free = len(start), codes.device, free
        self.skew = (1e-3 * torch.randn(free, free, generator=generator)).to(device).requires_grad_()
        sample = codes[: 4 * _COMPARED]
        with torch.no_grad():
            pictures = draw(sample)
            moved = draw(sample + start[torch.arange(len(sample)) % k])
        scales = float(pictures.std()), float((moved - pictures).square().mean().sqrt())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
            self.predictor = Predictor(pictures.shape[1:], k, scales).to(device)
        self.learned = [self.skew, *self.predictor.parameters()]
        rated = (([self.skew], _RATE_DIRECTIONS), (self.predictor.parameters(), _RATE_PREDICTOR))
        self.optimisers = [(Adam(parameters, peak), peak) for parameters, peak in rated]

    def directions(self) -> Tensor:
        """The directions (k, r) as they stand."""
        turned = torch.matrix_exp(self.skew - self.skew.T) @ self.start[: self.free]
        return torch.cat([turned, self.start[self.free :]])

    def learn(self, batch: int, rate: float) -> None:
        """One step on fresh pairs, at a fraction ``rate`` of the learning rates."""
        directions = self.directions()
        pairs, which, how_far = self._pairs(directions, batch)
        logits, said = self.predictor(*pairs)
        loss = nn.functional.cross_entropy(logits, which) + _SIZE_WEIGHT * (said - how_far).abs().mean()
        if self.free > 1:
            loss = loss + _OVERLAP_WEIGHT * self._overlap(directions[: self.free])
        # the decoder's own parameters stay out of it
        slopes = torch.autograd.grad(loss, self.learned, allow_unused=True)
        for parameter, slope in zip(self.learned, slopes, strict=True):
            parameter.grad = slope
        for optimiser, peak in self.optimisers:
            optimiser.rate = peak * max(rate, 0.05)
            optimiser.step()

    def accuracy(self, batch: int) -> float:
        """How often the predictor names the direction of pairs drawn afresh."""
        right, seen, directions = 0, 0, self.directions()
        while seen < _HELD_OUT:
            pairs, which, _ = self._pairs(directions, batch)
            right += int((self.predictor(*pairs)[0].argmax(1) == which).sum())
            seen += len(which)
        return right / seen

    def _chosen(self, count: int) -> Tensor:
        return self.codes[torch.randint(len(self.codes), (count,), generator=self.generator).to(self.codes.device)]

    def _pairs(self, directions: Tensor, batch: int) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
        """Pictures before and after, along which direction (n,), and how far (n,) in standard deviations."""
        device, codes = self.codes.device, self._chosen(batch)
        which = torch.randint(len(directions), (batch,), generator=self.generator).to(device)
        size = _LEAST + (_MOST - _LEAST) * torch.rand(batch, generator=self.generator).to(device)
        # mostly towards the centre where a particle is far out: beyond the data the decoder draws nothing true
        with torch.no_grad():
            sign = self._inward(codes, directions[which], size)
        moved = codes + (sign * size)[:, None] * directions[which]
        before, after = self.draw(torch.cat([codes, moved])).chunk(2)
        return (before, after), which, sign * size

    def _inward(self, codes: Tensor, ways: Tensor, size: Tensor) -> Tensor:
        """Signs (n,): drawn, but turned round where the step would leave the radius and the other would not."""
        sign = 2.0 * torch.randint(2, size.shape, generator=self.generator).to(size) - 1
        there, back = ((codes + s[:, None] * ways).norm(dim=1) for s in (sign * size, -sign * size))
        return torch.where((there > self.radius) & (back < there), -sign, sign)

    def _overlap(self, directions: Tensor) -> Tensor:
        """Mean cosine between the places that any two directions change in the same particle, in [0, 1]."""
        k, codes = len(directions), self._chosen(_COMPARED)
        ends = codes[:, None] + 0.5 * torch.stack([directions, -directions], 1).flatten(0, 1)
        pictures = self.draw(ends.flatten(0, 1)).unflatten(0, (len(codes), k, 2))
        places = blurred((pictures[:, :, 0] - pictures[:, :, 1]).flatten(0, 1).abs()).flatten(1)
        unit = nn.functional.normalize(places, dim=1).unflatten(0, (len(codes), k))
        between = unit @ unit.mT
        return (between.sum((1, 2)) - between.diagonal(dim1=1, dim2=2).sum(1)).mean() / (k * (k - 1))


def blurred(pictures: Tensor) -> Tensor:
    """Pictures (n, b, b) or (n, b, b, b) averaged over 3 pixels along every axis."""
    pool = nn.functional.avg_pool2d if pictures.ndim == 3 else nn.functional.avg_pool3d
    return pool(pictures[:, None], 3, stride=1, padding=1, count_include_pad=True)[:, 0]


class Predictor(nn.Module):
    """Which of ``directions`` leads from one picture to another, and how far.

    Parameters
    ----------
    shape : of a picture, (b, b) or (b, b, b)
    directions : how many there are
    scales : of a picture, and of a change
    """

    def __init__(self, shape: torch.Size, directions: int, scales: tuple[float, float]) -> None:
        super().__init__()
        volume = len(shape) == 3
        self.scales = tuple(scale if scale > 0 else 1.0 for scale in scales)
        self.shrink = max(1, shape[-1] // _SEEN[len(shape)])
        self.pool = nn.functional.avg_pool3d if volume else nn.functional.avg_pool2d
        convolution = nn.Conv3d if volume else nn.Conv2d
        edge = -(-(shape[-1] // self.shrink) // 4)
        self.layers = nn.Sequential(
            convolution(2, 16, 5, stride=2, padding=2),
            nn.SiLU(),
            convolution(16, 32, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(32 * edge ** len(shape), 128),
            nn.SiLU(),
            nn.Linear(128, directions + 1),
        )

    def forward(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (n, ...) to logits (n, k) and steps (n,)."""
        pair = torch.stack([before / self.scales[0], (after - before) / self.scales[1]], dim=1)
        said = self.layers(self.pool(pair, self.shrink) if self.shrink > 1 else pair)
        return said[:, :-1], said[:, -1]
