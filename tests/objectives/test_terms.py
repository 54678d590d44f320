"""Each term asks for what it says, and an objective sums them by schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from napari_harmony.errors import InputError
from napari_harmony.models import HarmonyNetwork, NetworkShape
from napari_harmony.models.encoding import Encoding
from napari_harmony.objectives import (
    Batch,
    Branch,
    ContentAgreement,
    ContentPrior,
    Context,
    ContrastTarget,
    Harmony2022,
    Objective,
    PoseTarget,
    Reconstruction,
    Rehearsal,
    SeedPoses,
    Term,
    Weight,
    make_branches,
    published_copy,
    published_gamma,
)
from napari_harmony.objectives.harmony_2022 import canonical_view
from napari_harmony.transforms import Pose2D, render

N, BOX = 6, 24


def context(seeds: SeedPoses | None = None, progress: float = 1.0, **values: torch.Tensor) -> Context:
    """A context of a fresh network on random images; ``values`` replace the encodings' entries."""
    torch.manual_seed(0)
    shape = NetworkShape(box=BOX, hypotheses=4, content=3, max_shift=4.0, mask_diameter=20.0)
    network = HarmonyNetwork(shape)
    generator = torch.Generator().manual_seed(0)
    applied = Pose2D.of(torch.linspace(-2, 2, N), torch.full((N, 2), 0.5))
    images = torch.randn(N, BOX, BOX)
    original, copy = make_branches(network, images, applied, generator)
    return Context(network, Batch(images, None, seeds), original, copy, progress, 1.0, 2, generator)


def with_encodings(original: Encoding, copy: Encoding, applied: Pose2D) -> Context:
    start = context()
    branches = [
        Branch(start.batch.images, pose, encoding, encoding.content_mean)
        for pose, encoding in ((Pose2D.identity(N), original), (applied, copy))
    ]
    seeds = SeedPoses(torch.linspace(0, 3, N), torch.zeros(N, 2), torch.ones(N))
    return Context(start.network, Batch(start.batch.images, None, seeds), *branches, 1.0, 1.0, 2, start.generator)


def encoding(
    mean: float, log_variance: float, pose: Pose2D | None = None, logits: torch.Tensor | None = None
) -> Encoding:
    pose = pose or Pose2D.identity(N, 2)
    return Encoding(
        torch.full((N, 3), mean),
        torch.full((N, 3), log_variance),
        {"rotation": pose.angle[..., None], "translation": pose.shift},
        torch.zeros(pose.shape) if logits is None else logits,
    )


def test_content_agreement_is_the_symmetric_divergence() -> None:
    same = with_encodings(encoding(0.4, -1.0), encoding(0.4, -1.0), Pose2D.identity(N))
    assert float(ContentAgreement()(same)[0]) == pytest.approx(0.0, abs=1e-6)
    apart = with_encodings(encoding(0.4, -1.0), encoding(-0.1, 0.3), Pose2D.identity(N))
    p, q = (torch.distributions.Normal(m, math.exp(v / 2)) for m, v in ((0.4, -1.0), (-0.1, 0.3)))
    both_ways = torch.distributions.kl_divergence(p, q) + torch.distributions.kl_divergence(q, p)
    assert float(ContentAgreement()(apart)[0]) == pytest.approx(3 * 0.5 * float(both_ways), rel=1e-5)


def test_content_prior_is_the_divergence_from_a_standard_normal() -> None:
    at = with_encodings(encoding(0.4, -1.0), encoding(0.0, 0.0), Pose2D.identity(N))
    normal = torch.distributions.Normal
    one = torch.distributions.kl_divergence(normal(0.4, math.exp(-0.5)), normal(0.0, 1.0))
    assert float(ContentPrior()(at)[0]) == pytest.approx(3 * 0.5 * float(one), rel=1e-5)


def test_pose_target_wants_equivariant_hypotheses_and_their_odds() -> None:
    target = Pose2D.of(torch.linspace(0, 3, N), torch.zeros(N, 2))
    applied = Pose2D.of(torch.linspace(-2, 2, N), torch.full((N, 2), 0.5))
    moved = applied.compose(target)

    def value(at_copy: Pose2D, sure: float) -> float:
        def both(pose: Pose2D) -> Encoding:
            wrong = Pose2D.of(pose.angle + 2.0, pose.shift)
            pair = Pose2D.of(torch.stack([pose.angle, wrong.angle], 1), torch.stack([pose.shift, wrong.shift], 1))
            return encoding(0.0, 0.0, pair, torch.tensor([sure, 0.0]).expand(N, 2))

        return float(PoseTarget()(with_encodings(both(target), both(at_copy), applied))[0])

    right = value(moved, 0.0)
    assert right == pytest.approx(math.log(2), abs=1e-3)  # one of two hypotheses, each with odds of a half
    assert value(moved, 5.0) < right < value(moved, -5.0)
    assert value(target, 0.0) > right + 1  # the pose of the original is wrong for the copy


def test_pose_target_does_not_learn_from_particles_without_trust() -> None:
    poses = torch.linspace(0, 3, N), torch.zeros(N, 2)
    trusted = PoseTarget()(context(SeedPoses(*poses, torch.ones(N))))[0]
    half = PoseTarget()(context(SeedPoses(*poses, torch.full((N,), 0.5))))[0]
    torch.testing.assert_close(half, trusted / 2)


def test_without_seeds_the_best_fit_of_both_branches_teaches_both() -> None:
    free = context()
    target, trust = PoseTarget._target(free)
    errors = torch.cat([fit.error for fit in free.fits], 1)
    poses = torch.cat([fit.pose.angle for fit in free.fits], 1)
    torch.testing.assert_close(target.angle, poses.gather(1, errors.argmin(1, keepdim=True))[:, 0])
    assert trust.tolist() == [1.0] * N and not target.angle.requires_grad


def test_contents_are_swapped_between_the_branches() -> None:
    """The poses of the original are fitted with the picture of the copy's content, and the other way round."""
    seen = context(SeedPoses(torch.zeros(N), torch.zeros(N, 2), torch.ones(N)))
    first, second = seen.fits
    (by_original,) = torch.autograd.grad(first.error.sum(), seen.original.content, retain_graph=True, allow_unused=True)
    (by_copy,) = torch.autograd.grad(first.error.sum(), seen.copy.content, retain_graph=True, allow_unused=True)
    assert float(by_original.abs().sum()) == 0 and float(by_copy.abs().sum()) > 0
    assert float((first.error - second.error).abs().max()) > 0


def test_rehearsal_draws_what_it_then_asks_for() -> None:
    at = context(SeedPoses(torch.zeros(N), torch.zeros(N, 2), torch.ones(N)))
    pose, images = at._rehearsed(0.3)
    torch.testing.assert_close(at.rehearse(0.3)[1], at.original.content)
    content = at.original.content
    clean = render(at.network.decode(content), pose, fast=True)
    gain = ((images * clean).sum((1, 2)) / clean.square().sum((1, 2)))[:, None, None]
    assert float((images - gain * clean).std()) == pytest.approx(1.0, abs=0.05)
    again = at._rehearsed(0.3)
    assert float((again[1] - images).abs().mean()) > 0.5, "the noise must be new every time"
    assert float(pose.shift.abs().max()) <= at.network.shape.max_shift


def test_rehearsal_teaches_the_encoder_and_leaves_the_decoder_alone() -> None:
    at = context(SeedPoses(torch.zeros(N), torch.zeros(N, 2), torch.ones(N)))
    value, parts = Rehearsal()(at)
    value.backward()
    touched = {name.split(".")[0] for name, p in at.network.named_parameters() if p.grad is not None}
    assert touched == {"encoder", "pose_head", "content_head"}
    assert set(parts) == {"pose", "content"}


@pytest.mark.parametrize("seeded", [True, False])
def test_every_term_reaches_the_network(seeded: bool) -> None:
    seeds = SeedPoses(torch.zeros(N), torch.zeros(N, 2), torch.ones(N)) if seeded else None
    terms = (Reconstruction(), ContentAgreement(), ContentPrior(), PoseTarget(), ContrastTarget())
    at = context(seeds)
    total, parts = Objective(terms)(at)
    total.backward()
    untouched = [name for name, p in at.network.named_parameters() if p.grad is None or float(p.grad.abs().sum()) == 0]
    assert not untouched
    assert set(parts) >= {"reconstruction", "content agreement", "content prior", "pose", "contrast"}


def test_the_contrast_head_learns_what_the_fit_solved_for() -> None:
    at = context(SeedPoses(torch.zeros(N), torch.zeros(N, 2), torch.ones(N)))
    value, _ = ContrastTarget()(at)
    optimiser = torch.optim.SGD(at.network.pose_head.parameters(), lr=0.01)
    value.backward()
    optimiser.step()
    again = context(SeedPoses(torch.zeros(N), torch.zeros(N, 2), torch.ones(N)))
    again.network.load_state_dict(at.network.state_dict())
    generator = torch.Generator().manual_seed(0)
    original, copy = make_branches(again.network, again.batch.images, again.copy.applied, generator)
    better = Context(again.network, again.batch, original, copy, 1.0, 1.0, 2, generator)
    assert float(ContrastTarget()(better)[0]) < float(value)


def test_weights_rise_and_terms_of_no_weight_cost_nothing() -> None:
    weight = Weight(2.0, start=0.2, full=0.6)
    assert [weight(p) for p in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx([0.0, 0.0, 1.0, 2.0, 2.0])
    assert Weight(3.0)(0.0) == 3.0

    class Broken(Term):
        name, weight = "broken", Weight(1.0, start=0.5, full=0.5)

        def __call__(self, context: Context) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            raise AssertionError("called too early")

    total, parts = Objective((Broken(), ContentPrior(Weight(1.0))))(context(progress=0.4))
    assert set(parts) == {"content prior"} and float(total) == pytest.approx(float(parts["content prior"]))


@dataclass
class Counter(Term):
    """A further objective with a state of its own, in a few lines."""

    name: str = "counter"
    weight: Weight = Weight(1.0)
    calls: int = 0

    def __call__(self, context: Context) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        self.calls += 1
        angle = context.copy.applied.angle
        return context.original.encoding.content_mean.square().mean(), {"turn": angle.abs().mean()}

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"calls": torch.tensor(self.calls)}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.calls = int(state["calls"])


def test_a_further_term_plugs_in_and_keeps_its_state() -> None:
    objective = Objective((ContentPrior(), Counter()))
    _, parts = objective(context())
    assert parts["counter.turn"] > 0
    other = Objective((ContentPrior(), Counter()))
    other.load_state_dict(objective.state_dict())
    assert other.terms[1].calls == 1
    with pytest.raises(ValueError, match="keeps no state"):
        ContentPrior().load_state_dict({"calls": torch.tensor(1)})


def test_the_published_loss_is_what_the_paper_minimises() -> None:
    at = context()
    first, second = (canonical_view(b.images, b.encoding.pose[:, 0]) for b in at.branches)
    image_terms = sum(
        ((a - b) ** 2).sum() / N for a, b in ((at.pictures[0], first), (at.pictures[1], second), (first, second))
    )
    a, b = at.original.encoding, at.copy.encoding
    p, q = (torch.distributions.Normal(e.content_mean, (e.content_log_variance / 2).exp()) for e in (a, b))
    divergence = torch.distributions.kl_divergence(p, q).sum() / N / 3
    total, _ = Harmony2022(gamma=2.0)(at)
    torch.testing.assert_close(total, 2 * image_terms + divergence)
    assert published_gamma(100_000, 100) == 1.0 and published_gamma(100_001, 100) == 2.0


def test_the_published_view_undoes_a_pose_and_can_hide_an_image_altogether() -> None:
    """The trap that the forward model does not have: push the image out of the frame and show nothing."""
    pose = Pose2D.of(torch.tensor([0.4]), torch.tensor([[1.0, -0.5]]), torch.tensor([0.1]))
    axis = torch.arange(BOX) - BOX // 2
    smooth = torch.exp(-((axis - 2.0) ** 2 + (axis[:, None] + 1.0) ** 2) / 18)[None]
    torch.testing.assert_close(canonical_view(render(smooth, pose), pose), smooth, atol=0.06, rtol=0)
    away = Pose2D.of(torch.zeros(1), torch.tensor([[100.0, 0.0]]))
    assert float(canonical_view(smooth, away).abs().max()) == 0.0


def test_published_copies_have_the_published_ranges() -> None:
    copies = published_copy(2000, True, torch.Generator().manual_seed(0))
    assert 1.5 < float(copies.angle.abs().max()) <= math.pi / 2
    unscaled = copies.shift / copies.log_scale.exp()[:, None]
    assert 2.9 < float(unscaled.abs().max()) <= 3.0 + 1e-5
    assert 1.45 < float(copies.log_scale.exp().max()) <= 1.5
    assert float(published_copy(5, False, torch.Generator()).log_scale.abs().max()) == 0.0


def test_seeds_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="seeds"):
        SeedPoses(torch.zeros(3), torch.zeros(2, 2), torch.ones(3))
    with pytest.raises(InputError, match="class_posterior"):
        SeedPoses(torch.zeros(3), torch.zeros(3, 2), torch.ones(3), torch.ones(2, 4))
    taken = SeedPoses(torch.arange(3.0), torch.zeros(3, 2), torch.ones(3), torch.eye(3)).take(torch.tensor([2, 0]))
    assert taken.angle.tolist() == [2.0, 0.0] and taken.class_posterior[0, 2] == 1
