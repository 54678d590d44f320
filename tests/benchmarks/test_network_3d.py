"""The benchmark's rows of the network alone: its poses and classes in the conventions of the scores, and its speed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_harmony.engine.settings import Settings
from napari_harmony.engine.volumes.learning import volume_card
from napari_harmony.engine.volumes.prepare import prepare
from napari_harmony.engine.work import finish
from napari_harmony.models import (
    ContentMixture,
    GuidedVolumeNetwork,
    HarmonyModel,
    VolumeNetwork,
    VolumeProposals,
    build_network,
)
from napari_harmony.models.bundled import bundled_model
from napari_harmony.models.guided_volumes import MARK_DEGREE
from napari_harmony.particles.simulate import sample_volumes
from napari_harmony.particles.simulate_volumes import simulate_subtomograms
from napari_harmony.particles.wedge import TiltRange
from napari_harmony.transforms import Pose3D, so3
from napari_harmony.transforms.rotation_functions import functions_of, functions_up_to, turned

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import cases_3d
import methods
import methods_3d
import network_3d
import protocols_3d
from napari_harmony.analysis.metrics_3d import ANGLES, ORIGINS

BOX, COUNT = 24, 12


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> cases_3d.Case3D:
    """Two small sets on disk that differ by their seed."""
    work = tmp_path_factory.mktemp("work")
    for seed in (4, 5):
        made = simulate_subtomograms([sample_volumes(BOX)[i] for i in (1, 3)], COUNT, BOX, snr=2.0, seed=seed)
        protocol = protocols_3d.Protocol3D("T", COUNT, 2.0, BOX, 1.0, densities=("one", "two"))
        case = cases_3d.Case3D(protocol, seed, work)
        protocols_3d.write(made, case.folder, {})
    return replace(case, seed=4)


@pytest.fixture(scope="module")
def model(case: cases_3d.Case3D) -> HarmonyModel:
    """Not trained, in the folder where ``harmony`` leaves it."""
    geometry = finish(prepare(case.particles, Settings(), torch.device("cpu"))).geometry
    card = replace(volume_card(geometry, Settings(), 2, COUNT), classes=2, template_box=BOX)
    means = torch.zeros(2, card.content)
    means[0, 0], means[1, 0] = -1.0, 1.0
    mixture = ContentMixture(means, torch.eye(card.content).repeat(2, 1, 1), torch.tensor([0.5, 0.5]))
    model = HarmonyModel(build_network(card).eval(), card, torch.zeros(2, *[BOX] * 3), mixture)
    model.save(case.folder / "harmony_s0")
    return model


def omniscient(case: cases_3d.Case3D, model: HarmonyModel) -> VolumeProposals:
    """What a network says that knows the truth."""
    angles, origin = (torch.as_tensor(case.truth[names].to_numpy()).float() for names in (ANGLES, ORIGINS))
    pose = Pose3D.from_relion(angles, origin).on_grid(model.card.box / BOX)
    content = torch.zeros(COUNT, model.card.content)
    content[:, 0] = torch.as_tensor(case.truth["content"].to_numpy()) * 2.0 - 1.0
    return VolumeProposals(content, content, pose.each(lambda field: field[:, None]), torch.zeros(COUNT, 1))


@pytest.mark.parametrize("together", [True, False])
def test_the_bundled_model_is_scored_without_classes_of_its_own(
    case: cases_3d.Case3D, model: HarmonyModel, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    general = HarmonyModel.load(bundled_model(3))
    known = replace(omniscient(case, general), log_odds=torch.zeros(COUNT, 1))
    content = torch.as_tensor(case.truth["content"].to_numpy())
    shown = torch.randn(2, 3, functions_up_to(MARK_DEGREE), generator=torch.Generator().manual_seed(0))[content]
    marks = turned(shown, functions_of(MARK_DEGREE, known.best.quaternion))
    said = known
    if together:
        # each alone knows nothing, and their marks know all
        wrong = so3.random_rotations(COUNT, torch.Generator().manual_seed(1))[:, None]
        said = replace(known, pose=replace(known.pose, quaternion=wrong))
    monkeypatch.setattr(GuidedVolumeNetwork, "look", lambda *given, **more: (said, marks))
    scores = cases_3d.score(case, network_3d.zero_shot(case, 0, bundled_model(3), together))
    assert scores["accuracy"] == 1 and scores["rotation_median"] < (8 if together else 0.1)
    assert scores["shift_median"] < (0.3 if together else 0.01)


def test_a_network_that_knows_the_truth_scores_as_such(
    case: cases_3d.Case3D, model: HarmonyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = omniscient(case, model)
    monkeypatch.setattr(VolumeNetwork, "propose", lambda *given, **more: known)
    table = network_3d.table_of(model, case.particles)
    np.testing.assert_allclose(table[ORIGINS], case.truth[ORIGINS], atol=1e-3)
    np.testing.assert_array_equal(table["class_number"], case.truth["content"] + 1)
    run = methods_3d.run_method("network", case, 0, methods.Options())
    scores = cases_3d.score(case, run)
    assert scores["accuracy"] == 1 and scores["rotation_median"] < 0.1 and scores["shift_median"] < 0.01
    assert scores["per_second"] > 0


def test_held_out_particles_are_those_of_the_next_seed(case: cases_3d.Case3D, model: HarmonyModel) -> None:
    run = methods_3d.run_method("network-held-out", case, 0, methods.Options())
    scores = cases_3d.score(case, run)
    assert run.table is None and "data seed 5" in run.note and run.method == "network-held-out"
    other = replace(case, seed=5)
    assert scores == pytest.approx(
        cases_3d.metrics_3d.evaluate(network_3d.table_of(model, other.particles), other.truth), nan_ok=True
    )


def test_speed_counts_every_subtomogram(
    case: cases_3d.Case3D, model: HarmonyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    honest = network_3d.proposed
    monkeypatch.setattr(network_3d, "proposed", lambda *given: seen.append(len(given[1])) or honest(*given))
    monkeypatch.setattr(network_3d, "BATCH", 8)
    volumes = case.particles.read(slice(None))
    assert network_3d.per_second(model, volumes, 10.0, TiltRange(-60, 60), count=20) > 0
    assert seen == [8, 8, 8, 4]
