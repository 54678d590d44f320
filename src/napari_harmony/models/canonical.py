"""Canonical pictures and volumes of content codes, by the decoder that every model has or by the sharp one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_harmony.errors import InputError
from napari_harmony.models.diffusion import DRAWING_STEPS, LEVELS, decoder_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from napari_harmony.models.model import HarmonyModel

#: Voxels drawn at once; bounds memory.
_CHUNK = 2**18


def draws_sharp(model: HarmonyModel) -> bool:
    """Whether the model has a diffusion decoder, that is, was trained with the closed loop."""
    return decoder_of(model.network) is not None


@torch.inference_mode()
def canonical(
    model: HarmonyModel, content: ArrayLike, sharp: bool = False, steps: int = DRAWING_STEPS, seed: int = 0
) -> NDArray[np.float32]:
    """What particles of these contents look like, unposed: no noise, no CTF, no missing wedge.

    Parameters
    ----------
    content : (n, d) content codes
    sharp : False draws with the decoder, in one pass; True with the diffusion decoder, step by step from one fixed
        noise picture, so that the same content always gives the same picture
    steps : of the diffusion decoder, 1 to 200; the time grows with them
    seed : of its noise picture

    Returns
    -------
    (n, box, box) or (n, box, box, box) on the network's grid (``model.card.pixel_size`` angstrom), in units of the
    noise of the images that it was trained on

    Raises
    ------
    InputError : the codes have another number of dimensions, or the model has no diffusion decoder
    """
    card, decoder = model.card, decoder_of(model.network)
    codes = torch.as_tensor(np.asarray(content, dtype=np.float32))
    if codes.ndim != 2 or codes.shape[1] != card.content:
        raise InputError(f"content: its shape is {tuple(codes.shape)}, the model wants (n, {card.content}).")
    if sharp and decoder is None:
        raise InputError("sharp: this model has no diffusion decoder; train one with 'diffusion'.")
    if not 1 <= steps <= LEVELS:
        raise InputError(f"steps is {steps}: give a number from 1 to {LEVELS}.")
    model.network.eval()
    drawn = np.zeros((len(codes), *(card.box,) * card.dimensions), np.float32)
    chunk = max(1, _CHUNK // card.box**card.dimensions)
    for start in range(0, len(codes), chunk):
        part = codes[start : start + chunk].to(model.network.device)
        pictures = decoder.draw(part, steps, seed) if sharp and decoder is not None else model.network.decode(part)
        drawn[start : start + len(part)] = pictures.float().cpu().numpy()
    return drawn
