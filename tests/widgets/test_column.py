"""A column shows all of its width, with and without the bar beside it."""

from __future__ import annotations

import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_harmony.widgets._column import Column


def body_of(width: int, height: int = 900) -> tuple[QWidget, QLabel]:
    """A body that needs so many pixels, and what it shows."""
    body, label = QWidget(), QLabel("words")
    label.setMinimumSize(width, height)
    layout = QVBoxLayout(body)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(label)
    return body, label


@pytest.mark.parametrize("width", [100, 320])
def test_the_narrowest_column_shows_the_whole_width(qtbot: QtBot, width: int) -> None:
    body, label = body_of(width)
    column = Column(body)
    qtbot.addWidget(column)
    column.resize(column.minimumSizeHint().width(), 400)
    column.show()
    qtbot.waitExposed(column)
    assert column.verticalScrollBar().isVisible()
    assert column.minimumSizeHint().width() >= 300
    assert column.viewport().width() >= label.width() >= width


def test_a_body_that_grows_wider_gets_room(qtbot: QtBot) -> None:
    body, label = body_of(100)
    outer = QWidget()
    layout = QVBoxLayout(outer)
    layout.setContentsMargins(0, 0, 0, 0)
    column = Column(body, 200)
    layout.addWidget(column)
    qtbot.addWidget(outer)
    outer.show()
    qtbot.waitExposed(outer)
    assert outer.minimumSizeHint().height() == 200
    label.setMinimumWidth(500)
    qtbot.waitUntil(lambda: outer.width() >= 500 and column.viewport().width() >= 500)
