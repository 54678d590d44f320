"""The navigator's pictures as napari layers: redrawn in place, beside the particles, with a caption each. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony._layers import KEY, contrast_limits, fit_visible, flat_space, role_of, space_of, stand_inside
from napari_harmony._viewer_link import particle_at

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_harmony.session import Session

_GAP = 1.08  # between pictures, in boxes of the particles
_CAPTION_COLOUR = "#ffd166"
CAPTIONS = "navigator captions"


@dataclass(frozen=True)
class Slot:
    """A picture of the navigator: what it is, what its layer is called, and where it lies in boxes from the particles.

    Attributes
    ----------
    role : in the metadata of the layer
    name : of the layer
    down, right : boxes from the particles
    """

    role: str
    name: str
    down: int
    right: int


POSITION = Slot("navigator", "navigator", 0, -1)
POSED = Slot("navigator posed", "A in the pose of B", 1, -1)
TARGET = Slot("navigator target", "B", 1, 0)
SLOTS = (POSITION, POSED, TARGET)
ROLES = (*(slot.role for slot in SLOTS), CAPTIONS)


class NavigatorLayers:
    """Draws pictures of the network's grid beside a layer of particles.

    What the user sets on a layer (visibility, colours, contrast) stays; layers the user removed come back with the
    next picture.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._captions: dict[str, str] = {}

    def has(self, slot: Slot) -> bool:
        """Whether a slot is shown."""
        return self.layer(slot) is not None

    def layer(self, slot: Slot) -> Any:
        """The layer of a slot, or None."""
        return next((layer for layer in self._viewer.layers if role_of(layer) == slot.role), None)

    def show(
        self,
        slot: Slot,
        picture: NDArray[np.float32],
        beside: Any,
        caption: str,
        limits: tuple[float, float] | None = None,
    ) -> None:
        """Draw a picture (b, b), or a volume (b, b, b), as wide as a particle of the layer ``beside``.

        Parameters
        ----------
        limits : contrast of a new layer; None: that of the picture, whether the layer is new or not
        """
        layer = self.layer(slot)
        if layer is not None and layer.data.shape == picture.shape:
            layer.data = picture
            if limits is None:
                layer.contrast_limits = contrast_limits(picture)
        else:
            if layer is not None:
                self._viewer.layers.remove(layer)
            self._add(slot, picture, beside, limits or contrast_limits(picture))
        self._caption(slot, caption, beside)

    def set_limits(self, slot: Slot, limits: tuple[float, float]) -> None:
        """Change the contrast of a slot's layer, where there is one."""
        layer = self.layer(slot)
        if layer is not None:
            layer.contrast_limits = limits

    def clear(self) -> None:
        """Remove all layers of the navigator."""
        self._captions.clear()
        for layer in [x for x in self._viewer.layers if role_of(x) in ROLES]:
            self._viewer.layers.remove(layer)

    def _add(self, slot: Slot, picture: NDArray[np.float32], beside: Any, limits: tuple[float, float]) -> None:
        active = self._viewer.layers.selection.active
        layer = self._viewer.add_image(
            picture,
            name=slot.name,
            contrast_limits=limits,
            colormap="gray",
            interpolation2d="cubic",
            metadata={KEY: {"role": slot.role}},
            **_space(slot, picture, beside),
        )
        self._viewer.layers.selection.active = active if active is not None else beside
        stand_inside(self._viewer, layer)
        fit_visible(self._viewer)

    def _caption(self, slot: Slot, caption: str, beside: Any) -> None:
        """Write over the picture; only where the words have changed, for text is slow to draw."""
        there = next((x for x in self._viewer.layers if role_of(x) == CAPTIONS), None)
        if there is not None and self._captions.get(slot.role) == caption:
            return
        self._captions[slot.role] = caption
        shown = [s for s in SLOTS if s.role in self._captions and self.layer(s) is not None]
        texts = {"label": [self._captions[s.role] for s in shown]}
        places = np.array([_corner(s, beside) for s in shown], dtype=float)
        if there is not None and len(there.data) == len(places):
            there.features = texts
            return
        if there is not None:
            self._viewer.layers.remove(there)
        active = self._viewer.layers.selection.active
        text = {"string": "{label}", "color": _CAPTION_COLOUR, "size": 9, "anchor": "lower_left"}
        flat = {key: value for key, value in flat_space(space_of(beside)).items() if key in ("units", "axis_labels")}
        self._viewer.add_points(
            places,
            name=CAPTIONS,
            features=texts,
            text=text,
            size=1.0,
            face_color="transparent",
            border_color="transparent",
            metadata={KEY: {"role": CAPTIONS}},
            **flat,
        )
        self._viewer.layers.selection.active = active


def _space(slot: Slot, picture: NDArray[np.float32], beside: Any) -> Mapping[str, Any]:
    """Where a picture lies: its centre pixel on that of the particles, moved to its slot."""
    whole = space_of(beside)
    box, axes = beside.data.shape[-1], picture.ndim
    space = {key: tuple(value)[-axes:] for key, value in whole.items()}
    pixel = space["scale"][-1]
    voxel = pixel * box / picture.shape[-1]
    centre = np.array(space["translate"]) + pixel * (box // 2) - voxel * (picture.shape[-1] // 2)
    centre[-2:] += np.array([slot.down, slot.right]) * _GAP * box * pixel
    return {**space, "scale": (voxel,) * axes, "translate": tuple(centre)}


def _corner(slot: Slot, beside: Any) -> tuple[float, float]:
    """World position (y, x) of the top left pixel of a slot."""
    space, box = flat_space(space_of(beside)), beside.data.shape[-1]
    pixel = space["scale"][-1]
    y, x = space["translate"]
    return y + slot.down * _GAP * box * pixel, x + slot.right * _GAP * box * pixel


def particle_under(viewer: Any, session: Session, position: Any) -> int | None:
    """The particle of the session whose picture lies under a world position, as the 2D view shows it, or None."""
    if viewer.dims.ndisplay != 2:
        return None
    for layer in reversed(viewer.layers):
        own = layer is session.layer or getattr(layer.data, "particles", session) is session.data
        if not (own and layer.visible):
            continue
        place = np.round(layer.world_to_data(position)).astype(int)
        if ((place[-2:] >= 0) & (place[-2:] < layer.data.shape[-2:])).all():
            return particle_at(layer, int(place[0]))
    return None
