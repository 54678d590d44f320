"""Checks of adaptive independence: the setting of the publication on particles, and Harmony's own network.

Rules (a) to (f) are of the free-form setting: a code that should be the transformation may not tell of the content.
The rules for independent Gaussians and for resuming are tests (``tests/objectives/test_independence.py``).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from checks import Medians, Part, Record, Rule, run_part
from independence_images import STEPS, album, contents, train_pairs
from independence_library import measure_library
from independence_measures import measure, plateau
from napari_harmony.objectives.independence import AdversarialIndependence, Controls

NONE, CRITIC, FIXED, ADAPTIVE, FROM_ONE = "none", "critic only", "fixed KL 0.3", "adaptive", "adaptive from 1"
PLAIN, ADDED = "harmony", "harmony + independence"
TRAINED_ON, FRESH = 5000, 4000
DEFAULTS = Controls()
ALLOWED, CHANCE = DEFAULTS.allowed, 1 / 3


@dataclass(frozen=True)
class Mode:
    """A way to train: with which constants, and whether the critics do anything."""

    penalised: bool
    controls: Controls


MODES = {
    NONE: Mode(False, replace(DEFAULTS, rate=0.0)),
    CRITIC: Mode(True, replace(DEFAULTS, rate=0.0)),
    FIXED: Mode(False, replace(DEFAULTS, rate=0.0, gamma=0.3)),
    ADAPTIVE: Mode(True, DEFAULTS),
    FROM_ONE: Mode(True, replace(DEFAULTS, gamma=1.0)),
}


def measure_seed(seed: int) -> Iterable[Record]:
    """All modes with one seed."""
    data, scale = contents(TRAINED_ON, seed)
    fresh, _ = contents(FRESH, 1000 + seed, scale)
    images = album(data, seed)
    for name, mode in MODES.items():
        torch.manual_seed(seed)
        core = AdversarialIndependence(8, 8, mode.controls)
        began = time.process_time()
        trained = train_pairs(images, core, penalised=mode.penalised, seed=seed)
        seconds = time.process_time() - began
        yield {
            "mode": name,
            "gamma": trained.gamma[-1],
            "lambda": trained.multiplier[-1],
            "plateau": plateau(trained.gamma),
            "milliseconds": 1e3 * seconds / STEPS,
            **measure(trained.network, fresh, seed),
        }
    for name, additions in ((PLAIN, ()), (ADDED, ("independence",))):
        yield {"mode": name, **measure_library(seed, additions)}


def _reconstructs(medians: Medians) -> bool:
    """Whether fixed KL, where it leaves as much information or more, draws worse."""
    compared = medians(FIXED, "nats") >= medians(ADAPTIVE, "nats")
    return compared and medians(ADAPTIVE, "reconstruction") <= medians(FIXED, "reconstruction")


PART = Part(
    name="independence",
    title="Adaptive independence",
    about=(
        "Images of three kinds of particles with moving parts (32 px, SNR 2, rotation ±1 rad, shift ±7 % of the box, "
        "log gain ±0.3), 2500 steps of 64 pairs of one content. Two codes of 8 numbers: one of the first image, which "
        "is free to hold anything and is penalised, one of the second image, for the content. *Nats* and *share*: what "
        "a critic made from scratch on 12,000 fresh pairs reads between the codes on 4,000 others. *Kind*, "
        "*conformation*, *angle*: accuracy (chance 0.33) and R² of trees on the penalised code. *Swap*: error of the "
        "content of one particle drawn with the first code of another, against the truth; both errors are sums over "
        "pixels, and the images vary by 30. Rows of *harmony* are Harmony's own network with poses as a search finds "
        "them, 400 steps, SNR 0.5: there the penalised code is the content, *share* and *nats* are its leakage against "
        "the true rotation, shift and contrast on 2,000 fresh images, *kind* and *conformation* what it should keep; "
        "*reconstruction* is the loss."
    ),
    columns=(
        ("reconstruction", "reconstruction"),
        ("swap", "swap"),
        ("nats", "nats"),
        ("share", "share"),
        ("kind", "kind"),
        ("conformation", "conformation R²"),
        ("angle", "angle R²"),
        ("gamma", "last gamma"),
        ("plateau", "gamma, last quarter, max / min"),
        ("milliseconds", "CPU ms per step"),
    ),
    rules=(
        Rule(
            "a",
            "Information of a fresh critic at most 2 × 0.125 nats, and at most 0.7 × that of critic only",
            lambda m: f"{m(ADAPTIVE, 'nats'):.3f}; critic only {m(CRITIC, 'nats'):.3f}",
            lambda m: m(ADAPTIVE, "nats") <= min(2 * ALLOWED, 0.7 * m(CRITIC, "nats")),
        ),
        Rule(
            "b",
            "Kind from the penalised code within 0.1 of chance",
            lambda m: f"{m(ADAPTIVE, 'kind'):.3f}",
            lambda m: m(ADAPTIVE, "kind") <= CHANCE + 0.1,
        ),
        Rule(
            "c",
            "Swap error at most 0.65 × that of none",
            lambda m: f"{m(ADAPTIVE, 'swap') / m(NONE, 'swap'):.2f} ×",
            lambda m: m(ADAPTIVE, "swap") <= 0.65 * m(NONE, "swap"),
        ),
        Rule(
            "d",
            "Reconstruction not worse than that of a fixed KL weight that leaves as much information or more",
            lambda m: (
                f"{m(ADAPTIVE, 'reconstruction'):.2f} at {m(ADAPTIVE, 'nats'):.3f} nats; fixed "
                f"{m(FIXED, 'reconstruction'):.2f} at {m(FIXED, 'nats'):.3f}"
            ),
            _reconstructs,
        ),
        Rule(
            "e",
            "Gamma settles: in the last quarter its range is below 2 ×, started from 0.001 and from 1",
            lambda m: f"{m(ADAPTIVE, 'plateau'):.2f} × and {m(FROM_ONE, 'plateau'):.2f} ×",
            lambda m: m(ADAPTIVE, "plateau") < 2 and m(FROM_ONE, "plateau") < 2,
        ),
        Rule(
            "f",
            "The transformation code keeps the angle: R² at least 0.4",
            lambda m: f"{m(ADAPTIVE, 'angle'):.2f}",
            lambda m: m(ADAPTIVE, "angle") >= 0.4,
        ),
    ),
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    run_part(PART, measure_seed)
