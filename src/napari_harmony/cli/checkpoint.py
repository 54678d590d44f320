"""The state of an interrupted run, beside what it was asked to do."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from napari_harmony.engine.settings import Settings
from napari_harmony.errors import InputError
from napari_harmony.outputs import live
from napari_harmony.particles.dataset import Particles

RUN = "run.json"
#: Settings that change where and how fast a run computes, not what.
_FREE = ("device", "batch_memory", "precision", "cache")


@dataclass(frozen=True)
class Checkpoint:
    """A folder in which the engine keeps its state.

    Attributes
    ----------
    folder : given to the engine
    resume : whether it holds an interrupted run that is to be continued
    created : the parents that were made for it and go again if they are still empty
    """

    folder: Path
    resume: bool
    created: tuple[Path, ...] = ()

    def remove(self) -> None:
        """The run is complete, or left nothing to continue from."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for parent in reversed(self.created):
            with suppress(OSError):
                parent.rmdir()

    @property
    def resumable(self) -> bool:
        """Whether the engine has saved anything."""
        return self.folder.is_dir() and any(path.name not in (RUN, live.FOLDER) for path in self.folder.iterdir())


def describe_run(particles: Particles, settings: Settings, **more: Any) -> dict[str, Any]:
    """What a run must have in common with the one it continues, ready for JSON."""
    source = particles.path.stat() if particles.path is not None else None
    described: dict[str, Any] = {
        "input": str(particles.path.resolve()) if particles.path is not None else None,
        "input size": source.st_size if source else None,
        "input time": source.st_mtime_ns if source else None,
        "particles": len(particles),
        "box": particles.box,
        "pixel size": particles.pixel_size,
        **{name: value for name, value in asdict(settings).items() if name not in _FREE},
        **{name: str(value) for name, value in more.items()},
    }
    return dict(json.loads(json.dumps(described)))  # tuples become lists, as they are in the file


def open_checkpoint(folder: Path, run: dict[str, Any], resume: bool) -> Checkpoint:
    """Prepare the checkpoint folder of a run.

    Parameters
    ----------
    folder : made if missing; an earlier checkpoint in it is dropped unless it is resumed
    run : what ``describe_run`` says of this run
    resume : continue the interrupted run in ``folder``, if there is one

    Raises
    ------
    InputError : if the interrupted run was another one, or the folder cannot be written
    """
    earlier = _read(folder / RUN) if resume and folder.is_dir() else None
    if earlier is not None:
        _check_same(earlier, run, folder)
        checkpoint = Checkpoint(folder, resume=True)
        # A run that was killed before it saved anything is not continued but begun again
        return checkpoint if checkpoint.resumable else replace(checkpoint, resume=False)
    absolute = folder.absolute()
    created = tuple(reversed([parent for parent in absolute.parents if not parent.exists()]))
    try:
        if folder.is_dir():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        (folder / RUN).write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder.parent}: this folder cannot be written ({error.strerror}); give another.") from error
    return Checkpoint(folder, resume=False, created=created)


def _read(path: Path) -> dict[str, Any] | None:
    """What the interrupted run was; None where there was none."""
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: the interrupted run cannot be read ({error}); leave out --resume to start again."
        ) from error
    return run if isinstance(run, dict) else {}


def _check_same(earlier: dict[str, Any], run: dict[str, Any], folder: Path) -> None:
    for name in run:
        if earlier.get(name) != run[name]:
            label = name.replace("_", " ")
            if name.startswith("input "):
                raise InputError(
                    f"{run['input']}: the file has changed since the run; leave out --resume to start again."
                )
            raise InputError(
                f"{folder.parent}: the interrupted run had {label} {_words(earlier.get(name))}, not "
                f"{_words(run[name])}; give the same, or leave out --resume to start again."
            )


def _words(value: Any) -> str:
    if value is None:
        return "auto"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
