"""Training of the network for any images: seeded, resumable, on CPU or GPU."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from napari_harmony.analysis.metrics import hungarian_accuracy, pose_errors
from napari_harmony.engine.learning import cluster_content
from napari_harmony.engine.train_state import TrainState, restore, snapshot
from napari_harmony.models import HarmonyModel, HarmonyNetwork, ModelCard
from napari_harmony.models.network import NetworkShape
from napari_harmony.objectives import Objective
from napari_harmony.transforms import Pose2D
from pretraining.images import BOX, ImageBatch, Layout, Pool, draw_batch
from pretraining.lesson import Taught, teach

#: Share of the training after which the normalisation is that of a finished network.
FROZEN = 0.3
STATE, LOG = "images.safetensors", "images.jsonl"


@dataclass(frozen=True)
class Course:
    """Everything that decides the weights."""

    steps: int = 20_000
    seed: int = 0
    content: int = 32
    learning_rate: float = 2e-3
    particles: int = 800
    layout: Layout = Layout()

    @property
    def shape(self) -> NetworkShape:
        """Of the network."""
        return NetworkShape(
            box=BOX, content=self.content, transforms=("rotation", "translation"), max_shift=6.0, mask_diameter=29.0
        )


@dataclass(frozen=True)
class Step:
    """One batch was learned."""

    done: int
    taught: Taught
    network: HarmonyNetwork


class Training:
    """A training and its state in ``folder``, from which it goes on when it is made again."""

    def __init__(self, course: Course, folder: Path, device: str = "cpu") -> None:
        self.course, self.folder, self.device = course, folder, torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(course.seed)
            self.network = HarmonyNetwork(course.shape).to(self.device)
        learned = [p for name, p in self.network.named_parameters() if not name.startswith("decoder.")]
        self.optimiser = torch.optim.Adam(learned, lr=course.learning_rate)
        self.done, state = 0, folder / STATE
        if state.exists():
            self.done = restore(TrainState.load(state), self.network, self.optimiser, Objective(()))
        self.pool = Pool(course.seed, course.particles, renewed=self.done)

    def steps(self) -> Iterator[Step]:
        """Learn batch by batch until the course ends."""
        while self.done < self.course.steps:
            yield self._step()

    def _step(self) -> Step:
        progress = self.done / self.course.steps
        self.network.train(progress < FROZEN)
        for group in self.optimiser.param_groups:
            group["lr"] = self.course.learning_rate * rate(progress, self.done)
        generator = torch.Generator().manual_seed(1_000_003 * self.course.seed + self.done)
        batch = moved(draw_batch(self.pool, self.course.layout, generator), self.device)
        taught = teach(self.network.encode(batch.images), batch, progress)
        if not math.isfinite(taught.loss.item()):
            raise FloatingPointError(f"the loss is not finite after {self.done} steps")
        self.optimiser.zero_grad(set_to_none=True)
        taught.loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.pool.renew()
        self.done += 1
        return Step(self.done, taught, self.network)

    def save(self) -> None:
        """Keep the state, beside and then renamed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        snapshot(self.done, self.network, self.optimiser, Objective(())).save(self.folder / STATE)


def rate(progress: float, done: int) -> float:
    """Factor of the learning rate: a short rise, then half a cosine."""
    return min(1.0, (done + 1) / 300) * (0.5 * (1 + math.cos(math.pi * progress)) + 1e-3)


def moved(batch: ImageBatch, device: torch.device) -> ImageBatch:
    """The batch on a device."""
    return ImageBatch(batch.images.to(device), batch.content.to(device), batch.pose.to(device))


def judge(network: HarmonyNetwork, images: torch.Tensor, content: np.ndarray, pose: Pose2D) -> dict[str, float]:
    """Accuracy of a mixture on the codes, and how well the poses within a content agree (degree, pixel)."""
    proposals = network.propose(images)
    label = cluster_content(proposals.content_mean.cpu().numpy(), len(np.unique(content)), 0)
    found, truth = (p.to_relion() for p in (proposals.best, pose))
    values = [np.asarray(t.cpu(), dtype=float) for pair in (found, truth) for t in pair]
    errors = pose_errors(*values, content + 1, content)
    return {
        "accuracy": hungarian_accuracy(label + 1, content),
        "rotation": float(np.nanmedian(errors.rotation)),
        "under 10 degrees": float((errors.rotation < 10).mean()),
        "shift": float(np.nanmedian(errors.shift)),
    }


def held_out(course: Course, energy: float, images: int = 50) -> ImageBatch:
    """A data set of 12 contents that no training of this seed shows: four new particles, three views each."""
    from pretraining.images import expose, pictures_of

    generator = np.random.default_rng((course.seed, 2**31))
    pictures = torch.cat([pictures_of(generator, 3) for _ in range(4)]).repeat_interleave(images, 0)
    content = torch.arange(12).repeat_interleave(images)
    chance = torch.Generator().manual_seed(course.seed + 7)
    return expose(pictures, content, torch.full((len(content),), energy), 1, chance)


def pretrain(course: Course, folder: Path, device: str = "cpu", every: int = 200) -> HarmonyNetwork:
    """Train to the end of the course, with a log line and the state on disk every ``every`` steps."""
    training = Training(course, folder, device)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "images.course.json").write_text(json.dumps(asdict(course), indent=2) + "\n")
    tests = {energy: held_out(course, energy) for energy in (120.0, 400.0)}
    begun, recent = time.monotonic(), []
    for step in training.steps():
        taught = step.taught
        recent.append([float(taught.contents), float(taught.poses), float(taught.recognised)])
        if step.done % every and step.done < course.steps:
            continue
        training.save()
        line: dict[str, object] = {"step": step.done, "seconds": round(time.monotonic() - begun, 1)}
        line |= dict(zip(("contents", "poses", "recognised"), np.mean(recent, 0).round(4).tolist(), strict=True))
        recent.clear()
        if step.done % (10 * every) == 0 or step.done == course.steps:
            for energy, test in tests.items():
                judged = judge(step.network, test.images.to(training.device), test.content.numpy(), test.pose)
                line[f"held out {energy:g}"] = {name: round(float(value), 3) for name, value in judged.items()}
        with (folder / LOG).open("a") as log:
            log.write(json.dumps(line) + "\n")
    return training.network.eval()


def export(folder: Path, target: Path, facts: dict[str, str], hardware: str = "one core of a CPU") -> None:
    """Write the network of the state in ``folder`` as a model for any images; ``facts`` go onto its card."""
    entries = json.loads((folder / "images.course.json").read_text())
    course = Course(**{**entries, "layout": Layout(**entries["layout"])})
    network = HarmonyNetwork(course.shape)
    state = TrainState.load(folder / STATE)
    network.load_state_dict(
        {n.removeprefix("network."): t for n, t in state.tensors.items() if n.startswith("network.")}
    )
    log = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    batch = course.layout.sets * course.layout.contents * course.layout.images
    told = {
        "Data": f"{state.epoch * batch:,} simulated images of {course.particles + state.epoch:,} made-up particles; "
        "no measured density",
        "Training": f"{state.epoch:,} steps of {batch} images, seed {course.seed}, "
        f"{log[-1]['seconds'] / 60:.0f} minutes on {hardware}",
        **facts,
    }
    card = ModelCard(
        box=BOX,
        pixel_size=1.0,
        original_box=BOX,
        transforms=course.shape.transforms,
        content=course.content,
        hypotheses=course.shape.hypotheses,
        mask_diameter=course.shape.mask_diameter,
        max_shift=course.shape.max_shift,
        seed=course.seed,
        particles=state.epoch * batch,
        package_version=version("napari-harmony"),
        trained_on="made-up particles",
        trained=date.today().isoformat(),
        general=True,
        about=tuple(f"{about}: {words}" for about, words in told.items()),
    )
    HarmonyModel(network.eval(), card).save(target)
