"""A small data set, a result for it, and an engine that answers at once: the GUI is tested without torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from napari_harmony.engine.events import Done, Event, Loss, Preview, Progress
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.images import ArrayImages
from napari_harmony.particles.volumes import ArrayVolumes
from napari_harmony.particles.wedge import TiltRange
from napari_harmony.results import COLUMNS_3D, Result

COUNT, BOX, CLASSES = 60, 16, 3


def make_particles(count: int = COUNT, box: int = BOX) -> Particles:
    images = np.random.default_rng(0).normal(size=(count, box, box)).astype(np.float32)
    return Particles(ArrayImages(images), pd.DataFrame(index=pd.RangeIndex(count)), pixel_size=2.0)


def make_result(count: int = COUNT, classes: int = CLASSES, seed: int = 0, box: int = BOX) -> Result:
    random = np.random.default_rng(seed)
    flags = np.full(count, "", dtype=object)
    flags[:4] = ["junk", "junk,shift-bound", "constant", "shift-bound"][: min(4, count)]
    number = np.arange(count) % classes + 1
    number[:2] = 0
    table = pd.DataFrame(
        {
            "class_number": number,
            "class_probability": random.uniform(0.3, 1, count),
            "psi": random.uniform(-180, 180, count),
            "origin_x": random.normal(0, 2, count),
            "origin_y": random.normal(0, 2, count),
            "psi_spread": random.uniform(0.5, 5, count),
            "shift_spread": random.uniform(0.1, 1, count),
            "flip_odds": random.uniform(0, 0.5, count),
            "scale": np.ones(count),
            "contrast": random.uniform(0.8, 1.2, count),
            "offset": np.zeros(count),
            "score": random.uniform(-0.1, 0.5, count),
            "flags": flags,
            "content_0": random.normal(size=count),
            "content_1": random.normal(size=count),
        }
    )
    shells = box // 2
    return Result(
        table=table,
        averages=random.normal(size=(classes, box, box)).astype(np.float32),
        average_pixel_size=2.0,
        frc=np.ones((classes, shells), np.float32),
        frc_floor=np.zeros((classes, shells), np.float32),
        frc_frequency=np.linspace(0, 0.25, shells, dtype=np.float32),
        resolution=np.array([8.0, np.nan, 9.5][:classes] + [10.0] * max(0, classes - 3), np.float32),
        pixel_size=2.0,
        summary={"warnings": [], "seed": seed, "parameters": {"classes": classes}},
    )


def make_subtomograms(count: int = 12, box: int = 8) -> Particles:
    """Subtomograms of noise, 10 angstrom per voxel, tilted up to 60 degrees."""
    volumes = np.random.default_rng(0).normal(size=(count, box, box, box)).astype(np.float32)
    table = pd.DataFrame(index=pd.RangeIndex(count))
    return Particles(ArrayVolumes(volumes), table, pixel_size=10.0, wedge=TiltRange(-60, 60))


def make_result_3d(
    count: int = 12, classes: int = 2, seed: int = 0, box: int = 8, truth: pd.DataFrame | None = None
) -> Result:
    """A result for subtomograms; with ``truth`` its poses (rot, tilt, psi) and kinds (0-based), centred boxes."""
    random = np.random.default_rng(seed)
    flat = make_result(count, classes, seed, box)
    table = flat.table.drop(columns=["psi_spread"])
    table["rot"], table["tilt"] = random.uniform(-180, 180, count), random.uniform(0, 180, count)
    table["origin_z"], table["angle_spread"] = random.normal(0, 2, count), random.uniform(1, 6, count)
    if truth is not None:
        table[["rot", "tilt", "psi"]] = truth[["rot", "tilt", "psi"]].to_numpy()
        table[["origin_x", "origin_y", "origin_z"]] = 0.0
        table["class_number"], table["flags"] = truth["kind"].to_numpy() + 1, ""
    content = [name for name in table if str(name).startswith("content_")]
    return replace(
        flat,
        table=table[[*COLUMNS_3D, *content]],
        averages=random.normal(size=(classes, box, box, box)).astype(np.float32),
        average_pixel_size=10.0,
        pixel_size=10.0,
    )


@dataclass(frozen=True)
class FakeCard:
    """The part of a model's card that the docks look at."""

    general: bool = False
    trained_on: str = ""


@dataclass(frozen=True, eq=False)
class FakeModel:
    """Stands for a trained model."""

    card: FakeCard = FakeCard()


class FakeEngine(ModuleType):
    """Has the functions of ``napari_harmony.engine.api`` and remembers how they were called.

    ``pause`` seconds pass before each event; ``steps`` events come before the last; ``error`` is raised halfway. What
    it is told of the loss comes after each step, if it ``trains``. Once it is ``enough``, it ends at the next step.
    """

    def __init__(self) -> None:
        super().__init__("napari_harmony.engine.api")
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.pause, self.steps = 0.0, 4
        self.error: Exception | None = None
        self.closed = 0
        self.trains = False
        self.shape: tuple[int, ...] = (BOX, BOX)

    def fit(self, particles: Particles, settings: Any, **more: Any) -> Iterator[Event]:
        return self._run("fit", FakeModel, settings=settings, **more)

    def align(self, particles: Particles, settings: Any, **more: Any) -> Iterator[Event]:
        model = more.get("model") or FakeModel()
        make = make_result if particles.dimensions == 2 else make_result_3d
        self.shape = (BOX,) * 2 if particles.dimensions == 2 else (particles.box,) * 3
        return self._run("align", lambda: make(len(particles)), settings=settings, used=model, **more)

    def cluster(self, particles: Particles, result: Result, settings: Any, **more: Any) -> Iterator[Event]:
        classes = settings.classes or CLASSES
        make = make_result if particles.dimensions == 2 else make_result_3d
        return self._run("cluster", lambda: make(len(particles), classes, seed=1), settings=settings, **more)

    def _run(self, name: str, value: Callable[[], Any], **call: Any) -> Iterator[Event]:
        self.calls.append((name, call))
        enough = call.get("enough")
        try:
            for step in range(self.steps):
                time.sleep(self.pause)
                if enough is not None and enough.is_set():
                    break
                if self.trains:
                    yield Loss(step + 1, self.steps, 1.0 / (step + 1), {"reconstruction": 0.9 / (step + 1)})
                yield Progress("searching", step / self.steps, f"round {step}")
                if self.error is not None and step >= self.steps // 2:
                    raise self.error
                averages = np.random.default_rng(step).normal(size=(CLASSES, *self.shape)).astype(np.float32)
                yield Preview(averages, np.full(CLASSES, COUNT / CLASSES, np.float32), step)
            yield Done(value(), call.get("used"))
        finally:
            self.closed += 1
