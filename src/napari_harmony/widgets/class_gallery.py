"""The *Class gallery* dock: every class as a tile, to look at, choose, and put right by hand."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, QItemSelection, QItemSelectionModel, QModelIndex, QPoint, QSize, Qt
from qtpy.QtGui import QColor, QKeyEvent
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QStackedLayout,
    QVBoxLayout,
    QWidget,
)

from napari_harmony.edits.kinds import class_words
from napari_harmony.session import session_of
from napari_harmony.widgets._dock import Dock, adopt_result, open_dock
from napari_harmony.widgets._editing import editing_of
from napari_harmony.widgets._gallery_actions import GalleryActions
from napari_harmony.widgets._gallery_model import GalleryModel, Lit, Order
from napari_harmony.widgets._gallery_tiles import Colours, Cut, Pictures, TileDelegate
from napari_harmony.widgets._gallery_view import LARGEST, SMALLEST, STEP, TilesView
from napari_harmony.widgets._result_layers import ResultLayers
from napari_harmony.widgets._run_row import RunRow
from napari_harmony.widgets._some_particles import add_some

if TYPE_CHECKING:
    import napari
    from numpy.typing import NDArray

    from napari_harmony.results import Result

EMPTY = (
    "No classes yet.\n\n"
    "Run Align and Cluster in the Harmony dock, or drop the folder of a finished run into the viewer."
)
ALL_GONE = "The result has no classes."
_STOP_TIP = "Stop averaging; the pictures stay as they are until it is done."
_ORDERS = {
    Order.COUNT: "particles",
    Order.RESOLUTION: "resolution",
    Order.SCORE: "score",
    Order.NUMBER: "number",
}
_LIT = QColor("#ffb000")  # seen on black, white and grey


class ClassGallery(Dock):
    """Tiles of the session's result.

    Choosing tiles selects their particles everywhere, and classes light up when their particles are selected
    elsewhere: a full line around those that are selected whole, a broken one around those in part.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        self.editing = editing_of(napari_viewer)
        self._viewer = napari_viewer
        self._listening = True
        self._chosen: list[int] = []  # in the order in which they were chosen
        self.model = GalleryModel(self)
        self.pictures = Pictures()
        self._make_view()
        self._make_top()
        self._make_bottom()
        self._arrange()
        self.destroyed.connect(partial(self.editing.let_go, id(self)))
        self.bind()

    # -- building ---------------------------------------------------------------------------------------------------

    def _make_view(self) -> None:
        self.view = view = TilesView()
        self.delegate = TileDelegate(self.pictures, view)
        view.setModel(self.model)
        view.setItemDelegate(self.delegate)
        view.selectionModel().selectionChanged.connect(self._on_tiles_chosen)
        view.opened.connect(lambda index: self.open_class(index))
        view.painted.connect(self.delegate.begin)
        view.zoomed.connect(lambda pixels: self.size_slider.setValue(self.size_slider.value() + pixels))
        view.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        view.customContextMenuRequested.connect(self._show_menu)
        self.empty_label = QLabel(EMPTY)
        self.empty_label.setWordWrap(True)
        self.empty_label.setAlignment(Qt.AlignmentFlag.AlignCenter)

    def _make_top(self) -> None:
        self.order_box = QComboBox()
        self.order_box.setToolTip("Sort the classes by this.")
        for order, text in _ORDERS.items():
            self.order_box.addItem(text, order)
        self.direction_button = QPushButton("descending")
        self.direction_button.setToolTip("Whether the largest value comes first (descending) or the smallest.")
        self.cut_box = QComboBox()
        self.cut_box.setToolTip(
            "What is shown of an average: the slice through its centre, or its projection, along z."
        )
        for cut in Cut:
            self.cut_box.addItem(cut.value, cut)
        self.size_slider = QSlider(Qt.Orientation.Horizontal)
        self.size_slider.setRange(SMALLEST, LARGEST)
        self.size_slider.setSingleStep(STEP)
        self.size_slider.setPageStep(2 * STEP)
        self.size_slider.setValue(self.delegate.edge)
        self.size_slider.setMaximumWidth(110)
        self.size_slider.setToolTip("Size of the tiles (Ctrl and the wheel).")
        self.size_slider.setAccessibleName("Size of the tiles")
        self.order_box.currentIndexChanged.connect(self._on_order)
        self.direction_button.clicked.connect(self.turn_order)
        self.cut_box.currentIndexChanged.connect(self._on_cut)
        self.size_slider.valueChanged.connect(self._on_size)

    def _make_bottom(self) -> None:
        self.count_label = QLabel()
        self.count_label.setWordWrap(True)
        self.actions_box = GalleryActions(self.session, self.editing, self.attempt, self)
        self.actions_box.rerun_wanted.connect(self.rerun)
        self.run_row = RunRow(self.editing.work, self.editing.averager, cancel_tip=_STOP_TIP)
        self.average_button = QPushButton("Average now")
        self.average_button.setToolTip("Make the averages of the classes that were edited.")
        self.average_button.clicked.connect(self.editing.average)
        self.message_label = QLabel()
        self.message_label.setWordWrap(True)
        self.message_label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.message_label.hide()

    def _arrange(self) -> None:
        top = QHBoxLayout()
        label = QLabel("Sort by")
        label.setBuddy(self.order_box)
        for widget in (label, self.order_box, self.direction_button):
            top.addWidget(widget)
        top.addStretch(1)
        top.addWidget(self.size_slider)
        self._pages = QWidget()
        self._stack = QStackedLayout(self._pages)
        self._stack.addWidget(self.view)
        self._stack.addWidget(self.empty_label)
        layout = QVBoxLayout(self)
        layout.setSpacing(6)
        layout.addLayout(top)
        layout.addWidget(self.cut_box)
        layout.addWidget(self._pages, 1)
        for widget in (self.count_label, self.run_row, self.average_button, self.message_label, self.actions_box):
            layout.addWidget(widget)
        top_down = (self.order_box, self.direction_button, self.size_slider, self.cut_box, self.view)
        below = (self.run_row.cancel_button, self.average_button, *self.actions_box.buttons.values())
        for before, after in pairwise((*top_down, *below)):
            QWidget.setTabOrder(before, after)

    def sizeHint(self) -> QSize:
        """Three tiles wide; never higher than a small screen."""
        return QSize(360, 560)

    # -- life cycle -------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        adopt_result(self._viewer, self.session)
        self.listen(self._viewer.layers.events.inserted, self._on_layer_added)
        self.listen(self._viewer.events.theme, self._on_theme)
        self.listen(self.session.result_changed, self._on_result)
        self.listen(self.session.selection_changed, self._on_selection)
        self.listen(self.session.history_changed, self._on_history)
        self.listen(self.session.state_changed, self._on_history)
        self.editing.said.connect(self._say)
        self.editing.changed.connect(self._on_editing)
        self.editing.hold(id(self))
        self._on_theme()
        self._on_order()
        self._on_size(self.size_slider.value())
        self._on_result(self.session.result)
        self._on_editing()

    def _disconnect(self) -> None:
        self.editing.said.disconnect(self._say)
        self.editing.changed.disconnect(self._on_editing)
        self.editing.let_go(id(self))

    def _on_layer_added(self, _event: Any) -> None:
        adopt_result(self._viewer, self.session)

    def _on_theme(self, _event: Any = None) -> None:
        theme = get_theme(self._viewer.theme)
        ground, text, quiet = (
            QColor(*colour.as_rgb_tuple(alpha=False)) for colour in (theme.background, theme.text, theme.text)
        )
        quiet.setAlpha(170)
        self.delegate.colours = Colours(ground, text, quiet, _LIT, text)
        self.view.viewport().update()

    def event(self, event: QEvent) -> bool:
        """Claim the keys of the buttons before any shortcut of the window does."""
        if event.type() == QEvent.Type.ShortcutOverride and self.actions_box.named(event):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Do what the key of a button stands for, wherever in the dock it is pressed."""
        name = self.actions_box.named(event)
        if name is None:
            super().keyPressEvent(event)
        else:
            self.actions_box.do(name)

    # -- session -> tiles -------------------------------------------------------------------------------------------

    def _on_result(self, result: Result | None) -> None:
        kept, place = self._current(), self.view.verticalScrollBar().value()
        self._listening = False
        self.delegate.result = result
        self.model.set_result(result)
        self._listening = True
        self.cut_box.setVisible(result is not None and result.dimensions == 3)
        self.empty_label.setText(EMPTY if result is None else ALL_GONE)
        self._stack.setCurrentIndex(0 if self.model.rowCount() else 1)
        row = self.model.row_of(kept) if kept is not None else None
        self._enter(row if row is not None else 0)
        self._show_selection()
        self.view.verticalScrollBar().setValue(place)

    def _current(self) -> int | None:
        index = self.view.currentIndex()
        return int(self.model.numbers[index.row()]) if index.isValid() else None

    def _enter(self, row: int) -> None:
        """The tile that the keyboard goes on from."""
        self.view.selectionModel().setCurrentIndex(self.model.index(row), QItemSelectionModel.SelectionFlag.NoUpdate)

    def _on_selection(self, _ids: NDArray[np.int64]) -> None:
        if self._listening:
            self._show_selection()
        else:
            self.model.set_selection(self.session.selection)
        self._update_count()

    def _show_selection(self) -> None:
        """Light the classes of the selected particles, and choose those that are selected whole."""
        listening, self._listening = self._listening, False
        self.model.set_selection(self.session.selection)
        chosen = QItemSelection()
        for row in self.model.lit_rows(Lit.ALL):
            chosen.select(self.model.index(int(row)), self.model.index(int(row)))
        self.view.selectionModel().select(chosen, QItemSelectionModel.SelectionFlag.ClearAndSelect)
        self._listening = listening
        self._remember_chosen()
        self._update_count()

    def _remember_chosen(self) -> None:
        """Keep the order in which tiles were chosen: merging puts all into the first."""
        now = [int(self.model.numbers[index.row()]) for index in self.view.selectionModel().selectedIndexes()]
        both = set(now) & set(self._chosen)
        self._chosen = [n for n in self._chosen if n in both] + [n for n in now if n not in both]
        self.actions_box.set_chosen(tuple(self._chosen))

    def _on_history(self, _state: Any = None) -> None:
        self.actions_box.update_buttons()

    def _on_editing(self) -> None:
        self.run_row.on_state(self.editing.work.state)
        waiting = bool(self.editing.due) and not self.editing.averaging and not self.editing.will_average
        self.average_button.setVisible(waiting)
        self.actions_box.update_buttons()
        self._update_count()

    def _update_count(self) -> None:
        total, chosen = self.model.rowCount(), len(self._chosen)
        selected = len(self.session.selection)
        text = f"{total:,} class{'es' if total != 1 else ''}"
        if selected:
            in_part = len(self.model.lit_rows(Lit.SOME))
            text += f", {chosen:,} chosen" if chosen else ""
            text += f", {in_part:,} in part" if in_part else ""
            text += f": {selected:,} particles"
        self.count_label.setText(text if total else "")
        self.count_label.setVisible(total > 0)

    # -- tiles -> session -------------------------------------------------------------------------------------------

    def _on_tiles_chosen(self, *_: Any) -> None:
        if not self._listening:
            return
        self._remember_chosen()
        self._listening = False
        self.session.select(self.model.members(self._chosen))
        self._listening = True
        self._update_count()

    def open_class(self, index: QModelIndex | None = None) -> None:
        """Show the aligned particles of a class as a layer."""
        index = self.view.currentIndex() if index is None else index
        session = self.session
        if not index.isValid() or session.result is None:
            return
        number = int(self.model.numbers[index.row()])
        if session.data is None or session.layer is None or session.layer not in self._viewer.layers:
            self._say("The layer of the particles is not there: open the particles of this result again.", True)
        elif not len(session.result.members(number)):
            self._say(f"Class {number} is junk: restore it to look at its particles.", True)
        else:
            ResultLayers(self._viewer).show_class(session.result, number, session.layer, session.data)

    def rerun(self) -> None:
        """Open the Harmony dock on a new layer of the particles of the chosen classes alone."""
        data, layer = self.session.data, self.session.layer
        if data is None or not self._chosen:
            return
        ids, chosen = self.model.members(self._chosen), class_words(tuple(self._chosen))
        some, added = add_some(self._viewer, data, ids, f"particles of {chosen} ({len(ids):,})", layer)
        open_dock(self._viewer, "Harmony")  # a new one chooses the first layer there is
        self.session.set_data(some, added)

    # -- how it is shown --------------------------------------------------------------------------------------------

    def turn_order(self) -> None:
        """The other way round."""
        self.direction_button.setText("ascending" if self.model.descending else "descending")
        self.model.set_order(self.model.order, not self.model.descending)

    def _on_order(self, _changed: Any = None) -> None:
        self.model.set_order(self.order_box.currentData(), self.model.descending)

    def _on_cut(self, _changed: Any = None) -> None:
        self.pictures.cut = self.cut_box.currentData()
        self.view.viewport().update()

    def _on_size(self, edge: int) -> None:
        self.delegate.edge = edge
        self.view.set_tile_size(self.delegate.size(self.view.fontMetrics()))

    def _say(self, text: str, error: bool = False) -> None:
        self.message_label.setStyleSheet("color: #e05252;" if error else "")
        self.message_label.setText(text)
        self.message_label.setVisible(bool(text))

    def _show_menu(self, place: QPoint) -> None:
        self.actions_box.show_menu(self.view.viewport().mapToGlobal(place), self.open_class)
