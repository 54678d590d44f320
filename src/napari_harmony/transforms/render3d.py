"""Drawing volumes under a pose and behind a missing wedge: one resampling, differentiable in volume and pose."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from napari_harmony.transforms.pose3d import Pose3D
from napari_harmony.transforms.render import bilinear_pairs, resize_axis

#: Voxels of zeros put around a volume before it is refined, so that opposite faces do not meet.
_PADDING = 4
#: Sampled positions held at once, over all volumes of a chunk: bounds the memory of a resampling without gradient.
_CHUNK_POINTS = 2**22
_AXES = (-3, -2, -1)


def render_volumes(volumes: Tensor, pose: Pose3D, coverage: Tensor | None = None, *, fast: bool = False) -> Tensor:
    """Volumes as they look under ``pose`` and, with a coverage, behind their missing wedge.

    Parameters
    ----------
    volumes : (n, b, b, b), axes z, y, x; or (1, b, b, b) to draw one volume under every pose
    pose : of shape (n,), or (n, h) to draw every volume h times
    coverage : (n, b, b, b // 2 + 1) as from ``Wedge.coverage``, or (1, ...) where all share one; None for no wedge
    fast : resampling method, see below

    Returns
    -------
    (n, b, b, b) or (n, h, b, b, b), on the device and in the precision of ``volumes``. Voxels whose origin lies
    outside the volume are taken from a background of 0, to which gain and offset apply as well.

    Notes
    -----
    The volume is refined twice by Fourier padding. ``fast=False`` puts a cubic B-spline through it, ``fast=True``
    weights it against the blur of linear interpolation and interpolates linearly. Against the analytic
    picture of blobs of 1.5 voxel standard deviation the largest error is 0.02 % and 2 % of the peak, white noise
    keeps 94 % and 96 % of its variance, and a volume of 32^3 takes about 40 ms and 4 ms of one CPU core.
    """
    box = volumes.shape[-1]
    refined = _coefficients(volumes, fast)
    hypotheses = pose.each(lambda field: field[:, None]) if len(pose.shape) == 1 else pose
    n, h = hypotheses.shape
    sample = _sample_linear if fast else _sample_spline
    per_chunk = max(1, _CHUNK_POINTS // (h * box**3))
    parts = []
    for start in range(0, n, per_chunk):
        at = 2 * (_origin_of_voxels(hypotheses[start : start + per_chunk], box) + _PADDING)
        source = refined if len(refined) == 1 else refined[start : start + per_chunk]
        parts.append(sample(source.expand(len(at), -1, -1, -1), at.to(volumes.dtype)))
    drawn = torch.cat(parts).reshape(*pose.shape, box, box, box)
    gain, offset = (field[..., None, None, None] for field in (pose.gain, pose.offset))
    drawn = (gain * drawn + offset).to(volumes.dtype)
    return drawn if coverage is None else apply_coverage(drawn, coverage)


def apply_coverage(volumes: Tensor, coverage: Tensor) -> Tensor:
    """Volumes with every Fourier voxel multiplied by its coverage.

    Parameters
    ----------
    volumes : (n, b, b, b) or (n, h, b, b, b), axes z, y, x
    coverage : (n, b, b, b // 2 + 1) or (1, b, b, b // 2 + 1), the grid of ``rfftn``, in the frame of the volumes

    Returns
    -------
    of the shape of ``volumes``
    """
    if volumes.ndim == coverage.ndim + 1:
        coverage = coverage[:, None]
    spectrum = torch.fft.rfftn(volumes, dim=_AXES) * coverage.to(volumes)
    return torch.fft.irfftn(spectrum, s=volumes.shape[-3:], dim=_AXES)


def _coefficients(volumes: Tensor, fast: bool) -> Tensor:
    """What is sampled, (n, 2 s, 2 s, 2 s) for padded volumes of edge s: refined, and freed of the kernel's own blur."""
    padded = functional.pad(volumes, (_PADDING,) * 6)
    size = 2 * padded.shape[-1]
    spectrum = torch.fft.fftn(padded, dim=_AXES)
    for axis in _AXES:
        spectrum = resize_axis(spectrum, axis, size)
    frequency = torch.fft.fftfreq(size, device=volumes.device, dtype=volumes.dtype)
    blur = torch.sinc(frequency) ** 2 if fast else (2 + torch.cos(2 * torch.pi * frequency)) / 3
    weights = 8 / (blur[:, None, None] * blur[:, None] * blur)  # eight times as many voxels share the values
    return torch.fft.ifftn(spectrum * weights, dim=_AXES).real


def _sample_linear(volumes: Tensor, at: Tensor) -> Tensor:
    """Linearly interpolated values of (k, s, s, s) volumes at voxel positions (k, ..., 3): (k, ...)."""
    # grid_sample wants [-1, 1] to run from the outer face of the first voxel to that of the last one
    grid = ((2 * at + 1) / volumes.shape[-1] - 1).reshape(len(at), 1, 1, -1, 3)
    values = functional.grid_sample(volumes[:, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return values.reshape(at.shape[:-1])


def _sample_spline(volumes: Tensor, at: Tensor) -> Tensor:
    """Like ``_sample_linear`` with cubic B-splines of the coefficients ``volumes``.

    The 64 taps are taken as eight linear look-ups between the taps, whose weights are all positive.
    """
    total = torch.zeros((), dtype=volumes.dtype, device=volumes.device)
    pairs = bilinear_pairs(at)
    for weight_z, at_z in pairs:
        for weight_y, at_y in pairs:
            for weight_x, at_x in pairs:
                weight = weight_x[..., 0] * weight_y[..., 1] * weight_z[..., 2]
                between = torch.stack([at_x[..., 0], at_y[..., 1], at_z[..., 2]], -1)
                total = total + weight * _sample_linear(volumes, between)
    return total


def _origin_of_voxels(pose: Pose3D, box: int) -> Tensor:
    """Where each voxel of the drawn volumes comes from: (..., b^3, 3), (x, y, z) in voxel of the canonical volume."""
    points = _grid_points(box, str(pose.shift.device)).to(pose.shift)
    # the inverse of a scaled rotation: its transpose, over the scale twice
    inverse = pose.matrix().transpose(-1, -2) * (-2 * pose.log_scale).exp()[..., None, None]
    moved = points - pose.shift[..., None, :]
    return moved @ inverse.transpose(-1, -2) + box // 2


@lru_cache(maxsize=8)
def _grid_points(box: int, device: str) -> Tensor:
    """(b^3, 3) positions (x, y, z) of all voxels, from the centre voxel."""
    axis = torch.arange(box, dtype=torch.float32, device=device) - box // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return torch.stack([x, y, z], -1).reshape(-1, 3)
