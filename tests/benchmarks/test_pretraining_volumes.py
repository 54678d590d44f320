"""Pretraining for any subtomograms: the data, what is asked of poses, a training that goes on, the model that ships."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch

from napari_harmony.models import GuidedVolumeNetwork, HarmonyModel, volume_band
from napari_harmony.models.guided_volumes import MARK_DEGREE, MARKS
from napari_harmony.models.volume_encoding import VolumeEncoding
from napari_harmony.transforms import Pose3D, so3
from napari_harmony.transforms.rotation_functions import functions_of, functions_up_to, turned

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from pretraining.training import minutes
from pretraining.volumes import VolumeBatch, contents_of, draw_batch
from pretraining.volumes_lesson import disagreement, frame_surprise, wrong_functions
from pretraining.volumes_training import Course, Training, export, pretrain

TINY = Course(steps=3, contents=2, views=3, judged=3)


@pytest.fixture(scope="module")
def batch() -> VolumeBatch:
    return draw_batch(volume_band(20), 3, 4, 0.0, 1.0, (0, 1))


def test_a_batch_is_seeded_and_its_noise_is_as_its_amplitude_says(batch: VolumeBatch) -> None:
    again = draw_batch(volume_band(20), 3, 4, 0.0, 1.0, (0, 1))
    other = draw_batch(volume_band(20), 3, 4, 0.0, 1.0, (0, 2))
    torch.testing.assert_close(batch.samples, again.samples)
    assert batch.samples.shape == other.samples.shape and not torch.equal(batch.samples, other.samples)
    hidden = batch.amplitude == 0
    assert bool((batch.samples[hidden] == 0).all()) and 0.05 < float(hidden.float().mean()) < 0.6
    # at high frequencies there is hardly any signal: noise of unit variance or, where more was taken for noise, less
    outer = (batch.samples.abs().square() * (volume_band(20).radius > 8))[~hidden & (volume_band(20).radius > 8)]
    assert 0.3 < float(outer.mean()) < 1.2


def test_made_up_particles_lie_in_the_middle_of_the_box() -> None:
    import numpy as np

    shown = contents_of(20, 4, np.random.default_rng(3))
    axis = torch.arange(20) - 10.0
    for volume in shown:
        mass = volume.clamp_min(0)
        centre = torch.stack([(mass.sum(other) * axis).sum() / mass.sum() for other in ((1, 2), (0, 2), (0, 1))])
        assert float(centre.norm()) < 1.5
        assert float(volume[0].abs().max()) < 0.5 * float(volume.max())


def known_to(batch: VolumeBatch, frame: torch.Tensor, sure: float) -> VolumeEncoding:
    """What a network would say that knows the poses, each content in a frame (contents, 4) of its own."""
    n, grid = len(batch.samples), so3.rotation_grid(60)
    truth = so3.multiply(batch.pose.quaternion, frame.repeat_interleave(batch.views, 0))
    rotation = torch.cat([truth[:, None], grid.expand(n, -1, 4)], dim=1)
    logits = torch.zeros(rotation.shape[:2])
    logits[:, 0] = sure
    pose = Pose3D.of(rotation, batch.pose.shift[:, None].expand(-1, rotation.shape[1], 3))
    return VolumeEncoding(torch.zeros(n, 2), torch.zeros(n, 2), pose, logits)


def test_any_frame_is_right_as_long_as_all_views_of_a_content_share_it(batch: VolumeBatch) -> None:
    generator = torch.Generator().manual_seed(0)
    frames = so3.random_rotations(batch.contents, generator)
    shared, unsure = (float(frame_surprise(known_to(batch, frames, sure), batch, 1.0)) for sure in (20.0, 0.0))
    assert abs(shared) < 1e-3 < 1 < unsure
    mixed = known_to(batch, frames, 20.0)
    # one view in another frame than the others
    mixed.pose.quaternion[0, 0] = so3.multiply(mixed.pose.quaternion[0, 0], so3.random_rotations(1, generator)[0])
    assert float(frame_surprise(mixed, batch, 1.0)) > 0.5


def test_marks_that_turn_as_their_views_do_agree_and_others_do_not(batch: VolumeBatch) -> None:
    generator = torch.Generator().manual_seed(2)
    count, views = batch.contents * batch.views, batch.views
    content = torch.randn(batch.contents, MARKS, functions_up_to(MARK_DEGREE), generator=generator)
    every = 0.3 * content.repeat_interleave(views, 0)
    turning = turned(every, functions_of(MARK_DEGREE, batch.pose.quaternion))
    astray = turned(every, functions_of(MARK_DEGREE, so3.random_rotations(count, generator)))
    right, still, wrong = (float(disagreement(marks, batch)) for marks in (turning, every, astray))
    assert right < 1e-3 < 3 < min(still, wrong)
    # marks that say nothing leave every rotation as likely
    assert float(disagreement(0 * every, batch)) == pytest.approx(math.log(1 + len(wrong_functions(MARK_DEGREE))))


def test_a_training_that_goes_on_ends_as_one_that_was_not_interrupted(tmp_path: Path) -> None:
    whole = pretrain(TINY, tmp_path / "whole", every=3)
    first = Training(TINY, tmp_path / "parts")
    for step in first.steps():
        if step.done == 1:
            break
    first.save()
    parts = pretrain(TINY, tmp_path / "parts", every=3)
    for one, two in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, two)
    log = json.loads((tmp_path / "whole" / "volumes.jsonl").read_text())
    assert log["step"] == 3 and {"accuracy", "rotation", "together", "shift"} <= set(log["held out"])
    export(tmp_path / "whole", tmp_path / "model", {"Limits": "none"})
    model = HarmonyModel.load(tmp_path / "model")
    assert isinstance(model.network, GuidedVolumeNetwork) and model.card.general and model.card.guided
    assert "Limits: none" in model.card.about and model.card.dimensions == 3
    torch.testing.assert_close(model.network.mix.weight, whole.mix.weight)


def test_minutes_are_those_of_all_parts_of_a_training() -> None:
    assert minutes([{"seconds": 60.0}, {"seconds": 120.0}, {"seconds": 30.0}]) == pytest.approx(2.5)
