"""The settings of a run as a form: live validation, and words for everything that is worked out from the data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QGridLayout,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_harmony.engine.costs import Task
from napari_harmony.engine.settings import OBJECTIVES, PRECISIONS, PRESETS, TRANSFORMS, Settings
from napari_harmony.widgets._additions import AdditionsBox
from napari_harmony.widgets._devices import Device, cpu
from napari_harmony.widgets._model_choice import ModelChoice
from napari_harmony.widgets._volume_options import VolumeOptions

if TYPE_CHECKING:
    from napari_harmony.engine.settings import Precision
    from napari_harmony.particles.dataset import Particles

ANGSTROM = "\N{ANGSTROM SIGN}"
AUTO = "auto"
MASK_FRACTION = 0.9  # what ``Settings`` takes where nothing is given
SHIFT_FRACTION = 0.16

_TRANSFORM_TIPS = {
    "rotation": "Particles of one class may be turned in the plane.",
    "translation": "Particles of one class may be off centre.",
    "scale": "Particles of one class may differ in magnification by some percent.",
    "contrast": "Particles of one class may differ in contrast and background, as with ice thickness.",
    "defocus": "Find how far each particle's defocus is from the input's. For images with a known CTF.",
}
_NO_CTF = "Defocus is found as an offset from a known CTF, which these images do not have."
_NO_DEFOCUS_3D = "Defocus is found for images; these are subtomograms."
_STANDS_ALONE = "The published objective stands alone: choose the forward model to add to it."
_PRESET_TIP = "fast: a first look; balanced: for work; thorough: more rounds and hypotheses, takes longest."
_PRECISION_TIP = (
    "For NVIDIA GPUs; on nearly all CPUs it changes nothing. full: 32 bits throughout; mixed: large products in "
    "bfloat16; auto: mixed where the GPU is made for it."
)
_OBJECTIVE_WORDS = {"harmony": "forward model (recommended)", "harmony-2022": "as published in 2022 (baseline)"}


class SettingsForm(QWidget):
    """Everything a user may choose for a run.

    Signals
    -------
    changed : after every edit
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._particles: Particles | None = None
        self._devices: list[Device] | None = None
        self._make_model()
        self._make_transforms()
        self._make_numbers()
        self._make_computing()
        self.additions = AdditionsBox()
        self.additions.changed.connect(self.changed)
        self.objective_box.currentIndexChanged.connect(self._on_objective)
        self._arrange()
        self.set_devices(None)

    # -- building ---------------------------------------------------------------------------------------------------

    def _make_model(self) -> None:
        self.models = ModelChoice()
        self.model_box = self.models.box
        self.models.changed.connect(self.changed)

    def _make_transforms(self) -> None:
        self.transform_boxes = {name: QCheckBox(name) for name in TRANSFORMS}
        for name, box in self.transform_boxes.items():
            box.setChecked(name in Settings().transforms)
            box.setToolTip(_TRANSFORM_TIPS[name])
            box.toggled.connect(self.changed)

    def _make_numbers(self) -> None:
        self.classes_spin = QSpinBox()
        self.classes_spin.setRange(0, 1000)
        self.classes_spin.setSpecialValueText(AUTO)
        self.classes_spin.setToolTip("Number of classes; auto (0): chosen from the data.")
        self.mask_spin, self.shift_spin = QDoubleSpinBox(), QDoubleSpinBox()
        for spin in (self.mask_spin, self.shift_spin):
            spin.setRange(0.0, 10_000.0)
            spin.setDecimals(1)
            spin.setSuffix(f" {ANGSTROM}")
            spin.setSpecialValueText(AUTO)
            spin.setSingleStep(5.0)
        for spin in (self.classes_spin, self.mask_spin, self.shift_spin):
            spin.valueChanged.connect(self.changed)

    def _make_computing(self) -> None:
        self.preset_box = QComboBox()
        self.preset_box.addItems(PRESETS)
        self.preset_box.setCurrentText(Settings().preset)
        self.preset_box.setToolTip(_PRESET_TIP)
        self.device_box = QComboBox()
        self.seed_spin = QSpinBox()
        self.seed_spin.setRange(0, 2**31 - 1)
        self.seed_spin.setToolTip(
            "Start of all random choices: the same seed on the same device gives the same result."
        )
        self.objective_box = QComboBox()
        for name in OBJECTIVES:
            self.objective_box.addItem(_OBJECTIVE_WORDS[name], name)
        self.precision_box = QComboBox()
        self.precision_box.addItems(PRECISIONS)
        self.precision_box.setToolTip(_PRECISION_TIP)
        self.objective_box.setToolTip("What training makes small; the published one is there to compare with.")
        for box in (self.preset_box, self.device_box, self.objective_box, self.precision_box):
            box.currentIndexChanged.connect(self.changed)
            box.setMinimumContentsLength(8)  # a long name must not widen the dock
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.seed_spin.valueChanged.connect(self.changed)

    def _arrange(self) -> None:
        transforms = QGridLayout()
        transforms.setContentsMargins(0, 0, 0, 0)
        for i, box in enumerate(self.transform_boxes.values()):
            transforms.addWidget(box, i // 2, i % 2)
        form = _form_layout()
        form.addRow("Model", self.models)
        form.addRow("Transforms", transforms)
        form.addRow("Classes", self.classes_spin)
        form.addRow("Mask", self.mask_spin)
        form.addRow("Max shift", self.shift_spin)
        form.addRow("Preset", self.preset_box)
        form.addRow("Device", self.device_box)

        advanced = QWidget()
        more = _form_layout()
        more.addRow("Seed", self.seed_spin)
        more.addRow("Objective", self.objective_box)
        more.addRow("With", self.additions)
        more.addRow("Precision", self.precision_box)
        self.volume = VolumeOptions()
        self.volume.changed.connect(self.changed)
        self.volume.hide()
        column = QVBoxLayout(advanced)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(more)
        column.addWidget(self.volume)
        self.advanced = QCollapsible("Advanced")
        self.advanced.setDuration(0)
        self.advanced.layout().setContentsMargins(0, 0, 0, 0)
        self.advanced.addWidget(advanced)

        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self.advanced)

    # -- from outside -----------------------------------------------------------------------------------------------

    def set_particles(self, particles: Particles | None) -> None:
        """Say what "auto" means for these particles, and what is too large for them."""
        self._particles = particles
        self.models.set_particles(particles)
        self.volume.setVisible(self._volumes)
        known_ctf = particles is None or (not self._volumes and particles.ctf is not None)
        self.transform_boxes["defocus"].setEnabled(known_ctf)
        why_not = _NO_DEFOCUS_3D if self._volumes else _NO_CTF
        self.transform_boxes["defocus"].setToolTip(_TRANSFORM_TIPS["defocus"] if known_ctf else why_not)
        extent = particles.box * particles.pixel_size if particles is not None else None
        auto_mask = f" auto: {MASK_FRACTION * extent:.0f} {ANGSTROM}." if extent else ""
        auto_shift = f" auto: {SHIFT_FRACTION * extent:.0f} {ANGSTROM}." if extent else ""
        self.mask_spin.setToolTip(
            f"Diameter of the soft round mask: a little more than the longest extent of the particle.{auto_mask}"
        )
        self.shift_spin.setToolTip(f"How far a particle may lie off the centre of its image.{auto_shift}")
        self.changed.emit()

    def set_devices(self, found: list[Device] | None, reason: str = "") -> None:
        """Offer these devices, the first of which is what "auto" takes; None: not known yet."""
        self._devices = found
        chosen = self.device_box.currentData()
        self.device_box.blockSignals(True)
        self.device_box.clear()
        self.device_box.addItem(f"{AUTO}: {found[0].words}" if found else AUTO, AUTO)
        for device in found or ():
            self.device_box.addItem(device.words, device.key)
        self.device_box.setCurrentIndex(max(0, self.device_box.findData(chosen)))
        self.device_box.blockSignals(False)
        tip = "Where the run is computed." if found else "Where the run is computed; looking for devices."
        self.device_box.setToolTip(f"{tip} Only the CPU is offered: {reason}." if reason else tip)

    def set_last_model(self, there: bool) -> None:
        """Offer the model of the last run, or not."""
        self.models.set_last(there)

    def set_model_file(self, path: Path) -> None:
        """Choose a saved model: its folder, or a file in it."""
        self.models.set_file(path)

    # -- values -----------------------------------------------------------------------------------------------------

    @property
    def _volumes(self) -> bool:
        """Whether the particles are subtomograms."""
        return self._particles is not None and self._particles.dimensions == 3

    @property
    def settings(self) -> Settings:
        """The settings as they stand; raises ``InputError`` where ``problems`` is not empty."""
        settings = Settings(
            classes=self.classes_spin.value() or None,
            transforms=tuple(n for n, box in self.transform_boxes.items() if box.isChecked() and box.isEnabled()),
            mask_diameter=self.mask_spin.value() or None,
            max_shift=self.shift_spin.value() or None,
            preset=self.preset_box.currentText(),
            seed=self.seed_spin.value(),
            device=self.device_box.currentData() or AUTO,
            precision=cast("Precision", self.precision_box.currentText()),
            objective=self.objective_box.currentData(),
            additions=self.additions.additions if self.additions.isEnabled() else (),
        )
        return self.volume.into(settings) if self._volumes else settings

    def set_settings(self, settings: Settings) -> None:
        """Show these settings."""
        self.classes_spin.setValue(settings.classes or 0)
        for name, box in self.transform_boxes.items():
            box.setChecked(name in settings.transforms)
        self.mask_spin.setValue(settings.mask_diameter or 0.0)
        self.shift_spin.setValue(settings.max_shift or 0.0)
        self.preset_box.setCurrentText(settings.preset)
        self.seed_spin.setValue(settings.seed)
        self.device_box.setCurrentIndex(max(0, self.device_box.findData(settings.device)))
        self.precision_box.setCurrentText(settings.precision)
        self.objective_box.setCurrentIndex(self.objective_box.findData(settings.objective))
        self.additions.show_additions(settings.additions)
        self.volume.show_settings(settings)

    @property
    def device(self) -> Device:
        """What the run is computed on; "auto" is the first that was found, and the processor until then."""
        key, found = self.device_box.currentData(), self._devices or [cpu()]
        return next((device for device in found if device.key == key), found[0])

    @property
    def model(self) -> str | Path:
        """``TRAIN``, ``LAST``, or the path of a saved model."""
        return self.models.model

    @property
    def task(self) -> Task:
        """What a run with this model does with particles."""
        return self.models.task

    def problems(self) -> list[str]:
        """What is wrong with the values, one sentence each; marks the fields."""
        found: dict[QWidget, str] = {}
        if self._particles is not None:
            extent = self._particles.box * self._particles.pixel_size
            mask, shift, classes = self.mask_spin.value(), self.shift_spin.value(), self.classes_spin.value()
            if mask > extent:
                found[self.mask_spin] = f"The mask is wider than the images ({extent:.0f} {ANGSTROM})."
            elif 0 < mask < 8 * self._particles.pixel_size:
                found[self.mask_spin] = "The mask is narrower than 8 pixels."
            if shift > 0.5 * extent:
                found[self.shift_spin] = (
                    f"The largest shift is more than half the images ({0.5 * extent:.0f} {ANGSTROM})."
                )
            if classes > len(self._particles) // 2:
                found[self.classes_spin] = f"There are only {len(self._particles)} particles for {classes} classes."
            if self._volumes:
                chosen = tuple(name for name, box in self.transform_boxes.items() if box.isChecked())
                found |= self.volume.problems(self._particles, chosen)
        marked = (self.mask_spin, self.shift_spin, self.classes_spin, self.volume.symmetry_edit, self.volume.start_box)
        for field in marked:
            field.setStyleSheet("border: 1px solid #e05252;" if field in found else "")
        return [text for text in (*found.values(), self.models.problem) if text]

    def _on_objective(self, _index: int) -> None:
        """The published objective stands alone."""
        alone = self.objective_box.currentData() != "harmony"
        self.additions.set_reason(_STANDS_ALONE if alone else "")


def _form_layout() -> QFormLayout:
    form = QFormLayout()
    form.setContentsMargins(0, 0, 0, 0)
    form.setVerticalSpacing(4)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return form
