"""The Map back button's work: computed in a thread, shown as layers of the tomogram."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_harmony._layers import LayerTuple, fit_visible, role_of, space_of
from napari_harmony._map_back import POINTS_ROLE, ROLES, InTomogram, find_in_tomogram, layers_of
from napari_harmony._tomograms import is_tomogram
from napari_harmony.engine.events import Done, Event, Progress
from napari_harmony.errors import HarmonyError
from napari_harmony.session import Session
from napari_harmony.widgets._points_link import link_points
from napari_harmony.widgets._runner import Runner, describe

if TYPE_CHECKING:
    from napari_harmony.particles.dataset import Particles
    from napari_harmony.results import Result

_SHOWN_WHOLE = 2**29  # bytes of a tomogram that is left visible when the view turns to 3D
_IN_2D = ("particles", "aligned", "class", "selection", "averages", "labels", "average volumes", "coordinates")


@dataclass(frozen=True, eq=False)
class MappedBack:
    """What was drawn: the tomogram's layer, where the particles are, and the layers to be added."""

    layer: Any
    found: InTomogram
    drawn: list[LayerTuple]


class MapBack(QObject):
    """Puts the averages of a result into the tomogram of the viewer, one at a time.

    Signals
    -------
    said(str, bool) : a sentence for the user, and whether it is about an error
    busy_changed : it began or ended
    """

    said = Signal(str, bool)
    busy_changed = Signal()

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._work = Session()  # the state of this work alone: a run may go on beside it
        self.runner = Runner(self._work)
        self.runner.done.connect(self._on_done)
        self.runner.failed.connect(self._on_failed)
        self._work.state_changed.connect(self._on_state)

    @property
    def busy(self) -> bool:
        """Whether it is at work."""
        return self._work.state.busy

    def start(self, particles: Particles, result: Result) -> None:
        """Begin; ``said`` follows."""
        if self.busy:
            return
        tomograms = [layer for layer in self._viewer.layers if is_tomogram(layer)]
        active = self._viewer.layers.selection.active
        chosen = [active] if active in tomograms else tomograms
        self.runner.submit(partial(_draw, particles, result, chosen))

    def _on_state(self, _state: Any) -> None:
        self.busy_changed.emit()

    def _on_done(self, done: Done) -> None:
        mapped: MappedBack = done.value
        if mapped.layer not in self._viewer.layers:
            return
        for old in [layer for layer in self._viewer.layers if role_of(layer) in ROLES]:
            self._viewer.layers.remove(old)
        for layer in self._viewer.layers:
            if role_of(layer) in _IN_2D:
                layer.visible = False
        for data, options, kind in mapped.drawn:
            added = getattr(self._viewer, f"add_{kind}")(data, **with_colormap(options, kind))
            if role_of(added) == POINTS_ROLE:
                link_points(self._viewer, added)
        small = mapped.layer.data.nbytes <= _SHOWN_WHOLE
        mapped.layer.visible = small
        self._viewer.layers.selection.active = mapped.layer
        self._viewer.dims.ndisplay = 3
        middle = mapped.layer.data_to_world([size // 2 for size in mapped.layer.data.shape])
        for axis in range(3):  # for the way back to the 2D view
            self._viewer.dims.set_point(self._viewer.dims.ndim - 3 + axis, middle[axis])
        fit_visible(self._viewer)
        self.said.emit(_sentence(mapped, small), False)

    def _on_failed(self, error: Exception) -> None:
        self.said.emit(str(error) if isinstance(error, HarmonyError) else describe(error), True)


def with_colormap(options: dict[str, Any], kind: str) -> dict[str, Any]:
    """Layer options with colours as napari wants them for a layer of this kind."""
    from napari.utils import Colormap, DirectLabelColormap

    if kind == "surface":
        return {**options, "colormap": Colormap(**options["colormap"])}
    if kind == "labels":
        return {**options, "colormap": DirectLabelColormap(color_dict=options["colormap"])}
    return options


def _draw(particles: Particles, result: Result, layers: list[Any]) -> Iterator[Event]:
    yield Progress("placing the averages", 0.0)
    layer, found = find_in_tomogram(particles, result, layers)
    yield Progress("drawing surfaces", 0.3)
    yield Done(MappedBack(layer, found, layers_of(found, result, space_of(layer))))


def _sentence(mapped: MappedBack, shown: bool) -> str:
    count, left_out = len(mapped.found.placement), len(mapped.found.left_out)
    text = f"{count:,} averages are in the tomogram '{mapped.layer.name}'"
    if left_out:
        text += f"; {left_out:,} particles without a class, or junk, are left out (a hidden layer has them)"
    if not shown:
        text += "; it is hidden, because it is too large for the 3D view"
    return text + ". In the 2D view, show the layer of classes."
