"""What a run needs is said before it, and in red with advice where there is too little of it."""

from __future__ import annotations

from typing import Any

import pytest
from gui_fakes import make_particles
from pytestqt.qtbot import QtBot

from napari_harmony.engine.estimate import Estimate
from napari_harmony.engine.settings import Settings
from napari_harmony.errors import InputError
from napari_harmony.widgets import _estimate_line
from napari_harmony.widgets._devices import Device
from napari_harmony.widgets._estimate_line import EstimateLine, shortage, size, words
from napari_harmony.widgets._queue_box import ERROR_COLOUR

GB = 2**30
CPU, GPU = Device("cpu", "CPU (2 cores)"), Device("cuda:0", "NVIDIA H100, 78 GB", 78 * GB)


def test_time_and_memory_are_said_with_the_device() -> None:
    assert words(Estimate(int(1.3 * GB), 0, 245.0), CPU) == "CPU (2 cores): about 4 min, 1.3 GB"
    assert words(Estimate(500 * 2**20, 20 * GB, None), GPU) == ("NVIDIA H100, 78 GB: 500 MB and 20 GB on the device")


def test_what_is_too_little_is_said_with_what_to_do() -> None:
    assert shortage(Estimate(GB, 0, None), CPU, 2 * GB) == ""
    assert shortage(Estimate(GB, 0, None), CPU, None) == ""
    assert "Needs about 40 GB of memory, 8.0 GB are free: close" in shortage(Estimate(40 * GB, 0, None), CPU, 8 * GB)
    assert "choose the CPU" in shortage(Estimate(GB, 90 * GB, None), GPU, 8 * GB)
    assert [size(s) for s in (10, 640 * 2**20, 12 * GB)] == ["1 MB", "640 MB", "12 GB"]


def test_the_line_asks_the_engine_and_turns_red(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    needs = Estimate(4 * GB, 0, 30.0)
    monkeypatch.setattr(_estimate_line, "estimate", lambda *args, **kw: asked.append((args, kw)) or needs)
    monkeypatch.setattr(_estimate_line, "available_memory", lambda: 8 * GB)
    line, particles, settings = EstimateLine(), make_particles(), Settings(preset="fast")
    qtbot.addWidget(line)
    for _ in range(5):  # edits come in rows; one question is enough
        line.ask(particles, settings, CPU, "apply")
    qtbot.waitUntil(lambda: not line.isHidden())
    assert asked == [((particles, settings), {"device": "cpu", "task": "apply"})]
    assert line.text() == "CPU (2 cores): about 30 s, 4.0 GB" and line.styleSheet() == ""
    monkeypatch.setattr(_estimate_line, "available_memory", lambda: 2 * GB)
    line.show_now()
    assert "2.0 GB are free" in line.text() and ERROR_COLOUR in line.styleSheet()
    line.ask(particles, None, CPU, "fit")
    assert line.isHidden()


def test_settings_that_do_not_fit_each_other_are_said(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any, **_more: Any) -> Estimate:
        raise InputError("the mask is too small.")

    monkeypatch.setattr(_estimate_line, "estimate", refuse)
    line = EstimateLine()
    qtbot.addWidget(line)
    line.ask(make_particles(), Settings(), CPU, "fit")
    line.show_now()
    assert line.text() == "the mask is too small." and ERROR_COLOUR in line.styleSheet()


def test_the_engine_knows_what_a_run_needs(qtbot: QtBot) -> None:
    line = EstimateLine()
    qtbot.addWidget(line)
    line.ask(make_particles(400, 32), Settings(device="cpu"), CPU, "fit")
    line.show_now()
    assert line.text().startswith("CPU (2 cores): about ") and line.text().endswith((" MB", " GB"))
