"""The closed loop learns clean pictures from noisy images, holds the content code to what it measures, and resumes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from network_data import blobs, wedge

from napari_harmony.additions import Addition
from napari_harmony.engine.recipes import recipe_for
from napari_harmony.engine.train import TrainSettings, TrainState, look, train
from napari_harmony.errors import InputError
from napari_harmony.models import ModelCard, VolumeNetwork, build_network
from napari_harmony.objectives import (
    Batch,
    Context,
    DiffusionFeedback,
    LoopSettings,
    SeedPoses,
    SeedVolumes,
    Weight,
    added,
    added_term,
)
from napari_harmony.objectives.diffusion import _gaussian_divergence, _measured, _misfit, _noised, _try
from napari_harmony.objectives.volume_context import VolumeContext, posed, seen_noise
from napari_harmony.transforms import Pose2D, Pose3D, apply_ctf, render, so3

BOX, VOLUME = 16, 20
CARD = ModelCard(
    box=BOX,
    pixel_size=10.0,
    original_box=32,
    transforms=("rotation", "translation", "contrast"),
    content=3,
    hypotheses=4,
    mask_diameter=150.0,
    max_shift=25.0,
    additions=("diffusion",),
)
HYPOTHESES = VolumeNetwork.hypotheses(CARD.transforms)
VOLUME_CARD = replace(CARD, box=VOLUME, hypotheses=HYPOTHESES, dimensions=3, mask_diameter=170.0, max_shift=30.0)


def pictures() -> torch.Tensor:
    """Two pictures (2, BOX, BOX) of three blobs, one of which is elsewhere in the second."""
    axis = torch.arange(BOX) - BOX // 2
    places = ([(3.0, 0.0), (-3.0, 1.0), (0.0, 3.0)], [(3.0, 0.0), (-3.0, 1.0), (0.0, -3.0)])
    return torch.stack(
        [sum(torch.exp(-((axis - x) ** 2 + (axis[:, None] - y) ** 2) / 4.0) for x, y in of) for of in places]
    )


def images(n: int, signal: float = 2.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, SeedPoses, torch.Tensor]:
    """Posed, filtered, noisy images (n, BOX, BOX), their CTF, their poses, and which picture they show (n,)."""
    generator = torch.Generator().manual_seed(seed)
    which = torch.arange(n) % 2
    angle = torch.rand(n, generator=generator) * 2 * math.pi
    seeds = SeedPoses(angle, torch.randn(n, 2, generator=generator).clamp(-1, 1), torch.ones(n))
    u2 = torch.fft.fftfreq(BOX)[:, None] ** 2 + torch.fft.rfftfreq(BOX) ** 2
    ctf = torch.sin(0.3 + 10 * u2 * (0.5 + torch.rand(n, 1, 1, generator=generator))).abs()
    clean = apply_ctf(render(signal * pictures()[which], seeds.pose, fast=True), ctf)
    return clean + torch.randn(n, BOX, BOX, generator=generator), ctf, seeds, which


def volumes(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, SeedVolumes]:
    """Samples (n, m) of posed volumes behind a wedge, amplitudes (n, m), and the poses."""
    generator = torch.Generator().manual_seed(seed)
    network = build_network(replace(VOLUME_CARD, additions=()))
    assert isinstance(network, VolumeNetwork)
    templates, label = 3 * blobs(2, box=VOLUME), torch.arange(n) % 2
    pose = Pose3D.of(so3.random_rotations(n, generator), torch.randn(n, 3, generator=generator))
    amplitude = wedge().expand(n, -1)
    clean = posed(templates[label], pose.each(lambda field: field[:, None]), network.band)[:, 0] * amplitude
    samples = clean + seen_noise(amplitude, network.band, generator)
    return samples, amplitude, SeedVolumes(pose, torch.ones(n), label, templates)


def context(card: ModelCard = CARD, n: int = 16, progress: float = 0.5, seeded: bool = True) -> Any:
    """What a term sees of a fresh network."""
    torch.manual_seed(0)
    network = build_network(card)
    samples, ctf, seeds = images(n)[:3] if card.dimensions == 2 else volumes(n)
    applied = Pose2D.of(torch.linspace(-2, 2, n)) if card.dimensions == 2 else Pose3D.identity(n)
    generator = torch.Generator().manual_seed(0)
    batch = Batch(samples, ctf, seeds if seeded else None)
    return look(network, batch, applied, progress=progress, temperature=1.0, kept=2, generator=generator)


def term(card: ModelCard = CARD, strength: float = 1.0, **settings: Any) -> DiffusionFeedback:
    return DiffusionFeedback(card, Weight(strength), LoopSettings(**{"law": "measured"} | settings))


def test_a_clean_picture_leaves_only_the_noise() -> None:
    """Per pixel, the truth leaves the noise's variance; what is wrong adds its own squares, posed and filtered."""
    own = context(n=64)
    clean = 2 * pictures()[torch.arange(64) % 2]
    rows = slice(0, 64)
    right, wrong = _misfit(own, rows, clean), _misfit(own, rows, clean.flip(0))
    assert float(right) == pytest.approx(1.0, abs=0.03)
    ctf, pose = own.batch.ctf, own.batch.seeds.pose
    moved = apply_ctf(render(clean - clean.flip(0), pose, fast=True), ctf)
    assert float(wrong - right) == pytest.approx(float(moved.square().mean()), rel=0.25)


def test_a_clean_volume_leaves_only_the_noise() -> None:
    own = context(VOLUME_CARD, n=6)
    assert isinstance(own, VolumeContext)
    true = own.batch.seeds.shown
    right, wrong = _misfit(own, slice(0, 6), true), _misfit(own, slice(0, 6), true.flip(0))
    held = (own.batch.ctf > 0).sum(1).float().mean()
    assert float(right) == pytest.approx(2 * float(held) / VOLUME**3, rel=0.05)
    assert float(wrong) > 1.02 * float(right)


def test_particles_without_trust_do_not_count() -> None:
    own = context(n=8)
    trusted = replace(own.batch.seeds, weight=torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0]))
    again = replace(own, batch=replace(own.batch, seeds=trusted))
    assert isinstance(again, Context)
    clean = 2 * pictures()[torch.arange(8) % 2]
    assert float(_misfit(again, slice(0, 8), clean)) == pytest.approx(float(_misfit(own, slice(0, 1), clean[:1])) / 8)


def test_levels_are_spread_evenly_and_contents_left_out() -> None:
    decoder = context().network.sharp
    decoder.adapt(torch.ones(4, BOX, BOX))
    level, noised, known = _noised(decoder, torch.zeros(400, BOX, BOX), 0.1, torch.Generator().manual_seed(0))
    assert torch.equal(level.sort().values.unique_consecutive(), torch.arange(200))
    assert 0.85 < float(known.float().mean()) < 0.95
    spread = noised.flatten(1).std(1)
    torch.testing.assert_close(spread, (1 - decoder.schedule.kept[level]).sqrt(), atol=0.2, rtol=0)


@pytest.mark.parametrize("card", [CARD, VOLUME_CARD], ids=["images", "volumes"])
def test_what_a_code_tells_is_measured(card: ModelCard) -> None:
    """A decoder that does not listen gains nothing; one that knows the picture from the code gains all of it."""
    own, settings = context(card, n=8), LoopSettings(share=1.0)
    decoder = own.network.sharp
    with torch.no_grad():
        own.network.decoder[-1].weight.mul_(30)
    pictures = own.pictures[0].detach()
    decoder.adapt(pictures)
    assert float(_measured(own, settings)) == pytest.approx(0.0, abs=1e-6)  # the last layer begins with zeros
    decoder.denoise = lambda noised, level, content, known=None: pictures * float(known is None)
    # the gain is the square of the picture at any noise, so that the integral is that times the range
    seen = 0.5 * float(pictures.square().flatten(1).sum(1).mean() * own.batch.ctf.square().mean())
    assert float(_measured(own, settings)) == pytest.approx(seen, rel=0.3)


def test_a_divergence_of_gaussians_is_the_known_one() -> None:
    p, q = torch.distributions.Normal(0.3, 0.5), torch.distributions.Normal(-0.2, 1.5)
    one, other = ((torch.full((2, 3), d.mean), torch.full((2, 3), 2 * math.log(float(d.stddev)))) for d in (p, q))
    wanted = 3 * float(torch.distributions.kl_divergence(p, q))
    assert float(_gaussian_divergence(one, other)[0]) == pytest.approx(wanted, rel=1e-5)
    assert float(_gaussian_divergence(one, one)[0]) == pytest.approx(0.0, abs=1e-6)


def test_the_teacher_does_not_follow_its_pupil() -> None:
    own = context()
    _try(own, LoopSettings(), False).distillation.backward()
    network = own.network
    assert all(p.grad is None or not p.grad.any() for p in network.content_head.parameters())
    assert all(p.grad is not None and p.grad.any() for p in network.sharp.semantic.parameters())
    assert any(p.grad is not None and p.grad.any() for p in network.encoder.parameters())


def test_the_decoder_learns_without_moving_the_other_one() -> None:
    own = context()
    torch.nn.init.normal_(own.network.sharp.unet.out[-1].conv.weight, std=0.1)
    _try(own, LoopSettings(), False).error.backward()
    assert all(p.grad is None or not p.grad.any() for p in own.network.decoder.parameters())
    assert all(p.grad is not None and p.grad.any() for p in own.network.sharp.sketch.parameters())


def test_the_capacity_follows_its_law() -> None:
    measured, schedule = term(), term(law="schedule", most=7.0)
    assert float(measured.capacity(context())) == 1.0
    measured.measured = torch.tensor(4.0)
    assert float(measured.capacity(context())) == 4.0
    measured.measured = torch.tensor(40.0)
    assert float(measured.capacity(context())) == 6.0  # two nats for each of three dimensions
    along = [float(schedule.capacity(context(progress=p))) for p in (0.0, 0.1, 0.3, 0.6, 1.0)]
    assert along == sorted(along) and along[0] == 0.0 and along[-2:] == [7.0, 7.0]


def test_a_measurement_is_taken_now_and_then_and_averaged() -> None:
    own = term(every=2, pace=0.25)
    for value in (8.0, None, 2.0, None):
        own._follow(None if value is None else torch.tensor(value))
    assert float(own.measured) == 5.0  # plain means at first
    for value in [1.0, None] * 6:
        own._follow(None if value is None else torch.tensor(value))
    before = float(own.measured)
    own._follow(torch.tensor(before + 4))
    assert float(own.measured) == pytest.approx(before + 1)


def test_the_code_is_pressed_towards_the_capacity_from_either_side() -> None:
    for capacity in (0.2, 5.9):
        own, here = (
            term(decoder=0.0, distil=None, pressure=Weight(1.0), law="schedule", most=capacity),
            context(progress=1.0),
        )
        total, logged = own(here)
        assert float(total) == pytest.approx(abs(float(logged["nats"]) - capacity), rel=1e-4)
    assert float(logged["nats"]) < 5.9


def test_the_prior_gives_way_to_a_schedule_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def names(law: str) -> list[str]:
        monkeypatch.setitem(added.MAKERS, "diffusion", lambda strength, card: term(law=law))
        return [each.name for each in recipe_for(CARD, True, 100, 64).objective.terms]

    plain = [each.name for each in recipe_for(replace(CARD, additions=()), True, 100, 64).objective.terms]
    assert names("measured") == names("none") == [*plain, "diffusion"]
    assert names("schedule") == [*(name for name in plain if name != "content prior"), "diffusion"]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="law: 'guess'"):
        LoopSettings(law="guess")
    with pytest.raises(ValueError, match="measured and steps"):
        term().load_state_dict({"other": torch.ones(())})
    assert added_term(Addition("diffusion", 2.5), CARD).weight(0.0) == 2.5


@pytest.mark.parametrize("card", [CARD, VOLUME_CARD], ids=["images", "volumes"])
def test_a_stopped_training_goes_on_to_the_same_weights(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(added.MAKERS, "diffusion", lambda strength, card: term(card, every=1))
    samples, ctf, seeds = images(24)[:3] if card.dimensions == 2 else volumes(8)
    settings, states = TrainSettings(epochs=2, batch=len(samples) // 2), []

    def finish(resume: TrainState | None = None) -> torch.Tensor:
        steps = train(samples, ctf, card=card, settings=settings, seeds=seeds, resume=resume, on_epoch=states.append)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                return torch.cat([value.flatten() for value in stop.value.state_dict().values()])

    whole, middle = finish(), states[0]
    assert float(middle.tensors["objective.diffusion.steps"]) == 2.0
    assert float(middle.tensors["objective.diffusion.measured"]) != 0.0
    assert torch.equal(whole, finish(middle))


def test_clean_pictures_are_learned_from_noisy_images() -> None:
    """With noise stronger than the signal in every image, the decoder draws what they show, without their noise."""
    own = context(n=160)
    decoder, clean = own.network.sharp, 2 * pictures()
    which = torch.arange(160) % 2
    codes = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    decoder.adapt(clean)
    optimiser = torch.optim.Adam(decoder.parameters(), lr=4e-3)
    for number in range(80):
        rows = slice(40 * (number % 4), 40 * (number % 4) + 40)
        level, noised, known = _noised(decoder, clean[which[rows]], 0.1, own.generator)
        optimiser.zero_grad()
        _misfit(own, rows, decoder.denoise(noised, level, codes[which[rows]], known)).backward()
        optimiser.step()
    drawn = decoder.draw(codes)
    errors = (drawn[:, None] - clean).square().mean((2, 3)) / clean.square().mean()
    assert float(errors.diagonal().max()) < 0.15
    assert float(errors.diagonal().max()) < 0.5 * float(errors[0, 1].minimum(errors[1, 0]))
