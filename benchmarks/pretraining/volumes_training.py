"""Training of the network for any subtomograms: seeded, resumable, on CPU or GPU."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_harmony.analysis.metrics import hungarian_accuracy
from napari_harmony.analysis.metrics_3d import pose_errors
from napari_harmony.engine.learning import cluster_content
from napari_harmony.engine.train_state import TrainState, restore, snapshot
from napari_harmony.engine.volumes.plans import NETWORK_BOX
from napari_harmony.models import GuidedVolumeNetwork, HarmonyModel, ModelCard
from napari_harmony.models.network import NetworkShape
from napari_harmony.objectives import Objective
from napari_harmony.transforms import Pose3D
from pretraining.lesson import Taught
from pretraining.volumes import VolumeBatch, draw_batch
from pretraining.volumes_lesson import teach

#: Share of the training by which noise and wedges are as hard as they get, and from which the normalisation stays.
HARD, FROZEN = 0.3, 0.8
#: Share of the training in which poses are looked at from a part of the grid only, which is quicker, and how many
#: rotations that part is one of.
THINNED, PART = 0.99, 4
STATE, LOG = "volumes.safetensors", "volumes.jsonl"


@dataclass(frozen=True)
class Course:
    """Everything that decides the weights."""

    steps: int = 9000
    seed: int = 0
    content: int = 16
    learning_rate: float = 2e-3
    contents: int = 8
    views: int = 6
    shift_spread: float = 1.0
    judged: int = 40

    @property
    def shape(self) -> NetworkShape:
        """Of the network."""
        box = NETWORK_BOX
        return NetworkShape(
            box=box,
            content=self.content,
            hypotheses=GuidedVolumeNetwork.hypotheses(("rotation",)),
            max_shift=0.16 * box,
            mask_diameter=0.9 * box,
        )


@dataclass(frozen=True)
class Step:
    """One batch was learned."""

    done: int
    taught: Taught


class Training:
    """A training and its state in ``folder``, from which it goes on when it is made again."""

    def __init__(self, course: Course, folder: Path, device: str = "cpu") -> None:
        self.course, self.folder, self.device = course, folder, torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(course.seed)
            self.network = GuidedVolumeNetwork(course.shape).to(self.device)
        learned = [p for name, p in self.network.named_parameters() if not name.startswith("decoder.")]
        self.optimiser = torch.optim.Adam(learned, lr=course.learning_rate)
        self.done, state = 0, folder / STATE
        if state.exists():
            self.done = restore(TrainState.load(state), self.network, self.optimiser, Objective(()))

    def steps(self) -> Iterator[Step]:
        """Learn batch by batch until the course ends."""
        while self.done < self.course.steps:
            yield self._step()

    def _step(self) -> Step:
        course, progress = self.course, self.done / self.course.steps
        self.network.train(progress < FROZEN)
        for group in self.optimiser.param_groups:
            group["lr"] = course.learning_rate * rate(progress, self.done)
        ease, number = max(0.0, 1 - progress / HARD), (course.seed, self.done)
        batch = draw_batch(self.network.band, course.contents, course.views, ease, course.shift_spread, number)
        batch = batch.to(self.device)
        with thinned(self.network, progress < THINNED, number):
            taught = teach(self.network.encode(batch.samples, batch.amplitude), batch, progress)
        if not math.isfinite(taught.loss.item()):
            raise FloatingPointError(f"the loss is not finite after {self.done} steps")
        self.optimiser.zero_grad(set_to_none=True)
        taught.loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.done += 1
        return Step(self.done, taught)

    def save(self) -> None:
        """Keep the state, beside and then renamed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        snapshot(self.done, self.network, self.optimiser, Objective(())).save(self.folder / STATE)


@contextmanager
def thinned(network: GuidedVolumeNetwork, on: bool, seed: tuple[int, ...]) -> Iterator[None]:
    """Hypotheses at a random part of the grid of rotations: what is learned at one rotation holds for all."""
    if not on:
        yield
        return
    rotations, turning = network.rotations, network.encoder.turning
    chosen = torch.as_tensor(np.random.default_rng(seed).permutation(len(rotations))[: len(rotations) // PART])
    network.rotations, network.encoder.turning = rotations[chosen], turning[:, chosen]
    try:
        yield
    finally:
        network.rotations, network.encoder.turning = rotations, turning


def rate(progress: float, done: int) -> float:
    """Factor of the learning rate: a short rise, then half a cosine."""
    return min(1.0, (done + 1) / 200) * (0.5 * (1 + math.cos(math.pi * progress)) + 2e-3)


def judge(
    network: GuidedVolumeNetwork, samples: torch.Tensor, amplitude: torch.Tensor, content: np.ndarray, pose: Pose3D
) -> dict[str, float]:
    """Accuracy of a mixture on the codes, and how well the poses within a content agree (degree, voxel)."""
    proposals = network.propose(samples, amplitude)
    label = cluster_content(proposals.content_mean.cpu().numpy(), len(np.unique(content)), 0)
    found, truth = (p.to("cpu").to_relion() for p in (proposals.best, pose))
    values = [np.asarray(t, dtype=float) for pair in (found, truth) for t in pair]
    errors = pose_errors(*values, content + 1, content)
    return {
        "accuracy": hungarian_accuracy(label + 1, content),
        "rotation": float(np.nanmedian(errors.rotation)),
        "under 20 degrees": float((errors.rotation < 20).mean()),
        "shift": float(np.nanmedian(errors.shift)),
    }


def held_out(course: Course, network: GuidedVolumeNetwork) -> VolumeBatch:
    """Eight contents that no training of this seed shows, as hard as it gets."""
    return draw_batch(network.band, 8, course.judged, 0.0, course.shift_spread, (course.seed, 2**31))


def pretrain(course: Course, folder: Path, device: str = "cpu", every: int = 100) -> GuidedVolumeNetwork:
    """Train to the end of the course, with a log line and the state on disk every ``every`` steps."""
    training = Training(course, folder, device)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "volumes.course.json").write_text(json.dumps(asdict(course), indent=2) + "\n")
    test, begun, recent = held_out(course, training.network).to(training.device), time.monotonic(), []
    for step in training.steps():
        taught = step.taught
        recent.append([float(taught.contents), float(taught.poses), float(taught.recognised)])
        if step.done % every and step.done < course.steps:
            continue
        training.save()
        line: dict[str, object] = {"step": step.done, "seconds": round(time.monotonic() - begun, 1)}
        line |= dict(zip(("contents", "poses", "recognised"), np.mean(recent, 0).round(4).tolist(), strict=True))
        recent.clear()
        if step.done % (5 * every) == 0 or step.done == course.steps:
            content = np.repeat(np.arange(test.contents), test.views)
            judged = judge(training.network, test.samples, test.amplitude, content, test.pose)
            line["held out"] = {name: round(float(value), 3) for name, value in judged.items()}
        with (folder / LOG).open("a") as log:
            log.write(json.dumps(line) + "\n")
    return training.network.eval()


def export(folder: Path, target: Path, facts: dict[str, str]) -> None:
    """Write the network of the state in ``folder`` as a model for any subtomograms; ``facts`` go onto its card."""
    course = Course(**json.loads((folder / "volumes.course.json").read_text()))
    network = GuidedVolumeNetwork(course.shape)
    state = TrainState.load(folder / STATE)
    network.load_state_dict(
        {n.removeprefix("network."): t for n, t in state.tensors.items() if n.startswith("network.")}
    )
    # it has drawn nothing yet: zeros, which take no room in a compressed file
    torch.nn.init.zeros_(network.decoder[-1].weight)
    torch.nn.init.zeros_(network.decoder[-1].bias)
    log = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    batch, shape = course.contents * course.views, course.shape
    told = {
        "Data": f"{state.epoch * batch:,} simulated subtomograms of {state.epoch * course.contents:,} made-up "
        "particles; no measured density",
        "Training": f"{state.epoch:,} steps of {batch} subtomograms, seed {course.seed}, {minutes(log):.0f} minutes",
        **facts,
    }
    card = ModelCard(
        box=shape.box,
        pixel_size=1.0,
        original_box=shape.box,
        transforms=shape.transforms,
        content=course.content,
        hypotheses=shape.hypotheses,
        mask_diameter=shape.mask_diameter,
        max_shift=shape.max_shift,
        seed=course.seed,
        particles=state.epoch * batch,
        package_version=version("napari-harmony"),
        dimensions=3,
        trained_on="made-up particles",
        trained=date.today().isoformat(),
        general=True,
        guided=True,
        about=tuple(f"{about}: {words}" for about, words in told.items()),
    )
    HarmonyModel(network.eval(), card).save(target)


def minutes(log: list[dict[str, Any]]) -> float:
    """What a training took, whose log counts seconds anew whenever it went on."""
    times = [line["seconds"] for line in log]
    ends = [now for now, after in pairwise([*times, 0.0]) if after < now]
    return sum(ends) / 60
