"""Fixtures of the widget tests: a viewer without a window, and an engine that answers at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from gui_fakes import FakeEngine, make_particles, make_result
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from navigator_fakes import DrawingModel, FakeCanonical, FakeNavigate, drawn, install, make_navigation
from pytestqt.qtbot import QtBot

from napari_harmony._layers import particles_layer
from napari_harmony.particles.dataset import Particles
from napari_harmony.results import Result
from napari_harmony.session import Session, session_of
from napari_harmony.widgets._latent_choice import Plot
from napari_harmony.widgets._runs import runs_of
from napari_harmony.widgets.latent_plot import LatentPlot
from napari_harmony.widgets.navigator import NavigatorWidget


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """napari's notifications of expected errors are not kept for other tests."""
    yield
    notification_manager.records.clear()


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
def viewer(particles: Particles) -> Iterator[ViewerModel]:
    """A viewer without a window that shows the particles; what still runs at the end of the test is stopped."""
    model = ViewerModel()
    data, options, kind = particles_layer(particles, "particles")
    assert kind == "image"
    model.add_image(data, **options)
    yield model
    runs_of(model).runner.abandon()


@pytest.fixture
def navigator_fakes(monkeypatch: pytest.MonkeyPatch) -> tuple[FakeNavigate, FakeCanonical]:
    return install(monkeypatch)


@pytest.fixture
def navigate(navigator_fakes: tuple[FakeNavigate, FakeCanonical]) -> FakeNavigate:
    return navigator_fakes[0]


@pytest.fixture
def drawing(navigator_fakes: tuple[FakeNavigate, FakeCanonical]) -> FakeCanonical:
    return navigator_fakes[1]


@pytest.fixture
def model() -> DrawingModel:
    return DrawingModel()


@pytest.fixture
def session(viewer: ViewerModel, particles: Particles, result: Result, model: DrawingModel) -> Session:
    """With a result, its model, and no directions yet."""
    session = session_of(viewer)
    session.set_data(particles, viewer.layers["particles"])
    session.set_result(result, model)
    return session


@pytest.fixture
def navigator(qtbot: QtBot, viewer: ViewerModel, session: Session, navigate: FakeNavigate) -> NavigatorWidget:
    """The dock with two directions."""
    dock = NavigatorWidget(viewer)
    qtbot.addWidget(dock)
    dock.show()
    qtbot.waitExposed(dock)
    session.set_navigation(make_navigation())
    qtbot.waitUntil(lambda: drawn(viewer) is not None)
    return dock


@pytest.fixture
def plot(qtbot: QtBot, viewer: ViewerModel, session: Session) -> LatentPlot:
    """The latent plot, of content_0 and content_1."""
    plot = LatentPlot(viewer)
    qtbot.addWidget(plot)
    plot.resize(420, 640)
    plot.show()
    qtbot.waitExposed(plot)
    plot.choice.set_plot(Plot.COLUMNS)
    plot.choice.set_axes("content_0", "content_1")
    return plot
