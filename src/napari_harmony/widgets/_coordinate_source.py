"""Where particles were picked: a Points layer, a Shapes layer of lines, or a file of coordinates."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog

from napari_harmony._layers import role_of
from napari_harmony._map_back import ROLES
from napari_harmony._tomograms import lines_in, points_in, tomogram_of
from napari_harmony.errors import InputError
from napari_harmony.particles.coordinates import COORDINATE_SUFFIXES, Coordinates, read_coordinates

if TYPE_CHECKING:
    from collections.abc import Iterable

_NOT_PICKED = ("labels", *ROLES)  # the plugin drew them


class CoordinateSource(QComboBox):
    """Offers the Points and Shapes layers of the viewer and one file.

    Signals
    -------
    changed : another source was chosen
    """

    changed = Signal()

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._layers: list[Any] = []
        self._entries: list[Any] = [None]
        self._file: Path | None = None
        self._read: Coordinates | None = None
        self.setToolTip(
            "Points picked in the tomogram, paths drawn along filaments (Shapes), or a .star (RELION), .tbl (Dynamo) "
            "or .csv file."
        )
        self.setMinimumContentsLength(12)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.activated.connect(self._on_activated)
        self.refresh([])

    def refresh(self, layers: Iterable[Any]) -> None:
        """Offer the Points and Shapes layers among ``layers``; the choice stays where it can."""
        chosen = self._chosen
        self._layers = [layer for layer in layers if _is_picked(layer)]
        self._entries = [*self._layers, *([self._file] if self._file is not None else []), None]
        self.clear()
        self.addItems(["open a file..." if x is None else x.name for x in self._entries])
        kept = [i for i, entry in enumerate(self._entries) if entry is chosen and entry is not None]
        self.setCurrentIndex(kept[0] if kept else 0)
        self.changed.emit()

    @property
    def _chosen(self) -> Any:
        """A Points or Shapes layer, the path of a file, or None."""
        return self._entries[self.currentIndex()] if 0 <= self.currentIndex() < len(self._entries) else None

    @property
    def layer(self) -> Any:
        """The chosen Points or Shapes layer, or None."""
        return None if isinstance(self._chosen, Path) else self._chosen

    @property
    def are_lines(self) -> bool:
        """Whether lines were drawn, so that their corners are no particles."""
        return self.layer is not None and _is_drawn(self.layer)

    def set_file(self, path: Path) -> None:
        """Choose a file of coordinates."""
        self._file, self._read = path, None
        self.refresh(self._layers)
        self.setCurrentIndex(len(self._entries) - 2)
        self.changed.emit()

    def tomograms(self, tomogram: Any) -> tuple[dict[str, int], str | None]:
        """The tomograms that the chosen file names with their numbers of particles, and which one a layer shows.

        Empty where no file is chosen, or it names none.

        Raises
        ------
        InputError
            Where the file cannot be read.
        """
        chosen = self._chosen
        if not isinstance(chosen, Path):
            return {}, None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = self._contents(chosen)
        return read.tomogram_counts, read.fitting_tomogram(tomogram_of(tomogram).path)

    def coordinates(self, tomogram: Any, name: str | None = None) -> Coordinates:
        """The coordinates in the tomogram of a layer.

        Parameters
        ----------
        tomogram
            The layer.
        name
            Of the tomogram in a file that names several; None to tell by the name of the layer's own file.

        Raises
        ------
        InputError
            Where none are chosen, or they cannot be read or do not belong to this tomogram.
        """
        chosen = self._chosen
        if self.layer is not None:
            return (lines_in if self.are_lines else points_in)(self.layer, tomogram)
        if not isinstance(chosen, Path):
            raise InputError("Pick particles in a Points layer, or choose a file of coordinates.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said again at every look; what matters is refused
            return self._contents(chosen).in_tomogram(tomogram_of(tomogram).path, name)

    def _contents(self, path: Path) -> Coordinates:
        """All coordinates of the file, read once."""
        if self._read is None:
            self._read = read_coordinates(path)
        return self._read

    def _on_activated(self, _index: int) -> None:
        if self._chosen is not None:
            self.changed.emit()
            return
        kinds = " ".join(f"*{suffix}" for suffix in COORDINATE_SUFFIXES)
        path, _ = QFileDialog.getOpenFileName(self, "Open coordinates", "", f"Coordinates ({kinds})")
        if path:
            self.set_file(Path(path))
        else:
            self.setCurrentIndex(0)
            self.changed.emit()


def _is_picked(layer: Any) -> bool:
    """Whether a layer has points that somebody picked, or lines that somebody drew."""
    from napari.layers import Points

    return _is_drawn(layer) or (isinstance(layer, Points) and role_of(layer) not in _NOT_PICKED)


def _is_drawn(layer: Any) -> bool:
    from napari.layers import Shapes

    return isinstance(layer, Shapes) and layer.ndim == 3
