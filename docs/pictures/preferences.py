"""The plugin's page in napari's preferences."""

from __future__ import annotations

from qtpy.QtWidgets import QListWidget

from pictures.runs import Runs
from pictures.studio import SETTLING, Studio, wait

SIZE = (780, 560)  # of the dialog, pixels


def draw(studio: Studio, _runs: Runs) -> None:
    """Open the dialog on the page."""
    window = studio.viewer.window
    studio.dock("Harmony")
    dialog = window._open_preferences_dialog()
    dialog.resize(*SIZE)
    pages = dialog.findChild(QListWidget)
    names = [pages.item(row).text() for row in range(pages.count())]
    pages.setCurrentRow(next(i for i, name in enumerate(names) if "harmony" in name.casefold()))
    wait(lambda: False, SETTLING)
    studio.take_part("preferences", dialog)
    dialog.close()
