"""The outcome of a run: one row per particle, class averages, and how they came about."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

#: Columns of ``Result.table`` that every run fills, in this order; content codes follow as ``content_0`` ...
COLUMNS = (
    "class_number",  # int, 1-based; 0: no class (junk or unusable image)
    "class_probability",  # posterior of that class, 0..1
    "psi",  # degree, RELION's rlnAnglePsi
    "origin_x",  # pixel of the input stack, RELION's rlnOriginX: shift the image by it to centre the particle
    "origin_y",
    "psi_spread",  # degree, posterior standard deviation of psi
    "shift_spread",  # pixel, posterior standard deviation per axis
    "flip_odds",  # posterior odds of the best pose more than 90 degrees away, 0..1
    "scale",  # magnification of the particle against its class, 1 = none
    "contrast",  # gain of the particle against its class, 1 = none
    "offset",  # grey value added, in units of the noise
    "score",  # normalised correlation of the particle with its posed class, -1..1
    "flags",  # comma-separated words: junk, symmetric, shift-bound, not-finite, constant, duplicate; "" for none
)

#: The same for subtomograms; lengths are voxels of the input, axes x, y, z.
COLUMNS_3D = (
    "class_number",
    "class_probability",
    "rot",  # degree, RELION's ZYZ angles: x_ref = R (x_vol - c + t) + c, R = from_euler("ZYZ", [rot, tilt, psi])
    "tilt",
    "psi",
    "origin_x",  # voxel of the input, RELION's rlnOriginX: shift the volume by it to centre the particle
    "origin_y",
    "origin_z",
    "angle_spread",  # degree, posterior standard deviation of the rotation about each axis
    "shift_spread",  # voxel, posterior standard deviation per axis
    "flip_odds",
    "scale",
    "contrast",
    "offset",
    "score",
    "flags",
)

#: Columns that runs fill where they were asked to, of images.
OPTIONAL_COLUMNS = (
    "defocus_offset",  # angstrom, what is added to the input's defocus; positive is more underfocus
    "defocus_spread",  # angstrom, posterior standard deviation
)

#: Columns of ``Result.table`` that hold whole numbers and text; all others are floats.
INTEGER_COLUMNS = ("class_number",)
TEXT_COLUMNS = ("flags",)

#: What ``Result.summary["warnings"]`` says where class averages of the data hold nothing that noise would not.
NO_STRUCTURE = "no significant structure"

#: Key of ``Result.summary``: particles that are junk, by the class in whose frame their poses are, as
#: ``particle_ids.to_record`` writes them.
JUNK_FRAMES = "junk_frames"


@dataclass(frozen=True)
class Result:
    """What ``align`` and ``cluster`` give.

    Attributes
    ----------
    table : one row per input particle, in input order, RangeIndex, with ``COLUMNS``, or ``COLUMNS_3D`` for
        subtomograms, and ``content_0``... ``content_{d-1}`` (content posterior means)
    averages : (k, box, box), or (k, box, box, box) of subtomograms, float32 class averages of data (weighted by CTF or
        missing wedge, phases corrected), class 1 first; on the grid of the input, or Fourier-cropped
        (``average_pixel_size`` says so)
    average_pixel_size : angstrom per pixel of ``averages``
    frc : (k, shells) Fourier ring correlation (shell correlation in 3D) of half-set averages, halves split before
        alignment; NaN where a class has no two halves; ``frc_frequency`` (shells,) in 1 / angstrom; ``frc_floor``
        (k, shells) the noise floor that unaligned structure-free data would reach
    resolution : (k,) angstrom where the half-set FRC falls below 0.143, NaN where it never rises above the floor
    pixel_size : angstrom per pixel of the input stack
    summary : JSON-able provenance: parameters, seed, versions, device, seconds per stage, counts, ``warnings``
    half_averages : (2, k, box, box[, box]) averages of the two half sets, or None where they were not kept
    """

    table: pd.DataFrame
    averages: NDArray[np.float32]
    average_pixel_size: float
    frc: NDArray[np.float32]
    frc_floor: NDArray[np.float32]
    frc_frequency: NDArray[np.float32]
    resolution: NDArray[np.float32]
    pixel_size: float
    summary: dict[str, Any] = field(default_factory=dict)
    half_averages: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.table)

    @property
    def dimensions(self) -> int:
        """2 for images, 3 for subtomograms."""
        return self.averages.ndim - 1

    @property
    def classes(self) -> int:
        """Number of classes (class numbers run from 1 to this)."""
        return len(self.averages)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of particles of each class, (k,)."""
        return np.bincount(self.table["class_number"], minlength=self.classes + 1)[1:]

    @property
    def content(self) -> NDArray[np.float32]:
        """Content posterior means, (n, d)."""
        return self.table[content_columns(self.table.columns)].to_numpy(dtype=np.float32)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know before trusting the result; empty if there is nothing."""
        return tuple(self.summary.get("warnings", ()))

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """Whether a particle carries any flag, (n,)."""
        return (self.table["flags"].fillna("") != "").to_numpy(dtype=bool)

    @property
    def flag_counts(self) -> dict[str, int]:
        """How many particles carry each flag, most frequent first."""
        words = self.table["flags"].fillna("").str.split(",").explode()
        return {str(word): int(count) for word, count in words[words != ""].value_counts().items()}

    def members(self, class_number: int) -> NDArray[np.int64]:
        """Rows of the particles of a class, in input order; class 0 gives the unclassified ones."""
        return np.flatnonzero(self.table["class_number"].to_numpy() == class_number)

    def with_table(self, table: pd.DataFrame) -> Result:
        """The same result with another table of the same rows."""
        return replace(self, table=table)


def columns_of(dimensions: int) -> tuple[str, ...]:
    """The columns that every run fills, of images (2) or of subtomograms (3)."""
    return COLUMNS_3D if dimensions == 3 else COLUMNS


def content_columns(columns: Iterable[object]) -> list[str]:
    """``content_0``, ``content_1`` ... among the names of a table, in the order of their numbers."""
    names = [str(c) for c in columns]
    codes = [c for c in names if c.startswith("content_") and c.removeprefix("content_").isdigit()]
    return sorted(codes, key=lambda c: int(c.removeprefix("content_")))


def defocus_to_add(found: pd.DataFrame, given: pd.DataFrame) -> NDArray[np.float64] | None:
    """Angstrom (n,) between the defocus that a run found and that of the particles.

    ``found`` is the table of the result, ``given`` that of the particles. None where the run was not asked for
    defocus, and where the particles are from a file into which these very offsets were written.
    """
    if "defocus_offset" not in found:
        return None
    offset = found["defocus_offset"].to_numpy(dtype=np.float64)
    if "hrmDefocusOffset" in given:
        written = pd.to_numeric(given["hrmDefocusOffset"], errors="coerce").to_numpy(dtype=np.float64)
        if np.allclose(written, offset, atol=0.1, rtol=1e-3):
            return None
    return offset
