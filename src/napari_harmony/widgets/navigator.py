"""The *Content navigator* dock: drag along what differs between particles and watch the particle change."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSize, QTimer
from qtpy.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from napari_harmony._layers import KEY
from napari_harmony.engine.durations import duration
from napari_harmony.engine.events import Done
from napari_harmony.errors import HarmonyError
from napari_harmony.session import Session, State, session_of
from napari_harmony.widgets import _navigator_work as work
from napari_harmony.widgets._dock import Dock, adopt_result
from napari_harmony.widgets._navigator_layers import POSED, POSITION, TARGET, NavigatorLayers, particle_under
from napari_harmony.widgets._navigator_panel import NavigatorPanel
from napari_harmony.widgets._navigator_place import Place, code_of
from napari_harmony.widgets._navigator_sharp import SharpPicture
from napari_harmony.widgets._navigator_words import FOUND, ready, why_not
from napari_harmony.widgets._run_row import RunRow
from napari_harmony.widgets._runner import Runner, Work, describe

if TYPE_CHECKING:
    import napari
    from numpy.typing import NDArray

    from napari_harmony.analysis.navigation import Navigation
    from napari_harmony.results import Result

_LAYER_GONE = "The layer of the particles was removed: open them again to see pictures beside them."
_JSON = "Directions (*.json)"
_SHARP_GOING_ON = "Drawing sharp..."
_REST_MS = 300  # without a move, after which the keyboard is taken to have let go of a slider


class NavigatorWidget(Dock):
    """The dock; it moves through the content codes of the session's result."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self.session = session_of(napari_viewer)
        self._work = Session()  # the state of this dock's work alone: a run may go on beside it
        self.runner = Runner(self._work)
        self.sharp = SharpPicture()
        self.layers = NavigatorLayers(napari_viewer)
        self.panel = NavigatorPanel(RunRow(self._work, self.runner))
        self.place: Place | None = None
        self._limits: tuple[float, float] | None = None
        self._finish: Callable[[Done], None] | None = None
        self._started = 0.0
        # however many moves arrive while a picture is drawn, the next picture is that of the last one
        self._draw_timer = _single_shot(self, 0, self._draw)
        self._rest_timer = _single_shot(self, _REST_MS, self._ask_for_sharp)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.panel)
        self._wire()
        self.bind()

    def _wire(self) -> None:
        panel, rows, movie, swap = self.panel, self.panel.rows, self.panel.movie, self.panel.swap
        panel.find_button.clicked.connect(self.find)
        panel.open_button.clicked.connect(self._ask_and_open)
        panel.save_button.clicked.connect(self._ask_and_save)
        panel.reset_button.clicked.connect(self.reset)
        panel.start_button.clicked.connect(lambda: self.attempt(lambda: self.start_from(self.session.current)))
        panel.sharp_box.toggled.connect(self._on_sharp_wanted)
        rows.moved.connect(self._on_slider)
        rows.released.connect(self._ask_for_sharp)
        rows.renamed.connect(self._on_renamed)
        movie.frame_wanted.connect(self.move_along)
        movie.stopped.connect(self._ask_for_sharp)
        movie.export_wanted.connect(self._ask_and_export)
        swap.wanted.connect(lambda: self.attempt(self.show_swap))
        swap.changed.connect(self._on_swap_changed)
        swap.current_wanted.connect(lambda which: swap.take(which, self.session.current))
        self.sharp.drawn.connect(self._on_sharp_drawn)
        self.sharp.failed.connect(self._on_failed)
        self.runner.done.connect(self._on_done)
        self.runner.failed.connect(self._on_failed)
        self.runner.cancelled.connect(lambda: panel.say("Cancelled; nothing was changed."))
        self._work.state_changed.connect(self._on_work)
        for runner in (self.runner, self.sharp.runner):
            self.destroyed.connect(lambda _gone=None, runner=runner: runner.abandon())

    def sizeHint(self) -> QSize:
        """As high as the contents, but never more than a small screen has."""
        return self.panel.sizeHint()

    # -- life cycle -------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        adopt_result(self._viewer, self.session)
        self.listen(self._viewer.layers.events.inserted, self._on_layer_added)
        self.listen(self.session.result_changed, self._on_result)
        self.listen(self.session.navigation_changed, self._on_navigation)
        self.listen(self.session.selection_changed, self._on_selection)
        self.listen(self.session.current_changed, self.panel.show_current)
        self._viewer.mouse_drag_callbacks.append(self._on_mouse)
        self.panel.show_current(self.session.current)
        self._on_result(self.session.result)
        self._on_navigation(self.session.navigation)
        self._on_work(self._work.state)

    def _disconnect(self) -> None:
        self.panel.movie.stop()
        self._draw_timer.stop()
        self._rest_timer.stop()
        self.runner.abandon()
        self.sharp.abandon()
        if self._on_mouse in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_mouse)

    def _on_layer_added(self, _event: Any) -> None:
        adopt_result(self._viewer, self.session)

    # -- what is shown ----------------------------------------------------------------------------------------------

    @property
    def _layer(self) -> Any:
        """The layer of the particles, which pictures are drawn beside, or None where it was removed."""
        layer = self.session.layer
        return layer if layer is not None and layer in self._viewer.layers else None

    @property
    def model(self) -> Any:
        """The model of the result, or the OUT folder it is in, or None."""
        if self.session.content_model is not None:
            return self.session.content_model
        layer = self._layer
        return work.model_in(layer.metadata.get(KEY, {}).get("set")) if layer is not None else None

    def _on_result(self, result: Result | None) -> None:
        self.panel.say("")
        self.panel.show_classes(result.counts.tolist() if result is not None else ())
        self._update()

    def _on_navigation(self, navigation: Navigation | None) -> None:
        before = self.place.navigation if self.place is not None else None
        self.panel.rows.show_navigation(navigation)
        self.panel.movie.show_navigation(navigation)
        if navigation is None:
            self.place = None
            self.layers.clear()
        elif self.place is not None and before is not None and navigation.basis is before.basis:
            self.place = self.place.of(navigation)
        else:
            self._limits = work.shown_range(self.session.content_model, navigation)
            self.layers.set_limits(POSITION, self._limits)
            self.panel.swap.set_count(len(self.session.result or ()))
            self._go(Place.at_centre(navigation))
        self._update()

    def _update(self) -> None:
        """Say how things stand, and enable what can be done."""
        model, found = self.model, self.session.navigation is not None
        reason = why_not(self.session.result, model)
        status = FOUND if found else reason or ready(model)
        sharp = work.draws_sharp(self.session.content_model)
        self.panel.show_state(status, reason, found=found, busy=self._work.state.busy, sharp=sharp)

    def _on_work(self, state: State) -> None:
        self.panel.run_row.on_state(state)
        if state is State.RUNNING:
            self.panel.say("")
        self._update()

    # -- finding directions -----------------------------------------------------------------------------------------

    def find(self) -> None:
        """Start looking for directions in the result of the session."""
        result = self.session.result
        if self._work.state.busy or result is None or why_not(result, self.model):
            return
        self.panel.movie.stop()
        among = self.panel.among_class
        self._submit(partial(work.find_directions, self.model, result, among), partial(self._on_found, result))

    def open_directions(self, path: str | Path) -> None:
        """Start reading directions from a file."""
        result = self.session.result
        if self._work.state.busy or result is None or why_not(result, self.model):
            return
        self._submit(partial(work.read_directions, self.model, result, Path(path)), partial(self._on_found, result))

    def _ask_and_open(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open directions", "", _JSON)
        if path:
            self.open_directions(path)

    def _ask_and_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the directions", "navigation.json", _JSON)
        if path and self.place is not None:
            self.attempt(partial(self.place.navigation.save, path))

    def _submit(self, run: Work, finish: Callable[[Done], None]) -> None:
        self._finish, self._started = finish, time.monotonic()
        self.runner.submit(run)

    def _on_done(self, done: Done) -> None:
        if self._finish is not None:
            self._finish(done)

    def _on_found(self, result: Result, done: Done) -> None:
        now = self.session.result
        if now is None or not np.array_equal(now.content, result.content, equal_nan=True):
            return  # another result has come meanwhile, with other codes; edits keep them
        if self.session.model is None:
            self.session.set_model(done.model)
        self.session.set_navigation(done.value, done.model)
        count = len(done.value.basis)
        took = duration(time.monotonic() - self._started)
        self.panel.say(f"{count} direction{'s' if count != 1 else ''} in {took}.")

    def _on_failed(self, error: Exception) -> None:
        self.panel.say(str(error) if isinstance(error, HarmonyError) else describe(error), error=True)

    # -- moving -----------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Go to the centre of all particles."""
        if self.place is not None:
            self._go(Place.at_centre(self.place.navigation))

    def start_from(self, particle: int) -> None:
        """Go to where a particle is.

        Raises
        ------
        HarmonyError : the particle has no content code
        """
        if self.place is not None:
            self._go(Place.at_particle(self.place.navigation, self.session.result, particle))

    def move_along(self, direction: int, value: float) -> None:
        """Go to ``value`` standard deviations along a direction."""
        if self.place is not None and 0 <= direction < len(self.place.coordinates):
            self.place = self.place.moved(direction, value)
            self.panel.rows.rows[direction].show_value(value)
            self.panel.movie.start_at(self.place.coordinates)
            self._moved()

    def _go(self, place: Place) -> None:
        self.panel.movie.stop()
        self.place = place
        self.panel.rows.show_coordinates(place.coordinates)
        self.panel.movie.start_at(place.coordinates)
        self.panel.place_label.setText(f"From {place.words}")
        self._moved()

    def _on_slider(self, direction: int, value: float) -> None:
        self.panel.movie.choose(direction)
        self.move_along(direction, value)

    def _moved(self) -> None:
        self._draw_timer.start()
        self._rest_timer.start()

    def _draw(self) -> None:
        if self.place is not None:
            self._show(work.draw(self.session.content_model, self.place.code)[0])

    def _show(self, picture: NDArray[np.float32]) -> None:
        """Put a picture of where we are into the viewer, and into the pose of B where that is shown."""
        layer = self._layer
        if self.place is None or layer is None:
            self.panel.say(_LAYER_GONE, error=True)
            return
        self.layers.show(POSITION, picture, layer, self.place.caption, self._limits)
        if self.layers.has(POSED) and self.panel.swap.content_particle is None:
            self.attempt(lambda: self._show_posed(picture))

    def _on_selection(self, ids: NDArray[np.int64]) -> None:
        """One row of the table: start from that particle."""
        if len(ids) == 1:
            self.attempt(lambda: self.start_from(int(ids[0])))

    def _on_mouse(self, _viewer: Any, event: Any) -> Generator[None, None, None]:
        """A click (not a drag) on a particle starts from it."""
        dragged = False
        yield
        while event.type == "mouse_move":
            dragged = True
            yield
        particle = None if dragged else particle_under(self._viewer, self.session, event.position)
        if particle is not None:
            self.attempt(lambda: self.start_from(particle))

    def _on_renamed(self, direction: int, name: str) -> None:
        if self.place is not None:
            self.session.set_navigation(self.place.navigation.renamed(direction, name))

    # -- sharp ------------------------------------------------------------------------------------------------------

    def _on_sharp_wanted(self, on: bool) -> None:
        if on:
            self._ask_for_sharp()
        else:
            self.sharp.abandon()
            self.panel.say("")
            self._draw_timer.start()

    def _ask_for_sharp(self) -> None:
        """Draw sharp where we are, unless we are still moving."""
        panel = self.panel
        if self.place is None or not panel.sharp_box.isChecked() or panel.rows.dragging or panel.movie.playing:
            return
        panel.say(_SHARP_GOING_ON)
        self.sharp.ask(self.session.content_model, self.place.code)

    def _on_sharp_drawn(self, code: NDArray[np.floating], picture: NDArray[np.float32]) -> None:
        if self.place is not None and np.array_equal(code, self.place.code):
            self.panel.say("")
            self._draw_timer.stop()  # the same place, not sharp
            self._show(picture)

    # -- content of A in the pose of B ------------------------------------------------------------------------------

    def show_swap(self) -> None:
        """Draw the content of A in the pose of B, and B beside it.

        Raises
        ------
        HarmonyError : A has no content code, or B no pose
        """
        data, layer, swap = self.session.data, self._layer, self.panel.swap
        if self.place is None or data is None or layer is None:
            raise HarmonyError(_LAYER_GONE)
        a, b = swap.content_particle, swap.pose_particle
        code = self.place.code if a is None else code_of(self.session.result, a)
        picture = work.draw(self.session.content_model, code)[0]
        self._show_posed(picture)
        self.layers.show(TARGET, work.picture_of(data, b, picture.shape[-1]), layer, f"B: {b}")

    def _show_posed(self, picture: NDArray[np.float32]) -> None:
        result, data, layer, swap = self.session.result, self.session.data, self._layer, self.panel.swap
        if result is None or data is None or layer is None:
            return
        posed = work.in_pose_of(picture, result, swap.pose_particle, data.box)
        a = "sliders" if swap.content_particle is None else str(swap.content_particle)
        self.layers.show(POSED, posed, layer, f"A: {a}, as B", self._limits)

    def _on_swap_changed(self) -> None:
        if self.layers.has(POSED):
            self.attempt(self.show_swap)

    # -- taking away ------------------------------------------------------------------------------------------------

    def export(self, path: str | Path, direction: int, frames: int) -> None:
        """Begin to write a direction as so many frames; a sentence follows when the files are there."""
        if self.place is None or self._work.state.busy:
            return
        model, sharp = self.session.content_model, self.panel.sharp_box.isChecked()
        codes = self.place.along(direction, frames, work.LIMIT)
        run = partial(work.write_series, model, codes, Path(path), model.card.pixel_size, sharp=sharp)
        self._submit(run, self._on_written)

    def _on_written(self, done: Done) -> None:
        first, *rest = done.value
        self.panel.say(f"Written: {first}" + (f" to {rest[-1].name}" if rest else ""))

    def _ask_and_export(self, direction: int, frames: int) -> None:
        if self.place is None or direction < 0:
            return
        dimensions = self.session.content_model.card.dimensions
        kind = "MRC volumes, numbered (*.mrc)" if dimensions == 3 else "MRC stack (*.mrcs)"
        name = work.export_name(self.place.navigation, direction, dimensions)
        path, _ = QFileDialog.getSaveFileName(self, "Export the direction", name, kind)
        if path:
            self.export(path, direction, frames)


def _single_shot(parent: QWidget, milliseconds: int, action: Callable[[], None]) -> QTimer:
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.timeout.connect(action)
    return timer
