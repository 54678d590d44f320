"""Draws the pictures of the page on editing classes: more classes than there are contents, put right in the gallery.

Run it with a display or under xvfb: ``python docs/make_edit_images.py``. With ``--result FOLDER`` it opens a finished
run in place of running on the sample.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from make_images import FOLDER, Photographer, wait
from qtpy.QtCore import QItemSelectionModel

from napari_harmony.engine.settings import Settings

CLASSES = 8  # the sample has five contents


def choose(gallery: Any, *numbers: int) -> None:
    """Choose the tiles of some classes, as clicks with Ctrl would."""
    gallery.view.selectionModel().clearSelection()
    for number in numbers:
        index = gallery.model.index(gallery.model.row_of(number))
        gallery.view.selectionModel().select(index, QItemSelectionModel.SelectionFlag.Select)
    gallery.view.setFocus()


def settled(gallery: Any) -> bool:
    """Nothing is at work, and no average is due."""
    editing = gallery.editing
    return not editing.busy and not editing.averaging and not editing.due


def closest(gallery: Any) -> tuple[int, int]:
    """The two classes of most alike content codes, the larger one first."""
    result = gallery.session.result
    codes, counts = result.content, result.counts
    numbers = [number for number in range(1, result.classes + 1) if counts[number - 1]]
    means = np.array([codes[result.members(number)].mean(0) for number in numbers])
    apart = np.linalg.norm(means[:, None] - means[None], axis=-1) + 1e9 * np.eye(len(means))
    pair = (numbers[i] for i in np.unravel_index(apart.argmin(), apart.shape))
    one, two = sorted(pair, key=lambda number: -counts[number - 1])
    return one, two


def story(photographer: Photographer, result: Path | None) -> None:
    """Open, merge, select some particles, junk, and look at what can be taken back."""
    viewer = photographer.viewer
    if result is not None:
        viewer.open(result, plugin="napari-harmony")
    else:
        viewer.open_sample("napari-harmony", "simulated")
        _, harmony = viewer.window.add_plugin_dock_widget("napari-harmony", "Harmony")
        harmony.form.set_settings(Settings(classes=CLASSES, preset="fast"))
        photographer.run(harmony, "gallery-run")
        viewer.window.remove_dock_widget(harmony)
    _, gallery = viewer.window.add_plugin_dock_widget("napari-harmony", "Class gallery")
    photographer.take("gallery")
    one, two = closest(gallery)
    choose(gallery, one, two)
    photographer.take("gallery-chosen", themes=["dark"])
    gallery.actions_box.do("merge")
    if not wait(lambda: gallery.session.can_undo and settled(gallery), 300):
        raise SystemExit(f"merging did not end: {gallery.message_label.text()}")
    photographer.take("gallery-merged", themes=["dark"])
    smallest = int(gallery.model.numbers[-1])
    choose(gallery, smallest)
    gallery.actions_box.do("junk")
    rest = gallery.session.result
    others = [n for n in map(int, gallery.model.numbers) if rest.counts[n - 1] and n != one][:2]
    gallery.session.select(np.r_[rest.members(others[0])[::2], rest.members(others[1])])
    photographer.take("gallery-part", themes=["light"])


def main() -> None:
    """Draw every picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--result", type=Path, help="folder of a finished run")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    photographer = Photographer(chosen.folder)
    story(photographer, chosen.result)
    photographer.viewer.close()


if __name__ == "__main__":
    main()
