"""Directions, a model that draws at once and an engine that finds directions at once: no training, no torch."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from numpy.typing import NDArray

from napari_harmony._layers import role_of
from napari_harmony.analysis.disentanglement import ContentTracking, Direction
from napari_harmony.analysis.navigation import Navigation
from napari_harmony.engine.events import Done, Event, Progress

GRID = 12  # edge of the model's pictures


@dataclass(frozen=True)
class Card:
    """The part of a model's card that the navigator looks at."""

    box: int = GRID
    content: int = 2
    dimensions: int = 2
    pixel_size: float = 2.5
    additions: tuple[str, ...] = ()


@dataclass(frozen=True)
class DrawingModel:
    """Draws a slope whose height is the first number of the code, over a grey that is the second."""

    card: Card = field(default_factory=Card)

    def picture(self, code: NDArray[np.floating], sharp: bool = False) -> NDArray[np.float32]:
        slope = np.linspace(-1, 1, self.card.box, dtype=np.float32)
        flat = np.broadcast_to(code[0] * slope + code[1], (self.card.box,) * self.card.dimensions)
        return (flat + (10.0 if sharp else 0.0)).astype(np.float32)


def make_navigation(directions: int = 2, codes: int = 2) -> Navigation:
    """Directions along the axes of the code, with every verdict in turn; centre at 0.5, one step is 2."""
    verdicts = ("content", "ambiguous with pose", "pose leakage", "noise")
    leaks = (0.2, 0.8, 0.95, 0.1)
    ways = tuple(
        Direction(0.9, 0.1, leaks[k % 4], "rotation", 3.0 / (k + 1), verdicts[k % 4], 0.8 / (k + 1))
        for k in range(directions)
    )
    axes = np.eye(max(directions, codes))[:directions, :codes]
    return Navigation(
        centre=np.full(codes, 0.5),
        basis=2.0 * axes,
        whiten=0.5 * axes,
        spread=np.ones(directions),
        activity=3.0 / np.arange(1, directions + 1),
        tracking=ContentTracking(ways, 0.6),
        names=tuple(f"direction {k + 1}" for k in range(directions)),
        radius=4.0,
    )


class FakeNavigate(ModuleType):
    """Stands for ``napari_harmony.engine.navigate``; settings as those of ``gui_fakes.FakeEngine``."""

    def __init__(self) -> None:
        super().__init__("napari_harmony.engine.navigate")
        self.pause, self.steps = 0.0, 3
        self.error: Exception | None = None
        self.closed = 0
        self.calls: list[tuple[Any, int | None]] = []

    def navigation_of(self, model: Any, result: Any, *, class_number: int | None = None) -> Iterator[Event]:
        self.calls.append((model, class_number))
        try:
            for step in range(self.steps):
                time.sleep(self.pause)
                yield Progress("finding directions", step / self.steps)
                if self.error is not None:
                    raise self.error
            yield Done(make_navigation(), model)
        finally:
            self.closed += 1


class FakeCanonical(ModuleType):
    """Stands for ``napari_harmony.models.canonical``; counts the pictures drawn, and those drawn sharp."""

    def __init__(self) -> None:
        super().__init__("napari_harmony.models.canonical")
        self.drawn, self.sharp = 0, 0
        self.pause = 0.0  # seconds for a sharp picture
        self.error: Exception | None = None

    def canonical(self, model: DrawingModel, content: Any, sharp: bool = False, **_more: Any) -> NDArray[np.float32]:
        if self.error is not None:
            raise self.error
        if sharp:
            time.sleep(self.pause)
        self.drawn, self.sharp = self.drawn + len(content), self.sharp + sharp * len(content)
        return np.stack([model.picture(code, sharp) for code in np.asarray(content)])


def install(patch: pytest.MonkeyPatch) -> tuple[FakeNavigate, FakeCanonical]:
    """Put both in the place of the real ones."""
    import napari_harmony.engine
    import napari_harmony.models

    navigate, canonical = FakeNavigate(), FakeCanonical()
    for package, name, fake in (
        (napari_harmony.engine, "navigate", navigate),
        (napari_harmony.models, "canonical", canonical),
    ):
        patch.setitem(sys.modules, f"{package.__name__}.{name}", fake)
        patch.setattr(package, name, fake, raising=False)
    return navigate, canonical


def save_nothing(folder: Path) -> None:
    """The names of a model's files, empty: enough to be looked for."""
    for name in ("model.safetensors", "model.json"):
        (folder / name).write_bytes(b"")


class OutOfMemory(RuntimeError):
    """As torch's."""


def drawn(viewer: ViewerModel, role: str = "navigator") -> Any:
    """The layer of a role, or None."""
    return next((layer for layer in viewer.layers if role_of(layer) == role), None)


def shows(viewer: ViewerModel, model: DrawingModel, code: Any, *, sharp: bool = False) -> bool:
    """Whether the navigator's picture is that of a code (d,)."""
    return np.allclose(drawn(viewer).data, model.picture(np.asarray(code), sharp), atol=1e-5)


def slider(dock: Any, k: int) -> Any:
    """The slider of a direction."""
    return dock.panel.rows.rows[k].slider
