"""Whole runs on subtomograms: content, poses and resolution from nothing, and nothing from noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from engine_data import run
from scipy.stats import kstest
from volume_data import example, rotation_errors, subtomograms, true_poses

from napari_harmony.analysis.fsc import of_classes, resolution
from napari_harmony.engine import api
from napari_harmony.engine.events import Done, Event, Preview, Progress
from napari_harmony.engine.halves import crossing
from napari_harmony.engine.settings import Settings
from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.simulate_volumes import simulate_volume_noise
from napari_harmony.particles.volumes import ArrayVolumes
from napari_harmony.results import COLUMNS_3D, NO_STRUCTURE, Result
from napari_harmony.transforms import so3

#: Of little data, for what does not depend on how much there is.
QUICK = Settings(classes=1, preset="fast")
FEW = 16


@pytest.fixture(scope="module")
def result() -> Result:
    return example().value


@pytest.fixture(scope="module")
def events() -> list[Event]:
    """All that a run on little data says."""
    return list(api.align(few(), QUICK))


@pytest.fixture(scope="module")
def small(events: list[Event]) -> Result:
    """What comes of it."""
    assert isinstance(events[-1], Done)
    return events[-1].value


def volumes(count: int = FEW) -> np.ndarray:
    return np.asarray(subtomograms().particles.read(range(count)))


def few() -> Particles:
    return again(volumes())


def again(stored: np.ndarray) -> Particles:
    table = pd.DataFrame(index=pd.RangeIndex(len(stored)))
    return Particles(ArrayVolumes(stored), table, 10.0, wedge=subtomograms().particles.wedge)


def test_contents_and_poses_are_found() -> None:
    # "fast" does not always tell apart the sides from which one content looks much the same.
    result = run(api.align(subtomograms().particles, Settings(classes=3))).value
    truth, table = subtomograms().truth, result.table
    assert tuple(table.columns[: len(COLUMNS_3D)]) == COLUMNS_3D
    crossed = pd.crosstab(table["class_number"], truth["content"])
    assert crossed.max(axis=1).sum() >= 46 and len(crossed) == 3
    want = true_poses(truth).rotation
    rotation = so3.from_zyz(torch.as_tensor(table[["rot", "tilt", "psi"]].to_numpy(), dtype=torch.float32))
    for number in range(1, 4):
        rows = np.flatnonzero(table["class_number"] == number)
        assert float(rotation_errors(rotation[rows], want[rows]).median()) < 6
    assert (table["angle_spread"] > 0).all() and (table["angle_spread"] < 20).all()


def test_averages_come_with_their_halves_and_a_resolution(result: Result) -> None:
    assert result.dimensions == 3 and result.averages.shape == (3, 24, 24, 24)
    assert result.half_averages is not None and result.half_averages.shape == (2, 3, 24, 24, 24)
    assert np.isfinite(result.frc).all() and np.isfinite(result.resolution).all() and result.warnings == ()
    for k in range(3):
        one, two = (half[k].ravel() for half in result.half_averages)
        assert np.corrcoef(one, two)[0, 1] > 0.5
        assert np.corrcoef(one + two, result.averages[k].ravel())[0, 1] > 0.6


def test_the_order_of_the_particles_does_not_matter(small: Result) -> None:
    order = np.random.default_rng(0).permutation(FEW)
    other = run(api.align(again(volumes()[order]), QUICK)).value
    want = small.table.iloc[order].reset_index(drop=True)
    np.testing.assert_array_equal(other.table["class_number"], want["class_number"])
    np.testing.assert_allclose(other.table["score"], want["score"], atol=1e-4)


def test_volumes_that_cannot_be_used_keep_their_place() -> None:
    stored = volumes().copy()
    stored[3, 0, 0, 0], stored[7], stored[11] = np.nan, 5.0, stored[10]
    table = run(api.align(again(stored), QUICK)).value.table
    assert [table["flags"][i].split(",")[0] for i in (3, 7, 11)] == ["not-finite", "constant", "duplicate"]
    assert table["class_number"][3] == table["class_number"][7] == 0
    assert table["class_number"][11] == table["class_number"][10] and table["rot"][11] == table["rot"][10]


def test_noise_behind_a_wedge_gives_no_structure_and_no_preferred_rotation() -> None:
    noise = simulate_volume_noise(80, 20, seed=3)
    result = run(api.align(noise, Settings(classes=1, preset="fast"))).value
    assert any(NO_STRUCTURE in warning for warning in result.warnings)
    assert result.table["flags"].str.contains("junk").all() and np.isnan(result.resolution).all()
    assert not (result.frc > result.frc_floor).any()
    uniform = [(np.cos(np.radians(result.table["tilt"])) + 1) / 2]
    uniform += [(result.table[name] % 360) / 360 for name in ("rot", "psi")]
    assert min(kstest(values, "uniform").pvalue for values in uniform) > 1e-3


def test_shifts_and_rotations_are_left_alone_where_so_wanted() -> None:
    still = run(api.align(few(), replace(QUICK, transforms=("rotation",)))).value
    assert (still.table[["origin_x", "origin_y", "origin_z"]] == 0).all(axis=None)
    table = run(api.align(few(), replace(QUICK, transforms=("translation",)))).value.table
    np.testing.assert_allclose(table[["tilt"]], 0, atol=1e-3)


def test_a_run_can_be_left_and_taken_up_again(tmp_path: Path, small: Result) -> None:
    until(api.align(few(), QUICK, checkpoint=tmp_path), "refining poses")
    assert (tmp_path / "volumes.safetensors").exists() and not list(tmp_path.glob("*.part"))
    resumed = list(api.align(few(), QUICK, checkpoint=tmp_path, resume=True))
    assert not any(isinstance(e, Progress) and e.stage.startswith("searching") for e in resumed)
    pd.testing.assert_frame_equal(resumed[-1].value.table, small.table)


def until(events: Iterator[object], stage: str) -> None:
    for event in events:
        if isinstance(event, Progress) and event.stage == stage:
            break
    events.close()  # type: ignore[attr-defined]


def test_a_broken_state_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "volumes.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="start anew without --resume"):
        run(api.align(few(), QUICK, checkpoint=tmp_path, resume=True))


def test_progress_grows_and_previews_are_volumes(events: list[Event]) -> None:
    fractions = [e.fraction for e in events if isinstance(e, Progress)]
    assert fractions == sorted(fractions) and fractions[0] == 0
    assert all(e.averages.ndim == 4 for e in events if isinstance(e, Preview))


def test_a_run_on_too_few_is_refused() -> None:
    with pytest.raises(InputError, match="7 subtomograms are too few"):
        run(api.align(again(volumes(7)), QUICK))


def test_the_stated_resolution_is_that_of_the_half_maps_as_they_are_given(result: Result) -> None:
    of_the_search = [crossing(curve) for curve in result.frc]
    length = result.averages.shape[-1] * result.average_pixel_size
    assert result.half_averages is not None
    curves = of_classes(result.averages, result.half_averages)
    for stated, searched, curve in zip(result.resolution, of_the_search, curves, strict=True):
        assert curve is not None
        corrected = resolution(curve.corrected, result.average_pixel_size)
        assert corrected == pytest.approx(length / searched, rel=0.15)
        assert stated == pytest.approx(max(corrected, length / searched), rel=1e-3)


def test_halves_stay_as_the_input_names_them() -> None:
    """Two halves that show different things agree on nothing, but only where they are kept apart."""
    simulated, other = subtomograms(), simulate_volume_noise(FEW, 24, seed=1)
    rows = np.flatnonzero(simulated.truth["content"] == 1)
    stored = np.concatenate([np.asarray(simulated.particles.read(rows)), np.asarray(other.read(range(FEW)))])
    column = pd.DataFrame({"rlnRandomSubset": [1] * len(rows) + [2] * FEW})
    apart = run(api.align(replace(again(stored), table=column), QUICK)).value
    mixed = run(api.align(again(stored), QUICK)).value
    assert np.isnan(apart.resolution).all() and np.isfinite(mixed.resolution).all()
