"""What the microscope and the mask do to a drawn image."""

from __future__ import annotations

import torch
from torch import Tensor


def apply_ctf(images: Tensor, ctf: Tensor | None) -> Tensor:
    """Filter images by a contrast transfer function.

    Parameters
    ----------
    images : (n, b, b), or (n, h, b, b)
    ctf : (n, b, b // 2 + 1) on the grid of ``torch.fft.rfft2`` (rows in fftfreq order), one per particle, or None
        for images that no CTF changed

    Returns
    -------
    Filtered images of the same shape. The filter is periodic: the box must hold the particle and its halo.
    """
    if ctf is None:
        return images
    while ctf.ndim < images.ndim:
        ctf = ctf.unsqueeze(1)
    return torch.fft.irfft2(torch.fft.rfft2(images) * ctf, s=images.shape[-2:])


def rfft_weights(box: int, device: torch.device | str | None = None) -> Tensor:
    """How often each frequency of the rfft2 grid counts in a sum over the whole plane: (box // 2 + 1,) of 1 and 2.

    ``(weights * |rfft2(x)|^2).sum() / box^2`` is the sum of squares of ``x``.
    """
    weights = torch.full((box // 2 + 1,), 2.0, device=device)
    weights[0] = 1.0
    if box % 2 == 0:
        weights[-1] = 1.0
    return weights


def soft_circle(box: int, diameter: float, edge: float = 2.0, device: torch.device | str | None = None) -> Tensor:
    """Circular mask (box, box) of ``diameter`` pixel about floor(box / 2): 1 inside, 0 outside.

    The border is half a cosine wave ``edge`` pixel wide, inside the diameter.
    """
    axis = torch.arange(box, dtype=torch.float32, device=device) - box // 2
    radius = (axis[:, None] ** 2 + axis[None, :] ** 2).sqrt()
    ramp = ((diameter / 2 - radius) / edge).clamp(0.0, 1.0)
    return 0.5 - 0.5 * torch.cos(torch.pi * ramp)


def soft_sphere(box: int, radius: float, device: torch.device | str = "cpu", edge: float = 3.0) -> Tensor:
    """(box, box, box): 1 within ``radius`` voxels of floor(box / 2), falling to 0 over ``edge`` voxels."""
    axis = torch.arange(box, device=device, dtype=torch.float32) - box // 2
    distance = (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2).sqrt()
    return 0.5 + 0.5 * torch.cos(torch.pi * ((distance - radius) / edge).clamp(0, 1))
