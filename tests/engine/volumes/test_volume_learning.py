"""What the network of subtomograms is given, how it is trained, and how its poses become places to look at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from network_data import BOX, band, blobs, random_pose, wedge
from volume_data import densities, prepared, rotation_errors, subtomograms, true_poses

from napari_harmony.engine.settings import Settings
from napari_harmony.engine.train import TrainSettings, TrainState, TrainStep, train
from napari_harmony.engine.volumes.learning import certain, network_samples, proposed, seeds_from, volume_card
from napari_harmony.errors import InputError
from napari_harmony.models import ModelCard, VolumeNetwork
from napari_harmony.models.volume_encoding import VolumeProposals
from napari_harmony.objectives import SeedVolumes
from napari_harmony.objectives.volume_context import posed, seen_noise
from napari_harmony.transforms import Pose3D, so3

CARD = ModelCard(
    box=BOX,
    pixel_size=10.0,
    original_box=24,
    transforms=("rotation", "translation", "contrast"),
    content=4,
    hypotheses=VolumeNetwork.hypotheses(("rotation",)),
    mask_diameter=170.0,
    max_shift=30.0,
    dimensions=3,
)
COUNT = 10
SHORT = TrainSettings(epochs=2, batch=5)


def data() -> tuple[torch.Tensor, torch.Tensor, SeedVolumes]:
    """Samples, amplitudes, and seeds that are the truth."""
    generator, templates = torch.Generator().manual_seed(0), 4 * blobs(2)
    pose, label = random_pose(COUNT), torch.arange(COUNT) % 2
    amplitude = wedge().expand(COUNT, -1).contiguous()
    clean = posed(templates[label], pose.each(lambda field: field[:, None]), band())[:, 0] * amplitude
    seeds = SeedVolumes(pose, torch.ones(COUNT), label, templates)
    return clean + seen_noise(amplitude, band(), generator), amplitude, seeds


def run(samples: torch.Tensor, amplitude: torch.Tensor, **options: object) -> tuple[VolumeNetwork, list[TrainStep]]:
    steps, work = [], train(samples, amplitude, card=CARD, settings=SHORT, **options)  # type: ignore[arg-type]
    while True:
        try:
            steps.append(next(work))
        except StopIteration as stop:
            return stop.value, steps


def weights(network: VolumeNetwork) -> torch.Tensor:
    return torch.cat([tensor.flatten().float() for tensor in network.state_dict().values()])


@pytest.fixture(scope="module")
def trained() -> tuple[torch.Tensor, list[TrainState]]:
    """Weights and states of a short training."""
    samples, amplitude, seeds = data()
    states: list[TrainState] = []
    network, _ = run(samples, amplitude, seeds=seeds, on_epoch=states.append)
    return weights(network), states


def test_training_repeats_itself_in_any_order(trained: tuple) -> None:
    first, _ = trained
    samples, amplitude, seeds = data()
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(5))
    network, steps = run(samples[order], amplitude[order], seeds=seeds.take(order))
    assert len(steps) == 4 and all(np.isfinite(step.loss) for step in steps)
    assert {"reconstruction", "content agreement", "pose", "rehearsal"} <= set(steps[-1].parts)
    torch.testing.assert_close(weights(network), first, atol=1e-4, rtol=1e-4)


def test_training_goes_on_where_it_stopped(trained: tuple, tmp_path: Path) -> None:
    first, states = trained
    states[0].save(tmp_path / "state.safetensors")
    samples, amplitude, seeds = data()
    network, steps = run(samples, amplitude, seeds=seeds, resume=TrainState.load(tmp_path / "state.safetensors"))
    assert len(steps) == 2
    torch.testing.assert_close(weights(network), first, atol=1e-5, rtol=1e-5)


def test_training_without_seeds_runs() -> None:
    samples, amplitude, _ = data()
    network, steps = run(samples, amplitude)
    assert bool(weights(network).isfinite().all()) and not network.training and len(steps) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": torch.zeros(4, 10) + 0j}, "images: their shape is"),
        ({"amplitude": torch.zeros(4, 10)}, "ctf_magnitude: its shape is"),
        ({"amplitude": None}, "subtomograms need the amplitudes"),
        ({"samples": torch.full((COUNT, len(band().index)), torch.nan) + 0j}, "not finite"),
        ({"seeds": data()[2].take(torch.arange(3))}, "seeds: there are 3 for 10"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(change: dict, message: str) -> None:
    samples, amplitude, seeds = data()
    arguments = {"samples": samples, "amplitude": amplitude, "seeds": seeds} | change
    with pytest.raises(InputError, match=message):
        run(**arguments)


def test_samples_have_unit_noise_inside_the_wedge_and_the_coverage_as_amplitude() -> None:
    usable = prepared()
    samples, amplitude = network_samples(usable, BOX)
    assert samples.shape == amplitude.shape == (48, len(band().index))
    inside = amplitude[0] > 0.9 * amplitude[0].amax()
    outside = amplitude[0] < 0.02 * amplitude[0].amax()
    finest = band().shell == 8
    # mostly noise in the last shell
    assert float(samples.abs().square()[:, inside & finest].mean()) == pytest.approx(1.0, abs=0.3)
    assert float(samples.abs().square()[:, outside].mean()) < 0.1
    torch.testing.assert_close(samples * amplitude, usable.data.within(9).matched, atol=1e-3, rtol=1e-3)


def test_seeds_draw_the_particles() -> None:
    """Poses from the search, on the network's grid, put its templates where the particles are."""
    usable, truth = prepared(), true_poses(subtomograms().truth)
    templates = torch.as_tensor(subtomograms().clean)
    junk = torch.zeros(48, dtype=torch.bool)
    junk[3] = True
    seeds = seeds_from(truth, junk, templates, BOX)
    assert (
        seeds.templates.shape == (3, BOX, BOX, BOX) and float(seeds.weight[3]) == 0 and float(seeds.weight.sum()) == 47
    )
    samples, amplitude = network_samples(usable, BOX)
    assert float(seeds.pose.shift.norm(dim=1).mean()) == pytest.approx(
        float(truth.shift.norm(dim=1).mean()) * BOX / 24, rel=1e-4
    )

    def likeness(pose: Pose3D) -> float:
        drawn = posed(seeds.shown, pose.each(lambda field: field[:, None]), band())[:, 0] * amplitude
        overlap = (drawn.conj() * samples).real.sum(1)
        return float((overlap / (drawn.abs().square().sum(1) * samples.abs().square().sum(1)).sqrt()).mean())

    right = likeness(seeds.pose)
    assert right > 0.4
    assert right > likeness(Pose3D.of(seeds.pose.quaternion, -seeds.pose.shift)) + 0.02
    assert right > likeness(Pose3D.of(so3.inverse(seeds.pose.quaternion), seeds.pose.shift)) + 0.1


def test_where_all_is_junk_the_poses_are_trusted_all_the_same() -> None:
    seeds = seeds_from(
        true_poses(subtomograms().truth), torch.ones(48, dtype=torch.bool), torch.zeros(3, 24, 24, 24), 20
    )
    assert bool((seeds.weight == 1).all())


def test_a_pose_goes_to_the_network_and_comes_back() -> None:
    truth = true_poses(subtomograms().truth)
    seeds = seeds_from(truth, torch.zeros(48, dtype=torch.bool), torch.zeros(3, 24, 24, 24), BOX)
    pose = seeds.pose.each(lambda field: field[:, None])
    said = VolumeProposals(torch.zeros(48, 2), torch.zeros(48, 2), pose, torch.zeros(48, 1))
    back = proposed(said, 3, 24 / BOX)
    assert len(back.particle) == 3 * 48 and back.label[:3].tolist() == [0, 1, 2]
    best = back.best()
    assert float(rotation_errors(best.rotation, truth.rotation).max()) < 0.1
    torch.testing.assert_close(best.shift, truth.shift, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.zeros(48).index_add_(0, back.particle, back.weight), torch.ones(48))


def test_the_likeliest_proposals_weigh_most() -> None:
    pose = Pose3D.of(so3.rotation_grid(60)[:12].reshape(2, 6, 4))
    odds = torch.log_softmax(torch.tensor([[3.0, 2, 1, 0, 0, 0]] * 2), dim=1)
    back = proposed(VolumeProposals(torch.zeros(2, 1), torch.zeros(2, 1), pose, odds), 1, 1.0, hypotheses=2)
    assert back.particle.tolist() == [0, 0, 1, 1] and float(back.weight[0]) > 0.7
    torch.testing.assert_close(back.best().rotation, so3.inverse(pose.quaternion[:, 0]))


def test_what_is_certain_weighs_one() -> None:
    pose, label = random_pose(4), torch.tensor([0, 2, 1, 0])
    sure = certain(pose.quaternion, pose.shift, label)
    assert len(sure) == 4 and sure.class_score.shape == (4, 3) and bool((sure.weight == 1).all())
    torch.testing.assert_close(sure.best().rotation, pose.quaternion)
    assert sure.best().label.tolist() == label.tolist()


def test_the_card_says_what_the_network_looks_like() -> None:
    geometry = prepared().geometry
    card = volume_card(geometry, Settings(transforms=("rotation", "scale")), 3, 48)
    assert card.dimensions == 3 and card.box == BOX and card.box * card.pixel_size == pytest.approx(240.0)
    assert card.transforms == ("rotation",) and card.hypotheses == VolumeNetwork.hypotheses(("rotation",))
    assert card.shape.mask_diameter <= card.box and card.epochs >= 1
    assert len(densities()) == 3 and volume_card(geometry, Settings(), 30, 48).content > card.content
    assert replace(card, box=16).shape.box == 16
