"""Fixtures of the widget tests: a viewer without a window, and an engine that answers at once."""

from __future__ import annotations

import sys

import pytest
from gui_fakes import FakeEngine, make_particles, make_result
from napari.components import ViewerModel

from napari_harmony._layers import particles_layer
from napari_harmony.particles.dataset import Particles
from napari_harmony.results import Result


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    fake = FakeEngine()
    import napari_harmony.engine

    monkeypatch.setitem(sys.modules, "napari_harmony.engine.api", fake)
    monkeypatch.setattr(napari_harmony.engine, "api", fake, raising=False)
    monkeypatch.setattr("napari_harmony.widgets.harmony._find_devices", lambda: ([], "torch is not asked in this test"))
    return fake


@pytest.fixture
def particles() -> Particles:
    return make_particles()


@pytest.fixture
def result() -> Result:
    return make_result()


@pytest.fixture
def viewer(particles: Particles) -> ViewerModel:
    """A viewer without a window that shows the particles."""
    model = ViewerModel()
    data, options, kind = particles_layer(particles, "particles")
    assert kind == "image"
    model.add_image(data, **options)
    return model
