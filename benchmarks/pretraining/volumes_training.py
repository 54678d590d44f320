"""Training of the network for any subtomograms: seeded, resumable, on CPU or GPU."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_harmony.analysis.metrics import hungarian_accuracy
from napari_harmony.analysis.metrics_3d import PoseErrors3D, pose_errors
from napari_harmony.engine.learning import cluster_content
from napari_harmony.engine.team import ALONE, Team
from napari_harmony.engine.volumes.agreement import agreed
from napari_harmony.engine.volumes.plans import NETWORK_BOX
from napari_harmony.engine.work import finish
from napari_harmony.models import GuidedVolumeNetwork, ModelCard
from napari_harmony.models.guided_volumes import MARK_DEGREE
from napari_harmony.models.network import NetworkShape
from napari_harmony.transforms import Pose3D
from pretraining.lesson import Taught
from pretraining.training import Pretraining, Schedule, course_file, follow, minutes_in, rounded, ship, trained
from pretraining.volumes import VolumeBatch, draw_batch
from pretraining.volumes_lesson import teach

NAME = "volumes"
#: Share of the training by which noise and wedges are as hard as they get.
HARD = 0.3


@dataclass(frozen=True)
class Course:
    """Everything that decides the weights."""

    steps: int = 20000
    seed: int = 0
    content: int = 16
    learning_rate: float = 2e-3
    contents: int = 8
    views: int = 6
    shift_spread: float = 1.0
    judged: int = 40
    processes: int = 1

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


class Training(Pretraining[GuidedVolumeNetwork]):
    """A training on subtomograms."""

    name, schedule = NAME, Schedule(rise=200, rest=2e-3, frozen=0.8)

    def __init__(self, course: Course, folder: Path, device: str = "cpu", team: Team = ALONE) -> None:
        super().__init__(course, lambda: GuidedVolumeNetwork(course.shape), folder, device, team)
        self.course = course

    def teach(self, progress: float) -> Taught:
        """Look at subtomograms of new particles."""
        course, number = self.course, (self.seed, self.done)
        ease = max(0.0, 1 - progress / HARD)
        batch = draw_batch(self.network.band, course.contents, course.views, ease, course.shift_spread, number)
        batch = batch.to(self.device)
        encoding = self.network.encode(batch.samples, batch.amplitude)
        return teach(encoding, self.network.marks(encoding), batch, progress)


def judge(
    network: GuidedVolumeNetwork, samples: torch.Tensor, amplitude: torch.Tensor, content: np.ndarray, pose: Pose3D
) -> dict[str, float]:
    """Accuracy of a mixture on the codes, and how well the poses within a content agree (degree, voxel).

    ``together``: once the particles of each content have agreed on them by their marks.
    """
    proposals, marks = network.look(samples, amplitude)
    label = cluster_content(proposals.content_mean.cpu().numpy(), len(np.unique(content)), 0)
    best = proposals.best
    group = torch.as_tensor(content, device=best.shift.device)
    agreeing = replace(best, quaternion=finish(agreed(marks, MARK_DEGREE, group, best.quaternion)))
    alone, together = (_errors(poses, pose, content) for poses in (best, agreeing))
    return {
        "accuracy": hungarian_accuracy(label + 1, content),
        "rotation": float(np.nanmedian(alone.rotation)),
        "under 20 degrees": float((alone.rotation < 20).mean()),
        "together": float(np.nanmedian(together.rotation)),
        "shift": float(np.nanmedian(alone.shift)),
    }


def _errors(poses: Pose3D, truth: Pose3D, content: np.ndarray) -> PoseErrors3D:
    """Of poses (n,) within their contents."""
    found, known = (p.to("cpu").to_relion() for p in (poses, truth))
    values = [np.asarray(t, dtype=float) for pair in (found, known) for t in pair]
    return pose_errors(*values, content + 1, content)


def held_out(course: Course, network: GuidedVolumeNetwork) -> VolumeBatch:
    """Eight contents that no training of this seed shows, as hard as it gets."""
    return draw_batch(network.band, 8, course.judged, 0.0, course.shift_spread, (course.seed, 2**31))


def pretrain(
    course: Course, folder: Path, device: str = "cpu", every: int = 100, team: Team = ALONE
) -> GuidedVolumeNetwork:
    """Train to the end of the course, with a log line and the state on disk every ``every`` steps."""
    training = Training(course, folder, device, team)
    test = held_out(course, training.network).to(training.device)
    content = np.repeat(np.arange(test.contents), test.views)

    def judged() -> dict[str, Any]:
        return {"held out": rounded(judge(training.network, test.samples, test.amplitude, content, test.pose))}

    return follow(training, course, every, judged, 5)


def export(folder: Path, target: Path, facts: dict[str, str]) -> None:
    """Write the network of the state in ``folder`` as a model for any subtomograms; ``facts`` go onto its card."""
    course = Course(**json.loads(course_file(folder, NAME).read_text()))
    network, steps = trained(folder, NAME, GuidedVolumeNetwork(course.shape))
    # it has drawn nothing yet: zeros, which take no room in a compressed file
    torch.nn.init.zeros_(network.decoder[-1].weight)
    torch.nn.init.zeros_(network.decoder[-1].bias)
    contents, shape = course.processes * course.contents, course.shape
    batch = contents * course.views
    told = {
        "Data": f"{steps * batch:,} simulated subtomograms of {steps * contents:,} made-up "
        "particles; no measured density",
        "Training": f"{steps:,} steps of {batch} subtomograms, seed {course.seed}, "
        f"{minutes_in(folder, NAME):.0f} minutes",
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
        particles=steps * batch,
        dimensions=3,
        guided=True,
    )
    ship(network, card, told, target)
