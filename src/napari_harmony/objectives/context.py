"""What the terms of an objective look at: one batch, seen twice by the network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from napari_harmony.models.network import PoseNetwork
from napari_harmony.objectives.data import Batch, Branch
from napari_harmony.objectives.forward import (
    Competition,
    Fit,
    all_hypotheses,
    fit,
    seeded_hypotheses,
)
from napari_harmony.transforms import Pose2D, render


@dataclass(frozen=True)
class Context:
    """A batch in both branches, with what several terms need, computed once.

    Attributes
    ----------
    network : being trained
    batch : the particles
    original, copy : the branch of the images themselves, and that of their transformed copies
    progress : of the training, 0 to 1
    temperature : of the competition between pose hypotheses (half squared errors in units of the noise)
    kept : hypotheses per image that are drawn with gradients, the best ones
    generator : for every random choice of a term
    """

    network: PoseNetwork
    batch: Batch
    original: Branch
    copy: Branch
    progress: float
    temperature: float
    kept: int
    generator: torch.Generator

    @property
    def branches(self) -> tuple[Branch, Branch]:
        """The original, then the copy."""
        return self.original, self.copy

    @cached_property
    def pictures(self) -> tuple[Tensor, Tensor]:
        """Canonical pictures (n, b, b) of either branch's content, in the order of ``branches``."""
        with mixed_precision(self.batch.images.device):
            both = self.network.decode(torch.cat([self.original.content, self.copy.content]))
        first, second = both.chunk(2)
        return first, second

    @cached_property
    def fits(self) -> tuple[Fit, Fit]:
        """How well either branch explains the *original* images.

        Contents are swapped: the poses of a branch carry the picture that the other branch sees. The known
        transformation of the copy is undone in its poses, so that nothing is ever compared with interpolated noise.
        """
        first, second = self.pictures
        return self._fit(self.original, second), self._fit(self.copy, first)

    def _fit(self, branch: Branch, picture: Tensor) -> Fit:
        if self.batch.seeds is not None:
            hypotheses = seeded_hypotheses(branch, self.batch.seeds, self.network.transformations)
        else:
            hypotheses = all_hypotheses(branch, self.network.transformations)
        contrast = any(t.name == "contrast" for t in self.network.transformations)
        return fit(self.batch, picture, hypotheses, Competition(self.temperature, self.kept, contrast))


def mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 where the hardware is made for it (CUDA), full precision elsewhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def make_branches(
    network: PoseNetwork, images: Tensor, applied: Pose2D, generator: torch.Generator
) -> tuple[Branch, Branch]:
    """Encode ``images`` (n, b, b) and their copies transformed by ``applied`` (n,), together in one pass."""
    n = len(images)
    with torch.no_grad():
        seen = torch.cat([images, render(images, applied, fast=True)])
    with mixed_precision(images.device):
        encoding = network.encode(seen)
    content = encoding.sample(generator)
    identity = Pose2D.identity(n, device=images.device)
    return (
        Branch(seen[:n], identity, encoding[:n], content[:n]),
        Branch(seen[n:], applied, encoding[n:], content[n:]),
    )
