"""The files that RELION's own classification leaves, so that its Select job takes the result.

Select opens ``run_it025_optimiser.star`` (RELION 4 and later) or ``run_it025_model.star`` (3.1), shows the class
averages, and writes the rows of ``run_it025_data.star`` whose class was chosen.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

from napari_harmony.outputs import names
from napari_harmony.results import Result

#: What RELION writes where it has no estimate of a resolution.
NO_RESOLUTION = 999.0
VERSION = "# version 30001"


def write_relion_job(stage: Path, final: Path, result: Result) -> None:
    """Write ``run_it025_{data,model,optimiser}.star`` and the class averages beside the tables that are in ``stage``.

    Averages of images are a stack, ``_classes.mrcs``, those of subtomograms one file each, ``_class001.mrc`` ...

    RELION resolves names inside these files against the folder it is started in. They are therefore written relative
    to the current folder where ``final``, the place the files will be moved to, lies below it, and absolute elsewhere.
    """
    from napari_harmony.particles.mrc import write_stack, write_volume

    data, model, optimiser, classes = names.RELION_JOB
    prefix = _as_relion_sees(final)
    shutil.copyfile(stage / names.PARTICLES, stage / data)
    numbers = range(1, result.classes + 1)
    if result.dimensions == 3:
        references = [names.relion_class_file(number) for number in numbers]
        for name, average in zip(references, result.averages, strict=True):
            write_volume(stage / name, average, result.average_pixel_size)
        references = [prefix + name for name in references]
    else:
        write_stack(stage / classes, result.averages, result.average_pixel_size)
        references = [f"{number:06d}@{prefix}{classes}" for number in numbers]
    blocks = [_model_general(result), _model_classes(result, references)]
    (stage / model).write_text("".join(blocks), encoding="utf-8")
    (stage / optimiser).write_text(_optimiser(result, prefix), encoding="utf-8")


def _as_relion_sees(folder: Path) -> str:
    absolute, here = folder.resolve(), Path.cwd().resolve()
    inside = absolute.is_relative_to(here)
    text = os.path.relpath(absolute, here) if inside else str(absolute)
    return "" if text == "." else f"{Path(text).as_posix()}/"


def _model_general(result: Result) -> str:
    finite = result.resolution[np.isfinite(result.resolution)]
    return _single(
        "model_general",
        {
            "rlnReferenceDimensionality": result.dimensions,
            "rlnDataDimensionality": result.dimensions,
            "rlnOriginalImageSize": result.averages.shape[-1],
            "rlnCurrentResolution": float(finite.min()) if len(finite) else NO_RESOLUTION,
            "rlnCurrentImageSize": result.averages.shape[-1],
            "rlnPixelSize": result.average_pixel_size,
            "rlnNrClasses": result.classes,
            "rlnSigmaOffsetsAngst": _mean(result.table["shift_spread"].to_numpy()) * result.pixel_size,
            "rlnAveragePmax": _mean(result.table["class_probability"].to_numpy()),
        },
    )


def _model_classes(result: Result, references: list[str]) -> str:
    """One row per class. RELION's accuracies are expected errors of the poses, which is what our spreads are."""
    labels = [
        "rlnReferenceImage",
        "rlnClassDistribution",
        "rlnAccuracyRotations",
        "rlnAccuracyTranslationsAngst",
        "rlnEstimatedResolution",
        "rlnOverallFourierCompleteness",
        "rlnClassPriorOffsetX",
        "rlnClassPriorOffsetY",
    ]
    spread = "angle_spread" if result.dimensions == 3 else "psi_spread"
    counts = result.counts
    total = max(int(counts.sum()), 1)
    rows = []
    for index, resolution in enumerate(result.resolution):
        members = result.table.iloc[result.members(index + 1)]
        rows.append(
            [
                references[index],
                f"{counts[index] / total:.6f}",
                f"{_mean(members[spread].to_numpy()):.6f}",
                f"{_mean(members['shift_spread'].to_numpy()) * result.pixel_size:.6f}",
                f"{resolution if np.isfinite(resolution) else NO_RESOLUTION:.6f}",
                "1.000000",
                "0.000000",
                "0.000000",
            ]
        )
    header = "".join(f"_{label} #{number}\n" for number, label in enumerate(labels, start=1))
    body = "".join(" ".join(row) + "\n" for row in rows)
    return f"\n{VERSION}\n\ndata_model_classes\n\nloop_\n{header}{body}\n"


def _optimiser(result: Result, prefix: str) -> str:
    data, model, _, _ = names.RELION_JOB
    return _single(
        "optimiser_general",
        {
            "rlnOutputRootName": prefix + "run",
            "rlnModelStarFile": prefix + model,
            "rlnExperimentalDataStarFile": prefix + data,
            "rlnCurrentIteration": 25,
            "rlnNumberOfIterations": 25,
            "rlnRandomSeed": int(result.summary.get("seed") or 0),
        },
    )


def _single(block: str, values: dict[str, object]) -> str:
    """A STAR block of one value per label."""
    rows = (f"_{label:<44} {_text(value)}\n" for label, value in values.items())
    return f"\n{VERSION}\n\ndata_{block}\n\n{''.join(rows)}\n"


def _text(value: object) -> str:
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else 0.0
