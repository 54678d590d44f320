"""The steerable bases that a process has built: loads no torch, so that what a run will take can be told from it."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from napari_harmony.engine.work import Work

if TYPE_CHECKING:
    from napari_harmony.engine.steerable import SteerableBasis


class Bases:
    """Steerable bases, each built once per process; the last few are kept.

    A basis is for particles within ``radius`` pixels of the centre of a ``box``, up to ``cycles`` per box.
    """

    def __init__(self, most: int = 12) -> None:
        self.most, self.built = most, OrderedDict[tuple[int, float, float, str], "SteerableBasis"]()

    def has(self, box: int, radius: float, cycles: float) -> bool:
        """Whether a basis is there, for whichever device: moving one to another takes no time to speak of."""
        return any(key[:3] == (box, radius, cycles) for key in self.built)

    def get(self, box: int, radius: float, cycles: float, device: str) -> Work[SteerableBasis]:
        """A basis; yields while it is built."""
        from napari_harmony.engine.steerable import build_basis

        key = (box, radius, cycles, device)
        if key not in self.built:
            self.built[key] = yield from build_basis(*key)
            while len(self.built) > self.most:
                self.built.popitem(last=False)
        self.built.move_to_end(key)
        return self.built[key]


BASES = Bases()
