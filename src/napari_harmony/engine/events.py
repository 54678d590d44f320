"""What a run says while it runs: small immutable events, the same for GUI, command line and Python.

An engine call is a generator of these; closing the generator cancels the run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Progress:
    """Work done so far: ``fraction`` of the whole run in [0, 1], and which stage is running."""

    stage: str
    fraction: float
    message: str = ""
    seconds_left: float | None = None


@dataclass(frozen=True)
class Preview:
    """Class averages as they stand: (k, box, box) float32, and the number of particles in each (k,)."""

    averages: NDArray[np.float32]
    counts: NDArray[np.float32]
    iteration: int


@dataclass(frozen=True)
class Loss:
    """The objective while the network trains: after ``done`` of ``total`` batches, and the terms it is a sum of.

    About ten a second at most; the last batch is always among them. In the sum the terms have weights.
    """

    done: int
    total: int
    value: float
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """The last event of every run.

    ``value`` is a ``Result`` (align, cluster) or a ``HarmonyModel`` (fit); ``model`` is the model that was used.
    """

    value: Any
    model: Any = None


Event = Progress | Preview | Loss | Done
