"""Networks of the particle with moving parts, and how its three factors lie in their content codes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from napari_harmony import Harmony
from napari_harmony.analysis.navigation import Navigation, Whitening
from napari_harmony.engine import train as training
from napari_harmony.engine.recipes import Recipe, recipe_for
from napari_harmony.models import HarmonyModel, ModelCard, PoseNetwork
from napari_harmony.objectives import ContentPrior, Objective, SeedPoses, Weight
from napari_harmony.particles.conformations import FACTORS, Conformations
from napari_harmony.particles.moving_body import body, draw_pictures
from napari_harmony.results import Result

BOX = 32
#: Grey values of ``moving_body`` times this have noise of variance 1 at SNR 0.5.
STRENGTH = 2.35


@dataclass(frozen=True)
class Product:
    """A run as a user would start it, and how long it took: wall time, and time of the processor."""

    model: HarmonyModel
    result: Result
    wall: float
    cpu: float


def run_product(made: Conformations, seed: int) -> Product:
    """``Harmony(classes=1)`` with all other settings as they are."""
    wall, cpu = time.perf_counter(), time.process_time()
    harmony = Harmony(classes=1, seed=seed, device="cpu")
    result = harmony.fit_align(made.particles)
    return Product(harmony.model_, result, time.perf_counter() - wall, time.process_time() - cpu)


def train_on_poses(
    made: Conformations, epochs: int, prior: float | None = None, seed: int = 0, error: tuple[float, float] = (3.0, 0.2)
) -> PoseNetwork:
    """A network trained from poses as good as those that the search finds, without the search.

    Parameters
    ----------
    epochs : passes over the particles
    prior : weight of the content prior, None for the recipe's own
    error : of the poses, standard deviation in degrees and in pixels
    """
    particles, truth = made.particles, made.truth
    generator = np.random.default_rng(seed)
    psi = np.radians(truth["psi"].to_numpy() + generator.normal(0, error[0], len(truth)))
    origin = truth[["origin_x", "origin_y"]].to_numpy() + generator.normal(0, error[1], (len(truth), 2))
    as_tensor = lambda values: torch.as_tensor(values, dtype=torch.float32)  # noqa: E731
    seeds = SeedPoses(as_tensor(-psi), as_tensor(-origin), torch.ones(len(truth)))
    card = ModelCard(
        box=particles.box,
        pixel_size=particles.pixel_size,
        original_box=particles.box,
        transforms=("rotation", "translation", "contrast"),
        content=8,
        hypotheses=16,
        mask_diameter=0.9 * particles.box * particles.pixel_size,
        max_shift=0.16 * particles.box * particles.pixel_size,
        seed=seed,
    )

    def recipe(*arguments: object) -> Recipe:
        usual = recipe_for(*arguments)  # type: ignore[arg-type]
        terms = [_with_prior(term, prior) for term in usual.objective.terms]
        return replace(usual, objective=Objective(tuple(terms)))

    images = torch.from_numpy(particles.read(range(len(particles))))
    with patch.object(training, "recipe_for", recipe):
        work = training.train(images, None, card=card, settings=training.TrainSettings(epochs), seeds=seeds)
        while True:
            try:
                next(work)
            except StopIteration as stop:
                return stop.value


def _with_prior(term: object, prior: float | None) -> object:
    if prior is None or not isinstance(term, ContentPrior):
        return term
    return replace(term, weight=Weight(prior, term.weight.start, term.weight.full))


def codes_of(network: PoseNetwork, made: Conformations) -> NDArray[np.float64]:
    """Content posterior means (n, d) of all particles."""
    images = torch.from_numpy(made.particles.read(range(len(made.particles))))
    return network.propose(images).content_mean.double().numpy()


@dataclass(frozen=True)
class Alignment:
    """How directions lie to the true factors: each value (factors,).

    Attributes
    ----------
    explained : share of the factor that a line through all content codes explains
    held : the same of the part of content space that the directions span
    cosine : with the direction that belongs to the factor, in whitened content space
    """

    explained: NDArray[np.float64]
    held: NDArray[np.float64]
    cosine: NDArray[np.float64]


def alignment(navigation: Navigation, codes: NDArray, factors: NDArray) -> Alignment:
    """Directions against factors (n, 3); a factor's direction is its regression on the whitened codes (n, d).

    Where there are fewer directions than factors, the factors left over have a cosine of 0.
    """
    white = Whitening.of(np.asarray(codes, dtype=np.float64))
    flat = (codes - white.centre) @ white.forward.T
    standard = (factors - factors.mean(axis=0)) / factors.std(axis=0)
    slopes = np.linalg.lstsq(flat, standard, rcond=None)[0].T
    ways = navigation.basis @ white.forward.T
    inside = slopes @ ways.T
    cosines = np.abs(inside) / np.linalg.norm(inside, axis=1, keepdims=True)
    rows, columns = linear_sum_assignment(-cosines)
    found = np.zeros(len(slopes))
    found[rows] = cosines[rows, columns]
    return Alignment((slopes**2).sum(axis=1), (inside**2).sum(axis=1), found)


def factors_of(made: Conformations) -> NDArray[np.float64]:
    """(n, 3)"""
    return made.truth[list(FACTORS)].to_numpy()


def drawn(factors: Tensor, kind: int = 0) -> Tensor:
    """The true decoder: factors (n, 3) to pictures (n, 32, 32) in units of the noise at SNR 0.5."""
    return STRENGTH * draw_pictures(body(factors, torch.full((len(factors),), kind), BOX), BOX)


def posed(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A change of pose that is injected: pictures (n, b, b) and amounts (n,) of unit variance to pictures."""
    from napari_harmony.transforms import Pose2D, render

    def turn(pictures: Tensor, amount: Tensor) -> Tensor:
        return render(pictures, Pose2D.of(0.08 * amount, torch.zeros(len(amount), 2)))

    def move(pictures: Tensor, amount: Tensor) -> Tensor:
        return render(pictures, Pose2D.of(0 * amount, torch.stack([0.5 * amount, 0 * amount], dim=1)))

    def brighten(pictures: Tensor, amount: Tensor) -> Tensor:
        return pictures * (0.15 * amount).exp()[:, None, None]

    return {"rotation": turn, "shift x": move, "contrast": brighten}[name]
