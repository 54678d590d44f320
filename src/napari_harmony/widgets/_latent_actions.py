"""What can be done with the selected particles: classes, junk, a layer, a table; by buttons, keys and a menu."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtCore import QPoint
from qtpy.QtWidgets import QFileDialog, QGridLayout, QMenu, QPushButton, QWidget

from napari_harmony._layers import KEY, LayerTuple, contrast_limits, run_of, space_of, stack_space, stand_inside
from napari_harmony._map_back import class_colours
from napari_harmony._stacks import ParticleStack
from napari_harmony.edits import Assign
from napari_harmony.errors import HarmonyError
from napari_harmony.widgets._editing import editing_of
from napari_harmony.widgets._latent_legend import swatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.particles.dataset import Particles
    from napari_harmony.results import Result
    from napari_harmony.session import Session

NO_RESULT = "There is no result yet: run Align and Cluster first."
NO_SELECTION = "Select particles first: draw around them, or click a class below the plot."
BUSY = "A run is at work: its result will replace this one."
EDITING = "The last edit is still being carried out."
_ROLE = "selection"
_SAMPLE = 16


class SelectionActions(QWidget):
    """Buttons for the session's selection. All work is the session's or a layer's; nothing is kept here."""

    def __init__(self, session: Session, viewer: Any, attempt: Callable[[Callable[[], Any]], None]) -> None:
        super().__init__()
        self._session = session
        self._viewer = viewer
        self._attempt = attempt
        self.editing = editing_of(viewer)
        self.new_class_button = self._button("New class", "Put the selected particles into a class of their own (N).")
        self.merge_button = self._button("Merge into", "Put the selected particles into another class (M).")
        self.junk_button = self._button("Junk", "Take the selected particles out of all classes (Delete).")
        self.layer_button = self._button("New layer", "Show the selected particles, aligned, as a layer (Y).")
        self.star_button = self._button("New STAR...", "Write the selected particles as STAR or CSV (S).")
        self.undo_button = self._button("Undo", "(Ctrl+Z)")
        self.redo_button = self._button("Redo", "(Ctrl+Shift+Z)")
        self.new_class_button.clicked.connect(self.new_class)
        self.junk_button.clicked.connect(self.junk)
        self.layer_button.clicked.connect(self.new_layer)
        self.star_button.clicked.connect(self.ask_and_export)
        self.undo_button.clicked.connect(self.undo)
        self.redo_button.clicked.connect(self.redo)
        self.merge_menu = QMenu(self)
        self.merge_menu.aboutToShow.connect(lambda: self._fill_merge_menu(self.merge_menu))
        self.merge_button.setMenu(self.merge_menu)
        self._arrange()

    def _button(self, text: str, tip: str) -> QPushButton:
        button = QPushButton(text)
        button.setProperty("tip", tip)
        return button

    def _arrange(self) -> None:
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        top = (self.new_class_button, self.merge_button, self.junk_button)
        for column, button in enumerate(top):
            layout.addWidget(button, 0, 4 * column, 1, 4)
        for column, button in enumerate((self.layer_button, self.star_button, self.undo_button, self.redo_button)):
            layout.addWidget(button, 1, 3 * column, 1, 3)

    # -- state ------------------------------------------------------------------------------------------------------

    def why_not(self) -> str:
        """Why nothing can be done with the selection, or ""."""
        if self._session.result is None:
            return NO_RESULT
        return "" if len(self._session.selection) else NO_SELECTION

    def update_buttons(self) -> None:
        """Enable what can be done, and say why the rest cannot."""
        why = self.why_not()
        busy = self._why_no_edit()
        for button in (self.new_class_button, self.merge_button, self.junk_button):
            _enable(button, why or busy)
        for button in (self.layer_button, self.star_button):
            _enable(button, why)
        session = self._session
        for button, verb, words, nothing in (
            (self.undo_button, "Undo", session.undo_words, "No class was changed by hand yet."),
            (self.redo_button, "Redo", session.redo_words, "Nothing was taken back."),
        ):
            keys = button.property("tip")
            _enable(button, busy or ("" if words else nothing))
            if button.isEnabled():
                button.setToolTip(f"{verb}: {words}. {keys}")

    def _why_no_edit(self) -> str:
        if self.editing.busy:
            return EDITING
        return BUSY if self._session.state.busy else ""

    # -- classes ----------------------------------------------------------------------------------------------------

    def assign(self, to: int) -> None:
        """Put the selected particles into a class; 0 for junk."""
        if not self.why_not() and not self._why_no_edit():
            self._attempt(lambda: self.editing.edit(Assign(tuple(self._session.selection.tolist()), to)))

    def new_class(self) -> None:
        """Put the selected particles into a class of their own."""
        if self._session.result is not None:
            self.assign(self._session.result.classes + 1)

    def junk(self) -> None:
        """Take the selected particles out of all classes."""
        self.assign(0)

    def undo(self) -> None:
        """Take the last edit back."""
        if not self._why_no_edit():
            self._attempt(self._session.undo)

    def redo(self) -> None:
        """Make the edit that was taken back again."""
        if not self._why_no_edit():
            self._attempt(self._session.redo)

    # -- taking away ------------------------------------------------------------------------------------------------

    def new_layer(self) -> None:
        """Show the selected particles, aligned, as a layer whose slider the session follows."""
        result, particles = self._session.result, self._session.data
        if self.why_not() or result is None or particles is None:
            return
        data, options, _ = selection_layer(particles, result, self._session.selection, self._session.layer)
        added = self._viewer.add_image(data, **options)
        layer = getattr(added, "__wrapped__", added)  # a widget is handed proxies
        self._viewer.layers.selection.active = layer
        stand_inside(self._viewer, layer)
        axis = self._viewer.dims.ndim - layer.ndim
        self._viewer.dims.set_point(axis, layer.data_to_world([0] * layer.ndim)[0])

    def export(self, path: str | Path) -> Path:
        """Write the selected particles to ``path``; its suffix (.star, .csv, .cs, .tbl) says how.

        Raises
        ------
        HarmonyError : nothing is selected, or the file cannot be written so
        """
        from napari_harmony.outputs import export_table

        result, particles = self._session.result, self._session.data
        why = self.why_not()
        if why or result is None or particles is None:
            raise HarmonyError(why or NO_RESULT)
        return export_table(Path(path), particles, result, rows=self._session.selection)

    def ask_and_export(self) -> None:
        """Ask for a file and write the selected particles to it."""
        if self.why_not():
            return
        kinds = "RELION STAR (*.star);;CSV (*.csv)"
        path, chosen = QFileDialog.getSaveFileName(self, "Write the selected particles", "selected.star", kinds)
        if path:
            if not Path(path).suffix:
                path += chosen.rsplit("*", 1)[-1].rstrip(")")
            self._attempt(lambda: show_info(f"Written: {self.export(path)}"))

    # -- menus ------------------------------------------------------------------------------------------------------

    def show_merge_menu(self) -> None:
        """Open the list of classes below its button, for the keyboard."""
        if self.merge_button.isEnabled():
            self.merge_button.showMenu()

    def _fill_merge_menu(self, menu: QMenu) -> None:
        menu.clear()
        result = self._session.result
        if result is None:
            return
        colours = np.rint(255 * class_colours(result.classes)).astype(np.uint8)
        for number, count in enumerate(result.counts, start=1):
            mnemonic = f"&{number}" if number < 10 else str(number)
            text = f"{mnemonic}  ({count:,})" if count else f"{mnemonic}  (empty)"
            menu.addAction(swatch(colours[number - 1]), text, partial(self.assign, number))

    def fill_menu(self, menu: QMenu) -> None:
        """Put everything that can be done with the selection into a menu."""
        self.update_buttons()
        for text, button, action in (
            ("&New class", self.new_class_button, self.new_class),
            ("&Merge into", self.merge_button, None),
            ("&Junk", self.junk_button, self.junk),
            ("New la&yer", self.layer_button, self.new_layer),
            ("New &STAR...", self.star_button, self.ask_and_export),
            ("&Undo", self.undo_button, self.undo),
            ("&Redo", self.redo_button, self.redo),
        ):
            if action is None:
                below = menu.addMenu(text)
                self._fill_merge_menu(below)
                below.setEnabled(button.isEnabled())
            else:
                menu.addAction(text, action).setEnabled(button.isEnabled())

    def show_menu(self, place: QPoint, more: Callable[[QMenu], None]) -> None:
        """Open the menu at a place of the screen; ``more`` adds to it."""
        menu = QMenu(self)
        self.fill_menu(menu)
        menu.addSeparator()
        more(menu)
        menu.exec(place)
        menu.deleteLater()


def selection_layer(particles: Particles, result: Result, ids: NDArray[np.int64], source: Any = None) -> LayerTuple:
    """Some aligned particles as a layer, computed for the slice that is looked at.

    Parameters
    ----------
    particles, result : all particles, and their poses
    ids : (m,) those to be shown, one at least
    source : the layer of all particles, whose space and contrast it takes; None where it was removed
    """
    if source is not None:
        space, limits = space_of(source), tuple(source.contrast_limits)
    else:
        space = stack_space(particles.pixel_size, particles.pixel_size_known, particles.dimensions)
        limits = contrast_limits(particles.read(ids[:_SAMPLE]))
    about = {"role": _ROLE, "run": run_of(result), "particles": len(ids)}
    name = "1 selected particle" if len(ids) == 1 else f"{len(ids):,} selected particles"
    options = {"name": name, "contrast_limits": limits, "colormap": "gray", "metadata": {KEY: about}, **space}
    return ParticleStack(particles, result, np.array(ids), aligned=True), options, "image"


def _enable(button: QPushButton, why_not: str) -> None:
    button.setEnabled(not why_not)
    button.setToolTip(why_not or button.property("tip"))
