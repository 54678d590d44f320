"""One physical factor of a particle changed and all others kept, and what the encoder says of each.

The ranges follow those of Klinghoffer et al. 2022 for viewpoint and light, carried over to particles: small enough
that the changed particle could be one of the data set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_harmony.models import ModelCard
from napari_harmony.models.encoding import Encoding
from napari_harmony.models.network import NetworkShape
from napari_harmony.models.volume_encoding import VolumeEncoding
from napari_harmony.transforms import Contrast, Pose3D, Scale, Transformation, Translation, built_in, choose, so3

#: Largest turn, radian; shift per axis, share of the box; natural logarithms of magnification and gain; grey value in
#: units of the noise, little, for backgrounds are brought to 0 when images are prepared.
TURN = math.radians(22.5)
SHIFT = 0.1
LOG_SCALE = 0.05
LOG_GAIN = 0.4
OFFSET = 0.1
#: Changed values stay within this share of the bounds of what a network can say.
_WITHIN = 0.95

#: What an encoder says of particles: of the "content" and of each factor (n, p) continuous numbers of order 1.
Reading = dict[str, Tensor]


@dataclass(frozen=True)
class Redrawn:
    """Particles drawn anew with one factor changed.

    Attributes
    ----------
    drawn : what they were drawn from: the mean content, with gradient, and the factors, which are known and have none
    said : what the encoder says of them; it has the same entries
    """

    drawn: Reading
    said: Reading


# -- images ---------------------------------------------------------------------------------------------------------


def read_images(encoding: Encoding, transformations: Sequence[Transformation]) -> Reading:
    """Content means, and features of every transformation averaged over the hypotheses by their odds.

    The average is differentiable in hypotheses and odds alike; of an angle it is (cos, sin), shorter the less sure.
    """
    odds = torch.softmax(encoding.logits, dim=1)[..., None]
    said = {t.name: (odds * t.features(encoding.values[t.name])).sum(1) for t in transformations}
    return {"content": encoding.content_mean, **said}


def likeliest(encoding: Encoding) -> dict[str, Tensor]:
    """Parameters (n, p) of each transformation of the likeliest hypothesis, cut from the graph."""
    rows = torch.arange(len(encoding.logits), device=encoding.logits.device)
    best = encoding.logits.argmax(dim=1)
    return {name: value.detach()[rows, best] for name, value in encoding.values.items()}


def changed_values(
    values: dict[str, Tensor], transformation: Transformation, box: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """The parameters (n, p) with those of one transformation changed at random; ``box`` in pixel."""
    own = values[transformation.name]
    step = _step(transformation.name, len(own), box, generator)
    return {**values, transformation.name: _bounded(transformation, transformation.compose(step, own))}


def changeable(transformations: Sequence[Transformation]) -> tuple[str, ...]:
    """The transformations of which a small change is known."""
    known = ("rotation", "translation", "scale", "contrast")
    return tuple(t.name for t in transformations if t.name in known)


def _step(name: str, n: int, box: int, generator: torch.Generator) -> Tensor:
    """A small random transformation, (n, p)."""
    uniform = 2 * torch.rand(n, 2, generator=generator, device=generator.device) - 1
    if name == "rotation":
        return TURN * uniform[:, :1]
    if name == "translation":
        return SHIFT * box * uniform
    if name == "scale":
        return LOG_SCALE * uniform[:, :1]
    return torch.stack([(LOG_GAIN * uniform[:, 0]).exp(), OFFSET * uniform[:, 1]], -1)


def _bounded(transformation: Transformation, values: Tensor) -> Tensor:
    """Values (n, p) that a network can still say."""
    if isinstance(transformation, Translation | Scale):
        limit = _WITHIN * transformation.limit
        return values.clamp(-limit, limit)
    if isinstance(transformation, Contrast):
        log_gain, offset = _WITHIN * transformation.limit, _WITHIN * transformation.offset_limit
        gain = values[:, 0].clamp(math.exp(-log_gain), math.exp(log_gain))
        return torch.stack([gain, values[:, 1].clamp(-offset, offset)], -1)
    return values


# -- subtomograms ---------------------------------------------------------------------------------------------------


def read_volumes(encoding: VolumeEncoding, shape: NetworkShape) -> Reading:
    """Content means, and of rotation and shift the average over the hypotheses by their odds.

    A rotation is read as its matrix over sqrt(2): half the squared distance of two of them is ``1 - cos`` of the angle
    between, as for (cos, sin) of an image.
    """
    odds = torch.softmax(encoding.logits, dim=1)[..., None]
    said = pose_features(encoding.pose, shape)
    return {"content": encoding.content_mean, **{name: (odds * value).sum(1) for name, value in said.items()}}


def pose_features(pose: Pose3D, shape: NetworkShape) -> Reading:
    """Features (..., p) of what a network says of poses (...)."""
    known = {
        "rotation": so3.to_matrix(pose.quaternion).flatten(-2) / math.sqrt(2),
        "translation": pose.shift / shape.max_shift,
    }
    return {name: value for name, value in known.items() if name in shape.transforms}


def likeliest_pose(encoding: VolumeEncoding) -> Pose3D:
    """The likeliest hypothesis of every subtomogram, (n,), cut from the graph."""
    rows = torch.arange(len(encoding.logits), device=encoding.logits.device)
    return encoding.pose.detach()[rows, encoding.logits.argmax(dim=1)]


def changed_pose(pose: Pose3D, factor: str, shape: NetworkShape, generator: torch.Generator) -> Pose3D:
    """Poses (n,) with one of rotation, translation and contrast changed at random; other factors are no part of it."""
    n, device = len(pose), generator.device
    if factor == "rotation":
        axis = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator, device=device), dim=1)
        angle = TURN * torch.rand(n, 1, generator=generator, device=device)
        turned = so3.multiply(so3.from_rotation_vector(angle * axis), pose.quaternion)
        return replace(pose, quaternion=turned)
    uniform = 2 * torch.rand(n, 3, generator=generator, device=device) - 1
    if factor == "translation":
        limit = _WITHIN * shape.max_shift
        return replace(pose, shift=(pose.shift + SHIFT * shape.box * uniform).clamp(-limit, limit))
    if factor == "contrast":
        return replace(pose, gain=pose.gain * (LOG_GAIN * uniform[:, 0]).exp())
    return pose


# -- both -----------------------------------------------------------------------------------------------------------


def reading_sizes(card: ModelCard) -> dict[str, int]:
    """How many numbers a ``Reading`` has of the content and of each factor, for a network of this card."""
    if card.dimensions == 3:
        sizes = {"rotation": 9, "translation": 3}
        return {"content": card.content, **{name: sizes[name] for name in sizes if name in card.transforms}}
    chosen = choose(card.transforms, built_in(card.shape.max_shift))
    return {"content": card.content, **{t.name: t.features(t.identity(1)).shape[-1] for t in chosen}}
