"""What a model holds of its classes, and where its network sees particles: to and from the particles' own grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from napari_harmony.engine.assembly import Findings
from napari_harmony.engine.discovery import Search, render_averages
from napari_harmony.engine.learning import content_mixture
from napari_harmony.engine.posteriors import Posterior, certain
from napari_harmony.engine.search import Templates
from napari_harmony.engine.steerable import SteerableBasis
from napari_harmony.errors import InputError
from napari_harmony.models import HarmonyModel, Proposals
from napari_harmony.transforms import Pose2D


def with_classes(model: HarmonyModel, box: int, findings: Findings) -> HarmonyModel:
    """The model with its classes: averages on its grid, and where each lies in content space.

    ``box`` is the edge in pixels of the grid that the particles of ``findings`` were worked on.
    """
    classes, label = len(findings.templates), findings.placed.label
    order = findings.order()
    number = np.empty(classes, dtype=np.int64)
    number[order] = np.arange(classes)
    images = render_averages(findings.basis, findings.templates.coefficients, box)
    spectrum = torch.fft.fft2(torch.fft.ifftshift(images, dim=(1, 2)), norm="ortho")
    size = model.card.box
    keep = torch.cat([torch.arange((size + 1) // 2), torch.arange(box - size // 2, box)]).to(images.device)
    cropped = torch.fft.ifft2(spectrum[:, keep][:, :, keep], norm="ortho").real
    templates = torch.fft.fftshift(cropped, dim=(1, 2))[torch.as_tensor(order, device=images.device)].cpu()
    card = replace(model.card, classes=classes)
    mixture = content_mixture(findings.content, number[label], classes)
    return HarmonyModel(model.network.cpu(), card, templates.float(), mixture)


def averages_of(model: HarmonyModel, search: Search, particles: str) -> tuple[torch.Tensor, float]:
    """The class averages (k, b, b) of a model, and their band on the grid of the particles that are searched.

    ``particles`` is what these are called in messages.

    Raises
    ------
    InputError : box and pixel size of the model do not fit the particles, or it has no classes
    """
    card, geometry = model.card, search.geometry
    mine, theirs = geometry.box * geometry.pixel_size, card.box * card.pixel_size
    if abs(mine / theirs - 1) > 0.01:
        raise InputError(
            f"{particles}: the box is {mine:.0f} A wide, the model was trained on "
            f"{theirs:.0f} A; rescale the particles to the model (--rescale), or train on this data."
        )
    if geometry.box < card.box:
        raise InputError(
            f"{particles}: the images are {geometry.box} pixels wide, the model works on {card.box}; "
            "rescale the particles to the model (--rescale), or train on this data."
        )
    if model.templates is None:
        raise InputError("The model holds no class averages: train it on a data set first.")
    return model.templates.to(search.device), search.problem.model_band(card.box)


def on_basis(averages: torch.Tensor, model: HarmonyModel, basis: SteerableBasis) -> Templates:
    """Class averages (k, b, b) of a model, on a basis of the particles' own grid."""
    spectrum = torch.fft.rfft2(torch.fft.ifftshift(averages, dim=(1, 2)), norm="ortho")
    fy, column = basis.band.fy, basis.band.column
    rows = torch.where(fy < 0, fy + averages.shape[1], fy).long()
    share = model.mixture.weights if model.mixture is not None else torch.ones(len(averages))
    coefficients = basis.analyse(spectrum[:, rows, column])
    return Templates(coefficients, torch.log(share.to(averages.device).clamp_min(1e-6)))


def proposed(proposals: Proposals, scale: float) -> Posterior:
    """The network's best hypotheses as a posterior without classes; ``scale``: working per network pixels."""
    best: Pose2D = proposals.best
    label = torch.zeros(len(best), dtype=torch.long, device=best.angle.device)
    return certain(-best.angle, -best.shift * scale, label)
