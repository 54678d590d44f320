"""The trained network of the 3D benchmark on its own: one pass over the subtomograms, no search and no refinement."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cases import Run
from cases_3d import Case3D
from napari_harmony.analysis import metrics_3d
from napari_harmony.engine.adapt import groups_of
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.volumes.learning import network_samples
from napari_harmony.engine.volumes.prepare import Prepared, prepare
from napari_harmony.engine.volumes.seen import look
from napari_harmony.engine.work import finish
from napari_harmony.models import ContentMixture, HarmonyModel, VolumeNetwork, VolumeProposals
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.volumes import ArrayVolumes
from napari_harmony.particles.wedge import TiltRange, Wedge
from napari_harmony.transforms import Pose3D

#: Subtomograms per pass, and for how many of them the time is taken.
BATCH, TIMED = 128, 512


def seen(case: Case3D, seed: int, folder: Path) -> Run:
    """On the subtomograms that it was trained on; with its speed on the CPU, from volumes in memory."""
    model = HarmonyModel.load(folder)
    table = table_of(model, case.particles)
    volumes, wedge = case.particles.read(slice(None)), TiltRange(*case.protocol.tilt_range)
    speed = per_second(model, volumes, case.particles.pixel_size, wedge)
    return Run(
        "network",
        seed,
        table,
        extra={"per_second": speed},
        note="one pass of the network that harmony trained, no search",
    )


def held_out(case: Case3D, other: Case3D, seed: int, folder: Path) -> Run:
    """On other subtomograms of the same densities: of another data seed, so that noise and poses are others."""
    scores = metrics_3d.evaluate(table_of(HarmonyModel.load(folder), other.particles), other.truth)
    note = f"the same network on other subtomograms of the same densities, data seed {other.seed}"
    return Run("network-held-out", seed, extra=scores, note=note)


def zero_shot(case: Case3D, seed: int, folder: Path, together: bool) -> Run:
    """A model for any subtomograms, as it comes: classes from groups of its content codes, and poses of one pass.

    ``together``: not of each particle alone, but those on which the particles of a group agree by their marks.
    """
    model = HarmonyModel.load(folder)
    seen = finish(look(model, finish(prepare(case.particles, Settings(), torch.device("cpu")))))
    label = groups_of(seen.proposals.content_mean, case.classes, seed)
    poses = seen.proposals.best
    if together:
        poses = replace(poses, quaternion=finish(seen.agreed(label)))
    # lengths on the card mean nothing: the network sees the box, whatever it measures
    table = _table(poses, label.numpy(), case.particles.box / model.card.box)
    if together:
        return Run("bundled-agreed", seed, table, note="one pass, and what groups agree on; no search, nothing learned")
    return Run("bundled-network", seed, table, note="one pass of the bundled model, no search, nothing learned")


def table_of(model: HarmonyModel, particles: Particles) -> pd.DataFrame:
    """Class from the content code, pose of the likeliest hypothesis, origins in voxels of the particles."""
    proposals = proposed(model, finish(prepare(particles, Settings(), torch.device("cpu"))))
    assert model.mixture is not None
    classes = classes_of(proposals.content_mean, model.mixture)
    return _table(proposals.best, classes, model.card.pixel_size / particles.pixel_size)


def _table(poses: Pose3D, classes: np.ndarray, scale: float) -> pd.DataFrame:
    """Of poses (n,), and classes (n,) from 0; ``scale``: voxels of the particles per one of the network."""
    angles, origin = poses.to_relion()
    table = pd.DataFrame({"class_number": classes + 1})
    table[metrics_3d.ANGLES] = angles.numpy()
    table[metrics_3d.ORIGINS] = origin.numpy() * scale
    return table


def proposed(model: HarmonyModel, prepared: Prepared) -> VolumeProposals:
    """What the network says in one pass."""
    assert isinstance(model.network, VolumeNetwork)
    return model.network.propose(*network_samples(prepared, model.card.box), batch=BATCH)


def classes_of(content: torch.Tensor, mixture: ContentMixture) -> np.ndarray:
    """The likeliest component (n,) of each code (n, d)."""
    parts = torch.distributions.MultivariateNormal(mixture.means, mixture.covariances)
    odds: torch.Tensor = parts.log_prob(content[:, None]) + mixture.weights.log()
    return odds.argmax(1).numpy()


def per_second(model: HarmonyModel, volumes: np.ndarray, pixel_size: float, wedge: Wedge, count: int = TIMED) -> float:
    """Subtomograms per second on the CPU with torch's own number of threads.

    From volumes (n, box, box, box) in memory to contents and poses: what is not counted is reading files. Where there
    are fewer than ``count`` they come again.
    """
    taken = 0.0
    for start in range(-BATCH, count, BATCH):
        rows = np.arange(start, min(start + BATCH, count)) % len(volumes)
        table = pd.DataFrame(index=pd.RangeIndex(len(rows)))
        part = Particles(ArrayVolumes(volumes[rows]), table, pixel_size, wedge=wedge)
        before = time.perf_counter()
        proposed(model, finish(prepare(part, Settings(), torch.device("cpu"))))
        # the batch before the first is for what is loaded and laid out once
        taken += time.perf_counter() - before if start >= 0 else 0.0
    return count / taken
