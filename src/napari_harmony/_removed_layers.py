"""Removing layers without leaving the graphics driver a pointer to what is gone. No Qt."""

from __future__ import annotations

from typing import Any

#: Vertex attributes that every OpenGL has; no visual of napari uses more.
_ATTRIBUTES = 16


def draw_safely_after_removals(viewer: Any) -> None:
    """Keep a viewer from crashing when it draws again after points were removed from it.

    vispy leaves the vertex attributes of the points switched on when their buffers are deleted. The next image has
    fewer attributes, so that those of the points stay as they are, and a driver that reads all that are on, such as
    Mesa's software renderer on remote desktops, reads where there is nothing.
    """
    viewer.layers.events.removed.connect(_switch_attributes_off)


def _switch_attributes_off(_event: Any = None) -> None:
    """Whatever is drawn next switches on what it needs."""
    from vispy.gloo import gl
    from vispy.gloo.context import get_current_canvas

    canvas = get_current_canvas()
    native = getattr(canvas, "native", None)
    if native is None or not _drawable(native):
        return
    canvas.set_current()
    for attribute in range(_ATTRIBUTES):
        gl.glDisableVertexAttribArray(attribute)


def _drawable(native: Any) -> bool:
    """Whether something was drawn, and the window is still there.

    vispy names the canvas of a closed viewer until Python collects it. Asking that is an error, which must not reach
    napari: it would silently never call again what raised it.
    """
    try:
        return bool(native.isValid())
    except RuntimeError:
        return False
