"""Runs on images that do not fit in memory: as right as others, whatever of them is in memory, and nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from engine_data import run, simulated, wrapped

from napari_harmony.analysis.metrics import hungarian_accuracy, pose_errors
from napari_harmony.engine import api, costs, portions, store
from napari_harmony.engine.estimate import estimate
from napari_harmony.engine.events import Event, Preview, Progress
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.work import Work
from napari_harmony.errors import InferenceError
from napari_harmony.particles.simulate import Simulated
from napari_harmony.results import Result

if TYPE_CHECKING:
    from conftest import Example

#: So little that a sample of 120 of 180 images is searched, and 64 are placed at a time.
LITTLE = 2**20
SAMPLE = 120


def as_it_is(result: Result, *more: object) -> Work[Result]:
    """A result about which nothing more is found out."""
    yield 1.0
    return result


@pytest.fixture(scope="module", autouse=True)
def few_at_a_time() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portions, "LEAST_SAMPLE", SAMPLE)
        patch.setattr("napari_harmony.engine.run.with_insight", as_it_is)  # it takes longer than all else
        yield


@pytest.fixture(scope="module")
def large(brief_training: None) -> Simulated:
    return simulated(180)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(classes=3, preset="fast", memory=LITTLE, cache=str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def whole(large: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """An uninterrupted run in portions."""
    cache = str(tmp_path_factory.mktemp("cache"))
    return run(api.align(large.particles, Settings(classes=3, preset="fast", memory=LITTLE, cache=cache))).value


def assert_right(result: Result, data: Simulated) -> None:
    """Nearly all classes and poses are those that were simulated."""
    t, truth = result.table, data.truth
    origin, true_origin = t[["origin_x", "origin_y"]], truth[["origin_x", "origin_y"]]
    errors = pose_errors(t["psi"], origin, truth["psi"], true_origin, t["class_number"], truth["content"])
    assert hungarian_accuracy(t["class_number"], truth["content"]) > 0.95
    assert np.nanmedian(errors.rotation) < 3.0 and (errors.rotation < 15).mean() > 0.95
    assert np.nanmedian(errors.shift) < 0.4


def nothing_waits(settings: Settings) -> bool:
    """Whether the folder of the cache is empty."""
    return not list(Path(settings.cache).iterdir())


def test_all_particles_are_placed_on_the_classes_of_a_sample(whole: Result, large: Simulated) -> None:
    assert_right(whole, large)
    told = whole.summary["large"]
    assert (
        told["sample"] == told["resolution_particles"] == SAMPLE
        and told["passes"] == 4
        and told["cache_bytes"] == 180 * 24 * 13 * 4
    )
    assert whole.content.shape[1] > 0 and np.isfinite(whole.content).all()
    assert list(whole.summary["seconds"]) == list(costs.expected(large.particles, _settings_of(whole)))


def _settings_of(result: Result) -> Settings:
    known = result.summary["parameters"]
    return Settings(classes=known["classes"], preset=known["preset"], memory=known["memory"])


def test_what_fits_in_memory_is_held_there(large: Simulated) -> None:
    assert portions.portions_of(large.particles, Settings()) is None
    some = portions.portions_of(large.particles, Settings(memory=LITTLE))
    assert some is not None and some.sample == SAMPLE
    published = Settings(memory=LITTLE, objective="harmony-2022")
    assert portions.portions_of(large.particles, published) is None


def test_more_memory_is_foretold_where_all_are_held(large: Simulated) -> None:
    little, much = (estimate(large.particles, Settings(memory=memory)) for memory in (LITTLE, 2**30))
    assert little.memory <= much.memory and little.disk == 180 * 24 * 13 * 4 and much.disk == 0


@pytest.mark.parametrize("transforms", [("rotation", "translation", "contrast", "defocus")])
def test_placed_on_a_model_as_if_all_were_in_memory(
    example: Example, large: Simulated, settings: Settings, transforms: tuple[str, ...]
) -> None:
    chosen = replace(settings, transforms=transforms)
    one = run(api.align(large.particles, replace(chosen, memory=2**30), model=example.model)).value
    two = run(api.align(large.particles, chosen, model=example.model)).value
    assert nothing_waits(settings) and two.summary["large"]["passes"] == 4
    assert one.table["class_number"].tolist() == two.table["class_number"].tolist()
    turned = wrapped(one.table["psi"].to_numpy() - two.table["psi"].to_numpy())
    assert np.abs(turned).max() < 0.5
    np.testing.assert_allclose(one.table["origin_x"], two.table["origin_x"], atol=0.05)
    np.testing.assert_allclose(one.table["defocus_offset"], two.table["defocus_offset"], atol=300)
    np.testing.assert_allclose(one.averages, two.averages, atol=0.02 * np.abs(one.averages).max())


def test_grouped_anew_in_portions(example: Example, settings: Settings) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portions, "LEAST_SAMPLE", 80)
        result = run(api.cluster(example.data.particles, example.result, settings)).value
        expected = costs.expected(example.data.particles, settings, "cluster")
    assert_right(result, example.data)
    assert nothing_waits(settings) and list(result.summary["seconds"]) == list(expected)
    np.testing.assert_array_equal(result.content, example.result.content)


def events_until(events: Iterator[Event], stage: str, previews: int = 1) -> None:
    """Close a run in a stage, after some portions of it."""
    seen, inside = 0, False
    for event in events:
        inside = event.stage == stage if isinstance(event, Progress) else inside
        seen += inside and isinstance(event, Preview)
        if inside and seen >= previews:
            events.close()  # type: ignore[attr-defined]
            return
    raise AssertionError(f"the run has no stage '{stage}'")


def test_a_closed_run_leaves_no_cache_and_goes_on_with_the_next_portion(
    large: Simulated, whole: Result, settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "state"
    events_until(api.align(large.particles, settings, checkpoint=folder), "placing particles")
    assert nothing_waits(settings)
    assert {"placed-000000.safetensors", "placed-sums.safetensors"} <= {path.name for path in folder.iterdir()}
    events = list(api.align(large.particles, settings, checkpoint=folder, resume=True))
    stages = [event.stage for event in events if isinstance(event, Progress)]
    assert "searching half 1 of 2" not in stages
    assert sum(isinstance(event, Preview) for event in events) == 2  # of three portions
    pd.testing.assert_frame_equal(events[-1].value.table, whole.table, check_exact=False, atol=1e-3)
    np.testing.assert_allclose(events[-1].value.averages, whole.averages, atol=1e-4)


def test_an_early_end_places_what_is_left_near_what_the_network_says(
    large: Simulated, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag, last = Flag(), None
    for event in api.align(large.particles, settings, enough=flag):
        if isinstance(event, Progress) and event.stage == "averaging":
            flag.set()
        last = event
    result = last.value  # type: ignore[union-attr]
    assert any("near those that the model proposed" in warning for warning in result.warnings)
    assert (result.table["class_number"] > 0).all() and np.isfinite(result.averages).all()


def test_a_disk_that_becomes_full_ends_the_run_in_a_sentence(
    large: Simulated, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "BATCH", 64)
    written: list[int] = []

    class Full:
        """A file on a disk that takes one batch."""

        def __init__(self, file: object) -> None:
            self._file = file

        def seek(self, place: int) -> int:
            return place

        def write(self, data: memoryview) -> int:
            written.append(len(data))
            if len(written) > 1:
                raise OSError(28, "No space left on device")
            return len(data)

        def close(self) -> None:
            written.append(-1)

    opened = store.tempfile.TemporaryFile
    monkeypatch.setattr(store.tempfile, "TemporaryFile", lambda **how: Full(opened(**how)))
    with pytest.raises(
        InferenceError, match="the disk is full.*make room, or choose another folder with --cache"
    ) as told:
        run(api.align(large.particles, settings))
    assert str(told.value).count(". ") == 0 and written[-1] == -1 and nothing_waits(settings)
