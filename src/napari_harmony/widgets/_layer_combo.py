"""Combo boxes of the viewer's layers that something can be done with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox

from napari_harmony.widgets._result_layers import is_source


class LayerCombo(QComboBox):
    """The layers that pass a test; keeps the choice while layers come, go and are renamed.

    Signals
    -------
    layer_changed(layer | None) : another layer is chosen
    """

    layer_changed = Signal(object)

    def __init__(self, offers: Callable[[Any], bool], tip: str, parent: Any = None) -> None:
        super().__init__(parent)
        self._offers = offers
        self._layers: list[Any] = []
        self._chosen: Any = None
        self.setToolTip(tip)
        self.setMinimumContentsLength(12)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.currentIndexChanged.connect(self._on_index)

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        return self._chosen

    def set_layer(self, layer: Any) -> None:
        """Choose a layer."""
        if layer in self._layers:
            self.setCurrentIndex(self._layers.index(layer))

    def refresh(self, layers: Any) -> None:
        """Offer those of ``layers`` that pass the test."""
        offered = [layer for layer in layers if self._offers(layer)]
        self.blockSignals(True)
        self._layers = offered
        self.clear()
        self.addItems([layer.name for layer in offered])
        if self._chosen in offered:
            self.setCurrentIndex(offered.index(self._chosen))
        self.blockSignals(False)
        self._on_index(self.currentIndex())

    def _on_index(self, index: int) -> None:
        layer = self._layers[index] if 0 <= index < len(self._layers) else None
        if layer is not self._chosen:
            self._chosen = layer
            self.layer_changed.emit(layer)


class ParticleLayerCombo(LayerCombo):
    """The layers that a run can start from."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(
            is_source,
            "The particles: an image layer of many square images, or of many cubes (particle, z, y, x).",
            parent,
        )
