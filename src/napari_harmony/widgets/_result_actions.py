"""What can be done with a result from the Harmony dock: show a class, save, map back, open other docks."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_info
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QFileDialog

from napari_harmony.errors import HarmonyError
from napari_harmony.widgets._dock import Dock, open_dock
from napari_harmony.widgets._map_back import MapBack
from napari_harmony.widgets._result_box import MAP_TIP, ResultBox
from napari_harmony.widgets._result_layers import ResultLayers
from napari_harmony.widgets._runs import Notice, Runs
from napari_harmony.widgets._work import save_model

_MAP_BUSY = "The averages are being put into the tomogram."


class ResultActions(QObject):
    """Does what the buttons of a ``ResultBox`` stand for.

    Parameters
    ----------
    dock : over which dialogs open
    say : shows a sentence
    """

    def __init__(
        self, viewer: Any, runs: Runs, box: ResultBox, dock: Dock, say: Callable[[Notice | None], None]
    ) -> None:
        super().__init__(dock)
        self._viewer, self._runs, self._box, self._say = viewer, runs, box, say
        self._session, self._dock = runs.session, dock
        self.layers = ResultLayers(viewer)
        self.map_back = MapBack(viewer)
        self.map_back.said.connect(lambda text, error: say(Notice(text, error)))
        self.map_back.busy_changed.connect(self.update)
        runner = self.map_back.runner
        dock.destroyed.connect(lambda _gone=None: runner.abandon())
        box.class_wanted.connect(self.show_class)
        box.table_button.clicked.connect(self.open_table)
        box.navigate_button.clicked.connect(lambda: open_dock(viewer, "Content navigator"))
        box.save_button.clicked.connect(self._ask_and_save_result)
        box.model_button.clicked.connect(self._ask_and_save_model)
        box.map_button.clicked.connect(self.start_map_back)

    def bind(self) -> None:
        """Listen to clicks on class averages."""
        self._viewer.mouse_drag_callbacks.append(self.on_mouse)

    def unbind(self) -> None:
        """Stop listening and working."""
        self.map_back.runner.abandon()
        if self.on_mouse in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self.on_mouse)

    def update(self) -> None:
        """Show the result and the model of the session."""
        self._box.map_button.setEnabled(not self.map_back.busy)
        self._box.map_button.setToolTip(_MAP_BUSY if self.map_back.busy else MAP_TIP)

    # -- looking -----------------------------------------------------------------------------------------------------

    def show_class(self, number: int) -> None:
        """Add the aligned particles of a class as a layer and select them."""
        session = self._session
        if session.result is None or session.data is None or session.layer is None:
            return
        members = session.result.members(number)
        if not len(members):
            self._say(Notice(f"Class {number} has no particles."))
            return
        self.layers.show_class(session.result, number, session.layer, session.data)
        session.select(members)

    def on_mouse(self, _viewer: Any, event: Any) -> Generator[None, None, None]:
        """A click (not a drag) on a class average chooses that class and selects its particles."""
        dragged = False
        yield
        while event.type == "mouse_move":
            dragged = True
            yield
        number = None if dragged else self.layers.class_under(event.position)
        if number is not None and self._session.result is not None and not self._session.state.busy:
            self._box.choose_class(number)
            self._session.select(self._session.result.members(number))

    def start_map_back(self) -> None:
        """Put the class averages into the tomogram the particles were cut from."""
        if self._session.result is not None and self._session.data is not None:
            self._say(None)
            self.map_back.start(self._session.data, self._session.result)

    def open_table(self) -> None:
        """Open the Transforms table, or bring it to the front."""
        open_dock(self._viewer, "Transforms table")

    # -- saving ------------------------------------------------------------------------------------------------------

    def save_result(self, folder: str | Path) -> Path:
        """Write the result to an OUT folder.

        Raises
        ------
        HarmonyError
            Where there is no result, or the folder cannot be written.
        """
        from napari_harmony.outputs import write_output

        session = self._session
        if session.result is None or session.data is None:
            raise HarmonyError("There is no result to save: run Align and Cluster first.")
        settings = self._runs.settings_of(session.data)
        return write_output(folder, session.data, session.result, model=session.model, settings=settings)

    def save_model(self, folder: str | Path) -> None:
        """Write the trained model into a folder."""
        if self._session.model is None:
            raise HarmonyError("There is no model to save: train one first.")
        save_model(self._session.model, Path(folder))
        show_info(f"Model written to {folder}.")

    def _ask_and_save_result(self) -> None:
        folder = QFileDialog.getExistingDirectory(self._dock, "Save the result into this folder")
        if folder:
            self._dock.attempt(lambda: show_info(f"Result written to {self.save_result(folder)}."))

    def _ask_and_save_model(self) -> None:
        folder = QFileDialog.getExistingDirectory(self._dock, "Save the model into this folder")
        if folder:
            self._dock.attempt(lambda: self.save_model(folder))
