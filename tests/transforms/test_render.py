"""The renderer puts points where the pose says, accurately, in one resampling, with gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_harmony.transforms import Pose2D, fourier_resize, render


def blob(box: int, x: float, y: float, sigma: float = 1.5) -> torch.Tensor:
    """A Gaussian at (x, y) pixel from the centre, (1, box, box)."""
    axis = torch.arange(box) - box // 2
    return torch.exp(-((axis[None] - x) ** 2 + (axis[:, None] - y) ** 2) / (2 * sigma**2))[None]


def picture(box: int) -> torch.Tensor:
    """Something without symmetry that stays inside of the box under every rotation, (1, box, box)."""
    return blob(box, 4.0, 1.0) + 0.7 * blob(box, -3.0, 3.0, 2.0) + 0.5 * blob(box, 0.0, -5.0, 1.8)


SMALL_POSES = st.builds(
    lambda angle, x, y, log_scale: Pose2D.of(
        torch.tensor([angle]), torch.tensor([[x, y]]), torch.tensor([log_scale]), torch.tensor([1.5]), torch.zeros(1)
    ),
    st.floats(-math.pi, math.pi),
    st.floats(-3.0, 3.0),
    st.floats(-3.0, 3.0),
    st.floats(-0.1, 0.1),
)


@settings(deadline=None, max_examples=30)
@given(pose=SMALL_POSES, box=st.sampled_from([40, 41]), x=st.floats(-4.0, 4.0), y=st.floats(-4.0, 4.0))
def test_a_blob_is_drawn_where_the_pose_puts_it(pose: Pose2D, box: int, x: float, y: float) -> None:
    there = pose.map().apply(torch.tensor([[[x, y]]]))[0, 0].tolist()
    expected = 1.5 * blob(box, *there, sigma=1.5 * math.exp(float(pose.log_scale)))
    assert float((render(blob(box, x, y), pose) - expected).abs().max()) < 1.5 * 0.0005
    assert float((render(blob(box, x, y), pose, fast=True) - expected).abs().max()) < 1.5 * 0.03


@settings(deadline=None, max_examples=20)
@given(first=SMALL_POSES, second=SMALL_POSES)
def test_drawing_twice_is_drawing_the_composition(first: Pose2D, second: Pose2D) -> None:
    image = picture(48)
    twice = render(render(image, first), second)
    once = render(image, second.compose(first))
    assert float((twice - once).abs().max()) < 0.002 * float(once.max())


@pytest.mark.parametrize("box", [32, 33])
@pytest.mark.parametrize("fast", [True, False])
def test_the_identity_changes_no_pixel_and_has_no_half_pixel_bias(box: int, fast: bool) -> None:
    image = torch.randn(2, box, box, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(render(image, Pose2D.identity(2), fast=fast), image, atol=1e-4, rtol=0)


@pytest.mark.parametrize("box", [32, 33])
@pytest.mark.parametrize("fast", [True, False])
def test_a_quarter_turn_only_moves_pixels(box: int, fast: bool) -> None:
    image = picture(box)
    turned = render(image, Pose2D.of(torch.tensor([math.pi / 2])), fast=fast)
    # (x, y) goes to (-y, x); the first row and column of an even box have no partner
    start = 1 - box % 2
    inner = image[:, start:, start:]
    expected = torch.flip(inner.transpose(-1, -2), (-1,))
    torch.testing.assert_close(turned[:, start:, start:], expected, atol=1e-4, rtol=0)


def test_whole_pixel_shifts_only_move_pixels() -> None:
    image = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0))
    moved = render(image, Pose2D.of(torch.zeros(1), torch.tensor([[3.0, -2.0]])))
    torch.testing.assert_close(moved[:, :14, 3:], image[:, 2:, :13], atol=1e-4, rtol=0)


def test_outside_lies_the_background_with_gain_and_offset() -> None:
    pose = Pose2D.of(torch.zeros(1), torch.tensor([[100.0, 0.0]]), None, torch.tensor([2.0]), torch.tensor([0.25]))
    torch.testing.assert_close(render(torch.ones(1, 8, 8), pose), torch.full((1, 8, 8), 0.25))


def test_several_hypotheses_are_drawn_as_one_by_one() -> None:
    images = torch.cat([picture(24), picture(24).flip(-1)])
    poses = Pose2D.of(torch.rand(2, 3), torch.randn(2, 3, 2))
    together = render(images, poses, fast=True)
    assert together.shape == (2, 3, 24, 24)
    for k in range(3):
        torch.testing.assert_close(together[:, k], render(images, poses[:, k], fast=True), atol=1e-5, rtol=0)


@pytest.mark.parametrize("fast", [True, False])
def test_gradients_by_the_pose_are_those_of_finite_differences(fast: bool) -> None:
    image = picture(24).double()
    target = render(image, Pose2D.of(torch.tensor([0.3]).double(), torch.tensor([[0.7, -0.4]]).double()))

    def error(angle: torch.Tensor, shift: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
        return ((render(image, Pose2D.of(angle, shift, log_scale), fast=fast) - target) ** 2).sum()

    # positions that no pixel hits exactly: cubic convolution is not twice differentiable at the pixels
    at = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in ([0.123], [[0.31, -0.27]], [0.017])]
    assert torch.autograd.gradcheck(error, at, atol=1e-4, rtol=1e-3)


def test_noise_keeps_its_variance_where_the_result_is_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(64, 32, 32, generator=generator)
    pose = Pose2D.of(torch.rand(64, generator=generator) * 6.28, torch.randn(64, 2, generator=generator))
    inner = render(noise, pose)[:, 8:24, 8:24]
    assert 0.93 < float(inner.var()) < 1.0


@pytest.mark.parametrize(("old", "new"), [(16, 32), (16, 33), (15, 40), (32, 16), (33, 16), (15, 15)])
def test_fourier_resizing_keeps_the_grey_value_of_smooth_pictures(old: int, new: int) -> None:
    axis = torch.arange(old) / old
    wave = 0.5 + torch.cos(2 * math.pi * (2 * axis[None] + axis[:, None]))
    fine = torch.arange(new) / new
    expected = 0.5 + torch.cos(2 * math.pi * (2 * fine[None] + fine[:, None]))
    torch.testing.assert_close(fourier_resize(wave[None], new)[0], expected, atol=1e-5, rtol=0)


def test_refined_images_run_through_the_old_pixels() -> None:
    image = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(fourier_resize(image, 32)[:, ::2, ::2], image, atol=1e-5, rtol=0)
