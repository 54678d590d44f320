"""Puts results into the viewer: class averages while a run goes on, aligned particles when it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony._averages import average_layers, class_at
from napari_harmony._layers import (
    KEY,
    LayerTuple,
    aligned_layer,
    fit_visible,
    particles_of,
    role_of,
    space_of,
    stand_inside,
)

if TYPE_CHECKING:
    from napari_harmony.engine.events import Preview
    from napari_harmony.particles.dataset import Particles
    from napari_harmony.results import Result

_SHOWN = ("aligned", "averages", "labels")  # what a run draws and leaves visible
_SET = "set"  # key of the metadata: layers of one set are drawn from the same particles


class ResultLayers:
    """The layers drawn from the runs on one particle layer; a new run redraws them in place.

    What the user set on a drawn layer (visibility, colours, contrast) stays. Layers the user removed come back.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer

    def show_preview(self, preview: Preview, layer: Any, particles: Particles) -> None:
        """Class averages as they stand, beside the particles."""
        nothing = np.full(len(preview.averages), np.nan)
        self._show_averages(preview.averages, preview.counts, nothing, np.nan, layer, particles)

    def show_result(self, result: Result, layer: Any, particles: Particles) -> None:
        """Aligned particles over the stack, final class averages beside it; outdated layers of one class go."""
        for old in [x for x in self._viewer.layers if role_of(x) == "class" and self._belongs(x, layer)]:
            self._viewer.layers.remove(old)
        self._put(aligned_layer(particles, result, space_of(layer), layer.contrast_limits), layer)
        if particles.dimensions == 3:
            stand_inside(self._viewer, layer)
        self._show_averages(
            result.averages, result.counts, result.resolution, result.average_pixel_size, layer, particles
        )

    def update(self, result: Result, layer: Any, particles: Particles) -> None:
        """Draw an edited result in the layers that there are of it; those the user removed stay away."""
        drawn = [x for x in self._viewer.layers if self._belongs(x, layer)]
        aligned = next((x for x in drawn if role_of(x) == "aligned"), None)
        if aligned is not None:
            if aligned.data.result is result:
                return
            self._put(aligned_layer(particles, result, space_of(layer), layer.contrast_limits), layer)
        for old in [x for x in drawn if role_of(x) == "class" and x.data.result is not result]:
            number = old.metadata[KEY]["class"]
            if number > result.classes or not len(result.members(number)):
                self._viewer.layers.remove(old)
                continue
            tuple_of = aligned_layer(particles, result, space_of(layer), layer.contrast_limits, number)
            self._put(tuple_of, layer, match=number).name = tuple_of[1]["name"]
        if any(role_of(x) == "averages" for x in drawn):
            self._show_averages(
                result.averages, result.counts, result.resolution, result.average_pixel_size, layer, particles
            )

    def show_only(self, layer: Any) -> None:
        """Of all particles and what was drawn from them, show this layer and what was drawn from it."""
        for other in self._viewer.layers:
            role = role_of(other)
            if other is layer or (role in _SHOWN and self._belongs(other, layer)):
                other.visible = True
            elif role in _SHOWN or is_source(other):
                other.visible = False
        self._viewer.layers.selection.active = layer

    def remove(self, layer: Any) -> None:
        """Remove what was drawn from a layer."""
        for drawn in [x for x in self._viewer.layers if x is not layer and self._belongs(x, layer)]:
            self._viewer.layers.remove(drawn)

    def hide(self, layer: Any) -> None:
        """Hide what was drawn from a layer, because others are looked at."""
        for drawn in self._viewer.layers:
            if self._belongs(drawn, layer) and drawn is not layer:
                drawn.visible = False

    def show_class(self, result: Result, class_number: int, layer: Any, particles: Particles) -> Any:
        """The aligned particles of one class, on top and active; the other stacks over it are hidden."""
        drawn = aligned_layer(particles, result, space_of(layer), layer.contrast_limits, class_number)
        for other in self._viewer.layers:
            if role_of(other) == "class" and self._belongs(other, layer):
                other.visible = False
        added = self._put(drawn, layer, match=class_number)
        added.visible = True
        self._viewer.layers.selection.active = added
        stand_inside(self._viewer, added)
        first = added.data_to_world([0] * added.ndim)[0]
        self._viewer.dims.set_point(self._viewer.dims.ndim - added.ndim, first)
        return added

    def class_under(self, position: Any) -> int | None:
        """The class whose average lies under a world position, or None."""
        for layer in reversed(self._viewer.layers):
            if role_of(layer) == "averages" and layer.visible:
                y, x = layer.world_to_data(position)[-2:]
                number = class_at(layer.metadata[KEY], y, x)
                if number is not None:
                    return number
        return None

    def _show_averages(
        self, averages: Any, counts: Any, resolution: Any, pixel_size: float, layer: Any, particles: Particles
    ) -> None:
        before = self._picture_size(layer)
        for drawn in average_layers(averages, counts, resolution, pixel_size, space_of(layer), particles.box):
            self._put(drawn, layer)
        if self._picture_size(layer) != before:
            fit_visible(self._viewer)  # the picture came, or its number of tiles changed

    def _picture_size(self, layer: Any) -> tuple[int, ...] | None:
        pictures = [x for x in self._viewer.layers if role_of(x) == "averages" and self._belongs(x, layer)]
        return pictures[0].data.shape if pictures else None

    def _belongs(self, drawn: Any, layer: Any) -> bool:
        return drawn.metadata.get(KEY, {}).get(_SET) == _set_of(layer)

    def _put(self, drawn: LayerTuple, layer: Any, match: int | None = None) -> Any:
        """Redraw the layer of the same role for the same particles, or add it; the active layer stays active."""
        data, options, kind = drawn
        about = {**options["metadata"][KEY], _SET: _set_of(layer)}
        options = {**options, "metadata": {KEY: about}}
        for old in self._viewer.layers:
            same = role_of(old) == about["role"] and self._belongs(old, layer)
            if same and old.metadata[KEY].get("class") == match:
                return _redraw(old, data, options)
        others = (x for x in self._viewer.layers if role_of(x) == about["role"] and not self._belongs(x, layer))
        if next(others, None) is not None:  # of which particles, where there are several
            options["name"] = f"{options['name']} ({layer.name})"
        active = self._viewer.layers.selection.active
        added = getattr(self._viewer, f"add_{kind}")(data, **options)
        self._viewer.layers.selection.active = active if active is not None else layer
        return added


def _set_of(layer: Any) -> str:
    """What layers drawn from a particle layer are known by: its result folder, or the layer's own identity."""
    return layer.metadata.get(KEY, {}).get(_SET) or str(layer.unique_id)


def _redraw(layer: Any, data: Any, options: dict[str, Any]) -> Any:
    if "features" in options and len(layer.data) != len(data):
        layer.selected_data = set()
    layer.data = data
    layer.metadata = options["metadata"]
    layer.scale = options["scale"]
    layer.translate = options["translate"]
    if "features" in options:
        layer.features = options["features"]
    elif role_of(layer) == "averages":
        layer.contrast_limits = options["contrast_limits"]
    return layer


def is_source(layer: Any) -> bool:
    """Whether a run can start from this layer."""
    return hasattr(layer, "rgb") and particles_of(layer) is not None
