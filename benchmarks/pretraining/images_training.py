"""Training of the network for any images: seeded, resumable, on CPU or GPU."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_harmony.analysis.metrics import hungarian_accuracy, pose_errors
from napari_harmony.engine.learning import cluster_content
from napari_harmony.engine.team import ALONE, Team
from napari_harmony.models import HarmonyNetwork, ModelCard
from napari_harmony.models.network import NetworkShape
from napari_harmony.transforms import Pose2D
from pretraining.images import BOX, ImageBatch, Layout, Pool, draw_batch, expose, pictures_of
from pretraining.lesson import Taught, teach
from pretraining.training import Pretraining, Schedule, course_file, follow, minutes_in, rounded, ship, trained

NAME = "images"


@dataclass(frozen=True)
class Course:
    """Everything that decides the weights."""

    steps: int = 20_000
    seed: int = 0
    content: int = 32
    learning_rate: float = 2e-3
    particles: int = 800
    layout: Layout = Layout()
    processes: int = 1

    @property
    def shape(self) -> NetworkShape:
        """Of the network."""
        return NetworkShape(
            box=BOX, content=self.content, transforms=("rotation", "translation"), max_shift=6.0, mask_diameter=29.0
        )


class Training(Pretraining[HarmonyNetwork]):
    """A training on images."""

    name, schedule = NAME, Schedule(rise=300, rest=1e-3, frozen=0.3)

    def __init__(self, course: Course, folder: Path, device: str = "cpu", team: Team = ALONE) -> None:
        super().__init__(course, lambda: HarmonyNetwork(course.shape), folder, device, team)
        self.course, self.pool = course, Pool(self.seed, course.particles, renewed=self.done)

    def teach(self, progress: float) -> Taught:
        """Look at images of the pool, of which a particle is new each time."""
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.done)
        batch = moved(draw_batch(self.pool, self.course.layout, generator), self.device)
        self.pool.renew()
        return teach(self.network.encode(batch.images), batch, progress)


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
    generator = np.random.default_rng((course.seed, 2**31))
    pictures = torch.cat([pictures_of(generator, 3) for _ in range(4)]).repeat_interleave(images, 0)
    content = torch.arange(12).repeat_interleave(images)
    chance = torch.Generator().manual_seed(course.seed + 7)
    return expose(pictures, content, torch.full((len(content),), energy), 1, chance)


def pretrain(course: Course, folder: Path, device: str = "cpu", every: int = 200, team: Team = ALONE) -> HarmonyNetwork:
    """Train to the end of the course, with a log line and the state on disk every ``every`` steps."""
    training = Training(course, folder, device, team)
    tests = {f"held out {energy:g}": held_out(course, energy) for energy in (120.0, 400.0)}

    def judged() -> dict[str, Any]:
        network, device = training.network, training.device
        return {
            name: rounded(judge(network, test.images.to(device), test.content.numpy(), test.pose))
            for name, test in tests.items()
        }

    return follow(training, course, every, judged, 10)


def export(folder: Path, target: Path, facts: dict[str, str], hardware: str = "one core of a CPU") -> None:
    """Write the network of the state in ``folder`` as a model for any images; ``facts`` go onto its card."""
    entries = json.loads(course_file(folder, NAME).read_text())
    course = Course(**{**entries, "layout": Layout(**entries["layout"])})
    network, steps = trained(folder, NAME, HarmonyNetwork(course.shape))
    layout, shape, particles = course.layout, course.shape, course.processes * (course.particles + steps)
    batch = course.processes * layout.sets * layout.contents * layout.images
    told = {
        "Data": f"{steps * batch:,} simulated images of {particles:,} made-up particles; no measured density",
        "Training": f"{steps:,} steps of {batch} images, seed {course.seed}, "
        f"{minutes_in(folder, NAME):.0f} minutes on {hardware}",
        **facts,
    }
    card = ModelCard(
        box=BOX,
        pixel_size=1.0,
        original_box=BOX,
        transforms=shape.transforms,
        content=course.content,
        hypotheses=shape.hypotheses,
        mask_diameter=shape.mask_diameter,
        max_shift=shape.max_shift,
        seed=course.seed,
        particles=steps * batch,
    )
    ship(network, card, told, target)
