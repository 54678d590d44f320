"""Which half set each particle belongs to: as the input says, or by chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from napari_harmony.particles.dataset import Particles

#: RELION's name of the column. Particles of one subset stay together, as those whose boxes share their noise must.
COLUMN = "rlnRandomSubset"
#: Subsets of fewer usable particles than this are no halves that anything can be found in.
FEWEST = 4


def subsets_of(particles: Particles) -> NDArray[np.int64] | None:
    """The subsets (n,), 1 or 2, that the input's table gives; None where it does not give one to every particle."""
    if COLUMN not in particles.table:
        return None
    values = pd.to_numeric(particles.table[COLUMN], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return values.astype(np.int64) if set(np.unique(values)) == {1.0, 2.0} else None


def split(
    count: int, generator: torch.Generator, subset: NDArray[np.int64] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of the two halves of ``count`` particles, ascending: those of each ``subset`` (count,), or by chance."""
    if subset is not None:
        first, second = (torch.as_tensor(np.flatnonzero(subset == number)) for number in (1, 2))
        if min(len(first), len(second)) >= FEWEST:
            return first, second
    order = torch.randperm(count, generator=generator)
    half = (count + 1) // 2
    return order[:half].sort().values, order[half:].sort().values
