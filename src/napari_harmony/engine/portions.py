"""How much of a large data set is in memory at a time, and where the rest waits meanwhile. Loads no torch."""

from __future__ import annotations

import math
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from napari_harmony.engine.counts import Problem
from napari_harmony.engine.geometry import Geometry, working_geometry
from napari_harmony.engine.settings import Settings
from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import Particles

#: Environment variable that names the folder of all caches in place of the user's own.
FOLDER = "NAPARI_HARMONY_CACHE"
MEBIBYTE = 2**20
#: What is held of every particle: as prepared, the usable ones, and the two halves.
COPIES = 3
#: Fewest particles that classes are searched among, and fewest and most that are placed at a time.
LEAST_SAMPLE, LEAST_PORTION, MOST_PORTION = 200, 64, 4096
#: Disk that is left free at least, so that results can be written.
SPARE = 64 * MEBIBYTE


@dataclass(frozen=True)
class Portions:
    """How the particles of a data set that does not fit in memory are divided.

    Attributes
    ----------
    sample : particles among which classes and poses are searched, and which the network learns
    portion : particles that are placed at a time
    disk : bytes of the file in which all particles wait
    """

    sample: int
    portion: int
    disk: int


def bytes_each(geometry: Geometry) -> tuple[float, float]:
    """What one particle takes in memory: its data in all copies, and its samples as a search looks at them."""
    whole = Problem(1, geometry, Settings()).samples(math.inf)
    return COPIES * geometry.box * (geometry.box // 2 + 1) * (8 + 4), 3 * 8 * whole


def stored_each(geometry: Geometry) -> int:
    """Bytes of one particle in the file: real and imaginary parts as 16-bit numbers."""
    return geometry.box * (geometry.box // 2 + 1) * 2 * 2


def portions_of(particles: Particles, settings: Settings) -> Portions | None:
    """How the particles are divided; None where they fit in the memory that the settings allow.

    Subtomograms, and the published objective, are always held in memory.
    """
    if particles.dimensions == 3 or settings.objective != "harmony":
        return None
    geometry = working_geometry(particles, settings)
    fitting = int(settings.memory // sum(bytes_each(geometry)))
    if len(particles) <= max(fitting, LEAST_SAMPLE):
        return None
    portion = min(MOST_PORTION, max(LEAST_PORTION, fitting // 2))
    return Portions(max(fitting, LEAST_SAMPLE), portion, len(particles) * stored_each(geometry))


def user_folder() -> Path:
    """The folder of all caches."""
    chosen = os.environ.get(FOLDER)
    return Path(chosen) if chosen else user_cache_path("napari-harmony", appauthor=False)


def cache_folder(settings: Settings) -> Path:
    """Where particles wait that do not fit in memory."""
    return Path(settings.cache).expanduser() if settings.cache else user_folder()


def check_room(folder: Path, needed: int) -> None:
    """Make the folder of the cache and see whether ``needed`` bytes fit.

    Raises
    ------
    InputError : it cannot be written, or its disk has too little room
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise InputError(f"{folder}: this folder for the cache cannot be made ({error.strerror}); {_ELSE}.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: this folder for the cache is not writable; {_ELSE}.")
    if free < needed + SPARE:
        raise InputError(
            f"{folder}: {in_words(needed)} are needed for the cache of the particles, and {in_words(free)} are free; "
            f"{_ELSE}."
        )


_ELSE = "choose another with --cache, or allow more memory with --memory"


def in_words(size: float) -> str:
    """Bytes as people say them."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / 1e3:.0f} kB"


def peak_memory() -> int | None:
    """Bytes that this process has held at most; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
