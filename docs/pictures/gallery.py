"""The Class gallery: more classes than there are contents, put right by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QItemSelectionModel

from pictures.runs import MANY, Runs, finished
from pictures.studio import LONGEST, SETTLING, Studio, wait, wait_or_stop


def draw(studio: Studio, runs: Runs) -> None:
    """Merge two of one content, junk one, choose a part of another."""
    finished(studio, runs, MANY, "simulated")
    gallery = studio.dock("Class gallery")
    studio.fit()
    studio.take("gallery")
    one, two = closest(gallery)
    choose(gallery, one, two)
    studio.take("gallery-chosen")
    gallery.actions_box.do("merge")
    wait_or_stop(
        lambda: gallery.session.can_undo and settled(gallery),
        LONGEST,
        lambda: f"merging did not end: {gallery.message_label.text()}",
    )
    studio.take("gallery-merged")
    choose(gallery, int(gallery.model.numbers[-1]))
    gallery.actions_box.do("junk")
    result = gallery.session.result
    others = [n for n in map(int, gallery.model.numbers) if result.counts[n - 1] and n != one][:2]
    gallery.session.select(np.r_[result.members(others[0])[::2], result.members(others[1])])
    wait(lambda: settled(gallery), 60)
    studio.take("gallery-part")


def choose(gallery: Any, *numbers: int) -> None:
    """Choose the tiles of some classes, as clicks with Ctrl would."""
    gallery.view.selectionModel().clearSelection()
    for number in numbers:
        index = gallery.model.index(gallery.model.row_of(number))
        gallery.view.selectionModel().select(index, QItemSelectionModel.SelectionFlag.Select)
    gallery.view.setFocus()
    wait(lambda: False, SETTLING)


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
