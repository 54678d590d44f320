"""The resolution curves of a run as a CSV file that plots anywhere: ``frc.csv``.

Of subtomograms the last two columns are ``fsc`` and ``noise_floor``: their curves are over Fourier shells.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from napari_harmony.errors import InputError
from napari_harmony.results import Result

CURVES = {2: "frc", 3: "fsc"}


def write_frc(path: Path, result: Result) -> None:
    """Write one row per class and shell: class, frequency (1 / angstrom), correlation, noise floor; NaN: empty."""
    shells = len(result.frc_frequency)
    frame = pd.DataFrame(
        {
            "class_number": np.repeat(np.arange(1, result.classes + 1), shells),
            "frequency": np.tile(result.frc_frequency, result.classes),
            CURVES[result.dimensions]: result.frc.ravel(),
            "noise_floor": result.frc_floor.ravel(),
        }
    )
    frame.to_csv(path, index=False, float_format="%.9g", lineterminator="\n")


def read_frc(path: Path, classes: int, dimensions: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read ``write_frc``'s file: FRC (k, shells), noise floor (k, shells), frequency (shells,), all float32.

    Raises
    ------
    InputError : if the file is not such a table, or not of ``classes`` classes
    """
    header = ["class_number", "frequency", CURVES[dimensions], "noise_floor"]
    try:
        frame = pd.read_csv(path)
        values = frame[header].to_numpy(dtype=np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: this is not the resolution table of a finished run ({error}).") from error
    if len(values) % max(classes, 1):
        raise InputError(f"{path}: {len(values)} rows do not divide into {classes} classes.")
    cube = values.reshape(classes, -1, len(header)) if classes else np.empty((0, 0, len(header)), np.float32)
    frequency = cube[0, :, 1] if classes else np.empty(0, np.float32)
    return cube[:, :, 2].copy(), cube[:, :, 3].copy(), frequency.copy()
