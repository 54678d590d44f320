"""One sentence for the user, and a button that leads to the particles it speaks of."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from napari_harmony.widgets._queue_box import ERROR_COLOUR
from napari_harmony.widgets._runs import Notice


class NoticeBox(QWidget):
    """Hidden while there is nothing to say.

    Signals
    -------
    layer_wanted(layer) : look at these particles
    """

    layer_wanted = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._notice: Notice | None = None
        self.label = QLabel()
        self.label.setWordWrap(True)
        self.label.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.lead_button = QPushButton()
        self.lead_button.setToolTip("Look at these particles, and at what was drawn from them.")
        self.lead_button.clicked.connect(self._on_lead)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.label)
        layout.addWidget(self.lead_button)
        self.show_notice(None)

    def show_notice(self, notice: Notice | None) -> None:
        """Say this, or nothing."""
        self._notice = notice
        self.setVisible(notice is not None)
        self.label.setStyleSheet(f"color: {ERROR_COLOUR};" if notice is not None and notice.error else "")
        self.label.setText(notice.text if notice is not None else "")
        self.lead_button.setText(notice.lead if notice is not None else "")
        self.lead_button.setVisible(self._layer() is not None)

    def _layer(self) -> Any:
        notice = self._notice
        return notice.layer() if notice is not None and notice.layer is not None else None

    def _on_lead(self) -> None:
        layer = self._layer()
        if layer is not None:
            self.layer_wanted.emit(layer)
