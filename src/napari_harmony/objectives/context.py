"""A batch of images, seen twice by the network: what the terms of an objective look at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from napari_harmony.models.encoding import Encoding
from napari_harmony.models.network import PoseNetwork
from napari_harmony.objectives.data import Branch, ImageBranch
from napari_harmony.objectives.forward import (
    GAIN_SPREAD,
    Competition,
    Fit,
    all_hypotheses,
    fit,
    seeded_hypotheses,
)
from napari_harmony.objectives.perturbation import Redrawn, changeable, changed_values, likeliest, read_images
from napari_harmony.objectives.precision import mixed_precision
from napari_harmony.objectives.seeds import SeedPoses
from napari_harmony.objectives.share import Share
from napari_harmony.objectives.views import Views
from napari_harmony.transforms import Pose2D, apply_ctf, map_of, render


@dataclass(frozen=True)
class Context(Views):
    """A batch of images in both branches; attributes as in ``Views``."""

    network: PoseNetwork
    original: ImageBranch
    copy: ImageBranch

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

    def _fit(self, branch: ImageBranch, picture: Tensor) -> Fit:
        if isinstance(self.batch.seeds, SeedPoses):
            hypotheses = seeded_hypotheses(branch, self.batch.seeds, self.network.transformations)
        else:
            hypotheses = all_hypotheses(branch, self.network.transformations)
        contrast = any(t.name == "contrast" for t in self.network.transformations)
        return fit(self.batch, picture, hypotheses, Competition(self.temperature, self.kept, contrast))

    def rehearse(self, shift_spread: float) -> tuple[Pose2D, Tensor, Encoding]:
        """The batch's pictures under new poses, the CTFs of other particles, and new noise."""
        with torch.no_grad():
            pose, images = self._rehearsed(shift_spread)
        with mixed_precision(images.device):
            return pose, self.original.content.detach(), self.network.encode(images)

    def _rehearsed(self, shift_spread: float) -> tuple[Pose2D, Tensor]:
        """New poses (n,) and images (n, b, b)."""
        batch, share = self.batch, self.batch.share
        chance: dict[str, Any] = {"generator": self.generator, "device": batch.images.device}
        names = {t.name for t in self.network.transformations}
        random = share.of(lambda n: torch.randn(n, 3, **chance))
        turn = share.of(lambda n: torch.rand(n, **chance)) * 2 * torch.pi
        limit = self.network.shape.max_shift
        pose = Pose2D.of(
            turn * ("rotation" in names),
            (random[:, :2] * shift_spread * limit).clamp(-limit, limit) * ("translation" in names),
        )
        gain = (GAIN_SPREAD * random[:, 2]).exp() if "contrast" in names else torch.ones_like(turn)
        others = batch.ctf_of_others(self.generator)
        drawn = render(self.pictures[0].detach(), pose, fast=True)
        clean = apply_ctf(drawn, others) * gain[:, None, None]
        return pose, clean + share.drawing()(clean.shape, **chance)

    @property
    def factors(self) -> tuple[str, ...]:
        """Transformations, and the defocus where particles differ in it."""
        ctf = self.batch.ctf
        differ = ctf is not None and not torch.equal(ctf, ctf[:1].expand_as(ctf))
        return (*changeable(self.network.transformations), *(("defocus",) if differ else ()))

    def redraw(self, factor: str, rows: slice) -> Redrawn:
        """As in ``Views``. Another defocus is that of another particle: the batch knows no parameters of CTFs."""
        transformations, encoding = self.network.transformations, self.original.encoding[rows]
        values, ctf = likeliest(encoding), self.batch.ctf
        changed = next((t for t in transformations if t.name == factor), None)
        if changed is not None:
            values = changed_values(values, changed, self.network.shape.box, self.generator)
        elif ctf is not None:
            ctf = ctf.roll(1 + self._random_below(len(ctf) - 1), dims=0)
        ungraded = {name: value for name, value in values.items() if name != "contrast"}
        with mixed_precision(encoding.content_mean.device):
            pictures = self.network.decode(encoding.content_mean)
        images = apply_ctf(
            render(pictures, map_of(ungraded, transformations), fast=True), None if ctf is None else ctf[rows]
        )
        if "contrast" in values:
            # gain and offset are those of the recorded image, as in the fit
            gain, offset = values["contrast"][..., None].unbind(1)
            images = gain[..., None] * images + offset[..., None]
        noise = torch.randn(images.shape, generator=self.generator, device=images.device)
        with mixed_precision(images.device):
            said = self.network.encode(images + noise)
        drawn = {t.name: t.features(values[t.name]) for t in transformations}
        return Redrawn({"content": encoding.content_mean, **drawn}, read_images(said, transformations))

    def _random_below(self, count: int) -> int:
        """A whole number from 0 to ``count - 1``; 0 where there is none."""
        return int(torch.randint(max(1, count), (1,), generator=self.generator, device=self.generator.device))


def make_branches(
    network: PoseNetwork, images: Tensor, applied: Pose2D, generator: torch.Generator, share: Share | None = None
) -> tuple[ImageBranch, ImageBranch]:
    """Encode ``images`` (n, b, b) and their copies transformed by ``applied`` (n,), together in one pass.

    ``share`` says which part of a batch they are; None for all of it.
    """
    n = len(images)
    with torch.no_grad():
        seen = torch.cat([images, render(images, applied, fast=True)])
    with mixed_precision(images.device):
        encoding = network.encode(seen)
    content = encoding.sample(generator, share.drawing_pairs() if share else torch.randn)
    identity = Pose2D.identity(n, device=images.device)
    return (
        Branch(seen[:n], identity, encoding[:n], content[:n]),
        Branch(seen[n:], applied, encoding[n:], content[n:]),
    )
