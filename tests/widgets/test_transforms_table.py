"""The table dock: rows, viewer and session say the same; rows can be taken away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gui_fakes import make_result
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QItemSelectionModel, QPoint, Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QWidget

from napari_harmony._layers import particles_layer
from napari_harmony.errors import HarmonyError, InputError
from napari_harmony.particles.dataset import Particles
from napari_harmony.results import Result
from napari_harmony.session import session_of
from napari_harmony.widgets._columns import COLUMNS
from napari_harmony.widgets._table_model import NO_FLAG
from napari_harmony.widgets.transforms_table import TransformsTable

KEYS = [c.key for c in COLUMNS]


@pytest.fixture
def table(qtbot: QtBot, viewer: ViewerModel, particles: Particles, result: Result) -> TransformsTable:
    session = session_of(viewer)
    session.set_data(particles, viewer.layers["particles"])
    session.set_result(result)
    table = TransformsTable(viewer)
    qtbot.addWidget(table)
    table.resize(900, 400)
    table.show()
    qtbot.waitExposed(table)
    return table


def selected(table: TransformsTable) -> list[int]:
    """Particles whose rows are selected in the view."""
    return sorted(int(table.model.ids[i.row()]) for i in table.view.selectionModel().selectedRows())


def click(
    qtbot: QtBot, table: TransformsTable, row: int, modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier
) -> None:
    place = table.view.visualRect(table.model.index(row, 2)).center()
    qtbot.mouseClick(table.view.viewport(), Qt.MouseButton.LeftButton, modifier, place)


def test_a_click_on_a_row_goes_to_the_particle(qtbot: QtBot, table: TransformsTable, viewer: ViewerModel) -> None:
    table.view.sortByColumn(KEYS.index("score"), Qt.SortOrder.DescendingOrder)
    click(qtbot, table, 3)
    particle = table.model.ids[3]
    assert viewer.dims.current_step[0] == table.session.current == particle
    assert list(table.session.selection) == [particle]


def test_a_click_on_the_row_one_stands_at_goes_back(qtbot: QtBot, table: TransformsTable, viewer: ViewerModel) -> None:
    click(qtbot, table, 3)
    viewer.dims.set_current_step(0, 20)
    click(qtbot, table, 3)
    assert viewer.dims.current_step[0] == 3


def test_arrow_keys_walk_through_the_particles(qtbot: QtBot, table: TransformsTable, viewer: ViewerModel) -> None:
    click(qtbot, table, 0)
    for _ in range(3):
        qtbot.keyClick(table.view, Qt.Key.Key_Down)
    assert viewer.dims.current_step[0] == 3


def test_several_rows_are_the_selection(qtbot: QtBot, table: TransformsTable) -> None:
    click(qtbot, table, 1)
    click(qtbot, table, 4, Qt.KeyboardModifier.ShiftModifier)
    click(qtbot, table, 6, Qt.KeyboardModifier.ControlModifier)
    assert list(table.session.selection) == [1, 2, 3, 4, 6]
    assert "5 selected" in table.count_label.text()


def test_the_selection_shows_in_the_rows(table: TransformsTable) -> None:
    table.session.select([2, 9, 10])
    assert selected(table) == [2, 9, 10]
    table.session.select([])
    assert selected(table) == []


def test_the_selection_survives_sorting_and_filtering(table: TransformsTable, result: Result) -> None:
    table.session.select([2, 9, 10, 40])
    table.view.sortByColumn(KEYS.index("psi"), Qt.SortOrder.AscendingOrder)
    assert selected(table) == [2, 9, 10, 40]
    table.class_box.setCurrentIndex(table.class_box.findData(3))
    table.apply_filter()
    assert selected(table) == [i for i in (2, 9, 10, 40) if result.table["class_number"][i] == 3]
    assert list(table.session.selection) == [2, 9, 10, 40]  # what is hidden stays selected
    table.class_box.setCurrentIndex(0)
    table.apply_filter()
    assert selected(table) == [2, 9, 10, 40]


def test_filters_act_by_themselves(qtbot: QtBot, table: TransformsTable, result: Result) -> None:
    table.flag_box.setCurrentIndex(table.flag_box.findData(NO_FLAG))
    table.score_low.setValue(0.2)
    expected = result.table.index[(result.table["flags"] == "") & (result.table["score"] >= 0.2)]
    qtbot.waitUntil(lambda: table.model.rowCount() == len(expected))
    np.testing.assert_array_equal(np.sort(table.model.ids), expected)
    assert table.count_label.text().startswith(f"{len(expected)} of 60")


def test_the_slider_marks_its_row(table: TransformsTable, viewer: ViewerModel) -> None:
    viewer.dims.set_current_step(0, 33)
    assert table.view.currentIndex().row() == 33
    assert list(table.session.selection) == []  # looking is not selecting


def test_copy_puts_rows_on_the_clipboard(qtbot: QtBot, table: TransformsTable) -> None:
    table.session.select([5, 8])
    table.view.setFocus()
    qtbot.keyClick(table.view, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    lines = QGuiApplication.clipboard().text().split("\n")
    assert [line.split("\t")[0] for line in lines] == ["index", "5", "8"]


def test_all_rows_are_exported(table: TransformsTable, tmp_path: Path, result: Result) -> None:
    table.export(tmp_path / "all.csv")
    written = pd.read_csv(tmp_path / "all.csv")
    np.testing.assert_allclose(written["psi"], result.table["psi"])


@pytest.mark.parametrize("suffix", [".csv", ".star"])
def test_selected_rows_are_exported_as_asked(
    table: TransformsTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """By the button, with a name without a suffix: the chosen kind of file gives it."""
    kind = {".csv": "CSV (*.csv)", ".star": "RELION STAR (*.star)"}[suffix]
    monkeypatch.setattr(
        "napari_harmony.widgets.transforms_table.QFileDialog.getSaveFileName", lambda *_: (str(tmp_path / "some"), kind)
    )
    table.session.select([3, 7, 50])
    table.export_selected_button.click()
    path = tmp_path / f"some{suffix}"
    if suffix == ".csv":
        assert len(pd.read_csv(path)) == 3
    else:
        import starfile

        assert len(starfile.read(path, always_dict=True)["particles"]) == 3


def test_what_cannot_be_exported_is_said(table: TransformsTable, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        table.export(tmp_path / "table.xlsx")
    table.session.set_result(None)
    with pytest.raises(HarmonyError, match="no result"):
        table.export(tmp_path / "table.csv")


def test_buttons_say_why_they_cannot_be_pressed(table: TransformsTable) -> None:
    assert not table.export_selected_button.isEnabled()
    assert "Select rows" in table.export_selected_button.toolTip()
    table.session.set_result(None)
    assert not table.export_all_button.isEnabled() and "no result" in table.export_all_button.toolTip()
    assert "run Align and Cluster" in table.count_label.text()


def test_a_new_result_replaces_the_rows(table: TransformsTable) -> None:
    table.view.sortByColumn(KEYS.index("score"), Qt.SortOrder.DescendingOrder)
    newer = make_result(seed=5)
    table.session.set_result(newer)
    best = newer.table["score"].to_numpy().argmax()
    assert table.model.ids[0] == best  # the order asked for stays


def test_a_result_that_comes_with_a_layer_is_taken(qtbot: QtBot, particles: Particles, result: Result) -> None:
    viewer = ViewerModel()
    table = TransformsTable(viewer)
    qtbot.addWidget(table)
    assert table.model.rowCount() == 0
    data, options, _ = particles_layer(particles, "restored", result)
    viewer.add_image(data, **options)
    assert table.model.rowCount() == len(result)
    assert session_of(viewer).layer is viewer.layers["restored"]


def test_a_closed_table_listens_no_more_and_a_docked_one_does(qtbot: QtBot, table: TransformsTable) -> None:
    home = QWidget()
    qtbot.addWidget(home)
    table.setParent(home)
    before = len(table.session.result_changed)
    table.setParent(None)
    assert len(table.session.result_changed) == before - 1
    table.session.set_result(make_result(seed=5))
    assert table.model.values("score")[0] == make_result().table["score"][0]
    table.setParent(home)
    assert len(table.session.result_changed) == before
    assert table.model.values("score")[0] == make_result(seed=5).table["score"][0]
    table.setParent(None)


def test_select_all_takes_what_is_shown(table: TransformsTable, result: Result) -> None:
    table.class_box.setCurrentIndex(table.class_box.findData(2))
    table.apply_filter()
    table.view.selectAll()
    np.testing.assert_array_equal(table.session.selection, result.members(2))
    table.view.selectionModel().select(table.model.index(0, 0), QItemSelectionModel.SelectionFlag.Clear)
    assert len(table.session.selection) == 0


def test_the_menu_offers_what_can_be_done(table: TransformsTable, monkeypatch: pytest.MonkeyPatch) -> None:
    offered: dict[str, bool] = {}
    monkeypatch.setattr(
        "napari_harmony.widgets.transforms_table.QMenu.exec",
        lambda menu, _place: offered.update({a.text().partition("\t")[0]: a.isEnabled() for a in menu.actions()}),
    )
    table.view.customContextMenuRequested.emit(QPoint(0, 0))
    by_column = {"Sort by index, smallest first": True, "Sort by index, largest first": True}
    others = {"Copy rows": False, "Select all shown": True, "Export selected...": False}
    assert offered == others | by_column


def test_new_averages_leave_filter_and_selection_alone(table: TransformsTable, result: Result) -> None:
    table.class_box.setCurrentIndex(2)
    table.apply_filter()
    shown = table.model.rowCount()
    table.session.select([4, 5])
    table.session.set_averages(replace(result, averages=result.averages + 1))
    assert table.class_box.currentIndex() == 2 and table.model.rowCount() == shown < len(result)
    assert list(table.session.selection) == [4, 5]
