"""The Transforms table, sorted by score, and the particles of one class."""

from __future__ import annotations

from qtpy.QtCore import Qt

from napari_harmony.widgets._columns import COLUMNS
from pictures.runs import PARTICLES, Runs, finished
from pictures.studio import Studio

ROW = 2  # that is chosen


def draw(studio: Studio, runs: Runs) -> None:
    """Sort, choose a row, show a class."""
    finished(studio, runs, PARTICLES, "simulated")
    harmony = studio.dock("Harmony")
    table = studio.dock("Transforms table")
    score = next(i for i, column in enumerate(COLUMNS) if column.key == "score")
    table.view.sortByColumn(score, Qt.SortOrder.DescendingOrder)
    table.view.selectRow(ROW)
    studio.fit()
    studio.take("table")
    harmony.result_box.class_button.click()
    studio.fit()
    studio.take("class")
