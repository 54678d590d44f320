"""What goes into a training step: a batch of particles, and each of its two views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from torch import Tensor

from napari_harmony.models.encoding import Encoding
from napari_harmony.models.volume_encoding import VolumeEncoding
from napari_harmony.objectives.seeds import SeedPoses, SeedVolumes
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
    """

    images: Tensor
    ctf: Tensor | None = None
    seeds: SeedPoses | SeedVolumes | None = None

    def __len__(self) -> int:
        return len(self.images)


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
