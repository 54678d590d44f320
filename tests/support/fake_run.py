"""Stand-ins for a run: small particles in a file, a made-up result of them, and an engine that returns it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event as Flag
from typing import Any

import numpy as np
import pandas as pd

from napari_harmony.engine.events import Done, Event, Loss, Preview, Progress
from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import Particles
from napari_harmony.results import Result, columns_of

BOX = 16
PIXEL_SIZE = 2.5


def make_result(particles: Particles, classes: int = 3, seed: int = 0, content: int = 4) -> Result:
    """A result with a value in every place: unclassified, flagged and not-finite particles, a class without halves."""
    rng = np.random.default_rng(seed)
    count, shells = len(particles), particles.box // 2
    table = pd.DataFrame({name: rng.uniform(0, 1, count) for name in columns_of(particles.dimensions)})
    table["class_number"] = np.arange(count) % classes + 1
    origins = [f"origin_{axis}" for axis in "xyz"[: particles.dimensions]]
    table["psi"] = rng.uniform(-180, 180, count)
    table[origins] = rng.normal(0, 2, (count, particles.dimensions))
    if particles.dimensions == 3:
        table["rot"] = rng.uniform(-180, 180, count)
        table["tilt"] = np.degrees(np.arccos(rng.uniform(-1, 1, count)))
    spread = "psi_spread" if particles.dimensions == 2 else "angle_spread"
    table["flags"] = ""
    table.loc[1, ["class_number", "flags"]] = [0, "not-finite"]
    table.loc[1, ["psi", *origins, spread, "score", "class_probability"]] = np.nan
    table.loc[2, "flags"] = "junk,shift-bound"
    for code in range(content):
        table[f"content_{code}"] = rng.normal(0, 1, count) + table["class_number"]
    frc = np.linspace(1, -0.1, shells, dtype=np.float32) * np.ones((classes, 1), np.float32)
    frc[-1] = np.nan
    resolution = np.full(classes, 12.5, np.float32)
    resolution[-1] = np.nan
    return Result(
        table=table,
        averages=rng.normal(0, 1, (classes, *[particles.box] * particles.dimensions)).astype(np.float32),
        average_pixel_size=particles.pixel_size,
        frc=frc,
        frc_floor=np.full((classes, shells), 0.1, np.float32),
        frc_frequency=(np.arange(shells) / (particles.box * particles.pixel_size)).astype(np.float32),
        resolution=resolution,
        pixel_size=particles.pixel_size,
        summary={"device": "cpu", "warnings": [], "seconds": {"search": 1.25}},
    )


@dataclass(frozen=True)
class FakeCard:
    """The part of a model's card that others look at."""

    transforms: tuple[str, ...] = ("rotation", "translation")
    general: bool = False


@dataclass
class FakeModel:
    """A model that is one number."""

    card: FakeCard = field(default_factory=FakeCard)

    def save(self, path: Path | str) -> None:
        weights = Path(path) if Path(path).suffix == ".safetensors" else Path(path) / "model.safetensors"
        weights.parent.mkdir(parents=True, exist_ok=True)
        weights.write_bytes(b"weights")
        weights.with_suffix(".json").write_text('{"format_version": 1, "content": 8}\n')

    @classmethod
    def load(cls, path: Path | str) -> FakeModel:
        if not (Path(path) / "model.json").is_file():
            raise InputError(f"{path}: there is no model here.")
        return cls()


@dataclass
class FakeEngine:
    """``engine.api`` for tests: remembers how it was called, and can be told to fail in the middle."""

    failure: BaseException | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    on_event: Callable[[], None] | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    rescaled: bool = False
    closed: bool = False

    def align(
        self,
        particles: Particles,
        settings: Any,
        *,
        model: Any = None,
        checkpoint: Path | None = None,
        resume: bool = False,
        enough: Flag | None = None,
        rescale: bool = False,
        team: Any = None,
    ) -> Iterator[Event]:
        self.rescaled = rescale
        yield from self._work(particles, settings, model, checkpoint, resume)
        result = make_result(particles, settings.classes or 3, settings.seed)
        result.summary.update(self.summary, parameters=asdict(settings))
        yield Done(value=result, model=model or FakeModel())

    def fit(
        self,
        particles: Particles,
        settings: Any,
        *,
        checkpoint: Path | None = None,
        resume: bool = False,
        enough: Flag | None = None,
        model: Any = None,
        rescale: bool = False,
        team: Any = None,
    ) -> Iterator[Event]:
        self.rescaled = rescale
        yield from self._work(particles, settings, model, checkpoint, resume)
        yield Done(value=FakeModel(), model=FakeModel())

    def _work(
        self, particles: Particles, settings: Any, model: Any, checkpoint: Path | None, resume: bool
    ) -> Iterator[Event]:
        given = {"particles": particles, "settings": settings, "model": model}
        self.calls.append({**given, "checkpoint": checkpoint, "resume": resume})
        try:
            yield Progress("search", 0.1, "iteration 1", 90.0)
            if checkpoint is not None:
                (checkpoint / "state.safetensors").write_bytes(b"state")
            yield Preview(np.zeros((2, 4, 4), np.float32), np.array([3.0, 4.0], np.float32), 1)
            if self.on_event is not None:
                self.on_event()
            if self.failure is not None:
                raise self.failure
            yield Loss(1, 2, 5.5, {"reconstruction": 5.0, "prior": 0.5})
            yield Progress("training", 0.9)
        finally:
            self.closed = True
