"""What a search found, on disk, so that an interrupted run can go on from there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_harmony.engine.discovery import Discovery, Search
from napari_harmony.engine.disk import MAKE_ROOM, kept_on
from napari_harmony.engine.halves import Agreement
from napari_harmony.engine.search import Posterior, Sums
from napari_harmony.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

_POSTERIOR = ("particle", "label", "psi", "shift", "weight", "log_evidence", "class_score")
_SUMS = ("total", "power", "share")
_AGREEMENT = ("frc", "floor", "resolution", "significant")


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], words: Mapping[str, str]) -> None:
    """Write one safetensors file with some ``words`` about it, beside and then renamed."""
    from safetensors.torch import save_file

    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    beside = path.with_suffix(".part")
    with kept_on(path.parent, "the state of the run", MAKE_ROOM):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file(flat, beside, dict(words))
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)


def save_discovery(path: Path, found: Discovery) -> None:
    """Write one safetensors file, beside and then renamed."""
    tensors = {f"posterior.{name}": getattr(found.posterior, name) for name in _POSTERIOR}
    tensors |= {f"sums.{name}": getattr(found.sums, name) for name in _SUMS}
    tensors["junk"] = found.junk
    if found.agreement is not None:
        tensors |= {f"agreement.{name}": torch.as_tensor(getattr(found.agreement, name)) for name in _AGREEMENT}
    save_tensors(path, tensors, {"sigma": json.dumps(found.sigma)})


def load_discovery(path: Path, search: Search) -> Discovery:
    """Read what :func:`save_discovery` wrote for the same particles; ``InputError`` where it is something else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(os.fspath(path), framework="pt", device=str(search.device)) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            sigma = float(json.loads((file.metadata() or {})["sigma"]))
        posterior = Posterior(*(tensors[f"posterior.{name}"] for name in _POSTERIOR))
        sums = Sums(*(tensors[f"sums.{name}"] for name in _SUMS))
        agreement = _agreement(tensors)
        junk = tensors["junk"].cpu()
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{path}: the saved search cannot be read ({error}); start without resuming.") from None
    if len(junk) != len(search.prepared):
        raise InputError(f"{path}: the saved search is of {len(junk)} particles; start without resuming.")
    return Discovery(posterior, sums, search.basis(np.inf), agreement, junk, sigma)


def _agreement(tensors: Mapping[str, torch.Tensor]) -> Agreement | None:
    if "agreement.frc" not in tensors:
        return None
    return Agreement(*(tensors[f"agreement.{name}"].cpu().numpy() for name in _AGREEMENT))
