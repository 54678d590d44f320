"""Harmony's own network with and without adaptive independence: what leaks into the content, and what it costs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import cross_val_score

from napari_harmony.analysis.disentanglement import Variable, angles, explained, leakage_of, numbers
from napari_harmony.engine.train import TrainSettings, train
from napari_harmony.models import ModelCard
from napari_harmony.objectives import SeedPoses
from napari_harmony.particles.conformations import FACTORS, Conformations, simulate_conformations
from napari_harmony.transforms import Pose2D

COUNT, BOX, SNR = 2000, 32, 0.5
STEPS, BATCH = 400, 64
#: Errors of the poses that a search would find: degrees, pixels per axis.
ANGLE_ERROR, SHIFT_ERROR = 2.0, 0.25
CARD = ModelCard(
    box=BOX,
    pixel_size=5.0,
    original_box=BOX,
    transforms=("rotation", "translation", "contrast"),
    content=8,
    hypotheses=16,
    mask_diameter=140.0,
    max_shift=25.0,
)


def particles(seed: int) -> Conformations:
    """Three kinds of particles with moving parts, turned over the whole circle."""
    return simulate_conformations(count=COUNT, box=BOX, kinds=3, snr=SNR, seed=seed)


def images_of(data: Conformations) -> torch.Tensor:
    """All images (n, b, b)."""
    return torch.from_numpy(np.array(data.particles.read(np.arange(COUNT)), dtype=np.float32))


def seeds_of(data: Conformations, seed: int) -> SeedPoses:
    """The true poses with the errors of a search."""
    generator = torch.Generator().manual_seed(seed)
    truth = data.truth
    pose = Pose2D.from_relion(
        torch.tensor(truth["psi"].to_numpy(np.float32)),
        torch.tensor(truth[["origin_x", "origin_y"]].to_numpy(np.float32)),
    )
    angle = pose.angle + math.radians(ANGLE_ERROR) * torch.randn(COUNT, generator=generator)
    shift = pose.shift + SHIFT_ERROR * torch.randn(COUNT, 2, generator=generator)
    return SeedPoses(angle, shift, torch.ones(COUNT))


def measure_library(seed: int, additions: tuple[str, ...]) -> dict[str, float | None]:
    """Train on one set; leakage against true transformations, and what the content tells of itself, on another."""
    data, fresh = particles(seed), particles(1000 + seed)
    card = replace(CARD, seed=seed, additions=additions)
    portions = max(1, round(COUNT / BATCH))
    settings = TrainSettings(epochs=math.ceil(STEPS / portions), batch=BATCH)
    work = train(images_of(data), None, card=card, settings=settings, seeds=seeds_of(data, seed))
    last: list[dict[str, float]] = []
    while True:
        try:
            step = next(work)
        except StopIteration as stop:
            network = stop.value
            break
        last = [*last[1 - portions :], step.parts]
    content = network.propose(images_of(fresh)).content_mean.numpy()
    return {
        "reconstruction": float(np.mean([parts["reconstruction"] for parts in last])),
        "gamma": last[-1].get("independence.gamma"),
        **_judged(content, fresh),
    }


def _judged(content: np.ndarray, fresh: Conformations) -> dict[str, float]:
    truth, code = fresh.truth, numbers("content", content)
    poses: tuple[Variable, ...] = (
        angles("rotation", truth["psi"]),
        numbers("shift", truth[["origin_x", "origin_y"]]),
        numbers("contrast", np.log(truth["contrast"])),
    )
    leaks = leakage_of(content, poses)
    assert leaks is not None
    return {
        "share": leaks.overall.share,
        "nats": leaks.overall.nats,
        **{f"share of {name}": leak.share for name, leak in leaks.factors.items()},
        "kind": float(
            cross_val_score(
                ExtraTreesClassifier(40, min_samples_leaf=3, random_state=0), content, truth["kind"], cv=3
            ).mean()
        ),
        "conformation": float(np.mean([explained(code, numbers(name, truth[name])) for name in FACTORS])),
    }
