"""Plain Harmony up to a checkpoint, then the same number of further steps with and without an added objective."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch

from napari_harmony.engine.learning import model_card, network_input
from napari_harmony.engine.recipes import recipe_for
from napari_harmony.engine.run import Run
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.train import TrainSettings, train
from napari_harmony.engine.train_state import TrainState, snapshot
from napari_harmony.models import ModelCard, PoseNetwork, build_network
from napari_harmony.objectives import Adam, SeedPoses
from napari_harmony.particles.dataset import Particles

T = TypeVar("T")


@dataclass(frozen=True)
class Start:
    """A training set with poses of the library's own search.

    Attributes
    ----------
    images, ctf : as ``train`` wants them; in the order of ``rows`` of the particles
    seeds : poses found
    card : of plain Harmony
    """

    images: torch.Tensor
    ctf: torch.Tensor
    rows: np.ndarray
    seeds: SeedPoses
    card: ModelCard


def searched(particles: Particles, settings: Settings) -> Start:
    """What a run has found when its training begins."""
    run = Run(particles, settings, None, False)
    usable, rows = run.usable(_end(run.read()))
    found = _end(run.discover(usable))
    images, ctf = network_input(usable)
    classes, best, box = len(found.sums), found.posterior.best(), images.shape[-1]
    card = model_card(usable.geometry, settings, box, classes, len(usable))
    weights = found.posterior.class_weights(classes)
    seeds = SeedPoses(-best.psi, -best.shift * (box / usable.geometry.box), best.weight, weights)
    return Start(images, ctf, rows, seeds, card)


def trained_until(start: Start, until: int, epochs: int) -> tuple[TrainState, PoseNetwork]:
    """Plain Harmony after ``until`` of ``epochs`` passes: what a training can be resumed from, and its network."""
    states: list[TrainState] = []
    work = train(
        start.images,
        start.ctf,
        card=start.card,
        settings=TrainSettings(epochs),
        seeds=start.seeds,
        on_epoch=states.append,
    )
    for _ in work:
        if len(states) == until:
            work.close()
            break
    network = build_network(start.card)
    network.load_state_dict(_network_part(states[-1]))
    return states[-1], network.eval()


def continued(
    start: Start, state: TrainState, epochs: int, additions: tuple[str, ...] = ()
) -> tuple[PoseNetwork, float]:
    """The rest of ``epochs`` passes from a state of plain Harmony, with objectives added; and seconds per step."""
    card = replace(start.card, additions=additions)
    settings = TrainSettings(epochs)
    work = train(
        start.images,
        start.ctf,
        card=card,
        settings=settings,
        seeds=start.seeds,
        resume=_with_objective(state, card, start),
    )
    steps, begin = 0, time.perf_counter()
    while True:
        try:
            next(work)
            steps += 1
        except StopIteration as stop:
            return stop.value, (time.perf_counter() - begin) / steps


def _with_objective(state: TrainState, card: ModelCard, start: Start) -> TrainState:
    """The state of a training without additions as one of a training with them: these begin afresh."""
    if not card.additions:
        return state
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(card.seed + 1)
        objective = recipe_for(card, True, len(start.images), TrainSettings.batch).objective
    network = build_network(card)
    optimiser = Adam([*network.parameters(), *objective.parameters()], 0.0)
    for parameter in objective.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    fresh = snapshot(state.epoch, network, optimiser, objective).tensors
    return TrainState(state.epoch, {**fresh, **state.tensors})


def _network_part(state: TrainState) -> dict[str, torch.Tensor]:
    return {n.removeprefix("network."): t for n, t in state.tensors.items() if n.startswith("network.")}


def _end(work: Generator[Any, None, T]) -> T:
    """The value that a generator of events returns."""
    while True:
        try:
            next(work)
        except StopIteration as stop:
            value: T = stop.value
            return value
