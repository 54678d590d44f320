"""The shell correlation of each class under a mask: ``class_NNN_fsc.star`` with RELION's labels, and the mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_harmony.outputs import names

if TYPE_CHECKING:
    from napari_harmony.analysis.fsc import MaskedFsc
    from napari_harmony.results import Result

_NO_RESOLUTION = 999.0  # what RELION writes for the shell of the mean


def masked_curves(result: Result) -> list[MaskedFsc | None]:
    """Curves of the classes of subtomograms whose half maps were kept; empty for all other results."""
    from napari_harmony.analysis import fsc

    if result.dimensions != 3 or result.half_averages is None:
        return []
    return fsc.of_classes(result.averages, result.half_averages)


def write_masked_fsc(folder: Path, result: Result, curves: Sequence[MaskedFsc | None]) -> None:
    """Write the curves, laid out as in RELION's ``postprocess.star``, and the masks of the classes that have some."""
    from napari_harmony.particles.files import replacing
    from napari_harmony.particles.mrc import write_volume
    from napari_harmony.particles.star_write import write_loop

    for number, found in enumerate(curves, start=1):
        if found is None:
            continue
        write_volume(folder / names.class_mask(number), found.mask, result.average_pixel_size)
        with replacing(folder / names.class_fsc(number)) as file:
            for piece in write_loop("general", _general(number, found, result.average_pixel_size)):
                file.write(piece)
            for piece in write_loop("fsc", _shells(found, result.average_pixel_size)):
                file.write(piece)


def _general(number: int, found: MaskedFsc, pixel_size: float) -> dict[str, list[float] | list[str]]:
    from napari_harmony.analysis import fsc

    box = found.mask.shape[0]
    return {
        "rlnFinalResolution": [fsc.resolution(found.corrected, pixel_size)],
        "rlnRandomiseFrom": [box * pixel_size / found.randomised_from],
        "rlnParticleBoxFractionSolventMask": [100 * found.mask_fraction],
        "rlnUnfilteredMapHalf1": [names.class_file(number, 1)],
        "rlnUnfilteredMapHalf2": [names.class_file(number, 2)],
        "rlnMaskName": [names.class_mask(number)],
    }


def _shells(found: MaskedFsc, pixel_size: float) -> dict[str, np.ndarray]:
    shell = np.arange(len(found.masked))
    angstrom = np.full(len(shell), _NO_RESOLUTION)
    angstrom[1:] = found.mask.shape[0] * pixel_size / shell[1:]
    return {
        "rlnSpectralIndex": shell,
        "rlnResolution": 1 / angstrom,
        "rlnAngstromResolution": angstrom,
        "rlnFourierShellCorrelationCorrected": found.corrected,
        "rlnFourierShellCorrelationUnmaskedMaps": found.unmasked,
        "rlnFourierShellCorrelationMaskedMaps": found.masked,
        "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps": found.randomised,
    }
