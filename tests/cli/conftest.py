"""The command line with a fake engine behind it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from engine_data import draw
from fake_run import BOX, PIXEL_SIZE, FakeEngine, FakeModel

import napari_harmony.engine
import napari_harmony.models
from napari_harmony.particles.mrc import write_stack


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """The engine that the commands will find."""
    fake = FakeEngine()
    module = ModuleType("napari_harmony.engine.api")
    module.align, module.fit = fake.align, fake.fit  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "napari_harmony.engine.api", module)
    monkeypatch.setattr(napari_harmony.engine, "api", module, raising=False)
    models = ModuleType("napari_harmony.models")
    models.HarmonyModel = FakeModel  # type: ignore[attr-defined]
    models.__path__ = napari_harmony.models.__path__  # everything else is the real one
    monkeypatch.setitem(sys.modules, "napari_harmony.models", models)
    return fake


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Twelve images of noise."""
    images = np.random.default_rng(0).normal(size=(12, BOX, BOX)).astype(np.float32)
    path = tmp_path / "stack.mrcs"
    write_stack(path, images, PIXEL_SIZE)
    return path


@pytest.fixture
def drawn_stack(tmp_path: Path) -> Path:
    """Two drawings in noise, 80 images."""
    random = np.random.default_rng(0)
    images = [draw(k % 2, random.uniform(0, 360, 1), random.normal(0, 1, (1, 2))).numpy()[0] for k in range(80)]
    noisy = np.stack(images) + random.normal(0, 0.6, (80, 32, 32))
    write_stack(tmp_path / "stack.mrcs", noisy.astype(np.float32), 10.0)
    return tmp_path / "stack.mrcs"
