"""Averages of edited classes, once more from the particles in the poses they have."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from edit_data import averages_of, split_images, split_volumes
from engine_data import run
from gui_fakes import make_particles, make_result

from napari_harmony.edits import Assign, Merge, Split, apply_edit, averaged_again, due_averages, recompute
from napari_harmony.engine import api
from napari_harmony.engine.events import Progress
from napari_harmony.engine.reaverage import Averaged, settings_of
from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.subset import subset
from napari_harmony.results import Result

if TYPE_CHECKING:
    from conftest import Example


def averaged(particles: Particles, result: Result, classes: tuple[int, ...]) -> Averaged:
    return run(api.average_classes(particles, result, classes, device="cpu")).value


def fitting(result: Result) -> Result:
    """Curves as long as those of the engine."""
    blank = np.full((result.classes, result.averages.shape[-1] // 2 - 1), np.nan, np.float32)
    return replace(result, frc=blank, frc_floor=blank.copy())


def likeness(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), two.ravel())[0, 1])


@pytest.mark.parametrize("made", [split_images, split_volumes], ids=["images", "subtomograms"])
def test_averages_of_merged_classes_are_sharper_than_of_one(made: Any) -> None:
    particles, split, true = made()
    split = fitting(split)
    merged = apply_edit(split, Merge((1, 2)))
    done = run(recompute(particles, merged, device="cpu")).value
    assert due_averages(done) == () and averaged_again(done) == (1,)
    content = averages_of(particles, true)[0]
    whole, half = averaged(particles, split, (1,)), likeness(done.averages[0], content)
    assert half > 0.9 and half > likeness(whole.averages[0], content)
    np.testing.assert_array_equal(done.averages[2], split.averages[2])  # the class that nobody touched
    assert np.isfinite(done.frc[0]).all() and done.frc[0, 0] > 0.8
    assert np.isfinite(done.resolution[0])
    assert done.resolution[0] < 0.5 * particles.box * particles.pixel_size


def test_classes_in_frames_that_were_not_joined_blur_each_other() -> None:
    """What the turn between the frames is for: without it the average of both is worse than of one."""
    particles, split, true = split_images()
    content = averages_of(particles, true)[0]
    table = split.table.assign(class_number=true.table["class_number"])
    blurred = averaged(particles, fitting(replace(split, table=table)), (1,)).averages[0]
    alone = averaged(particles, fitting(split), (1,)).averages[0]
    assert likeness(blurred, content) < likeness(alone, content) - 0.1


def test_the_order_of_the_particles_does_not_matter() -> None:
    particles, split, _ = split_images()
    split = fitting(split)
    order = np.random.default_rng(0).permutation(len(split))
    shuffled = replace(split, table=split.table.iloc[order].reset_index(drop=True))
    one, two = averaged(particles, split, (1, 3)), averaged(subset(particles, order), shuffled, (1, 3))
    np.testing.assert_allclose(one.averages, two.averages, atol=1e-4)
    np.testing.assert_allclose(one.frc, two.frc, atol=1e-3)


def test_noise_in_classes_that_said_nothing_gets_no_resolution() -> None:
    particles = make_particles(80, 32)
    result = replace(fitting(make_result(80, 2, box=32)), resolution=np.full(2, np.nan, np.float32))
    merged = apply_edit(result, Merge((1, 2)))
    done = run(recompute(particles, merged, device="cpu")).value
    assert due_averages(done) == () and np.isnan(done.resolution).all()


def test_parts_of_a_class_and_particles_that_are_alone_have_averages() -> None:
    particles, split, _ = split_images()
    edited = apply_edit(fitting(split), Split(3))
    one = int(edited.members(1)[0])
    edited = apply_edit(edited, Assign((one,), edited.classes + 1))
    done = run(recompute(particles, edited, device="cpu")).value
    assert due_averages(done) == () and done.classes == 5
    assert done.averages[4].std() > 0 and np.isnan(done.frc[4]).all()  # no two halves of one particle


@pytest.mark.parametrize("made", [split_images, split_volumes], ids=["images", "subtomograms"])
def test_it_can_be_followed_and_cancelled(made: Any) -> None:
    particles, split, _ = made()
    *seen, last = api.average_classes(particles, fitting(split), (1,), device="cpu")
    assert all(isinstance(event, Progress) for event in seen) and isinstance(last.value, Averaged)
    fractions = [event.fraction for event in seen]
    assert fractions == sorted(fractions) and fractions[0] == 0 and len(fractions) >= 5
    events = api.average_classes(particles, fitting(split), (1,), device="cpu")
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert list(events) == []


def test_settings_are_those_of_the_run() -> None:
    _, split, _ = split_images()
    parameters = {"transforms": ["rotation"], "mask_diameter": 90.0, "classes": 7, "references": ["a.mrc"], "seed": 3}
    found = settings_of(replace(split, summary={"parameters": parameters}))
    assert found.transforms == ("rotation",) and found.mask_diameter == 90 and found.seed == 3
    assert found.references == ("a.mrc",)


def test_what_does_not_fit_is_refused_in_words() -> None:
    particles, split, _ = split_images()
    with pytest.raises(InputError, match="open the stack it is of"):
        averaged(subset(particles, [0, 1]), split, (1,))
    with pytest.raises(InputError, match="has no particles"):
        averaged(particles, apply_edit(split, Merge((1, 2))), (2,))
    with pytest.raises(InputError, match="do not fit those of the result"):
        averaged(particles, replace(split, average_pixel_size=9.0), (1,))


def test_classes_that_nobody_edited_average_to_what_the_run_gave(example: Example) -> None:
    result = example.result
    again = averaged(example.data.particles, result, tuple(range(1, result.classes + 1)))
    for number, average in enumerate(again.averages, start=1):
        assert likeness(average, result.averages[number - 1]) > 0.98
    assert again.frc.shape == result.frc.shape
