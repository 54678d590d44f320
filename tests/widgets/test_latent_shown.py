"""What the latent plot shows of a result: components, UMAP, columns, colours; and when it listens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from gui_fakes import make_particles, make_result
from latent_gui import LEFT, NONE, place
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QPushButton, QWidget

from napari_harmony._layers import particles_layer
from napari_harmony._map_back import class_colours
from napari_harmony.analysis import embedding
from napari_harmony.engine.events import Done, Progress
from napari_harmony.particles.dataset import Particles
from napari_harmony.results import Result
from napari_harmony.session import Session, session_of
from napari_harmony.widgets import _latent_choice, latent_plot
from napari_harmony.widgets._latent_canvas import Mode
from napari_harmony.widgets._latent_choice import Plot
from napari_harmony.widgets._latent_colours import CLASS, COUNT
from napari_harmony.widgets._latent_raster import MOST_POINTS
from napari_harmony.widgets.latent_plot import LatentPlot

# -- what is shown ---------------------------------------------------------------------------------------------------


def test_components_come_first(qtbot: QtBot, viewer: ViewerModel, session: Session) -> None:
    plot = LatentPlot(viewer)
    qtbot.addWidget(plot)
    assert plot.choice.plot is Plot.COMPONENTS
    assert plot.choice.axes is not None and plot.choice.axes[0].title.startswith("PC 1 (")
    expected = embedding.principal_components(session.result.content).points
    np.testing.assert_allclose(plot.canvas._x, expected[:, 0], rtol=1e-6)
    plot.choice.x_box.setCurrentIndex(1)
    np.testing.assert_allclose(plot.canvas._x, expected[:, 1], rtol=1e-6)


def test_colours_follow_the_choice(plot: LatentPlot) -> None:
    drawn = plot.canvas.grab().toImage().pixelColor(place(plot, 20))
    number = plot.session.result.table[CLASS][20]
    expected = np.rint(255 * class_colours(3)[number - 1])
    np.testing.assert_allclose((drawn.red(), drawn.green(), drawn.blue()), expected[:3], atol=3)
    plot.choice.set_colour("score")
    assert not plot.legend.categories.isVisible() and plot.legend.scale.texts()[1] == "score"
    plot.canvas.grab()
    plot.choice.set_colour(COUNT)
    assert plot.canvas.painting.is_density
    plot.canvas.grab()


def test_the_theme_is_followed(plot: LatentPlot, viewer: ViewerModel) -> None:
    plot.choice.set_colour("score")
    seen = {}
    for theme in ("dark", "light"):
        viewer.theme = theme
        seen[theme] = plot.canvas.grab().toImage().pixelColor(1, 1).lightness(), plot.colouring.table[255, :3].sum()
    assert seen["dark"][0] < 60 < 200 < seen["light"][0]
    assert seen["dark"][1] > seen["light"][1]


def test_the_view_stays_when_classes_change_and_not_with_other_particles(plot: LatentPlot, viewer: ViewerModel) -> None:
    plot.choice.set_plot(Plot.COMPONENTS)
    plot.canvas.zoom(2.0)
    near = plot.canvas.view
    table = plot.session.result.table.copy()
    table[CLASS] = 1
    plot.session.set_result(plot.session.result.with_table(table))
    assert plot.canvas.view == near
    plot.session.set_result(make_result(seed=3))
    assert plot.canvas.view != near


def test_particles_without_a_value_are_counted(plot: LatentPlot) -> None:
    table = plot.session.result.table.copy()
    table.loc[[3, 5], "content_0"] = np.nan
    plot.session.set_result(plot.session.result.with_table(table))
    assert "2 have no place here" in plot.count_label.text()
    plot.select_all()
    assert set(range(60)) - set(plot.session.selection.tolist()) == {3, 5}


def test_a_result_without_codes_is_shown_by_its_columns(plot: LatentPlot, particles: Particles) -> None:
    plot.choice.set_plot(Plot.COMPONENTS)
    table = plot.session.result.table.drop(columns=["content_0", "content_1"])
    plot.session.set_result(plot.session.result.with_table(table))
    assert plot.choice.plot is Plot.COLUMNS and not plot.canvas.painting.message
    assert "no content codes" in plot.choice.plot_box.itemText(0)
    assert not plot.choice.plot_box.model().item(0).isEnabled()
    plot.session.set_result(make_result(seed=4))
    assert plot.choice.plot_box.model().item(0).isEnabled()


def test_an_empty_plot_says_what_to_do(qtbot: QtBot) -> None:
    plot = LatentPlot(ViewerModel())
    qtbot.addWidget(plot)
    plot.show()
    assert "Run Align and Cluster" in plot.canvas.painting.message
    plot.canvas.grab()
    assert not plot.legend.isVisible() and not plot.choice.colour_box.isEnabled()
    for button in plot.actions_box.findChildren(QPushButton):
        assert not button.isEnabled() and button.toolTip()
    for key in (Qt.Key.Key_Delete, Qt.Key.Key_N, Qt.Key.Key_M, Qt.Key.Key_Y, Qt.Key.Key_S, Qt.Key.Key_Escape):
        qtbot.keyClick(plot.canvas, key)
    qtbot.mouseClick(plot.canvas, LEFT, NONE, QPoint(50, 50))
    assert plot.session.result is None


def test_a_result_that_comes_with_a_layer_is_taken(qtbot: QtBot, particles: Particles, result: Result) -> None:
    viewer = ViewerModel()
    plot = LatentPlot(viewer)
    qtbot.addWidget(plot)
    data, options, _ = particles_layer(particles, "restored", result)
    viewer.add_image(data, **options)
    assert plot.session.result is result and not plot.canvas.painting.message


def test_very_many_are_a_density_until_one_zooms_in(qtbot: QtBot) -> None:
    count = MOST_POINTS + 1000
    viewer, random = ViewerModel(), np.random.default_rng(0)
    result = make_result(60)
    table = result.table.loc[np.arange(count) % 60].reset_index(drop=True)
    table["content_0"], table["content_1"] = random.normal(size=(2, count))
    session = session_of(viewer)
    session.set_result(result.with_table(table))
    plot = LatentPlot(viewer)
    qtbot.addWidget(plot)
    plot.resize(420, 640)
    assert plot.canvas.painting.is_density
    plot.canvas.grab()
    plot.select_all()  # drawn as a density as well
    plot.canvas.grab()
    assert len(session.selection) == count  # the hit test is of all
    plot.canvas.zoom(4.0)
    assert not plot.canvas.painting.is_density


def test_the_dock_fits_a_small_screen(plot: LatentPlot) -> None:
    assert plot.sizeHint().height() <= 700 and plot.minimumSizeHint().height() <= 560
    assert plot.minimumSizeHint().width() <= 380


def test_the_mouse_is_told_what_it_points_at(plot: LatentPlot) -> None:
    assert plot._name(0).startswith("particle 0: no class, score ")
    assert plot._name(5).startswith("particle 5: class 3, score ")


# -- UMAP ------------------------------------------------------------------------------------------------------------


def slow_umap(content: np.ndarray) -> Iterator[Progress | Done]:
    """Stands for ``umap_embedding``."""
    for step in range(20):
        yield Progress("UMAP", step / 20)
    yield Done(embedding.Embedding(np.asarray(content[:, :2]) * 2, ("UMAP 1", "UMAP 2")))


@pytest.fixture
def with_umap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_latent_choice, "umap_problem", lambda: "")
    monkeypatch.setattr(latent_plot, "umap_embedding", slow_umap)


def test_umap_comes_when_it_is_done_and_is_kept(with_umap: None, qtbot: QtBot, plot: LatentPlot) -> None:
    plot.choice.offer_result(plot.session.result)
    with qtbot.waitSignal(plot.runner.done):
        plot.choice.set_plot(Plot.UMAP)
        assert "UMAP is at work" in plot.canvas.painting.message and plot.run_row.isVisible()
    np.testing.assert_allclose(plot.canvas._x, 2 * plot.session.result.content[:, 0])
    assert not plot.run_row.isVisible() and not plot.canvas.painting.message
    plot.choice.set_plot(Plot.COMPONENTS)
    plot.choice.set_plot(Plot.UMAP)  # at once
    assert plot.choice.axes is not None and plot.choice.axes[0].title == "UMAP 1"


def test_umap_can_be_cancelled(with_umap: None, qtbot: QtBot, plot: LatentPlot, monkeypatch) -> None:
    def endless(_content: np.ndarray) -> Iterator[Progress]:
        while True:
            yield Progress("UMAP", 0.1)

    monkeypatch.setattr(latent_plot, "umap_embedding", endless)
    plot.choice.set_plot(Plot.UMAP)
    with qtbot.waitSignal(plot.runner.cancelled):
        plot.run_row.cancel_button.click()
    assert plot.choice.plot is Plot.COMPONENTS and not plot.canvas.painting.message


def test_another_plot_stops_umap(with_umap: None, qtbot: QtBot, plot: LatentPlot, monkeypatch) -> None:
    closed = []

    def endless(_content: np.ndarray) -> Iterator[Progress]:
        try:
            while True:
                yield Progress("UMAP", 0.1)
        finally:
            closed.append(True)

    monkeypatch.setattr(latent_plot, "umap_embedding", endless)
    plot.choice.set_plot(Plot.UMAP)
    with qtbot.waitSignal(plot.runner.heard):
        pass
    plot.choice.set_plot(Plot.COLUMNS)
    qtbot.waitUntil(lambda: bool(closed), timeout=2000)
    assert not plot.run_row.isVisible()


def test_an_error_of_umap_is_said_in_the_plot(with_umap: None, qtbot: QtBot, plot: LatentPlot, monkeypatch) -> None:
    def failing(_content: np.ndarray) -> Iterator[Progress]:
        yield Progress("UMAP", 0.1)
        raise ValueError("too few neighbours")

    monkeypatch.setattr(latent_plot, "umap_embedding", failing)
    with qtbot.waitSignal(plot.runner.failed):
        plot.choice.set_plot(Plot.UMAP)
    assert "too few neighbours" in plot.canvas.painting.message


def test_where_umap_is_missing_its_line_says_so(qtbot: QtBot, viewer: ViewerModel, session, monkeypatch) -> None:
    monkeypatch.setattr(_latent_choice, "umap_problem", lambda: "UMAP needs the package umap-learn")
    plot = LatentPlot(viewer)
    qtbot.addWidget(plot)
    box = plot.choice.plot_box
    row = box.findData(Plot.UMAP)
    assert "needs umap-learn" in box.itemText(row) and not box.model().item(row).isEnabled()


# -- life cycle ------------------------------------------------------------------------------------------------------


def test_a_closed_plot_listens_no_more_and_a_docked_one_does(qtbot: QtBot, plot: LatentPlot) -> None:
    session, viewer = plot.session, plot._viewer
    home = QWidget()
    qtbot.addWidget(home)
    signals = (session.result_changed, session.selection_changed, session.current_changed, session.state_changed)

    def connected() -> int:
        theme = len(viewer.events.theme.callbacks) + len(viewer.layers.events.inserted.callbacks)
        return sum(map(len, (*signals, session.history_changed, plot._work.state_changed))) + theme

    plot.setParent(home)
    bound = connected()
    plot.setParent(None)
    closed = connected()
    assert closed == bound - 10  # of them 2 by what carries out edits
    session.select([4])
    assert not len(plot.canvas.painting._selection)
    plot.setParent(home)
    assert connected() == bound and plot.canvas.painting._selection.tolist() == [4]
    plot.setParent(None)


def test_particles_of_another_layer_bring_their_own_result(qtbot: QtBot, plot: LatentPlot, viewer: ViewerModel) -> None:
    plot.session.select([50])
    others = make_particles(30)
    data, options, _ = particles_layer(others, "others")
    plot.session.set_data(others, viewer.add_image(data, **options))
    assert "No result yet" in plot.canvas.painting.message
    plot.session.set_result(replace(make_result(30)))
    assert len(plot.canvas._x) == 30
    plot.canvas.grab()
    plot.choose(np.array([29]), Mode.ADD)
    assert plot.session.selection.tolist() == [29]
