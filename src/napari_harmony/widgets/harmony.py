"""The *Harmony* dock: choose particles and settings, run, and look at what came out."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from napari.utils.notifications import show_info
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_harmony._layers import particles_of, set_pixel_size, set_wedge
from napari_harmony.engine.events import Done, Event, Preview
from napari_harmony.errors import HarmonyError
from napari_harmony.session import State, session_of
from napari_harmony.widgets._about import about_particles
from napari_harmony.widgets._devices import Device, devices, why_cpu
from napari_harmony.widgets._dock import Dock, adopt_result, open_dock
from napari_harmony.widgets._form import LAST, TRAIN, SettingsForm
from napari_harmony.widgets._layer_combo import ParticleLayerCombo
from napari_harmony.widgets._map_back import MapBack
from napari_harmony.widgets._result_box import ResultBox
from napari_harmony.widgets._result_layers import ResultLayers
from napari_harmony.widgets._run_row import RunRow, duration
from napari_harmony.widgets._runner import Runner, describe
from napari_harmony.widgets._tilt_range import TiltRangeEdit
from napari_harmony.widgets._work import Action, Job, finished, save_model

if TYPE_CHECKING:
    import napari

    from napari_harmony.particles.dataset import Particles

NO_LAYER = "Open a particle stack first (File > Open Files, or File > Open Sample > napari-harmony)."
BUSY = "A run is going on: cancel it, or wait for it to end."
_TIPS = {
    Action.TRAIN: "Fit a model to these particles; Align then uses it, here or on other particles.",
    Action.ALIGN: "Give every particle its pose and class by the trained or saved model; without one, train one.",
    Action.CLUSTER: "Group the aligned particles anew, with the classes chosen above; aligns first where needed.",
    Action.ALIGN_AND_CLUSTER: "Do everything: train (or take a saved model), align, and find the classes.",
}


class HarmonyWidget(Dock):
    """The dock; everything it shows comes from the session of its viewer."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self.session = session_of(napari_viewer)
        self.runner = Runner(self.session)
        self.map_back = MapBack(napari_viewer)
        self._layers = ResultLayers(napari_viewer)
        self._job: Job | None = None
        self._job_layer: Any = None
        self._started = 0.0
        self._devices_asked = False
        self._make_parts()
        self._arrange()
        self.runner.event.connect(self._on_event)
        self.runner.done.connect(self._on_done)
        self.runner.failed.connect(self._on_failed)
        self.runner.cancelled.connect(self._on_cancelled)
        self.map_back.said.connect(lambda text, error: self._say(text, error=error))
        self.map_back.busy_changed.connect(self.update_buttons)
        for runner in (self.runner, self.map_back.runner):
            self.destroyed.connect(lambda _gone=None, runner=runner: runner.abandon())
        self.bind()

    # -- building ---------------------------------------------------------------------------------------------------

    def _make_parts(self) -> None:
        self.layer_combo = ParticleLayerCombo()
        self.layer_combo.layer_changed.connect(self._on_layer)
        self.info_label = QLabel()
        self.info_label.setWordWrap(True)
        self.pixel_spin = QDoubleSpinBox()
        self.pixel_spin.setRange(0.0, 1000.0)
        self.pixel_spin.setDecimals(4)
        self.pixel_spin.setSuffix(" \N{ANGSTROM SIGN}")
        self.pixel_spin.setSpecialValueText("unknown")
        self.pixel_spin.setToolTip("The file does not say how large a pixel is; without it, lengths are in pixels.")
        self.pixel_spin.setKeyboardTracking(False)
        self.pixel_spin.valueChanged.connect(self._on_pixel_size)
        self.tilt_edit = TiltRangeEdit()
        self.tilt_edit.changed.connect(self._on_tilt_range)
        self.form = SettingsForm()
        self.form.changed.connect(self.update_buttons)
        self.buttons = {action: QPushButton(action.value) for action in Action}
        for action, button in self.buttons.items():
            button.clicked.connect(lambda _checked=False, action=action: self.run(action))
        self.buttons[Action.ALIGN_AND_CLUSTER].setStyleSheet("font-weight: bold; padding: 6px;")
        self.reason_label = QLabel()
        self.reason_label.setWordWrap(True)
        self.run_row = RunRow(self.session, self.runner)
        self.message_label = QLabel()
        self.message_label.setWordWrap(True)
        self.message_label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.result_box = ResultBox()
        self.result_box.class_wanted.connect(self.show_class)
        self.result_box.table_button.clicked.connect(self.open_table)
        self.result_box.navigate_button.clicked.connect(lambda: open_dock(self._viewer, "Content navigator"))
        self.result_box.save_button.clicked.connect(self._ask_and_save_result)
        self.result_box.model_button.clicked.connect(self._ask_and_save_model)
        self.result_box.map_button.clicked.connect(self.start_map_back)

    def _arrange(self) -> None:
        top = QFormLayout()
        top.setContentsMargins(0, 0, 0, 0)
        top.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        top.addRow("Particles", self.layer_combo)
        top.addRow(self.info_label)
        top.addRow("Pixel size", self.pixel_spin)
        top.addRow("Tilt range", self.tilt_edit)
        self._top = top
        steps = QHBoxLayout()
        steps.setSpacing(4)
        for action in (Action.TRAIN, Action.ALIGN, Action.CLUSTER):
            steps.addWidget(self.buttons[action])
        body = QWidget()
        layout = QVBoxLayout(body)
        layout.setSpacing(6)
        layout.addLayout(top)
        layout.addWidget(self.form)
        layout.addLayout(steps)
        layout.addWidget(self.buttons[Action.ALIGN_AND_CLUSTER])
        for widget in (self.reason_label, self.run_row, self.message_label, self.result_box):
            layout.addWidget(widget)
        layout.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidget(body)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setMinimumWidth(300)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        self._body = body

    def sizeHint(self) -> QSize:
        """As high as the contents, but never more than a small screen has."""
        return QSize(320, min(700, self._body.sizeHint().height()))

    # -- life cycle -------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        layers = self._viewer.layers.events
        for signal in (layers.inserted, layers.removed, layers.reordered, layers.renamed):
            self.listen(signal, self._on_layers)
        self.listen(self.session.data_changed, self._on_data)
        self.listen(self.session.result_changed, self._on_result)
        self.listen(self.session.model_changed, self._on_result)
        self.listen(self.session.state_changed, self._on_state)
        self._viewer.mouse_drag_callbacks.append(self._on_mouse)
        self._on_layers()
        self._on_data(self.session.data)
        self._on_result(None)
        self._on_state(self.session.state)

    def _disconnect(self) -> None:
        self.runner.abandon()
        self.map_back.runner.abandon()
        if self._on_mouse in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_mouse)

    def showEvent(self, event: QShowEvent) -> None:
        """Look for devices when first seen, in a thread: importing torch takes seconds."""
        super().showEvent(event)
        if not self._devices_asked:
            self._devices_asked = True
            worker = create_worker(_find_devices, _ignore_errors=True)
            worker.returned.connect(self._on_devices)
            worker.start()

    def _on_devices(self, found: tuple[list[Device], str]) -> None:
        self.form.set_devices(*found)

    # -- what is shown ----------------------------------------------------------------------------------------------

    def _on_layers(self, _event: Any = None) -> None:
        if not self.session.state.busy:
            adopt_result(self._viewer, self.session)
            if self.session.layer is not None and self.layer_combo.layer is None:
                self.layer_combo.refresh(self._viewer.layers)
                self.layer_combo.set_layer(self.session.layer)
        self.layer_combo.refresh(self._viewer.layers)

    def _on_layer(self, layer: Any) -> None:
        if self.session.state.busy:
            return
        self.session.set_data(particles_of(layer) if layer is not None else None, layer)

    def _on_data(self, particles: Particles | None) -> None:
        self.info_label.setText(about_particles(particles) if particles is not None else "")
        self.info_label.setVisible(particles is not None)
        self._top.setRowVisible(self.pixel_spin, particles is not None and not particles.pixel_size_known)
        self._top.setRowVisible(self.tilt_edit, self.tilt_edit.show_particles(particles))
        if self.session.layer is not None:
            self.layer_combo.set_layer(self.session.layer)
        self.message_label.hide()
        self.form.set_particles(particles)

    def _on_pixel_size(self, pixel_size: float) -> None:
        layer = self.session.layer
        if pixel_size > 0 and layer is not None and not self.session.state.busy:
            self.session.set_data(set_pixel_size(layer, pixel_size), layer)
            self.pixel_spin.setValue(0)

    def _on_tilt_range(self) -> None:
        layer, data = self.session.layer, self.session.data
        if layer is None or data is None or self.session.state.busy:
            return
        if not self.tilt_edit.problem() and data.wedge != self.tilt_edit.value:
            self.session.set_data(set_wedge(layer, self.tilt_edit.value), layer)
        self.update_buttons()

    def _on_result(self, _changed: Any) -> None:
        self.result_box.show_result(self.session.result, self.session.model)
        self.form.set_last_model(self.session.model is not None)
        self.update_buttons()

    def _on_state(self, state: State) -> None:
        self.run_row.on_state(state)
        self.form.setEnabled(not state.busy)
        self.layer_combo.setEnabled(not state.busy)
        self.pixel_spin.setEnabled(not state.busy)
        self.tilt_edit.setEnabled(not state.busy)
        self.update_buttons()

    def update_buttons(self) -> None:
        """Enable what can be done now, and say why the rest cannot."""
        problems = [text for text in (*self.form.problems(), self.tilt_edit.problem()) if text]
        self.result_box.map_button.setEnabled(not self.map_back.busy)
        if self.session.state.busy:
            reason = BUSY
        elif self.session.data is None:
            reason = NO_LAYER
        else:
            reason = " ".join(problems)
        for action, button in self.buttons.items():
            why = reason or self._why_not(action)
            button.setEnabled(not why)
            button.setToolTip(why or _TIPS[action])
        self.reason_label.setText(reason)
        self.reason_label.setVisible(bool(reason) and not self.session.state.busy)

    def _why_not(self, action: Action) -> str:
        if action is Action.TRAIN and self.form.model != TRAIN:
            return "Training makes a new model: choose 'train on these particles' as the model."
        return ""

    # -- running ----------------------------------------------------------------------------------------------------

    def run(self, action: Action) -> None:
        """Start a run on the chosen layer with the settings as they stand."""
        if self.session.data is None or self.session.state.busy:
            return
        self._job = Job(action, self.session.data, self.form.settings, self._model_for(action), self.session.result)
        self._job_layer = self.session.layer
        self._started = time.monotonic()
        self.message_label.hide()
        self.runner.submit(self._job.work())

    def _model_for(self, action: Action) -> Any:
        chosen = self.form.model
        if isinstance(chosen, Path):
            return chosen
        # Align after Train means: with what was just trained
        if chosen == LAST or action is Action.ALIGN:
            return self.session.model
        return None

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Preview) and self._job is not None and self._layer_is_there():
            self._layers.show_preview(event, self._job_layer, self._job.particles)

    def _layer_is_there(self) -> bool:
        return self._job_layer is not None and self._job_layer in self._viewer.layers

    def _on_done(self, done: Done) -> None:
        job = self._job
        if job is None:
            return
        seconds = time.monotonic() - self._started
        done = finished(job, done, seconds)
        if job.action is Action.TRAIN:
            self.session.set_model(done.value)
            self._say(f"Trained in {duration(seconds)}. Align now uses this model; Save model... keeps it.")
            return
        if done.model is not None:
            self.session.set_model(done.model)
        self.session.set_result(done.value, done.model)
        if self._layer_is_there():
            self._layers.show_result(done.value, self._job_layer, job.particles)
        self._say(f"{job.action.value}: done in {duration(seconds)}.")

    def _on_failed(self, error: Exception) -> None:
        text = str(error) if isinstance(error, HarmonyError) else describe(error)
        self._say(text, error=True)

    def _on_cancelled(self) -> None:
        if self.session.result is not None and self._job is not None and self._layer_is_there():
            self._layers.show_result(self.session.result, self._job_layer, self._job.particles)
        self._say("Cancelled; nothing of that run was kept.")

    def _say(self, text: str, *, error: bool = False) -> None:
        self.message_label.setStyleSheet("color: #e05252;" if error else "")
        self.message_label.setText(text)
        self.message_label.show()

    # -- results ----------------------------------------------------------------------------------------------------

    def show_class(self, number: int) -> None:
        """Add the aligned particles of a class as a layer and select them."""
        if self.session.result is None or self.session.data is None or self.session.layer is None:
            return
        members = self.session.result.members(number)
        if not len(members):
            self._say(f"Class {number} has no particles.")
            return
        self._layers.show_class(self.session.result, number, self.session.layer, self.session.data)
        self.session.select(members)

    def _on_mouse(self, _viewer: Any, event: Any) -> Generator[None, None, None]:
        """A click (not a drag) on a class average chooses that class and selects its particles."""
        dragged = False
        yield
        while event.type == "mouse_move":
            dragged = True
            yield
        number = None if dragged else self._layers.class_under(event.position)
        if number is not None and self.session.result is not None and not self.session.state.busy:
            self.result_box.choose_class(number)
            self.session.select(self.session.result.members(number))

    def start_map_back(self) -> None:
        """Put the class averages into the tomogram the particles were cut from."""
        if self.session.result is not None and self.session.data is not None:
            self.message_label.hide()
            self.map_back.start(self.session.data, self.session.result)

    def open_table(self) -> None:
        """Open the Transforms table, or bring it to the front."""
        open_dock(self._viewer, "Transforms table")

    def save_result(self, folder: str | Path) -> Path:
        """Write the result to an OUT folder.

        Raises
        ------
        HarmonyError
            Where there is no result, or the folder cannot be written.
        """
        from napari_harmony.outputs import write_output

        if self.session.result is None or self.session.data is None:
            raise HarmonyError("There is no result to save: run Align and Cluster first.")
        settings = self._job.settings if self._job is not None else None
        return write_output(folder, self.session.data, self.session.result, model=self.session.model, settings=settings)

    def save_model(self, folder: str | Path) -> None:
        """Write the trained model into a folder."""
        if self.session.model is None:
            raise HarmonyError("There is no model to save: train one first.")
        save_model(self.session.model, Path(folder))
        show_info(f"Model written to {folder}.")

    def _ask_and_save_result(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Save the result into this folder")
        if folder:
            self.attempt(lambda: show_info(f"Result written to {self.save_result(folder)}."))

    def _ask_and_save_model(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Save the model into this folder")
        if folder:
            self.attempt(lambda: self.save_model(folder))


def _find_devices() -> tuple[list[Device], str]:
    found = devices()
    return found, why_cpu() if len(found) == 1 else ""
