"""What ``napari-harmony info`` says about a file or folder."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.errors import InputError, InputWarning

if TYPE_CHECKING:
    from napari_harmony.particles.ctf import CtfParameters
    from napari_harmony.particles.dataset import Particles

_WIDTH = 16
_LONGEST_LIST = 12


def describe(path: Path) -> list[str]:
    """Lines about a particle file, the OUT folder of a run, or a model; no image is read.

    Raises
    ------
    InputError : if it is none of these
    """
    from napari_harmony.outputs import is_output, names

    if is_output(path):
        return _lines(_output(path))
    model = path / names.MODEL[1] if path.is_dir() else path
    if model.name == names.MODEL[1] or model.suffix == ".safetensors":
        if model.with_suffix(".json").is_file():
            return _lines(_model(model.with_suffix(".json")))
        if not path.is_dir():
            raise InputError(
                f"{path}: a model is {' and '.join(names.MODEL)}, and {model.with_suffix('.json')} is missing."
            )
    from napari_harmony.particles.volumes import is_folder_of_volumes

    if path.is_dir() and not (is_folder_of_volumes(path) or (path / names.PARTICLES).is_file()):
        raise InputError(
            f"{path}: this folder holds neither a finished run nor a model, and no volumes; give a particle file."
        )
    from napari_harmony.particles import open_particles

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", InputWarning)
        facts = _particles(path, open_particles(path))
    told = dict.fromkeys(str(warning.message) for warning in heard if issubclass(warning.category, InputWarning))
    return _lines(facts) + [f"{'warning':<{_WIDTH}}{sentence}" for sentence in told]


def _lines(facts: dict[str, str]) -> list[str]:
    return [f"{name:<{_WIDTH}}{value}" for name, value in facts.items()]


def _particles(path: Path, particles: Particles) -> dict[str, str]:
    box, pixel = particles.box, particles.pixel_size
    known = particles.pixel_size_known
    facts = {
        "file": str(path),
        "format": _format(path, particles),
        "particles": f"{len(particles)}{' subtomograms' if particles.dimensions == 3 else ''}",
        "box": f"{box} px" + (f" ({box * pixel:.4g} A)" if known else ""),
        "pixel size": f"{pixel:.6g} A" if known else "unknown (give --pixel-size)",
    }
    if particles.dimensions == 3:
        facts["missing wedge"] = _wedge(particles)
    else:
        facts["CTF"] = _ctf(particles.ctf) if particles.ctf is not None else "unknown"
    stacks = {str(file.path) for file in getattr(particles.images, "files", ())} - {str(path)}
    if stacks:
        facts["image files"] = f"{len(stacks)}, first {sorted(stacks)[0]}"
    if "rlnMicrographName" in particles.table:
        facts["micrographs"] = str(particles.table["rlnMicrographName"].nunique())
    optics = getattr(particles.metadata, "optics", None)
    if optics is not None:
        facts["optics groups"] = str(len(optics))
    columns = [str(column) for column in particles.table.columns]
    facts["columns"] = f"{len(columns)}: {', '.join(columns)}" if columns else "none (a bare stack)"
    return facts


def _format(path: Path, particles: Particles) -> str:
    document = getattr(particles.metadata, "document", None)
    if document is not None:
        if getattr(particles.metadata, "optics", None) is None:
            return "RELION STAR (3.0 or older)"
        version = f"{document.version // 10000}" if document.version and document.version >= 50000 else "3.1 or 4"
        return f"RELION STAR ({version})"
    if particles.metadata is not None:
        return "cryoSPARC .cs"
    if path.is_dir():
        return "folder of volumes"
    name = path.name.lower()
    return "TIFF stack" if name.endswith((".tif", ".tiff")) else "MRC stack"


def _wedge(particles: Particles) -> str:
    from napari_harmony.particles.wedge import TiltRange

    if particles.wedge is None:
        return "unknown"
    if isinstance(particles.wedge, TiltRange):
        return f"tilts from {particles.wedge.low:g} to {particles.wedge.high:g} degrees about y"
    return "a volume per particle (rlnCtfImage)"


def _ctf(ctf: CtfParameters) -> str:
    defocus = 0.5e-4 * (ctf.defocus_u + ctf.defocus_v)
    flipped = ", images are phase-flipped" if ctf.phase_flipped else ""
    return (
        f"{_span(ctf.voltage)} kV, Cs {_span(ctf.spherical_aberration)} mm, amplitude contrast "
        f"{_span(ctf.amplitude_contrast)}, defocus {_span(defocus)} um{flipped}"
    )


def _span(values: np.ndarray) -> str:
    low, high = f"{np.min(values):.3g}", f"{np.max(values):.3g}"
    return low if low == high else f"{low} to {high}"


def _output(folder: Path) -> dict[str, str]:
    from napari_harmony.outputs import load_output

    result = load_output(folder)
    summary = result.summary
    seconds = (summary.get("seconds") or {}).get("total")
    kind = " subtomograms" if result.dimensions == 3 else ""
    resolutions = [f"{r:.1f} A" if np.isfinite(r) else "-" for r in result.resolution]
    return {
        "folder": str(folder),
        "format": "a finished run of napari-harmony",
        "created": str(summary.get("created") or "-"),
        "input": str(summary.get("input") or "-"),
        "particles": f"{len(result)}{kind}, {int(result.counts.sum())} in a class, {int(result.flagged.sum())} flagged",
        "flags": ", ".join(f"{name} {count}" for name, count in result.flag_counts.items()) or "none",
        "classes": str(result.classes),
        "counts": _listed([str(count) for count in result.counts]),
        "resolution": _listed(resolutions),
        "pixel size": f"{result.pixel_size:.6g} A",
        "device": str(summary.get("device") or "-"),
        "seed": str(summary.get("seed") if summary.get("seed") is not None else "-"),
        "wall time": f"{seconds:.1f} s" if isinstance(seconds, int | float) else "-",
        "warnings": " | ".join(result.warnings) or "none",
    }


def _model(path: Path) -> dict[str, str]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: this is not the description of a model ({error}).") from error
    if not isinstance(description, dict):
        raise InputError(f"{path}: this is not the description of a model.")
    kind = {2: "images", 3: "subtomograms"}.get(description.get("dimensions", 2), "unknown")
    return {"file": str(path), "format": f"a model of napari-harmony, of {kind}"} | {
        str(name).replace("_", " "): _value(value) for name, value in description.items()
    }


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(item)}" for name, item in value.items())
    if isinstance(value, list):
        return _listed([_value(item) for item in value])
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _listed(words: list[str]) -> str:
    more = f", and {len(words) - _LONGEST_LIST} more" if len(words) > _LONGEST_LIST else ""
    return ", ".join(words[:_LONGEST_LIST]) + more
