"""Exhaustive matching of images to known templates: the oracle, and the alignment of averages to the truth.

Templates are slices of the true densities at every whole degree, so nothing is interpolated. A coarse search over
templates, angles and whole-pixel shifts is refined around the best few candidates to a degree and an eighth of a
pixel, then by a parabola in the angle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from napari_harmony.particles import projection
from napari_harmony.particles.ctf import CtfParameters, ctf_at

COARSE_STEP = 6  # degrees
CANDIDATES = 3
MAX_SHIFT = 10  # pixels


@dataclass(frozen=True)
class Templates:
    """Spectra (k, 360, p) of k templates at psi 0..359 degrees on the frequencies of ``grid``."""

    spectra: torch.Tensor
    grid: projection.SliceGrid

    @property
    def box(self) -> int:
        """Edge of the images in pixels."""
        return self.grid.box


@dataclass(frozen=True)
class Match:
    """Best pose of every image: ``template`` (n,), ``psi`` (n,) degrees, ``origin`` (n, 2) pixels, ``score`` (n,)."""

    template: np.ndarray
    psi: np.ndarray
    origin: np.ndarray
    score: np.ndarray


def make_templates(views: list[tuple[np.ndarray, float, float, float]], box: int) -> Templates:
    """Templates of (density, rot, tilt, factor): the projection along that view, times the factor."""
    grid = projection.slice_grid(box)
    psi = np.arange(360.0)
    spectra, prepared = [], {}
    for density, rot, tilt, factor in views:
        if id(density) not in prepared:
            prepared = {id(density): projection.fourier_volume(density)}  # one at a time: they are large
        matrices = projection.euler_matrices(rot, tilt, psi)
        spectra.append(factor * projection.slices(prepared[id(density)], matrices, grid))
    return Templates(torch.stack(spectra), grid)


def spectra_of(images: np.ndarray, grid: projection.SliceGrid) -> torch.Tensor:
    """Spectra (n, p) of images (n, box, box) centred on pixel floor(box / 2)."""
    centred = torch.fft.ifftshift(torch.as_tensor(np.ascontiguousarray(images, dtype=np.float32)), dim=(-2, -1))
    return torch.fft.rfft2(centred).flatten(1)[:, grid.index]


def _weights(grid: projection.SliceGrid) -> torch.Tensor:
    """How often each frequency of the half plane counts in the full plane, (p,), over the number of pixels."""
    edge = (grid.frequency_x == 0) | (grid.frequency_x == 0.5)
    return torch.where(edge, 1.0, 2.0) / grid.box**2


def match(
    images: np.ndarray,
    templates: Templates,
    *,
    ctf: CtfParameters | None = None,
    pixel_size: float = 1.0,
    normalised: bool = False,
    allowed: np.ndarray | None = None,
) -> Match:
    """Find the template, angle and shift that explain each image best.

    Parameters
    ----------
    images : (n, box, box)
    templates : in the units of the images, unless ``normalised``
    ctf : of the images, None for none; pixel_size : angstrom, for the CTF
    normalised : score by the correlation coefficient; else by the log likelihood of white noise of variance 1
    allowed : (n, k) bool: which templates each image may match; None for all
    """
    parts = [
        _match_batch(
            spectra_of(images[part], templates.grid),
            templates,
            _transfer(ctf, part, templates.grid, pixel_size),
            normalised,
            None if allowed is None else torch.as_tensor(allowed[part]),
        )
        for part in projection.batches(len(images), 50)
    ]
    return Match(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("template", "psi", "origin", "score")))


def _transfer(
    ctf: CtfParameters | None, part: slice, grid: projection.SliceGrid, pixel_size: float
) -> torch.Tensor | None:
    if ctf is None:
        return None
    index = np.arange(len(ctf))[part]
    return ctf_at(ctf.subset(index), grid.frequency_x / pixel_size, grid.frequency_y / pixel_size)


def _score(cross: torch.Tensor, power: torch.Tensor, energy: torch.Tensor, normalised: bool) -> torch.Tensor:
    """Score from the inner product of image and template and their squared norms."""
    return cross / (power * energy).sqrt().clamp_min(1e-20) if normalised else cross - 0.5 * power


def _match_batch(
    spectra: torch.Tensor,
    templates: Templates,
    transfer: torch.Tensor | None,
    normalised: bool,
    allowed: torch.Tensor | None,
) -> Match:
    weights = _weights(templates.grid)
    filtered = spectra if transfer is None else spectra * transfer
    square = torch.ones_like(weights)[None] if transfer is None else transfer**2
    energy = (spectra.abs() ** 2 * weights).sum(dim=1)
    score, shift = _coarse(filtered, square * weights, energy, templates, normalised)
    if allowed is not None:
        score = score.masked_fill(~allowed[:, :, None], -torch.inf)
    flat = score.flatten(1)
    rows = torch.arange(len(spectra))
    best = Match(*(np.zeros(0) for _ in range(4)))
    for rank, choice in enumerate(flat.topk(CANDIDATES, dim=1).indices.T):
        k, angle = choice // score.shape[2], choice % score.shape[2]
        start = shift[rows, k, angle]
        found = _refine(filtered, square * weights, energy, templates, k, angle * COARSE_STEP, start, normalised)
        if allowed is not None:  # a candidate of a template that is not allowed must not win
            found.score[~allowed[rows, k].numpy()] = -np.inf
        if rank == 0:
            best = found
        better = found.score > best.score
        for field in ("template", "psi", "origin", "score"):
            getattr(best, field)[better] = getattr(found, field)[better]
    return best


def _coarse(
    filtered: torch.Tensor, square: torch.Tensor, energy: torch.Tensor, templates: Templates, normalised: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Best score (n, k, angles) over whole-pixel shifts, and where, as origins (n, k, angles, 2)."""
    box, grid = templates.box, templates.grid
    coarse = templates.spectra[:, ::COARSE_STEP]
    count, angles = coarse.shape[:2]
    power = torch.einsum("np,kap->nka", square.expand(len(filtered), -1), coarse.abs() ** 2)
    reach = min(MAX_SHIFT, box // 2 - 1)
    steps = torch.arange(-reach, reach + 1)
    score = torch.empty(len(filtered), count, angles)
    origin = torch.empty(len(filtered), count, angles, 2)
    for k in range(count):
        full = torch.zeros(len(filtered) * angles, box * (box // 2 + 1), dtype=torch.complex64)
        full[:, grid.index] = (filtered[:, None] * coarse[k].conj()).flatten(0, 1)
        cross = torch.fft.irfft2(full.reshape(-1, box, box // 2 + 1), s=(box, box))
        window = cross[:, steps % box][:, :, steps % box].reshape(len(filtered), angles, -1)
        value, index = window.max(dim=2)
        score[:, k] = _score(value, power[:, k], energy[:, None], normalised)
        # A peak at +d says that the image lies at +d, so its origin is -d.
        origin[:, k] = -torch.stack([steps[index % len(steps)], steps[index // len(steps)]], dim=-1).float()
    return score, origin


def _refine(
    filtered: torch.Tensor,
    square: torch.Tensor,
    energy: torch.Tensor,
    templates: Templates,
    k: torch.Tensor,
    angle: torch.Tensor,
    origin: torch.Tensor,
    normalised: bool,
) -> Match:
    """Search angles within a coarse step at one degree, with shifts on a grid that is refined twice."""
    degrees = (angle[:, None] + torch.arange(-COARSE_STEP, COARSE_STEP + 1)) % 360
    chosen = templates.spectra[k[:, None], degrees]  # (n, d, p)
    power = (chosen.abs() ** 2 * square[:, None]).sum(dim=2)
    product = filtered[:, None] * chosen.conj() * _weights(templates.grid)
    centre = origin[:, None].expand(-1, degrees.shape[1], -1)
    for step in (0.5, 0.125):
        cross, centre = _shift_grid(product, centre, step, templates.grid)
    score = _score(cross, power, energy[:, None], normalised)
    top = score[:, 1:-1].argmax(dim=1) + 1
    rows = torch.arange(len(filtered))
    left, middle, right = (score[rows, top + offset] for offset in (-1, 0, 1))
    bend = left - 2 * middle + right
    peak = torch.where(bend < 0, 0.5 * (left - right) / bend, torch.zeros_like(bend)).clamp(-1, 1)
    psi = (degrees[rows, top] + peak) % 360
    return Match(k.numpy().copy(), psi.double().numpy(), centre[rows, top].double().numpy(), middle.double().numpy())


def _shift_grid(
    product: torch.Tensor, centre: torch.Tensor, step: float, grid: projection.SliceGrid
) -> tuple[torch.Tensor, torch.Tensor]:
    """Best value (n, d) of the cross-correlation on 5 x 5 origins around ``centre`` (n, d, 2), and where."""
    offsets = step * torch.arange(-2, 3).float()
    # cross(t) = Re sum product * exp(-2 pi i k t): undo the phase ramp of an origin t.
    ramp = -2 * torch.pi * (centre[..., :1] * grid.frequency_x + centre[..., 1:] * grid.frequency_y)
    turned = product * torch.polar(torch.ones_like(ramp), ramp)
    best, where = torch.full(product.shape[:2], -torch.inf), centre.clone()
    for dy in offsets:
        for dx in offsets:
            angle = -2 * torch.pi * (dx * grid.frequency_x + dy * grid.frequency_y)
            value = turned.real @ torch.cos(angle) - turned.imag @ torch.sin(angle)
            better = value > best
            best = torch.where(better, value, best)
            where = torch.where(better[..., None], centre + torch.stack([dx, dy]), where)
    return best, where


def render(templates: Templates, found: Match) -> np.ndarray:
    """The matched templates (n, box, box) at the poses found, angles to the nearest degree."""
    grid = templates.grid
    spectra = templates.spectra[
        torch.as_tensor(found.template), torch.as_tensor(np.rint(found.psi).astype(np.int64) % 360)
    ]
    origin = torch.as_tensor(found.origin, dtype=torch.float32)
    phase = 2 * torch.pi * (origin[:, :1] * grid.frequency_x + origin[:, 1:] * grid.frequency_y)
    return projection.images(spectra * torch.polar(torch.ones_like(phase), phase), grid, templates.box).numpy()
