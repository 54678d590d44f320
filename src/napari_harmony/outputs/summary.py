"""``summary.json``: what went in, how it was done, what came out."""

from __future__ import annotations

import json
import math
import platform
import time
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from napari_harmony.engine.settings import Settings
from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import Particles
from napari_harmony.results import Result

#: Packages whose versions decide the numbers.
PACKAGES = ("napari-harmony", "numpy", "scipy", "pandas", "scikit-learn", "torch", "mrcfile", "starfile")


def summarise(particles: Particles, result: Result, settings: Settings | None = None) -> dict[str, Any]:
    """The provenance of a run, ready for JSON (NaN and infinity as None).

    What the engine wrote into ``result.summary`` is kept: parameters, seed, device, seconds per stage, warnings, or
    whatever else. The input, the versions, the numbers of particles and classes and the resolutions are counted here.
    """
    unusable = int((result.table["class_number"] == 0).sum())
    parameters = asdict(settings) if settings is not None else {}
    defaults: dict[str, Any] = {
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "parameters": parameters,
        "seed": parameters.get("seed"),
        "device": parameters.get("device"),
        "seconds": {},
        "warnings": [],
    }
    outcome: dict[str, Any] = {
        "input": str(particles.path.resolve()) if particles.path is not None else None,
        "dimensions": result.dimensions,
        "box": particles.box,
        "pixel_size": result.pixel_size,
        "pixel_size_known": particles.pixel_size_known,
        "ctf": particles.ctf is not None,
        "versions": {**_versions(), **result.summary.get("versions", {})},
        "particles_in": len(result),
        "particles_out": len(result) - unusable,
        "particles_unclassified": unusable,
        "particles_flagged": int(result.flagged.sum()),
        "flags": result.flag_counts,
        "classes": result.classes,
        "particles_per_class": result.counts,
        "resolution_per_class": result.resolution,
        "average_pixel_size": result.average_pixel_size,
        "content_size": result.content.shape[1],
    }
    cleaned: dict[str, Any] = to_json(defaults | result.summary | outcome)
    return cleaned


def to_json(value: Any) -> Any:
    """The same value in JSON's types: arrays as lists, paths as text, NaN and infinity as None."""
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return to_json(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Write strict JSON, UTF-8, two spaces of indent."""
    text = json.dumps(to_json(summary), indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_summary(path: Path) -> dict[str, Any]:
    """Read ``summary.json``.

    Raises
    ------
    InputError : if it is missing, is not JSON, or is not the summary of a run
    """
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give the OUT folder of a finished run."
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: this is not valid JSON ({error}); run the job again.") from error
    if not isinstance(summary, dict) or not {"particles_in", "classes", "pixel_size"} <= summary.keys():
        raise InputError(f"{path}: this is not the summary of a napari-harmony run.")
    return summary


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
