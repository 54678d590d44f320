"""What the trainings of both networks share: steps, the state they go on from, the log, and the model that ships."""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch

from napari_harmony.engine.shared_norm import shared_norms
from napari_harmony.engine.team import Team
from napari_harmony.engine.train_state import TrainState, restore, snapshot
from napari_harmony.models import HarmonyModel, ModelCard
from napari_harmony.objectives import Adam, Objective
from pretraining.lesson import Taught

#: From the seed of one process to that of the next.
APART = 1_000_003
N = TypeVar("N", bound=torch.nn.Module)


class Course(Protocol):
    """What decides the weights, as far as every training needs it; a dataclass of plain values."""

    @property
    def steps(self) -> int:
        """Batches in all."""

    @property
    def seed(self) -> int:
        """Of every random choice."""

    @property
    def learning_rate(self) -> float:
        """At its peak."""

    @property
    def processes(self) -> int:
        """How many look at a batch each, of particles of their own, in every step."""


@dataclass(frozen=True)
class Schedule:
    """How the learning goes on.

    Attributes
    ----------
    rise : steps until the learning rate is at its peak
    rest : factor of the learning rate that stays at the end
    frozen : share of the training after which the normalisation is that of a finished network
    """

    rise: int
    rest: float
    frozen: float

    def rate(self, progress: float, done: int) -> float:
        """Factor of the learning rate: a short rise, then half a cosine."""
        return min(1.0, (done + 1) / self.rise) * (0.5 * (1 + math.cos(math.pi * progress)) + self.rest)


@dataclass(frozen=True)
class Step:
    """One batch was learned."""

    done: int
    taught: Taught


class Pretraining(ABC, Generic[N]):
    """A training and its state in ``folder``, from which it goes on when it is made again.

    ``name`` is what its files are called; ``make`` gives a fresh network. ``seed`` is that of the particles which this
    process looks at; the first one looks at what a process alone would.
    """

    name: str
    schedule: Schedule

    def __init__(self, course: Course, make: Callable[[], N], folder: Path, device: str, team: Team) -> None:
        self.folder, self.team, self.total, self.peak = folder, team, course.steps, course.learning_rate
        self.device, self.seed = team.device or torch.device(device), course.seed + team.rank * APART
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(course.seed)
            self.network = make().to(self.device)
        learned = [p for name, p in self.network.named_parameters() if not name.startswith("decoder.")]
        self.optimiser = Adam(learned, self.peak)
        self.done, state = 0, state_file(folder, self.name)
        if state.exists():
            self.done = restore(TrainState.load(state), self.network, self.optimiser, Objective(()))

    @abstractmethod
    def teach(self, progress: float) -> Taught:
        """Look at the next batch; ``progress`` is the share of the course that is done."""

    def steps(self) -> Iterator[Step]:
        """Learn batch by batch until the course ends."""
        self.team.wait()  # until all have read the state, for the first process soon writes another
        with shared_norms(self.network, self.team):
            while self.done < self.total:
                yield self._step()

    def _step(self) -> Step:
        progress = self.done / self.total
        self.network.train(progress < self.schedule.frozen)
        self.optimiser.rate = self.peak * self.schedule.rate(progress, self.done)
        taught = self.teach(progress)
        self.optimiser.forget()
        (taught.loss / self.team.size).backward()
        loss = self.team.sum_gradients(self.optimiser.parameters, taught.loss.detach()[None] / self.team.size)
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"the loss is not finite after {self.done} steps")
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.done += 1
        return Step(self.done, taught)

    def save(self) -> None:
        """Keep the state, beside and then renamed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        snapshot(self.done, self.network, self.optimiser, Objective(())).save(state_file(self.folder, self.name))


def state_file(folder: Path, name: str) -> Path:
    """Where the state of a training lies."""
    return folder / f"{name}.safetensors"


def course_file(folder: Path, name: str) -> Path:
    """Where it is written what decides the weights."""
    return folder / f"{name}.course.json"


def log_file(folder: Path, name: str) -> Path:
    """Where a training writes how it goes, a line now and then."""
    return folder / f"{name}.jsonl"


def follow(training: Pretraining[N], course: Any, every: int, judge: Callable[[], dict[str, Any]], judged: int) -> N:
    """Train to the end of the course, with a log line and the state on disk every ``every`` steps.

    ``judge`` says how good the network is; it is asked at every ``judged``-th of these lines, and at the end. Of
    several processes the first one writes.
    """
    if not training.team.first:
        for _ in training.steps():
            pass
        return training.network.eval()
    training.folder.mkdir(parents=True, exist_ok=True)
    course_file(training.folder, training.name).write_text(json.dumps(asdict(course), indent=2) + "\n")
    begun, recent = time.monotonic(), []
    for step in training.steps():
        taught = step.taught
        recent.append([float(taught.contents), float(taught.poses), float(taught.recognised)])
        if step.done % every and step.done < training.total:
            continue
        training.save()
        line: dict[str, object] = {"step": step.done, "seconds": round(time.monotonic() - begun, 1)}
        line |= dict(zip(("contents", "poses", "recognised"), np.mean(recent, 0).round(4).tolist(), strict=True))
        recent.clear()
        if step.done % (judged * every) == 0 or step.done == training.total:
            line |= judge()
        with log_file(training.folder, training.name).open("a") as log:
            log.write(json.dumps(line) + "\n")
    return training.network.eval()


def rounded(judged: dict[str, float]) -> dict[str, float]:
    """Figures as the log has them."""
    return {name: round(float(value), 3) for name, value in judged.items()}


def trained(folder: Path, name: str, network: N) -> tuple[N, int]:
    """The network with the weights of the state in ``folder``, and the steps that it took."""
    state = TrainState.load(state_file(folder, name))
    weights = {n.removeprefix("network."): t for n, t in state.tensors.items() if n.startswith("network.")}
    network.load_state_dict(weights)
    return network, state.epoch


def minutes(log: list[dict[str, Any]]) -> float:
    """What a training took, whose log counts seconds anew whenever it went on."""
    times = [line["seconds"] for line in log]
    ends = [now for now, after in pairwise([*times, 0.0]) if after < now]
    return sum(ends) / 60


def minutes_in(folder: Path, name: str) -> float:
    """What the training in ``folder`` took."""
    return minutes([json.loads(line) for line in log_file(folder, name).read_text().splitlines()])


def ship(network: Any, card: ModelCard, told: dict[str, str], target: Path) -> None:
    """Write a network as a model for any particles, with what there is to tell about it on its card."""
    card = replace(
        card,
        package_version=version("napari-harmony"),
        trained_on="made-up particles",
        trained=date.today().isoformat(),
        general=True,
        about=tuple(f"{about}: {words}" for about, words in told.items()),
    )
    HarmonyModel(network.eval(), card).save(target)
