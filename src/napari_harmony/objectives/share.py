"""Some particles of a batch that several processes learn from together, and the random numbers that are theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """Consecutive particles of a batch.

    Random numbers are drawn for the whole batch, and those of the share are taken: the same, however it is shared out.

    Attributes
    ----------
    rows : where they stand in the batch
    total : particles in the batch
    """

    rows: slice
    total: int

    @property
    def weight(self) -> float:
        """The part of the batch that it is."""
        return (self.rows.stop - self.rows.start) / self.total

    def of(self, draw: Callable[[int], T]) -> T:
        """What ``draw`` gives for so many particles, for those of the share."""
        every: Any = draw(self.total)
        taken: T = every[self.rows]
        return taken

    def drawing(self, draw: Callable[..., Tensor] = torch.randn) -> Callable[..., Tensor]:
        """``draw``, a function of a shape (n, ...) with one row per particle, for those of the share."""
        return lambda shape, **more: draw((self.total, *shape[1:]), **more)[self.rows]

    def drawing_pairs(self, draw: Callable[..., Tensor] = torch.randn) -> Callable[..., Tensor]:
        """The same for a shape (2 n, ...): the particles, and after them their copies."""

        def both(shape: torch.Size, **more: Any) -> Tensor:
            every = draw((2 * self.total, *shape[1:]), **more)
            return torch.cat([half[self.rows] for half in every.chunk(2)])

        return both
