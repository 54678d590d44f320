"""Poses that a search found before training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_harmony.errors import InputError
from napari_harmony.transforms import Pose2D, Pose3D


@dataclass(frozen=True)
class SeedPoses:
    """A pose per particle from an exhaustive search, in ``Pose2D``'s convention (canonical picture -> image).

    Attributes
    ----------
    angle : (n,) radian
    shift : (n, 2) pixel of the training grid, (x, y)
    weight : (n,) trust, 0 (ignore) to 1
    class_posterior : (n, k) probabilities of the classes in whose frames the poses are, or None; at hand for terms
        that want it, the terms of ``harmony`` learn the content without it
    """

    angle: Tensor
    shift: Tensor
    weight: Tensor
    class_posterior: Tensor | None = None

    def __post_init__(self) -> None:
        n = len(self.angle)
        if self.angle.shape != (n,) or self.shift.shape != (n, 2) or self.weight.shape != (n,):
            raise InputError("seeds: angle, shift and weight must have the shapes (n,), (n, 2) and (n,).")
        if self.class_posterior is not None and self.class_posterior.shape[:1] != (n,):
            raise InputError("seeds: class_posterior must have one row per particle.")

    def __len__(self) -> int:
        return len(self.angle)

    @property
    def pose(self) -> Pose2D:
        """The seeds as poses, (n,)."""
        return Pose2D.of(self.angle, self.shift)

    def __getitem__(self, rows: slice) -> SeedPoses:
        """Consecutive ones."""
        return self.take(torch.arange(rows.start, rows.stop, device=self.angle.device))

    def take(self, rows: Tensor) -> SeedPoses:
        """The seeds of some particles."""
        classes = None if self.class_posterior is None else self.class_posterior[rows]
        return SeedPoses(self.angle[rows], self.shift[rows], self.weight[rows], classes)

    def to(self, device: object) -> SeedPoses:
        """The same seeds on another device."""
        tensors = (self.angle, self.shift, self.weight, self.class_posterior)
        return SeedPoses(*(None if t is None else t.to(device) for t in tensors))  # type: ignore[arg-type, call-overload]


@dataclass(frozen=True)
class SeedVolumes:
    """A pose per subtomogram from a search, canonical volume -> subtomogram, and the volumes that it found.

    Attributes
    ----------
    pose : (n,), shifts in voxels of the network's grid
    weight : (n,) trust, 0 (ignore) to 1
    label : (n,) which of the templates each subtomogram shows
    templates : (k, b, b, b) on the network's grid, in units of the noise
    """

    pose: Pose3D
    weight: Tensor
    label: Tensor
    templates: Tensor

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def shown(self) -> Tensor:
        """(n, b, b, b) the template of each subtomogram."""
        return self.templates[self.label]

    def __getitem__(self, rows: slice) -> SeedVolumes:
        """Consecutive ones."""
        return self.take(torch.arange(rows.start, rows.stop, device=self.weight.device))

    def take(self, rows: Tensor) -> SeedVolumes:
        """The seeds of some subtomograms."""
        return SeedVolumes(self.pose[rows], self.weight[rows], self.label[rows], self.templates)

    def to(self, device: torch.device | str) -> SeedVolumes:
        """The same seeds on another device."""
        return SeedVolumes(
            self.pose.to(device), self.weight.to(device), self.label.to(device), self.templates.to(device)
        )
