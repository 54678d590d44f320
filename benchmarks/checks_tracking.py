"""Whether the content-tracking score, which needs no truth, ranks networks as a score with the truth does."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from checks import Medians, Part, Record, Rule, run_part
from napari_harmony.analysis.disentanglement import content_tracking, content_units, frames_along, mig, numbers
from napari_harmony.models import PoseNetwork
from napari_harmony.particles.conformations import FACTORS, simulate_conformations
from navigation_models import codes_of, factors_of, train_on_poses

#: Weights of the content prior, of which 0.1 is Harmony's own.
PRIORS = (0.01, 0.1, 1.0)
COUNT, EPOCHS = 2000, 40


def mode(prior: float) -> str:
    """What the record of a weight is called."""
    return f"content prior {prior:g}"


def measure(seed: int) -> Iterator[Record]:
    """A network for every weight of the prior."""
    made = simulate_conformations(count=COUNT, seed=seed)
    for prior in PRIORS:
        network = train_on_poses(made, EPOCHS, prior, seed)
        codes = codes_of(network, made)
        true = [numbers(name, column) for name, column in zip(FACTORS, factors_of(made).T, strict=True)]
        units = content_units(codes)
        gaps = mig(units, true) if units else np.zeros(1)
        yield {
            "mode": mode(prior),
            "score": axes_score(network, codes, seed),
            "mig": float(np.mean(gaps)),
            "used": len(units),
        }


def axes_score(network: PoseNetwork, codes: NDArray, seed: int) -> float:
    """The score of the axes of the code itself."""
    anchors = codes[np.random.default_rng(seed).permutation(len(codes))[:24]]

    def decode(z: NDArray[np.float32]) -> NDArray:
        with torch.inference_mode():
            return network.decode(torch.from_numpy(z)).numpy()

    return content_tracking(frames_along(anchors, np.diag(codes.std(axis=0)), decode)).score


def pairs(m: Medians) -> tuple[list[float], list[float]]:
    """Score and MIG of every network."""
    scores = [value for prior in PRIORS for value in m.all(mode(prior), "score")]
    return scores, [value for prior in PRIORS for value in m.all(mode(prior), "mig")]


def correlation(m: Medians) -> float:
    """Spearman's rank correlation over all networks, NaN for fewer than 8."""
    scores, gaps = pairs(m)
    return float(spearmanr(scores, gaps).statistic) if len(scores) >= 8 else math.nan


PART = Part(
    name="tracking",
    title="The content-tracking score against MIG",
    about=f"Networks trained on {COUNT} pictures of the particle with moving parts at SNR 0.5, {EPOCHS} passes, from "
    "poses with errors of 3 degrees and 0.2 pixel, with other weights of the content prior. *score* is of the axes of "
    "the content code, without any truth; MIG is against hinge, occupancy and slide.",
    columns=(("score", "score"), ("mig", "MIG"), ("used", "dimensions in use")),
    rules=(
        Rule(
            "iii",
            "Spearman's correlation of score and MIG at least 0.8 over at least 8 networks",
            lambda m: f"{correlation(m):.3f} over {len(pairs(m)[0])}",
            lambda m: correlation(m) >= 0.8,
        ),
    ),
)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_part(PART, measure)
