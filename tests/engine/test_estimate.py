"""What is foretold of a run before it begins: it grows as it should, costs nothing to ask, and loads no torch."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
import pytest
from engine_data import simulated
from volume_data import subtomograms

from napari_harmony.additions import additions_of
from napari_harmony.engine import api, costs, counts, estimate, pace
from napari_harmony.engine.bases import Bases
from napari_harmony.engine.clock import Clock
from napari_harmony.engine.events import Progress
from napari_harmony.engine.geometry import working_geometry
from napari_harmony.engine.plans import MODEL_BAND, PLANS
from napari_harmony.engine.settings import PRESETS, Settings
from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import Particles

if TYPE_CHECKING:
    from napari_harmony.engine.steerable import SteerableBasis


class Blank:
    """Images that nobody reads."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def read(self, indices: object) -> np.ndarray:
        raise AssertionError("an estimate reads no images")


def blank(count: int, box: int, dimensions: int = 2) -> Particles:
    return Particles(Blank(count, *dimensions * (box,)), pd.DataFrame(index=pd.RangeIndex(count)), 5.0)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine that no run has measured, as fast as that of the figures."""
    monkeypatch.setenv(pace.FOLDER, str(tmp_path))
    monkeypatch.setattr(pace, "_slowness_of_the_cpu", lambda: 1.0)
    return tmp_path / "pace.json"


@pytest.fixture(autouse=True)
def nothing_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """What earlier tests have built in this process would take no time again."""
    monkeypatch.setattr(counts, "BASES", Bases())


@pytest.mark.parametrize(("dimensions", "box"), [(2, 64), (3, 32)])
def test_more_particles_and_more_thorough_searches_take_longer(dimensions: int, box: int) -> None:
    few, many = blank(200, box, dimensions), blank(2000, box, dimensions)
    times = [estimate.estimate(many, Settings(preset=preset)).seconds for preset in PRESETS]
    assert times == sorted(times) and len(set(times)) == 3
    short, long = (estimate.estimate(particles, Settings()) for particles in (few, many))
    assert short.seconds is not None and long.seconds is not None and 2 < long.seconds / short.seconds < 12
    assert short.memory < long.memory and long.device_memory == 0
    placed = estimate.estimate(many, Settings(), task="apply")
    assert placed.seconds is not None and placed.seconds < 0.9 * long.seconds
    adapted = estimate.estimate(many, Settings(), task="adapt")
    assert adapted.seconds is not None and 0.2 * long.seconds < adapted.seconds < 0.8 * long.seconds


def test_what_is_added_and_asked_for_costs_time() -> None:
    particles = blank(2000, 64)
    plain = estimate.estimate(particles, Settings(classes=12)).seconds
    assert plain is not None
    for more in ({"classes": 50}, {"max_shift": 100.0}, {"additions": additions_of("diffusion")}):
        longer = estimate.estimate(particles, replace(Settings(classes=12), **more)).seconds  # type: ignore[arg-type]
        assert longer is not None and longer > plain
    still = estimate.estimate(particles, Settings(classes=12, transforms=("rotation",))).seconds
    assert still is not None and still < plain
    volumes = blank(240, 32, 3)
    symmetric = (estimate.estimate(volumes, Settings(classes=4, symmetry=s)).seconds for s in ("C1", "D7"))
    free, sevenfold = symmetric
    assert free is not None and sevenfold is not None and sevenfold < free


def test_memory_of_the_protocols_is_near_what_was_measured() -> None:
    """Largest resident sets in MB of processes on one core; the benchmark measures more of them."""
    for particles, settings, peak in (
        (blank(2000, 64), Settings(preset="fast"), 812),
        (blank(2000, 64), Settings(classes=12), 938),
        (blank(1000, 64), Settings(classes=3), 721),
        (blank(2000, 32), Settings(classes=12, preset="fast"), 751),
        (blank(240, 32, 3), Settings(classes=4, preset="fast"), 1196),
        (blank(240, 32, 3), Settings(classes=4), 1456),
    ):
        assert 0.7 < estimate.estimate(particles, settings).memory / 2**20 / peak < 1.3


def test_an_estimate_is_cheap_and_loads_no_torch() -> None:
    code = """
import sys, json, time
import numpy as np, pandas as pd
from napari_harmony.engine.estimate import available_memory, estimate
from napari_harmony.engine.settings import Settings
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.images import ArrayImages
particles = Particles(ArrayImages(np.zeros((20, 64, 64), np.float32)), pd.DataFrame(index=range(20)), 5.0)
found = estimate(particles, Settings(), "auto")
print(json.dumps([found.memory, found.device_memory, available_memory(), "torch" in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    memory, on_card, available, torch = json.loads(done.stdout)
    assert memory > 2**28 and on_card == 0 and available > 2**20 and not torch
    particles, settings = blank(100_000, 256), Settings()
    estimate.estimate(particles, settings)
    begin = time.process_time()
    for _ in range(10):
        estimate.estimate(particles, settings)
    assert time.process_time() - begin < 0.5


def test_nothing_is_said_of_the_time_on_a_card_that_no_run_has_measured(own_cache: Path) -> None:
    particles = blank(2000, 64)
    found = estimate.estimate(particles, Settings(), "cuda:1")
    assert found.seconds is None and found.device_memory > 2**28
    assert found.memory < estimate.estimate(particles, Settings()).memory
    own_cache.write_text(json.dumps({"cuda": {"search": 0.02, "network": 0.1}}))
    known, slow = (estimate.estimate(particles, Settings(), device).seconds for device in ("cuda:1", "cpu"))
    assert known is not None and slow is not None and known < slow / 3


def test_what_does_not_fit_is_an_error_of_the_input() -> None:
    with pytest.raises(InputError, match="max shift"):
        estimate.estimate(blank(10, 64), Settings(max_shift=1e4))


def test_every_stage_of_a_run_is_foretold() -> None:
    """Stages that nobody expects would stop the bar, those that never come would make it jump."""
    for particles in (simulated(24).particles, subtomograms(16).particles):
        settings = Settings(classes=1, preset="fast", objective="harmony-2022")
        for chosen in (settings, replace(settings, objective="harmony")):
            foretold = costs.expected(particles, chosen)
            assert all(seconds > 0 for seconds in foretold.values())
            assert set(costs.ALIKE) & set(foretold)
        operations = costs.operations_of(particles, settings)
        assert set(counts.total(operations.values())) <= set(costs.SECONDS)


def test_a_run_says_the_stages_that_were_foretold(brief_training: None) -> None:
    particles, settings = simulated(24).particles, Settings(classes=2, preset="fast")
    said = [event.stage for event in api.fit(particles, settings) if isinstance(event, Progress)]
    assert list(dict.fromkeys(said)) == list(costs.expected(particles, settings))


def finished(slowness: float) -> Clock:
    """A run in which all stages took so many times longer than expected."""
    clock = Clock({"searching": 10.0, "training": 20.0}, costs.ALIKE)
    for stage in clock.weights:
        clock.at(stage, 1.0)
    clock.seconds.update({stage: slowness * seconds for stage, seconds in clock.weights.items()})
    return clock


def test_the_speed_of_a_machine_is_kept_and_averaged(own_cache: Path) -> None:
    assert not pace.pace_of("cpu").known
    pace.remember(pace.pace_of("cpu"), finished(4.0))
    first = pace.pace_of("cpu")
    assert first.known and first.slowness["search"] == pytest.approx(4.0)
    assert first.slowness["network"] == pytest.approx(4.0) and first.slowness[""] == pytest.approx(4.0)
    pace.remember(first, finished(0.25))  # sixteen times faster than at first thought, averaged with that
    second = pace.pace_of("cpu").slowness
    assert second["search"] == pytest.approx(2.0)
    assert not pace.pace_of("cuda").known and list(own_cache.parent.iterdir()) == [own_cache]


@pytest.mark.parametrize("text", ["", "[1]", '{"cpu": 3}', '{"cpu": {"search": "fast"}}', '{"cpu": {"search": -1}}'])
def test_a_file_that_says_nothing_is_no_harm(own_cache: Path, text: str) -> None:
    own_cache.write_text(text)
    assert not pace.pace_of("cpu").known
    pace.remember(pace.pace_of("cpu"), finished(2.0))
    assert pace.pace_of("cpu").slowness["search"] == pytest.approx(2.0)


def test_where_nothing_can_be_written_runs_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(pace.FOLDER, str(tmp_path / "file"))
    pace.remember(pace.pace_of("cpu"), finished(2.0))
    assert not pace.pace_of("cpu").known


def test_short_runs_and_those_cut_short_say_nothing_of_the_machine(own_cache: Path) -> None:
    clock = Clock({"searching": 0.1}, costs.ALIKE)
    clock.at("searching", 1.0)
    clock.seconds["searching"] = 5.0
    pace.remember(pace.pace_of("cpu"), clock)
    assert not own_cache.exists()


def test_what_a_process_has_built_and_loaded_takes_no_time_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sklearn", raising=False)
    particles, settings = blank(100, 64), Settings(preset="fast")
    stage = "preparing the search"
    first = {task: costs.expected(particles, settings, task)[stage] for task in ("fit", "apply", "cluster")}
    geometry = working_geometry(particles, settings)
    problem = counts.Problem(100, geometry, settings)
    for limit in (*PLANS["fast"].bands, problem.model_band()):
        key = (geometry.box, geometry.mask_radius, round(problem.cycles(limit), 1), "cpu")
        counts.BASES.built[key] = cast("SteerableBasis", object())
    monkeypatch.setitem(sys.modules, "sklearn", ModuleType("sklearn"))
    again = {task: costs.expected(particles, settings, task)[stage] for task in first}
    assert min(first.values()) > costs.SECONDS["library"]
    assert again == {"fit": 0.0, "apply": 0.0, "cluster": 0.0}


def test_a_model_on_a_small_grid_is_placed_on_a_narrow_band() -> None:
    problem = counts.Problem(10, working_geometry(blank(10, 64), Settings()), Settings())
    assert problem.model_band(32) == pytest.approx(13.5)  # 15 of 64 cycles per box, of which the mask covers 0.9
    assert problem.model_band(64) == MODEL_BAND
