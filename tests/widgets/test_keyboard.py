"""Everything in every dock by keyboard: Tab reaches each control in the order in which it is read, keys do the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractScrollArea,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QScrollArea,
    QWidget,
)

from napari_harmony.session import Session
from napari_harmony.widgets._dock import Dock
from napari_harmony.widgets.class_gallery import ClassGallery
from napari_harmony.widgets.extract import ExtractWidget
from napari_harmony.widgets.latent_plot import LatentPlot
from napari_harmony.widgets.navigator import NavigatorWidget
from napari_harmony.widgets.transforms_table import TransformsTable

CONTROL, SHIFT, ALT = (
    Qt.KeyboardModifier.ControlModifier,
    Qt.KeyboardModifier.ShiftModifier,
    Qt.KeyboardModifier.AltModifier,
)
DOCKS = (ClassGallery, ExtractWidget, LatentPlot, NavigatorWidget, TransformsTable)
CONTROLS = (QAbstractButton, QComboBox, QAbstractSpinBox, QAbstractSlider, QLineEdit, QAbstractItemView)
_SAME_ROW = 12  # pixels


@pytest.fixture
def opened(qtbot: QtBot, viewer: ViewerModel, session: Session) -> Callable[[type[Dock]], Any]:
    def make(kind: type[Dock]) -> Any:
        dock = kind(viewer)
        qtbot.addWidget(dock)
        dock.resize(400, 650)
        dock.show()
        qtbot.waitExposed(dock)
        return dock

    return make


def tab_chain(dock: QWidget) -> list[QWidget]:
    """What Tab goes through in a dock, in this order."""
    chain, widget = [], dock.nextInFocusChain()
    while widget is not dock:
        taken = widget.focusPolicy() & Qt.FocusPolicy.TabFocus and widget.isVisibleTo(dock)
        inner = isinstance(widget.parent(), QAbstractSpinBox | QComboBox) or isinstance(widget, QScrollArea)
        if dock.isAncestorOf(widget) and taken and not inner:
            chain.append(widget)
        widget = widget.nextInFocusChain()
    return chain


def controls(dock: QWidget) -> list[QWidget]:
    """What a mouse could use; parts of controls are not counted, nor bars that keys of their view move."""
    inside = (QComboBox, QAbstractSpinBox, QAbstractItemView, QAbstractScrollArea)
    found = [w for w in dock.findChildren(QWidget) if isinstance(w, CONTROLS) and w.isVisibleTo(dock)]
    return [w for w in found if not any(isinstance(p, inside) and p in dock.findChildren(QWidget) for p in bars(w))]


def bars(widget: QWidget) -> list[Any]:
    """The parents of a part of a control, up to the scrolled content of a dock."""
    parent, grandparent = widget.parent(), widget.parent().parent()
    return [p for p in (parent, grandparent) if not isinstance(p, QScrollArea)]


@pytest.mark.parametrize("kind", DOCKS)
def test_tab_reaches_every_control(opened: Callable[[type[Dock]], Any], kind: type[Dock]) -> None:
    dock = opened(kind)
    missing = set(controls(dock)) - set(tab_chain(dock))
    assert not missing, [f"{type(w).__name__} {w.toolTip()}" for w in missing]


@pytest.mark.parametrize("kind", DOCKS)
def test_tab_goes_from_top_to_bottom(opened: Callable[[type[Dock]], Any], kind: type[Dock]) -> None:
    dock = opened(kind)
    heights = [w.mapTo(dock, QPoint(0, w.height() // 2)).y() for w in tab_chain(dock)]
    tops = [w.mapTo(dock, QPoint(0, 0)).y() for w in tab_chain(dock)]
    higher = [
        type(widget).__name__
        for widget, before, now in zip(tab_chain(dock)[1:], tops, heights[1:], strict=False)
        if now < before - _SAME_ROW
    ]
    assert higher == []


@pytest.mark.parametrize("kind", DOCKS)
def test_every_control_says_what_it_does(opened: Callable[[type[Dock]], Any], kind: type[Dock]) -> None:
    views = (QAbstractItemView,)  # their items say it
    silent = [w for w in controls(opened(kind)) if not w.toolTip() and not isinstance(w, views)]
    assert [type(w).__name__ for w in silent] == []


@pytest.mark.parametrize("kind", DOCKS)
def test_docks_fit_a_small_screen(opened: Callable[[type[Dock]], Any], kind: type[Dock]) -> None:
    dock = opened(kind)
    assert dock.sizeHint().height() <= 700 and dock.minimumSizeHint().width() <= 360


# -- transforms table ------------------------------------------------------------------------------------------------


@pytest.fixture
def table(opened: Callable[[type[Dock]], Any]) -> TransformsTable:
    return opened(TransformsTable)


def test_the_table_is_sorted_by_the_column_of_the_cursor(qtbot: QtBot, table: TransformsTable) -> None:
    keys = [column.key for column in table.model.columns]
    psi = table.session.result.table["psi"].to_numpy()
    for _ in range(keys.index("psi")):
        qtbot.keyClick(table.view, Qt.Key.Key_Right)
    qtbot.keyClick(table.view, Qt.Key.Key_Up, ALT)
    np.testing.assert_array_equal(psi[table.model.ids], np.sort(psi))
    assert table.view.currentIndex().column() == keys.index("psi")
    qtbot.keyClick(table.view, Qt.Key.Key_Down, ALT)
    np.testing.assert_array_equal(psi[table.model.ids], np.sort(psi)[::-1])
    header = table.view.horizontalHeader()
    assert header.sortIndicatorSection() == keys.index("psi")


def test_rows_are_chosen_and_copied_by_keys(qtbot: QtBot, table: TransformsTable) -> None:
    first = table.view.currentIndex().row()
    qtbot.keyClick(table.view, Qt.Key.Key_Down)
    assert table.session.selection.tolist() == [table.model.ids[first + 1]] == [table.session.current]
    qtbot.keyClick(table.view, Qt.Key.Key_Down, SHIFT)
    assert len(table.session.selection) == 2
    qtbot.keyClick(table.view, Qt.Key.Key_C, CONTROL)
    assert len(QGuiApplication.clipboard().text().splitlines()) == 3
    qtbot.keyClick(table.view, Qt.Key.Key_A, CONTROL)
    assert len(table.session.selection) == table.model.rowCount()


def test_the_table_is_filtered_by_keys(qtbot: QtBot, table: TransformsTable) -> None:
    qtbot.keyClick(table.class_box, Qt.Key.Key_Down)
    qtbot.waitUntil(lambda: table.model.rowCount() == table.session.result.counts[0])
    qtbot.keyClick(table.class_box, Qt.Key.Key_Home)
    qtbot.keyClick(table.flag_box, Qt.Key.Key_End)
    qtbot.waitUntil(lambda: 0 < table.model.rowCount() < 10)


# -- latent plot -----------------------------------------------------------------------------------------------------


def test_all_none_and_the_others_are_chosen_by_keys(qtbot: QtBot, plot: LatentPlot) -> None:
    session, total = plot.session, len(plot.session.result)
    qtbot.keyClick(plot.canvas, Qt.Key.Key_A, CONTROL)
    assert len(session.selection) == total
    qtbot.keyClick(plot.canvas, Qt.Key.Key_I)
    assert len(session.selection) == 0
    session.select([3, 5])
    qtbot.keyClick(plot.canvas, Qt.Key.Key_I)
    assert len(session.selection) == total - 2 and not {3, 5} & set(session.selection.tolist())
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Escape)
    assert len(session.selection) == 0


def test_a_class_is_chosen_in_the_legend_by_keys(qtbot: QtBot, plot: LatentPlot) -> None:
    legend, result = plot.legend.categories, plot.session.result
    legend.setCurrentRow(0)
    chosen = [set(result.members(number).tolist()) for number in range(result.classes + 1)]
    qtbot.keyClick(legend, Qt.Key.Key_Space)
    first = set(plot.session.selection.tolist())
    qtbot.keyClick(legend, Qt.Key.Key_Right)
    qtbot.keyClick(legend, Qt.Key.Key_Return)
    second = set(plot.session.selection.tolist())
    assert first in chosen and second in chosen and first != second
    qtbot.keyClick(legend, Qt.Key.Key_Left)
    qtbot.keyClick(legend, Qt.Key.Key_Return, SHIFT)
    assert set(plot.session.selection.tolist()) == first | second


# -- class gallery ---------------------------------------------------------------------------------------------------


def test_tiles_are_chosen_and_opened_by_keys(qtbot: QtBot, opened: Callable[[type[Dock]], Any]) -> None:
    gallery = opened(ClassGallery)
    session, numbers = gallery.session, gallery.model.numbers
    qtbot.keyClick(gallery.view, Qt.Key.Key_Home)
    qtbot.keyClick(gallery.view, Qt.Key.Key_Space)
    np.testing.assert_array_equal(session.selection, session.result.members(numbers[0]))
    qtbot.keyClick(gallery.view, Qt.Key.Key_Right, CONTROL)
    qtbot.keyClick(gallery.view, Qt.Key.Key_Space, CONTROL)
    expected = np.union1d(session.result.members(numbers[0]), session.result.members(numbers[1]))
    np.testing.assert_array_equal(session.selection, expected)
    qtbot.keyClick(gallery.view, Qt.Key.Key_Space, CONTROL)
    np.testing.assert_array_equal(session.selection, session.result.members(numbers[0]))
    qtbot.keyClick(gallery.view, Qt.Key.Key_Return)
    assert any(layer.name.startswith(f"class {numbers[1]} ") for layer in gallery._viewer.layers)
    qtbot.keyClick(gallery.direction_button, Qt.Key.Key_Space)
    assert gallery.direction_button.text() == "ascending"
