"""The Harmony dock with an engine that answers at once: buttons, runs, cancel, errors, layers."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
from gui_fakes import FakeCard, FakeEngine, FakeModel, make_particles, make_result
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QWidget

from napari_harmony._layers import particles_layer, role_of
from napari_harmony._stacks import ParticleStack
from napari_harmony.errors import HarmonyError
from napari_harmony.results import Result
from napari_harmony.session import State, session_of
from napari_harmony.widgets._about import about_particles
from napari_harmony.widgets._runs import runs_of
from napari_harmony.widgets._work import Action
from napari_harmony.widgets.harmony import HarmonyWidget


class OOM(RuntimeError):
    """What torch.OutOfMemoryError is: a RuntimeError."""


@pytest.fixture
def dock(qtbot: QtBot, viewer: ViewerModel, engine: FakeEngine) -> HarmonyWidget:
    dock = HarmonyWidget(viewer)
    qtbot.addWidget(dock)
    dock.show()
    return dock


def press(qtbot: QtBot, dock: HarmonyWidget, action: Action) -> None:
    """Press a button and wait for the end of the run."""
    with qtbot.waitSignal(dock.runner.done, timeout=10_000):
        qtbot.mouseClick(dock.buttons[action], Qt.MouseButton.LeftButton)


def roles(viewer: ViewerModel) -> list[str | None]:
    return [role_of(layer) for layer in viewer.layers]


def test_without_particles_the_buttons_say_what_to_do(qtbot: QtBot, engine: FakeEngine) -> None:
    dock = HarmonyWidget(ViewerModel())
    qtbot.addWidget(dock)
    assert not any(b.isEnabled() for b in dock.buttons.values())
    assert "Open a particle stack first" in dock.reason_label.text()
    assert all("Open a particle stack first" in b.toolTip() for b in dock.buttons.values())


def test_particles_are_found_and_described(dock: HarmonyWidget, viewer: ViewerModel) -> None:
    assert dock.session.layer is viewer.layers["particles"]
    assert "60 particles of 16 px, 2 \N{ANGSTROM SIGN}/px, no CTF" in dock.info_label.text()
    assert all(b.isEnabled() for b in dock.buttons.values())
    assert dock.reason_label.isHidden()


def test_layers_come_go_and_are_renamed(dock: HarmonyWidget, viewer: ViewerModel) -> None:
    viewer.add_image(np.zeros((4, 8, 8), np.float32), name="other stack")
    viewer.add_image(np.zeros((8, 8), np.float32), name="no stack")
    viewer.add_points(np.zeros((2, 2)))
    assert [dock.layer_combo.itemText(i) for i in range(dock.layer_combo.count())] == ["particles", "other stack"]
    assert dock.session.layer is viewer.layers["particles"]
    viewer.layers["particles"].name = "renamed"
    assert dock.layer_combo.itemText(0) == "renamed"
    viewer.layers.remove("renamed")
    assert dock.session.layer is viewer.layers["other stack"]
    assert dock.session.data is not None and not dock.session.data.pixel_size_known


def test_an_unknown_pixel_size_can_be_given(dock: HarmonyWidget, viewer: ViewerModel) -> None:
    assert not dock.pixel_spin.isVisibleTo(dock)
    layer = viewer.add_image(np.zeros((4, 8, 8), np.float32), name="other stack")
    dock.layer_combo.set_layer(layer)
    assert dock.pixel_spin.isVisibleTo(dock) and "pixel size unknown" in dock.info_label.text()
    dock.pixel_spin.setValue(1.5)
    assert dock.session.data is not None and dock.session.data.pixel_size == 1.5
    assert "1.5 \N{ANGSTROM SIGN}/px" in dock.info_label.text() and not dock.pixel_spin.isVisibleTo(dock)
    assert dock.session.layer is layer and tuple(layer.scale) == (1, 1.5, 1.5)


def test_align_and_cluster_makes_layers_and_a_result(
    qtbot: QtBot, dock: HarmonyWidget, viewer: ViewerModel, engine: FakeEngine
) -> None:
    press(qtbot, dock, Action.ALIGN_AND_CLUSTER)
    assert [name for name, _ in engine.calls] == ["align"] and engine.calls[0][1]["model"] is None
    assert sorted(filter(None, roles(viewer))) == ["aligned", "averages", "labels", "particles"]
    source, aligned = viewer.layers["particles"], viewer.layers["aligned particles"]
    assert isinstance(aligned.data, ParticleStack) and aligned.data.aligned
    for key in ("scale", "units", "axis_labels", "translate"):
        assert tuple(getattr(aligned, key)) == tuple(getattr(source, key))
    averages = viewer.layers["class averages"]
    assert tuple(averages.scale) == (2, 2) and averages.units == source.units[1:]
    assert list(viewer.layers["class labels"].features["count"]) == make_result().counts.tolist()
    assert dock.session.result is not None and dock.session.model is not None
    assert dock.session.result.summary["seconds"]["total"] >= 0
    assert "done in" in dock.message_label.text()
    assert dock.result_box.isVisibleTo(dock) and "3 classes" in dock.result_box.summary.text()
    assert viewer.layers.selection.active is source  # the slider still walks through the particles


def test_the_result_box_says_how_much_leaked(dock: HarmonyWidget) -> None:
    result = make_result()
    dock.result_box.show_result(result, None)
    assert not dock.result_box.leakage.isVisibleTo(dock.result_box)
    parts = {"rotation": {"share": 0.31, "nats": 0.7}, "shift": {"share": 0.0, "nats": 0.0}}
    result.summary["leakage"] = {"particles": 60, "overall": {"share": 0.32, "nats": 0.8}, "factors": parts}
    dock.result_box.show_result(result, None)
    line = dock.result_box.leakage
    assert line.isVisibleTo(dock.result_box) and line.text().endswith("32 % (rotation 31 %, shift 0 %).")
    assert "'independence' (under Advanced)" in line.toolTip()


def test_previews_are_shown_while_it_runs(
    qtbot: QtBot, dock: HarmonyWidget, viewer: ViewerModel, engine: FakeEngine
) -> None:
    engine.pause = 0.05
    pictures: list[bytes] = []
    dock.runner.heard.connect(
        lambda _: (
            pictures.append(viewer.layers["class averages"].data.tobytes()) if "averages" in roles(viewer) else None
        )
    )
    press(qtbot, dock, Action.ALIGN_AND_CLUSTER)
    assert len(set(pictures)) == engine.steps


def test_a_press_while_something_runs_queues_and_says_so(qtbot: QtBot, dock: HarmonyWidget, engine: FakeEngine) -> None:
    engine.pause = 0.05
    with qtbot.waitSignal(dock.runner.done):
        dock.run(Action.ALIGN_AND_CLUSTER)
        assert dock.form.isEnabled() and dock.layer_combo.isEnabled()
        assert [b.text() for b in dock.buttons.values()] == [f"Queue {action.value}" for action in Action]
        assert "waits for its turn" in dock.buttons[Action.TRAIN].toolTip()
        assert dock.run_row.isVisibleTo(dock) and not dock.queue_box.isVisibleTo(dock)
        # the same once more, as by a double click, is not queued
        assert not dock.buttons[Action.ALIGN_AND_CLUSTER].isEnabled()
        assert "running already" in dock.buttons[Action.ALIGN_AND_CLUSTER].toolTip()
        dock.run(Action.ALIGN_AND_CLUSTER)
    assert all(b.isEnabled() and not b.text().startswith("Queue") for b in dock.buttons.values())
    assert not dock.run_row.isVisibleTo(dock)
    assert len(engine.calls) == 1


def test_train_then_align_uses_the_trained_model(qtbot: QtBot, dock: HarmonyWidget, engine: FakeEngine) -> None:
    press(qtbot, dock, Action.TRAIN)
    model = dock.session.model
    assert model is not None and dock.session.result is None
    assert dock.result_box.model_button.isVisibleTo(dock) and not dock.result_box.save_button.isVisibleTo(dock)
    press(qtbot, dock, Action.ALIGN)
    assert engine.calls[-1][1]["model"] is model


def test_cluster_groups_what_is_aligned(qtbot: QtBot, dock: HarmonyWidget, engine: FakeEngine) -> None:
    press(qtbot, dock, Action.ALIGN)
    dock.form.classes_spin.setValue(2)
    press(qtbot, dock, Action.CLUSTER)
    assert [name for name, _ in engine.calls] == ["align", "cluster"]
    assert engine.calls[-1][1]["settings"].classes == 2
    assert dock.session.result is not None and dock.session.result.classes == 2


def test_cluster_alone_aligns_first(qtbot: QtBot, dock: HarmonyWidget, engine: FakeEngine) -> None:
    press(qtbot, dock, Action.CLUSTER)
    assert [name for name, _ in engine.calls] == ["align"]
    assert dock.session.result is not None


def test_a_saved_model_is_loaded_in_the_run(
    qtbot: QtBot, dock: HarmonyWidget, engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = {tmp_path / "model.json": FakeModel()}
    monkeypatch.setattr("napari_harmony.widgets._work.load_model", loaded.__getitem__)
    dock.form.set_model_file(tmp_path / "model.json")
    assert not dock.buttons[Action.TRAIN].isEnabled()
    assert "train on these particles" in dock.buttons[Action.TRAIN].toolTip()
    press(qtbot, dock, Action.ALIGN_AND_CLUSTER)
    assert [name for name, _ in engine.calls] == ["align", "cluster"]  # the model's classes, then those asked for
    assert engine.calls[0][1]["model"] == dock.session.model == loaded[tmp_path / "model.json"]
    press(qtbot, dock, Action.ALIGN)
    assert [name for name, _ in engine.calls] == ["align", "cluster", "align"]


def test_a_model_for_any_particles_finds_the_classes_asked_for(
    qtbot: QtBot, dock: HarmonyWidget, engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    general = FakeModel(FakeCard(general=True))
    monkeypatch.setattr("napari_harmony.widgets._work.load_model", lambda path: general)
    dock.form.set_model_file(tmp_path / "model.json")
    press(qtbot, dock, Action.ALIGN_AND_CLUSTER)
    assert [name for name, _ in engine.calls] == ["align"] and engine.calls[0][1]["model"] is general


def test_cancel_is_honoured_within_a_second(
    qtbot: QtBot, dock: HarmonyWidget, engine: FakeEngine, viewer: ViewerModel
) -> None:
    engine.pause, engine.steps = 0.1, 1000
    with qtbot.waitSignal(dock.runner.heard):
        dock.run(Action.ALIGN_AND_CLUSTER)
    with qtbot.waitSignal(dock.runner.cancelled, timeout=1000):
        qtbot.mouseClick(dock.run_row.cancel_button, Qt.MouseButton.LeftButton)
        assert dock.session.state is State.CANCELLING and not dock.run_row.cancel_button.isEnabled()
    assert engine.closed == 1
    assert dock.session.state is State.IDLE and all(b.isEnabled() for b in dock.buttons.values())
    assert "Cancelled" in dock.message_label.text()
    assert dock.session.result is None


def test_cancel_takes_the_preview_back(
    qtbot: QtBot, dock: HarmonyWidget, engine: FakeEngine, viewer: ViewerModel
) -> None:
    press(qtbot, dock, Action.ALIGN_AND_CLUSTER)
    before = viewer.layers["class averages"].data.copy()
    engine.pause, engine.steps = 0.02, 1000
    dock.run(Action.ALIGN_AND_CLUSTER)
    qtbot.waitUntil(lambda: not np.array_equal(viewer.layers["class averages"].data, before))
    with qtbot.waitSignal(dock.runner.cancelled):
        dock.run_row.cancel_button.click()
    np.testing.assert_array_equal(viewer.layers["class averages"].data, before)


def test_out_of_memory_gives_the_buttons_back(qtbot: QtBot, dock: HarmonyWidget, engine: FakeEngine) -> None:
    engine.error = OOM("CUDA out of memory. Tried to allocate 20.00 MiB")
    with qtbot.waitSignal(dock.runner.failed):
        dock.run(Action.ALIGN_AND_CLUSTER)
    assert dock.session.state is State.FAILED
    assert all(b.isEnabled() for b in dock.buttons.values())
    assert "ran out of memory" in dock.message_label.text() and dock.message_label.isVisibleTo(dock)
    assert not dock.run_row.isVisibleTo(dock)
    engine.error = None
    press(qtbot, dock, Action.ALIGN_AND_CLUSTER)


def test_wrong_values_disable_the_run_and_say_why(dock: HarmonyWidget) -> None:
    dock.form.mask_spin.setValue(1000)
    assert not any(b.isEnabled() for b in dock.buttons.values())
    assert "wider than the images" in dock.reason_label.text()
    dock.form.mask_spin.setValue(0)
    assert all(b.isEnabled() for b in dock.buttons.values())


def test_removing_the_layer_during_a_run_does_no_harm(
    qtbot: QtBot, dock: HarmonyWidget, engine: FakeEngine, viewer: ViewerModel
) -> None:
    engine.pause = 0.05
    with qtbot.waitSignal(dock.runner.done):
        dock.run(Action.ALIGN_AND_CLUSTER)
        viewer.layers.clear()
    assert len(viewer.layers) == 0


def test_the_particles_of_a_class_are_a_layer_and_selected(
    qtbot: QtBot, dock: HarmonyWidget, viewer: ViewerModel
) -> None:
    press(qtbot, dock, Action.ALIGN_AND_CLUSTER)
    result = dock.session.result
    assert result is not None
    dock.result_box.choose_class(2)
    dock.result_box.class_button.click()
    layer = viewer.layers[f"class 2 ({len(result.members(2))})"]
    np.testing.assert_array_equal(layer.data.ids, result.members(2))
    np.testing.assert_array_equal(dock.session.selection, result.members(2))
    assert viewer.layers.selection.active is layer and viewer.dims.current_step[0] == 0
    dock.show_class(3)
    assert not layer.visible
    dock.show_class(2)
    assert layer.visible and roles(viewer).count("class") == 2


def test_a_new_result_replaces_its_layers(qtbot: QtBot, dock: HarmonyWidget, viewer: ViewerModel) -> None:
    press(qtbot, dock, Action.ALIGN_AND_CLUSTER)
    dock.show_class(2)
    viewer.layers["aligned particles"].colormap = "magma"
    dock.form.classes_spin.setValue(5)
    press(qtbot, dock, Action.CLUSTER)
    assert sorted(filter(None, roles(viewer))) == ["aligned", "averages", "labels", "particles"]
    assert len(viewer.layers["class labels"].data) == 5
    assert list(viewer.layers["class labels"].features["class_number"]) == [1, 2, 3, 4, 5]
    assert viewer.layers["aligned particles"].colormap.name == "magma"  # what the user set stays
    assert viewer.layers["aligned particles"].data.result is dock.session.result


def test_the_view_fits_when_the_tiles_change_and_only_then(
    qtbot: QtBot, dock: HarmonyWidget, viewer: ViewerModel
) -> None:
    press(qtbot, dock, Action.ALIGN_AND_CLUSTER)
    viewer.scene.camera.zoom = 0.123
    press(qtbot, dock, Action.ALIGN_AND_CLUSTER)
    assert viewer.scene.camera.zoom == 0.123  # where the user was looking
    dock.form.classes_spin.setValue(12)
    press(qtbot, dock, Action.CLUSTER)
    assert viewer.scene.camera.zoom != 0.123


def test_a_click_on_an_average_selects_its_particles(qtbot: QtBot, dock: HarmonyWidget, viewer: ViewerModel) -> None:
    press(qtbot, dock, Action.ALIGN_AND_CLUSTER)
    result, layer = dock.session.result, viewer.layers["class averages"]
    assert result is not None
    y, x = viewer.layers["class labels"].data[2] + 3

    def click(moved: bool) -> None:
        class Event:
            type = "mouse_press"
            position = (0.0, *layer.data_to_world((y, x)))

        (callback,) = (c for c in viewer.mouse_drag_callbacks if c == dock.results.on_mouse)
        steps = callback(viewer, Event)
        next(steps)
        if moved:
            Event.type = "mouse_move"
            next(steps)
        Event.type = "mouse_release"
        assert next(steps, None) is None

    click(moved=True)
    assert len(dock.session.selection) == 0  # that was panning
    click(moved=False)
    np.testing.assert_array_equal(dock.session.selection, result.members(3))
    assert dock.result_box.class_box.currentData() == 3


def test_looking_at_other_particles_keeps_the_result(qtbot: QtBot, dock: HarmonyWidget, viewer: ViewerModel) -> None:
    press(qtbot, dock, Action.ALIGN_AND_CLUSTER)
    result = dock.session.result
    data, options, _ = particles_layer(make_particles(20), "second")
    viewer.add_image(data, **options)
    dock.layer_combo.set_layer(viewer.layers["second"])
    assert dock.session.result is None and not dock.result_box.isVisibleTo(dock)
    dock.layer_combo.set_layer(viewer.layers["particles"])
    assert dock.session.result is result and dock.result_box.isVisibleTo(dock)


def test_a_restored_result_is_shown_without_a_run(qtbot: QtBot, engine: FakeEngine, result: Result) -> None:
    viewer = ViewerModel()
    dock = HarmonyWidget(viewer)
    qtbot.addWidget(dock)
    data, options, _ = particles_layer(make_particles(), "restored", result)
    viewer.add_image(data, **options)
    assert dock.session.result is result
    assert dock.layer_combo.layer is viewer.layers["restored"]
    assert dock.result_box.isVisibleTo(dock)


def test_the_result_is_saved_as_a_folder(qtbot: QtBot, dock: HarmonyWidget, tmp_path: Path) -> None:
    from napari_harmony.outputs import load_output

    with pytest.raises(HarmonyError, match="no result"):
        dock.save_result(tmp_path / "out")
    press(qtbot, dock, Action.ALIGN_AND_CLUSTER)
    dock.session.set_model(None)  # the fake one cannot be saved
    dock.save_result(tmp_path / "out")
    assert len(load_output(tmp_path / "out")) == 60


def test_a_closed_dock_is_forgotten_and_its_run_goes_on(qtbot: QtBot, viewer: ViewerModel, engine: FakeEngine) -> None:
    engine.pause, engine.steps = 0.05, 1000
    session, runs = session_of(viewer), runs_of(viewer)

    def open_run_and_close() -> weakref.ref[HarmonyWidget]:  # napari looks into the frames that are alive
        home = QWidget()
        qtbot.addWidget(home)
        dock = HarmonyWidget(viewer)
        dock.setParent(home)
        with qtbot.waitSignal(dock.runner.heard):
            dock.run(Action.ALIGN_AND_CLUSTER)
        dock.setParent(None)
        assert dock.results.on_mouse not in viewer.mouse_drag_callbacks
        return weakref.ref(dock)

    gone = open_run_and_close()
    assert session.state is State.RUNNING
    assert "goes on; open the Harmony dock" in notification_manager.records[-1].message
    assert len(session.state_changed) == len(session.result_changed) == 0
    qtbot.wait(100)
    gc.collect()
    assert gone() is None
    with qtbot.waitSignal(runs.runner.cancelled, timeout=2000):
        runs.runner.cancel()
    assert engine.closed == 1 and "Cancelled" in notification_manager.records[-1].message


def test_a_dock_that_is_opened_again_shows_the_run(qtbot: QtBot, viewer: ViewerModel, engine: FakeEngine) -> None:
    engine.pause, engine.steps, engine.trains = 0.02, 40, True
    dock = HarmonyWidget(viewer)
    home = QWidget()
    qtbot.addWidget(home)
    dock.setParent(home)
    dock.run(Action.ALIGN_AND_CLUSTER)
    qtbot.waitUntil(lambda: dock.runs.curve.last is not None)
    dock.setParent(None)
    again = HarmonyWidget(viewer)
    qtbot.addWidget(again)
    again.show()
    assert again.run_row.isVisibleTo(again) and again.loss_plot.isVisibleTo(again)
    with qtbot.waitSignal(again.runner.done):
        assert again.run_row.cancel_button.isEnabled()
    assert again.session.result is not None and "done in" in again.message_label.text()


def test_the_dock_fits_a_small_screen(dock: HarmonyWidget) -> None:
    assert dock.sizeHint().height() <= 700 and dock.minimumSizeHint().height() <= 700
    assert dock._body.minimumSizeHint().width() <= 330


def test_particles_without_a_pixel_size_are_said_to_have_none() -> None:
    from dataclasses import replace

    particles = replace(make_particles(), pixel_size=1.0, pixel_size_known=False)
    assert "pixel size unknown" in about_particles(particles)
