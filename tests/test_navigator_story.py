"""The navigator in a real napari window, with a real model: from an OUT folder to frames in an MRC file."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gui_fakes import make_result
from napari.utils.notifications import notification_manager
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_harmony._layers import role_of
from napari_harmony.particles.mrc import read_header, write_stack
from napari_harmony.session import session_of

PLUGIN = "napari-harmony"
MakeViewer = Callable[..., Any]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    yield
    notification_manager.records.clear()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on a few particles with moving parts, with a network that was trained for a few steps."""
    import torch

    from napari_harmony import open_particles
    from napari_harmony.models import HarmonyModel, ModelCard, build_network
    from napari_harmony.outputs import write_output
    from napari_harmony.particles.conformations import simulate_conformations

    folder = tmp_path_factory.mktemp("navigator")
    made = simulate_conformations(count=40, box=20, snr=2.0, seed=0)
    write_stack(folder / "stack.mrcs", made.particles.read(slice(None)), made.particles.pixel_size)
    particles = open_particles(folder / "stack.mrcs")
    transforms = ("rotation", "translation", "contrast")
    size = 20 * particles.pixel_size
    card = ModelCard(20, particles.pixel_size, 20, transforms, 2, 16, 0.9 * size, 0.16 * size)
    clean = torch.as_tensor(made.clean(range(40)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(card)
        steps = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(30):
            steps.zero_grad()
            (network.decode(network.encode(clean).content_mean) - clean).square().mean().backward()
            steps.step()
    codes = network.propose(clean).content_mean.numpy()
    result = make_result(40, classes=1, box=20)
    table = result.table.assign(content_0=codes[:, 0], content_1=codes[:, 1], class_number=1, flags="")
    return write_output(folder / "out", particles, result.with_table(table), model=HarmonyModel(network.eval(), card))


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Directions are learned from a few pairs of pictures."""
    from napari_harmony.engine import navigate

    monkeypatch.setattr(navigate, "_STEPS", {2: 5, 3: 5})


def picture(viewer: Any) -> Any:
    """The navigator's layer, or None."""
    return next((layer for layer in viewer.layers if role_of(layer) == "navigator"), None)


def test_from_a_result_folder_to_a_series(
    make_napari_viewer: MakeViewer, qtbot: QtBot, out: Path, few_steps: None, tmp_path: Path
) -> None:
    viewer = make_napari_viewer()
    viewer.open(out, plugin=PLUGIN)
    dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Content navigator")[1]
    session = session_of(viewer)
    assert str(out) in dock.panel.status_label.text()
    with qtbot.waitSignal(dock.runner.done, timeout=60_000):
        qtbot.mouseClick(dock.panel.find_button, Qt.MouseButton.LeftButton)
    assert session.navigation is not None and session.model is session.content_model is not None
    qtbot.waitUntil(lambda: picture(viewer) is not None)

    before = np.array(picture(viewer).data)
    slider = dock.panel.rows.rows[0].slider
    slider.setFocus()
    for _ in range(4):
        qtbot.keyClick(slider, Qt.Key.Key_PageUp)
    qtbot.waitUntil(lambda: not np.array_equal(picture(viewer).data, before))

    session.select([5])
    decoded = session.content_model.network.decode
    import torch

    with torch.inference_mode():
        expected = decoded(torch.as_tensor(session.result.content[5:6]))[0].numpy()
    qtbot.waitUntil(lambda: np.allclose(picture(viewer).data, expected, atol=1e-3 * np.ptp(expected)))

    dock.panel.swap.take("B", 9)
    dock.panel.swap.show_button.click()
    roles = {role_of(layer) for layer in viewer.layers}
    assert {"navigator", "navigator posed", "navigator target", "navigator captions"} <= roles

    with qtbot.waitSignal(dock.runner.done, timeout=10_000):
        dock.export(tmp_path / "first.mrcs", 0, 4)
    header = read_header(tmp_path / "first.mrcs")
    card = session.content_model.card
    assert header.shape == (4, card.box, card.box) and header.pixel_size == pytest.approx(card.pixel_size, rel=1e-5)


def test_cancel_within_a_second(make_napari_viewer: MakeViewer, qtbot: QtBot, out: Path) -> None:
    viewer = make_napari_viewer()
    viewer.open(out, plugin=PLUGIN)
    dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Content navigator")[1]
    seen: list[float] = []
    dock.runner.heard.connect(lambda event: seen.append(event.fraction))
    dock.find()
    qtbot.waitUntil(lambda: len(seen) > 3, timeout=60_000)
    with qtbot.waitSignal(dock.runner.cancelled, timeout=1000):
        dock.panel.run_row.cancel_button.click()
    assert session_of(viewer).navigation is None and 0 < max(seen) < 1


def test_docks_opened_and_closed_leave_nothing(
    make_napari_viewer: MakeViewer, qtbot: QtBot, out: Path, few_steps: None
) -> None:
    viewer = make_napari_viewer()
    viewer.open(out, plugin=PLUGIN)
    frame, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Content navigator")
    session = dock.session
    with qtbot.waitSignal(dock.runner.done, timeout=60_000):
        dock.find()
    dock.panel.movie.play_button.click()
    frame.destroyOnClose()
    assert not dock.panel.movie.playing and not dock._draw_timer.isActive()

    def connected() -> int:
        own = (session.result_changed, session.navigation_changed, session.selection_changed, session.current_changed)
        return (
            sum(len(s) for s in own) + len(viewer.layers.events.inserted.callbacks) + len(viewer.mouse_drag_callbacks)
        )

    before = connected()
    for _ in range(10):
        frame, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Content navigator")
        assert connected() > before and len(dock.panel.rows.rows) == len(session.navigation)
        frame.destroyOnClose()
    del frame, dock
    QApplication.processEvents()
    gc.collect()
    assert connected() == before


def test_the_result_box_opens_it(make_napari_viewer: MakeViewer, qtbot: QtBot, out: Path) -> None:
    viewer = make_napari_viewer()
    viewer.open(out, plugin=PLUGIN)
    harmony = viewer.window.add_plugin_dock_widget(PLUGIN, "Harmony")[1]
    harmony.result_box.navigate_button.click()
    assert any("Content navigator" in name for name in viewer.window.dock_widgets)
