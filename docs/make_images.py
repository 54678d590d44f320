"""Draws the pictures of the documentation: clicks through the real GUI and photographs it.

Run it with a display or under xvfb (``make docs-images``). The screen is that of a small laptop, 1366 x 768.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import napari
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_harmony.engine.events import Event, Preview
from napari_harmony.engine.settings import Settings
from napari_harmony.widgets._columns import COLUMNS
from napari_harmony.widgets._work import Action

FOLDER = Path(__file__).parent / "images"
SIZE = (1366, 768)
LONGEST_RUN = 900.0  # seconds
SETTLING = 0.8  # seconds


class Photographer:
    """Walks through the story of a user and takes a picture at every step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(*SIZE)
        self._previews = 0

    def take(self, name: str, themes: Sequence[str] = ("light", "dark")) -> None:
        """Photograph the window once it has settled, in each theme."""
        for theme in themes:
            self.viewer.theme = theme
            wait(lambda: False, SETTLING)
            path = self.folder / (f"{name}.png" if theme == "dark" else f"{name}-{theme}.png")
            self.viewer.window.screenshot(str(path), canvas_only=False, flash=False)
            print(path)

    def story(self, settings: Settings) -> None:
        """Open the sample, run, look at a class, sort the table."""
        self.viewer.open_sample("napari-harmony", "simulated")
        _, harmony = self.viewer.window.add_plugin_dock_widget("napari-harmony", "Harmony")
        harmony.form.set_settings(settings)
        wait(lambda: harmony.form.device_box.count() > 1, 60)
        self.take("open")
        self.run(harmony)
        self.take("result")
        harmony.open_table()
        table = next(d for n, d in self.viewer.window.dock_widgets.items() if "Transforms table" in n)
        score = next(i for i, c in enumerate(COLUMNS) if c.key == "score")
        table.view.sortByColumn(score, Qt.SortOrder.DescendingOrder)
        table.view.selectRow(2)
        self.take("table")
        harmony.result_box.class_button.click()
        self.take("class")

    def tomogram_story(self, settings: Settings, cut: Path) -> None:
        """Open the sample tomogram, extract into ``cut``, run, look at the table, put the averages back."""
        self.viewer.open_sample("napari-harmony", "tomogram")
        _, extract = self.viewer.window.add_plugin_dock_widget("napari-harmony", "Extract Subtomograms")
        extract.folder_edit.setText(str(cut))
        self.take("tomogram")
        extract.run_button.click()
        if not wait(lambda: extract.session.data is not None, 120):
            raise SystemExit(f"extraction failed: {extract.message_label.text()}")
        self.viewer.window.remove_dock_widget(extract)
        _, harmony = self.viewer.window.add_plugin_dock_widget("napari-harmony", "Harmony")
        harmony.form.set_settings(settings)
        self.run(harmony, "tomogram-running")
        self.take("tomogram-result")
        harmony.start_map_back()
        wait(lambda: not harmony.map_back.busy, 120)
        self.take("tomogram-map-back")

    def run(self, harmony: Any, name: str = "running") -> None:
        """Run everything; one picture when the averages have begun to sharpen."""

        def on_event(event: Event) -> None:
            self._previews += isinstance(event, Preview)

        harmony.runner.event.connect(on_event)
        harmony.buttons[Action.ALIGN_AND_CLUSTER].click()
        wait(lambda: self._previews >= 4 or not harmony.session.state.busy, LONGEST_RUN)
        self.take(name, themes=["dark"])
        if not wait(lambda: not harmony.session.state.busy, LONGEST_RUN):
            raise SystemExit("the run did not end in time")
        if harmony.session.result is None:
            raise SystemExit(f"the run failed: {harmony.message_label.text()}")


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Let the GUI live until the condition holds; False where it does not in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        if condition():
            return True
        time.sleep(0.01)
    return False


def main() -> None:
    """Draw every picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--story", choices=("particles", "tomogram", "both"), default="both")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    if chosen.story != "tomogram":
        photographer = Photographer(chosen.folder)
        photographer.story(Settings(classes=5, preset=chosen.preset))
        photographer.viewer.close()
    if chosen.story != "particles":
        photographer = Photographer(chosen.folder)
        with tempfile.TemporaryDirectory() as cut:
            photographer.tomogram_story(Settings(classes=3, preset=chosen.preset), Path(cut) / "subtomograms")
        photographer.viewer.close()


if __name__ == "__main__":
    main()
