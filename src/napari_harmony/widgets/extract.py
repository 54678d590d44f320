"""The *Extract Subtomograms* dock: choose a tomogram and coordinates, cut, and go on with the particles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_harmony._layers import KEY, fit_visible, particles_layer, role_of, stand_inside
from napari_harmony._tomograms import is_tomogram, tomogram_of
from napari_harmony.engine.events import Done, Event, Progress
from napari_harmony.errors import HarmonyError, InputError
from napari_harmony.particles.extract import (
    Extracted,
    ExtractSettings,
    extract,
    particles_along_lines,
    plan_extraction,
)
from napari_harmony.particles.wedge import TiltRange
from napari_harmony.session import Session, State, session_of
from napari_harmony.widgets._column import Column
from napari_harmony.widgets._coordinate_source import CoordinateSource
from napari_harmony.widgets._dock import Dock
from napari_harmony.widgets._layer_combo import LayerCombo
from napari_harmony.widgets._run_row import RunRow
from napari_harmony.widgets._runner import Runner, describe
from napari_harmony.widgets._tilt_range import TiltRangeEdit
from napari_harmony.widgets._tomogram_names import TomogramNames

if TYPE_CHECKING:
    import napari

    from napari_harmony.particles.coordinates import Coordinates
    from napari_harmony.particles.tomogram import Tomogram

NO_TOMOGRAM = "Open a tomogram first (File > Open Files, or File > Open Sample > napari-harmony)."
NO_DISTANCE = "The coordinates are lines: say how far apart along them the particles are (Along a line)."
NO_FOLDER = "Choose a folder for the subtomograms."
_EDGE_WORDS = {"pad": "pad with the mean", "drop": "leave the particle out"}


@dataclass(frozen=True, eq=False)
class Extraction:
    """What is cut from what, and where it is written."""

    tomogram: Tomogram
    coordinates: Coordinates
    settings: ExtractSettings
    folder: Path

    def check(self) -> str:
        """What will happen, in words; raises ``InputError`` where it cannot."""
        plan = plan_extraction(self.tomogram, self.coordinates, self.settings)
        box = self.settings.box
        text = f"{len(plan.centres):,} subtomograms of {box} voxels"
        if self.tomogram.voxel_size_known:
            text += f" of {self.tomogram.voxel_size * self.settings.bin:.4g} \N{ANGSTROM SIGN}"
        counted = ((plan.padded, "reach beyond the tomogram"), (plan.dropped, "left out at the edge"))
        return ", ".join([text, *(f"{number:,} {words}" for number, words in counted if number)]) + "."

    def events(self) -> Iterator[Event]:
        """The steps as events of a run; closing the generator leaves nothing behind."""
        steps: Any = extract(self.tomogram, self.coordinates, self.folder, self.settings)
        try:
            for step in steps:
                if isinstance(step, Extracted):
                    yield Done(step)
                else:
                    yield Progress("extracting", step.done / step.total, f"{step.done} of {step.total}")
        finally:
            steps.close()


class ExtractWidget(Dock):
    """The dock; what it cuts is opened as a layer and becomes the session's particles."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self.session = session_of(napari_viewer)
        self.work = Session()  # the state of this dock's own work: a run on other particles may go on beside it
        self.runner = runner = Runner(self.work)
        self._points: Any = None
        self._make_parts()
        self._arrange()
        runner.done.connect(self._on_done)
        runner.failed.connect(self._on_failed)
        runner.cancelled.connect(lambda: self._say("Cancelled; nothing was written."))
        self.destroyed.connect(lambda *_: runner.abandon())
        self.bind()

    # -- building ---------------------------------------------------------------------------------------------------

    def _make_parts(self) -> None:
        self.tomogram_combo = LayerCombo(is_tomogram, "The tomogram: an image layer with the axes z, y and x.")
        self.tomogram_combo.layer_changed.connect(self._on_tomogram)
        self.source = CoordinateSource()
        self.source.changed.connect(self._on_source)
        self.names_combo = TomogramNames()
        self.names_combo.changed.connect(self.update_button)
        self.every_spin = QDoubleSpinBox()
        self.every_spin.setRange(0.0, 10_000.0)
        self.every_spin.setDecimals(1)
        self.every_spin.setSuffix(" \N{ANGSTROM SIGN}")
        self.every_spin.setSpecialValueText("no")
        self.every_spin.setKeyboardTracking(False)
        self.every_spin.setToolTip(
            "Of points traced along a filament, in their order, or of drawn paths: a particle every so many angstrom "
            "along the line, turned so that z of the reference lies along it. A column or feature 'filament' tells "
            "several apart."
        )
        self.box_spin = QSpinBox()
        self.box_spin.setRange(8, 512)
        self.box_spin.setSingleStep(8)
        self.box_spin.setValue(32)
        self.box_spin.setToolTip("Edge of the subtomograms as they are written, in (binned) voxels.")
        self.bin_spin = QSpinBox()
        self.bin_spin.setRange(1, 16)
        self.bin_spin.setToolTip("How many voxels of the tomogram become one, by cropping in Fourier space.")
        self.invert_box = QCheckBox("particles are dark")
        self.invert_box.setToolTip("Exchange dark and bright: the alignment needs particles that are white.")
        self.edge_box = QComboBox()
        for key, words in _EDGE_WORDS.items():
            self.edge_box.addItem(words, key)
        self.edge_box.setMinimumContentsLength(8)
        self.edge_box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.edge_box.setToolTip("What to do with boxes that reach beyond the tomogram.")
        self.tilt_edit = TiltRangeEdit()
        self.folder_edit = QLineEdit()
        self.folder_edit.setPlaceholderText("folder")
        self.folder_edit.setToolTip("Gets particles.star and a folder subtomograms.")
        self.folder_button = QPushButton("...")
        self.folder_button.setMaximumWidth(32)
        self.folder_button.setToolTip("Choose the folder.")
        self.folder_button.clicked.connect(self._ask_folder)
        self.run_button = QPushButton("Extract")
        self.run_button.setStyleSheet("font-weight: bold; padding: 6px;")
        self.run_button.clicked.connect(self.run)
        self.reason_label, self.message_label = QLabel(), QLabel()
        for label in (self.reason_label, self.message_label):
            label.setWordWrap(True)
        self.message_label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.message_label.hide()
        self.run_row = RunRow(self.work, self.runner)
        for signal in (
            self.every_spin.valueChanged,
            self.box_spin.valueChanged,
            self.bin_spin.valueChanged,
            self.edge_box.currentIndexChanged,
            self.folder_edit.textChanged,
            self.tilt_edit.changed,
        ):
            signal.connect(self.update_button)

    def _arrange(self) -> None:
        folder = QHBoxLayout()
        folder.setContentsMargins(0, 0, 0, 0)
        folder.addWidget(self.folder_edit, 1)
        folder.addWidget(self.folder_button)
        self._form = form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(4)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        rows: tuple[tuple[str, Any], ...] = (
            ("Tomogram", self.tomogram_combo),
            ("Coordinates", self.source),
            ("Those of", self.names_combo),
            ("Along a line", self.every_spin),
            ("Box", self.box_spin),
            ("Binning", self.bin_spin),
            ("Contrast", self.invert_box),
            ("At the edge", self.edge_box),
            ("Tilt range", self.tilt_edit),
            ("Folder", folder),
        )
        for title, field in rows:
            form.addRow(title, field)
        form.setRowVisible(self.names_combo, False)
        body = QWidget()
        layout = QVBoxLayout(body)
        layout.setSpacing(6)
        layout.addLayout(form)
        for widget in (self.reason_label, self.run_button, self.run_row, self.message_label):
            layout.addWidget(widget)
        layout.addStretch(1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Column(body))
        self._body = body

    def sizeHint(self) -> QSize:
        """As high as the contents, but never more than a small screen has."""
        return QSize(320, min(680, self._body.sizeHint().height()))

    # -- life cycle -------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        layers = self._viewer.layers.events
        for signal in (layers.inserted, layers.removed, layers.reordered, layers.renamed):
            self.listen(signal, self._on_layers)
        self.listen(self.work.state_changed, self._on_state)
        self._on_layers()
        self._on_state(self.work.state)

    def _disconnect(self) -> None:
        self.runner.abandon()
        self._watch(None)

    def _on_layers(self, _event: Any = None) -> None:
        self.tomogram_combo.refresh(self._viewer.layers)
        self.source.refresh(self._viewer.layers)

    def _on_tomogram(self, layer: Any) -> None:
        if layer is not None:
            stated = layer.metadata.get(KEY, {}).get("tilt_range")
            if stated:
                self.tilt_edit.set_value(TiltRange(*stated))
            path = layer.metadata.get(KEY, {}).get("path")
            if path and not self.folder_edit.text():
                self.folder_edit.setText(str(Path(path).with_name(f"{Path(path).stem}_subtomograms")))
        self.update_button()

    def _on_source(self) -> None:
        self._watch(self.source.layer)
        self.update_button()

    def _watch(self, points: Any) -> None:
        """Listen to the points that are being picked."""
        if points is self._points:
            return
        if self._points is not None:
            self._points.events.data.disconnect(self.update_button)
        self._points = points
        if points is not None:
            points.events.data.connect(self.update_button)

    def _on_state(self, state: State) -> None:
        self.run_row.on_state(state)
        for widget in (self.tomogram_combo, self.source, self.box_spin, self.bin_spin, self.invert_box, self.edge_box):
            widget.setEnabled(not state.busy)
        for widget in (self.names_combo, self.every_spin, self.tilt_edit, self.folder_edit, self.folder_button):
            widget.setEnabled(not state.busy)
        self.update_button()

    # -- what can be done -------------------------------------------------------------------------------------------

    @property
    def settings(self) -> ExtractSettings:
        """The settings as they stand; raises ``InputError`` for those that cannot be used."""
        return ExtractSettings(
            box=self.box_spin.value(),
            bin=self.bin_spin.value(),
            edge=self.edge_box.currentData(),
            invert=self.invert_box.isChecked(),
            tilt_range=self.tilt_edit.value,
        )

    def extraction(self) -> Extraction:
        """What would be done now.

        Raises
        ------
        InputError
            One sentence on what is missing or does not fit.
        """
        layer = self.tomogram_combo.layer
        if layer is None:
            raise InputError(NO_TOMOGRAM)
        self.names_combo.offer(*self.source.tomograms(layer))
        self._form.setRowVisible(self.names_combo, self.names_combo.several)
        tomogram, coordinates = tomogram_of(layer), self.source.coordinates(layer, self.names_combo.name)
        if every := self.every_spin.value():
            coordinates = particles_along_lines(tomogram, coordinates, every)
        elif self.source.are_lines:
            raise InputError(NO_DISTANCE)
        folder = self.folder_edit.text().strip()
        found = Extraction(tomogram, coordinates, self.settings, Path(folder).expanduser())
        found.check()
        if not folder:
            raise InputError(NO_FOLDER)
        return found

    def update_button(self, _changed: Any = None) -> None:
        """Say what Extract will do, or why it cannot."""
        try:
            text, problem = " ".join(filter(None, (self.extraction().check(), self.names_combo.sentence))), False
        except HarmonyError as error:
            text, problem = in_words(error), True
        busy = self.work.state.busy
        self.reason_label.setText(text)
        self.reason_label.setStyleSheet("color: #e0a030;" if problem else "")
        self.run_button.setEnabled(not problem and not busy)
        self.run_button.setToolTip("Extraction is going on." if busy else text)

    def _ask_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Write the subtomograms into this folder")
        if folder:
            self.folder_edit.setText(folder)

    # -- running ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Cut the subtomograms out, in a thread."""
        if self.work.state.busy:
            return
        try:
            chosen = self.extraction()
        except HarmonyError as error:
            self._say(in_words(error), error=True)
            return
        self.message_label.hide()
        self.runner.submit(partial(chosen.events))

    def _on_done(self, done: Done) -> None:
        from napari_harmony.particles import open_particles

        extracted: Extracted = done.value
        particles = open_particles(extracted.path)
        data, options, _ = particles_layer(particles, f"subtomograms of {self.tomogram_combo.currentText()}")
        for other in self._viewer.layers:
            # they would lie over the particles, which are in the corner of the same space
            if role_of(other) in ("volume", "coordinates") or other in (self.tomogram_combo.layer, self.source.layer):
                other.visible = False
        added = self._viewer.add_image(data, **options)
        layer = getattr(added, "__wrapped__", added)  # napari hands out a proxy, which nobody else holds
        if not self.session.state.busy:
            self.session.set_data(particles, layer)
        stand_inside(self._viewer, layer)
        fit_visible(self._viewer)
        self._say(f"{_sentence(extracted)} Align and cluster them in the Harmony dock.")

    def _on_failed(self, error: Exception) -> None:
        self._say(in_words(error) if isinstance(error, HarmonyError) else describe(error), error=True)

    def _say(self, text: str, *, error: bool = False) -> None:
        self.message_label.setStyleSheet("color: #e05252;" if error else "")
        self.message_label.setText(text)
        self.message_label.show()


def in_words(error: Exception) -> str:
    """What an error says, without the options of the command line, beginning with a capital where it is a sentence."""
    text = (
        str(error).replace(" with --pixel-size", "").replace("say which with --tomo-name", "choose it under 'Those of'")
    )
    return text[:1].upper() + text[1:] if text[:4] in ("the ", "poin", "laye") else text


def _sentence(extracted: Extracted) -> str:
    counted = (
        (extracted.padded, "padded"),
        (extracted.dropped, "left out at the edge"),
        (extracted.flat, "of one value everywhere"),
    )
    more = ", ".join(f"{number:,} {words}" for number, words in counted if number)
    return f"{extracted.count:,} subtomograms are in {extracted.path.parent}{f' ({more})' if more else ''}."
