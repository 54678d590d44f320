"""Small subtomograms for tests of the engine, drawn by the simulator, which shares no code with the engine."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from engine_data import run
from numpy.typing import NDArray

from napari_harmony.engine import api
from napari_harmony.engine.events import Done
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.volumes.prepare import Prepared, prepare
from napari_harmony.engine.volumes.search import Posterior
from napari_harmony.engine.work import finish
from napari_harmony.particles.simulate import sample_volumes
from napari_harmony.particles.simulate_volumes import SimulatedVolumes, simulate_subtomograms
from napari_harmony.transforms import so3


@lru_cache
def densities(box: int = 24) -> list[NDArray[np.float32]]:
    """Three contents without symmetry."""
    return sample_volumes(box)[:3]


@lru_cache
def subtomograms(count: int = 48, box: int = 24, snr: float = 0.5, seed: int = 1) -> SimulatedVolumes:
    """Three contents behind a wedge of 60 degrees."""
    return simulate_subtomograms(densities(box), count, box, snr=snr, shift_sigma=1.0, seed=seed)


@lru_cache
def prepared(count: int = 48, snr: float = 0.5) -> Prepared:
    """The same, ready for the engine."""
    return finish(prepare(subtomograms(count, snr=snr).particles, Settings(), torch.device("cpu")))


@lru_cache
def example() -> Done:
    """A run on the 48 subtomograms, once for all tests; they have to ask for brief training."""
    return run(api.align(subtomograms().particles, Settings(classes=3, preset="fast")))


def true_poses(truth: pd.DataFrame) -> Posterior:
    """A posterior that is sure of the truth."""
    n, label = len(truth), torch.as_tensor(truth["content"].to_numpy()).long()
    rotation = so3.from_zyz(torch.as_tensor(truth[["rot", "tilt", "psi"]].to_numpy(), dtype=torch.float32))
    shift = torch.as_tensor(truth[["origin_x", "origin_y", "origin_z"]].to_numpy(), dtype=torch.float32)
    zeros = torch.zeros(n)
    return Posterior(
        torch.arange(n), label, rotation, shift, torch.ones(n), zeros, torch.zeros(n, int(label.max()) + 1)
    )


def rotation_errors(rotation: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Degrees (n,) between rotations and true ones, after the one turn of the frame that suits most of them."""
    frame = so3.multiply(rotation, so3.inverse(truth))
    apart = torch.rad2deg(so3.angle_between(frame[:, None], frame[None]))
    return apart[int(apart.median(dim=1).values.argmin())]
