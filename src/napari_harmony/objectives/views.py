"""What the terms of an objective look at, of images and of volumes alike: one batch, seen twice by the network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from napari_harmony.objectives.data import Batch, Branch
from napari_harmony.objectives.perturbation import Redrawn


@dataclass(frozen=True)
class Views(ABC):
    """A batch in both branches, with what several terms need, computed once.

    Attributes
    ----------
    network : being trained
    batch : the particles
    original, copy : the branch of the particles themselves, and that of their transformed copies
    progress : of the training, 0 to 1
    temperature : of the competition between pose hypotheses (half squared errors in units of the noise)
    kept : hypotheses per particle that are drawn with gradients, the best ones
    generator : for every random choice of a term
    """

    network: Any
    batch: Batch
    original: Branch[Any, Any]
    copy: Branch[Any, Any]
    progress: float
    temperature: float
    kept: int
    generator: torch.Generator

    @property
    def branches(self) -> tuple[Branch[Any, Any], Branch[Any, Any]]:
        """The original, then the copy."""
        return self.original, self.copy

    @property
    @abstractmethod
    def fits(self) -> Sequence[Any]:
        """How well either branch explains the *original* particles, with contents swapped.

        Each has ``pose``, ``error``, ``gain`` and ``responsibility``, all (n, k).
        """

    @abstractmethod
    def rehearse(self, shift_spread: float) -> tuple[Any, Tensor, Any]:
        """Particles drawn anew under known poses, with new noise: poses (n,), contents (n, d), what is said of them.

        ``shift_spread`` is the standard deviation of the shifts per axis, as a fraction of the shift bound.
        """

    @property
    @abstractmethod
    def factors(self) -> tuple[str, ...]:
        """The physical factors that can be changed one at a time when the particles are drawn anew."""

    @abstractmethod
    def redraw(self, factor: str, rows: slice) -> Redrawn:
        """Some of the particles as the network sees them, drawn anew with ``factor`` alone changed, and new noise.

        Drawn is the picture of the mean content in the pose that the network says, which is cut from the graph: what
        is drawn is known, so that it teaches how to read, and what is read of recorded particles is left to them.
        Gradients pass through picture, content and the encoding of what is drawn.
        """
