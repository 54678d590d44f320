"""Read RELION particle files (STAR of versions 3.0 to 5): rows, stacks, pixel size and CTF."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_harmony.errors import InputError
from napari_harmony.particles.ctf import CtfParameters
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.files import warn
from napari_harmony.particles.images import FileImages
from napari_harmony.particles.mrc import MrcHeader
from napari_harmony.particles.resolve import PathFinder
from napari_harmony.particles.stacks import StackOpener
from napari_harmony.particles.star import StarDocument, StarTable, read_star

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: CTF parameters: label, value where the file leaves it out (None: it must be there)
_CTF_LABELS: dict[str, tuple[str, float | None]] = {
    "defocus_u": ("rlnDefocusU", None),
    "defocus_v": ("rlnDefocusV", None),
    "defocus_angle": ("rlnDefocusAngle", None),
    "voltage": ("rlnVoltage", None),
    "spherical_aberration": ("rlnSphericalAberration", None),
    "amplitude_contrast": ("rlnAmplitudeContrast", None),
    "phase_shift": ("rlnPhaseShift", 0.0),
    "b_factor": ("rlnCtfBfactor", 0.0),
}
_SUBTOMOGRAM_LABELS = ("rlnCtfImage", "rlnTomoParticleName", "rlnTomoName", "rlnTomoParticleId")


@dataclass(frozen=True, eq=False)
class RelionMetadata:
    """A STAR file of particles.

    Attributes
    ----------
    path : of the file
    document : the whole file
    particles : its table of particles
    optics : its table of optics groups, None before RELION 3.1
    optics_row : (n,) row of ``optics`` for every particle, None without optics
    roots : folders from which relative image paths were found to start
    dimensions : 2 for images, 3 for subtomograms
    """

    path: Path
    document: StarDocument = field(repr=False)
    particles: StarTable = field(repr=False)
    optics: StarTable | None = field(repr=False)
    optics_row: NDArray[np.int64] | None = field(repr=False)
    roots: tuple[Path, ...] = ()
    dimensions: int = 2

    @property
    def in_angstrom(self) -> bool:
        """Whether shifts are in angstrom (RELION >= 3.1) rather than pixels (3.0)."""
        return self.optics is not None or any(f"rlnOrigin{axis}Angst" in self.particles for axis in "XYZ")

    def values(self, label: str) -> NDArray[np.float64] | None:
        """Numbers per particle, (n,), from the particle's row or else its optics group; None where neither has it."""
        if label in self.particles:
            return self.particles.numbers(label)
        if self.optics is not None and self.optics_row is not None and label in self.optics:
            return self.optics.numbers(label)[self.optics_row]
        return None

    def group_names(self, rows: NDArray[Any]) -> str:
        """Names of the optics groups that these particles belong to, for messages."""
        if self.optics is None or self.optics_row is None or "rlnOpticsGroupName" not in self.optics:
            return "its rows"
        names = self.optics.texts("rlnOpticsGroupName")
        return ", ".join(names[row] for row in np.unique(self.optics_row[rows]))


def read_metadata(path: str | os.PathLike[str]) -> RelionMetadata:
    """Read a STAR file and find its particles and optics groups; opens no image file.

    Raises
    ------
    InputError : not a file of particle images or subtomograms, or a damaged one
    """
    document = read_star(path)
    named = document.table("particles")
    particles = named if named is not None else document.table_with("rlnImageName")
    dimensions = _dimensions(document, particles)
    if particles is None or "rlnImageName" not in particles:
        raise InputError(
            f"{document.path} names no particle images (rlnImageName is missing); extract the particles first."
        )
    if len(particles) == 0:
        raise InputError(f"{document.path}: {particles.name} has no rows; there are no particles to read.")
    optics = document.table("optics")
    rows = _optics_rows(document.path, particles, optics)
    return RelionMetadata(document.path, document, particles, optics, rows, dimensions=dimensions)


def _dimensions(document: StarDocument, particles: StarTable | None) -> int:
    """3 for subtomograms, 2 for images; subtomograms that were extracted as stacks of tilt images are refused."""
    flat = document.table_with("rlnTomoSubTomosAre2DStacks")
    if flat is not None:
        if flat.integers("rlnTomoSubTomosAre2DStacks").any():
            raise tilt_stacks_error(document.path)
        return 3
    optics = document.table("optics")
    has_dimensions = optics is not None and "rlnImageDimensionality" in optics
    if optics is not None and has_dimensions and (optics.integers("rlnImageDimensionality") == 3).any():
        return 3
    named = particles is not None and "rlnImageName" in particles
    return 3 if named and particles is not None and any(label in particles for label in _SUBTOMOGRAM_LABELS) else 2


def tilt_stacks_error(where: object) -> InputError:
    """What to say of subtomograms that are no volumes."""
    return InputError(
        f"{where} lists subtomograms extracted as 2D tilt stacks, which are no volumes; extract them again in RELION "
        "with 'Write output as 2D stacks' set to No, or from a tomogram with 'napari-harmony extract'."
    )


def _optics_rows(path: Path, particles: StarTable, optics: StarTable | None) -> NDArray[np.int64] | None:
    if optics is None:
        return None
    if "rlnOpticsGroup" not in particles or "rlnOpticsGroup" not in optics:
        if len(optics) == 1:
            return np.zeros(len(particles), np.int64)
        raise InputError(f"{path}: rlnOpticsGroup is missing, so the {len(optics)} optics groups cannot be told apart.")
    groups = optics.integers("rlnOpticsGroup")
    order = np.argsort(groups)
    wanted = particles.integers("rlnOpticsGroup")
    place = np.minimum(np.searchsorted(groups, wanted, sorter=order), len(groups) - 1)
    rows = order[place] if len(groups) else place
    lost = np.flatnonzero(groups[rows] != wanted) if len(groups) else np.arange(len(wanted))
    if len(lost):
        line = particles.lines[lost[0]] + 1
        raise InputError(f"{path}, line {line}: optics group {wanted[lost[0]]} is not in table data_optics; add it.")
    return rows


def read_relion(path: str | os.PathLike[str], *, pixel_size: float | None = None) -> Particles:
    """Open the particles, images or subtomograms, of a STAR file; reads image headers, no images.

    Parameters
    ----------
    path : of the STAR file
    pixel_size : angstrom; overrides what the file says

    Raises
    ------
    InputError : see ``read_metadata``; also missing stacks, indices beyond their end, pixel or box sizes that differ,
        CTF parameters that are incomplete, images multiplied by their CTF
    """
    metadata = read_metadata(path)
    if metadata.dimensions == 3:
        from napari_harmony.particles.subtomograms import read_subtomograms

        return read_subtomograms(metadata, pixel_size=pixel_size)
    ctf = _ctf(metadata)
    stated = pixel_size or pixel_size_of(metadata)
    images, opener = _images(metadata)
    in_header = _header_pixel_size(opener.headers)
    if stated and not pixel_size and in_header and abs(in_header / stated - 1) > 0.01 and in_header != 1:
        warn(f"{metadata.path} gives {stated:g} A per pixel and its stacks {in_header:g}; the STAR file was followed.")
    known = stated or in_header
    return Particles(
        images=images,
        table=table_of(metadata),
        pixel_size=known or 1.0,
        ctf=ctf,
        metadata=replace(metadata, roots=tuple(opener.finder.used)),
        path=metadata.path,
        pixel_size_known=bool(known),
    )


def table_of(metadata: RelionMetadata) -> pd.DataFrame:
    """All columns of the particles under their labels, rows in file order."""
    return pd.DataFrame({label: metadata.particles.column(label) for label in metadata.particles.labels})


def pixel_size_of(metadata: RelionMetadata) -> float | None:
    """Angstrom per pixel, one for all particles; None where the file does not say."""
    sizes = pixel_sizes(metadata)
    if sizes is None:
        return None
    if not np.all(np.isfinite(sizes) & (sizes > 0)):
        row = int(np.flatnonzero(~(np.isfinite(sizes) & (sizes > 0)))[0])
        line = metadata.particles.lines[row] + 1
        raise InputError(f"{metadata.path}, line {line}: the pixel size comes to {sizes[row]:g} A; correct it.")
    first = float(sizes[0])
    other = np.abs(sizes / first - 1) > 1e-4
    if other.any():
        second = float(sizes[np.flatnonzero(other)[0]])
        raise InputError(
            f"{metadata.path} mixes pixel sizes: {first:g} A ({metadata.group_names(np.flatnonzero(~other))}) and "
            f"{second:g} A ({metadata.group_names(np.flatnonzero(other))}); rescale the stacks to one size, or "
            "split the file by optics group."
        )
    return first


def pixel_sizes(metadata: RelionMetadata) -> NDArray[np.float64] | None:
    """Angstrom per pixel of every particle as its STAR file says, (n,), None where it does not."""
    for label in ("rlnImagePixelSize", "rlnPixelSize"):
        sizes = metadata.values(label)
        if sizes is not None:
            return sizes
    detector, magnification = metadata.values("rlnDetectorPixelSize"), metadata.values("rlnMagnification")
    if detector is None or magnification is None:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1e4 * detector / magnification


def _header_pixel_size(headers: Sequence[MrcHeader]) -> float | None:
    sizes = {round(header.pixel_size, 4) for header in headers if header.pixel_size}
    return sizes.pop() if len(sizes) == 1 else None


def _ctf(metadata: RelionMetadata) -> CtfParameters | None:
    """CTF parameters of all particles, None where the file has no defocus."""
    premultiplied = metadata.values("rlnCtfDataAreCtfPremultiplied")
    if premultiplied is not None and premultiplied.any():
        raise InputError(
            f"{metadata.path}: the images were multiplied by their CTF (rlnCtfDataAreCtfPremultiplied); extract them "
            "again without that."
        )
    if metadata.values("rlnDefocusU") is None:
        return None
    columns = {}
    for name, (label, default) in _CTF_LABELS.items():
        values = metadata.values(label)
        if values is None and default is None:
            raise InputError(
                f"{metadata.path} has rlnDefocusU and no {label}, so its CTF is incomplete; add the column {label}, or "
                "remove rlnDefocusU to go without a CTF."
            )
        values = np.full(len(metadata.particles), default) if values is None else values
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            line = metadata.particles.lines[row] + 1
            raise InputError(f"{metadata.path}, line {line}: {label} is {values[row]}; give a number.")
        columns[name] = values
    return CtfParameters(**columns, phase_flipped=_phase_flipped(metadata))


def _phase_flipped(metadata: RelionMetadata) -> bool:
    flipped = metadata.values("rlnCtfDataArePhaseFlipped")
    if flipped is None:
        return False
    if flipped.any() and not flipped.all():
        raise InputError(f"{metadata.path} mixes images with and without rlnCtfDataArePhaseFlipped; split it.")
    return bool(flipped.any())


def _images(metadata: RelionMetadata) -> tuple[FileImages, StackOpener]:
    """The images of all rows, in row order, and what opened their files."""
    opener = StackOpener(metadata.path, PathFinder(metadata.path, metadata.document.content[:4096]))
    count = len(metadata.particles)
    file_of, frame_of = np.zeros(count, np.int32), np.zeros(count, np.int64)
    numbers: dict[str, int] = {}
    zeros = 0
    for row, name in enumerate(metadata.particles.texts("rlnImageName")):
        index, at, stack = name.partition("@") if "@" in name else ("", "", name)
        number = numbers.get(stack)
        if number is None:
            number = numbers[stack] = opener.add(stack, single=not at)
        if at:
            if not index.isdigit():
                raise InputError(f"{_row(metadata, row)}: '{name}' has no image number before the @; correct it.")
            frame = int(index) - 1
            if frame < 0:
                zeros, frame = zeros + 1, 0
            frame_of[row] = frame
        file_of[row] = number
    if zeros:
        warn(f"{metadata.path} has {zeros} image numbers 0; they count from 1, so image 1 was taken, as RELION does.")
    beyond = np.flatnonzero(frame_of >= opener.counts()[file_of])
    if len(beyond):
        row = int(beyond[0])
        stack = opener.frames[file_of[row]]
        raise InputError(
            f"{_row(metadata, row)}: image {frame_of[row] + 1} is asked of {stack.path}, which has {stack.shape[0]}; "
            "check that it is the right stack."
        )
    return FileImages(opener.frames, file_of, frame_of), opener


def _row(metadata: RelionMetadata, row: int) -> str:
    return f"{metadata.path}, line {metadata.particles.lines[row] + 1}"
