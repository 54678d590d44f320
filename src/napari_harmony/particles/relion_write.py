"""Write RELION particle files: the rows that came in, with result columns in the dialect of the file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.files import inner_suffix, replacing
from napari_harmony.particles.images import FileImages, Frames
from napari_harmony.particles.mrc import write_stack, write_volume
from napari_harmony.particles.relion_read import RelionMetadata, pixel_sizes
from napari_harmony.particles.resolve import ROOT_COMMENT, project_root, root_comment
from napari_harmony.particles.star import StarDocument, parse_star
from napari_harmony.particles.star_write import write_loop, write_star
from napari_harmony.particles.subtomograms import TILT_HIGH, TILT_LOW
from napari_harmony.particles.volumes import VolumeImages
from napari_harmony.particles.wedge import CoverageFiles, TiltRange

_MRC = (".mrcs", ".mrc", ".map", ".st")
_CTF_COLUMNS = {
    "rlnDefocusU": "defocus_u",
    "rlnDefocusV": "defocus_v",
    "rlnDefocusAngle": "defocus_angle",
    "rlnPhaseShift": "phase_shift",
    "rlnCtfBfactor": "b_factor",
}
_OPTICS_COLUMNS = {
    "rlnVoltage": "voltage",
    "rlnSphericalAberration": "spherical_aberration",
    "rlnAmplitudeContrast": "amplitude_contrast",
}
#: RELION refuses optics groups without these; they stand for "unknown" where there is no CTF
USUAL_OPTICS = {"rlnVoltage": 300.0, "rlnSphericalAberration": 2.7, "rlnAmplitudeContrast": 0.1}
NO_CTF = b"# voltage, aberration and amplitude contrast are placeholders: the input had no CTF parameters\n"
NO_PIXEL_SIZE = b"# the pixel size is a placeholder: the input did not say it\n"


def write_relion(
    path: str | os.PathLike[str],
    particles: Particles,
    columns: Mapping[str, Any] | None = None,
    *,
    rows: Sequence[int] | np.ndarray | None = None,
    place: Path | None = None,
) -> Path:
    """Write particles as a STAR file that RELION reads.

    Particles from a STAR file keep their file: all rows in order, unknown columns and other tables, byte for byte,
    with ``columns`` replaced or appended. Image paths keep their text, since RELION starts them from its project's
    root; where neither the new folder nor one above is that root, a comment at the top of the file says where they
    start, for our own reader.

    Other particles get a new file of RELION 3.1 with optics groups. Image paths in it start from the root of the RELION
    or cryoSPARC project that the stack lies in, or else are absolute. Images that RELION cannot read as they are (in
    memory; TIFF, whose rows it reverses; compressed) are written to ``<name>_images.mrcs`` beside the file. The sign
    that cryoSPARC gives its images (``blob/sign``) has no place in a STAR file; angles and origins do not depend on it.

    Parameters
    ----------
    path : to write; appears as a whole or not at all
    particles : n of them
    columns : label -> values (n,). Origins may be given in pixels (``rlnOriginX``) or angstrom (``rlnOriginXAngst``);
        the file gets them in its own dialect: pixels for RELION 3.0, angstrom since 3.1. Where it has columns of
        both, both are set, so that none is stale
    rows : which particles to write, in this order; None for all
    place : folder that the file will be moved to, where that is not its own

    Raises
    ------
    InputError : values that do not fit the particles in number, or a place that cannot be written
    """
    path = Path(path)
    given = {label.removeprefix("_"): np.asarray(values) for label, values in (columns or {}).items()}
    for label, values in given.items():
        if values.shape != (len(particles),):
            raise InputError(f"{path}: {label} has {values.shape[0]} values for {len(particles)} particles.")
    metadata = particles.metadata
    if isinstance(metadata, RelionMetadata):
        edits = _in_dialect(metadata, given, particles.pixel_size)
        document, table = _without_comment(metadata)
        comment = root_comment(place / path.name if place else path, metadata.roots)
        return write_star(path, document, table, edits, rows=rows, comment=comment)
    chosen = np.arange(len(particles)) if rows is None else np.asarray(rows, dtype=np.int64)
    names = _image_names(path, particles, chosen)
    with replacing(path) as file:
        for piece in _fresh(particles, given, chosen, names):
            file.write(piece)
    return path


def _without_comment(metadata: RelionMetadata) -> tuple[StarDocument, Any]:
    """The document without comments of ours on top, which would tell where paths started for its old place."""
    content = metadata.document.content
    if not content.startswith(ROOT_COMMENT.encode()):
        return metadata.document, metadata.particles
    while content.startswith(ROOT_COMMENT.encode()):
        content = content.partition(b"\n")[2]
    document = parse_star(content, metadata.path)
    return document, document.tables[metadata.document.tables.index(metadata.particles)]


def _in_dialect(metadata: RelionMetadata, columns: Mapping[str, Any], pixel_size: float) -> dict[str, Any]:
    """Columns with origins under the labels, and in the units, of the file.

    RELION divides angstroms by the pixel size of the file, so that is what pixels are multiplied by here, even where
    the user set another one for the run.
    """
    sizes = pixel_sizes(metadata)
    edits: dict[str, Any] = {}
    for label, values in columns.items():
        axis = _origin_axis(label)
        if axis is None:
            edits[label] = values
            continue
        pixels = values / pixel_size if label.endswith("Angst") else values
        in_pixels, in_angstrom = f"rlnOrigin{axis}", f"rlnOrigin{axis}Angst"
        if metadata.in_angstrom or in_angstrom in metadata.particles:
            edits[in_angstrom] = pixels * (pixel_size if sizes is None else sizes)
        if not metadata.in_angstrom or in_pixels in metadata.particles:
            edits[in_pixels] = pixels
    return edits


def _origin_axis(label: str) -> str | None:
    axis = label.removeprefix("rlnOrigin").removesuffix("Angst")
    return axis if label.startswith("rlnOrigin") and axis in ("X", "Y", "Z") else None


def _fresh(particles: Particles, columns: Mapping[str, Any], chosen: np.ndarray, names: list[str]) -> Iterator[bytes]:
    """A STAR file of RELION 3.1 for particles that came without one."""
    if particles.ctf is None:
        yield NO_CTF
    if not particles.pixel_size_known:
        yield NO_PIXEL_SIZE
    optics, group = _optics(particles, chosen)
    yield from write_loop("optics", optics)
    rows: dict[str, Any] = {"rlnImageName": np.array(names, dtype=object), "rlnOpticsGroup": group}
    if "rlnMicrographName" in particles.table:
        rows["rlnMicrographName"] = particles.table["rlnMicrographName"].to_numpy(dtype=object)[chosen]
    if isinstance(particles.wedge, CoverageFiles):
        wedges = [str(file.absolute()) for file in particles.wedge.files]
        rows["rlnCtfImage"] = np.array([wedges[i] for i in particles.wedge.file_of[chosen].tolist()], dtype=object)
    if particles.ctf is not None:
        rows |= {label: getattr(particles.ctf, name)[chosen] for label, name in _CTF_COLUMNS.items()}
    for label, values in columns.items():
        axis = _origin_axis(label)
        if axis is not None and not label.endswith("Angst"):
            rows[f"rlnOrigin{axis}Angst"] = values[chosen] * particles.pixel_size
        else:
            rows[label] = values[chosen]
    yield from write_loop("particles", rows)


def _optics(particles: Particles, chosen: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """The optics table, one group per combination of voltage, aberration and contrast, and each row's group."""
    ctf = particles.ctf
    if ctf is None:
        unique = np.array([list(USUAL_OPTICS.values())])
        group = np.zeros(len(chosen), np.int64)
    else:
        combined = np.column_stack([getattr(ctf, name)[chosen] for name in _OPTICS_COLUMNS.values()])
        unique, group = np.unique(combined, axis=0, return_inverse=True)
    count = len(unique)
    optics: dict[str, Any] = {
        "rlnOpticsGroup": np.arange(1, count + 1),
        "rlnOpticsGroupName": np.array([f"opticsGroup{i + 1}" for i in range(count)], dtype=object),
        **{label: unique[:, i] for i, label in enumerate(_OPTICS_COLUMNS)},
        "rlnImagePixelSize": np.full(count, particles.pixel_size),
        "rlnImageSize": np.full(count, particles.box),
        "rlnImageDimensionality": np.full(count, particles.dimensions),
    }
    if ctf is not None and ctf.phase_flipped:
        optics["rlnCtfDataArePhaseFlipped"] = np.ones(count, np.int64)
    if isinstance(particles.wedge, TiltRange):
        optics |= {TILT_LOW: np.full(count, particles.wedge.low), TILT_HIGH: np.full(count, particles.wedge.high)}
    return optics, group.reshape(-1) + 1


def _image_names(path: Path, particles: Particles, chosen: np.ndarray) -> list[str]:
    """``000001@stack`` for the chosen particles; writes the images beside ``path`` where RELION could not read them."""
    images = particles.images
    if particles.dimensions == 3:
        return _volume_names(path, particles, chosen)
    if isinstance(images, FileImages) and all(_readable_by_relion(file) for file in images.files):
        stacks = [_stack_text(file) for file in images.files]
        files, frames = images.file_of[chosen].tolist(), images.frame_of[chosen].tolist()
        return [f"{frame + 1:06d}@{stacks[file]}" for file, frame in zip(files, frames, strict=True)]
    beside = path.with_name(f"{path.stem}_images.mrcs")
    step = max(1, 32 * 2**20 // (4 * particles.box**2))
    batches = (particles.read(chosen[first : first + step]) for first in range(0, len(chosen), step))
    write_stack(beside, batches, particles.pixel_size)
    return [f"{number:06d}@{beside.name}" for number in range(1, len(chosen) + 1)]


def _volume_names(path: Path, particles: Particles, chosen: np.ndarray) -> list[str]:
    """One file per subtomogram: those there are, or else new ones in a folder beside ``path``."""
    images = particles.images
    if isinstance(images, VolumeImages) and all(_one_volume(file) for file in images.files):
        absolute = [images.files[number].path.absolute() for number in images.file_of[chosen].tolist()]
        root = project_root(absolute[0].parent) if absolute else None
        return [(file.relative_to(root) if root in file.parents else file).as_posix() for file in absolute]
    folder = path.with_name(f"{path.stem}_volumes")
    for number, row in enumerate(chosen.tolist(), start=1):
        write_volume(folder / f"{number:06d}.mrc", particles.read([row])[0], particles.pixel_size)
    return [f"{folder.name}/{number:06d}.mrc" for number in range(1, len(chosen) + 1)]


def _one_volume(file: Frames) -> bool:
    packed = getattr(file, "packed", None) is not None
    return not packed and inner_suffix(file.path) in (".mrc", ".map") and file.shape[0] == file.shape[1]


def _readable_by_relion(file: Frames) -> bool:
    return getattr(file, "packed", None) is None and inner_suffix(file.path) in _MRC


def _stack_text(file: Frames) -> str:
    absolute = file.path.absolute()
    root = project_root(absolute.parent)
    text = (absolute.relative_to(root) if root else absolute).as_posix()
    # RELION takes any other suffix for a volume unless the format is named behind a colon
    return text if absolute.suffix == ".mrcs" else f"{text}:mrcs"
