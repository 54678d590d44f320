"""The dialog of *Send to cluster*: what the job asks for, and a batch script with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QLabel,
    QLineEdit,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_harmony.cluster import MOST_GPUS, Resources, memory_for, slurm_script
from napari_harmony.engine.costs import Task
from napari_harmony.engine.estimate import estimate
from napari_harmony.errors import InputError
from napari_harmony.models.bundled import is_bundled
from napari_harmony.particles.files import replacing
from napari_harmony.widgets._commands import Job
from napari_harmony.widgets._queue_box import ERROR_COLOUR
from napari_harmony.widgets._runs import Notice

_ABOUT = (
    "Writes a script that SLURM runs with the settings of the dock. Nothing is sent: you submit the script on the "
    "cluster, and watch it here with <i>Follow a job</i>."
)
_SOURCE_TIP = "Where the cluster sees the particles. A model and references beside them are looked for there as well."
_OUT_TIP = "Where the results go, as the cluster sees it. Follow a job is given the same folder, as you see it."
_GPU_TIP = "0 computes on the cores."
_MEMORY_TIP = "Main memory; what the run is expected to need, and half as much again."
_HOURS_TIP = "After which the cluster stops the job. Submitted again, the same script continues it."
_PARTITION_TIP = "A queue of the cluster, as 'sinfo' lists them; empty for its own choice."
_SCRIPTS = "Scripts (*.sh);;All files (*)"


class ClusterDialog(QDialog):
    """Asks for the resources of a job, and writes its script.

    Parameters
    ----------
    job : what to run

    Signals
    -------
    saved(Notice) : the script was written, and what to do next
    """

    saved = Signal(object)

    def __init__(self, job: Job, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Send to cluster")
        self._job = job
        self._make_fields()
        self._arrange()
        self._suggest_memory()
        self._check()

    def _make_fields(self) -> None:
        usual = Resources()
        self.source_edit, self.out_edit, self.partition_edit = QLineEdit(), QLineEdit(), QLineEdit()
        self.source_edit.setText(self._job.source.as_posix())
        self.out_edit.setText(self._job.out.as_posix())
        self.partition_edit.setPlaceholderText("the cluster's own choice")
        self.cores_spin = _spin(1, 1024, usual.cores)
        self.gpus_spin = _spin(0, MOST_GPUS, usual.gpus)
        self.memory_spin = _spin(1, 100_000, usual.memory, " GB")
        self.hours_spin = _spin(1, 1000, usual.hours, " h")
        for field, tip in (
            (self.source_edit, _SOURCE_TIP),
            (self.out_edit, _OUT_TIP),
            (self.cores_spin, "Of one node."),
            (self.gpus_spin, _GPU_TIP),
            (self.memory_spin, _MEMORY_TIP),
            (self.hours_spin, _HOURS_TIP),
            (self.partition_edit, _PARTITION_TIP),
        ):
            field.setToolTip(tip)
        self.gpus_spin.valueChanged.connect(self._suggest_memory)
        self.source_edit.textEdited.connect(self._on_source)
        for edit in (self.source_edit, self.out_edit, self.partition_edit):
            edit.textChanged.connect(self._check)

    def _arrange(self) -> None:
        about = QLabel(_ABOUT)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Particles", self.source_edit)
        form.addRow("Results", self.out_edit)
        form.addRow("Cores", self.cores_spin)
        form.addRow("GPUs", self.gpus_spin)
        form.addRow("Memory", self.memory_spin)
        form.addRow("Time limit", self.hours_spin)
        form.addRow("Partition", self.partition_edit)
        self.problem_label = QLabel()
        self.problem_label.setStyleSheet(f"color: {ERROR_COLOUR};")
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.save_button = buttons.addButton("Save script...", QDialogButtonBox.ButtonRole.AcceptRole)
        self.save_button.clicked.connect(self._ask_and_save)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(about)
        layout.addLayout(form)
        layout.addWidget(self.problem_label)
        layout.addWidget(buttons)
        for label in (about, self.problem_label):
            label.setWordWrap(True)
        self.setMinimumWidth(440)

    @property
    def device(self) -> str:
        """What the job computes on: with a GPU asked for it must find one, rather than take days on the cores."""
        return "cuda" if self.gpus_spin.value() else "cpu"

    @property
    def resources(self) -> Resources:
        """What is asked of the cluster; ``InputError`` where a field cannot be used."""
        return Resources(
            self.cores_spin.value(),
            self.gpus_spin.value(),
            self.memory_spin.value(),
            self.hours_spin.value(),
            self.partition_edit.text().strip(),
        )

    def script(self) -> str:
        """The script; ``InputError`` where a field cannot be used."""
        source, out = (_absolute(edit.text(), name) for edit, name in self._paths())
        command = self._job.command_elsewhere(source, out, self.device)
        return slurm_script(command, out, self.resources, self._job.out.name)

    def save(self, path: str | Path) -> None:
        """Write the script, say what to do next, and close; ``InputError`` where it cannot be written."""
        path, script = Path(path), self.script()
        with replacing(path) as file:
            file.write(script.encode())
        path.chmod(0o755)
        out = self.out_edit.text().strip()
        self.saved.emit(
            Notice(
                f"Saved {path}. On the cluster, run 'sbatch {path.name}'; then watch it from here: Plugins > Harmony > "
                f"Follow a job, with the folder {out} as this machine sees it."
            )
        )
        self.accept()

    def _paths(self) -> tuple[tuple[QLineEdit, str], ...]:
        return (self.source_edit, "Particles"), (self.out_edit, "Results")

    def _on_source(self, text: str) -> None:
        """Results go beside the particles, until the user says otherwise."""
        source = PurePosixPath(text.strip())
        if source.name and not self.out_edit.isModified():
            self.out_edit.setText(str(source.with_name(self._job.out.name)))

    def _suggest_memory(self) -> None:
        try:
            settings, model = replace(self._job.settings, device=self.device), self._job.model
            task: Task = "fit" if model is None else "adapt" if is_bundled(model) else "apply"
            needed = estimate(self._job.particles, settings, self.device, task).memory
        except InputError:  # mask, shift and box do not fit each other; the dock says so
            return
        self.memory_spin.setValue(memory_for(needed))

    def _check(self) -> None:
        """Say what is wrong, and offer the script only where nothing is."""
        try:
            self.script()
            problem = ""
        except InputError as error:
            problem = str(error)
        self.problem_label.setText(problem)
        self.problem_label.setVisible(bool(problem))
        self.save_button.setEnabled(not problem)
        self.save_button.setToolTip(problem)

    def _ask_and_save(self) -> None:
        suggested = self._job.out.with_name(f"{self._job.out.name}.sh")
        path, _ = QFileDialog.getSaveFileName(self, "Save the script", str(suggested), _SCRIPTS)
        if not path:
            return
        try:
            self.save(path)
        except InputError as error:
            self.problem_label.setText(str(error))
            self.problem_label.show()


def _absolute(text: str, name: str) -> PurePosixPath:
    path = PurePosixPath(text.strip())
    if not path.is_absolute():
        raise InputError(f"{name}: give the whole path on the cluster, from / on.")
    return path


def _spin(least: int, most: int, value: int, suffix: str = "") -> QSpinBox:
    spin = QSpinBox()
    spin.setRange(least, most)
    spin.setValue(value)
    spin.setSuffix(suffix)
    return spin
