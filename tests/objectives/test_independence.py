"""Adaptive independence: what critics read, how the controller moves, what the term looks at, and resuming it all."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import network_data
import pytest
import torch

from napari_harmony.engine.train import TrainSettings, TrainState, train
from napari_harmony.models import HarmonyNetwork, ModelCard
from napari_harmony.objectives import (
    AdversarialIndependence,
    Batch,
    Context,
    Controls,
    IndependencePenalty,
    SeedPoses,
    VolumeContext,
    make_branches,
    make_volume_branches,
)
from napari_harmony.objectives.critics import Critic, critic_loss, dependence_share, shuffled
from napari_harmony.objectives.independence import fitted_pose, pose_features, standardised
from napari_harmony.transforms import Pose2D

CARD = ModelCard(
    box=24,
    pixel_size=10.0,
    original_box=48,
    transforms=("rotation", "translation", "contrast"),
    content=4,
    hypotheses=4,
    mask_diameter=200.0,
    max_shift=40.0,
    additions=("independence",),
)
NONE = torch.zeros(())


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def core(controls: Controls | None = None, code: int = 3, other: int = 2) -> AdversarialIndependence:
    torch.manual_seed(0)
    return AdversarialIndependence(code, other, controls)


def feed(subject: AdversarialIndependence, steps: int, *, dependent: bool, active: bool = False, seed: int = 0) -> None:
    """Batches of Gaussian codes; where dependent, the first two numbers of the code are the other one."""
    random = generator(seed)
    for _ in range(steps):
        other, code = torch.randn(64, 2, generator=random), torch.randn(64, 3, generator=random)
        if dependent:
            code[:, :2] = other
        subject(code, other, NONE, random, active=active)


def test_critics_read_nothing_of_independent_codes() -> None:
    subject = core()
    feed(subject, 250, dependent=False)
    assert all(abs(value) < 0.05 for value in subject.readings)


def test_critics_read_much_of_codes_that_are_the_same() -> None:
    subject = core()
    feed(subject, 250, dependent=True)
    assert all(value > 1.0 for value in subject.readings)


def test_a_batch_is_read_before_it_is_learned_from() -> None:
    """The same batch again and again is soon known by heart; the first reading must not know it yet."""
    subject = core(Controls(critic_rate=0.02, steps=50))
    other, code = torch.randn(64, 2, generator=generator(1)), torch.randn(64, 3, generator=generator(2))
    subject(code, other, NONE, generator())
    first = subject.readings[1]
    with torch.no_grad():
        after = float(subject.watching(code, other).mean())
    assert abs(first) < 0.1 and after > 0.5


def test_the_multiplier_rises_over_the_bound_and_falls_below_it() -> None:
    subject = core()
    feed(subject, 120, dependent=True, active=True)
    high = subject.lam
    assert high > 1.0
    feed(subject, 120, dependent=False, active=True, seed=1)
    assert 0 <= subject.lam < high - 1.0


def test_nothing_moves_during_the_warm_up() -> None:
    subject = core()
    feed(subject, 100, dependent=True)
    assert (subject.lam, subject.gamma) == (0.0, Controls().gamma)
    assert subject.steps == 100 and subject.readings[1] > 0.5


def gap(subject: AdversarialIndependence, attacked: float, watching: float) -> float:
    """How far gamma moves when the critics have read this."""
    subject.steps, subject.gamma = 10_000, 1.0
    subject._averages = [attacked, watching]
    subject._control(0.0)
    return subject.gamma - 1.0


def test_gamma_follows_the_gap_between_the_critics() -> None:
    subject = core()
    assert gap(subject, 0.1, 0.5) == pytest.approx(0.01 * 0.39)
    assert gap(subject, 0.5, 0.1) == pytest.approx(-1e-4)  # it falls slowly: by the slack alone
    assert gap(subject, -3.0, -1.0) == pytest.approx(-1e-4)  # below 0 nothing is read
    assert gap(subject, 0.0, 1e3) == pytest.approx(0.01 * 9.99)  # no jumps, whatever is read
    subject.gamma, subject._averages = Controls().least, [0.0, 0.0]
    subject._control(0.0)
    assert subject.gamma == Controls().least


def test_the_penalty_is_the_augmented_lagrangian_and_reaches_the_code_alone() -> None:
    subject = core(Controls(critic_rate=0.0, allowed=0.0))
    subject.lam, subject.gamma = 2.0, 0.5
    code = torch.randn(64, 3, generator=generator(1)).requires_grad_()
    other = torch.randn(64, 2, generator=generator(2)).requires_grad_()
    read = float(subject.attacked(code, other).mean().detach())
    loss, _ = subject(code, other, torch.tensor(3.0), generator())
    assert float(loss.detach()) == pytest.approx(0.5 * 3.0 + 2.0 * read + 0.05 * read**2, rel=1e-5)
    subject.attacked.zero_grad()
    loss.backward()
    assert float(code.grad.abs().sum()) > 0 and other.grad is None
    assert all(p.grad is None or not p.grad.any() for p in subject.attacked.parameters())
    assert subject.lam == pytest.approx(2.0 + 0.1 * read, rel=1e-5)


def test_a_code_far_below_the_bound_is_left_alone() -> None:
    subject = core(Controls(critic_rate=0.0, allowed=5.0))
    code = torch.randn(64, 3, generator=generator(1)).requires_grad_()
    loss, _ = subject(code, torch.randn(64, 2, generator=generator(2)), NONE, generator())
    assert float(loss) == 0.0 and subject.lam == 0.0


def test_a_code_that_may_choose_becomes_independent() -> None:
    """A code that would rather copy the other one gives it up but for what is allowed; a fresh critic agrees."""
    random, left = generator(), {}
    for penalised in (False, True):
        torch.manual_seed(1)
        encoder, subject = torch.nn.Linear(4, 4), core(Controls(rate=0.02), code=2)
        optimiser = torch.optim.Adam(encoder.parameters(), lr=1e-2)
        for step in range(500):
            seen = torch.randn(64, 4, generator=random)
            mean, log_variance = encoder(seen).chunk(2, dim=1)
            code = mean + (0.5 * log_variance).exp() * torch.randn(64, 2, generator=random)
            divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
            error = (code - seen[:, :2] - seen[:, 2:]).square().sum(1).mean()  # wants the sum of both halves
            pressure, _ = subject(code, seen[:, :2], divergence, random, active=penalised and step > 100)
            optimiser.zero_grad()
            (error + pressure).backward()
            optimiser.step()
        left[penalised] = subject.readings[1]
    assert left[False] > 0.5
    assert left[True] < 0.3


def test_the_whole_state_comes_back() -> None:
    one, other = core(), core()
    feed(one, 30, dependent=True, active=True)
    torch.manual_seed(5)
    other = AdversarialIndependence(3, 2)
    other.load_state_dict({name: value.clone() for name, value in one.state_dict().items()})
    for subject in (one, other):
        feed(subject, 20, dependent=True, active=True, seed=7)
    assert (one.lam, one.gamma, one.readings, one.steps) == (other.lam, other.gamma, other.readings, other.steps)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_shuffled_rows_never_keep_their_place() -> None:
    for seed in range(20):
        rows = torch.arange(5)
        moved = shuffled(rows, generator(seed))
        assert sorted(moved.tolist()) == rows.tolist() and bool((moved != rows).all())


def test_share_is_that_of_the_jensen_shannon_divergence() -> None:
    assert dependence_share(torch.full((9,), 30.0), torch.full((9,), -30.0)) == pytest.approx(1.0)
    assert dependence_share(torch.zeros(9), torch.zeros(9)) == pytest.approx(0.0, abs=1e-6)
    assert dependence_share(torch.full((9,), -2.0), torch.full((9,), 2.0)) == 0.0  # worse than nothing is nothing
    # p = (3/4, 1/4), q = (1/4, 3/4): the best log ratios are +-log 3
    joint, product = math.log(3) * torch.tensor([1.0, 1, 1, -1]), math.log(3) * torch.tensor([1.0, -1, -1, -1])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert dependence_share(joint, product) == pytest.approx((math.log(2) - entropy) / math.log(2), rel=1e-5)


def test_a_critic_of_two_codes_scores_every_pair() -> None:
    torch.manual_seed(0)
    critic, a, b = Critic(3, 2), torch.randn(5, 3), torch.randn(5, 2)
    torch.testing.assert_close(critic.table(a, b).diagonal(), critic(a, b))
    torch.testing.assert_close(critic.as_constant(a, b), critic(a, b))
    assert float(critic_loss(torch.zeros(4), torch.zeros(4))) == pytest.approx(math.log(2))


def images_context(card: ModelCard = CARD, n: int = 8) -> Context:
    torch.manual_seed(0)
    network, images = HarmonyNetwork(card.shape), torch.randn(n, 24, 24)
    applied = Pose2D.of(torch.linspace(-3, 3, n), torch.full((n, 2), 0.5), gain=torch.linspace(0.8, 1.2, n))
    original, copy = make_branches(network, images, applied, generator())
    seeds = SeedPoses(torch.linspace(0, 2, n), torch.zeros(n, 2), torch.ones(n))
    return Context(network, Batch(images, None, seeds), original, copy, 0.5, 1.0, 2, generator())


def test_the_pose_of_a_copy_is_its_own_transformation_after_that_of_the_particle() -> None:
    seen = images_context()
    pose = seen.copy.applied.compose(fitted_pose(seen))
    torch.testing.assert_close(pose.angle, seen.copy.applied.angle + torch.linspace(0, 2, 8))
    features = pose_features(pose, ("rotation", "translation", "contrast"))
    assert features.shape == (8, 6)
    torch.testing.assert_close(features[:, 0], torch.cos(pose.angle))
    turned = replace(pose, angle=pose.angle + 2 * math.pi)
    torch.testing.assert_close(pose_features(turned, ("rotation",)), features[:, :2], atol=1e-5, rtol=0)


def test_features_are_brought_to_one_scale() -> None:
    columns = standardised(
        torch.stack([torch.linspace(0, 1e-3, 9), torch.linspace(5, 50, 9), torch.full((9,), 3.0)], 1)
    )
    torch.testing.assert_close(columns.square().mean(0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-4, rtol=0)


def test_the_term_penalises_the_content_of_images() -> None:
    seen = images_context()
    term = IndependencePenalty(CARD, 2.0, controls=Controls(gamma=0.2))
    assert term.core.controls.allowed == pytest.approx(0.125 / 2)
    assert term.factors == ("rotation", "translation", "contrast")
    term.core.lam = 1.0
    loss, logged = term(seen)
    by_content, by_pose = torch.autograd.grad(
        loss, [seen.copy.content, seen.copy.encoding.logits], retain_graph=True, allow_unused=True
    )
    assert float(by_content.abs().sum()) > 0 and by_pose is None
    assert set(logged) == {"attacked", "watching", "gamma", "lambda"}


def test_excluded_factors_are_not_looked_at() -> None:
    term = IndependencePenalty(CARD, exclude=("rotation", "contrast"))
    assert term.factors == ("translation",) and term.core.attacked.second[0].in_features == 2
    nothing = IndependencePenalty(replace(CARD, transforms=()))
    assert float(nothing(images_context())[0]) == 0.0


def test_it_warms_up_by_steps_or_by_progress() -> None:
    early = replace(images_context(), progress=0.0)
    by_steps, by_progress = (IndependencePenalty(CARD, warm_up=w) for w in ((2, 1.0), (1000, 0.4)))
    moved = []
    for _ in range(3):
        by_steps(early)
        moved.append(by_steps.core.lam > 0 or by_steps.core.gamma != Controls().gamma)
    by_steps.core._averages = [0.0, 1e3]
    by_steps(early)
    assert not any(moved[:2]) and by_steps.core.gamma > Controls().gamma
    by_progress.core._averages = [0.0, 1e3]
    by_progress(early)
    assert by_progress.core.gamma == Controls().gamma
    by_progress(images_context())
    assert by_progress.core.gamma > Controls().gamma


def test_the_term_looks_at_subtomograms_too() -> None:
    n, network = 6, network_data.network()
    samples = torch.view_as_complex(torch.randn(n, len(network.band.index), 2, generator=generator(3)))
    batch = Batch(samples, network_data.full().expand(n, -1), None)
    own, moved = make_volume_branches(network, batch, network_data.random_pose(n), generator())
    seen = VolumeContext(network, batch, own, moved, 0.5, 1.0, 2, generator())
    card = replace(CARD, dimensions=3, box=network_data.BOX)
    term = IndependencePenalty(card, controls=Controls(gamma=0.2))
    assert term.factors == ("rotation", "translation") and term.core.attacked.second[0].in_features == 12
    term.core.lam = 1.0
    loss, _ = term(seen)
    assert torch.isfinite(loss) and torch.autograd.grad(loss, moved.content, allow_unused=True)[0] is not None


def run(card: ModelCard, images: torch.Tensor, **options: object) -> torch.Tensor:
    """Weights of a network trained to the end."""
    work = train(images, None, card=card, settings=TrainSettings(epochs=4, batch=16), **options)  # type: ignore[arg-type]
    while True:
        try:
            next(work)
        except StopIteration as stop:
            return torch.cat([p.detach().flatten() for p in stop.value.parameters()])


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    images = torch.randn(48, 24, 24, generator=generator(4))
    states: list[TrainState] = []
    whole = run(CARD, images, on_epoch=states.append)
    states[1].save(tmp_path / "state.safetensors")
    assert "objective.independence.optimiser.watching.0.exp_avg" in states[1].tensors
    resumed = run(CARD, images, resume=TrainState.load(tmp_path / "state.safetensors"))
    assert torch.equal(whole, resumed)
    assert not torch.equal(whole, run(replace(CARD, additions=()), images))
