"""Colours of napari's theme for what is painted by hand."""

from __future__ import annotations

from typing import Any

from napari.utils.theme import get_theme

from napari_harmony.widgets._latent_paint import Palette


def palette_of(viewer: Any) -> Palette:
    """The colours of a viewer's theme."""
    theme = get_theme(viewer.theme)
    colours = (theme.canvas, theme.text, theme.secondary, theme.text, theme.current)
    return Palette(*(colour.as_hex(format="long") for colour in colours))
