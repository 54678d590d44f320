"""The *Transforms table* dock: every particle's transformation, to sort, filter, jump to, select and take away."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtCore import QItemSelectionModel, QModelIndex, QPoint, QSignalBlocker, Qt, QTimer
from qtpy.QtGui import QGuiApplication, QShowEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QDockWidget,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QMainWindow,
    QMenu,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QElidingLabel, QFlowLayout

from napari_harmony.errors import HarmonyError
from napari_harmony.session import session_of
from napari_harmony.widgets._columns import FLAGS, flag_words
from napari_harmony.widgets._dock import Dock, adopt_result
from napari_harmony.widgets._table_model import NO_FLAG, PARTICLE_COLUMN, Filter, TransformsModel
from napari_harmony.widgets._table_view import SORT_KEYS, RowsView

if TYPE_CHECKING:
    import napari
    from numpy.typing import NDArray

    from napari_harmony.results import Result

EXPORTS = "RELION STAR (*.star);;CSV (*.csv);;cryoSPARC (*.cs)"
EXPORTS_3D = "RELION STAR (*.star);;Dynamo table (*.tbl);;CSV (*.csv)"
_FILTER_DELAY_MS = 40


class TransformsTable(Dock):
    """Table of the session's result.

    A click on a row shows that particle in the viewer; the selected rows are the session's selection, and the other
    way round.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        self._viewer = napari_viewer
        self._listening = True
        self._placed = False
        self._rows: Any = None  # the table that is shown
        self._column = PARTICLE_COLUMN  # that the keyboard stands in
        self.model = TransformsModel(self)
        self._make_view()
        self._make_filters()
        self._make_buttons()
        self._arrange()
        self.bind()

    # -- building ---------------------------------------------------------------------------------------------------

    def _make_view(self) -> None:
        self.view = view = RowsView()
        view.setModel(self.model)
        view.setSortingEnabled(True)
        view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        view.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        view.setWordWrap(False)
        view.setTabKeyNavigation(False)
        view.verticalHeader().hide()
        # rows of one known height: Qt otherwise measures all of them
        view.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        view.verticalHeader().setDefaultSectionSize(view.fontMetrics().height() + 6)
        view.horizontalHeader().setSortIndicator(PARTICLE_COLUMN, Qt.SortOrder.AscendingOrder)
        view.horizontalHeader().setHighlightSections(False)
        # Qt's header asks for every row whether its columns are selected; one without a selection does not
        view.horizontalHeader().setSelectionModel(QItemSelectionModel(self.model, view))
        view.selectionModel().selectionChanged.connect(self._on_rows_selected)
        view.selectionModel().currentRowChanged.connect(self._on_row_entered)
        view.clicked.connect(lambda index: self._go_to(index.row()))
        view.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        view.customContextMenuRequested.connect(self._show_menu)
        view.selectionModel().currentChanged.connect(self._on_cell_entered)
        view.copy_wanted.connect(self.copy)
        view.sort_wanted.connect(self.sort_by_current)
        self.model.modelReset.connect(self._show_selection)

    def _make_filters(self) -> None:
        self.class_box = QComboBox()
        self.class_box.setToolTip("Show the particles of one class only.")
        self.flag_box = QComboBox()
        for box in (self.class_box, self.flag_box):
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self.flag_box.setToolTip("Show only particles with this flag, or those without any.")
        self.score_low, self.score_high = QDoubleSpinBox(), QDoubleSpinBox()
        for spin in (self.score_low, self.score_high):
            spin.setDecimals(3)
            spin.setSingleStep(0.01)
            spin.setToolTip("Show particles whose score lies in this range.")
            spin.setKeyboardTracking(False)
        self._filter_timer = QTimer(self)
        self._filter_timer.setSingleShot(True)
        self._filter_timer.setInterval(_FILTER_DELAY_MS)
        self._filter_timer.timeout.connect(self.apply_filter)
        self.class_box.currentIndexChanged.connect(self._filter_timer.start)
        self.flag_box.currentIndexChanged.connect(self._filter_timer.start)
        self.score_low.valueChanged.connect(self._filter_timer.start)
        self.score_high.valueChanged.connect(self._filter_timer.start)

    def _make_buttons(self) -> None:
        self.count_label = QElidingLabel()
        self.export_all_button = QPushButton("Export all...")
        self.export_selected_button = QPushButton("Export selected...")
        self.export_all_button.clicked.connect(lambda: self._ask_and_export(selected=False))
        self.export_selected_button.clicked.connect(lambda: self._ask_and_export(selected=True))

    def _arrange(self) -> None:
        filters = QFlowLayout()  # in a narrow dock one below the other
        for text, widget in (
            ("Class", self.class_box),
            ("Flag", self.flag_box),
            ("Score from", self.score_low),
            ("to", self.score_high),
        ):
            filters.addWidget(_labelled(text, widget))
        buttons = QHBoxLayout()
        buttons.addWidget(self.count_label, 1)
        buttons.addWidget(self.export_selected_button)
        buttons.addWidget(self.export_all_button)
        layout = QVBoxLayout(self)
        layout.addLayout(filters)
        layout.addWidget(self.view, 1)
        layout.addLayout(buttons)

    # -- life cycle -------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        adopt_result(self._viewer, self.session)
        self.listen(self._viewer.layers.events.inserted, self._on_layer_added)
        self.listen(self.session.result_changed, self._on_result)
        self.listen(self.session.selection_changed, self._on_selection)
        self.listen(self.session.current_changed, self._on_current)
        self._on_result(self.session.result)
        self._show_selection()

    def _disconnect(self) -> None:
        self._filter_timer.stop()

    def showEvent(self, event: QShowEvent) -> None:
        """Move below the canvas when first seen: a wide table has room there, and none at the side."""
        super().showEvent(event)
        if not self._placed:
            self._placed = True
            QTimer.singleShot(0, self._move_below)

    def _move_below(self) -> None:
        dock = self.parentWidget()
        while dock is not None and not isinstance(dock, QDockWidget):
            dock = dock.parentWidget()
        if dock is None or dock.isFloating() or not isinstance(dock.parentWidget(), QMainWindow):
            return
        window = dock.parentWidget()
        side = Qt.DockWidgetArea.RightDockWidgetArea
        if window.dockWidgetArea(dock) != side:
            return  # napari remembers where the user had it
        window.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, dock)
        others = [d for d in window.findChildren(QDockWidget) if window.dockWidgetArea(d) == side and d.isVisible()]
        # the table had widened the side
        window.resizeDocks(others, [d.widget().sizeHint().width() for d in others], Qt.Orientation.Horizontal)

    def _on_layer_added(self, _event: Any) -> None:
        adopt_result(self._viewer, self.session)

    # -- session -> table -------------------------------------------------------------------------------------------

    def _on_result(self, result: Result | None) -> None:
        table = result.table if result is not None else None
        if table is not None and table is self._rows:
            return  # the averages alone are new
        self._rows = table
        self._listening = False
        self.model.set_result(result)
        self._fill_filters(result)
        header = self.view.horizontalHeader()
        if header.sortIndicatorSection() >= self.model.columnCount():
            header.setSortIndicator(PARTICLE_COLUMN, Qt.SortOrder.AscendingOrder)
        self.model.sort(header.sortIndicatorSection(), header.sortIndicatorOrder())
        self.model.set_current(self.session.current)
        self._listening = True
        if result is not None:
            self.view.resizeColumnsToContents()
        self._update_count()

    def _fill_filters(self, result: Result | None) -> None:
        widgets = (self.class_box, self.flag_box, self.score_low, self.score_high)
        for widget in widgets:
            widget.blockSignals(True)
            widget.setEnabled(result is not None)
        self.class_box.clear()
        self.class_box.addItem("all", None)
        self.flag_box.clear()
        self.flag_box.addItem("any or none", "")
        if result is not None:
            for number, count in enumerate(result.counts, start=1):
                self.class_box.addItem(f"{number}  ({count:,})", number)
            if len(result.members(0)):
                self.class_box.addItem(f"none  ({len(result.members(0)):,})", 0)
            self.flag_box.addItem("no flag", NO_FLAG)
            for word in flag_words(self.model.values(FLAGS)):
                self.flag_box.addItem(word, word)
        score = self.model.values("score")
        finite = score[np.isfinite(score)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        low, high = np.floor(low * 1000) / 1000, np.ceil(high * 1000) / 1000
        for spin, value in ((self.score_low, low), (self.score_high, high)):
            spin.setRange(low, high)
            spin.setValue(value)
        for widget in widgets:
            widget.blockSignals(False)

    def apply_filter(self) -> None:
        """Show the rows that all filters let through; the selection stays as it is."""
        low, high = self.score_low.value(), self.score_high.value()
        whole = low <= self.score_low.minimum() and high >= self.score_high.maximum()
        score = (-np.inf, np.inf) if whole else (low, high)
        chosen = Filter(self.class_box.currentData(), score, self.flag_box.currentData() or "")
        self.model.set_filter(chosen)

    def _on_selection(self, _ids: NDArray[np.int64]) -> None:
        if self._listening:
            self._show_selection()
        self._update_count()

    def _show_selection(self) -> None:
        listening, self._listening = self._listening, False
        # the ranges are whole rows already: the flag Rows would make Qt look at each of them
        chosen, rows = self.model.selection_of(self.session.selection), self.view.selectionModel()
        # told of a change, Qt compares each range of rows that was selected with each that is
        with QSignalBlocker(rows):
            rows.clearSelection()
            rows.select(chosen, QItemSelectionModel.SelectionFlag.Select)
        self.view.viewport().update()
        if not self.view.currentIndex().isValid():
            # sorted or filtered: the keyboard goes on from the same particle, but the view stays at its top
            self.view.setAutoScroll(False)
            self._enter_row_of(self.session.current)
            self.view.setAutoScroll(True)
        self._listening = listening
        self._update_count()

    def _enter_row_of(self, particle: int) -> bool:
        """Make the row of a particle the one the keyboard starts from; False where it is not shown."""
        rows = self.model.rows_of([particle])
        if len(rows):
            index = self.model.index(int(rows[0]), self._column)
            self.view.selectionModel().setCurrentIndex(index, QItemSelectionModel.SelectionFlag.NoUpdate)
        return len(rows) > 0

    def _on_current(self, particle: int) -> None:
        self.model.set_current(particle)
        if self._listening:
            self._listening = False
            if self._enter_row_of(particle):
                self.view.scrollTo(self.view.currentIndex())
            self._listening = True

    def _update_count(self) -> None:
        total, shown = len(self.session.result or ()), self.model.rowCount()
        selected = len(self.session.selection)
        if not total:
            text = "No result yet: run Align and Cluster in the Harmony dock, or drop a result folder into the viewer."
        else:
            text = f"{shown:,} of {total:,} particles shown" + (f", {selected:,} selected" if selected else "")
        self.count_label.setText(text)
        self.export_all_button.setEnabled(total > 0)
        self.export_selected_button.setEnabled(selected > 0)
        self.export_all_button.setToolTip("Write all rows as CSV, STAR or .cs." if total else "There is no result yet.")
        self.export_selected_button.setToolTip(
            "Write the selected rows as CSV, STAR or .cs." if selected else "Select rows first (Ctrl+A: all shown)."
        )

    # -- table -> session -------------------------------------------------------------------------------------------

    def _on_rows_selected(self, *_: Any) -> None:
        if not self._listening:
            return
        runs = [np.arange(r.top(), r.bottom() + 1) for r in self.view.selectionModel().selection()]
        rows = np.concatenate(runs) if runs else np.empty(0, dtype=np.int64)
        self._listening = False
        self.session.select(self.model.ids[rows])
        self._listening = True

    def _on_row_entered(self, index: Any, _before: Any) -> None:
        if self._listening and index.isValid():
            self._go_to(index.row())

    def _on_cell_entered(self, index: QModelIndex, _before: QModelIndex) -> None:
        if index.isValid():
            self._column = index.column()

    def sort_by_current(self, order: Qt.SortOrder) -> None:
        """Sort by the column that the keyboard stands in."""
        self.view.sortByColumn(self._column, order)

    def _go_to(self, row: int) -> None:
        self._listening = False
        self.session.set_current(int(self.model.ids[row]))
        self._listening = True

    # -- taking away ------------------------------------------------------------------------------------------------

    def copy(self) -> None:
        """Put the selected rows on the clipboard as tab-separated text."""
        rows = self.model.rows_of(self.session.selection)
        if len(rows):
            QGuiApplication.clipboard().setText(self.model.text(rows))
            show_info(f"{len(rows):,} rows copied.")

    def export(self, path: str | Path, *, selected: bool = False) -> Path:
        """Write all or the selected particles to ``path``; its suffix (.csv, .star, .cs, .tbl) says how.

        Raises
        ------
        InputError
            Where the suffix is none of these, or .cs is asked for particles that did not come with one.
        """
        from napari_harmony.outputs import export_table

        if self.session.result is None or self.session.data is None:
            raise HarmonyError("There is no result to export: run Align and Cluster first.")
        rows = self.session.selection if selected else None
        export_table(Path(path), self.session.data, self.session.result, rows=rows)
        return Path(path)

    def _exports(self) -> str:
        result = self.session.result
        return EXPORTS_3D if result is not None and result.dimensions == 3 else EXPORTS

    def _ask_and_export(self, *, selected: bool) -> None:
        title = "Export the selected particles" if selected else "Export all particles"
        path, chosen = QFileDialog.getSaveFileName(self, title, "particles.star", self._exports())
        if not path:
            return
        if not Path(path).suffix:
            path += chosen.rsplit("*", 1)[-1].rstrip(")")
        self.attempt(lambda: show_info(f"Written: {self.export(path, selected=selected)}"))

    def _show_menu(self, position: QPoint) -> None:
        menu = QMenu(self)
        menu.addAction("Copy rows\tCtrl+C", self.copy).setEnabled(len(self.session.selection) > 0)
        menu.addAction("Select all shown\tCtrl+A", self.view.selectAll)
        heading = self.model.columns[self._column].heading
        for order, (key, word) in SORT_KEYS.items():
            menu.addAction(f"Sort by {heading}, {word}\t{key}", partial(self.sort_by_current, order))
        menu.addAction("Export selected...", self.export_selected_button.click).setEnabled(
            self.export_selected_button.isEnabled()
        )
        menu.exec(self.view.viewport().mapToGlobal(position))
        menu.deleteLater()


def _labelled(text: str, widget: QWidget) -> QWidget:
    """A widget with a word before it."""
    pair = QWidget()
    layout = QHBoxLayout(pair)
    layout.setContentsMargins(0, 0, 6, 0)
    label = QLabel(text)
    label.setBuddy(widget)
    layout.addWidget(label)
    layout.addWidget(widget)
    return pair
