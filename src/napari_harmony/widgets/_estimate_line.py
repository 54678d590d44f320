"""What a run will take, said before it: time on the chosen device, and memory, with advice where that is too little."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QLabel, QWidget

from napari_harmony.engine.costs import Task
from napari_harmony.engine.durations import duration
from napari_harmony.engine.estimate import Estimate, available_memory, estimate
from napari_harmony.errors import InputError
from napari_harmony.widgets._devices import Device
from napari_harmony.widgets._queue_box import ERROR_COLOUR

if TYPE_CHECKING:
    from napari_harmony.engine.settings import Settings
    from napari_harmony.particles.dataset import Particles

_PAUSE_MS = 150  # after an edit: edits come in rows
_TIP = (
    "Estimated from the number and size of the particles, the preset, and how fast this machine was found to be. The "
    "time of a run is known better after its first tenth."
)
_CPU_ADVICE = "close other programs, take fewer or smaller (binned) particles, or lower the batch memory in Preferences"
_DEVICE_ADVICE = "choose the CPU, or lower the batch memory in Preferences"


class EstimateLine(QLabel):
    """One line; hidden while there is nothing to estimate."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWordWrap(True)
        self.setToolTip(_TIP)
        self._asked: tuple[Particles, Settings, Device, Task] | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE_MS)
        self._timer.timeout.connect(self.show_now)
        self.hide()

    def ask(self, particles: Particles | None, settings: Settings | None, device: Device, task: Task) -> None:
        """Say in a moment what a run takes.

        Parameters
        ----------
        particles, settings : of the run, or None where it cannot be started
        device : that it is computed on
        task : what is done with the particles
        """
        if particles is None or settings is None:
            self._asked = None
            self.hide()
            return
        self._asked = particles, settings, device, task
        self._timer.start()

    def show_now(self) -> None:
        """Say it at once."""
        if self._asked is None:
            return
        particles, settings, device, task = self._asked
        try:
            found = estimate(particles, settings, device=device.key, task=task)
        except InputError as error:  # mask, shift and box do not fit each other
            text, problem = "", str(error)
        else:
            text, problem = words(found, device), shortage(found, device, available_memory())
        self.setText(problem or text)
        self.setStyleSheet(f"color: {ERROR_COLOUR};" if problem else "")
        self.show()


def words(found: Estimate, device: Device) -> str:
    """Such as "CPU (2 cores): about 4 min, 1.3 GB"."""
    time = f"about {duration(found.seconds)}, " if found.seconds is not None else ""
    return f"{device.words}: {time}{size(found.memory)}{_on_device(found)}{_on_disk(found)}"


def _on_device(found: Estimate) -> str:
    return f" and {size(found.device_memory)} on the device" if found.device_memory else ""


def _on_disk(found: Estimate) -> str:
    return f" and {size(found.disk)} on disk" if found.disk else ""


def shortage(found: Estimate, device: Device, available: int | None) -> str:
    """What there is too little of, and what to do; "" where all is well, or not known."""
    if device.memory is not None and found.device_memory > device.memory:
        need, there = size(found.device_memory), size(device.memory)
        return f"Needs about {need} on {device.words}, which has {there}: {_DEVICE_ADVICE}."
    if available is not None and found.memory > available:
        return f"Needs about {size(found.memory)} of memory, {size(available)} are free: {_CPU_ADVICE}."
    return ""


def size(count: int) -> str:
    """Bytes as people say them: "640 MB", "1.3 GB"."""
    if count < 2**30:
        return f"{max(1, round(count / 2**20))} MB"
    return f"{count / 2**30:.1f} GB" if count < 10 * 2**30 else f"{count / 2**30:.0f} GB"
