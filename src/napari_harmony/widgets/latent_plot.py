"""The *Latent plot* dock: particles as points, by their content or by any two columns, to look at and choose from."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, QPoint, QSize, Qt, QTimer
from qtpy.QtGui import QKeyEvent, QKeySequence, QShowEvent
from qtpy.QtWidgets import QLabel, QMenu, QVBoxLayout
from superqt import QElidingLabel

from napari_harmony.analysis.embedding import Embedding, principal_components, umap_embedding
from napari_harmony.errors import HarmonyError, InputError
from napari_harmony.session import Session, session_of
from napari_harmony.widgets._columns import values_of
from napari_harmony.widgets._dock import Dock, adopt_result
from napari_harmony.widgets._latent_actions import SelectionActions
from napari_harmony.widgets._latent_canvas import LatentCanvas, Mode, Tool
from napari_harmony.widgets._latent_choice import Axis, Choice, Plot
from napari_harmony.widgets._latent_colours import colour_by, numbers_of
from napari_harmony.widgets._latent_legend import Legend
from napari_harmony.widgets._latent_place import share_the_side
from napari_harmony.widgets._latent_tools import ToolRow
from napari_harmony.widgets._run_row import RunRow
from napari_harmony.widgets._runner import Runner, describe
from napari_harmony.widgets._theme import palette_of

if TYPE_CHECKING:
    import napari
    from numpy.typing import NDArray

    from napari_harmony.engine.events import Done
    from napari_harmony.results import Result
    from napari_harmony.session import State

EMPTY = (
    "No result yet.\n\nRun Align and Cluster in the Harmony dock, or drop a result folder into the viewer. "
    "Each particle is then a point here: draw around some to select them."
)
_WIDTH = 400  # pixels
_REDO = (Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier, Qt.Key.Key_Z)


class LatentPlot(Dock):
    """Plot of the session's result.

    What is drawn around, clicked, or chosen in the legend is the session's selection, and the session's selection is
    brought out, whoever made it.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        self._viewer = napari_viewer
        self._content: NDArray[np.float32] | None = None
        self._embeddings: dict[Plot, Embedding] = {}
        self._tabbed = False
        self._placed = 0  # particles that have a place in the plot
        self._work = Session()  # the state of this work alone: a run may go on beside it
        self.runner = Runner(self._work)
        self.run_row = RunRow(self._work, self.runner)
        self.choice = Choice()
        self.canvas = LatentCanvas(self._name)
        self.tools = ToolRow(self.canvas)
        self.legend = Legend()
        self.count_label = QElidingLabel()
        self.actions_box = SelectionActions(self.session, napari_viewer, self.attempt)
        self.editing = editing = self.actions_box.editing
        self.destroyed.connect(partial(editing.let_go, id(self)))
        self.average_row = RunRow(editing.work, editing.averager)
        self.message_label = QLabel()
        self.message_label.setWordWrap(True)
        self.message_label.hide()
        self._arrange()
        self._wire()
        self.bind()

    # -- building ---------------------------------------------------------------------------------------------------

    def _arrange(self) -> None:
        layout = QVBoxLayout(self)
        layout.setSpacing(5)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self.choice)
        layout.addWidget(self.tools)
        layout.addWidget(self.canvas, 1)
        layout.addWidget(self.run_row)
        layout.addWidget(self.legend)
        layout.addWidget(self.count_label)
        layout.addWidget(self.message_label)
        layout.addWidget(self.average_row)
        layout.addWidget(self.actions_box)

    def _wire(self) -> None:
        self.choice.plot_changed.connect(lambda _: self._show_plot())
        self.choice.axes_changed.connect(self._draw)
        self.choice.colour_changed.connect(self._colour)
        self.canvas.chosen.connect(self.choose)
        self.canvas.picked.connect(self._on_picked)
        self.canvas.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.canvas.customContextMenuRequested.connect(self._show_menu)
        self.legend.categories.chosen.connect(self._on_category)
        self.runner.done.connect(self._on_embedded)
        self.runner.failed.connect(self._on_failed)
        self.runner.cancelled.connect(lambda: self.choice.set_plot(Plot.COMPONENTS))

    def sizeHint(self) -> QSize:
        """A plot that is worth looking at, on a screen of 700 pixels."""
        return QSize(_WIDTH, 640)

    def showEvent(self, event: QShowEvent) -> None:
        """Lie as a tab over the docks at the side when first seen: half of their height is too little."""
        super().showEvent(event)
        if not self._tabbed:
            self._tabbed = True
            QTimer.singleShot(0, self._take_place)

    def _take_place(self) -> None:
        share_the_side(self, _WIDTH)

    # -- life cycle -------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        adopt_result(self._viewer, self.session)
        self.listen(self._viewer.layers.events.inserted, self._on_layer_added)
        self.listen(self._viewer.events.theme, self._on_theme)
        self.listen(self.session.result_changed, self._on_result)
        self.listen(self.session.selection_changed, self._on_selection)
        self.listen(self.session.current_changed, self.canvas.set_current)
        self.listen(self.session.state_changed, self._on_state)
        self.listen(self.session.history_changed, self._update_words)
        self.listen(self._work.state_changed, self.run_row.on_state)
        self.editing.said.connect(self._say)
        self.editing.changed.connect(self._on_editing)
        self.editing.hold(id(self))
        self._on_editing()
        self._set_palette()
        self._on_result(self.session.result)
        self.canvas.set_current(self.session.current)
        self._on_selection(self.session.selection)

    def _disconnect(self) -> None:
        self.runner.abandon()
        self.editing.said.disconnect(self._say)
        self.editing.changed.disconnect(self._on_editing)
        self.editing.let_go(id(self))

    def _on_layer_added(self, _event: Any) -> None:
        adopt_result(self._viewer, self.session)

    # -- session -> plot --------------------------------------------------------------------------------------------

    def _on_result(self, result: Result | None) -> None:
        content = result.content if result is not None else None
        same = _equal(content, self._content)
        if not same:
            self.runner.abandon()
            self._embeddings.clear()
        self._content = content
        self.choice.offer_result(result)
        self._show_plot(keep_view=same)

    def _show_plot(self, *, keep_view: bool = False) -> None:
        """Show the plot that is chosen; one that takes time comes when it is done."""
        result, plot = self.session.result, self.choice.plot
        if plot is not Plot.UMAP:
            self.runner.abandon()
        if result is None or self._content is None:
            self._show_message(EMPTY)
        elif plot is Plot.COLUMNS:
            self.choice.offer_columns(result)
            self._draw(keep_view=keep_view)
        elif plot in self._embeddings:
            self.choice.offer_embedding(self._embeddings[plot])
            self._draw(keep_view=keep_view)
        elif plot is Plot.UMAP:
            if not self._work.state.busy:
                self.runner.submit(partial(umap_embedding, self._content))
            self._show_message("UMAP is at work; the other plots can be looked at meanwhile, which stops it.")
        else:
            self._embed(self._content)

    def _embed(self, content: NDArray[np.float32]) -> None:
        try:
            self._embeddings[Plot.COMPONENTS] = principal_components(content)
        except InputError as error:
            self._show_message(str(error))
            return
        self.choice.offer_embedding(self._embeddings[Plot.COMPONENTS])
        self._draw()

    def _on_embedded(self, done: Done) -> None:
        self._embeddings[Plot.UMAP] = done.value
        if self.choice.plot is Plot.UMAP:
            self._show_plot()

    def _on_failed(self, error: Exception) -> None:
        self._show_message(str(error) if isinstance(error, HarmonyError) else describe(error))

    def _show_message(self, text: str) -> None:
        self.canvas.set_message(text)
        self.legend.show_colouring(None)
        self._placed = 0
        self._update_words()

    def _draw(self, *, keep_view: bool = False) -> None:
        """Show the axes and the colours that are chosen."""
        axes, result = self.choice.axes, self.session.result
        if axes is None or result is None:
            return
        x, y = (self._values(result, axis) for axis in axes)
        self._placed = int(np.count_nonzero(np.isfinite(x) & np.isfinite(y)))
        self.canvas.set_message("" if self._placed else "No particle has a value in both columns: choose others.")
        self.canvas.set_points(x, y, (axes[0].title, axes[1].title), keep_view=keep_view)
        self._colour()
        self._update_words()

    def _values(self, result: Result, axis: Axis) -> NDArray[Any]:
        if axis.key:
            return np.asarray(values_of(result, next(c for c in numbers_of(result) if c.key == axis.key)), np.float64)
        return self._embeddings[self.choice.plot].points[:, axis.number]

    def _colour(self) -> None:
        result = self.session.result
        if result is None or self.canvas.painting.message:
            return
        self.colouring = colour_by(result, self.choice.colour, self._theme().type)
        self.canvas.set_colouring(self.colouring)
        self.legend.show_colouring(self.colouring)

    def _on_selection(self, ids: NDArray[np.int64]) -> None:
        self.canvas.set_selection(ids)
        self._update_words()

    def _on_state(self, _state: State) -> None:
        self._update_words()

    def _on_editing(self) -> None:
        self.average_row.on_state(self.editing.work.state)
        self.actions_box.update_buttons()

    def _say(self, text: str, error: bool) -> None:
        self.message_label.setStyleSheet("color: #e05252;" if error else "")
        self.message_label.setText(text)
        self.message_label.setVisible(bool(text))

    def _update_words(self) -> None:
        total, selected = len(self.session.result or ()), len(self.session.selection)
        parts = []
        if total and not self.canvas.painting.message:
            parts = [f"{selected:,} of {total:,} particles selected"]
            if self._placed < total:
                parts.append(f"{total - self._placed:,} have no place here")
        self.count_label.setText("; ".join(parts))
        self.actions_box.update_buttons()

    def _name(self, particle: int) -> str:
        """What the plot says of the particle under the mouse."""
        result = self.session.result
        if result is None:
            return ""
        number, score = (result.table[key].iloc[particle] for key in ("class_number", "score"))
        return f"particle {particle}: {f'class {number}' if number else 'no class'}, score {score:.3f}"

    # -- theme ------------------------------------------------------------------------------------------------------

    def _theme(self) -> Any:
        return get_theme(self._viewer.theme)

    def _set_palette(self) -> None:
        self.canvas.set_palette(palette_of(self._viewer))

    def _on_theme(self, _event: Any) -> None:
        self._set_palette()
        self._colour()

    # -- plot -> session --------------------------------------------------------------------------------------------

    def choose(self, ids: NDArray[np.int64], mode: Mode = Mode.REPLACE) -> None:
        """Select particles (m,), or add them to the selection, or take them out of it."""
        before = self.session.selection
        if mode is Mode.ADD:
            ids = np.union1d(before, ids)
        elif mode is Mode.REMOVE:
            ids = np.setdiff1d(before, ids, assume_unique=True)
        self.session.select(ids)

    def _on_picked(self, particle: int, mode: Mode) -> None:
        self.choose(np.array([particle]), mode)
        if mode is not Mode.REMOVE:
            self.session.set_current(particle)

    def _on_category(self, code: int, mode: Mode) -> None:
        self.choose(np.flatnonzero(self.colouring.codes == code), mode)

    def select_all(self) -> None:
        """Select all particles that have a place in the plot."""
        self.canvas.choose_rectangle((-np.inf, -np.inf), (np.inf, np.inf), Mode.REPLACE)

    def clear_selection(self) -> None:
        """Select nothing."""
        self.session.select([])

    def invert_selection(self) -> None:
        """Select what is not selected."""
        self.choose(np.setdiff1d(np.arange(len(self.session.result or ())), self.session.selection))

    # -- keyboard and menu ------------------------------------------------------------------------------------------

    def _action_for(self, event: QKeyEvent) -> Any:
        key, modifiers = event.key(), event.modifiers()
        if (modifiers & ~Qt.KeyboardModifier.KeypadModifier, key) == _REDO or event.matches(
            QKeySequence.StandardKey.Redo
        ):
            return self.actions_box.redo
        if event.matches(QKeySequence.StandardKey.Undo):
            return self.actions_box.undo
        if event.matches(QKeySequence.StandardKey.SelectAll):
            return self.select_all
        if modifiers & ~Qt.KeyboardModifier.KeypadModifier:
            return None
        actions = {
            Qt.Key.Key_N: self.actions_box.new_class,
            Qt.Key.Key_M: self.actions_box.show_merge_menu,
            Qt.Key.Key_Delete: self.actions_box.junk,
            Qt.Key.Key_Backspace: self.actions_box.junk,
            Qt.Key.Key_Y: self.actions_box.new_layer,
            Qt.Key.Key_S: self.actions_box.ask_and_export,
            Qt.Key.Key_I: self.invert_selection,
            Qt.Key.Key_Escape: self.clear_selection,
        }
        return actions.get(key)

    def event(self, event: QEvent) -> bool:
        """Claim the keys of this dock before the shortcuts of the window do."""
        if event.type() == QEvent.Type.ShortcutOverride and self._action_for(event) is not None:
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """What the widgets in here left over."""
        action = self._action_for(event)
        if action is None:
            super().keyPressEvent(event)
        elif self.session.result is not None:
            action()

    def _show_menu(self, place: QPoint) -> None:
        self.actions_box.show_menu(self.canvas.mapToGlobal(place), self._fill_menu)

    def _fill_menu(self, menu: QMenu) -> None:
        there = self.session.result is not None
        for text, action in (
            ("Select &all\tCtrl+A", self.select_all),
            ("&Clear selection\tEsc", self.clear_selection),
            ("&Invert selection\tI", self.invert_selection),
        ):
            menu.addAction(text, action).setEnabled(there)
        menu.addSeparator()
        for text, action in (
            ("&Lasso", partial(self.canvas.set_tool, Tool.LASSO)),
            ("&Box", partial(self.canvas.set_tool, Tool.RECTANGLE)),
            ("&Pan", partial(self.canvas.set_tool, Tool.PAN)),
            ("S&how all", self.canvas.home),
        ):
            menu.addAction(text, action)


def _equal(a: NDArray[Any] | None, b: NDArray[Any] | None) -> bool:
    return a is not None and b is not None and a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=True))
