"""Subtomograms cut out of a tomogram, one box at a time: no more than one box is ever held.

Cutting is done at whole voxels. What a position differs from the centre of its box goes into the particle's origin, so
that nothing is resampled and nothing lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

from napari_harmony.errors import InputError
from napari_harmony.particles.coordinates import Coordinates
from napari_harmony.particles.extract_write import ExtractionFolder
from napari_harmony.particles.filaments import along_lines
from napari_harmony.particles.files import warn
from napari_harmony.particles.tomogram import Tomogram
from napari_harmony.particles.wedge import TiltRange

if TYPE_CHECKING:
    from numpy.typing import NDArray

EDGES = ("pad", "drop")
_SWAPS = ((0, 2), (0, 1), (1, 2))  # of axes x, y, z, the likeliest first: arrays are indexed z, y, x


@dataclass(frozen=True)
class ExtractSettings:
    """How subtomograms are cut out.

    Attributes
    ----------
    box : edge of the subtomograms as they are written, in (binned) voxels
    bin : how many voxels of the tomogram become one, along each axis, by cutting in Fourier space
    edge : of boxes that reach beyond the tomogram: ``pad`` with the mean of the rest, or ``drop`` the particle
    invert : exchange dark and bright, so that particles are white
    normalise : to mean 0 and standard deviation 1
    tilt_range : degrees of the tilt series about y, written beside the particles; None where unknown
    """

    box: int
    bin: int = 1
    edge: str = "pad"
    invert: bool = False
    normalise: bool = True
    tilt_range: TiltRange | None = None

    def __post_init__(self) -> None:
        if self.box < 4:
            raise InputError(f"the box is {self.box} voxels; give at least 4.")
        if self.bin < 1:
            raise InputError(f"the binning is {self.bin}; give a whole number from 1.")
        if self.edge not in EDGES:
            raise InputError(f"what to do at edges is '{self.edge}'; choose from {', '.join(EDGES)}.")


@dataclass(frozen=True, eq=False)
class ExtractionPlan:
    """Which boxes are cut where.

    Attributes
    ----------
    coordinates : those that are cut out, k of them, in voxels of the tomogram
    centres : (k, 3) whole voxels (x, y, z) that come to lie at voxel floor(box / 2)
    padded : how many boxes reach beyond the tomogram and are padded
    dropped : how many particles were left out for that
    """

    coordinates: Coordinates
    centres: NDArray[np.int64]
    padded: int
    dropped: int

    @property
    def origins(self) -> NDArray[np.float64]:
        """RELION's origins in voxels of the tomogram, (k, 3): what shifts a particle into the centre of its box."""
        return self.centres - self.coordinates.positions


@dataclass(frozen=True)
class Extracting:
    """``done`` of ``total`` subtomograms are cut."""

    done: int
    total: int


@dataclass(frozen=True)
class Extracted:
    """All subtomograms are written.

    Attributes
    ----------
    path : the STAR file that lists them
    count : how many
    padded, dropped : as in the plan
    flat : how many have one value everywhere
    """

    path: Path
    count: int
    padded: int
    dropped: int
    flat: int


def plan_extraction(tomogram: Tomogram, coordinates: Coordinates, settings: ExtractSettings) -> ExtractionPlan:
    """Check that the coordinates fit the tomogram, and decide what is cut.

    Parameters
    ----------
    tomogram : to cut from
    coordinates : in this tomogram alone, in any voxels (see ``Coordinates.in_voxels``)
    settings : of the boxes

    Raises
    ------
    InputError : coordinates outside or with their axes swapped; pixel sizes that differ; a box larger than the
        tomogram; nothing left to cut
    """
    _check_box(tomogram, settings)
    size = tomogram.voxel_size if tomogram.voxel_size_known else None
    here = coordinates.in_voxels(size, shape=tomogram.shape, where=tomogram.path)
    limits = np.array(tomogram.shape[::-1])
    _check_inside(here, limits, tomogram.path)
    centres = np.floor(here.positions + 0.5).astype(np.int64)
    corner = centres - settings.bin * (settings.box // 2)
    beyond = ((corner < 0) | (corner + settings.bin * settings.box > limits)).any(1)
    if settings.edge == "pad":
        return ExtractionPlan(here, centres, int(beyond.sum()), 0)
    if beyond.all():
        raise InputError(
            f"{here.name}: all {len(here)} boxes of {settings.bin * settings.box} voxels reach beyond {tomogram.path}, "
            "so nothing is left; pad them, or take a smaller box."
        )
    return ExtractionPlan(here.subset(~beyond), centres[~beyond], 0, int(beyond.sum()))


def particles_along_lines(tomogram: Tomogram, traced: Coordinates, every: float) -> Coordinates:
    """Particles every so many angstrom along filaments of a tomogram (see ``along_lines``).

    Parameters
    ----------
    tomogram : to cut from
    traced : points along filaments in this tomogram alone, in any voxels (see ``Coordinates.in_voxels``)
    every : angstrom between particles

    Raises
    ------
    InputError : points outside or with their axes swapped; pixel sizes that differ or are unknown; no line
    """
    size = tomogram.voxel_size if tomogram.voxel_size_known else None
    here = traced.in_voxels(size, shape=tomogram.shape, where=tomogram.path)
    _check_inside(here, np.array(tomogram.shape[::-1]), tomogram.path)
    return along_lines(here, every, size or here.pixel_size)


def _check_box(tomogram: Tomogram, settings: ExtractSettings) -> None:
    edge = settings.bin * settings.box
    if edge > max(tomogram.shape):
        size = " x ".join(map(str, tomogram.shape[::-1]))
        binned = f" ({settings.box} voxels binned by {settings.bin})" if settings.bin > 1 else ""
        raise InputError(
            f"the box of {edge} voxels{binned} is larger than {tomogram.path} ({size} voxels in x, y, z); take a "
            "smaller box or binning."
        )


def _check_inside(coordinates: Coordinates, limits: NDArray[np.int64], where: Path) -> None:
    outside = _outside(coordinates.positions, limits)
    if not outside.any():
        return
    size = " x ".join(map(str, limits.tolist()))
    what = f"{coordinates.name}: {outside.sum()} of {len(outside)} coordinates lie outside {where}"
    # a few strays may fit another order by chance, so that only the usual mistake is believed of them
    for one, other in _SWAPS if 2 * outside.sum() > len(outside) else _SWAPS[:1]:
        order = list("xyz")
        order[one], order[other] = order[other], order[one]
        if not _outside(coordinates.positions[:, ["xyz".index(axis) for axis in order]], limits).any():
            raise InputError(
                f"{what} ({size} voxels in x, y, z), and all lie inside when read as {', '.join(order)}: their axes "
                f"are swapped; exchange the columns {'xyz'[one]} and {'xyz'[other]}."
            )
    first = np.flatnonzero(outside)[0]
    position = ", ".join(f"{value:.6g}" for value in coordinates.positions[first])
    raise InputError(
        f"{what} ({size} voxels in x, y, z), the first is that of particle {first + 1} at {position}; check binning "
        "and tomogram, or delete them."
    )


def _outside(positions: NDArray[np.float64], limits: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray(np.any((positions < -0.5) | (positions >= limits - 0.5), axis=1))


def extract(
    tomogram: Tomogram, coordinates: Coordinates, folder: Path, settings: ExtractSettings
) -> Iterator[Extracting | Extracted]:
    """Cut subtomograms out of a tomogram and write them, one file each, with a STAR file that RELION reads.

    The files appear together when the last one is written; a generator that is closed before leaves nothing.

    Parameters
    ----------
    tomogram, coordinates, settings : see ``plan_extraction``
    folder : gets ``particles.star`` and ``subtomograms/``

    Yields
    ------
    ``Extracting`` after each particle, then one ``Extracted``

    Raises
    ------
    InputError : as ``plan_extraction``; voxels that are not numbers; a folder that cannot be used
    """
    plan = plan_extraction(tomogram, coordinates, settings)
    voxel = tomogram.voxel_size if tomogram.voxel_size_known else plan.coordinates.pixel_size
    if voxel is None:
        warn(f"neither {tomogram.path} nor {coordinates.name} says how large a voxel is; 1 A was written.")
    total, flat, bad_voxels = len(plan.centres), 0, 0
    bad: list[str] = []
    with ExtractionFolder(folder) as target:
        for row, centre in enumerate(plan.centres):
            raw = cut_box(tomogram, centre, settings)
            wrong = int((~np.isfinite(raw)).sum())
            if wrong:
                bad.append(f"particle {row + 1} at {', '.join(map(str, centre.tolist()))}")
                bad_voxels += wrong
            elif not bad:
                box, deviation = finished(raw, settings)
                flat += deviation == 0
                target.add(box, (voxel or 1.0) * settings.bin)
            yield Extracting(row + 1, total)
        if bad:
            raise InputError(
                f"{tomogram.path} has {bad_voxels} voxels that are not numbers in the boxes of {len(bad)} of {total} "
                f"particles, the first is {bad[0]} (x, y, z); nothing was extracted: repair the tomogram, or delete "
                "these coordinates."
            )
        path = target.publish(plan, settings, voxel, tomogram.path)
    yield Extracted(path, total, plan.padded, plan.dropped, flat)


def cut_box(tomogram: Tomogram, centre: NDArray[np.int64], settings: ExtractSettings) -> NDArray[np.float32]:
    """One box (z, y, x) of ``box * bin`` voxels, padded with the mean of what lies inside the tomogram.

    The voxel ``centre`` (x, y, z) lies at ``bin * floor(box / 2)``, which binning brings to floor(box / 2).
    """
    size = settings.box * settings.bin
    corner = centre[::-1] - settings.bin * (settings.box // 2)
    start, stop = np.maximum(corner, 0), np.minimum(corner + size, tomogram.shape)
    inside = tomogram.read(start.tolist(), stop.tolist())
    if inside.shape == (size, size, size):
        return inside
    with np.errstate(invalid="ignore"):
        out = np.full((size, size, size), inside.mean(dtype=np.float64), np.float32)
    out[tuple(slice(a, b) for a, b in zip(start - corner, stop - corner, strict=True))] = inside
    return out


def finished(raw: NDArray[np.float32], settings: ExtractSettings) -> tuple[NDArray[np.float32], float]:
    """A box binned, inverted and normalised as asked, and its standard deviation before normalisation."""
    box = fourier_binned(raw, settings.bin)
    if settings.invert:
        box = -box
    mean, deviation = float(box.mean(dtype=np.float64)), float(box.std(dtype=np.float64))
    if deviation <= 1e-6 * abs(mean):  # rounding errors of one value everywhere
        deviation = 0.0
    if settings.normalise:
        box = (box - np.float32(mean)) / np.float32(deviation or 1.0)
        box = box if deviation else np.zeros_like(box)
    return box, deviation


def fourier_binned(volume: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """A cube with ``factor`` times fewer voxels along each edge, of the low frequencies only; its mean is kept.

    The first voxel of both lies at the same place.
    """
    if factor == 1:
        return volume
    size = volume.shape[0]
    small = size // factor
    spectrum = fft.rfftn(volume)[..., : small // 2 + 1]
    for axis in (0, 1):
        frequency = np.round(np.fft.fftfreq(small) * small).astype(np.int64)
        cut = np.take(spectrum, frequency % size, axis=axis)
        if small % 2 == 0:  # -small/2 and +small/2 become one
            edge = [slice(None)] * 3
            edge[axis] = slice(small // 2, small // 2 + 1)
            cut[tuple(edge)] = 0.5 * (cut[tuple(edge)] + np.take(spectrum, [small // 2], axis=axis))
        spectrum = cut
    return np.asarray(fft.irfftn(spectrum, (small, small, small)) * (small / size) ** 3, np.float32)
