"""Which of the tomograms that a file of coordinates names is the one that is open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox

_ASK = "choose one..."


class TomogramNames(QComboBox):
    """Offers the tomograms of a file with how many particles each has; the name that fits the open one is chosen.

    Signals
    -------
    changed : the user chose another one
    """

    changed = Signal()

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._shown: tuple[Any, ...] = ((), None)
        self.setToolTip("The tomogram whose coordinates are taken; the file has those of several.")
        self.setMinimumContentsLength(12)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.activated.connect(lambda _index: self.changed.emit())

    @property
    def several(self) -> bool:
        """Whether there is something to choose from."""
        return self.count() > 1

    @property
    def name(self) -> str | None:
        """The chosen tomogram; None where there is no choice, or none was made."""
        return self.currentData() if self.several else None

    @property
    def sentence(self) -> str:
        """How many of the particles are taken; empty where there is no choice, or none was made."""
        if self.name is None:
            return ""
        counts: dict[str, int] = dict(self._shown[0])
        return f"The file has {sum(counts.values()):,} in {len(counts)} tomograms; those of {self.name} are taken."

    def offer(self, counts: Mapping[str, int], fitting: str | None) -> None:
        """Offer tomograms by name with their numbers of particles.

        Parameters
        ----------
        counts : name -> particles
        fitting : the name that fits the open tomogram, None where none does or more than one

        A choice stays for as long as the same is offered.
        """
        shown = (tuple(counts.items()), fitting)
        if shown == self._shown:
            return
        self._shown = shown
        self.clear()
        if fitting is None and len(counts) > 1:
            self.addItem(_ASK, None)
        for name, count in counts.items():
            self.addItem(f"{name} ({count:,})", name)
        self.setCurrentIndex(max(0, self.findData(fitting)) if fitting is not None else 0)
