"""The latent plot dock: drawing around particles selects them everywhere, and what is selected is brought out."""

from __future__ import annotations

import numpy as np
import pytest
from latent_gui import ALT, CONTROL, LEFT, NONE, SHIFT, around, drag, expected_in, move, place
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication

from napari_harmony.results import Result
from napari_harmony.widgets._latent_canvas import Tool
from napari_harmony.widgets.latent_plot import LatentPlot
from napari_harmony.widgets.transforms_table import TransformsTable

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
        move(plot, corner)
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Escape)
    qtbot.mouseRelease(plot.canvas, LEFT, NONE, corners[-1])
    assert plot.session.selection.tolist() == [1, 2]


def test_the_legend_selects_a_class(qtbot: QtBot, plot: LatentPlot, result: Result) -> None:
    listed = plot.legend.categories
    sizes = {(listed.item(i).sizeHint().width(), listed.item(i).sizeHint().height()) for i in range(4)}
    assert len(sizes) == 1 and sizes.pop()[0] > listed.fontMetrics().horizontalAdvance("none (2)") + 11
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
