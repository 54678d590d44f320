"""The story of a tomogram in a real napari window: open, extract, cluster, look, map back, export."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gui_fakes import FakeEngine, make_result_3d
from napari.utils.notifications import notification_manager
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from sklearn.metrics import homogeneity_score
from tomogram_fakes import FakeTomogram

from napari_harmony import _map_back
from napari_harmony._layers import role_of
from napari_harmony.engine.settings import Settings
from napari_harmony.particles import open_particles
from napari_harmony.particles.mrc import write_volume
from napari_harmony.widgets._work import Action

PLUGIN = "napari-harmony"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    yield
    notification_manager.records.clear()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """An engine that answers at once; the real one takes minutes for volumes."""
    import napari_harmony.engine

    engine = FakeEngine()
    monkeypatch.setitem(sys.modules, "napari_harmony.engine.api", engine)
    monkeypatch.setattr(napari_harmony.engine, "api", engine, raising=False)
    return engine


def dock(viewer: Any, name: str) -> Any:
    """A dock opened as the menu does."""
    return viewer.window.add_plugin_dock_widget(PLUGIN, name)[1]


def test_from_tomogram_to_averages_in_place(
    make_napari_viewer: Callable[..., Any], qtbot: QtBot, tmp_path: Path, fake: FakeEngine
) -> None:
    made = FakeTomogram()
    write_volume(tmp_path / "ts_01.rec", made.volume, 10.0)
    made.truth[["x", "y", "z", "rot", "tilt", "psi"]].to_csv(tmp_path / "picks.csv", index=False)
    viewer = make_napari_viewer()
    (tomogram,) = viewer.open(tmp_path / "ts_01.rec", plugin=PLUGIN)

    extract = dock(viewer, "Extract Subtomograms")
    extract.source.set_file(tmp_path / "picks.csv")
    extract.tilt_edit.known.setChecked(True)
    with qtbot.waitSignal(extract.runner.done, timeout=20_000):
        qtbot.mouseClick(extract.run_button, Qt.MouseButton.LeftButton)
    stack = extract.session.layer
    assert stack.visible and not tomogram.visible and stack.data.shape == (4, 32, 32, 32)
    assert 0 <= viewer.dims.point[1] <= 310  # the slider stands inside the boxes, not at the middle of the tomogram

    harmony = dock(viewer, "Harmony")
    with qtbot.waitSignal(harmony.runner.done, timeout=20_000):
        qtbot.mouseClick(harmony.buttons[Action.ALIGN_AND_CLUSTER], Qt.MouseButton.LeftButton)
    assert {role_of(x) for x in viewer.layers} >= {"particles", "aligned", "averages", "labels", "average volumes"}
    viewer.dims.ndisplay = 3
    assert stack._slice.image.raw.shape == (32, 32, 32)  # one particle as a texture, never the stack
    viewer.dims.ndisplay = 2

    perfect = make_result_3d(4, 2, truth=made.truth)
    origins = stack.data.particles.table[[f"rlnOrigin{axis}Angst" for axis in "XYZ"]].to_numpy(float) / 10
    table = perfect.table.copy()
    table[["origin_x", "origin_y", "origin_z"]] = origins
    harmony.session.set_result(replace(perfect.with_table(table), averages=made.clean))
    viewer.dims.set_point(0, 3)
    harmony.open_table()
    shown = next(d for name, d in viewer.window.dock_widgets.items() if "Transforms table" in name)
    qtbot.waitUntil(lambda: shown.model.rowCount() == 4)
    shown.view.selectRow(2)
    assert viewer.dims.current_step[0] == shown.model.ids[2]

    with qtbot.waitSignal(harmony.map_back.said, timeout=20_000) as said:
        qtbot.mouseClick(harmony.result_box.map_button, Qt.MouseButton.LeftButton)
    assert said.args[1] is False and "4 averages are in the tomogram 'ts_01'" in said.args[0]
    assert viewer.dims.ndisplay == 3 and tomogram.visible and not stack.visible
    surface = viewer.layers[_map_back.SURFACES]
    assert set(np.unique(surface.vertex_values)) == {1, 2}
    viewer.dims.ndisplay = 2
    viewer.layers[_map_back.CLASSES].visible = True
    layers = len(viewer.layers)
    with qtbot.waitSignal(harmony.map_back.said, timeout=20_000):
        harmony.results.start_map_back()
    assert len(viewer.layers) == layers  # drawn again, not twice

    shown.export(tmp_path / "aligned.star")
    again = open_particles(tmp_path / "aligned.star")
    np.testing.assert_allclose(again.table["rlnAngleTilt"].astype(float), made.truth["tilt"], atol=1e-2)
    viewer.layers[_map_back.DENSITIES].save(str(tmp_path / "back.mrc"), plugin=PLUGIN)
    assert (tmp_path / "back.mrc").stat().st_size == 1024 + 4 * made.volume.size


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("brief_volume_training")
def test_the_sample_tomogram_from_end_to_end(
    make_napari_viewer: Callable[..., Any], qtbot: QtBot, tmp_path: Path
) -> None:
    viewer = make_napari_viewer()
    viewer.open_sample(PLUGIN, "tomogram")
    extract = dock(viewer, "Extract Subtomograms")
    extract.folder_edit.setText(str(tmp_path / "cut"))
    with qtbot.waitSignal(extract.runner.done, timeout=120_000):
        qtbot.mouseClick(extract.run_button, Qt.MouseButton.LeftButton)
    harmony = dock(viewer, "Harmony")
    harmony.form.set_settings(Settings(classes=3))
    with qtbot.waitSignal(harmony.runner.done, timeout=600_000):
        qtbot.mouseClick(harmony.buttons[Action.ALIGN_AND_CLUSTER], Qt.MouseButton.LeftButton)
    result = harmony.session.result
    assert len(result) == 150 and (result.resolution < 40).all() and not result.warnings
    kinds = next(x for x in viewer.layers if "particles in the tomogram" in x.name).features["kind"]
    assert homogeneity_score(kinds, result.table["class_number"]) > 0.9
    with qtbot.waitSignal(harmony.map_back.said, timeout=60_000) as said:
        harmony.results.start_map_back()
    assert said.args[1] is False and _map_back.SURFACES in [layer.name for layer in viewer.layers]
    harmony.save_result(tmp_path / "out")
    np.testing.assert_allclose(
        open_particles(tmp_path / "out" / "particles.star").table["rlnAngleTilt"].astype(float),
        result.table["tilt"],
        atol=1e-3,
    )
