"""The folder that extracted subtomograms are written to: volumes and the STAR file that lists them."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.errors import InputError
from napari_harmony.particles.filaments import PRIORS, TRACK, TUBE
from napari_harmony.particles.files import replacing
from napari_harmony.particles.mrc import write_volume
from napari_harmony.particles.relion_write import NO_CTF, NO_PIXEL_SIZE, USUAL_OPTICS
from napari_harmony.particles.resolve import project_root
from napari_harmony.particles.star_write import write_loop
from napari_harmony.particles.subtomograms import TILT_HIGH, TILT_LOW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_harmony.particles.extract import ExtractionPlan, ExtractSettings

STAR, VOLUMES = "particles.star", "subtomograms"
_MARK = b"# subtomograms extracted by napari-harmony\n"
_ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
#: Columns of the source that mean the same for the extracted particle
_KEPT = ("rlnRandomSubset", "rlnClassNumber", "rlnGroupNumber", "rlnTomoParticleName", TUBE, TRACK, *PRIORS)


class ExtractionFolder:
    """Volumes are collected in a hidden folder inside ``folder`` and moved into place together.

    An earlier extraction there is replaced; other files stay. Leaving the block without ``publish`` leaves the folder
    as it was.

    Raises
    ------
    InputError : the folder cannot be written, or holds a ``particles.star`` or ``subtomograms`` of another origin
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self._stage = folder
        self._made: list[Path] = []

    def __enter__(self) -> ExtractionFolder:
        self._check()
        self._made = [place for place in (self.folder, *self.folder.absolute().parents) if not place.exists()]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._stage = Path(tempfile.mkdtemp(prefix=".writing-", dir=self.folder))
        except OSError as error:
            raise InputError(f"{self.folder} cannot be written ({error.strerror}); choose another folder.") from error
        (self._stage / VOLUMES).mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._stage, ignore_errors=True)
        if kind is not None:
            for place in self._made:
                with suppress(OSError):  # somebody else has put something there
                    place.rmdir()

    def _check(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file; give a folder for the subtomograms.")
        star = self.folder / STAR
        if star.exists():
            with star.open("rb") as file:
                ours = file.read(len(_MARK)) == _MARK
        else:
            ours = not (self.folder / VOLUMES).exists()
        if not ours:
            raise InputError(f"{self.folder} holds particles of another origin; choose another folder for OUT.")

    def add(self, volume: NDArray[np.float32], voxel_size: float) -> None:
        """Write the next subtomogram (z, y, x)."""
        self.count += 1
        write_volume(self._stage / VOLUMES / _file_name(self.count), volume, voxel_size)

    def publish(self, plan: ExtractionPlan, settings: ExtractSettings, voxel: float | None, tomogram: Path) -> Path:
        """Write the STAR file, move everything into place, and return the STAR file's path."""
        root = project_root(self.folder.absolute())
        prefix = self.folder.absolute().relative_to(root).as_posix() + "/" if root else ""
        with replacing(self._stage / STAR) as file:
            for piece in _star(plan, settings, voxel, tomogram, prefix):
                file.write(piece)
        earlier = self._stage / "earlier"
        earlier.mkdir()
        moved: list[str] = []
        try:
            for name in (STAR, VOLUMES):
                if (self.folder / name).exists():
                    os.replace(self.folder / name, earlier / name)
                os.replace(self._stage / name, self.folder / name)
                moved.append(name)
        except BaseException:
            for name in moved:
                os.replace(self.folder / name, self._stage / name)
            for path in earlier.iterdir():
                os.replace(path, self.folder / path.name)
            raise
        return self.folder / STAR


def _file_name(number: int) -> str:
    return f"{number:06d}.mrc"


def _star(
    plan: ExtractionPlan, settings: ExtractSettings, voxel: float | None, tomogram: Path, prefix: str
) -> Iterator[bytes]:
    yield _MARK + NO_CTF + (b"" if voxel else NO_PIXEL_SIZE)
    size = voxel or 1.0
    optics: dict[str, Any] = {
        "rlnOpticsGroup": [1],
        "rlnOpticsGroupName": ["opticsGroup1"],
        **{label: [value] for label, value in USUAL_OPTICS.items()},
        "rlnTomoTiltSeriesPixelSize": [size],
        "rlnTomoSubtomogramBinning": [float(settings.bin)],
        "rlnImagePixelSize": [size * settings.bin],
        "rlnImageSize": [settings.box],
        "rlnImageDimensionality": [3],
        "rlnCtfDataAreCtfPremultiplied": [0],
    }
    if settings.tilt_range is not None:
        optics |= {TILT_LOW: [float(settings.tilt_range.low)], TILT_HIGH: [float(settings.tilt_range.high)]}
    yield from write_loop("optics", optics)
    yield from write_loop("particles", _rows(plan, size, tomogram, prefix))


def _rows(plan: ExtractionPlan, size: float, tomogram: Path, prefix: str) -> dict[str, Any]:
    here, count = plan.coordinates, len(plan.centres)
    names = [tomogram.stem] * count if here.tomograms is None else [str(name) for name in here.tomograms.tolist()]
    rows: dict[str, Any] = {
        "rlnImageName": [f"{prefix}{VOLUMES}/{_file_name(number)}" for number in range(1, count + 1)],
        "rlnOpticsGroup": np.ones(count, np.int64),
        "rlnTomoName": names,
        "rlnMicrographName": [tomogram.name] * count,
        **{f"rlnCoordinate{axis}": plan.centres[:, i].astype(np.float64) for i, axis in enumerate("XYZ")},
        **{f"rlnOrigin{axis}Angst": plan.origins[:, i] * size for i, axis in enumerate("XYZ")},
    }
    angles = here.angles
    if angles is not None:
        rows |= {label: angles[:, i] for i, label in enumerate(_ANGLES)}
    return rows | {label: here.table[label].to_numpy() for label in _KEPT if label in here.table}
