"""The Harmony dock with subtomograms: what it says of them, its layers, the table, and Map back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gui_fakes import FakeEngine, FakeModel, make_result_3d, make_subtomograms
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot

from napari_harmony._layers import particles_layer, role_of
from napari_harmony._stacks import ParticleStack
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.wedge import TiltRange
from napari_harmony.widgets import _work
from napari_harmony.widgets._work import Action
from napari_harmony.widgets.harmony import HarmonyWidget
from napari_harmony.widgets.transforms_table import TransformsTable


@pytest.fixture
def particles() -> Particles:
    return make_subtomograms()


@pytest.fixture
def dock(qtbot: QtBot, viewer: ViewerModel, engine: FakeEngine) -> HarmonyWidget:
    dock = HarmonyWidget(viewer)
    qtbot.addWidget(dock)
    dock.show()
    return dock


def run(qtbot: QtBot, dock: HarmonyWidget) -> None:
    with qtbot.waitSignal(dock.runner.done, timeout=10_000):
        dock.buttons[Action.ALIGN_AND_CLUSTER].click()


def test_subtomograms_are_described(dock: HarmonyWidget) -> None:
    assert "12 subtomograms of 8 voxels, 10 \N{ANGSTROM SIGN}/voxel, tilted -60 to 60" in dock.info_label.text()
    assert dock.tilt_edit.isVisibleTo(dock) and dock.tilt_edit.value == TiltRange(-60, 60)
    assert dock.sizeHint().height() <= 700


def test_the_dock_fits_with_everything_open(qtbot: QtBot, dock: HarmonyWidget) -> None:
    dock.form.advanced.expand(animate=False)
    qtbot.wait(50)
    assert dock.form.volume.isVisibleTo(dock) and dock.sizeHint().height() <= 700
    assert dock._body.minimumSizeHint().width() <= 330


def test_a_model_is_trained_and_used_on_subtomograms(qtbot: QtBot, dock: HarmonyWidget, engine: FakeEngine) -> None:
    assert all(button.isEnabled() for button in dock.buttons.values())
    with qtbot.waitSignal(dock.runner.done, timeout=10_000):
        dock.buttons[Action.TRAIN].click()
    model = dock.session.model
    assert (
        model is not None and dock.session.result is None and "Align now uses this model" in dock.message_label.text()
    )
    with qtbot.waitSignal(dock.runner.done, timeout=10_000):
        dock.buttons[Action.ALIGN].click()
    assert [name for name, _ in engine.calls] == ["fit", "align"] and engine.calls[1][1]["model"] is model
    assert dock.session.result is not None and dock.session.result.dimensions == 3


def test_clusters_are_made_anew_from_the_result(qtbot: QtBot, dock: HarmonyWidget, engine: FakeEngine) -> None:
    run(qtbot, dock)
    with qtbot.waitSignal(dock.runner.done, timeout=10_000):
        dock.buttons[Action.CLUSTER].click()
    assert [name for name, _ in engine.calls] == ["align", "cluster"]
    assert dock.session.result is not None and dock.session.result.dimensions == 3


def test_a_saved_model_needs_neither_references_nor_orientations(
    qtbot: QtBot, dock: HarmonyWidget, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = FakeModel()
    monkeypatch.setattr(_work, "load_model", lambda path: model)
    dock.form.set_model_file(tmp_path / "model.json")
    wanted = replace(dock.form.settings, start="input", local_search=20.0, references=("one.mrc",), symmetry="C2")
    monkeypatch.setattr(type(dock.form), "settings", property(lambda form: wanted))
    with qtbot.waitSignal(dock.runner.done, timeout=10_000):
        dock.buttons[Action.ALIGN].click()
    ((_, call),) = engine.calls
    settings = call["settings"]
    assert call["model"] is model and settings.symmetry == "C2"
    assert settings.start == "search" and settings.references == () and settings.local_search is None


def test_a_training_on_subtomograms_can_be_cancelled(qtbot: QtBot, dock: HarmonyWidget, engine: FakeEngine) -> None:
    engine.pause, engine.steps = 0.05, 200
    dock.buttons[Action.TRAIN].click()
    qtbot.waitUntil(lambda: dock.session.state.busy and bool(engine.calls), timeout=10_000)
    with qtbot.waitSignal(dock.runner.cancelled, timeout=10_000):
        dock.run_row.cancel_button.click()
    assert engine.closed == 1 and dock.session.model is None
    assert "Cancelled" in dock.message_label.text() and dock.buttons[Action.TRAIN].isEnabled()


def test_images_are_not_asked_for_their_tilt_range(dock: HarmonyWidget, viewer: ViewerModel) -> None:
    layer = viewer.add_image(np.zeros((4, 8, 8), np.float32), name="images")
    dock.layer_combo.set_layer(layer)
    assert not dock.tilt_edit.isVisibleTo(dock)


def test_a_missing_wedge_can_be_given(dock: HarmonyWidget, viewer: ViewerModel) -> None:
    unknown = replace(make_subtomograms(), wedge=None)
    data, options, _ = particles_layer(unknown, "no wedge")
    layer = viewer.add_image(data, **options)
    dock.layer_combo.set_layer(layer)
    assert "give the tilt range" in dock.info_label.text()
    dock.tilt_edit.known.setChecked(True)
    assert dock.session.data is not None and dock.session.data.wedge == TiltRange(-60, 60)
    assert "tilted -60 to 60" in dock.info_label.text() and dock.session.layer is layer
    dock.tilt_edit.low.setValue(70)
    assert not dock.buttons[Action.ALIGN].isEnabled() and "makes no sense" in dock.reason_label.text()
    dock.tilt_edit.low.setValue(-40)
    assert dock.session.data.wedge == TiltRange(-40, 60) and dock.buttons[Action.ALIGN].isEnabled()


def test_a_run_makes_layers_of_volumes(qtbot: QtBot, dock: HarmonyWidget, viewer: ViewerModel) -> None:
    run(qtbot, dock)
    found = {role_of(layer): layer for layer in viewer.layers}
    assert set(found) == {"particles", "aligned", "averages", "labels", "average volumes"}
    aligned, source = found["aligned"], found["particles"]
    assert isinstance(aligned.data, ParticleStack) and aligned.data.shape == (12, 8, 8, 8)
    assert tuple(aligned.scale) == tuple(source.scale) and aligned.units == source.units
    assert found["averages"].ndim == 2 and found["averages"].data.shape == (17, 17 * 2 + 2)
    assert found["average volumes"].data.shape == (8, 8, 18) and not found["average volumes"].visible
    assert viewer.layers.selection.active is source
    assert "2 classes" in dock.result_box.summary.text() and dock.result_box.map_button.isVisibleTo(dock)
    again = len(viewer.layers)
    run(qtbot, dock)
    assert len(viewer.layers) == again


def test_previews_of_volumes_are_shown(qtbot: QtBot, dock: HarmonyWidget, viewer: ViewerModel) -> None:
    from napari_harmony.engine.events import Preview

    dock.results.layers.show_preview(
        Preview(np.ones((3, 8, 8, 8), np.float32), np.ones(3, np.float32), 0), viewer.layers[0], make_subtomograms()
    )
    assert {role_of(layer) for layer in viewer.layers} == {"particles", "averages", "labels", "average volumes"}


def test_a_class_is_shown_and_its_slider_is_that_of_its_particles(
    qtbot: QtBot, dock: HarmonyWidget, viewer: ViewerModel
) -> None:
    run(qtbot, dock)
    dock.show_class(2)
    members = make_result_3d().members(2)
    shown = viewer.layers.selection.active
    assert shown.data.shape == (len(members), 8, 8, 8)
    assert viewer.dims.current_step[0] == 0 and dock.session.current == members[0]
    np.testing.assert_array_equal(dock.session.selection, members)


def test_the_table_has_the_angles_and_a_row_shows_its_particle(
    qtbot: QtBot, dock: HarmonyWidget, viewer: ViewerModel
) -> None:
    table = TransformsTable(viewer)
    qtbot.addWidget(table)
    assert table.model.columnCount() == 14
    run(qtbot, dock)
    keys = [column.key for column in table.model.columns]
    assert keys[3:11] == [
        "rot",
        "tilt",
        "psi",
        "angle_spread",
        "flip_odds",
        "origin_x",
        "origin_y",
        "origin_z",
    ]
    row = table.model.index(5, keys.index("tilt"))
    assert table.model.data(row) == f"{make_result_3d().table['tilt'][5]:.1f}"
    table.view.clicked.emit(row)
    assert viewer.dims.current_step[0] == 5 and dock.session.current == 5
    table.view.sortByColumn(len(keys) - 1, table.view.horizontalHeader().sortIndicatorOrder())
    dock.session.set_data(None)
    assert table.model.columnCount() == 14 and table.model.rowCount() == 0


def test_map_back_says_what_is_missing(qtbot: QtBot, dock: HarmonyWidget, viewer: ViewerModel, tmp_path: Path) -> None:
    run(qtbot, dock)
    with qtbot.waitSignal(dock.map_back.said, timeout=10_000):
        dock.result_box.map_button.click()
    assert "Open the tomogram" in dock.message_label.text()
    viewer.add_image(
        np.zeros((20, 30, 40), np.float32), name="tomogram", metadata={"napari-harmony": {"role": "volume"}}
    )
    with qtbot.waitSignal(dock.map_back.said, timeout=10_000):
        dock.result_box.map_button.click()
    assert "do not say where in the tomogram" in dock.message_label.text()
    assert dock.result_box.map_button.isEnabled() and viewer.dims.ndisplay == 2
