"""The latent plot dock: drawing around particles selects them everywhere, and what is selected is brought out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gui_fakes import make_particles, make_result, make_result_3d, make_subtomograms
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication, QPushButton, QWidget

from napari_harmony._layers import KEY, particles_layer
from napari_harmony._map_back import class_colours
from napari_harmony.analysis import embedding
from napari_harmony.engine.events import Done, Progress
from napari_harmony.errors import HarmonyError
from napari_harmony.particles.dataset import Particles
from napari_harmony.results import Result
from napari_harmony.session import Session, State, session_of
from napari_harmony.widgets import _latent_choice, latent_plot
from napari_harmony.widgets._latent_canvas import Mode, Tool
from napari_harmony.widgets._latent_choice import Plot
from napari_harmony.widgets._latent_colours import CLASS, COUNT
from napari_harmony.widgets._latent_raster import MOST_POINTS
from napari_harmony.widgets.latent_plot import LatentPlot
from napari_harmony.widgets.transforms_table import TransformsTable

NONE = Qt.KeyboardModifier.NoModifier
SHIFT, ALT = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.AltModifier
CONTROL = Qt.KeyboardModifier.ControlModifier
LEFT = Qt.MouseButton.LeftButton


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    yield
    notification_manager.records.clear()


@pytest.fixture
def session(viewer: ViewerModel, particles: Particles, result: Result) -> Session:
    session = session_of(viewer)
    session.set_data(particles, viewer.layers["particles"])
    session.set_result(result)
    return session


@pytest.fixture
def plot(qtbot: QtBot, viewer: ViewerModel, session: Session) -> LatentPlot:
    """Shows content_0 and content_1."""
    plot = LatentPlot(viewer)
    qtbot.addWidget(plot)
    plot.resize(420, 640)
    plot.show()
    qtbot.waitExposed(plot)
    plot.choice.set_plot(Plot.COLUMNS)
    plot.choice.set_axes("content_0", "content_1")
    return plot


def place(plot: LatentPlot, particle: int) -> QPoint:
    """Where on the canvas a particle is drawn."""
    x, y = (plot.session.result.table[key][particle] for key in ("content_0", "content_1"))
    return plot.canvas.to_widget(x, y).toPoint()


def drag(qtbot: QtBot, plot: LatentPlot, places: list[QPoint], modifier: Qt.KeyboardModifier = NONE) -> None:
    qtbot.mousePress(plot.canvas, LEFT, modifier, places[0])
    for there in places[1:]:
        qtbot.mouseMove(plot.canvas, there)
        # without a window manager the move does not always come
        _move(plot, there)
    qtbot.mouseRelease(plot.canvas, LEFT, modifier, places[-1])


def _move(plot: LatentPlot, there: QPoint) -> None:
    from qtpy.QtCore import QEvent
    from qtpy.QtGui import QMouseEvent

    local, everywhere = QPointF(there), QPointF(plot.canvas.mapToGlobal(there))
    event = QMouseEvent(QEvent.Type.MouseMove, local, everywhere, Qt.MouseButton.NoButton, LEFT, NONE)
    QApplication.sendEvent(plot.canvas, event)


def around(plot: LatentPlot, particle: int, size: int = 40) -> list[QPoint]:
    """A square around a particle, for a lasso."""
    centre = place(plot, particle)
    corners = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return [centre + QPoint(size * x, size * y) for x, y in corners]


def expected_in(plot: LatentPlot, corners: list[QPoint]) -> list[int]:
    """Particles in the rectangle that the corners span."""
    table = plot.session.result.table
    (x0, y0), (x1, y1) = plot.canvas.to_data(QPointF(corners[0])), plot.canvas.to_data(QPointF(corners[2]))
    inside = table["content_0"].between(x0, x1) & table["content_1"].between(y1, y0)
    return table.index[inside].tolist()


# -- choosing --------------------------------------------------------------------------------------------------------


def test_a_lasso_selects_what_it_encloses(qtbot: QtBot, plot: LatentPlot) -> None:
    corners = around(plot, 20)
    drag(qtbot, plot, corners)
    assert 20 in plot.session.selection and len(plot.session.selection) < 60
    assert plot.session.selection.tolist() == expected_in(plot, corners)
    assert f"{len(plot.session.selection)} of 60" in plot.count_label.text()


def test_shift_adds_and_alt_and_ctrl_remove(qtbot: QtBot, plot: LatentPlot) -> None:
    first, second = around(plot, 20), around(plot, 33)
    expected = set(expected_in(plot, first))
    drag(qtbot, plot, first)
    drag(qtbot, plot, second, SHIFT)
    expected |= set(expected_in(plot, second))
    assert set(plot.session.selection) == expected
    for modifier, particle in ((ALT, 20), (CONTROL, 33)):
        drag(qtbot, plot, around(plot, particle, 12), modifier)
        expected -= set(expected_in(plot, around(plot, particle, 12)))
        assert set(plot.session.selection) == expected and particle not in expected


def test_a_rectangle_selects_what_it_encloses(qtbot: QtBot, plot: LatentPlot) -> None:
    plot.tools.buttons[Tool.RECTANGLE].click()
    corners = around(plot, 20)
    drag(qtbot, plot, [corners[2], corners[0]])
    assert plot.session.selection.tolist() == expected_in(plot, corners)


def test_a_click_selects_the_particle_and_goes_to_it(qtbot: QtBot, plot: LatentPlot, viewer: ViewerModel) -> None:
    qtbot.mouseClick(plot.canvas, LEFT, NONE, place(plot, 37))
    assert plot.session.selection.tolist() == [37] and plot.session.current == 37
    assert viewer.dims.current_step[0] == 37
    qtbot.mouseClick(plot.canvas, LEFT, SHIFT, place(plot, 12))
    assert plot.session.selection.tolist() == [12, 37] and plot.session.current == 12
    qtbot.mouseClick(plot.canvas, LEFT, CONTROL, place(plot, 37))
    assert plot.session.selection.tolist() == [12] and plot.session.current == 12


def test_a_click_on_the_ground_selects_nothing(qtbot: QtBot, plot: LatentPlot) -> None:
    plot.session.select([1, 2])
    corner = plot.canvas.frame().topLeft().toPoint() + QPoint(2, 2)
    assert plot.canvas.nearest_to(QPointF(corner)) is None
    qtbot.mouseClick(plot.canvas, LEFT, SHIFT, corner)
    assert plot.session.selection.tolist() == [1, 2]
    qtbot.mouseClick(plot.canvas, LEFT, NONE, corner)
    assert plot.session.selection.tolist() == []


def test_escape_gives_a_lasso_up(qtbot: QtBot, plot: LatentPlot) -> None:
    plot.session.select([1, 2])
    corners = around(plot, 20)
    qtbot.mousePress(plot.canvas, LEFT, NONE, corners[0])
    for corner in corners[1:]:
        _move(plot, corner)
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Escape)
    qtbot.mouseRelease(plot.canvas, LEFT, NONE, corners[-1])
    assert plot.session.selection.tolist() == [1, 2]


def test_the_legend_selects_a_class(qtbot: QtBot, plot: LatentPlot, result: Result) -> None:
    listed = plot.legend.categories
    assert [listed.item(i).text() for i in range(4)] == ["1 (19)", "2 (19)", "3 (20)", "none (2)"]
    qtbot.mouseClick(listed.viewport(), LEFT, NONE, listed.visualItemRect(listed.item(1)).center())
    np.testing.assert_array_equal(plot.session.selection, result.members(2))
    listed.setCurrentRow(2)
    qtbot.keyClick(listed, Qt.Key.Key_Return, SHIFT)
    np.testing.assert_array_equal(
        plot.session.selection, np.sort(np.concatenate([result.members(2), result.members(3)]))
    )
    listed.setCurrentRow(1)
    qtbot.keyClick(listed, Qt.Key.Key_Return, CONTROL)
    np.testing.assert_array_equal(plot.session.selection, result.members(3))


def test_what_is_selected_elsewhere_is_brought_out(plot: LatentPlot) -> None:
    plot.canvas.grab()
    before = plot.canvas.grab().toImage()
    plot.session.select([4, 8])
    after = plot.canvas.grab().toImage()
    assert plot.canvas.painting._selection.tolist() == [4, 8]
    ground = before.pixelColor(place(plot, 8))
    assert after.pixelColor(place(plot, 8)) == ground  # in its colour
    assert after.pixelColor(place(plot, 30)) != before.pixelColor(place(plot, 30))  # dimmed
    ring = [after.pixelColor(place(plot, 8) + QPoint(dx, 0)) for dx in range(1, 9)]
    assert any(min(colour.red(), colour.green(), colour.blue()) > 190 for colour in ring)  # nearly white


def test_table_and_plot_follow_each_other(qtbot: QtBot, plot: LatentPlot, viewer: ViewerModel) -> None:
    table = TransformsTable(viewer)
    qtbot.addWidget(table)
    table.view.selectRow(5)
    assert plot.session.selection.tolist() == [5] and plot.canvas.painting.current == 5
    drag(qtbot, plot, around(plot, 20))
    rows = {int(table.model.ids[i.row()]) for i in table.view.selectionModel().selectedRows()}
    assert rows == set(plot.session.selection.tolist()) and len(rows) > 1


def test_the_slider_moves_the_ring(plot: LatentPlot, viewer: ViewerModel) -> None:
    viewer.dims.set_current_step(0, 33)
    assert plot.canvas.painting.current == 33 and not len(plot.session.selection)


# -- keyboard --------------------------------------------------------------------------------------------------------


def test_keys_move_the_view(qtbot: QtBot, plot: LatentPlot) -> None:
    home = plot.canvas.view
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Right)
    assert plot.canvas.view.left > home.left and plot.canvas.view.bottom == home.bottom
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Up)
    assert plot.canvas.view.bottom > home.bottom
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Plus)
    assert plot.canvas.view.width == pytest.approx(home.width / 1.25)
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Minus)
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Home)
    assert plot.canvas.view == home


def test_keys_choose_tools(qtbot: QtBot, plot: LatentPlot) -> None:
    for key, tool in ((Qt.Key.Key_R, Tool.RECTANGLE), (Qt.Key.Key_P, Tool.PAN), (Qt.Key.Key_L, Tool.LASSO)):
        qtbot.keyClick(plot.canvas, key)
        assert plot.canvas.tool is tool and plot.tools.buttons[tool].isChecked()


def test_a_rectangle_can_be_drawn_with_keys(qtbot: QtBot, plot: LatentPlot) -> None:
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Space)
    start = plot.canvas._cursor
    for key in (Qt.Key.Key_Right,) * 10 + (Qt.Key.Key_Up,) * 10:
        qtbot.keyClick(plot.canvas, key, SHIFT)
    end = plot.canvas._cursor
    plot.canvas.grab()  # the cross and the rectangle are drawn
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Return)
    table = plot.session.result.table
    inside = table["content_0"].between(start.x(), end.x()) & table["content_1"].between(start.y(), end.y())
    assert plot.session.selection.tolist() == table.index[inside].tolist() and inside.any()
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Escape)  # first the cross goes, then the selection
    assert plot.canvas._cursor is None and len(plot.session.selection)
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Escape)
    assert not len(plot.session.selection)


def test_enter_at_the_cross_selects_the_nearest_particle(qtbot: QtBot, plot: LatentPlot) -> None:
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Left, SHIFT)
    cross = plot.canvas._cursor
    found = plot.canvas.nearest_to(plot.canvas.to_widget(cross.x(), cross.y()), float("inf"))
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Return)
    assert plot.session.selection.tolist() == [found] and plot.session.current == found


def test_all_or_nothing_by_keys(qtbot: QtBot, plot: LatentPlot) -> None:
    qtbot.keyClick(plot.canvas, Qt.Key.Key_A, CONTROL)
    assert len(plot.session.selection) == 60
    plot.invert_selection()
    assert len(plot.session.selection) == 0


def test_the_wheel_zooms_where_the_mouse_is(plot: LatentPlot) -> None:
    there, canvas = QPointF(place(plot, 20)), plot.canvas
    before = canvas.to_data(there)
    wheel = QWheelEvent(
        there,
        QPointF(canvas.mapToGlobal(there.toPoint())),
        QPoint(),
        QPoint(0, 120),
        Qt.MouseButton.NoButton,
        NONE,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(canvas, wheel)
    assert canvas.view.width == pytest.approx(canvas.painting.view.width)
    np.testing.assert_allclose(canvas.to_data(there), before, atol=1e-9)


def test_the_pan_tool_moves_the_points_with_the_mouse(qtbot: QtBot, plot: LatentPlot) -> None:
    plot.canvas.set_tool(Tool.PAN)
    before, start = place(plot, 20), plot.canvas.rect().center()
    drag(qtbot, plot, [start, start + QPoint(30, 10), start + QPoint(60, 20)])
    assert (place(plot, 20) - before - QPoint(60, 20)).manhattanLength() <= 2
    assert not len(plot.session.selection)


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
    with qtbot.waitSignal(plot.runner.event):
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


# -- what is done with the selection ---------------------------------------------------------------------------------


def test_a_new_class_of_the_selection_is_undone_and_made_again(qtbot: QtBot, plot: LatentPlot, result: Result) -> None:
    members = result.members(2)[:6]
    plot.session.select(members)
    plot.actions_box.new_class_button.click()
    edited = plot.session.result
    assert edited.classes == 4
    np.testing.assert_array_equal(edited.members(4), members)
    np.testing.assert_array_equal(plot.session.selection, members)  # still selected, in their new colour
    assert plot.legend.categories.item(3).text() == "4 (6)"
    assert "Undo" in plot.actions_box.undo_button.toolTip() and "6 particles" in plot.actions_box.undo_button.toolTip()
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Z, CONTROL)
    assert plot.session.result is result and not plot.actions_box.undo_button.isEnabled()
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Z, CONTROL | SHIFT)
    assert plot.session.result.classes == 4


def test_the_selection_is_merged_into_a_class(qtbot: QtBot, plot: LatentPlot, result: Result) -> None:
    """Frames are aligned in a thread first, and nothing else can be changed meanwhile."""
    chosen = result.members(2)[:5]
    plot.session.select(chosen)
    menu = plot.actions_box.merge_menu
    menu.aboutToShow.emit()
    assert [action.text() for action in menu.actions()] == ["&1  (19)", "&2  (19)", "&3  (20)"]
    with qtbot.waitSignal(plot.editing.editor.done, timeout=60_000):
        menu.actions()[0].trigger()
        assert not plot.actions_box.junk_button.isEnabled()
        assert "still being carried out" in plot.actions_box.junk_button.toolTip()
        plot.actions_box.junk()  # refused by the key as well
    assert set(chosen) <= set(plot.session.result.members(1)) and plot.session.can_undo
    assert plot.actions_box.junk_button.isEnabled()


def test_an_edit_of_a_result_that_is_gone_is_dropped(qtbot: QtBot, plot: LatentPlot, result: Result) -> None:
    plot.session.select(result.members(2)[:5])
    with qtbot.waitSignal(plot.editing.editor.done, timeout=60_000):
        plot.actions_box.assign(1)
        newer = make_result(seed=8)
        plot.session.set_result(newer)
    assert plot.session.result is newer


@pytest.mark.parametrize("key", [Qt.Key.Key_Delete, Qt.Key.Key_Backspace])
def test_the_selection_is_junked(qtbot: QtBot, plot: LatentPlot, key: Qt.Key) -> None:
    plot.session.select([10, 11])
    qtbot.keyClick(plot.canvas, key)
    table = plot.session.result.table
    assert table[CLASS][[10, 11]].tolist() == [0, 0] and all("junk" in f for f in table["flags"][[10, 11]])


def test_nothing_is_edited_while_a_run_is_at_work(qtbot: QtBot, plot: LatentPlot, result: Result) -> None:
    plot.session.select([10, 11])
    plot.session.set_state(State.RUNNING)
    assert not plot.actions_box.junk_button.isEnabled() and "run is at work" in plot.actions_box.junk_button.toolTip()
    assert plot.actions_box.layer_button.isEnabled()
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Delete)
    assert plot.session.result is result
    plot.session.set_state(State.IDLE)
    assert plot.actions_box.junk_button.isEnabled()


def test_what_cannot_be_edited_is_said(plot: LatentPlot, result: Result) -> None:
    plot.session.select([2])  # not usable: the image was constant
    plot.actions_box.new_class()
    assert plot.session.result is result
    assert notification_manager.records and notification_manager.records[-1].message


def test_a_new_layer_of_the_selection(qtbot: QtBot, plot: LatentPlot, viewer: ViewerModel, result: Result) -> None:
    plot.session.select([5, 20, 40])
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Y)
    layer = viewer.layers["3 selected particles"]
    assert layer.data.shape == (3, 16, 16) and layer.metadata[KEY]["role"] == "selection"
    assert tuple(layer.scale) == tuple(viewer.layers["particles"].scale)
    assert viewer.layers.selection.active is layer
    viewer.dims.set_current_step(0, 1)
    assert plot.session.current == 20  # the slider counts the images of the layer
    plot.session.set_current(40)
    assert viewer.dims.current_step[0] == 2


def test_a_new_layer_of_subtomograms(qtbot: QtBot) -> None:
    viewer, particles = ViewerModel(), make_subtomograms()
    data, options, _ = particles_layer(particles, "subtomograms")
    session = session_of(viewer)
    session.set_data(particles, viewer.add_image(data, **options))
    session.set_result(make_result_3d())
    plot = LatentPlot(viewer)
    qtbot.addWidget(plot)
    session.select([3, 7])
    plot.actions_box.new_layer()
    layer = viewer.layers["2 selected particles"]
    assert layer.data.shape == (2, 8, 8, 8)
    viewer.layers.remove("subtomograms")
    session.select([4])
    plot.actions_box.new_layer()  # also without the layer they came from
    assert viewer.layers["1 selected particle"].data.shape == (1, 8, 8, 8)


@pytest.mark.parametrize("typed", ["some", "some.csv"])
def test_a_new_table_of_the_selection(plot: LatentPlot, tmp_path: Path, monkeypatch, typed: str) -> None:
    monkeypatch.setattr(
        "napari_harmony.widgets._latent_actions.QFileDialog.getSaveFileName",
        lambda *_: (str(tmp_path / typed), "RELION STAR (*.star)"),
    )
    plot.session.select([3, 7, 50])
    plot.actions_box.star_button.click()
    if typed.endswith("csv"):
        assert len((tmp_path / typed).read_text().splitlines()) == 4
    else:
        import starfile

        assert len(starfile.read(tmp_path / "some.star", always_dict=True)["particles"]) == 3


def test_nothing_selected_is_no_table(plot: LatentPlot, tmp_path: Path) -> None:
    with pytest.raises(HarmonyError, match="Select particles first"):
        plot.actions_box.export(tmp_path / "none.star")


def test_the_menu_offers_what_can_be_done(plot: LatentPlot, monkeypatch: pytest.MonkeyPatch) -> None:
    offered: dict[str, bool] = {}
    monkeypatch.setattr(
        "napari_harmony.widgets._latent_actions.QMenu.exec",
        lambda menu, _place: offered.update({a.text(): a.isEnabled() for a in menu.actions() if a.text()}),
    )
    plot.canvas.customContextMenuRequested.emit(QPoint(5, 5))
    assert not offered["&New class"] and not offered["&Merge into"] and offered["Select &all"]
    plot.session.select([5])
    plot.canvas.customContextMenuRequested.emit(QPoint(5, 5))
    assert offered["&New class"] and offered["&Merge into"] and not offered["&Undo"]
    letters = [text[text.index("&") + 1].lower() for text in offered]
    assert len(letters) == len(set(letters))


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
