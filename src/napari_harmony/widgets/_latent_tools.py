"""The row of tools above the picture of the latent plot: what the mouse does, and how much is seen."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QPushButton, QWidget

from napari_harmony.widgets._latent_canvas import Tool

if TYPE_CHECKING:
    from napari_harmony.widgets._latent_canvas import LatentCanvas

_TOOLS = {
    Tool.LASSO: ("Lasso", "Draw around particles (L). Shift adds to the selection, Alt or Ctrl removes from it."),
    Tool.RECTANGLE: ("Box", "Pull up a rectangle (R). Shift adds to the selection, Alt or Ctrl removes from it."),
    Tool.PAN: ("Pan", "Move the view (P); the middle button does that with every tool, and so do the arrow keys."),
}
_ZOOM = 1.25


class ToolRow(QWidget):
    """Buttons for the tools and the zoom of a canvas; ``buttons`` holds those of the tools."""

    def __init__(self, canvas: LatentCanvas, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.buttons: dict[Tool, QPushButton] = {}
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        group = QButtonGroup(self)
        for tool, (text, tip) in _TOOLS.items():
            self.buttons[tool] = button = _button(text, tip)
            button.setCheckable(True)
            button.setChecked(tool is canvas.tool)
            button.clicked.connect(partial(canvas.set_tool, tool))
            group.addButton(button)
            layout.addWidget(button)
        layout.addStretch(1)
        self.out_button = _button("\N{MINUS SIGN}", "Zoom out (-).")
        self.in_button = _button("+", "Zoom in (+), as the wheel does.")
        self.home_button = _button("All", "Show all particles (Home).")
        self.out_button.clicked.connect(lambda: canvas.zoom(1 / _ZOOM))
        self.in_button.clicked.connect(lambda: canvas.zoom(_ZOOM))
        self.home_button.clicked.connect(canvas.home)
        for button in (self.out_button, self.in_button, self.home_button):
            layout.addWidget(button)
        canvas.tool_changed.connect(lambda tool: self.buttons[tool].setChecked(True))


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    # a push button is made for longer words
    button.setFixedWidth(button.fontMetrics().horizontalAdvance(text) + 22)
    return button
