"""The forward model ranks explanations rightly: no reward for blur, blank pictures or half a pixel."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from napari_harmony.models.encoding import Encoding
from napari_harmony.objectives import Batch, Branch, SeedPoses
from napari_harmony.objectives.forward import Competition, Hypotheses, all_hypotheses, fit, seeded_hypotheses
from napari_harmony.transforms import Pose2D, apply_ctf, built_in, choose, render

N, BOX = 24, 32


def picture(n: int = N) -> torch.Tensor:
    axis = torch.arange(BOX) - BOX // 2
    blobs = [(5.0, 1.0, 2.0, 1.0), (-4.0, 4.0, 2.5, 0.8), (0.0, -6.0, 2.0, 0.6)]
    parts = [a * torch.exp(-((axis - x) ** 2 + (axis[:, None] - y) ** 2) / (2 * s * s)) for x, y, s, a in blobs]
    return torch.stack(parts).sum(0).expand(n, BOX, BOX)


def ctf() -> torch.Tensor:
    u2 = torch.fft.fftfreq(BOX)[:, None] ** 2 + torch.fft.rfftfreq(BOX) ** 2
    return torch.sin(0.1 + 25 * u2 * torch.linspace(0.5, 1.5, N)[:, None, None]).abs()


def truth() -> Pose2D:
    generator = torch.Generator().manual_seed(0)
    angle = torch.rand(N, generator=generator) * 2 * math.pi
    return Pose2D.of(angle, torch.randn(N, 2, generator=generator))


def observed(snr: float = 0.1, gain: float = 1.0, offset: float = 0.0) -> tuple[Batch, torch.Tensor]:
    """Noisy images with noise of unit variance, and the picture in its units."""
    clean = apply_ctf(render(picture(), truth()), ctf())
    strength = math.sqrt(snr / float(clean.var()))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    return Batch(gain * strength * clean + offset + noise, ctf()), strength * picture()


def alone(pose: Pose2D) -> Hypotheses:
    return Hypotheses(pose[:, None].map(), pose[:, None])


PLAIN = Competition(contrast=False)


def test_the_true_pose_beats_every_trap_of_the_published_loss() -> None:
    batch, true_picture = observed()
    pose = truth()

    def mean_error(candidate: Pose2D, shown: torch.Tensor = true_picture) -> float:
        return float(fit(batch, shown, alone(candidate), PLAIN).error.mean())

    oracle = mean_error(pose)
    traps = {
        "identity": mean_error(Pose2D.identity(N)),
        "random": mean_error(Pose2D.of(torch.rand(N, generator=torch.Generator().manual_seed(5)) * 6.28, pose.shift)),
        "half a pixel": mean_error(Pose2D.of(pose.angle, pose.shift + 0.5)),
        "out of the frame": mean_error(Pose2D.of(pose.angle, pose.shift + 100.0)),
        "blank": mean_error(pose, torch.zeros_like(true_picture)),
    }
    assert all(error > oracle + 0.3 for error in traps.values()), (oracle, traps)
    assert oracle == pytest.approx(BOX**2 / 2, rel=0.03)  # nothing but noise is left
    assert traps["out of the frame"] == pytest.approx(traps["blank"], rel=1e-4)


def test_gain_and_offset_are_solved_for_and_change_nothing_else() -> None:
    batch, shown = observed(snr=2.0, gain=1.4, offset=0.3)
    solved = fit(batch, shown, alone(truth()), Competition())
    assert float(solved.gain.mean()) == pytest.approx(1.4, abs=0.05)
    assert float(solved.offset.mean()) == pytest.approx(0.3, abs=0.05)
    assert float(solved.error.mean()) == pytest.approx(BOX**2 / 2, rel=0.05)
    fixed = fit(batch, shown, alone(truth()), PLAIN)
    assert float(fixed.error.mean()) > float(solved.error.mean()) + 50
    assert bool((fixed.gain == 1).all()) and bool((fixed.offset == 0).all())


def test_gradients_ignore_that_the_gain_was_solved_for() -> None:
    """The error is at its minimum in gain and offset, so the gradient without them is the whole gradient."""
    batch, shown = observed(snr=1.0)
    shown = shown.clone().requires_grad_()
    direction = picture().clone()
    (slope,) = torch.autograd.grad(fit(batch, shown, alone(truth()), Competition()).error.sum(), shown)
    step = 1e-1  # the error is nearly quadratic in the picture; smaller steps drown in float32
    with torch.no_grad():
        up = fit(batch, shown + step * direction, alone(truth()), Competition()).error.double().sum()
        down = fit(batch, shown - step * direction, alone(truth()), Competition()).error.double().sum()
    assert float((slope * direction).sum()) == pytest.approx(float((up - down) / (2 * step)), rel=0.01)


def test_pruning_keeps_the_best_hypotheses_and_their_odds() -> None:
    batch, shown = observed(snr=1.0)
    angles = truth().angle[:, None] + torch.tensor([1.0, 0.02, -2.0, 0.3, 3.0])
    candidates = Pose2D.of(angles, truth().shift[:, None].expand(N, 5, 2))
    hypotheses = Hypotheses(candidates.map(), candidates)
    everything = fit(batch, shown, hypotheses, replace(PLAIN, kept=5))
    pruned = fit(batch, shown, hypotheses, replace(PLAIN, kept=2))
    torch.testing.assert_close(pruned.error.sort(1).values, everything.error.sort(1).values[:, :2])
    torch.testing.assert_close(pruned.responsibility.sum(1), torch.ones(N))
    best = pruned.pose.angle.gather(1, pruned.responsibility.argmax(1, keepdim=True))
    torch.testing.assert_close(best, angles[:, 1:2])
    warm = fit(batch, shown, hypotheses, Competition(temperature=1e6, kept=5, contrast=False))
    torch.testing.assert_close(warm.responsibility, torch.full((N, 5), 0.2), atol=1e-3, rtol=0)


def branch(applied: Pose2D, values: dict[str, torch.Tensor]) -> Branch:
    n, h = len(applied), next(iter(values.values())).shape[1]
    encoding = Encoding(torch.zeros(n, 2), torch.zeros(n, 2), values, torch.zeros(n, h))
    return Branch(torch.zeros(n, BOX, BOX), applied, encoding, torch.zeros(n, 2))


def test_the_known_transformation_of_the_copy_is_undone() -> None:
    """Hypotheses that are right for the copy explain the original image."""
    applied = Pose2D.of(torch.linspace(-3, 3, N), torch.randn(N, 2, generator=torch.Generator().manual_seed(2)))
    right = applied.compose(truth())
    values = {"rotation": right.angle[:, None, None], "translation": right.shift[:, None]}
    hypotheses = all_hypotheses(branch(applied, values), choose(values))
    angle, shift = hypotheses.pose[:, 0].distance(truth())
    assert float(angle.max()) < 1e-5 and float(shift.max()) < 1e-4
    torch.testing.assert_close(hypotheses.maps.matrix, hypotheses.pose.map().matrix)


def test_seeds_replace_rotation_and_shift_but_not_the_scale() -> None:
    applied = Pose2D.of(torch.linspace(-3, 3, N), torch.ones(N, 2), torch.full((N,), 0.05))
    log_scale = torch.full((N, 2, 1), 0.15).requires_grad_()
    values = {"rotation": torch.rand(N, 2, 1), "translation": torch.rand(N, 2, 2), "scale": log_scale}
    seeds = SeedPoses(truth().angle, truth().shift, torch.ones(N))
    seeded = seeded_hypotheses(branch(applied, values), seeds, choose(values, built_in()))
    torch.testing.assert_close(seeded.pose.angle[:, 0], seeds.angle)
    torch.testing.assert_close(seeded.pose.shift[:, 0], seeds.shift)
    torch.testing.assert_close(seeded.pose.log_scale, torch.full((N, 1), 0.10))
    expected = seeded.pose.map()
    torch.testing.assert_close(seeded.maps.matrix, expected.matrix, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(seeded.maps.shift, expected.shift, atol=1e-4, rtol=1e-4)
    seeded.maps.matrix.sum().backward()
    assert log_scale.grad is not None and float(log_scale.grad.abs().sum()) > 0
