"""Class averages of a job that runs elsewhere, as one layer that is redrawn. No Qt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_harmony._averages import Montage
from napari_harmony._layers import KEY, fit_visible, role_of
from napari_harmony._volume_averages import orthogonal_slices
from napari_harmony.preferences import preferences

if TYPE_CHECKING:
    from napari_harmony.engine.events import Preview

ROLE = "followed averages"


class FollowedAverages:
    """The layer of the job that is followed; there is one at the most."""

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer

    def show(self, preview: Preview, out: Path) -> None:
        """Draw the averages as they stand; of subtomograms slices through them."""
        volumes = preview.averages.ndim == 4
        tiles = Montage.of(orthogonal_slices(preview.averages) if volumes else preview.averages)
        limits = tiles.contrast_limits()
        name = f"averages so far: {out.name}"
        layer = self._layer()
        if layer is None:
            about = {KEY: {"role": ROLE}}
            colours = preferences().colormap
            self._viewer.add_image(
                tiles.picture, name=name, colormap=colours, contrast_limits=limits, metadata=about, units="pixel"
            )
            fit_visible(self._viewer)
            return
        changed = layer.data.shape != tiles.picture.shape
        layer.data, layer.name, layer.contrast_limits = tiles.picture, name, limits
        if changed:
            fit_visible(self._viewer)

    def remove(self) -> None:
        """Take the layer away."""
        layer = self._layer()
        if layer is not None:
            self._viewer.layers.remove(layer)

    def _layer(self) -> Any:
        return next((layer for layer in self._viewer.layers if role_of(layer) == ROLE), None)
