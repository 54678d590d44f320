"""Coordinates in STAR files of RELION 3, 4 and 5."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_harmony.errors import InputError
from napari_harmony.particles.coordinates import Coordinates
from napari_harmony.particles.euler import matrix_to_quaternion, relion_to_matrix
from napari_harmony.particles.files import warn
from napari_harmony.particles.star import StarTable, read_star

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PIXELS = tuple(f"rlnCoordinate{axis}" for axis in "XYZ")
_CENTRED = tuple(f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ")
_SHIFTS = tuple(f"rlnOrigin{axis}" for axis in "XYZ")
_SHIFTS_ANGSTROM = tuple(f"rlnOrigin{axis}Angst" for axis in "XYZ")
_ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
_BOX_ANGLES = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
_TILT_SERIES_PIXEL = "rlnTomoTiltSeriesPixelSize"
_TOMOGRAMS_STAR = "tomograms.star"


def read_relion_coordinates(path: Path, *, tomograms: Path | None = None) -> Coordinates:
    """The particles of a STAR file, with or without images.

    ``rlnCoordinateX/Y/Z`` are pixels from 0; ``rlnCenteredCoordinateX/Y/ZAngst`` are angstrom from the centre at
    size / 2.
    Origins shift a particle by minus their value, in the axes of its subtomogram
    (``rlnTomoSubtomogramRot/Tilt/Psi``) where that was extracted turned; the orientation is then that of both.

    Parameters
    ----------
    path : of the STAR file
    tomograms : for centred coordinates; None to look for ``tomograms.star`` beside ``path`` and one folder above

    Raises
    ------
    InputError : no coordinates, a damaged file, or a tomogram of which the size is not known
    """
    document = read_star(path)
    rows = document.table_with(_CENTRED[0], _PIXELS[0])
    if rows is None:
        raise InputError(f"{path} has no coordinates (rlnCoordinateX, or rlnCenteredCoordinateXAngst of RELION 5).")
    source = _Rows(path, rows, document.table("optics"))
    names = next((source.names(label) for label in ("rlnTomoName", "rlnMicrographName") if label in rows), None)
    if _CENTRED[0] in rows:
        known = _known_tomograms(path, tomograms)
        size, pixel = known.of(source, names)
        corner = source.stacked(_CENTRED) / pixel[:, None] + size / 2
        return _assembled(source, corner, pixel, names, size * pixel[:, None], unbinned=True)
    if _PIXELS[2] not in rows:
        raise InputError(f"{path} has no rlnCoordinateZ: its coordinates are in images; give those of a tomogram.")
    sizes, unbinned = source.pixel_size()
    return _assembled(source, source.stacked(_PIXELS), sizes, names, None, unbinned=unbinned)


def _assembled(
    source: _Rows,
    corner: NDArray[np.float64],
    pixel: NDArray[np.float64] | None,
    names: NDArray[Any] | None,
    extent: NDArray[np.float64] | None,
    *,
    unbinned: bool,
) -> Coordinates:
    """Coordinates with their shifts and orientations; ``corner`` are positions in pixels from 0, (n, 3)."""
    in_box = source.angles(_BOX_ANGLES)
    shift = source.shifts(pixel)
    if in_box is not None:
        # R turns the volume into the reference; the box itself was turned by the transpose of its own
        shift = np.einsum("nji,nj->ni", in_box, shift)
    turned = source.angles(_ANGLES)
    total = in_box if turned is None else turned if in_box is None else turned @ in_box
    table = source.table
    return Coordinates(
        positions=corner - shift,
        rotation=None if total is None else matrix_to_quaternion(total),
        tomograms=names,
        table=pd.DataFrame({label: table.column(label) for label in table.labels}),
        path=source.path,
        pixel_size=_one(source.path, pixel),
        unbinned=unbinned,
        extent=extent,
    )


class _Rows:
    """The particles of a file, whose values may stand in their optics group."""

    def __init__(self, path: Path, table: StarTable, optics: StarTable | None) -> None:
        self.path, self.table, self.optics = path, table, optics
        self._group: NDArray[np.int64] | None = None
        if optics is not None and len(optics):
            self._group = self._groups(optics)

    def _groups(self, optics: StarTable) -> NDArray[np.int64]:
        if "rlnOpticsGroup" not in self.table or "rlnOpticsGroup" not in optics:
            return np.zeros(len(self.table), np.int64)
        known = {group: row for row, group in enumerate(optics.integers("rlnOpticsGroup").tolist())}
        wanted = self.table.integers("rlnOpticsGroup").tolist()
        lost = next((row for row, group in enumerate(wanted) if group not in known), None)
        if lost is not None:
            line = self.table.lines[lost] + 1
            raise InputError(
                f"{self.path}, line {line}: optics group {wanted[lost]} is not in table data_optics; add it."
            )
        return np.array([known[group] for group in wanted], np.int64)

    def values(self, label: str) -> NDArray[np.float64] | None:
        """Numbers per particle, (n,), None where neither its row nor its optics group has them."""
        if label in self.table:
            return self.table.numbers(label)
        if self.optics is not None and self._group is not None and label in self.optics:
            return self.optics.numbers(label)[self._group]
        return None

    def stacked(self, labels: tuple[str, ...]) -> NDArray[np.float64]:
        """Columns that must be there, (n, 3)."""
        return np.stack([self.table.numbers(label) for label in labels], -1)

    def names(self, label: str) -> NDArray[Any]:
        """A column of names, (n,)."""
        out = np.empty(len(self.table), dtype=object)
        out[:] = self.table.texts(label)
        return out

    def angles(self, labels: tuple[str, ...]) -> NDArray[np.float64] | None:
        """Matrices R, (n, 3, 3), of Euler angles; missing ones count as 0, None where all are missing."""
        if not any(label in self.table for label in labels):
            return None
        columns = [self._finite(name) if name in self.table else np.zeros(len(self.table)) for name in labels]
        return relion_to_matrix(np.stack(columns, -1))

    def _finite(self, label: str) -> NDArray[np.float64]:
        """A column whose values must all be finite, (n,)."""
        values = self.table.numbers(label)
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            line = self.table.lines[wrong[0]] + 1
            raise InputError(f"{self.path}, line {line}: {label} is {values[wrong[0]]}; give a number.")
        return values

    def pixel_size(self) -> tuple[NDArray[np.float64] | None, bool]:
        """Angstrom per pixel of the coordinates, (n,), and whether these are pixels of the tilt series."""
        series = self.values(_TILT_SERIES_PIXEL)
        if series is not None:
            return series, True
        image, binning = self.values("rlnImagePixelSize"), self.values("rlnTomoSubtomogramBinning")
        if image is not None and binning is not None:
            return image / binning, True
        for label in ("rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize", "rlnPixelSize"):
            sizes = self.values(label)
            if sizes is not None:
                return sizes, False
        detector, magnification = self.values("rlnDetectorPixelSize"), self.values("rlnMagnification")
        if detector is not None and magnification is not None and magnification.all():
            return 1e4 * detector / magnification, False
        return image, False

    def shifts(self, pixel: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Origins in pixels of the coordinates, (n, 3)."""
        out = np.zeros((len(self.table), 3))
        for axis in range(3):
            angstrom = self.values(_SHIFTS_ANGSTROM[axis])
            pixels = self.values(_SHIFTS[axis])
            if angstrom is not None:
                if pixel is None and angstrom.any():
                    raise InputError(
                        f"{self.path} has origins in angstrom ({_SHIFTS_ANGSTROM[axis]}) and says no pixel size; add "
                        f"the column {_TILT_SERIES_PIXEL}."
                    )
                out[:, axis] = angstrom / (1.0 if pixel is None else pixel)
            elif pixels is not None:
                out[:, axis] = pixels
        return out


def _one(path: Path, pixel: NDArray[np.float64] | None) -> float | None:
    """One pixel size for all particles, None where unknown."""
    if pixel is None or not len(pixel):
        return None
    if not np.all(np.isfinite(pixel) & (pixel > 0)):
        wrong = pixel[~(np.isfinite(pixel) & (pixel > 0))][0]
        raise InputError(f"{path} gives a pixel size of {wrong:g} A; correct it.")
    if np.ptp(pixel) > 1e-4 * pixel[0]:
        raise InputError(
            f"{path} mixes pixel sizes from {pixel.min():g} to {pixel.max():g} A; split it into one file for each."
        )
    return float(pixel[0])


class _Tomograms:
    """What a ``tomograms.star`` says: name -> sizes (x, y, z) in unbinned pixels, angstrom per unbinned pixel."""

    def __init__(self, path: Path) -> None:
        self.path = path
        table = read_star(path).table_with("rlnTomoSizeX")
        if table is None:
            raise InputError(f"{path} does not say how large the tomograms are (rlnTomoSizeX); give RELION's own file.")
        sizes = np.stack([table.numbers(f"rlnTomoSize{axis}") for axis in "XYZ"], -1)
        pixels = table.numbers(_TILT_SERIES_PIXEL)
        known = np.isfinite(np.column_stack([sizes, pixels])).all(1) & (sizes > 0).all(1) & (pixels > 0)
        if not known.all():
            line = table.lines[np.flatnonzero(~known)[0]] + 1
            raise InputError(
                f"{path}, line {line}: rlnTomoSizeX/Y/Z and {_TILT_SERIES_PIXEL} must be positive numbers; correct "
                "them."
            )
        self.sizes = dict(zip(table.texts("rlnTomoName"), zip(sizes, pixels, strict=True), strict=True))

    def of(self, rows: _Rows, names: NDArray[Any] | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sizes (n, 3) and pixel sizes (n,) for the tomograms of all particles."""
        if names is None:
            raise InputError(
                f"{rows.path} does not say in which tomogram its particles are; add the column rlnTomoName."
            )
        for row, name in enumerate(names.tolist()):
            if name not in self.sizes:
                line = rows.table.lines[row] + 1
                raise InputError(f"{rows.path}, line {line}: the tomogram {name} is not in {self.path}; add it there.")
        found = [self.sizes[name] for name in names.tolist()]
        return np.array([size for size, _ in found]), np.array([pixel for _, pixel in found], dtype=np.float64)


def _known_tomograms(path: Path, given: Path | None) -> _Tomograms:
    if given is not None:
        return _Tomograms(given)
    for folder in (path.absolute().parent, path.absolute().parent.parent):
        if (folder / _TOMOGRAMS_STAR).is_file():
            warn(f"the sizes of the tomograms in {path} were taken from {folder / _TOMOGRAMS_STAR}.")
            return _Tomograms(folder / _TOMOGRAMS_STAR)
    raise InputError(
        f"{path} has centred coordinates of RELION 5 (rlnCenteredCoordinateXAngst), for which the sizes of the "
        f"tomograms are needed; give RELION's {_TOMOGRAMS_STAR} with --tomograms, or put it beside the file."
    )
