"""Points that stand for particles, in a tomogram: selected there, selected everywhere, and the other way round."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.session import session_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.particles.dataset import Particles

#: Feature of a Points layer that says which particle each point is.
PARTICLE = "particle"
_RING = (1.0, 1.0, 1.0, 1.0)


class PointsLink:
    """Keeps the selected points of a layer and the session's selection the same, as far as the layer has the particles.

    It ends when the layer is taken out of the viewer. A hidden layer is not kept up to date, for napari takes its time
    to select many points; it catches up when it is shown.
    """

    def __init__(self, viewer: Any, layer: Any) -> None:
        self._session = session = session_of(viewer)
        self._layer = weakref.ref(layer)
        self._data: weakref.ref[Particles] | None = weakref.ref(session.data) if session.data is not None else None
        self._moving = False
        session.selection_changed.connect(self._on_selection)
        layer.selected_data.events.items_changed.connect(self._on_points)
        layer.events.visible.connect(self._on_selection)
        viewer.layers.events.removed.connect(self._on_removed)
        self._removed = viewer.layers.events.removed
        self._on_selection()

    def _on_removed(self, event: Any) -> None:
        layer = self._layer()
        if layer is None or event.value is layer:
            self._session.selection_changed.disconnect(self._on_selection)
            self._removed.disconnect(self._on_removed)
        if layer is not None and event.value is layer:
            # napari keeps layers for a while after they were removed
            layer.selected_data.events.items_changed.disconnect(self._on_points)
            layer.events.visible.disconnect(self._on_selection)
            _links.pop(layer, None)

    def _layer_of_data(self) -> Any:
        """The layer, while the session is at the particles that it shows."""
        data = self._data() if self._data is not None else None
        return self._layer() if data is not None and data is self._session.data else None

    def _on_selection(self, _event: Any = None) -> None:
        layer = self._layer_of_data()
        if self._moving or layer is None or not layer.visible:
            return
        chosen = np.flatnonzero(np.isin(_particles(layer), self._session.selection))
        if set(chosen.tolist()) != set(layer.selected_data):
            self._moving = True
            layer.selected_data = chosen.tolist()
            self._moving = False
        _mark(layer, chosen)

    def _on_points(self, *_changed: Any) -> None:
        layer = self._layer_of_data()
        if self._moving or layer is None:
            return
        particles = _particles(layer)
        chosen = np.fromiter(layer.selected_data, dtype=np.int64)
        chosen = chosen[chosen < len(particles)]
        elsewhere = np.setdiff1d(self._session.selection, particles)  # in other tomograms: not spoken of here
        self._moving = True
        self._session.select(np.union1d(elsewhere, particles[chosen]))
        self._moving = False
        _mark(layer, chosen)


def _particles(layer: Any) -> NDArray[np.int64]:
    return layer.features[PARTICLE].to_numpy(dtype=np.int64)


def _mark(layer: Any, chosen: NDArray[np.int64]) -> None:
    """A white ring around the points chosen (m,): napari highlights them in the layer that is worked on alone."""
    colours = np.array(layer.face_color)
    colours[chosen] = _RING
    if not np.array_equal(colours, layer.border_color):
        layer.border_color = colours


_links: weakref.WeakKeyDictionary[Any, PointsLink] = weakref.WeakKeyDictionary()


def link_points(viewer: Any, layer: Any) -> None:
    """Let the selected points of a layer, with the feature ``PARTICLE``, and the viewer's session follow each other."""
    # a plugin's widgets are handed proxies, which go as soon as they were used
    layer, viewer = (getattr(one, "__wrapped__", one) for one in (layer, viewer))
    _links[layer] = PointsLink(viewer, layer)
