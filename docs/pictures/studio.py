"""A window of fixed size and what is needed to photograph it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import napari
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from qtpy.QtWidgets import QApplication, QWidget

from napari_harmony._layers import fit_visible

PLUGIN = "napari-harmony"
SIZE = (1366, 768)  # pixels: the screen of a small laptop
DARK, LIGHT = "dark", "light"
SETTLING = 0.8  # seconds until docks and canvas have their places
LONGEST = 1800.0  # seconds that a run may take


class Studio:
    """One viewer, closed at the end of the ``with`` block, and the folder for its pictures."""

    def __init__(self, images: Path) -> None:
        self.images = images
        self.images.mkdir(parents=True, exist_ok=True)
        self.viewer = _open_viewer()

    def __enter__(self) -> Studio:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self.viewer.close()
        wait(lambda: False, 0.2)

    def begin_anew(self) -> None:
        """Go on with another viewer, that knows nothing of what was done in this one."""
        self._close()
        self.viewer = _open_viewer()

    def dock(self, name: str) -> Any:
        """The widget of a dock of this plugin, opened where it is not yet."""
        _, widget = self.viewer.window.add_plugin_dock_widget(PLUGIN, name)
        wait(lambda: False, SETTLING)
        return widget

    def close_dock(self, widget: QWidget) -> None:
        """Take a dock away."""
        self.viewer.window.remove_dock_widget(widget)

    def sample(self, key: str) -> None:
        """Open sample data of this plugin."""
        self.viewer.open_sample(PLUGIN, key)

    def open(self, path: Path) -> None:
        """Open particles, or the folder of a run."""
        self.viewer.open(path, plugin=PLUGIN)

    def fit(self) -> None:
        """Show all layers that are visible, as the Home button does once docks have their places."""
        wait(lambda: False, SETTLING)
        fit_visible(self.viewer)

    def take(self, name: str, themes: Sequence[str] = (LIGHT, DARK)) -> None:
        """Photograph the window once it has settled, in each theme.

        The picture in the dark theme is ``name.png``, the other one ``name-light.png``; pages name the former.
        """
        for theme in themes:
            self._dress(theme)
            picture = self.viewer.window.screenshot(canvas_only=False, flash=False)
            if picture.shape[1::-1] != SIZE:
                raise SystemExit(f"{name}: the window is {picture.shape[1::-1]} pixels large, not {SIZE}")
            self._save(picture, name, theme)

    def take_part(self, name: str, widget: QWidget) -> None:
        """Photograph one widget, in each theme."""
        for theme in (LIGHT, DARK):
            self._dress(theme)
            picture = widget.grab().toImage()
            picture = picture.convertToFormat(picture.Format.Format_RGBA8888)
            pixels = picture.constBits()
            if hasattr(pixels, "setsize"):  # PyQt
                pixels.setsize(picture.sizeInBytes())
            shape = (picture.height(), picture.width(), 4)
            self._save(np.frombuffer(pixels, np.uint8).reshape(shape), name, theme)

    def _dress(self, theme: str) -> None:
        napari.settings.get_settings().appearance.theme = theme  # dialogs follow the settings, not the viewer
        self.viewer.theme = theme
        wait(lambda: False, SETTLING)

    def _save(self, picture: NDArray[np.uint8], name: str, theme: str) -> None:
        path = self.images / (f"{name}.png" if theme == DARK else f"{name}-{theme}.png")
        save_picture(picture, path)
        print(path, flush=True)


def _open_viewer() -> napari.Viewer:
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*SIZE)
    return viewer


def save_picture(picture: NDArray[np.uint8], path: Path) -> None:
    """Write (h, w, 3 or 4) as PNG with 256 colours: a third of the size, no value off by more than some 3 %."""
    image = Image.fromarray(np.ascontiguousarray(picture[..., :3]))
    few = image.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Let the window live until the condition holds; False where it does not in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        if condition():
            return True
        time.sleep(0.01)
    return False


def wait_or_stop(condition: Callable[[], bool], seconds: float, problem: Callable[[], str]) -> None:
    """Let the window live until the condition holds; the program ends with a sentence where it does not in time."""
    if not wait(condition, seconds):
        raise SystemExit(problem())
