"""What goes into a training step: a batch of particles, and each of its two views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import torch
from torch import Tensor

from napari_harmony.models.encoding import Encoding
from napari_harmony.models.volume_encoding import VolumeEncoding
from napari_harmony.objectives.seeds import SeedPoses, SeedVolumes
from napari_harmony.objectives.share import Share
from napari_harmony.transforms import Pose2D, Pose3D

PoseT = TypeVar("PoseT", Pose2D, Pose3D)
EncodingT = TypeVar("EncodingT", Encoding, VolumeEncoding)


@dataclass(frozen=True)
class Batch:
    """Some particles of the training set.

    Attributes
    ----------
    images : (n, b, b), phases flipped, noise of unit variance, background 0; of subtomograms samples (n, m), complex
    ctf : (n, b, b // 2 + 1), >= 0, on the rfft2 grid, or None; of subtomograms amplitudes (n, m)
    seeds : poses found by a search, or None
    portion : which of the particles of a larger batch these are, None where they are all
    every_ctf : ``ctf`` of that whole batch, None where it is the same
    """

    images: Tensor
    ctf: Tensor | None = None
    seeds: SeedPoses | SeedVolumes | None = None
    portion: Share | None = None
    every_ctf: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def share(self) -> Share:
        """The particles as a part of the whole batch."""
        return self.portion or Share(slice(0, len(self)), len(self))

    def only(self, rows: slice) -> Batch:
        """Consecutive particles of a whole batch; its random numbers and its filters stay those of the whole."""
        return Batch(
            self.images[rows],
            None if self.ctf is None else self.ctf[rows],
            None if self.seeds is None else self.seeds[rows],
            Share(rows, len(self)),
            self.ctf,
        )

    def ctf_of_others(self, generator: torch.Generator) -> Tensor | None:
        """The CTF of another particle of the whole batch for each, by chance."""
        every = self.ctf if self.every_ctf is None else self.every_ctf
        device = generator.device
        others = self.share.of(lambda n: torch.randperm(n, generator=generator, device=device))
        return None if every is None else every[others]


@dataclass(frozen=True)
class Branch(Generic[PoseT, EncodingT]):
    """The particles as the encoder saw them in one of the two branches.

    Attributes
    ----------
    images : as in ``Batch``
    applied : (n,) the known transformation that made ``images`` from the batch's images
    encoding : of ``images``
    content : (n, d) drawn from the content posterior
    """

    images: Tensor
    applied: PoseT
    encoding: EncodingT
    content: Tensor


ImageBranch: TypeAlias = Branch[Pose2D, Encoding]
VolumeBranch: TypeAlias = Branch[Pose3D, VolumeEncoding]
