"""The *Harmony* dock: choose particles and settings, run, and look at what came out."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QSize, QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QDoubleSpinBox, QFormLayout, QLabel, QVBoxLayout, QWidget

from napari_harmony._layers import particles_of, set_pixel_size, set_wedge
from napari_harmony.engine.events import Event, Loss
from napari_harmony.errors import InputError
from napari_harmony.library import default_library
from napari_harmony.preferences import preferences
from napari_harmony.session import State
from napari_harmony.widgets._about import about_particles
from napari_harmony.widgets._column import Column
from napari_harmony.widgets._commands import Commands, Job, job_of
from napari_harmony.widgets._devices import Device, devices, why_cpu
from napari_harmony.widgets._dock import Dock, adopt_result
from napari_harmony.widgets._estimate_line import EstimateLine
from napari_harmony.widgets._form import SettingsForm
from napari_harmony.widgets._layer_combo import ParticleLayerCombo
from napari_harmony.widgets._loss_plot import LossPlot
from napari_harmony.widgets._notice_box import NoticeBox
from napari_harmony.widgets._queue_box import QueueBox
from napari_harmony.widgets._remembered import remember, starting_settings
from napari_harmony.widgets._result_actions import ResultActions
from napari_harmony.widgets._result_box import ResultBox
from napari_harmony.widgets._run_buttons import RunButtons
from napari_harmony.widgets._run_row import RunRow
from napari_harmony.widgets._runs import runs_of
from napari_harmony.widgets._some_particles import TRIAL, add_some, trial_rows, why_no_trial
from napari_harmony.widgets._theme import palette_of
from napari_harmony.widgets._tilt_range import TiltRangeEdit
from napari_harmony.widgets._work import TRAIN, Action, Request
from napari_harmony.widgets._workers import FunctionInThread

if TYPE_CHECKING:
    import napari

    from napari_harmony.engine.settings import Settings
    from napari_harmony.particles.dataset import Particles

NO_LAYER = "Open a particle stack first (File > Open Files, or File > Open Sample > napari-harmony)."
TRAINS_ANEW = (
    "Training makes a new model: choose 'train on these particles' as the model. To go on training this one, take "
    "Fine-tune in the Models dock."
)
IN_USE = "A run on these particles is going on or waiting: change this before, or after it."
_PIXEL_TIP = "The file does not say how large a pixel is; without it, lengths are in pixels."


class HarmonyWidget(Dock):
    """The dock; everything it shows comes from the session and the runs of its viewer, which stay when it is closed."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self.runs = runs_of(napari_viewer)
        self.session, self.runner = self.runs.session, self.runs.runner
        self._devices_asked = False
        self._make_parts()
        self._arrange()
        self.form.set_settings(starting_settings())
        self.bind()

    # -- building ---------------------------------------------------------------------------------------------------

    def _make_parts(self) -> None:
        self._make_input()
        self.form = SettingsForm()
        self.form.changed.connect(self.update_buttons)
        self.run_buttons = RunButtons()
        self.buttons, self.reason_label = self.run_buttons.actions, self.run_buttons.reason_label
        self.run_buttons.wanted.connect(self.run)
        self.run_buttons.trial_wanted.connect(self.try_some)
        self.estimate_line = EstimateLine()
        self.run_row = RunRow(self.session, self.runner, steerable=True)
        self.run_row.finish_wanted.connect(self.runs.finish)
        self.loss_plot = LossPlot()
        self.queue_box = QueueBox(self.runs)
        self.notice_box = NoticeBox()
        self.message_label = self.notice_box.label
        self.notice_box.layer_wanted.connect(self.look_at)
        self.commands = Commands(self._job, self.notice_box.show_notice, self)
        self.run_buttons.command_wanted.connect(self.commands.copy)
        self.run_buttons.cluster_wanted.connect(self.commands.send)
        self.result_box = ResultBox()
        self.results = ResultActions(self._viewer, self.runs, self.result_box, self, self.notice_box.show_notice)
        self.map_back = self.results.map_back

    def _make_input(self) -> None:
        self.layer_combo = ParticleLayerCombo()
        self.layer_combo.layer_changed.connect(self._on_layer)
        self.info_label = QLabel()
        self.info_label.setWordWrap(True)
        self.pixel_spin = QDoubleSpinBox()
        self.pixel_spin.setRange(0.0, 1000.0)
        self.pixel_spin.setDecimals(4)
        self.pixel_spin.setSuffix(" \N{ANGSTROM SIGN}")
        self.pixel_spin.setSpecialValueText("unknown")
        self.pixel_spin.setKeyboardTracking(False)
        self.pixel_spin.valueChanged.connect(self._on_pixel_size)
        self.tilt_edit = TiltRangeEdit()
        self.tilt_edit.changed.connect(self._on_tilt_range)

    def _arrange(self) -> None:
        top = QFormLayout()
        top.setContentsMargins(0, 0, 0, 0)
        top.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        top.addRow("Particles", self.layer_combo)
        top.addRow(self.info_label)
        top.addRow("Pixel size", self.pixel_spin)
        top.addRow("Tilt range", self.tilt_edit)
        self._top = top
        body = QWidget()
        layout = QVBoxLayout(body)
        layout.setSpacing(6)
        layout.addLayout(top)
        before = (self.form, self.run_buttons, self.estimate_line)
        after = (self.run_row, self.loss_plot, self.queue_box, self.notice_box, self.result_box)
        for widget in (*before, *after):
            layout.addWidget(widget)
        layout.addStretch(1)
        self._column = Column(body)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self._column)
        self._body = body

    def sizeHint(self) -> QSize:
        """As high as the contents, but never more than a small screen has."""
        return QSize(320, min(700, self._body.sizeHint().height()))

    # -- life cycle -------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        layers = self._viewer.layers.events
        for signal in (layers.inserted, layers.removed, layers.reordered, layers.renamed):
            self.listen(signal, self._on_layers)
        self.listen(self._viewer.events.theme, self._on_theme)
        self.listen(self.session.data_changed, self._on_data)
        self.listen(self.session.result_changed, self._on_result)
        self.listen(self.session.model_changed, self._on_result)
        self.listen(self.session.state_changed, self._on_state)
        self.listen(default_library().changed, self.form.models.refresh)
        self.runner.heard.connect(self._on_event)
        self.runs.changed.connect(self._on_runs)
        self.runs.said.connect(self.notice_box.show_notice)
        self.runs.watch(id(self))
        self.results.bind()
        self._on_theme()
        self._on_layers()
        self._on_data(self.session.data)
        self._on_result(None)
        self._on_state(self.session.state)
        self._on_runs()
        self.notice_box.show_notice(self.runs.notice)

    def _disconnect(self) -> None:
        self.runner.heard.disconnect(self._on_event)
        self.runs.changed.disconnect(self._on_runs)
        self.runs.said.disconnect(self.notice_box.show_notice)
        self.runs.unwatch(id(self))
        self.results.unbind()

    def showEvent(self, event: QShowEvent) -> None:
        """Look for devices when first seen, in a thread: importing torch takes seconds."""
        super().showEvent(event)
        if not self._devices_asked:
            self._devices_asked = True
            worker = create_worker(_find_devices, _ignore_errors=True, _worker_class=FunctionInThread)
            worker.returned.connect(self._on_devices)
            worker.start()

    def _on_devices(self, found: tuple[list[Device], str]) -> None:
        self.form.set_devices(*found)
        self.update_buttons()

    def _on_theme(self, _event: Any = None) -> None:
        self.loss_plot.set_palette(palette_of(self._viewer))

    # -- what is shown ----------------------------------------------------------------------------------------------

    def _on_layers(self, _event: Any = None) -> None:
        if not self.session.state.busy:
            adopt_result(self._viewer, self.session)
        if self.session.layer is not None and self.layer_combo.layer is None:
            self.layer_combo.refresh(self._viewer.layers)
            self.layer_combo.set_layer(self.session.layer)
        self.layer_combo.refresh(self._viewer.layers)

    def _on_layer(self, layer: Any) -> None:
        self.session.set_data(particles_of(layer) if layer is not None else None, layer)

    def look_at(self, layer: Any) -> None:
        """Choose particles, and show them with what was drawn from them instead of others."""
        if layer in self._viewer.layers:
            self.results.layers.show_only(layer)
            self.layer_combo.set_layer(layer)

    def _on_data(self, particles: Particles | None) -> None:
        self.info_label.setText(about_particles(particles) if particles is not None else "")
        self.info_label.setVisible(particles is not None)
        self._top.setRowVisible(self.pixel_spin, particles is not None and not particles.pixel_size_known)
        self._top.setRowVisible(self.tilt_edit, self.tilt_edit.show_particles(particles))
        if self.session.layer is not None:
            self.layer_combo.set_layer(self.session.layer)
        self.notice_box.show_notice(None)
        self.form.set_particles(particles)

    def _on_pixel_size(self, pixel_size: float) -> None:
        layer = self.session.layer
        if pixel_size > 0 and layer is not None:
            self.session.set_data(set_pixel_size(layer, pixel_size), layer)
            self.pixel_spin.setValue(0)

    def _on_tilt_range(self) -> None:
        layer, data = self.session.layer, self.session.data
        if layer is None or data is None:
            return
        if not self.tilt_edit.problem() and data.wedge != self.tilt_edit.value:
            self.session.set_data(set_wedge(layer, self.tilt_edit.value), layer)
        self.update_buttons()

    def _on_result(self, _changed: Any) -> None:
        self.result_box.show_result(self.session.result, self.session.model)
        self.form.set_last_model(self.session.model is not None)
        self._show_loss()
        self.update_buttons()

    def _on_state(self, state: State) -> None:
        self.run_row.on_state(state)
        if state is State.RUNNING:
            QTimer.singleShot(0, self._show_run_row)

    def _show_run_row(self) -> None:
        self._column.ensureWidgetVisible(self.run_row, 0, 0)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Loss):
            self._show_loss()

    def _show_loss(self) -> None:
        """The plot makes room for the result once there is one."""
        self.loss_plot.show_curve(self.runs.curve)
        if not self.session.state.busy and self.session.result is not None:
            self.loss_plot.hide()

    def _on_runs(self) -> None:
        self.queue_box.refresh()
        self._show_loss()
        if self.runs.finishing:
            self.run_row.show_finishing()
        self.update_buttons()

    def update_buttons(self) -> None:
        """Enable what can be done now, and say why the rest cannot."""
        data = self.session.data
        problems = [text for text in (*self.form.problems(), self.tilt_edit.problem()) if text]
        reason = NO_LAYER if data is None else " ".join(problems)
        self._lock_input(self.runs.uses(data))
        self.results.update()
        self.run_buttons.show_queueing(self.runs.current is not None)
        trial = why_no_trial(data) if data is not None else ""
        actions = {} if reason else {action: self._why_not(action) for action in Action}
        self.run_buttons.show_reasons(reason, actions, trial, "" if reason else self.commands.why_not())
        self.estimate_line.ask(data, None if reason else self.settings, self.form.device, self.form.task)

    def _lock_input(self, used: bool) -> None:
        """What is known of particles stays as it is while they are worked on."""
        for widget, tip in ((self.pixel_spin, _PIXEL_TIP), (self.tilt_edit, "")):
            widget.setEnabled(not used)
            widget.setToolTip(IN_USE if used else tip)

    def _why_not(self, action: Action) -> str:
        if action is Action.TRAIN and self.form.model != TRAIN:
            return TRAINS_ANEW
        request = self._request(action)
        return self.runs.why_not(request) if request is not None else ""

    # -- running ----------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """What a run is started with: the form, and what napari's preferences say of memory."""
        chosen = preferences()
        return replace(
            self.form.settings, batch_memory=chosen.batch_memory, memory=chosen.memory, cache=chosen.cache_folder
        )

    def _request(self, action: Action) -> Request | None:
        data, layer = self.session.data, self.session.layer
        if data is None or layer is None:
            return None
        return Request(
            action,
            data,
            self.settings,
            self.form.model,
            layer.name,
            weakref.ref(layer),
            rescale=self.form.models.rescale,
        )

    def run(self, action: Action) -> None:
        """Run on the chosen layer with the settings as they stand; where something runs, when that is done."""
        request = self._request(action)
        if request is not None and not self.runs.why_not(request):
            remember(request.settings)
            self.notice_box.show_notice(None)
            self.runs.submit(request)

    def try_some(self) -> None:
        """Align and cluster a few particles, as a layer of their own."""
        request = self._request(Action.ALIGN_AND_CLUSTER)
        if request is None or why_no_trial(request.particles):
            return
        rows = trial_rows(len(request.particles), request.settings.seed)
        name = f"{TRIAL} of {request.name}"
        some, layer = add_some(self._viewer, request.particles, rows, name, self.session.layer)
        self.session.set_data(some, layer)
        self.look_at(layer)
        remember(request.settings)
        self.runs.submit(
            replace(request, particles=some, name=layer.name, layer=weakref.ref(layer), whole=request.layer)
        )

    def command(self) -> str:
        """The command that does what *Align and Cluster* would do with the settings as they stand.

        Raises
        ------
        InputError : the particles, or the model, are in no file, with what to save first
        """
        return self._job().command()

    def _job(self) -> Job:
        request = self._request(Action.ALIGN_AND_CLUSTER)
        if request is None:
            raise InputError(NO_LAYER)
        return job_of(request, self.session.layer)

    # -- results, for scripts ---------------------------------------------------------------------------------------

    def show_class(self, number: int) -> None:
        """Add the aligned particles of a class as a layer and select them."""
        self.results.show_class(number)

    def open_table(self) -> None:
        """Open the Transforms table, or bring it to the front."""
        self.results.open_table()

    def save_result(self, folder: str | Path) -> Path:
        """Write the result to an OUT folder; HarmonyError where there is none, or it cannot be written."""
        return self.results.save_result(folder)

    def save_model(self, folder: str | Path) -> None:
        """Write the trained model into a folder; HarmonyError where there is none."""
        self.results.save_model(folder)


def _find_devices() -> tuple[list[Device], str]:
    found = devices()
    return found, why_cpu() if len(found) == 1 else ""
