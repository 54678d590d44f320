"""One training with or without the closed loop on particles with moving parts, and what is measured of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from napari_harmony.analysis import frc
from napari_harmony.analysis.disentanglement import content_units, dci, mig, numbers
from napari_harmony.engine.train import TrainSettings, train
from napari_harmony.models import HarmonyModel, ModelCard
from napari_harmony.models.canonical import canonical
from napari_harmony.models.diffusion import decoder_of
from napari_harmony.objectives import DiffusionFeedback, LoopSettings, SeedPoses, Weight, added
from napari_harmony.particles.conformations import FACTORS, Conformations, simulate_conformations
from napari_harmony.transforms import Pose2D

#: Particles to learn from and to be measured on, pixels, and batches.
LEARNT, FRESH, BOX, STEPS = 2000, 500, 32, 800
#: Errors of the poses that trainings are given, as a search leaves them: degree, pixel.
ANGLE_ERROR, SHIFT_ERROR = 2.0, 0.2
#: Frames of a traversal, from minus to plus so many standard deviations of the codes.
FRAMES, REACH = 21, 1.5


@dataclass(frozen=True)
class Set:
    """Particles with moving parts: those learnt from come first.

    Attributes
    ----------
    truth : with what is true of all
    images : (n, b, b)
    seeds : of those learnt from
    """

    truth: Conformations
    images: torch.Tensor
    seeds: SeedPoses

    @classmethod
    def of(cls, seed: int) -> Set:
        """One kind, 32 px, SNR 0.5, no CTF, psi over the whole circle; true poses with errors as of a search."""
        truth = simulate_conformations(count=LEARNT + FRESH, box=BOX, kinds=1, snr=0.5, seed=seed)
        images = torch.as_tensor(truth.particles.images.read(np.arange(LEARNT + FRESH)))
        table = truth.truth.iloc[:LEARNT]
        psi, origin = (
            torch.tensor(table[c].to_numpy(), dtype=torch.float32) for c in ("psi", ["origin_x", "origin_y"])
        )
        pose, generator = Pose2D.from_relion(psi, origin), torch.Generator().manual_seed(seed)
        angle = pose.angle + np.deg2rad(ANGLE_ERROR) * torch.randn(LEARNT, generator=generator)
        shift = pose.shift + SHIFT_ERROR * torch.randn(LEARNT, 2, generator=generator)
        return cls(truth, images, SeedPoses(angle, shift, torch.ones(LEARNT)))


def trained(data: Set, seed: int, loop: LoopSettings | None) -> tuple[HarmonyModel, dict[str, float]]:
    """A model with a closed loop, or plain Harmony for None; milliseconds per step, and what its last steps logged."""
    card = ModelCard(
        box=BOX,
        pixel_size=data.truth.particles.pixel_size,
        original_box=BOX,
        transforms=("rotation", "translation", "contrast"),
        content=8,
        hypotheses=8,
        mask_diameter=0.9 * BOX * data.truth.particles.pixel_size,
        max_shift=5.0 * data.truth.particles.pixel_size,
        seed=seed,
        additions=() if loop is None else ("diffusion",),
    )
    made = added.MAKERS["diffusion"]
    if loop is not None:
        added.MAKERS["diffusion"] = lambda strength, card: DiffusionFeedback(card, Weight(strength), loop)
    try:
        return _run(data, card)
    finally:
        added.MAKERS["diffusion"] = made


def _run(data: Set, card: ModelCard) -> tuple[HarmonyModel, dict[str, float]]:
    settings = TrainSettings(epochs=round(STEPS / round(LEARNT / TrainSettings.batch)))
    steps = train(data.images[:LEARNT], None, card=card, settings=settings, seeds=data.seeds)
    began, logged = time.process_time(), []
    for step in steps:
        logged.append(step.parts)
    milliseconds = 1e3 * (time.process_time() - began) / len(logged)
    told = {name: float(np.mean([parts[name] for parts in logged[-50:] if name in parts])) for name in logged[-1]}
    return HarmonyModel(step.network, card), {"milliseconds": milliseconds, **told}


def measured(model: HarmonyModel, data: Set, semantic: bool = False) -> dict[str, Any]:
    """Pictures of fresh particles against their clean ones, scores of the code, and how smooth traversals are.

    ``semantic`` takes the diffusion decoder's own code in place of the content code.
    """
    fresh, learnt = np.arange(LEARNT, LEARNT + FRESH), np.arange(LEARNT)
    codes = _codes(model, data.images[fresh], semantic)
    found = {f"vae_{name}": value for name, value in _closeness(model, data, fresh, codes, False).items()}
    drawn = found
    if sharp := decoder_of(model.network) is not None:
        drawn = {f"sharp_{name}": value for name, value in _closeness(model, data, fresh, codes, True).items()}
    units = content_units(_codes(model, data.images[learnt], semantic))
    factors = [numbers(name, data.truth.truth[name].to_numpy()[learnt]) for name in FACTORS]
    scores = dci(units, factors)
    again = np.array_equal(canonical(model, codes[:8], sharp), canonical(model, codes[:8], sharp))
    return {
        **found,
        **drawn,
        "mig": float(mig(units, factors).mean()),
        "disentanglement": scores.disentanglement,
        "informativeness": scores.informativeness,
        "same": float(again),
        "jump": _jump(model, codes, sharp),
    }


@torch.inference_mode()
def _codes(model: HarmonyModel, images: torch.Tensor, semantic: bool) -> np.ndarray:
    """(n, d) means of the content code, or of the diffusion decoder's own."""
    parts, decoder = [], decoder_of(model.network)
    for part in images.split(500):
        said = model.network.encode(part)
        parts.append(decoder.read(said.pooled)[0] if semantic and decoder is not None else said.content_mean)
    return torch.cat(parts).numpy()


def _closeness(model: HarmonyModel, data: Set, rows: np.ndarray, codes: np.ndarray, sharp: bool) -> dict[str, float]:
    """How close the pictures of codes are to the clean ones, within the mask.

    ``shell``: cycles per box where the mean Fourier ring correlation falls below 0.5; ``missing``: squared error as a
    share of how much clean pictures differ from their mean. The poses of the training fix the frame: no turn or shift
    is left free that would have to be taken off first; one factor of the grey values is, for particles differ in it.
    """
    mask = frc.soft_mask(BOX, 0.9 * BOX)
    drawn, clean = (mask * pictures for pictures in (canonical(model, codes, sharp), data.truth.clean(rows)))
    drawn = drawn * ((drawn * clean).sum() / np.square(drawn).sum())
    curve = frc.ring_correlation(drawn, clean).mean(0)
    missing = np.square(drawn - clean).sum() / np.square(clean - clean.mean(0)).sum()
    return {"shell": BOX / frc.resolution(curve, frc.TRUTH, 1.0, BOX), "missing": float(missing)}


def _jump(model: HarmonyModel, codes: np.ndarray, sharp: bool) -> float:
    """Largest change between neighbouring frames over the median one, the worst of three principal traversals."""
    centre = codes.mean(0)
    _, spread, axes = np.linalg.svd(codes - centre, full_matrices=False)
    worst = 0.0
    for length, axis in zip(spread[:3] / np.sqrt(len(codes)), axes, strict=False):
        places = centre + np.linspace(-REACH, REACH, FRAMES)[:, None] * length * axis
        changes = np.linalg.norm(np.diff(canonical(model, places, sharp), axis=0).reshape(FRAMES - 1, -1), axis=1)
        worst = max(worst, float(changes.max() / np.median(changes)))
    return worst
