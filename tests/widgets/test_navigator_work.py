"""What the navigator does without a window: posing a picture as a particle lies, cutting a particle to a grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from gui_fakes import make_result, make_result_3d

from napari_harmony.particles.conformation_volumes import simulate_conformation_volumes
from napari_harmony.particles.conformations import Conformations, simulate_conformations
from napari_harmony.results import Result
from napari_harmony.widgets._navigator_work import in_pose_of, picture_of

COUNT = 6


def images() -> tuple[Conformations, Result]:
    made = simulate_conformations(count=COUNT, box=32, snr=2.0, seed=0)
    result = make_result(COUNT, classes=1, box=32)
    truth = made.truth[["psi", "origin_x", "origin_y", "contrast"]]
    return made, replace(result, table=result.table.assign(**truth.to_dict("list"), scale=1.0))


def volumes() -> tuple[Conformations, Result]:
    made = simulate_conformation_volumes(count=COUNT, seed=0)
    result = make_result_3d(COUNT, classes=1, box=made.particles.box)
    truth = made.truth[["rot", "tilt", "psi", "origin_x", "origin_y", "origin_z", "contrast"]]
    return made, replace(result, table=result.table.assign(**truth.to_dict("list"), scale=1.0))


def likeness(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), two.ravel())[0, 1])


@pytest.mark.parametrize("make", [images, volumes])
def test_a_picture_in_the_pose_of_a_particle_looks_like_it(make: Callable[[], tuple[Conformations, Result]]) -> None:
    made, result = make()
    box = made.particles.box
    for i in range(COUNT):
        clean, stored = made.clean([i])[0], made.particles.read([i])[0]
        there = likeness(in_pose_of(clean, result, i, box), stored)
        elsewhere = [likeness(in_pose_of(clean, result, j, box), stored) for j in range(COUNT) if j != i]
        assert there > 0.4 and there > max(elsewhere)


def test_shifts_are_those_of_the_stored_images() -> None:
    """The network's grid is coarser than that of the shifts."""
    _, result = images()
    table = result.table.assign(psi=0.0, origin_x=-8.0, origin_y=0.0, contrast=1.0)
    dot = np.zeros((16, 16), np.float32)
    dot[8, 8] = 1.0
    moved = in_pose_of(dot, replace(result, table=table), 0, 32)
    assert np.unravel_index(moved.argmax(), moved.shape) == (8, 12)  # 8 of 32 pixels are 4 of 16


@pytest.mark.parametrize("make", [images, volumes])
def test_a_particle_is_cut_to_the_grid_of_the_network(make: Callable[[], tuple[Conformations, Result]]) -> None:
    made, _ = make()
    box, dimensions = made.particles.box, made.particles.dimensions
    whole, cut = (picture_of(made.particles, 2, size) for size in (box, box // 2))
    np.testing.assert_allclose(whole, made.particles.read([2])[0])
    assert cut.shape == (box // 2,) * dimensions and cut.dtype == np.float32
    assert cut.mean() == pytest.approx(whole.mean(), abs=1e-4)
