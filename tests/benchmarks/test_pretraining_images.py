"""Pretraining of the network for any images: its data, what it is taught, and that it can be stopped and go on."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from napari_harmony.engine import near
from napari_harmony.engine.near import Near
from napari_harmony.engine.team import Team
from napari_harmony.models import HarmonyModel
from napari_harmony.models.encoding import Encoding
from napari_harmony.transforms import Pose2D, wrap
from pretraining import images, images_training
from pretraining.assemblies import assembly
from pretraining.images_training import Course, Training
from pretraining.lesson import frames, prototype_loss

SMALL = images.Layout(sets=2, contents=4, images=3)
BRIEF = Course(steps=4, particles=6, layout=SMALL, content=8)


def test_particles_are_centred_and_of_one_size() -> None:
    for seed in range(8):
        points = assembly(np.random.default_rng(seed), 200)
        assert np.abs(points.mean(0)).max() < 1e-9 and (points**2).sum(1).mean() == pytest.approx(1)


def test_batches_repeat_with_their_seed_and_have_noise_of_unit_variance() -> None:
    pool = images.Pool(1, particles=6)
    one, two = (images.draw_batch(pool, SMALL, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one.images, two.images) and one.images.shape == (24, 32, 32)
    assert torch.bincount(one.content).tolist() == [3] * 8
    faint = images.expose(torch.rand(24, 64, 64), one.content, torch.full((24,), 1e-6), 2, torch.Generator())
    assert 0.97 < float(faint.images.var()) < 1.03


def test_poses_move_pictures_as_poses_of_the_package_do() -> None:
    picture = torch.zeros(1, 64, 64)
    picture[0, 32, 44] = 1.0  # six pixels of the network's grid to the right of the centre
    pose = Pose2D.of(torch.tensor([torch.pi / 2]), torch.tensor([[1.0, -2.0]]))
    moved = images._sample(picture, pose)[0]
    assert divmod(int(moved.argmax()), 32) == (16 + 6 - 2, 16 + 1)


def test_the_frame_of_a_content_is_where_its_images_agree() -> None:
    known, frame = torch.tensor([0.3, 2.0, -1.0, 0.5]), torch.tensor([1.0, 1.0, -2.0, -2.0])
    angle = torch.stack([known + frame, torch.tensor([2.0, -2.5, 0.1, 1.9])], 1)[..., None]
    zeros = torch.zeros(4, 2)
    encoding = Encoding(zeros, zeros, {"rotation": angle}, zeros)
    batch = images.ImageBatch(torch.zeros(4, 32, 32), torch.tensor([0, 0, 1, 1]), Pose2D.of(known))
    assert wrap(frames(encoding, batch) - torch.tensor([1.0, -2.0])).abs().max() < 0.04


def test_codes_of_one_content_are_to_be_alike() -> None:
    content = torch.arange(3).repeat_interleave(4)
    apart = 8 * torch.eye(3)[content] + 0.1 * torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    good, right = prototype_loss(apart, content)
    bad, _ = prototype_loss(apart.roll(2, 0), content)
    assert float(right) == 1 and float(good) < 0.1 < float(bad)


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = Training(BRIEF, tmp_path / "whole")
    list(whole.steps())
    first = Training(BRIEF, tmp_path / "parts")
    for step in first.steps():
        if step.done == 2:
            first.save()
            break
    second = Training(BRIEF, tmp_path / "parts")
    assert second.done == 2
    list(second.steps())
    weights = second.network.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in whole.network.state_dict().items())


@pytest.mark.skipif(not near.can_share(), reason="threads speak through memory here")
def test_several_processes_learn_the_same_from_particles_of_their_own(tmp_path: Path) -> None:
    memory, folder = near.create(2), tmp_path / "state"
    members = [Team(r, 2, torch.device("cpu"), Near.opened(memory, r, (os.getpid(),) * 2)) for r in range(2)]
    memory.unlink()
    both = [Training(BRIEF, folder, team=member) for member in members]
    with ThreadPoolExecutor(2) as pool:
        taught = list(pool.map(lambda training: [float(step.taught.loss) for step in training.steps()], both))
    alone = Training(BRIEF, folder)
    assert next(alone.steps()).taught.loss.item() == pytest.approx(taught[0][0], rel=0.2)  # normalised with the other's
    assert taught[0][0] != taught[1][0] and not torch.equal(both[0].pool.pictures, both[1].pool.pictures)
    for name, tensor in both[0].network.state_dict().items():
        assert torch.equal(tensor, both[1].network.state_dict()[name]), name


def test_what_was_trained_becomes_a_model_for_any_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_training, "judge", lambda *_: {"accuracy": 0.5})
    images_training.pretrain(BRIEF, tmp_path / "state", every=2)
    images_training.export(tmp_path / "state", tmp_path / "model", {"Limits": "none"})
    card = HarmonyModel.load(tmp_path / "model").card
    assert card.general and card.classes == 0 and card.particles == 4 * 24
    assert card.about[0].startswith("Data: 96 simulated images") and card.about[-1] == "Limits: none"
