"""A column of widgets that is scrolled where a dock is too low for it, and is never cut at its side."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QWidget

#: Pixels below which explanations have more lines than anybody reads.
_LEAST_WIDTH = 300


class Column(QScrollArea):
    """Shows ``body`` at the column's width, with a bar at its side where it is higher.

    Parameters
    ----------
    body : what is shown
    least : pixels of height that stay in view
    """

    def __init__(self, body: QWidget, least: int = 0, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._least = least
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(body)

    def minimumSizeHint(self) -> QSize:
        """Wide enough for the narrowest body and the bar beside it."""
        least, body = super().minimumSizeHint(), self.widget()
        bar = self.verticalScrollBar().sizeHint().width()
        wide = body.minimumSizeHint().width() + bar if body is not None else 0
        return QSize(max(_LEAST_WIDTH, wide), max(self._least, least.height()))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Ask for more room when the body has come to need it."""
        if watched is self.widget() and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))
