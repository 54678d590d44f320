"""What a search of subtomograms found, on disk, so that an interrupted run can go on from there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from napari_harmony.engine.halves import Agreement
from napari_harmony.engine.volumes.discovery import Discovery, Search
from napari_harmony.engine.volumes.search import Posterior, Sums
from napari_harmony.errors import InputError

_POSTERIOR = ("particle", "label", "rotation", "shift", "weight", "log_evidence", "class_score")
_AGREEMENT = ("frc", "floor", "resolution", "significant")


def save_discovery(path: Path, found: Discovery) -> None:
    """Write one safetensors file, beside and then renamed."""
    from safetensors.torch import save_file

    tensors = {f"posterior.{name}": getattr(found.posterior, name) for name in _POSTERIOR}
    assert found.agreement is not None, "a search compares halves"
    tensors |= {f"agreement.{name}": torch.as_tensor(getattr(found.agreement, name)) for name in _AGREEMENT}
    for i, half in enumerate(found.halves):
        tensors |= {f"half{i}.grids": half.grids, f"half{i}.share": half.share}
    tensors["junk"] = found.junk
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    try:
        save_file(flat, beside, {"sigma": json.dumps(found.sigma)})
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def load_discovery(path: Path, search: Search) -> Discovery:
    """Read what :func:`save_discovery` wrote for the same particles.

    Raises
    ------
    InputError : the file cannot be read, or is of other particles
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device=str(search.device)) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            sigma = float(json.loads(file.metadata()["sigma"]))
        posterior = Posterior(*(tensors[f"posterior.{name}"] for name in _POSTERIOR))
        agreement = Agreement(*(tensors[f"agreement.{name}"].cpu().numpy() for name in _AGREEMENT))
        band = search.prepared.data.band
        first, second = (Sums(tensors[f"half{i}.grids"], tensors[f"half{i}.share"], band) for i in range(2))
        junk = tensors["junk"].cpu()
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} cannot be read as the state of a run; start anew without --resume.") from error
    if len(posterior) != len(search.prepared):
        raise InputError(
            f"{path} is of {len(posterior)} particles, these are {len(search.prepared)}; start anew without --resume."
        )
    return Discovery(posterior, (first, second), agreement, junk, sigma)
