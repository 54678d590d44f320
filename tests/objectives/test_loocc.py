"""Leave-one-out cycles change one factor at a time, ask for what they say, start when they may, and resume."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from network_data import blobs, wedge
from network_data import network as volume_network
from torch import Tensor

from napari_harmony.additions import Addition
from napari_harmony.engine.train import TrainSettings, TrainState, train
from napari_harmony.models import HarmonyNetwork, ModelCard, NetworkShape, PoseNetwork
from napari_harmony.models.encoding import Encoding
from napari_harmony.objectives import (
    Batch,
    Branch,
    Context,
    LeaveOneOutCycle,
    SeedPoses,
    SeedVolumes,
    added_term,
    context,
    make_branches,
    make_volume_branches,
)
from napari_harmony.objectives.loocc import contrast_of, misreading, reconstruction_scale
from napari_harmony.objectives.perturbation import (
    LOG_GAIN,
    LOG_SCALE,
    SHIFT,
    TURN,
    Redrawn,
    likeliest,
    likeliest_pose,
    pose_features,
    read_images,
)
from napari_harmony.objectives.volume_context import VolumeContext
from napari_harmony.transforms import ImageMap, Pose2D, Pose3D, apply_ctf, built_in, choose, pose_of, render, so3, wrap

N, BOX = 8, 24
ALL = ("rotation", "translation", "scale", "contrast")
CARD = ModelCard(
    box=BOX,
    pixel_size=10.0,
    original_box=48,
    transforms=("rotation", "translation", "contrast"),
    content=3,
    hypotheses=4,
    mask_diameter=200.0,
    max_shift=40.0,
)
VOLUME_CARD = replace(CARD, box=20, hypotheses=551, dimensions=3, max_shift=30.0, mask_diameter=170.0, content=4)


def ctfs(n: int = N) -> Tensor:
    u2 = torch.fft.fftfreq(BOX)[:, None] ** 2 + torch.fft.rfftfreq(BOX) ** 2
    return torch.sin(0.3 + 20 * u2 * torch.linspace(0.5, 1.5, n)[:, None, None]).abs()


def images_seen(
    network: PoseNetwork | None = None, images: Tensor | None = None, ctf: Tensor | None = None, progress: float = 0.9
) -> Context:
    """A context of random images, of a fresh network where none is given."""
    if network is None:
        torch.manual_seed(0)
        shape = NetworkShape(BOX, content=3, hypotheses=4, transforms=ALL, max_shift=4.0, mask_diameter=20.0)
        network = HarmonyNetwork(shape)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(N, BOX, BOX, generator=generator) if images is None else images
    branches = make_branches(network, images, Pose2D.identity(len(images)), generator)
    return Context(network, Batch(images, ctf), *branches, progress, 1.0, 2, generator)


def volumes_seen(progress: float = 0.9) -> VolumeContext:
    """A context of random samples behind a wedge."""
    network, generator = volume_network().train(), torch.Generator().manual_seed(0)
    amplitude = wedge().expand(N, -1).clone()
    samples = torch.randn(N, amplitude.shape[1], dtype=torch.complex64, generator=generator) * amplitude
    batch = Batch(samples, amplitude)
    branches = make_volume_branches(network, batch, Pose3D.identity(N), generator)
    return VolumeContext(network, batch, *branches, progress, 1.0, 2, generator)


def begun(card: ModelCard = CARD, **changes: Any) -> LeaveOneOutCycle:
    """A term whose guard gave way long ago."""
    torch.manual_seed(1)
    term = LeaveOneOutCycle(card)
    term.started = 0.3
    for name, value in changes.items():
        setattr(term, name, value)
    return term


# -- an encoder that is never wrong -----------------------------------------------------------------------------------


class Oracle(PoseNetwork):
    """Draws two blobs whose distance is the content, much brighter than the noise, and measures images by moments."""

    brightness = 3e4

    def __init__(self) -> None:
        super().__init__()
        self.shape = NetworkShape(BOX, content=1, hypotheses=1, transforms=ALL[:2], max_shift=9.0, mask_diameter=20.0)
        self.transformations = choose(self.shape.transforms, built_in(9.0))

    def decode(self, content: Tensor) -> Tensor:
        axis = torch.arange(BOX) - BOX // 2
        apart = content.view(-1, 1, 1)
        blob = [torch.exp(-((axis - x) ** 2 + axis[:, None] ** 2) / 5.0) for x in (apart * 2 / 3, -apart / 3)]
        return self.brightness * (blob[0] + 2 * blob[1])

    def encode(self, images: Tensor) -> Encoding:
        axis = torch.arange(BOX) - BOX // 2.0
        points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
        weight = images / images.sum((1, 2), keepdim=True)
        centre = torch.einsum("nyx,yxc->nc", weight, points)
        beside = points - centre[:, None, None]
        second = torch.einsum("nyx,nyxc,nyxd->ncd", weight, beside, beside)
        spread, axes = torch.linalg.eigh(second)
        along = axes[..., 1]
        third = torch.einsum("nyx,nyx->n", weight, torch.einsum("nyxc,nc->nyx", beside, along) ** 3)
        along = along * third.sign()[:, None]
        angle = torch.atan2(along[:, 1], along[:, 0])
        apart = ((spread[:, 1] - spread[:, 0]) * 4.5).sqrt()
        values = {"rotation": angle[:, None, None], "translation": centre[:, None]}
        return Encoding(apart[:, None], torch.full((len(images), 1), -20.0), values, torch.zeros(len(images), 1))


def known() -> Context:
    """Images of blobs in known poses, rotated and then shifted, and an oracle that looks at them."""
    network = Oracle()
    angle, shift = torch.linspace(-3, 2.5, N), torch.stack([torch.linspace(-3, 3, N), torch.linspace(2, -3, N)], 1)
    pictures = network.decode(torch.linspace(6.0, 8.0, N)[:, None])
    return images_seen(network, render(pictures, Pose2D.of(angle, shift), fast=True))


def test_of_an_encoder_that_is_right_the_others_agree_and_the_changed_factor_is_read_back() -> None:
    seen = known()
    before = read_images(seen.original.encoding, seen.network.transformations)
    for factor in ("rotation", "translation"):
        redrawn = seen.redraw(factor, slice(0, N))
        for name in {"content", "rotation", "translation"} - {factor}:
            torch.testing.assert_close(redrawn.said[name], before[name], atol=0.02, rtol=0)
            torch.testing.assert_close(redrawn.said[name], redrawn.drawn[name], atol=0.02, rtol=0)
        assert float((redrawn.said[factor] - before[factor]).abs().max()) > 0.1
        assert float(misreading(redrawn, factor)) < 1e-4


def test_the_loss_is_at_its_minimum_for_the_oracle_unless_the_forward_model_shifts_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Drawn by a model that shifts and then rotates, a turn moves the particle: who is right would be punished."""
    term, seen = begun(replace(CARD, transforms=ALL[:2], content=1)), known()

    def disagreement() -> float:
        redrawn = seen.redraw("rotation", slice(0, N))
        one, two = (term._features(said, "rotation") for said in (redrawn.drawn, redrawn.said))
        return float((contrast_of(one, two, term.temperature) - contrast_of(one, one, term.temperature)).detach())

    def shift_then_rotate(values: dict[str, Tensor], transformations: object) -> ImageMap:
        turn = Pose2D.of(values["rotation"][..., 0])
        return turn.compose(Pose2D.of(torch.zeros_like(turn.angle), values["translation"])).map()

    assert abs(disagreement()) < 2e-3
    monkeypatch.setattr(context, "map_of", shift_then_rotate)
    assert disagreement() > 0.05


# -- what is changed --------------------------------------------------------------------------------------------------


def drawn_by(seen: Any, factor: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is handed to the encoder, without noise, after one factor was changed."""
    handed: list[Any] = []
    encode = seen.network.encode

    def listen(*arguments: Tensor) -> Any:
        handed.append(arguments)
        return encode(*arguments)

    monkeypatch.setattr(seen.network, "encode", listen)
    return seen.redraw(factor, slice(0, N)), handed[0]


@pytest.mark.parametrize("factor", [*ALL, "defocus"])
def test_one_factor_of_images_is_changed_and_the_others_are_as_they_were(
    factor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = images_seen(ctf=ctfs())
    assert seen.factors == (*ALL, "defocus")
    used: dict[str, Any] = {}

    def listen(pictures: Tensor, pose: ImageMap, fast: bool) -> Tensor:
        used["map"] = pose
        return render(pictures, pose, fast=fast)

    def filtered(images: Tensor, ctf: Tensor) -> Tensor:
        used["ctf"] = ctf
        return apply_ctf(images, ctf)

    monkeypatch.setattr(context, "render", listen)
    monkeypatch.setattr(context, "apply_ctf", filtered)
    seen.redraw(factor, slice(0, N))
    values = likeliest(seen.original.encoding)
    grey = values.pop("contrast")
    before, after = pose_of(values), used["map"]
    turned = wrap(torch.atan2(after.matrix[:, 1, 0], after.matrix[:, 0, 0]) - before.angle)
    scaled = torch.linalg.det(after.matrix).log() / 2 - before.log_scale
    moved = after.shift - before.shift
    assert (float(turned.abs().max()) > 0.02) == (factor == "rotation") and float(turned.abs().max()) <= TURN + 1e-4
    assert (float(scaled.abs().max()) > 0.01) == (factor == "scale") and float(scaled.abs().max()) <= LOG_SCALE + 1e-4
    assert (float(moved.abs().max()) > 0.3) == (factor == "translation") and float(moved.abs().max()) <= SHIFT * BOX
    same = torch.equal(used["ctf"], ctfs())
    assert same == (factor != "defocus") and sorted(used["ctf"].sum((1, 2)).tolist()) == sorted(
        ctfs().sum((1, 2)).tolist()
    )
    drawn = seen.redraw(factor, slice(0, N)).drawn
    gain = drawn["contrast"][:, 0] - grey[:, 0].log()
    assert (float(gain.abs().max()) > 0.05) == (factor == "contrast") and float(gain.abs().max()) <= LOG_GAIN + 1e-5
    assert (factor in drawn) == (factor != "defocus")
    with_gradient = {name for name, values in drawn.items() if values.requires_grad}
    assert with_gradient == {"content"}, "what is said of recorded poses is left to what explains them"


def test_particles_of_one_ctf_have_no_defocus_to_exchange() -> None:
    assert images_seen(ctf=ctfs(1).expand(N, -1, -1)).factors == ALL
    assert images_seen().factors == ALL


def test_redrawn_images_are_as_noisy_as_the_recorded_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = images_seen()
    _, (first,) = drawn_by(seen, "rotation", monkeypatch)
    _, (second,) = drawn_by(seen, "rotation", monkeypatch)
    assert float((first - second).std()) == pytest.approx(math.sqrt(2), rel=0.05)


@pytest.mark.parametrize("factor", ["rotation", "translation", "contrast", "wedge"])
def test_one_factor_of_subtomograms_is_changed(factor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = volumes_seen()
    assert seen.factors == ("rotation", "translation", "contrast", "wedge")
    redrawn, (samples, amplitude) = drawn_by(seen, factor, monkeypatch)
    turned = not torch.equal(amplitude, seen.batch.ctf)
    assert turned == (factor == "wedge")
    # the wedge turns about the beam: as much is seen as before, and no noise where nothing is
    assert float(amplitude.mean()) == pytest.approx(float(seen.batch.ctf.mean()), rel=0.1)
    assert bool((samples[amplitude == 0] == 0).all())
    before = likeliest_pose(seen.original.encoding)
    matrix = redrawn.drawn["rotation"].view(-1, 3, 3) * math.sqrt(2)
    angle = float(so3.angle_between(so3.from_matrix(matrix), before.quaternion).max())
    assert (angle > 0.05) == (factor == "rotation") and angle <= TURN + 1e-3
    moved = float((redrawn.drawn["translation"] * seen.network.shape.max_shift - before.shift).abs().max())
    assert (moved > 0.3) == (factor == "translation") and moved <= SHIFT * 20
    assert set(redrawn.said) == set(redrawn.drawn) == {"content", "rotation", "translation"}
    assert set(pose_features(before, seen.network.shape)) == {"rotation", "translation"}


# -- the loss ---------------------------------------------------------------------------------------------------------


def test_the_contrast_is_the_cross_entropy_over_all_other_particles() -> None:
    one, two = torch.eye(4), torch.eye(4)
    others = 6.0  # at a right angle; the partner is parallel
    assert float(contrast_of(one, two, 0.5)) == pytest.approx(math.log(1 + others * math.exp(-2)), abs=1e-5)
    assert float(contrast_of(one, two.roll(1, 0), 0.5)) > float(contrast_of(one, two, 0.5)) + 1
    torch.testing.assert_close(contrast_of(3 * one, two, 0.5), contrast_of(one, two, 0.5))


def test_misreading_an_angle_costs_one_minus_its_cosine() -> None:
    angle = torch.tensor([0.3, -1.0])
    content = {"content": torch.zeros(2, 3)}
    said = content | {"rotation": torch.stack([angle.cos(), angle.sin()], 1)}
    drawn = content | {"rotation": torch.tensor([[1.0, 0.0], [1.0, 0.0]])}
    expected = float((1 - angle.cos()).mean())
    assert float(misreading(Redrawn(drawn, said), "rotation")) == pytest.approx(expected)
    turned = Pose3D.of(so3.from_rotation_vector(torch.tensor([[0.3, 0.0, 0.0], [0.0, -1.0, 0.0]])))
    shape = NetworkShape(transforms=("rotation",))
    in_space = Redrawn(pose_features(Pose3D.identity(2), shape), pose_features(turned, shape))
    assert float(misreading(in_space, "rotation")) == pytest.approx(expected, abs=1e-6)
    assert float(misreading(Redrawn(drawn, said), "defocus")) == 0.0


def test_the_weight_is_relative_to_what_noise_alone_costs_in_the_reconstruction() -> None:
    assert reconstruction_scale(Batch(torch.zeros(2, BOX, BOX))) == 0.5 * BOX**2
    assert reconstruction_scale(Batch(torch.zeros(2, 100, dtype=torch.complex64))) == 100
    term = added_term(Addition("loocc", 0.5), CARD)
    assert isinstance(term, LeaveOneOutCycle) and term.weight(0.0) == pytest.approx(0.05)


@pytest.mark.parametrize("kind", ["images", "volumes"])
def test_gradients_reach_encoder_decoder_and_heads(kind: str) -> None:
    seen = images_seen() if kind == "images" else volumes_seen()
    term = begun(replace(CARD, transforms=ALL) if kind == "images" else VOLUME_CARD, every=1)
    left_out = set()
    for _ in range(3):
        value, parts = term(seen)
        value.backward(retain_graph=True)
        left_out |= {name.removeprefix("misread ") for name in parts if name.startswith("misread")}
    assert len(left_out) > 1
    reached = {n.split(".")[0] for n, p in seen.network.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached >= {"encoder", "content_head", "pose_head", "decoder"}
    for name, head in term.heads.items():
        assert float(head[0].weight.grad.abs().sum()) > 0, name


def test_every_second_step_is_left_out_and_half_of_the_batch_is_drawn() -> None:
    term, seen = begun(replace(CARD, transforms=ALL)), images_seen()
    sizes: list[int] = []
    encode = seen.network.encode
    seen.network.encode = lambda images: (sizes.append(len(images)), encode(images))[1]  # type: ignore[method-assign]
    values = [float(term(seen)[0]) for _ in range(4)]
    assert sizes == [N // 2, N // 2]
    assert values[0] > 0 and values[1] == values[3] == 0.0


def test_the_guard_waits_for_the_content_and_for_its_prior() -> None:
    def said(mean: float, progress: float) -> Context:
        seen = images_seen(progress=progress)
        encoding = seen.original.encoding
        means, log_variances = torch.full((N, 3), mean), torch.zeros(N, 3)
        used = Encoding(means, log_variances, encoding.values, encoding.logits)
        return replace(seen, original=Branch(seen.batch.images, seen.original.applied, used, means))

    unused, early, begins = said(0.5, 0.9), said(2.0, 0.1), said(2.0, 0.5)
    term = LeaveOneOutCycle(CARD)
    for _ in range(50):
        assert float(term(unused)[0]) == 0.0  # 3 / 8 nat
    assert term.divergence == pytest.approx(0.375, abs=1e-4)
    for _ in range(50):
        assert float(term(early)[0]) == 0.0 and term.started == -1
    for _ in range(4):
        term(begins)
    assert term.started == 0.5 and float(term(begins)[0]) == 0.0
    term(said(2.0, 0.55))
    assert term._strength(said(2.0, 0.55)) == pytest.approx(0.5) and term._strength(unused) == 1.0


# -- in a training ----------------------------------------------------------------------------------------------------


def weights(network: torch.nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def exhausted(*arguments: Any, **options: Any) -> tuple[Any, list[dict[str, float]]]:
    """The network that a training gives, and the parts of the loss of each step."""
    parts, work = [], train(*arguments, **options)
    while True:
        try:
            parts.append(next(work).parts)
        except StopIteration as stop:
            return stop.value, parts


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard gives way at once: a test has no time to wait for content."""
    monkeypatch.setattr(LeaveOneOutCycle, "guard", -1.0)
    monkeypatch.setattr(LeaveOneOutCycle, "earliest", 0.0)


def test_an_interrupted_training_goes_on_to_the_same_weights(eager: None) -> None:
    generator = torch.Generator().manual_seed(0)
    images, ctf = torch.randn(48, BOX, BOX, generator=generator), ctfs(48)
    seeds = SeedPoses(torch.linspace(-3, 3, 48), torch.zeros(48, 2), torch.ones(48))
    card, settings = replace(CARD, additions=("loocc=2",)), TrainSettings(epochs=4, batch=16)
    states: list[TrainState] = []
    whole, parts = exhausted(images, ctf, card=card, settings=settings, seeds=seeds, on_epoch=states.append)
    assert sum("loocc.contrast" in step for step in parts) >= 4, "the objective must have been at work"
    assert float(states[1].tensors["objective.loocc.calls"]) == 6
    rest, _ = exhausted(images, ctf, card=card, settings=settings, seeds=seeds, resume=states[1])
    torch.testing.assert_close(weights(rest), weights(whole), atol=0, rtol=0)
    plain, _ = exhausted(images, ctf, card=replace(card, additions=()), settings=settings, seeds=seeds)
    assert float((weights(plain) - weights(whole)).abs().max()) > 1e-4


def test_subtomograms_are_trained_with_it_and_repeat_themselves(eager: None) -> None:
    generator, count = torch.Generator().manual_seed(0), 12
    amplitude = wedge().expand(count, -1)
    samples = torch.randn(count, amplitude.shape[1], dtype=torch.complex64, generator=generator) * amplitude
    pose = Pose3D.of(so3.random_rotations(count, generator))
    seeds = SeedVolumes(pose, torch.ones(count), torch.arange(count) % 2, blobs(2))
    card = replace(VOLUME_CARD, additions=("loocc",))

    def run() -> tuple[Any, list[dict[str, float]]]:
        return exhausted(samples, amplitude, card=card, settings=TrainSettings(epochs=3, batch=6), seeds=seeds)

    (network, parts), (again, _) = run(), run()
    assert any("loocc.contrast" in step for step in parts)
    torch.testing.assert_close(weights(network), weights(again), atol=0, rtol=0)
