"""The diffusion decoder: content codes to sharp canonical pictures or volumes. monai is loaded where one is made."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_harmony.models.network import LOG_VARIANCE_BOUND, NetworkShape
from napari_harmony.models.schedule import NoiseSchedule
from napari_harmony.transforms import soft_circle, soft_sphere

#: Levels of noise, and how many of them are visited when drawing.
LEVELS, DRAWING_STEPS = 200, 10
#: Pixels along an edge that are put into channels, so that the network works on a grid half as fine.
PATCH = 2
#: Features of the sketch that the content code alone lays out on the coarse grid.
_SKETCH = 8
#: Features of the U-Net per level; two levels, so the patched grid is halved once.
_FEATURES = {2: (16, 32), 3: (16, 32)}
#: How much a batch moves the size of pictures that the network reckons with.
_PACE = 0.05


class DiffusionDecoder(nn.Module):
    """Draws canonical pictures by taking noise away from them, step by step, told the content.

    A conditional diffusion model that predicts the clean picture (Ho et al. 2020; Song et al. 2021; conditioned on a
    learned code as in Diff-AE, Preechakul et al. 2022). The network is monai's U-Net; the content is added to its time
    embedding and lays out a coarse sketch that it is given beside the noised picture, for a convolution alone does not
    know where it is. It works on pictures of about unit size: ``size`` is their root mean square in units of the noise.

    Parameters
    ----------
    shape : of the network that it belongs to
    dimensions : 2 for pictures, 3 for volumes
    width : features of the encoder that the semantic code is read from
    """

    def __init__(self, shape: NetworkShape, dimensions: int, width: int) -> None:
        super().__init__()
        from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

        self.shape, self.dimensions = shape, dimensions
        # the grid must be patched, then halved
        self.coarse = -(-shape.box // (2 * PATCH))
        channels, features = PATCH**dimensions, _FEATURES[dimensions]
        self.unet = DiffusionModelUNet(
            spatial_dims=dimensions,
            in_channels=channels + _SKETCH,
            out_channels=channels,
            num_res_blocks=1,
            channels=features,
            attention_levels=(False,) * len(features),
            norm_num_groups=8,
            num_head_channels=features[-1],
            num_class_embeds=2,  # makes room for an embedding, which is replaced by one of contents
        )
        told = shape.content + 1
        embedded = 4 * features[0]
        embedding = nn.Sequential(nn.Linear(told, embedded), nn.SiLU(), nn.Linear(embedded, embedded))
        self.unet.add_module("class_embedding", embedding)
        self.sketch = nn.Sequential(nn.Linear(told, 128), nn.SiLU(), nn.Linear(128, _SKETCH * self.coarse**dimensions))
        self.semantic = nn.Sequential(nn.Linear(width, 128), nn.SiLU(), nn.Linear(128, 2 * shape.content))
        self.schedule = NoiseSchedule.cosine(LEVELS)
        self.size: Tensor
        self.mask: Tensor
        self.register_buffer("size", torch.zeros(()))
        flat = dimensions == 2
        mask = soft_circle(shape.box, shape.mask_diameter) if flat else soft_sphere(shape.box, shape.mask_diameter / 2)
        self.register_buffer("mask", mask, persistent=False)

    def read(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (n, d) of the semantic code from the encoder's features (n, f)."""
        mean, log_variance = self.semantic(pooled).float().chunk(2, dim=1)
        return mean, LOG_VARIANCE_BOUND * torch.tanh(log_variance / LOG_VARIANCE_BOUND)

    @torch.no_grad()
    def adapt(self, pictures: Tensor) -> None:
        """Learn how large pictures (n, b, b[, b]) are, in units of the noise."""
        size = pictures.square().mean().sqrt().clamp_min(1e-6)
        self.size.copy_(torch.where(self.size > 0, self.size + _PACE * (size - self.size), size))

    def noised(self, pictures: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        """Pictures of about unit size with the noise of their ``level`` (n,)."""
        kept = self.schedule.kept.to(pictures)[level].view(-1, *(1,) * self.dimensions)
        return kept.sqrt() * pictures / self.size + (1 - kept).sqrt() * noise

    def denoise(self, noised: Tensor, level: Tensor, content: Tensor, known: Tensor | None = None) -> Tensor:
        """The clean pictures to expect.

        Parameters
        ----------
        noised : (n, b, b) or (n, b, b, b), as from ``noised``
        level : (n,) whole numbers
        content : (n, d)
        known : (n,) bool, whether the content is told; None where it always is

        Returns
        -------
        of the shape of ``noised``, masked, in units of the noise
        """
        told = torch.ones_like(level, dtype=torch.bool) if known is None else known
        condition = torch.cat([content, torch.ones_like(content[:, :1])], 1) * told[:, None]
        sketch = self.sketch(condition).view(len(content), _SKETCH, *(self.coarse,) * self.dimensions)
        seen = torch.cat([self._to_patches(noised), functional.interpolate(sketch, scale_factor=2.0)], 1)
        clean = self._from_patches(self.unet(seen, level, class_labels=condition))
        return clean.float() * self.mask * self.size

    @torch.no_grad()
    def draw(self, content: Tensor, steps: int = DRAWING_STEPS, seed: int = 0) -> Tensor:
        """Canonical pictures (n, b, b) or volumes (n, b, b, b) of contents (n, d), in units of the noise.

        Deterministic sampling (DDIM: Song et al. 2021) from one fixed noise picture for all contents, so that the same
        content gives the same picture, and pictures change smoothly with the content.

        Parameters
        ----------
        steps : levels visited, 1 to ``LEVELS``
        seed : of the noise picture
        """
        from monai.networks.schedulers import DDIMScheduler

        scheduler = DDIMScheduler(LEVELS, schedule="cosine", clip_sample=False, prediction_type="sample")
        scheduler.set_timesteps(steps)
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(self.mask.shape, generator=generator).to(content)
        noised = start.expand(len(content), *self.mask.shape)
        clean = torch.zeros_like(noised)
        # every stride-th level from the last one down: the scheduler takes away one stride at a time
        for number in range(steps):
            at = LEVELS - 1 - number * (LEVELS // steps)
            level = torch.full((len(content),), at, device=content.device)
            clean = self.denoise(noised, level, content)
            noised = scheduler.step(clean / self.size.clamp_min(1e-6), at, noised)[0]
        return clean

    def _to_patches(self, pictures: Tensor) -> Tensor:
        """(n, 2^D, g, g[, g]) from (n, b, b[, b]), padded by zeros to twice an even grid."""
        full = 2 * PATCH * self.coarse
        padded = functional.pad(pictures, (0, full - self.shape.box) * self.dimensions)
        return torch.stack([padded[corner] for corner in self._corners()], 1)

    def _from_patches(self, patches: Tensor) -> Tensor:
        """The inverse of ``_to_patches``."""
        pictures = patches.new_zeros(len(patches), *(2 * PATCH * self.coarse,) * self.dimensions)
        for patch, corner in zip(patches.unbind(1), self._corners(), strict=True):
            pictures[corner] = patch
        return pictures[(slice(None), *(slice(self.shape.box),) * self.dimensions)]

    def _corners(self) -> list[tuple[slice, ...]]:
        """Which pixels of a batch stand at each place of their patches."""
        places = product(range(PATCH), repeat=self.dimensions)
        return [(slice(None), *(slice(at, None, PATCH) for at in place)) for place in places]


def decoder_of(network: nn.Module) -> DiffusionDecoder | None:
    """The diffusion decoder of a network; None where it was trained without."""
    decoder = getattr(network, "sharp", None)
    return decoder if isinstance(decoder, DiffusionDecoder) else None
