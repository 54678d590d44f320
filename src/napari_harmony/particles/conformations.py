"""Simulated particles with moving parts, and their truth: pictures of a particle that is never twice the same.

Every particle has a conformation of its own: a hinge, an occupancy and a slide, each uniform in [-1, 1] and independent
of the others and of the pose. Pictures are drawn exactly in their pose (``moving_body``); the CTF acts on a box twice
as large that is cropped afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from napari_harmony.particles import projection
from napari_harmony.particles.ctf import CtfParameters, ctf_at
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.euler import relion_to_matrix
from napari_harmony.particles.images import ArrayImages
from napari_harmony.particles.moving_body import FACTORS, KINDS, Beads, body, draw_pictures, draw_volumes
from napari_harmony.particles.simulate import CtfRange

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["FACTORS", "Conformations", "draw_factors", "sample_conformations", "simulate_conformations"]

#: Pictures drawn at once; bounds memory, has no influence on the result.
_BATCH = 256


@dataclass(frozen=True)
class Conformations:
    """A simulated data set with continuous heterogeneity.

    Attributes
    ----------
    particles : what a user would open, images (n, box, box) or volumes (n, box, box, box); the noise in them has
        variance 1 and mean 0
    truth : one row per particle: ``kind`` (0-based), ``hinge``, ``occupancy``, ``slide`` (each in [-1, 1]), the pose in
        RELION's convention (``psi`` in degrees, ``origin_x``, ``origin_y`` in pixels; for volumes ``rot``, ``tilt`` and
        ``origin_z`` too), ``contrast``, and ``defocus`` (angstrom) where the images have a CTF
    strength : what the grey values of ``moving_body`` were multiplied by, so that the noise has variance 1
    """

    particles: Particles
    truth: pd.DataFrame
    strength: float

    def clean(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Pictures (n, box, box) or volumes (n, box, box, box) of some particles in their canonical pose.

        They have no noise, no CTF, no missing wedge and contrast 1, and are in units of the noise.
        """
        chosen = self.truth.iloc[np.atleast_1d(np.asarray(rows))]
        draw = draw_pictures if self.particles.dimensions == 2 else draw_volumes
        pictures = np.zeros((len(chosen), *self.particles.images.shape[1:]), np.float32)
        for part in projection.batches(len(chosen), _BATCH):
            pictures[part] = draw(beads_of(chosen.iloc[part], self.particles.box), self.particles.box).numpy()
        return np.float32(self.strength) * pictures


def beads_of(truth: pd.DataFrame, box: int) -> Beads:
    """The particles of a truth table in their canonical pose."""
    factors = torch.from_numpy(truth[list(FACTORS)].to_numpy(np.float32, copy=True))
    return body(factors, torch.from_numpy(truth["kind"].to_numpy(np.int64, copy=True)), box)


def draw_factors(count: int, kinds: int, generator: np.random.Generator) -> pd.DataFrame:
    """Kinds and conformations of ``count`` particles, uniform and independent.

    Raises
    ------
    ValueError : there are not so many kinds
    """
    if not 1 <= kinds <= KINDS:
        raise ValueError(f"kinds must be a number from 1 to {KINDS}, not {kinds}")
    kind = generator.integers(0, kinds, count)
    return pd.DataFrame({"kind": kind, **{name: generator.uniform(-1, 1, count) for name in FACTORS}})


def simulate_conformations(
    *,
    count: int = 5000,
    box: int = 32,
    pixel_size: float = 5.0,
    kinds: int = 1,
    snr: float = 0.5,
    rotation: float = 180.0,
    shift: float = 1.0,
    contrast: float = 0.2,
    ctf: bool | CtfRange = False,
    seed: int = 0,
) -> Conformations:
    """Simulate pictures of a particle with moving parts.

    Parameters
    ----------
    count : number of particles
    box : edge of the images in pixels; the particle grows with it
    pixel_size : angstrom
    kinds : number of different cores, 1 to 3, drawn uniformly; the moving parts are the same on all
    snr : mean variance over the box of the (CTF-filtered) signal over the variance of the white noise; ``inf``: no
        noise, grey values as drawn
    rotation : half the range of psi in degrees; 180 for the whole circle
    shift : standard deviation of the origins in pixels, per axis
    contrast : half the range of the natural logarithm of the gain
    ctf : what CTF parameters are drawn from; True for the usual range, False for no CTF
    seed : of everything random; the same seed gives the same data set

    Raises
    ------
    ValueError : there are not so many kinds
    """
    generator = np.random.default_rng(seed)
    truth = draw_factors(count, kinds, generator)
    truth["psi"] = generator.uniform(-rotation, rotation, count)
    truth["origin_x"], truth["origin_y"] = generator.normal(0, shift, (2, count))
    truth["contrast"] = np.exp(generator.uniform(-contrast, contrast, count))
    parameters = (CtfRange() if ctf is True else ctf).sample(count, generator) if ctf else None
    if parameters is not None:
        truth["defocus"] = 0.5 * (parameters.defocus_u + parameters.defocus_v)
    signal = _draw_posed(truth, box, pixel_size, parameters)
    strength = 1.0
    if np.isfinite(snr):
        strength = float(np.sqrt(snr / signal.var(axis=(1, 2), dtype=np.float64).mean()))
        signal *= np.float32(strength)
        signal += generator.standard_normal(signal.shape, dtype=np.float32)
    table = pd.DataFrame(index=pd.RangeIndex(count))
    return Conformations(Particles(ArrayImages(signal), table, pixel_size, ctf=parameters), truth, strength)


def _draw_posed(truth: pd.DataFrame, box: int, pixel_size: float, ctf: CtfParameters | None) -> NDArray[np.float32]:
    """Noise-free images (n, box, box) of all particles in their poses."""
    signal = np.empty((len(truth), box, box), np.float32)
    drawn = box if ctf is None else 2 * box
    for part in projection.batches(len(truth), _BATCH):
        rows = truth.iloc[part]
        angles = np.stack([np.zeros(len(rows)), np.zeros(len(rows)), rows["psi"]], axis=1)
        matrices = torch.from_numpy(relion_to_matrix(angles)).float()
        origins = torch.from_numpy(rows[["origin_x", "origin_y"]].assign(origin_z=0.0).to_numpy(np.float32, copy=True))
        beads = beads_of(rows, box).posed(matrices, origins)
        pictures = draw_pictures(beads, drawn)
        if ctf is not None:
            pictures = _with_ctf(pictures, ctf.subset(np.arange(len(truth))[part]), pixel_size, box)
        signal[part] = pictures.numpy() * rows["contrast"].to_numpy(np.float32)[:, None, None]
    return signal


def _with_ctf(pictures: torch.Tensor, ctf: CtfParameters, pixel_size: float, box: int) -> torch.Tensor:
    """Pictures (n, 2 box, 2 box) seen through the microscope, the middle (n, box, box) of them."""
    large = pictures.shape[-1]
    y, x = torch.meshgrid(torch.fft.fftfreq(large), torch.fft.rfftfreq(large), indexing="ij")
    seen = torch.fft.irfft2(torch.fft.rfft2(pictures) * ctf_at(ctf, x / pixel_size, y / pixel_size), s=(large, large))
    start = large // 2 - box // 2
    return seen[:, start : start + box, start : start + box]


def sample_conformations(count: int = 2000, seed: int = 0) -> Conformations:
    """The sample data set: one kind of particle with moving parts, 32 px of 5 angstrom, no CTF, SNR 0.5."""
    return simulate_conformations(count=count, seed=seed)
