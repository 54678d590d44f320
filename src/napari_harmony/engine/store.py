"""Particles that do not fit in memory, waiting on disk: normalised, Fourier-cropped, as 16-bit numbers in one file.

The file has no name where the system allows it, so that nothing is left of it however the process ends. It is written
and read front to back with plain reads: pages of a memory map would count as memory of the process, and reading here
and there is slow on network drives. Normalised samples are of the order of one, and at most of some thousands: 16-bit
numbers hold them to one part in two thousand, far below the noise.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import torch

from napari_harmony.engine.disk import kept_on
from napari_harmony.engine.geometry import Geometry, name_of, working_geometry
from napari_harmony.engine.portions import cache_folder, check_room, in_words, stored_each
from napari_harmony.engine.preprocess import (
    BATCH,
    NoiseSpectrum,
    Prepared,
    of_all,
    on_rings,
    repeated,
    seen_through,
    transformed,
)
from napari_harmony.engine.reading import alike, read_ahead
from napari_harmony.engine.subsets import subsets_of
from napari_harmony.engine.team import ALONE, Team
from napari_harmony.engine.work import Work
from napari_harmony.errors import InferenceError, InputError
from napari_harmony.particles.images import storage_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.engine.settings import Settings
    from napari_harmony.particles.dataset import Particles

#: The largest 16-bit number.
LARGEST = 65504.0
#: Particles that are looked through at a time where some of them are wanted.
LOOKED_THROUGH = 1024


@dataclass
class Store:
    """All particles of a data set, of which some are in memory at a time.

    Attributes
    ----------
    particles : the data set, n of them
    geometry : lengths
    order : (n,) rows in the order in which they lie in the file
    noise, usable, flags, keys, subset_number : as in ``Prepared``
    device : where prepared particles go
    passes : how often the file was read from front to back; whoever does so counts
    """

    particles: Particles
    geometry: Geometry
    order: NDArray[np.int64]
    noise: torch.Tensor
    flags: NDArray[np.object_]
    keys: NDArray[np.uint64]
    subset_number: NDArray[np.int64] | None
    device: torch.device
    _file: IO[bytes]
    passes: int = 0

    def __post_init__(self) -> None:
        self._place = np.empty_like(self.order)
        self._place[self.order] = np.arange(len(self.order))

    def __len__(self) -> int:
        return len(self.order)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """(n,) as in ``Prepared``."""
        return np.asarray(self.flags == "", dtype=bool)

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()

    def portions(self, size: int) -> list[NDArray[np.int64]]:
        """The usable rows, divided as they lie in the file: from at most ``size`` places each."""
        usable = self.usable
        parts = (self.order[start : start + size] for start in range(0, len(self), size))
        return [rows for part in parts if len(rows := part[usable[part]])]

    def preparing(self, rows: NDArray[np.int64], some: slice = slice(None)) -> Work[Prepared]:
        """The particles in ``rows`` (m,), in this order; yields the fraction done.

        Only ``some`` of them are read, and the others zero.
        """
        box, half = self.geometry.box, self.geometry.box // 2 + 1
        samples = torch.zeros(len(rows), box, half, dtype=torch.complex64, device=self.device)
        ctf = torch.zeros(len(rows), box, half, device=self.device)
        inverse, done, read = on_rings(1.0 / self.noise, box), 0, rows[some]
        for at, found in self._found(read):
            numbers = torch.as_tensor(found, device=self.device).float()
            place = torch.as_tensor(at, device=self.device)
            samples[some][place] = torch.view_as_complex(numbers) * inverse
            parameters = None if self.particles.ctf is None else self.particles.ctf.subset(read[at])
            ctf[some][place] = seen_through(parameters, len(at), self.geometry, self.device) * inverse
            done += len(at)
            yield done / len(read)
        subset = None if self.subset_number is None else self.subset_number[rows]
        usable = np.ones(len(rows), dtype=bool)
        return Prepared(samples, ctf, self.noise, usable, self.flags[rows], self.keys[rows], self.geometry, subset)

    def _found(self, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """The place of some of the rows among them, and their samples (m, box, box // 2 + 1, 2), front to back."""
        places = self._place[rows]
        sequence = np.argsort(places, kind="stable")
        blocks = places[sequence] // LOOKED_THROUGH
        for at in filter(len, np.split(sequence, np.flatnonzero(np.diff(blocks)) + 1)):
            first, last = int(places[at[0]]), int(places[at[-1]])
            block = self._read(first, last + 1 - first)
            yield at, block[places[at] - first]

    def _read(self, first: int, count: int) -> NDArray[np.float16]:
        box, half = self.geometry.box, self.geometry.box // 2 + 1
        numbers = np.empty((count, box, half, 2), np.float16)
        left = numbers.view(np.uint8).reshape(-1).data
        self._file.seek(first * stored_each(self.geometry))
        while len(left):
            got = self._file.readinto(left)  # type: ignore[attr-defined]
            if not got:
                raise InferenceError("The cache of the particles ended before all were read; was its disk removed?")
            left = left[got:]
        return numbers


def stored(particles: Particles, settings: Settings, device: torch.device, team: Team = ALONE) -> Work[Store]:
    """Read the particles once, as they lie in their files, into a file of their own; yields the fraction done.

    Processes of one node read a share each, into one file.

    Raises
    ------
    InputError : the folder of the cache cannot be used or has too little room, or no particle can be used
    InferenceError : the disk became full on the way
    """
    geometry = working_geometry(particles, settings)
    folder, needed = cache_folder(settings), len(particles) * stored_each(geometry)
    check_room(folder, needed)
    file, team = _opened(folder, team)
    try:
        return (yield from _filled(file, folder, particles, geometry, device, team))
    except BaseException:
        file.close()
        raise


def _opened(folder: Path, team: Team) -> tuple[IO[bytes], Team]:
    """A new file in the folder, and the processes that have it open; each has its own where they cannot share one."""
    if team.near is not None:
        file = None
        with suppress(OSError):
            file = _new(folder) if team.first else None
        opened = team.gather(torch.tensor([-1 if file is None else file.fileno()]))
        with suppress(OSError):
            if not team.first:
                file = open(f"/proc/{team.near.processes[0]}/fd/{int(opened[0])}", "r+b", buffering=0)  # noqa: SIM115
        if int(team.sum(torch.tensor([int(file is not None)]))) == team.size:
            assert file is not None
            return file, team
    try:
        return _new(folder), ALONE
    except OSError as error:
        raise InputError(f"{folder}: the cache cannot be written there ({error.strerror}).") from error


def _new(folder: Path) -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="napari-harmony-", dir=folder, buffering=0)


def _filled(
    file: IO[bytes], folder: Path, particles: Particles, geometry: Geometry, device: torch.device, team: Team
) -> Work[Store]:
    """The store with what was read, in ``file``."""
    count, order, each = len(particles), storage_order(particles.images), stored_each(geometry)
    spectrum = NoiseSpectrum(geometry, device)
    words, prints = np.full(count, "", dtype=object), np.zeros(count, np.uint64)  # as they lie in the file

    def read(mine: slice) -> Work[None]:
        starts = range(mine.start, mine.stop, BATCH)
        places = [slice(start, min(start + BATCH, mine.stop)) for start in starts]
        file.seek(mine.start * each)
        with closing(read_ahead(particles, [order[place] for place in places])) as coming:
            for number, (place, images) in enumerate(zip(places, coming, strict=True), 1):
                samples, words[place], prints[place] = transformed(images, spectrum)
                short = torch.view_as_real(samples).clamp_(-LARGEST, LARGEST).to(torch.float16)
                _write(file, short.cpu().numpy(), folder, count * each)
                yield number / len(places)

    yield from alike(team, read, count)
    spectrum.share(team)
    flags, keys = np.empty_like(words), np.empty_like(prints)
    flags[order], keys[order] = of_all(team, words, prints, device)
    flags[(flags == "") & repeated(keys)] = "duplicate"
    if not (flags == "").any():
        raise InputError(f"{name_of(particles)}: no image holds a finite signal; check the stack.")
    noise = spectrum.amplitude()
    return Store(particles, geometry, order, noise, flags, keys, subsets_of(particles), device, file)


def _write(file: IO[bytes], numbers: NDArray[np.float16], folder: Path, needed: int) -> None:
    """Append all of the numbers."""
    left = np.ascontiguousarray(numbers).view(np.uint8).reshape(-1).data
    advice = "make room, or choose another folder with --cache"
    with kept_on(folder, f"the cache of the particles, {in_words(needed)},", advice):
        while len(left):
            left = left[file.write(left) :]


def drawn(store: Store, count: int, seed: int) -> NDArray[np.int64]:
    """``count`` of the usable rows by chance, sorted by fingerprint; which ones does not depend on their order."""
    rows = np.flatnonzero(store.usable)
    keys = store.keys[rows]
    chance = _mixed(keys ^ _mixed(np.array([seed + 1], np.uint64)))
    rows = rows[np.argsort(chance, kind="stable")[:count]]
    return rows[np.argsort(store.keys[rows], kind="stable")]


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Other numbers, one for each, that look random (the finaliser of SplitMix64, Steele et al. 2014)."""
    z = numbers + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)), dtype=np.uint64)
