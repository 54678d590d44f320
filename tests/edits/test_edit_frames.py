"""Merged classes share one frame: the members of the second are turned and moved into that of the first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from edit_data import GAUGE_2D, GAUGE_3D, pose_errors, split_images, split_volumes

from napari_harmony.edits import Assign, Merge, Turn, apply_edit, complete, is_complete
from napari_harmony.particle_ids import to_record
from napari_harmony.results import Result


@pytest.mark.parametrize(
    ("made", "gauge"), [(split_images, GAUGE_2D), (split_volumes, GAUGE_3D)], ids=["images", "subtomograms"]
)
def test_a_known_turn_brings_the_split_half_back(made: object, gauge: Turn) -> None:
    _, split, true = made()  # type: ignore[operator]
    rows = split.members(2)
    away, apart = pose_errors(split, true, rows)
    assert away.min() > 30 and apart.max() > 1  # the halves really lie apart
    merged = apply_edit(split, Merge((1, 2), ((2, gauge),)))
    away, apart = pose_errors(merged, true, rows)
    assert away.max() < 1e-4 and apart.max() < 1e-4
    assert (merged.table["class_number"] == true.table["class_number"]).all()


def test_magnified_particles_keep_their_place_in_the_class() -> None:
    _, split, _ = split_images()
    rows = split.members(2)
    table = split.table.copy()
    table.loc[rows, "scale"] = 1.25
    merged = apply_edit(replace(split, table=table), Merge((1, 2), ((2, GAUGE_2D),))).table.loc[rows]
    # x_1 = Q (x_2 + s) for any point of the image, with x_2 = R (x + t) / m
    point, shift = np.array([3.0, -4.0]), np.asarray(GAUGE_2D.shift)
    for (_, before), (_, after) in zip(table.loc[rows[:5]].iterrows(), merged.iloc[:5].iterrows(), strict=True):
        second, first = (
            _turned(row["psi"], point + row[["origin_x", "origin_y"]].to_numpy(float)) / 1.25 for row in (before, after)
        )
        np.testing.assert_allclose(first, _turned(GAUGE_2D.angles[0], second + shift), atol=1e-9)


def _turned(degrees: float, vector: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[cos, -sin], [sin, cos]]) @ vector


@pytest.mark.parametrize(
    ("made", "degrees", "pixels"), [(split_images, 2.0, 0.4), (split_volumes, 5.0, 0.6)], ids=["images", "subtomograms"]
)
def test_aligned_averages_say_how_frames_lie(made: object, degrees: float, pixels: float) -> None:
    _, split, true = made()  # type: ignore[operator]
    rows = split.members(2)
    edit = complete(split, Merge((1, 2)))
    assert is_complete(split, edit) and not is_complete(split, Merge((1, 2)))
    away, apart = pose_errors(apply_edit(split, edit), true, rows)
    assert np.median(away) < degrees
    assert np.median(apart) < pixels


def test_particles_of_another_class_are_turned_when_they_are_assigned() -> None:
    _, split, true = split_images()
    rows = split.members(2)[:7]
    moved = apply_edit(split, Assign(tuple(rows), 1))
    away, apart = pose_errors(moved, true, rows)
    assert np.median(away) < 2 and np.median(apart) < 0.4
    rest = np.setdiff1d(np.arange(len(split)), rows)
    same = ["psi", "origin_x", "origin_y", "class_number"]
    assert moved.table.loc[rest, same].equals(split.table.loc[rest, same])


def test_junk_goes_along_with_its_class_and_comes_back_turned() -> None:
    from napari_harmony.edits import Restore

    _, split, true = split_images()
    rows = split.members(2)
    thrown = apply_edit(split, Assign(tuple(rows[:4]), 0))
    merged = apply_edit(thrown, Merge((1, 2), ((2, GAUGE_2D),)))
    back = apply_edit(merged, Restore((1,)))
    assert (back.table.loc[rows, "class_number"] == 1).all()
    away, apart = pose_errors(back, true, rows)
    assert away.max() < 1e-4 and apart.max() < 1e-4


def test_halves_of_one_class_are_not_turned_against_each_other() -> None:
    """A ring looks the same after any turn: what shares a frame already must keep it."""
    _, split, _ = split_images()
    axis = np.arange(split.averages.shape[-1]) - split.averages.shape[-1] // 2
    ring = np.exp(-((np.hypot(axis[:, None], axis) - 9) ** 2) / 4).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.05, (3, *ring.shape)).astype(np.float32)
    alike = replace(split, averages=ring + noise)
    ((_, turn),) = complete(alike, Merge((1, 2))).turns  # type: ignore[union-attr]
    assert np.hypot(*turn.shift) < 0.3
    assert abs(turn.angles[0]) < 20


def test_transformations_that_the_run_left_out_are_left_out() -> None:
    _, split, _ = split_images()

    def allowed(*names: str) -> Turn:
        limited: Result = replace(split, summary={"parameters": {"transforms": list(names)}})
        return complete(limited, Merge((1, 2))).turns[0][1]  # type: ignore[union-attr]

    assert allowed("translation").angles == (0.0,)
    assert allowed("rotation").shift == (0.0, 0.0)


def test_junk_of_the_run_is_taken_from_the_frame_of_the_class_it_fitted_best() -> None:
    _, split, true = split_images()
    rows = split.members(2)[:6]
    table = split.table.copy()
    table.loc[rows, "class_number"], table.loc[rows, "flags"] = 0, "junk"
    summary = {**split.summary, "junk_frames": to_record(np.isin(np.arange(len(table)), rows) * 2)}
    found = replace(split, table=table, summary=summary)
    assert not is_complete(found, Assign(tuple(rows), 1))
    moved = apply_edit(found, Assign(tuple(rows), 1, ((2, GAUGE_2D),)))
    away, apart = pose_errors(moved, true, rows)
    assert away.max() < 1e-4 and apart.max() < 1e-4
    assert set(moved.table["flags"].to_numpy()[rows]) == {""} and "junk_frames" not in moved.summary
    back = apply_edit(found, Assign(tuple(rows), 2))  # its own class: nothing to turn
    np.testing.assert_array_equal(back.table["psi"], split.table["psi"])
