"""cryoSPARC particle files (.cs): numpy records, read and written without losing a field."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_harmony.errors import InputError
from napari_harmony.particles.ctf import CtfParameters
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.files import check_file, replacing, warn
from napari_harmony.particles.images import FileImages
from napari_harmony.particles.resolve import PathFinder
from napari_harmony.particles.stacks import StackOpener

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_HEADER = 10**7  # numpy's own limit is too small for results with many classes
_CTF_FIELDS = {
    "defocus_u": "ctf/df1_A",
    "defocus_v": "ctf/df2_A",
    "defocus_angle": "ctf/df_angle_rad",
    "voltage": "ctf/accel_kv",
    "spherical_aberration": "ctf/cs_mm",
    "amplitude_contrast": "ctf/amp_contrast",
}
_OPTIONAL_CTF_FIELDS = {"phase_shift": "ctf/phase_shift_rad", "b_factor": "ctf/bfactor"}
_IN_RADIANS = ("defocus_angle", "phase_shift")
#: Fields of a 2D classification, in cryoSPARC's order: type, and value for particles that never had one
_ALIGNMENT_FIELDS: dict[str, tuple[Any, float]] = {
    "split": ("<u4", 0),
    "shift": (("<f4", (2,)), 0),
    "pose": ("<f4", 0),
    "psize_A": ("<f4", 0),
    "error": ("<f4", 0),
    "error_min": ("<f4", 0),
    "resid_pow": ("<f4", 0),
    "slice_pow": ("<f4", 0),
    "image_pow": ("<f4", 0),
    "cross_cor": ("<f4", 0),
    "alpha": ("<f4", 1),
    "alpha_min": ("<f4", 0),
    "weight": ("<f4", 0),
    "pose_ess": ("<f4", 0),
    "shift_ess": ("<f4", 0),
    "class_posterior": ("<f4", 0),
    "class": ("<u4", 0),
    "class_ess": ("<f4", 1),
}


@dataclass(frozen=True, eq=False)
class CryosparcMetadata:
    """A .cs file.

    Attributes
    ----------
    path : of the file
    records : (n,) its structured array
    passthrough : (n,) fields that a passthrough file beside it adds, in the order of ``records``
    """

    path: Path
    records: NDArray[Any] = field(repr=False)
    passthrough: Mapping[str, NDArray[Any]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.records)

    def __contains__(self, name: object) -> bool:
        return name in (self.records.dtype.names or ()) or name in self.passthrough

    def values(self, name: str) -> NDArray[Any]:
        """One field, (n,) or (n, k).

        Raises
        ------
        InputError : neither the file nor its passthrough has it
        """
        if name in (self.records.dtype.names or ()):
            return self.records[name]
        if name in self.passthrough:
            return self.passthrough[name]
        raise InputError(f"{self.path}: the field {name} is missing; export the particles again with it.")


def load_records(path: Path) -> NDArray[Any]:
    """The structured array of a .cs file, (n,); nothing in it is ever unpickled.

    Raises
    ------
    InputError : not such a file, damaged, or with Python objects inside
    """
    check_file(path)
    try:
        records = np.load(path, allow_pickle=False, max_header_size=_MAX_HEADER)
    except (ValueError, OSError, EOFError, SyntaxError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} is no readable .cs file; export it again from cryoSPARC ({reason}).") from error
    if not isinstance(records, np.ndarray) or records.dtype.names is None or "uid" not in records.dtype.names:
        raise InputError(f"{path} is no cryoSPARC file: it is not a table with the field uid.")
    if records.ndim != 1 or len(records) == 0:
        raise InputError(f"{path} has no rows; there are no particles to read.")
    return records


def read_metadata(path: str | os.PathLike[str]) -> CryosparcMetadata:
    """Read a .cs file, and its passthrough file where it lies beside it and is needed.

    Raises
    ------
    InputError : see ``load_records``; also where no file says which images the particles are
    """
    path = Path(path)
    records = load_records(path)
    names = records.dtype.names or ()
    passthrough: dict[str, NDArray[Any]] = {}
    if "blob/path" not in names or "ctf/df1_A" not in names:
        passthrough = _passthrough(path, records)
    metadata = CryosparcMetadata(path, records, passthrough)
    if "blob/path" not in metadata or "blob/idx" not in metadata:
        raise InputError(
            f"{path} does not say where its images are (blob/path); open the .cs file of the particles, or put it "
            "beside this one."
        )
    return metadata


def _passthrough(path: Path, records: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Fields of passthrough files in the same folder that cover all particles, in the order of ``records``."""
    fields: dict[str, NDArray[Any]] = {}
    for candidate in sorted(path.parent.glob("*passthrough*.cs")):
        if candidate.name == path.name:
            continue
        try:
            other = load_records(candidate)
        except InputError as error:
            warn(f"{error} The particles were read without it.")
            continue
        order = np.argsort(other["uid"], kind="stable")
        place = np.minimum(np.searchsorted(other["uid"], records["uid"], sorter=order), len(other) - 1)
        rows = order[place]
        if not np.array_equal(other["uid"][rows], records["uid"]):
            continue  # of other particles
        for name in other.dtype.names or ():
            if name not in (records.dtype.names or ()):
                fields.setdefault(name, other[name][rows])
    return fields


def read_cryosparc(path: str | os.PathLike[str], *, pixel_size: float | None = None) -> Particles:
    """Open the particles of a .cs file; reads image headers, no images.

    The table has the fields under their own names (``ctf/df1_A``; those of several numbers as ``ctf/tilt_A[0]``) and,
    where the file holds a 2D classification, what RELION would call it: ``rlnAnglePsi`` (degree), ``rlnOriginXAngst``,
    ``rlnOriginYAngst`` (angstrom), ``rlnClassNumber`` (from 1). Images are multiplied by ``blob/sign``.

    Parameters
    ----------
    path : of the .cs file
    pixel_size : angstrom; overrides what the file says

    Raises
    ------
    InputError : see ``read_metadata``; also missing stacks, images beyond their end, pixel or box sizes that differ
    """
    metadata = read_metadata(path)
    ctf = _ctf(metadata)
    stated = pixel_size or _pixel_size(metadata)
    images, opener = _images(metadata)
    headers = {round(header.pixel_size, 4) for header in opener.headers if header.pixel_size}
    known = stated or (headers.pop() if len(headers) == 1 else None)
    return Particles(
        images=images,
        table=_table(metadata),
        pixel_size=known or 1.0,
        ctf=ctf,
        metadata=metadata,
        path=metadata.path,
        pixel_size_known=bool(known),
    )


def _pixel_size(metadata: CryosparcMetadata) -> float | None:
    if "blob/psize_A" not in metadata:
        return None
    sizes = metadata.values("blob/psize_A").astype(np.float64)
    first = float(sizes[0])
    if not np.all(np.isfinite(sizes) & (sizes > 0)):
        raise InputError(f"{metadata.path}: blob/psize_A is not positive everywhere; correct the pixel size.")
    other = np.abs(sizes / first - 1) > 1e-4
    if other.any():
        second = float(sizes[np.flatnonzero(other)[0]])
        raise InputError(
            f"{metadata.path} mixes pixel sizes: {first:g} A and {second:g} A (blob/psize_A); rescale the stacks to "
            "one size, or split the file."
        )
    return float(np.format_float_positional(metadata.values("blob/psize_A")[0], unique=True))


def _ctf(metadata: CryosparcMetadata) -> CtfParameters | None:
    if "ctf/df1_A" not in metadata:
        return None
    columns: dict[str, Any] = {name: metadata.values(label).astype(np.float64) for name, label in _CTF_FIELDS.items()}
    for name, label in _OPTIONAL_CTF_FIELDS.items():
        present = label in metadata
        columns[name] = metadata.values(label).astype(np.float64) if present else np.zeros(len(metadata))
    for name in _IN_RADIANS:
        columns[name] = np.rad2deg(columns[name])
    for name, values in columns.items():
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0]) + 1
            label = {**_CTF_FIELDS, **_OPTIONAL_CTF_FIELDS}[name]
            raise InputError(f"{metadata.path}, row {row}: {label} is {values[row - 1]}; estimate the CTF again.")
    return CtfParameters(**columns)


def _images(metadata: CryosparcMetadata) -> tuple[FileImages, StackOpener]:
    opener = StackOpener(metadata.path, PathFinder(metadata.path))
    paths = metadata.values("blob/path")
    unique, stack_of = np.unique(paths, return_inverse=True)
    # cryoSPARC marks exported paths with ">"
    texts = [_text(path).removeprefix(">") for path in unique.tolist()]
    numbers = np.array([opener.add(text) for text in texts], np.int32)
    file_of = numbers[stack_of.reshape(-1)]
    frame_of = metadata.values("blob/idx").astype(np.int64)
    beyond = np.flatnonzero(frame_of >= opener.counts()[file_of])
    if len(beyond):
        row = int(beyond[0])
        stack = opener.frames[file_of[row]]
        raise InputError(
            f"{metadata.path}, row {row + 1}: image {frame_of[row] + 1} is asked of {stack.path}, which has "
            f"{stack.shape[0]}; check that it is the right stack."
        )
    sign = metadata.values("blob/sign") if "blob/sign" in metadata else None
    return FileImages(opener.frames, file_of, frame_of, sign), opener


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _table(metadata: CryosparcMetadata) -> pd.DataFrame:
    columns: dict[str, Any] = {}
    for name in (*(metadata.records.dtype.names or ()), *metadata.passthrough):
        values = metadata.values(name)
        if values.dtype.kind == "S":
            columns[name] = [_text(value) for value in values.tolist()]
        elif values.ndim == 1:
            columns[name] = values
        else:
            flat = values.reshape(len(values), -1)
            columns |= {f"{name}[{i}]": flat[:, i] for i in range(flat.shape[1])}
    if "alignments2D/pose" in metadata:
        columns |= _relion_columns(metadata)
    if "location/micrograph_path" in columns:
        columns["rlnMicrographName"] = [path.removeprefix(">") for path in columns["location/micrograph_path"]]
    return pd.DataFrame(columns)


def _relion_columns(metadata: CryosparcMetadata) -> dict[str, NDArray[Any]]:
    """A 2D classification under RELION's labels: same signs, degrees for radians, classes from 1."""
    shift = metadata.values("alignments2D/shift").astype(np.float64)
    shift = shift * metadata.values("alignments2D/psize_A").astype(np.float64)[:, None]
    columns: dict[str, NDArray[Any]] = {
        "rlnAnglePsi": np.rad2deg(metadata.values("alignments2D/pose").astype(np.float64)),
        "rlnOriginXAngst": shift[:, 0],
        "rlnOriginYAngst": shift[:, 1],
    }
    if "alignments2D/class" in metadata:
        columns["rlnClassNumber"] = metadata.values("alignments2D/class").astype(np.int64) + 1
    if "alignments2D/class_posterior" in metadata:
        columns["rlnMaxValueProbDistribution"] = metadata.values("alignments2D/class_posterior").astype(np.float64)
    return columns


def write_cryosparc(
    path: str | os.PathLike[str],
    particles: Particles,
    columns: Mapping[str, Any] | None = None,
    *,
    rows: Sequence[int] | np.ndarray | None = None,
) -> Path:
    """Write particles that came from a .cs file back with new ``alignments2D`` fields; all others keep their bytes.

    Parameters
    ----------
    path : to write; appears as a whole or not at all
    particles : n of them, opened from a .cs file
    columns : RELION's label -> values (n,): ``rlnAnglePsi`` (degree), ``rlnOriginXAngst`` and ``rlnOriginYAngst``
        (angstrom) or ``rlnOriginX`` and ``rlnOriginY`` (pixel), ``rlnClassNumber`` (from 1; those of class 0, which
        cryoSPARC does not know, go into one class behind the last), ``rlnMaxValueProbDistribution``. Other labels are
        left out: cryoSPARC does not read fields it does not know
    rows : which particles to write, in this order; None for all

    Raises
    ------
    InputError : particles that did not come from a .cs file, values that do not fit in number, or a place that cannot
        be written
    """
    path, metadata = Path(path), particles.metadata
    if not isinstance(metadata, CryosparcMetadata):
        raise InputError(f"{path}: these particles did not come from a .cs file; export them as .star.")
    given = {label.removeprefix("_"): np.asarray(values) for label, values in (columns or {}).items()}
    for label, values in given.items():
        if values.shape != (len(particles),):
            raise InputError(f"{path}: {label} has {values.shape[0]} values for {len(particles)} particles.")
    updates = _alignments(metadata, given, particles.pixel_size)
    records = _with_fields(metadata.records, updates) if updates else metadata.records
    if rows is not None:
        records = records[np.asarray(rows, dtype=np.int64)]
    with replacing(path) as file:
        np.save(file, records, allow_pickle=False)
    return path


def _alignments(
    metadata: CryosparcMetadata, columns: Mapping[str, NDArray[Any]], pixel_size: float
) -> dict[str, NDArray[Any]]:
    """New values of ``alignments2D`` fields."""
    updates: dict[str, NDArray[Any]] = {}
    if "rlnAnglePsi" in columns:
        updates["pose"] = np.mod(np.deg2rad(columns["rlnAnglePsi"]), 2 * np.pi)
    if "rlnClassNumber" in columns:
        numbers = columns["rlnClassNumber"].astype(np.int64)
        updates["class"] = np.where(numbers > 0, numbers - 1, numbers.max(initial=0))
    if "rlnMaxValueProbDistribution" in columns:
        updates["class_posterior"] = columns["rlnMaxValueProbDistribution"]
    x, y = (_origin_in_pixels(columns, axis, pixel_size) for axis in "XY")
    if x is not None and y is not None:
        # pixels of the images, in angstrom as the file has it, in pixels of the alignment
        stored = metadata.values("blob/psize_A") if "blob/psize_A" in metadata else np.full(len(metadata), pixel_size)
        unit = metadata.values("alignments2D/psize_A") if "alignments2D/psize_A" in metadata else stored
        unit = np.where(unit > 0, unit, stored)
        updates["shift"] = np.column_stack([x, y]) * (stored / unit)[:, None]
        updates["psize_A"] = unit
    return updates


def _origin_in_pixels(columns: Mapping[str, NDArray[Any]], axis: str, pixel_size: float) -> NDArray[Any] | None:
    if f"rlnOrigin{axis}" in columns:
        return columns[f"rlnOrigin{axis}"]
    angstrom = columns.get(f"rlnOrigin{axis}Angst")
    return None if angstrom is None else angstrom / pixel_size


def _with_fields(records: NDArray[Any], updates: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """A copy of the records with ``alignments2D`` fields set; all of them are added where there was no alignment."""
    names = records.dtype.names or ()
    missing = [name for name in _ALIGNMENT_FIELDS if f"alignments2D/{name}" not in names]
    if len(missing) < len(_ALIGNMENT_FIELDS):
        missing = [name for name in missing if name in updates]
    dtype = list(records.dtype.descr)
    for name in missing:
        kind = _ALIGNMENT_FIELDS[name][0]
        dtype.append((f"alignments2D/{name}", *kind) if isinstance(kind, tuple) else (f"alignments2D/{name}", kind))
    out = np.zeros(len(records), dtype)
    for name in names:
        out[name] = records[name]
    for name in missing:
        out[f"alignments2D/{name}"] = _ALIGNMENT_FIELDS[name][1]
    for name, values in updates.items():
        out[f"alignments2D/{name}"] = values
    return out
