"""The elementary transformations, each with its own parameters; a subset of them makes up a pose.

A new transformation is one frozen dataclass with the methods of ``Transformation``, listed in ``built_in``.
Whatever its parameters are, a network predicts them through ``from_raw`` and the renderer draws them through ``map``;
it acts in the canonical frame, before the pose.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from napari_harmony.errors import InputError
from napari_harmony.transforms.maps import ImageMap
from napari_harmony.transforms.pose import Pose2D, wrap


@runtime_checkable
class Transformation(Protocol):
    """A group of image transformations with named parameters.

    ``values`` are tensors (..., len(parameters)); a network predicts ``raw`` tensors (..., raw_size) without bounds.
    """

    @property
    def name(self) -> str:
        """The word a user chooses it by."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters, one per last-axis entry of ``values``."""

    @property
    def raw_size(self) -> int:
        """How many unbounded numbers a network predicts for it."""

    def from_raw(self, raw: Tensor) -> Tensor:
        """Values from unbounded numbers: continuous, and within the bounds."""

    def identity(self, *shape: int) -> Tensor:
        """Values that change nothing, (*shape, len(parameters))."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Random values (n, len(parameters)) on the device of ``generator``, spread as in real data."""

    def features(self, values: Tensor) -> Tensor:
        """A continuous embedding of the values, of order 1, for networks that read them."""

    def invert(self, values: Tensor) -> Tensor:
        """Values of the inverse transformation."""

    def compose(self, second: Tensor, first: Tensor) -> Tensor:
        """Values of ``first``, then ``second``, within this group."""

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """How far apart two transformations are: (...), in the unit of the parameter."""

    def map(self, values: Tensor) -> ImageMap:
        """What it does to the plane and to the grey value."""


@dataclass(frozen=True)
class Rotation:
    """In-plane rotation by ``angle`` (radian), uniform on the circle. Networks see (cos, sin): no jump anywhere."""

    name: str = "rotation"
    parameters: tuple[str, ...] = ("angle",)
    raw_size: int = 2

    def from_raw(self, raw: Tensor) -> Tensor:
        # the small addend keeps the gradient finite where a fresh network says (0, 0)
        return torch.atan2(raw[..., 1:], raw[..., :1] + 1e-12)

    def identity(self, *shape: int) -> Tensor:
        return torch.zeros(*shape, 1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return (torch.rand(n, 1, generator=generator, device=generator.device) * 2 - 1) * math.pi

    def features(self, values: Tensor) -> Tensor:
        return torch.cat([values.cos(), values.sin()], -1)

    def invert(self, values: Tensor) -> Tensor:
        return -values

    def compose(self, second: Tensor, first: Tensor) -> Tensor:
        return wrap(second + first)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        return wrap(a - b).abs()[..., 0]

    def map(self, values: Tensor) -> ImageMap:
        return Pose2D.of(values[..., 0]).map()


@dataclass(frozen=True)
class Translation:
    """Shift by (x, y) pixel, at most ``limit`` along each axis, normally distributed with ``spread``."""

    limit: float = 5.0
    spread: float = 1.0
    name: str = "translation"
    parameters: tuple[str, ...] = ("shift_x", "shift_y")
    raw_size: int = 2

    def from_raw(self, raw: Tensor) -> Tensor:
        return self.limit * torch.tanh(raw)

    def identity(self, *shape: int) -> Tensor:
        return torch.zeros(*shape, 2)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        values = self.spread * torch.randn(n, 2, generator=generator, device=generator.device)
        return values.clamp(-self.limit, self.limit)

    def features(self, values: Tensor) -> Tensor:
        return values / self.limit

    def invert(self, values: Tensor) -> Tensor:
        return -values

    def compose(self, second: Tensor, first: Tensor) -> Tensor:
        return second + first

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).norm(dim=-1)

    def map(self, values: Tensor) -> ImageMap:
        return Pose2D.of(torch.zeros_like(values[..., 0]), values).map()


@dataclass(frozen=True)
class Scale:
    """Magnification about the centre by exp(``log_scale``), within +-``limit``, normally distributed."""

    limit: float = 0.3
    spread: float = 0.05
    name: str = "scale"
    parameters: tuple[str, ...] = ("log_scale",)
    raw_size: int = 1

    def from_raw(self, raw: Tensor) -> Tensor:
        return self.limit * torch.tanh(raw)

    def identity(self, *shape: int) -> Tensor:
        return torch.zeros(*shape, 1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        values = self.spread * torch.randn(n, 1, generator=generator, device=generator.device)
        return values.clamp(-self.limit, self.limit)

    def features(self, values: Tensor) -> Tensor:
        return values / self.limit

    def invert(self, values: Tensor) -> Tensor:
        return -values

    def compose(self, second: Tensor, first: Tensor) -> Tensor:
        return second + first

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs()[..., 0]

    def map(self, values: Tensor) -> ImageMap:
        zero = torch.zeros_like(values[..., 0])
        return Pose2D.of(zero, log_scale=values[..., 0]).map()


@dataclass(frozen=True)
class Contrast:
    """Grey value ``gain * v + offset``; log gain within +-``limit``, offset (noise units) within +-``offset_limit``."""

    limit: float = 1.0
    spread: float = 0.15
    offset_limit: float = 0.5
    name: str = "contrast"
    parameters: tuple[str, ...] = ("gain", "offset")
    raw_size: int = 2

    def from_raw(self, raw: Tensor) -> Tensor:
        log_gain, offset = torch.tanh(raw).unbind(-1)
        return torch.stack([(self.limit * log_gain).exp(), self.offset_limit * offset], -1)

    def identity(self, *shape: int) -> Tensor:
        return torch.tensor([1.0, 0.0]).expand(*shape, 2).clone()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        normal = torch.randn(n, 2, generator=generator, device=generator.device)
        gain = (self.spread * normal[:, 0]).clamp(-self.limit, self.limit).exp()
        return torch.stack([gain, 0.2 * self.offset_limit * normal[:, 1].clamp(-5.0, 5.0)], -1)

    def features(self, values: Tensor) -> Tensor:
        gain, offset = values.unbind(-1)
        return torch.stack([gain.log() / self.limit, offset / self.offset_limit], -1)

    def invert(self, values: Tensor) -> Tensor:
        gain, offset = values.unbind(-1)
        return torch.stack([1 / gain, -offset / gain], -1)

    def compose(self, second: Tensor, first: Tensor) -> Tensor:
        return torch.stack([second[..., 0] * first[..., 0], second[..., 0] * first[..., 1] + second[..., 1]], -1)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        return ((a[..., 0] / b[..., 0]).log() ** 2 + (a[..., 1] - b[..., 1]) ** 2).sqrt()

    def map(self, values: Tensor) -> ImageMap:
        zero = torch.zeros_like(values[..., 0])
        return Pose2D.of(zero, gain=values[..., 0], offset=values[..., 1]).map()


def built_in(max_shift: float = 5.0, shift_spread: float = 1.0) -> tuple[Transformation, ...]:
    """Every transformation a user may choose, in the order in which they are undone: last applied first.

    ``max_shift`` and ``shift_spread`` are in pixel of the grid that is worked on.
    """
    return (Rotation(), Translation(max_shift, shift_spread), Scale(), Contrast())


def choose(names: Iterable[str], known: Sequence[Transformation] | None = None) -> tuple[Transformation, ...]:
    """The transformations of these names, in the order of ``known`` (default: ``built_in()``).

    Raises InputError for a name that none of them has.
    """
    wanted, known = set(names), built_in() if known is None else known
    if unknown := wanted - {t.name for t in known}:
        raise InputError(f"transforms: '{min(unknown)}' is unknown; choose from {', '.join(t.name for t in known)}.")
    return tuple(t for t in known if t.name in wanted)


def pose_of(values: Mapping[str, Tensor]) -> Pose2D:
    """The pose that the values of the transformations with these names make up.

    ``values`` holds "rotation" (..., 1) and, where they vary, "translation" (..., 2), "scale" (..., 1) and "contrast"
    (..., 2); what is missing is the identity. Other names are left to ``map_of``.
    """
    known = [values[name] for name in ("rotation", "translation", "scale", "contrast") if name in values]
    angle = values["rotation"][..., 0] if "rotation" in values else torch.zeros_like(known[0][..., 0])
    contrast = values.get("contrast")
    return Pose2D.of(
        angle,
        values.get("translation"),
        values["scale"][..., 0] if "scale" in values else None,
        None if contrast is None else contrast[..., 0],
        None if contrast is None else contrast[..., 1],
    )


def map_of(values: Mapping[str, Tensor], transformations: Iterable[Transformation]) -> ImageMap:
    """The map of all transformations together: those that a pose does not know come first, then the pose."""
    whole = pose_of(values).map()
    for transformation in transformations:
        if transformation.name not in ("rotation", "translation", "scale", "contrast"):
            whole = whole.compose(transformation.map(values[transformation.name]))
    return whole
