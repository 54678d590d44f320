"""What the dock would do, as a command: for the clipboard, and as a script for a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Qt
from qtpy.QtWidgets import QApplication, QWidget

from napari_harmony.command import ALIGN, command_line, source_of, stated_pixel_size, stated_tilt_range
from napari_harmony.errors import InputError
from napari_harmony.widgets._runs import Notice
from napari_harmony.widgets._some_particles import is_part
from napari_harmony.widgets._work import LAST, Request

if TYPE_CHECKING:
    from napari_harmony.engine.settings import Settings
    from napari_harmony.particles.dataset import Particles

UNSAVED_MODEL = "The model of the last run is in no file: save it first (Save model...), and choose it as the model."


@dataclass(frozen=True)
class Job:
    """A run that can be told as a command.

    Attributes
    ----------
    particles, settings, rescale : of the run
    source, model, out : where the particles, a trained model, and what comes out lie on this machine
    """

    particles: Particles
    settings: Settings
    source: Path
    model: Path | None
    out: Path
    rescale: bool = False

    def command(self) -> str:
        """The command for this machine."""
        return self._line(self.source, self.out, self.settings, lambda path: path)

    def command_elsewhere(self, source: PurePath, out: PurePath, device: str) -> str:
        """The command for a machine that sees the particles at ``source``.

        A model and reference volumes that lie under the folder that the two paths have not in common are taken to have
        moved with it.
        """

        def there(path: PurePath) -> PurePath:
            return moved(path, self.source, source)

        references = tuple(str(there(Path(path))) for path in self.settings.references)
        return self._line(source, out, replace(self.settings, device=device, references=references), there)

    def _line(self, source: PurePath, out: PurePath, settings: Settings, there: Callable[[PurePath], PurePath]) -> str:
        return command_line(
            ALIGN,
            source,
            settings,
            there(self.model) if self.model is not None else None,
            out,
            stated_pixel_size(self.particles),
            tilt_range=stated_tilt_range(self.particles),
            rescale=self.rescale,
        )


def job_of(request: Request, layer: Any) -> Job:
    """The job that does what a request asks for.

    Raises
    ------
    InputError : the particles, or the model, are in no file, with what to save first
    """
    if request.model == LAST:
        raise InputError(UNSAVED_MODEL)
    source = source_of(request.particles, part=is_part(layer))
    out = source.with_name(f"{source.name.split('.')[0]}-harmony")
    model = request.model if isinstance(request.model, Path) else None
    return Job(request.particles, request.settings, source, model, out, request.rescale)


def moved(path: PurePath, here: PurePath, there: PurePath) -> PurePath:
    """Where ``path`` lies on a machine that has at ``there`` what is ``here`` on this one; unchanged if not known."""
    common = 0
    for mine, theirs in zip(reversed(here.parts), reversed(there.parts), strict=False):
        if mine != theirs:
            break
        common += 1
    root = type(here)(*here.parts[: len(here.parts) - common])
    if not path.is_relative_to(root):
        return path
    return type(there)(*there.parts[: len(there.parts) - common]).joinpath(*path.relative_to(root).parts)


class Commands(QObject):
    """Does what the buttons for commands say.

    Parameters
    ----------
    job : gives the job as the dock stands; raises ``InputError`` where there is none
    say : shows a notice
    parent : of dialogs
    """

    def __init__(self, job: Callable[[], Job], say: Callable[[Notice], None], parent: QWidget) -> None:
        super().__init__(parent)
        self._job, self._say, self._parent = job, say, parent

    def why_not(self) -> str:
        """Why there is no command, or ""."""
        try:
            self._job()
        except InputError as error:
            return str(error)
        return ""

    def copy(self) -> None:
        """Put the command on the clipboard."""
        try:
            command = self._job().command()
        except InputError as error:
            self._say(Notice(str(error), error=True))
            return
        QApplication.clipboard().setText(command)
        self._say(Notice(f"Copied: {command}"))

    def send(self) -> None:
        """Ask what the cluster should give, and write the script."""
        from napari_harmony.widgets._cluster_dialog import ClusterDialog

        try:
            dialog = ClusterDialog(self._job(), self._parent)
        except InputError as error:
            self._say(Notice(str(error), error=True))
            return
        dialog.saved.connect(self._say)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()
