"""Poses on which the particles of a group agree by their marks."""

from __future__ import annotations

import math

import pytest
import torch

from napari_harmony.engine.volumes import agreement
from napari_harmony.engine.volumes.agreement import agreed
from napari_harmony.engine.work import finish
from napari_harmony.transforms import so3
from napari_harmony.transforms.rotation_functions import functions_of, functions_up_to, turned

DEGREE, CHANNELS = 4, 6


def group(count: int, seed: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Marks of particles of one content in random poses, and the poses (count, 4)."""
    generator = torch.Generator().manual_seed(seed)
    size = functions_up_to(DEGREE)
    content = torch.randn(1, CHANNELS, size, generator=generator)
    pose = so3.random_rotations(count, generator)
    marks = turned(content.expand(count, -1, -1), functions_of(DEGREE, pose))
    return marks + noise * torch.randn(count, CHANNELS, size, generator=generator), pose


def apart(found: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
    """Degrees (n,) by which each is off, once the frame of all is that of the one that fits best."""
    frames = so3.multiply(so3.inverse(pose), found)
    expected = so3.multiply(pose[None], frames[:, None])
    off = so3.angle_between(expected, found[None])
    return off[off.median(dim=1).values.argmin()].rad2deg()


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_a_group_is_laid_onto_itself_wherever_it_begins(noise: float) -> None:
    marks, pose = group(30, 1, noise)
    start = so3.random_rotations(30, torch.Generator().manual_seed(2))
    found = finish(agreed(marks, DEGREE, torch.zeros(30, dtype=torch.long), start))
    # the finer grid is 6 degrees wide
    assert float(apart(found, pose).median()) < 8 and float(apart(start, pose).median()) > 40


def test_groups_do_not_see_each_other() -> None:
    (one, first), (two, second) = group(20, 3, 1.0), group(20, 4, 1.0)
    label = torch.tensor([5, 9]).repeat(20)
    marks, start = torch.empty(40, *one.shape[1:]), so3.random_rotations(40, torch.Generator().manual_seed(5))
    marks[label == 5], marks[label == 9] = one, two
    found = finish(agreed(marks, DEGREE, label, start))
    for number, pose, alone in ((5, first, one), (9, second, two)):
        rows = label == number
        assert float(apart(found[rows], pose).median()) < 8
        itself = finish(agreed(alone, DEGREE, torch.zeros(20, dtype=torch.long), start[rows]))
        torch.testing.assert_close(found[rows], itself)


def test_a_particle_alone_stays_as_it_is_and_marks_may_be_of_half_precision() -> None:
    marks, pose = group(11, 6, 0.5)
    start = so3.random_rotations(11, torch.Generator().manual_seed(7))
    label = torch.tensor([1] + [0] * 10)
    found = finish(agreed(marks.half(), DEGREE, label, start))
    torch.testing.assert_close(found[0], start[0])
    assert float(apart(found[1:], pose[1:]).median()) < 8


def test_what_is_known_well_stays_near_where_it_began() -> None:
    """The frame of a group is that of its start: what agrees already is not turned away."""
    marks, pose = group(25, 8, 1.0)
    frame = so3.random_rotations(1, torch.Generator().manual_seed(9))
    start = so3.multiply(pose, frame)
    found = finish(agreed(marks, DEGREE, torch.zeros(25, dtype=torch.long), start))
    assert float(so3.angle_between(found, start).median()) < math.radians(15)


def test_every_portion_of_a_large_group_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "PORTION", 4)
    marks, _ = group(12, 10, 1.0)
    start = so3.random_rotations(12, torch.Generator().manual_seed(11))
    label = torch.tensor([0] * 10 + [1] * 2)
    work = agreed(marks, DEGREE, label, start)
    said, steps = [], iter(work)
    with pytest.raises(StopIteration) as end:
        while True:
            said.append(next(steps))
    assert said == sorted(said) and 0 < said[0] < 0.1 and said[-1] <= 1
    monkeypatch.setattr(agreement, "PORTION", 512)
    torch.testing.assert_close(end.value.value, finish(agreed(marks, DEGREE, label, start)))
