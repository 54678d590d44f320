"""The command line that does what the dock would do, for a terminal or a cluster. No Qt."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from napari_harmony.engine.settings import Settings
from napari_harmony.errors import InputError
from napari_harmony.models.bundled import WORD, is_bundled
from napari_harmony.particles.wedge import TiltRange
from napari_harmony.sizes import size_text

if TYPE_CHECKING:
    from napari_harmony.particles.dataset import Particles

PROGRAM = "napari-harmony"
ALIGN, TRAIN = "align", "train"

#: Settings whose option is spelled otherwise.
_SPELLED = {"additions": "with", "references": "reference"}
#: Settings that the command line has no option for: they change how fast a run is, not what comes out.
_WITHOUT = frozenset({"batch_memory"})


def command_line(
    action: str,
    source: PurePath,
    settings: Settings,
    model: PurePath | None,
    out: PurePath,
    pixel_size: float | None = None,
    *,
    tilt_range: tuple[float, float] | None = None,
    rescale: bool = False,
) -> str:
    """The command, quoted for a POSIX shell; options at their defaults are left out.

    Parameters
    ----------
    action : ``ALIGN`` or ``TRAIN``
    source : file or folder of the particles, as ``source_of`` finds it
    settings : of the run
    model : a trained one to align with, or to go on training; None to train one on the particles
    out : folder for what comes out
    pixel_size : angstrom, where the file does not say it
    tilt_range : of subtomograms in degrees, where it is known
    rescale : bring the particles to the pixel size and box of the model

    Raises
    ------
    InputError : the command line cannot say it
    """
    words = [PROGRAM, action, str(source), "-o", str(out)]
    if model is not None:
        words += ["--model", WORD if is_bundled(model) else str(model), *(["--rescale"] if rescale else [])]
    if pixel_size is not None:
        words += ["--pixel-size", _number(pixel_size)]
    if tilt_range is not None:
        words += ["--tilt-range", *map(_number, tilt_range)]
    return shlex.join([*words, *_options(settings, model_decides=model is not None)])


def source_of(particles: Particles, *, part: bool = False) -> Path:
    """The file or folder that the command line would read these particles from.

    ``part``: these are some particles of their file only.

    Raises
    ------
    InputError : there is none, with what to save first
    """
    if particles.path is None:
        raise InputError(
            "These particles are in no file: save their layer first (File > Save Selected Layers), open that file, and "
            "copy the command for it."
        )
    if part:
        raise InputError(
            f"These are some of the particles in {particles.path.name} only: save their layer first (File > Save "
            "Selected Layers), open that file, and copy the command for it."
        )
    return particles.path.expanduser().absolute()


def stated_pixel_size(particles: Particles) -> float | None:
    """The pixel size (angstrom) that a command must give: known, but not by a file of metadata."""
    return particles.pixel_size if particles.pixel_size_known and particles.metadata is None else None


def stated_tilt_range(particles: Particles) -> tuple[float, float] | None:
    """The tilt range (degrees) of subtomograms, which may have been given by hand; None where there is none."""
    wedge = particles.wedge
    return (wedge.low, wedge.high) if isinstance(wedge, TiltRange) else None


def _options(settings: Settings, *, model_decides: bool) -> Iterator[str]:
    for field in fields(Settings):
        value = getattr(settings, field.name)
        # without the option, a model's own transformations would be taken
        needed = value != field.default or (field.name == "transforms" and model_decides)
        if not needed or field.name in _WITHOUT:
            continue
        yield f"--{_SPELLED.get(field.name, field.name).replace('_', '-')}"
        if isinstance(value, tuple):
            yield _list(field.name, [str(item) for item in value])
        elif field.name == "memory":
            yield size_text(value)
        elif not isinstance(value, bool):
            yield _number(value) if isinstance(value, float) else str(value)


def _list(name: str, items: list[str]) -> str:
    for item in items:
        if "," in item or item != item.strip():
            raise InputError(f"{name}: the command line cannot take '{item}'; rename it without commas and end blanks.")
    return ",".join(items)


def _number(value: float) -> str:
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))
