"""Fixtures for tests of the engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from engine_data import run, simulated

from napari_harmony.engine import api, schedule
from napari_harmony.engine.settings import Settings
from napari_harmony.models import HarmonyModel
from napari_harmony.particles.simulate import Simulated
from napari_harmony.results import Result


@dataclass(frozen=True)
class Example:
    """A small data set, how it was run, and what came out."""

    data: Simulated
    settings: Settings
    result: Result
    model: HarmonyModel


@pytest.fixture(scope="session")
def brief_training() -> Iterator[None]:
    """Runs of the engine train for one pass: poses and classes come from the search, so tests need no more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "EPOCHS", dict.fromkeys(schedule.EPOCHS, (1, 1)))
        patch.setattr(schedule, "ONE_CLASS_EPOCHS", 1)
        patch.setattr(schedule, "EPOCHS_2022", dict.fromkeys(schedule.EPOCHS_2022, 2))
        yield


@pytest.fixture(scope="session")
def example(brief_training: None) -> Example:
    """Three contents, 120 images, run once for all tests."""
    data, settings = simulated(120), Settings(classes=3, preset="fast")
    done = run(api.align(data.particles, settings))
    return Example(data, settings, done.value, done.model)
