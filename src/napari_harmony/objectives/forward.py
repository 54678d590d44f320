"""The forward model: how well a posed, filtered picture explains an image.

An image is compared with the picture drawn under the pose, never the other way round: transforming the image would
blur its noise, and any pose that blurs or pushes the particle out of the frame would be rewarded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_harmony.objectives.data import Batch, ImageBranch
from napari_harmony.objectives.seeds import SeedPoses
from napari_harmony.transforms import ImageMap, Pose2D, Transformation, apply_ctf, map_of, pose_of, render

#: Standard deviation of a particle's gain about 1 that the prior expects.
GAIN_SPREAD = 0.3


@dataclass(frozen=True)
class Competition:
    """How pose hypotheses compete.

    Attributes
    ----------
    temperature : responsibilities are softmax(-error / temperature)
    kept : hypotheses that are drawn with gradients, the best ones
    contrast : gain and offset vary and are solved for; otherwise they are 1 and 0
    """

    temperature: float = 1.0
    kept: int = 1
    contrast: bool = True


@dataclass(frozen=True)
class Hypotheses:
    """Maps from the canonical picture to the *original* image, and the same without what a pose does not know.

    Attributes
    ----------
    maps : batch shape (n, h)
    pose : (n, h)
    """

    maps: ImageMap
    pose: Pose2D

    def take(self, which: Tensor) -> Hypotheses:
        """Of every particle the hypotheses ``which`` (n, k)."""
        rows = torch.arange(len(which), device=which.device)[:, None]
        maps = self.maps
        return Hypotheses(
            ImageMap(
                maps.matrix[rows, which], maps.shift[rows, which], maps.gain[rows, which], maps.offset[rows, which]
            ),
            self.pose[rows, which],
        )


@dataclass(frozen=True)
class Fit:
    """How well k posed pictures explain each image.

    Attributes
    ----------
    pose : (n, k) canonical picture -> original image
    error : (n, k) half the squared error over all pixels, in units of the noise, plus the prior of the gain
    gain, offset : (n, k) solved for, without gradient
    responsibility : (n, k) without gradient, sums to 1 over k
    """

    pose: Pose2D
    error: Tensor
    gain: Tensor
    offset: Tensor
    responsibility: Tensor


def all_hypotheses(branch: ImageBranch, transformations: Sequence[Transformation]) -> Hypotheses:
    """Every hypothesis of the branch, with the branch's known transformation undone, (n, h)."""
    return _on_original(branch, _without_contrast(branch.encoding.values), transformations)


def seeded_hypotheses(branch: ImageBranch, seeds: SeedPoses, transformations: Sequence[Transformation]) -> Hypotheses:
    """The seeded rotation and shift, (n, 1); other transformations from the branch's most likely hypothesis."""
    seed = seeds.pose[:, None]
    if {t.name for t in transformations} <= {"rotation", "translation", "contrast"}:
        return Hypotheses(seed.map(), seed)
    rows = torch.arange(len(seeds), device=branch.images.device)[:, None]
    likely = branch.encoding.logits.argmax(dim=1, keepdim=True)
    values = {name: value[rows, likely] for name, value in branch.encoding.values.items()}
    others = _on_original(branch, _without_contrast(values), transformations)
    pose = Pose2D(seed.angle, seed.shift, others.pose.log_scale, others.pose.gain, others.pose.offset)
    correction = pose.compose(others.pose.inverse())
    return Hypotheses(correction.map().compose(others.maps), pose)


def _without_contrast(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gain and offset are solved for in closed form: the predicted ones would only get in the way."""
    return {name: value for name, value in values.items() if name != "contrast"}


def _on_original(
    branch: ImageBranch, values: dict[str, Tensor], transformations: Sequence[Transformation]
) -> Hypotheses:
    applied = branch.applied
    undo = Pose2D.of(applied.angle, applied.shift, applied.log_scale).inverse()[:, None]
    return Hypotheses(undo.map().compose(map_of(values, transformations)), undo.compose(pose_of(values)))


def fit(batch: Batch, picture: Tensor, hypotheses: Hypotheses, competition: Competition) -> Fit:
    """Draw ``picture`` (n, b, b) under the hypotheses and compare with the images of the batch.

    Where more hypotheses are given than kept, all are compared without gradients first.
    """
    if hypotheses.pose.shape[1] > competition.kept:
        with torch.no_grad():
            error = _compare(batch, picture, hypotheses, competition)[0]
        hypotheses = hypotheses.take(error.topk(competition.kept, dim=1, largest=False).indices)
    error, gain, offset = _compare(batch, picture, hypotheses, competition)
    responsibility = torch.softmax(-error.detach() / competition.temperature, dim=1)
    return Fit(hypotheses.pose, error, gain, offset, responsibility)


def _compare(
    batch: Batch, picture: Tensor, hypotheses: Hypotheses, competition: Competition
) -> tuple[Tensor, Tensor, Tensor]:
    """Errors, gains and offsets, each (n, h)."""
    images = batch.images[:, None]
    drawn = apply_ctf(render(picture, hypotheses.maps, fast=True), batch.ctf)
    if not competition.contrast:
        error = 0.5 * (images - drawn).square().sum((-2, -1))
        return error, torch.ones_like(error), torch.zeros_like(error)
    # at the optimum the derivative by gain and offset is zero: constants there, the gradient by all else is exact
    with torch.no_grad():
        image_mean, drawn_mean = images.mean((-2, -1)), drawn.mean((-2, -1))
        pixels = images.shape[-1] ** 2
        cross = (images * drawn).sum((-2, -1)) - pixels * image_mean * drawn_mean
        power = drawn.square().sum((-2, -1)) - pixels * drawn_mean**2
        gain = (cross + GAIN_SPREAD**-2) / (power + GAIN_SPREAD**-2)
        offset = image_mean - gain * drawn_mean
        prior = 0.5 * ((gain - 1) / GAIN_SPREAD) ** 2
    residual = images - gain[..., None, None] * drawn - offset[..., None, None]
    return 0.5 * residual.square().sum((-2, -1)) + prior, gain, offset
