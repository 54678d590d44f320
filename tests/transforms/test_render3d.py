"""Drawn volumes against analytic ones, against real files with known rotations, and behind a wedge."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_harmony.transforms import Pose2D, Pose3D, apply_coverage, render, render_volumes, so3

SIGMA = 1.5
POINTS = torch.from_numpy(np.random.default_rng(0).uniform(-5, 5, (8, 3)))


def blobs(box: int, pose: Pose3D | None = None) -> torch.Tensor:
    """What Gaussians at ``POINTS`` look like under each pose: (n, box, box, box) float32."""
    pose = Pose3D.identity(1, dtype=torch.float64) if pose is None else pose.to(torch.float64)
    axis = torch.arange(box, dtype=torch.float64) - box // 2
    drawn = []
    for one in (pose[i] for i in range(len(pose))):
        placed = POINTS @ one.matrix().T + one.shift
        width = SIGMA * float(one.log_scale.exp())
        x, y, z = (torch.exp(-((axis - placed[:, i, None]) ** 2) / (2 * width**2)) for i in range(3))
        drawn.append(torch.einsum("nz,ny,nx->zyx", z, y, x))
    return torch.stack(drawn).float()


def some_poses(n: int, seed: int = 0) -> Pose3D:
    generator = torch.Generator().manual_seed(seed)
    shift = torch.randn(n, 3, generator=generator)
    return Pose3D.of(so3.random_rotations(n, generator), shift, 0.05 * torch.randn(n, generator=generator))


@pytest.mark.parametrize(("fast", "limit"), [(False, 1e-3), (True, 3e-2)])
@pytest.mark.parametrize("box", [24, 25])
def test_drawn_volumes_are_the_analytic_ones(box: int, fast: bool, limit: float) -> None:
    pose = some_poses(3)
    drawn, exact = render_volumes(blobs(box), pose, fast=fast), blobs(box, pose)
    assert float((drawn - exact).abs().max()) < limit * float(exact.max())


@pytest.mark.parametrize(("fast", "limit"), [(False, 2e-5), (True, 3e-2)])
def test_nothing_to_do_changes_little_and_moves_nothing(fast: bool, limit: float) -> None:
    volume = blobs(24)
    same = render_volumes(volume, Pose3D.identity(1), fast=fast)
    assert float((same - volume).abs().max()) < limit * float(volume.max())
    axis = torch.arange(24.0)
    for dims in ((1, 2), (0, 2), (0, 1)):
        before, after = volume[0].sum(dims), same[0].sum(dims)
        assert float((axis * after).sum() / after.sum() - (axis * before).sum() / before.sum()) == pytest.approx(
            0, abs=1e-3
        )


@pytest.mark.parametrize("fast", [False, True])
def test_half_a_voxel_there_and_back(fast: bool) -> None:
    volume = blobs(24)
    half = Pose3D.of(so3.identity(1), torch.full((1, 3), 0.5))
    there = render_volumes(volume, half, fast=fast)
    assert float((there - blobs(24, half)).abs().max()) < (1e-3 if not fast else 3e-2) * float(volume.max())
    back = render_volumes(there, half.inverse(), fast=fast)
    assert float((back - volume).abs().max()) < (1e-3 if not fast else 6e-2) * float(volume.max())


def test_whole_voxels_are_moved_as_they_are() -> None:
    volume = blobs(32)
    moved = render_volumes(volume, Pose3D.of(so3.identity(1), torch.tensor([[1.0, -2.0, 3.0]])))
    np.testing.assert_allclose(moved, volume.roll((3, -2, 1), (1, 2, 3)), atol=2e-4 * float(volume.max()))


def test_a_flat_volume_is_an_image() -> None:
    box = 24
    image = blobs(box)[:, box // 2]
    volume = torch.zeros(1, box, box, box)
    volume[:, box // 2] = image
    psi, origin = torch.tensor([33.0]), torch.tensor([[1.3, -0.4]])
    flat = render(image, Pose2D.from_relion(psi, origin))
    angles = torch.tensor([[0.0, 0.0, 33.0]])
    drawn = render_volumes(volume, Pose3D.from_relion(angles, torch.tensor([[1.3, -0.4, 0.0]])))
    np.testing.assert_allclose(drawn[:, box // 2], flat, atol=2e-3 * float(image.max()))


def test_hypotheses_gain_and_one_volume_for_all() -> None:
    pose = some_poses(6)
    pose = Pose3D(pose.quaternion, pose.shift, pose.log_scale, torch.full((6,), 2.0), torch.full((6,), 0.5))
    volume = blobs(16)
    one_by_one = torch.cat([2 * render_volumes(volume, Pose3D.of(*fields(pose[[i]]))) + 0.5 for i in range(6)])
    np.testing.assert_allclose(render_volumes(volume, pose), one_by_one, atol=1e-5)
    table = pose.each(lambda field: field.reshape(2, 3, *field.shape[1:]))
    np.testing.assert_allclose(render_volumes(volume, table).flatten(0, 1), one_by_one, atol=1e-5)
    each_its_own = render_volumes(torch.cat([volume, 3 * volume]), table)
    np.testing.assert_allclose(each_its_own[1] - 0.5, 3 * (one_by_one[3:] - 0.5), atol=1e-4)


def fields(pose: Pose3D) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return pose.quaternion, pose.shift, pose.log_scale


@pytest.mark.parametrize("fast", [False, True])
def test_slopes_are_those_of_finite_steps(fast: bool) -> None:
    volume = blobs(16).double()
    pose = some_poses(1, 3).to(torch.float64)
    target = render_volumes(volume, some_poses(1, 4).to(torch.float64))

    def loss(step: torch.Tensor) -> torch.Tensor:
        moved = pose.stepped(step[None, :3], step[None, 3:])
        return ((render_volumes(volume, moved, fast=fast) - target) ** 2).sum()

    step = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(step), step)
    # linear interpolation has kinks: its slope is that of the average over a voxel, so take a wider difference
    width = 1e-3 if fast else 1e-5
    for i in range(6):
        e = torch.eye(6, dtype=torch.float64)[i] * width
        numeric = float(loss(e) - loss(-e)) / (2 * width)
        assert float(slope[i]) == pytest.approx(numeric, rel=0.05 if fast else 1e-3, abs=0.02 * float(slope.norm()))


def test_coverage_takes_away_what_it_says_and_is_done_in_one_go() -> None:
    volumes = torch.randn(2, 12, 12, 12, generator=torch.Generator().manual_seed(0))
    coverage = torch.ones(2, 12, 12, 7)
    coverage[1, 3:10] = 0
    filtered = apply_coverage(volumes, coverage)
    np.testing.assert_allclose(filtered[0], volumes[0], atol=1e-5)
    spectrum = torch.fft.rfftn(filtered[1])
    assert float(spectrum[3:10].abs().max()) < 1e-4
    twice = apply_coverage(filtered, coverage)
    np.testing.assert_allclose(twice, filtered, atol=1e-5)
    pose = some_poses(2)
    np.testing.assert_allclose(
        render_volumes(volumes, pose, coverage), apply_coverage(render_volumes(volumes, pose), coverage), atol=1e-5
    )
    many = volumes[:, None].expand(-1, 3, -1, -1, -1)
    np.testing.assert_allclose(apply_coverage(many, coverage)[:, 2], filtered, atol=1e-6)


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 10_000))
def test_drawing_twice_is_drawing_the_product(seed: int) -> None:
    first, second = some_poses(1, seed), some_poses(1, seed + 1)
    twice = render_volumes(render_volumes(blobs(24), first), second)
    once = render_volumes(blobs(24), second.compose(first))
    inside = slice(4, 20)  # what leaves the box on the way is lost
    difference = (twice - once)[:, inside, inside, inside]
    assert float(difference.abs().max()) < 0.01 * float(once.max())


def posed_file(row: pd.Series) -> tuple[Pose3D, torch.Tensor]:
    """``particle[p] = ref[M p]``, index order zyx, centre (n - 1) / 2, as a pose about floor(n / 2); and R."""
    matrix = row[[f"m{i}{j}" for i in range(3) for j in range(3)]].to_numpy(dtype=np.float64).reshape(3, 3)
    rotation = matrix[::-1, ::-1].copy()  # from (z, y, x) to (x, y, z)
    half = np.full(3, 0.5)  # floor(n / 2) lies half a voxel behind (n - 1) / 2 where n is even
    origin = half - rotation.T @ half
    quaternion = so3.inverse(so3.from_matrix(torch.from_numpy(rotation)))
    return Pose3D.of(quaternion[None], -torch.from_numpy(origin)[None]).to(torch.float32), torch.from_numpy(rotation)


def test_files_with_known_rotations(shared_data: Path) -> None:
    folder = shared_data / "poses3d"
    table = pd.read_csv(folder / "truth.csv")
    for number, row in table.iterrows():
        pose, rotation = posed_file(row)
        # the numbers that a RELION file would hold say the same
        angles, origin = pose.to_relion()
        np.testing.assert_allclose(so3.to_matrix(so3.from_zyz(angles.double()))[0], rotation, atol=1e-5)
        pose = Pose3D.from_relion(angles, origin)
        reference, volume = (
            torch.from_numpy(mrcfile.read(folder / name).astype(np.float32))[None]
            for name in (f"ref_{row['class']}.mrc", row["file"])
        )
        assert agreement(render_volumes(reference, pose, fast=True), volume) > 0.99
        if number == 0:
            assert agreement(render_volumes(volume, pose.inverse(), fast=True), reference) > 0.99
            wrong = Pose3D.of(so3.inverse(pose.quaternion), pose.shift)
            assert agreement(render_volumes(reference, wrong, fast=True), volume) < 0.9
            half_a_voxel = Pose3D.of(pose.quaternion, pose.shift + 0.5)
            exact = agreement(render_volumes(reference, pose, fast=True), volume)
            assert agreement(render_volumes(reference, half_a_voxel, fast=True), volume) < exact


def agreement(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])
