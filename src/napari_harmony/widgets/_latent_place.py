"""Where the dock of the latent plot goes in napari's window."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget


def share_the_side(widget: QWidget, width: int) -> None:
    """Lay the dock of ``widget`` as a tab over another at the right side, and make that ``width`` pixels wide.

    A dock that the user moved elsewhere, and the only one at the side, stay where they are.
    """
    dock = widget.parentWidget()
    while dock is not None and not isinstance(dock, QDockWidget):
        dock = dock.parentWidget()
    if dock is None or dock.isFloating() or not isinstance(dock.parentWidget(), QMainWindow):
        return
    window, side = dock.parentWidget(), Qt.DockWidgetArea.RightDockWidgetArea
    if window.dockWidgetArea(dock) != side:
        return
    others = [d for d in window.findChildren(QDockWidget) if d is not dock and window.dockWidgetArea(d) == side]
    shown = [d for d in others if d.isVisible() and not d.isFloating()]
    if shown and not window.tabifiedDockWidgets(dock):
        window.tabifyDockWidget(shown[-1], dock)
        dock.raise_()
    window.resizeDocks([dock], [width], Qt.Orientation.Horizontal)
