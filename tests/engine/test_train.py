"""Training learns poses and contents, repeats itself, resumes, and falls into none of the known traps."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from napari_harmony.engine.train import TrainSettings, TrainState, TrainStep, train
from napari_harmony.errors import InputError
from napari_harmony.models import ModelCard, PoseNetwork
from napari_harmony.objectives import SeedPoses
from napari_harmony.transforms import Pose2D, apply_ctf, render

BOX = 24
CARD = ModelCard(
    box=BOX,
    pixel_size=10.0,
    original_box=48,
    transforms=("rotation", "translation", "contrast"),
    content=4,
    hypotheses=8,
    mask_diameter=200.0,
    max_shift=40.0,
)
SHORT = TrainSettings(epochs=2, batch=16)


def contents() -> torch.Tensor:
    """Three asymmetric pictures, (3, BOX, BOX)."""
    axis = torch.arange(BOX) - BOX // 2
    recipes = (
        [(5.0, 1.0, 1.8, 1.0), (-4.0, 3.0, 2.0, 0.8)],
        [(4.0, 0.0, 1.5, 1.0), (-4.0, 0.0, 2.5, 0.7), (0.0, 5.0, 1.5, 0.9)],
        [(0.0, 0.0, 3.0, 0.8), (6.0, 2.0, 1.5, 1.0)],
    )
    return torch.stack(
        [
            sum(a * torch.exp(-((axis - x) ** 2 + (axis[:, None] - y) ** 2) / (2 * s * s)) for x, y, s, a in blobs)
            for blobs in recipes
        ]
    )


def data(n: int, snr: float = 0.5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, Pose2D, torch.Tensor]:
    """Images and CTF as training wants them, the true poses and contents."""
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(3, (n,), generator=generator)
    pose = Pose2D.of(
        torch.rand(n, generator=generator) * 2 * math.pi, torch.randn(n, 2, generator=generator).clamp(-2, 2)
    )
    u2 = torch.fft.fftfreq(BOX)[:, None] ** 2 + torch.fft.rfftfreq(BOX) ** 2
    ctf = torch.sin(0.15 + 20 * u2 * (0.5 + torch.rand(n, 1, 1, generator=generator))).abs()
    clean = apply_ctf(render(contents()[which], pose), ctf)
    noise = torch.randn(n, BOX, BOX, generator=generator)
    return math.sqrt(snr / float(clean.var())) * clean + noise, ctf, pose, which


def seeds_from(pose: Pose2D) -> SeedPoses:
    generator = torch.Generator().manual_seed(9)
    n = len(pose)
    angle = pose.angle + math.radians(2) * torch.randn(n, generator=generator)
    return SeedPoses(angle, pose.shift + 0.25 * torch.randn(n, 2, generator=generator), torch.ones(n))


def run(*arguments: object, **options: object) -> tuple[PoseNetwork, list[TrainStep]]:
    """Exhaust a training and give its network and steps."""
    steps, generator = [], train(*arguments, **options)  # type: ignore[arg-type]
    while True:
        try:
            steps.append(next(generator))
        except StopIteration as stop:
            return stop.value, steps


def weights(network: PoseNetwork) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.fixture(scope="module")
def seeded() -> tuple[PoseNetwork, tuple]:
    """A network trained for real, if briefly, on seeded poses."""
    sample = data(400)
    images, ctf, pose, _ = sample
    settings = TrainSettings(epochs=40, batch=50)
    return run(images, ctf, card=CARD, settings=settings, seeds=seeds_from(pose))[0], sample


def test_seeded_training_learns_poses_that_hold_on_new_particles(seeded: tuple) -> None:
    network, _ = seeded
    images, _, pose, _ = data(200, seed=1)
    angle, shift = network.propose(images).best.distance(pose)
    assert math.degrees(float(angle.median())) < 8.0
    assert float((angle < math.radians(20)).float().mean()) > 0.8
    assert float(shift.median()) < 0.6


def test_there_is_no_half_pixel_bias(seeded: tuple) -> None:
    network, (images, _, pose, _) = seeded
    best = network.propose(images).best
    right = best.distance(pose)[0] < math.radians(20)
    assert float((best.shift - pose.shift)[right].mean(0).abs().max()) < 0.15


def test_content_codes_tell_the_contents_apart(seeded: tuple) -> None:
    network, (images, _, _, which) = seeded
    codes = network.propose(images).content_mean
    centres = torch.stack([codes[which == k].mean(0) for k in range(3)])
    nearest = torch.cdist(codes, centres).argmin(1)
    assert float((nearest == which).float().mean()) > 0.95


def test_pictures_show_the_contents_and_are_not_blank(seeded: tuple) -> None:
    network, (images, _, _, which) = seeded
    with torch.no_grad():
        pictures = network.decode(network.propose(images).content_mean)
    for k in range(3):
        shown, true = pictures[which == k].mean(0).flatten(), contents()[k].flatten()
        assert float(torch.corrcoef(torch.stack([shown, true]))[0, 1]) > 0.9


def test_turning_the_inputs_turns_the_proposals(seeded: tuple) -> None:
    network, (images, _, _, _) = seeded
    turn = Pose2D.of(torch.full((len(images),), math.pi / 2))
    before, after = network.propose(images).best, network.propose(render(images, turn)).best
    angle, shift = after.distance(turn.compose(before))
    assert math.degrees(float(angle.median())) < 3.0
    assert float(shift.median()) < 0.2


def test_without_seeds_hypotheses_find_the_poses() -> None:
    """One content, no hint: the frame is free, so rotations are right up to one common angle."""
    images, ctf, pose, which = data(600, snr=1.0)
    only = which == 1
    images, ctf, pose = images[only], ctf[only], pose[only]
    network, _ = run(images, ctf, card=CARD, settings=TrainSettings(epochs=60, batch=32))
    difference = network.propose(images).angle[:, 0] - pose.angle
    gauge = torch.atan2(difference.sin().mean(), difference.cos().mean())
    error = Pose2D.of(difference).distance(Pose2D.of(gauge.expand_as(difference)))[0]
    assert float((error < math.radians(20)).float().mean()) > 0.8


def test_pure_noise_yields_no_picture_worth_the_name() -> None:
    noise = torch.randn(200, BOX, BOX, generator=torch.Generator().manual_seed(0))
    network, _ = run(noise, None, card=CARD, settings=TrainSettings(epochs=10, batch=50))
    with torch.no_grad():
        energy = network.decode(network.propose(noise).content_mean).square().sum((1, 2)).mean()
    images, ctf, pose, _ = data(200)
    signal, _ = run(images, ctf, card=CARD, settings=TrainSettings(epochs=10, batch=50), seeds=seeds_from(pose))
    with torch.no_grad():
        real = signal.decode(signal.propose(images).content_mean).square().sum((1, 2)).mean()
    assert float(energy) < 0.3 * float(real)


def test_the_same_seed_gives_the_same_network_whatever_the_order_of_the_particles() -> None:
    images, ctf, pose, _ = data(48)
    seeds = seeds_from(pose)
    first, _ = run(images, ctf, card=CARD, settings=SHORT, seeds=seeds)
    again, _ = run(images, ctf, card=CARD, settings=SHORT, seeds=seeds)
    assert torch.equal(weights(first), weights(again))
    order = torch.randperm(48, generator=torch.Generator().manual_seed(3))
    permuted, _ = run(images[order], ctf[order], card=CARD, settings=SHORT, seeds=seeds.take(order))
    assert torch.equal(weights(first), weights(permuted))
    other, _ = run(images, ctf, card=replace(CARD, seed=1), settings=SHORT, seeds=seeds)
    assert not torch.equal(weights(first), weights(other))


def test_training_leaves_the_global_random_numbers_alone() -> None:
    images, ctf, _, _ = data(16)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    run(images, ctf, card=CARD, settings=SHORT)
    assert torch.equal(torch.rand(1), expected)


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    images, ctf, pose, _ = data(48)
    options = {"card": CARD, "settings": replace(SHORT, epochs=4), "seeds": seeds_from(pose)}
    states: list[TrainState] = []
    whole, steps = run(images, ctf, **options, on_epoch=states.append)
    assert [s.epoch for s in states] == [1, 2, 3, 4]
    states[1].save(tmp_path / "state.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]
    resumed, rest = run(images, ctf, **options, resume=TrainState.load(tmp_path / "state.safetensors"))
    assert torch.equal(weights(whole), weights(resumed))
    assert [s.loss for s in rest] == [s.loss for s in steps if s.epoch >= 2]


def test_a_state_of_another_training_is_refused(tmp_path: Path) -> None:
    images, ctf, _, _ = data(16)
    states: list[TrainState] = []
    run(images, ctf, card=CARD, settings=SHORT, on_epoch=states.append)
    with pytest.raises(InputError, match="of another training"):
        run(images, ctf, card=replace(CARD, content=7), settings=SHORT, resume=states[0])
    (tmp_path / "state").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot be read"):
        TrainState.load(tmp_path / "state")


def test_steps_count_to_the_total_and_closing_ends_the_training() -> None:
    images, ctf, _, _ = data(40)
    network, steps = run(images, ctf, card=CARD, settings=SHORT)
    assert [s.done for s in steps] == list(range(1, steps[0].total + 1))
    assert {s.epoch for s in steps} == {0, 1} and steps[0].epochs == 2
    assert all(math.isfinite(s.loss) and "reconstruction" in s.parts for s in steps)
    assert not network.training and steps[-1].network is network
    generator = train(images, ctf, card=CARD, settings=SHORT)
    next(generator)
    generator.close()
    with pytest.raises(StopIteration):
        next(generator)


@pytest.mark.parametrize("transforms", [(), ("rotation",), ("translation", "scale"), ("rotation", "scale", "contrast")])
@pytest.mark.parametrize("with_seeds", [True, False])
def test_any_subset_of_transformations_trains(transforms: tuple[str, ...], with_seeds: bool) -> None:
    images, _, pose, _ = data(20)
    seeds = seeds_from(pose) if with_seeds else None
    network, steps = run(images, None, card=replace(CARD, transforms=transforms), settings=SHORT, seeds=seeds)
    assert steps and torch.isfinite(weights(network)).all()


def test_the_published_objective_trains_on_the_same_images() -> None:
    images, ctf, _, _ = data(200)
    card = replace(CARD, objective="harmony-2022", transforms=("rotation", "translation"))
    network, steps = run(images, ctf, card=card, settings=TrainSettings(epochs=10, batch=50))
    assert steps[-1].loss < 0.9 * steps[0].loss
    assert network.propose(images).angle.shape == (200, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(1, BOX, BOX)}, "images: there are 1"),
        ({"images": torch.zeros(8, BOX, BOX + 1)}, "images: their shape is"),
        ({"images": torch.full((8, BOX, BOX), torch.nan)}, "images: some values are not finite"),
        ({"ctf_magnitude": torch.zeros(8, BOX, BOX)}, "ctf_magnitude: its shape is"),
        ({"seeds": SeedPoses(torch.zeros(3), torch.zeros(3, 2), torch.ones(3))}, "seeds: there are 3 for 8"),
    ],
)
def test_input_that_cannot_be_trained_on_is_refused_in_one_sentence(change: dict, message: str) -> None:
    arguments = {"images": torch.zeros(8, BOX, BOX), "ctf_magnitude": None, "card": CARD} | change
    with pytest.raises(InputError, match=message):
        next(train(**arguments))
