"""Runs on subtomograms that start from a network pretrained on others."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
import torch
from volume_data import rotation_errors, subtomograms, true_poses

from napari_harmony.additions import additions_of
from napari_harmony.engine import api
from napari_harmony.engine.counts import LOOKING
from napari_harmony.engine.events import Done, Event, Progress
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.volumes import adapt
from napari_harmony.engine.volumes.prepare import prepare
from napari_harmony.engine.volumes.seen import look
from napari_harmony.engine.work import finish
from napari_harmony.errors import InputError
from napari_harmony.models import GuidedVolumeNetwork, HarmonyModel
from napari_harmony.models.bundled import bundled_model
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.volumes import ArrayVolumes
from napari_harmony.transforms import so3

QUICK = Settings(classes=3, preset="fast")


@pytest.fixture(scope="module")
def general() -> HarmonyModel:
    """The model that comes with the package."""
    return HarmonyModel.load(bundled_model(3))


@pytest.fixture(scope="module")
def trained() -> Iterator[None]:
    """The fast preset, which trains no pretrained network further, with two passes of training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(adapt.ADAPTING, "fast", 1.0)
        yield


@pytest.fixture(scope="module")
def events(general: HarmonyModel, trained: None) -> list[Event]:
    return list(api.align(subtomograms().particles, QUICK, model=general))


def test_contents_and_poses_are_found(events: list[Event]) -> None:
    done = events[-1]
    assert isinstance(done, Done)
    table, truth = done.value.table, subtomograms().truth
    crossed = pd.crosstab(table["class_number"], truth["content"])
    assert crossed.max(axis=1).sum() >= 40 and len(crossed) == 3
    rotation = so3.from_zyz(torch.as_tensor(table[["rot", "tilt", "psi"]].to_numpy(), dtype=torch.float32))
    want = true_poses(truth).rotation
    largest = int(table["class_number"].mode()[0])
    rows = np.flatnonzero(table["class_number"] == largest)
    assert float(rotation_errors(rotation[rows], want[rows]).median()) < 8


def test_the_model_that_is_left_has_the_classes_found_and_says_what_it_began_as(
    events: list[Event], general: HarmonyModel, tmp_path: Path
) -> None:
    assert isinstance(events[-1], Done)
    result, model = events[-1].value, events[-1].model
    assert model is not None and not model.card.general and model.card.guided
    assert model.card.started_from == "made-up particles" and model.card.classes == 3
    assert result.content.shape == (len(result), general.card.content)
    model.save(tmp_path)
    again = HarmonyModel.load(tmp_path)
    assert isinstance(again.network, GuidedVolumeNetwork)


def test_every_stage_that_runs_was_expected(events: list[Event], general: HarmonyModel) -> None:
    run = adapt.VolumeAdapting(subtomograms().particles, QUICK, None, False)
    run._expect("adapt")
    seen = list(dict.fromkeys(event.stage for event in events if isinstance(event, Progress)))
    assert seen == list(run.clock.weights) and LOOKING in seen
    assert all(seconds > 0 for seconds in run.clock.weights.values())


def test_rotations_of_the_files_of_others_are_agreed_on(general: HarmonyModel, shared_data: Path) -> None:
    """Two proteins, four rotations each, which another program made; ``particle[p] = ref[M p]`` with p = (z, y, x)."""
    table = pd.read_csv(shared_data / "poses3d" / "truth.csv")
    volumes = np.stack([mrcfile.read(shared_data / "poses3d" / name) for name in table["file"]]).astype(np.float32)
    noise = np.random.default_rng(0).standard_normal(volumes.shape) * volumes.std(axis=(1, 2, 3), keepdims=True)
    particles = Particles(ArrayVolumes((volumes + noise).astype(np.float32)), table[["file"]], pixel_size=5.0)
    seen = finish(look(general, finish(prepare(particles, QUICK, torch.device("cpu")))))
    label = torch.as_tensor((table["class"] == "1dkg").to_numpy().astype(int))
    found = so3.inverse(finish(seen.agreed(label)))
    matrix = table[[f"m{i}{j}" for i in range(3) for j in range(3)]].to_numpy().reshape(-1, 3, 3)
    want = so3.from_matrix(torch.as_tensor(matrix[:, ::-1, ::-1].copy())).float()
    for protein in (0, 1):
        rows = label == protein
        assert float(rotation_errors(found[rows], want[rows]).max()) < 10


def test_codes_become_of_unit_spread_and_draw_the_volumes_of_their_classes(general: HarmonyModel) -> None:
    network = deepcopy(general.network)
    assert isinstance(network, GuidedVolumeNetwork)
    size = general.card.content
    generator = torch.Generator().manual_seed(1)
    label = torch.arange(3).repeat(20)
    codes = 9 * torch.randn(3, size, generator=generator)[label] + torch.randn(60, size, generator=generator)
    volumes = torch.randn(3, 20, 20, 20, generator=generator)
    scaled = network.settle_on(codes, label, volumes)
    torch.testing.assert_close(scaled.std(0), torch.ones(size))
    with torch.no_grad():
        drawn = network.decode(scaled)
    want = volumes[label] * network.mask
    assert float((drawn - want).square().mean() / want.square().mean()) < 0.1


def test_what_is_seen_of_some_particles_is_in_their_order(general: HarmonyModel) -> None:
    usable = finish(prepare(subtomograms().particles, QUICK, torch.device("cpu")))
    seen = finish(look(general, usable))
    some = seen.subset(torch.tensor([2, 0]))
    alone = finish(look(general, usable.subset(torch.tensor([2]))))
    assert len(some.proposals) == 2
    assert float(so3.angle_between(some.proposals.best.quaternion[:1], alone.proposals.best.quaternion)) < 1e-2
    torch.testing.assert_close(some.marks[:1], alone.marks, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(some.marks[1], seen.marks[0])


def test_particles_of_a_group_agree_better_than_each_alone_can_say(general: HarmonyModel) -> None:
    data = subtomograms()
    seen = finish(look(general, finish(prepare(data.particles, QUICK, torch.device("cpu")))))
    want = true_poses(data.truth).rotation
    label = torch.as_tensor(data.truth["content"].astype("category").cat.codes.to_numpy().copy(), dtype=torch.long)
    together, alone = finish(seen.agreed(label)), seen.proposals.best.quaternion

    def off(found: torch.Tensor) -> float:
        """The median over all of how far each is off in the frame of its content, degrees."""
        errors = [rotation_errors(so3.inverse(found[label == k]), want[label == k]) for k in label.unique()]
        return float(torch.cat(errors).median())

    assert off(together) < min(8, 0.8 * off(alone))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"transforms": ("translation", "contrast")}, "looks for rotation"),
        ({"start": "input"}, "search from nothing"),
        ({"objective": "harmony-2022"}, "knows nothing of harmony-2022"),
        ({"additions": additions_of("loocc")}, "trained without additions"),
        ({"references": ("a.mrc",)}, "references"),
    ],
)
def test_what_a_pretrained_network_cannot_do_is_said(
    general: HarmonyModel, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        list(api.align(subtomograms().particles, replace(Settings(), **changes), model=general))
