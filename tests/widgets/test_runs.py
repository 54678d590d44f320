"""Runs one after another: the queue, ending early, trials on some particles, and whose result is shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gui_fakes import FakeEngine, make_particles
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_harmony._layers import KEY, particles_layer, role_of
from napari_harmony.errors import InputError
from napari_harmony.particles.mrc import write_stack
from napari_harmony.particles.open import open_particles
from napari_harmony.session import State
from napari_harmony.widgets._cluster_dialog import ClusterDialog
from napari_harmony.widgets._some_particles import TRIAL, trial_rows
from napari_harmony.widgets._work import Action
from napari_harmony.widgets.harmony import NO_LAYER, HarmonyWidget


@pytest.fixture
def dock(qtbot: QtBot, viewer: ViewerModel, engine: FakeEngine) -> HarmonyWidget:
    dock = HarmonyWidget(viewer)
    qtbot.addWidget(dock)
    dock.show()
    return dock


def add_stack(viewer: ViewerModel, count: int = 20, name: str = "second") -> Any:
    data, options, _ = particles_layer(make_particles(count), name)
    return viewer.add_image(data, **options)


def wait_until_idle(qtbot: QtBot, dock: HarmonyWidget) -> None:
    qtbot.waitUntil(lambda: dock.runs.current is None, timeout=10_000)


def drawn_from(viewer: ViewerModel, layer: Any, role: str) -> Any:
    found = [x for x in viewer.layers if role_of(x) == role and x.metadata[KEY].get("set") == str(layer.unique_id)]
    return found[0] if found else None


# -- the queue -----------------------------------------------------------------------------------------------------


def test_layers_wait_for_their_turn_with_the_settings_they_were_queued_with(
    qtbot: QtBot, dock: HarmonyWidget, viewer: ViewerModel, engine: FakeEngine
) -> None:
    first, second = viewer.layers["particles"], add_stack(viewer)
    engine.pause = 0.03
    dock.form.classes_spin.setValue(3)
    dock.run(Action.ALIGN_AND_CLUSTER)
    dock.look_at(second)
    dock.form.classes_spin.setValue(7)
    dock.buttons[Action.ALIGN].click()
    dock.form.classes_spin.setValue(5)
    assert [request.words for request in dock.runs.waiting] == ["Align of 'second'"]
    assert dock.queue_box.isVisibleTo(dock) and dock.queue_box.title.text() == "Queue: 1 waiting"
    assert "7 classes" in dock.queue_box.list.item(0).toolTip()
    wait_until_idle(qtbot, dock)
    assert [(name, call["settings"].classes) for name, call in engine.calls] == [("align", 3), ("align", 7)]
    assert not dock.queue_box.isVisibleTo(dock)
    # each has its own layers, and the session shows that of the particles looked at
    assert drawn_from(viewer, first, "aligned").data.shape[0] == 60
    assert drawn_from(viewer, second, "aligned").data.shape[0] == 20
    assert drawn_from(viewer, second, "aligned").name == "aligned particles (second)"
    assert dock.session.layer is second and dock.session.result is not None and len(dock.session.result) == 20
    dock.look_at(first)
    assert dock.session.result is not None and len(dock.session.result) == 60


def test_a_result_of_particles_that_are_not_looked_at_does_not_push_itself_forward(
    qtbot: QtBot, dock: HarmonyWidget, viewer: ViewerModel, engine: FakeEngine
) -> None:
    first, second = viewer.layers["particles"], add_stack(viewer)
    engine.pause = 0.03
    dock.run(Action.ALIGN_AND_CLUSTER)
    dock.layer_combo.set_layer(second)
    wait_until_idle(qtbot, dock)
    assert dock.session.layer is second and dock.session.result is None
    assert not drawn_from(viewer, first, "aligned").visible
    button = dock.notice_box.lead_button
    assert "'particles': Align and Cluster: done in" in dock.message_label.text()
    assert button.isVisibleTo(dock) and button.text() == "Show 'particles'"
    button.click()
    assert dock.session.layer is first and dock.session.result is not None
    assert drawn_from(viewer, first, "aligned").visible and not second.visible


def test_what_waits_can_be_removed_with_the_keyboard(qtbot: QtBot, dock: HarmonyWidget, engine: FakeEngine) -> None:
    engine.pause, engine.steps = 0.02, 1000
    dock.run(Action.ALIGN_AND_CLUSTER)
    dock.run(Action.TRAIN)
    dock.run(Action.ALIGN)
    box = dock.queue_box
    assert not box.remove_button.isEnabled() and box.remove_button.toolTip() == "Choose a row first."
    box.list.setFocus()
    box.list.setCurrentRow(0)
    assert box.remove_button.isEnabled()
    qtbot.keyClick(box.list, Qt.Key.Key_Delete)
    assert [request.action for request in dock.runs.waiting] == [Action.ALIGN]
    dock.runs.remove(dock.runs.waiting[0])
    with qtbot.waitSignal(dock.runner.cancelled, timeout=1000):
        dock.run_row.cancel_button.click()
    assert dock.runs.current is None and len(engine.calls) == 1


def test_cancel_goes_on_with_what_waits(qtbot: QtBot, dock: HarmonyWidget, engine: FakeEngine) -> None:
    engine.pause, engine.steps = 0.02, 1000
    dock.run(Action.ALIGN_AND_CLUSTER)
    dock.run(Action.TRAIN)
    qtbot.waitUntil(lambda: len(engine.calls) == 1)
    dock.run_row.cancel_button.click()
    qtbot.waitUntil(lambda: len(engine.calls) == 2)
    assert engine.calls[1][0] == "fit" and dock.session.state is State.RUNNING
    with qtbot.waitSignal(dock.runner.cancelled, timeout=1000):
        dock.run_row.cancel_button.click()
    assert dock.runs.current is None


def test_a_failing_run_does_not_stop_the_next_and_its_error_stays(
    qtbot: QtBot, dock: HarmonyWidget, viewer: ViewerModel, engine: FakeEngine
) -> None:
    second = add_stack(viewer)
    engine.pause, engine.error = 0.02, InputError("row 3 has no image.")
    dock.run(Action.ALIGN_AND_CLUSTER)
    dock.look_at(second)
    dock.run(Action.ALIGN)
    with qtbot.waitSignal(dock.runner.failed):
        pass
    engine.error = None
    assert dock.runs.current is not None and dock.runs.current.name == "second"
    wait_until_idle(qtbot, dock)
    assert dock.session.result is not None and len(dock.session.result) == 20
    item = dock.queue_box.list.item(0)
    assert dock.queue_box.isVisibleTo(dock) and dock.queue_box.title.text() == "Queue: 1 failed"
    assert item.toolTip() == "Failed: Align and Cluster of 'particles': row 3 has no image."
    item.setSelected(True)
    dock.queue_box.remove_button.click()
    assert not dock.queue_box.isVisibleTo(dock)


def test_particles_that_are_removed_while_they_wait_are_left_out(
    qtbot: QtBot, dock: HarmonyWidget, viewer: ViewerModel, engine: FakeEngine
) -> None:
    second = add_stack(viewer)
    engine.pause = 0.02
    dock.run(Action.ALIGN_AND_CLUSTER)
    dock.look_at(second)
    dock.run(Action.ALIGN)
    viewer.layers.remove(second)
    wait_until_idle(qtbot, dock)
    assert len(engine.calls) == 1
    assert [failure.text for failure in dock.runs.failures] == ["Its particles were removed from the viewer."]


def test_align_that_waits_for_train_uses_what_was_trained(
    qtbot: QtBot, dock: HarmonyWidget, engine: FakeEngine
) -> None:
    engine.pause = 0.01
    dock.run(Action.TRAIN)
    dock.run(Action.ALIGN)
    wait_until_idle(qtbot, dock)
    assert [name for name, _ in engine.calls] == ["fit", "align"]
    assert engine.calls[1][1]["model"] is dock.session.model is not None


def test_what_is_known_of_particles_is_locked_while_they_are_worked_on(
    qtbot: QtBot, dock: HarmonyWidget, viewer: ViewerModel, engine: FakeEngine
) -> None:
    layer = viewer.add_image(np.zeros((4, 8, 8), np.float32), name="unknown size")
    dock.layer_combo.set_layer(layer)
    assert dock.pixel_spin.isEnabled() and "does not say" in dock.pixel_spin.toolTip()
    engine.pause = 0.03
    dock.run(Action.ALIGN)
    assert not dock.pixel_spin.isEnabled() and "going on or waiting" in dock.pixel_spin.toolTip()
    wait_until_idle(qtbot, dock)
    assert dock.pixel_spin.isEnabled()


# -- ending early --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paused", [False, True])
def test_a_run_is_finished_with_what_there_is(
    qtbot: QtBot, dock: HarmonyWidget, engine: FakeEngine, paused: bool
) -> None:
    engine.pause, engine.steps = 0.02, 100_000
    dock.run(Action.ALIGN_AND_CLUSTER)
    qtbot.waitUntil(lambda: bool(engine.calls))
    if paused:
        dock.run_row.pause_button.click()
        qtbot.waitUntil(lambda: dock.session.state is State.PAUSED)
    with qtbot.waitSignal(dock.runner.done, timeout=2000):
        dock.run_row.finish_button.click()
        assert dock.run_row.label.text() == "Finishing with what is there"
    assert engine.calls[0][1]["enough"].is_set()
    assert dock.session.result is not None and not dock.runs.finishing
    with qtbot.waitSignal(dock.runner.heard):
        dock.run(Action.ALIGN)
    assert dock.run_row.finish_button.isEnabled()  # of the next run
    with qtbot.waitSignal(dock.runner.cancelled, timeout=1000):
        dock.run_row.cancel_button.click()


def test_the_time_of_a_pause_is_not_the_time_of_the_run(qtbot: QtBot, dock: HarmonyWidget, engine: FakeEngine) -> None:
    engine.pause = 0.05
    dock.run(Action.ALIGN_AND_CLUSTER)
    dock.run_row.pause_button.click()
    qtbot.waitUntil(lambda: dock.session.state is State.PAUSED)
    qtbot.wait(1500)
    with qtbot.waitSignal(dock.runner.done):
        dock.run_row.pause_button.click()
    assert dock.session.result is not None
    assert dock.session.result.summary["seconds"]["total"] < 1.4


# -- trials --------------------------------------------------------------------------------------------------------


def test_a_trial_runs_on_some_particles_as_their_own_layer(
    qtbot: QtBot, dock: HarmonyWidget, viewer: ViewerModel, engine: FakeEngine
) -> None:
    many = add_stack(viewer, 500, "many")
    dock.look_at(many)
    dock.form.seed_spin.setValue(3)
    assert dock.run_buttons.trial_button.text() == "Try 200 particles first"
    with qtbot.waitSignal(dock.runner.done):
        dock.run_buttons.trial_button.click()
    trial = viewer.layers["200 of many"]
    assert dock.session.layer is trial and not many.visible
    some = trial.data.particles
    np.testing.assert_array_equal(some.read([0, 199]), many.data.particles.read(trial_rows(500, 3)[[0, 199]]))
    assert drawn_from(viewer, trial, "aligned").data.shape[0] == TRIAL
    assert "Tried on 200 particles in" in dock.message_label.text()
    assert not dock.run_buttons.trial_button.isEnabled()
    assert dock.run_buttons.trial_button.toolTip() == "These are only 200 particles: run on all of them."
    assert dock.notice_box.lead_button.text() == "Back to all of 'many'"
    dock.notice_box.lead_button.click()
    assert dock.session.layer is many and many.visible and not trial.visible
    assert dock.form.seed_spin.value() == 3 and dock.session.result is None


def test_a_trial_takes_the_same_particles_for_the_same_seed() -> None:
    rows = trial_rows(1000, 5)
    assert len(set(rows)) == TRIAL and (np.diff(rows) > 0).all() and rows.max() < 1000
    np.testing.assert_array_equal(rows, trial_rows(1000, 5))
    assert not np.array_equal(rows, trial_rows(1000, 6))


# -- the command ---------------------------------------------------------------------------------------------------


def test_the_command_is_copied(qtbot: QtBot, viewer: ViewerModel, dock: HarmonyWidget, tmp_path: Path) -> None:
    path = tmp_path / "my stack.mrcs"
    write_stack(path, make_particles(8).read(slice(None)), 2.0)
    data, options, _ = particles_layer(open_particles(path), "from file")
    dock.look_at(viewer.add_image(data, **options))
    dock.form.classes_spin.setValue(3)
    dock.run_buttons.command_button.click()
    copied = QApplication.clipboard().text()
    assert copied == f"napari-harmony align '{path}' -o '{tmp_path / 'my stack-harmony'}' --pixel-size 2 --classes 3"
    assert dock.message_label.text() == f"Copied: {copied}"


def test_the_script_for_a_cluster_is_offered_where_there_is_a_command(
    qtbot: QtBot, viewer: ViewerModel, dock: HarmonyWidget, tmp_path: Path
) -> None:
    send = dock.run_buttons.cluster_button
    assert not send.isEnabled() and "in no file: save their layer first" in send.toolTip()
    path = tmp_path / "stack.mrcs"
    write_stack(path, make_particles(8).read(slice(None)), 2.0)
    data, options, _ = particles_layer(open_particles(path), "from file")
    dock.look_at(viewer.add_image(data, **options))
    send.click()
    dialog = dock.findChild(ClusterDialog)
    assert dialog.source_edit.text() == path.as_posix()
    dialog.save(tmp_path / "job.sh")
    assert "sbatch job.sh" in dock.message_label.text() and (tmp_path / "job.sh").is_file()
    qtbot.waitUntil(lambda: dock.findChild(ClusterDialog) is None)


def test_what_has_no_command_says_what_to_save_first(dock: HarmonyWidget, viewer: ViewerModel) -> None:
    dock.run_buttons.command_button.click()
    assert "in no file: save their layer first" in dock.message_label.text()
    dock.session.set_model(object())
    dock.form.model_box.setCurrentIndex(dock.form.model_box.findData("last"))
    dock.run_buttons.command_button.click()
    assert "Save model..." in dock.message_label.text()
    viewer.layers.clear()
    with pytest.raises(InputError, match="Open a particle stack"):
        dock.command()
    assert dock.run_buttons.command_button.toolTip() == NO_LAYER


def test_a_part_of_a_file_has_no_command(
    qtbot: QtBot, dock: HarmonyWidget, viewer: ViewerModel, tmp_path: Path
) -> None:
    data, options, _ = particles_layer(replace(make_particles(500), path=tmp_path / "stack.mrcs"), "many")
    dock.look_at(viewer.add_image(data, **options))
    assert dock.command().startswith("napari-harmony align")
    with qtbot.waitSignal(dock.runner.done):
        dock.run_buttons.trial_button.click()
    with pytest.raises(InputError, match=r"some of the particles in stack\.mrcs only"):
        dock.command()
