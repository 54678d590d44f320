"""The current particle of a session and the viewer's slider follow each other. No Qt."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_harmony.session import Session


class ViewerLink:
    """Keeps the session's current particle and the viewer's slider at the same particle, both ways.

    The slider counts the images of the layer that is looked at, which may hold some of the particles only.
    """

    def __init__(self, session: Session, viewer: Any) -> None:
        self._session = session
        self._viewer = weakref.ref(viewer)
        self._moving = False
        viewer.dims.events.current_step.connect(self._on_slider)
        viewer.layers.selection.events.active.connect(self._on_slider)
        session.current_changed.connect(self._on_current)

    def _stacks(self) -> list[Any]:
        """Layers that show the session's particles, the one looked at first: the active one, then from the top."""
        viewer, data = self._viewer(), self._session.data
        if viewer is None or data is None:
            return []
        own = self._session.layer
        stacks = [x for x in reversed(viewer.layers) if x is own or getattr(x.data, "particles", None) is data]
        active = viewer.layers.selection.active
        return sorted(stacks, key=lambda layer: (layer is not active, not layer.visible))

    def _on_slider(self, _event: Any = None) -> None:
        viewer, stacks = self._viewer(), self._stacks()
        if self._moving or viewer is None or not stacks:
            return
        layer = stacks[0]
        axis = viewer.dims.ndim - layer.ndim
        particle = particle_at(layer, round(layer.world_to_data(viewer.dims.point[axis:])[0]))
        if particle is not None:
            self._moving = True
            self._session.set_current(particle)
            self._moving = False

    def _on_current(self, particle: int) -> None:
        viewer, stacks = self._viewer(), self._stacks()
        if self._moving or viewer is None or not stacks:
            return
        layer = next((x for x in stacks if _position_of(x, particle) is not None), None)
        if layer is None:
            return
        self._moving = True
        for other in stacks:
            # a stack of other particles would lie over the one asked for
            if _position_of(other, particle) != _position_of(layer, particle):
                other.visible = False
        if not layer.visible:
            layer.visible = True
        viewer.layers.selection.active = layer
        position = _position_of(layer, particle)
        axis = viewer.dims.ndim - layer.ndim
        if layer.ndim == 4:
            from napari_harmony._layers import stand_inside

            stand_inside(viewer, layer)
        viewer.dims.set_point(axis, layer.data_to_world((position, *[0] * (layer.ndim - 1)))[0])
        self._moving = False


def particle_at(layer: Any, position: int) -> int | None:
    """The particle that a layer shows at a slider position, or None."""
    find = getattr(layer.data, "particle_at", None)
    if find is not None:
        return find(position)
    return position if 0 <= position < layer.data.shape[0] else None


def _position_of(layer: Any, particle: int) -> int | None:
    find = getattr(layer.data, "position_of", None)
    if find is not None:
        return find(particle)
    return particle if 0 <= particle < layer.data.shape[0] else None
