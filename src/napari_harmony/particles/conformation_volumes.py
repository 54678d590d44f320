"""Simulated subtomograms of a particle with moving parts, and their truth.

A subtomogram is ``wedge * (contrast * density in its pose + white noise)``, the density being that of ``moving_body``,
drawn exactly in its pose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from napari_harmony.particles import projection
from napari_harmony.particles.conformations import Conformations, beads_of, draw_factors
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.euler import relion_to_matrix
from napari_harmony.particles.moving_body import draw_volumes
from napari_harmony.particles.simulate_volumes import random_angles, see_through
from napari_harmony.particles.volumes import ArrayVolumes
from napari_harmony.particles.wedge import TiltRange

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Volumes drawn at once; bounds memory, has no influence on the result.
_BATCH = 32
_ANGLES, _ORIGINS = ["rot", "tilt", "psi"], ["origin_x", "origin_y", "origin_z"]


def simulate_conformation_volumes(
    *,
    count: int = 600,
    box: int = 32,
    voxel_size: float = 10.0,
    kinds: int = 1,
    snr: float = 0.5,
    shift: float = 1.0,
    contrast: float = 0.0,
    tilt_range: tuple[float, float] | None = (-60.0, 60.0),
    seed: int = 0,
) -> Conformations:
    """Simulate subtomograms of a particle with moving parts, in uniformly distributed orientations.

    Parameters
    ----------
    count : number of subtomograms
    box : edge in voxels; the particle grows with it
    voxel_size : angstrom
    kinds : number of different cores, 1 to 3, drawn uniformly; the moving parts are the same on all
    snr : mean variance over the box of the signal behind the wedge, over the variance of the noise behind it; ``inf``:
        no noise, grey values as drawn
    shift : standard deviation of the origins in voxels, per axis
    contrast : half the range of the natural logarithm of the gain
    tilt_range : degrees of the first and the last tilt about y; None for no missing wedge
    seed : of everything random; the same seed gives the same data set

    Raises
    ------
    ValueError : there are not so many kinds
    """
    generator = np.random.default_rng(seed)
    truth = draw_factors(count, kinds, generator)
    truth[_ANGLES] = random_angles(count, generator)
    truth[_ORIGINS] = generator.normal(0, shift, (count, 3))
    truth["contrast"] = np.exp(generator.uniform(-contrast, contrast, count))
    volumes = _draw_posed(truth, box)
    wedge = None if tilt_range is None else TiltRange(*tilt_range)
    strength = see_through(wedge, volumes, snr, generator)
    table = pd.DataFrame(index=pd.RangeIndex(count))
    return Conformations(Particles(ArrayVolumes(volumes), table, voxel_size, wedge=wedge), truth, strength)


def _draw_posed(truth: pd.DataFrame, box: int) -> NDArray[np.float32]:
    """Noise-free volumes (n, box, box, box) of all particles in their poses."""
    volumes = np.empty((len(truth), box, box, box), np.float32)
    for part in projection.batches(len(truth), _BATCH):
        rows = truth.iloc[part]
        matrices = torch.from_numpy(relion_to_matrix(rows[_ANGLES].to_numpy())).float()
        origins = torch.from_numpy(rows[_ORIGINS].to_numpy(np.float32, copy=True))
        drawn = draw_volumes(beads_of(rows, box).posed(matrices, origins), box).numpy()
        volumes[part] = drawn * rows["contrast"].to_numpy(np.float32)[:, None, None, None]
    return volumes


def sample_conformation_volumes(count: int = 200, seed: int = 0) -> Conformations:
    """The sample data set: one kind of particle with moving parts, 32 voxels of 10 angstrom, +-60 degrees, SNR 0.5."""
    return simulate_conformation_volumes(count=count, seed=seed)
