"""Posteriors that are sure of one class and pose per particle: of the poses of a result, or of a network's best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_harmony.engine.search import Posterior

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


def certain(psi: torch.Tensor, shift: torch.Tensor, label: torch.Tensor) -> Posterior:
    """Sure of angles (n,) in radian, shifts (n, 2) in working pixels, and classes (n,)."""
    n, device = len(psi), psi.device
    ones, particle = torch.ones(n, device=device), torch.arange(n, device=device)
    return Posterior(particle, label.long(), psi, shift, ones, torch.zeros_like(ones), torch.zeros(n, 0, device=device))


def known_poses(table: pd.DataFrame, label: NDArray[np.int64], scale: float, device: torch.device) -> Posterior:
    """The poses in the rows of a result's table, in classes ``label`` (n,); ``scale``: source per working pixels."""
    psi = torch.as_tensor(np.deg2rad(table["psi"].to_numpy(float)), dtype=torch.float32, device=device)
    origin = table[["origin_x", "origin_y"]].to_numpy(float) / scale
    shift = torch.as_tensor(origin, dtype=torch.float32, device=device)
    return certain(psi, shift, torch.as_tensor(label, device=device))
