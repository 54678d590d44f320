"""Draws the pictures of the content navigator's tutorial: clicks through the real GUI and photographs it.

Run it with a display or under xvfb: ``python docs/make_navigator_images.py``. It runs the sample with moving parts
first, unless it is given the OUT folder of such a run.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from make_images import FOLDER, LONGEST_RUN, Photographer, wait

from napari_harmony.engine.settings import Settings
from napari_harmony.session import session_of
from napari_harmony.widgets._work import Action

A, B = 3, 11  # particles that lie differently


def run_sample(photographer: Photographer, preset: str) -> None:
    """Open the sample and align it as one class."""
    photographer.viewer.open_sample("napari-harmony", "moving")
    _, harmony = photographer.viewer.window.add_plugin_dock_widget("napari-harmony", "Harmony")
    harmony.form.set_settings(Settings(classes=1, preset=preset))
    harmony.buttons[Action.ALIGN_AND_CLUSTER].click()
    if not wait(lambda: not harmony.session.state.busy, LONGEST_RUN) or harmony.session.result is None:
        raise SystemExit(f"the run failed: {harmony.message_label.text()}")
    photographer.viewer.window.remove_dock_widget(harmony)


def navigate(photographer: Photographer) -> None:
    """Find directions, move along the first, put a particle's content into another's pose."""
    _, dock = photographer.viewer.window.add_plugin_dock_widget("napari-harmony", "Content navigator")
    dock.panel.find_button.click()
    if not wait(lambda: session_of(photographer.viewer).navigation is not None, LONGEST_RUN):
        raise SystemExit(f"no directions: {dock.panel.message_label.text()}")
    move(dock, 0, 1.5)
    photographer.take("navigator")
    dock.start_from(A)
    dock.panel.swap.take("B", B)
    dock.panel.swap.show_button.click()
    photographer.take("navigator-pose")


def move(dock: Any, direction: int, value: float) -> None:
    """Drag a slider to so many standard deviations."""
    dock.panel.rows.rows[direction].slider.setValue(round(100 * value))


def main() -> None:
    """Draw every picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--result", type=Path, help="OUT folder of a run on the sample, with its model")
    chosen = parser.parse_args()
    photographer = Photographer(chosen.folder)
    if chosen.result is None:
        run_sample(photographer, chosen.preset)
    else:
        photographer.viewer.open(chosen.result, plugin="napari-harmony")
    navigate(photographer)
    photographer.viewer.close()


if __name__ == "__main__":
    main()
