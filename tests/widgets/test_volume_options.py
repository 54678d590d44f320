"""The rows of the form that subtomograms add."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gui_fakes import make_particles, make_subtomograms
from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QFileDialog

from napari_harmony.engine.settings import Settings
from napari_harmony.particles.dataset import Particles
from napari_harmony.widgets._form import SettingsForm
from napari_harmony.widgets._volume_options import FREE, NEAR, OPEN


@pytest.fixture
def form(qtbot: QtBot) -> SettingsForm:
    form = SettingsForm()
    qtbot.addWidget(form)
    form.set_particles(oriented())
    return form


def oriented() -> Particles:
    particles = make_subtomograms()
    return replace(particles, table=particles.table.assign(rlnAngleTilt=0.0, rlnAnglePsi=0.0))


def test_rows_are_there_for_subtomograms_alone(form: SettingsForm) -> None:
    assert form.volume.isVisibleTo(form.volume.parentWidget())
    form.volume.symmetry_edit.setText("C4")
    form.set_particles(make_particles())
    assert not form.volume.isVisibleTo(form.volume.parentWidget())
    assert form.settings == Settings() and form.problems() == []


@pytest.mark.parametrize(
    "chosen",
    [
        Settings(),
        Settings(start="input", local_search=12.5, symmetry="D7"),
        Settings(start="input", free_rot=True, references=("/data/one.mrc", "/data/two.mrc"), reference_lowpass=40.0),
    ],
)
def test_settings_go_in_and_come_out(form: SettingsForm, chosen: Settings) -> None:
    form.set_settings(chosen)
    assert form.settings == chosen and form.problems() == []


def test_a_symmetry_that_does_not_exist_is_marked(qtbot: QtBot, form: SettingsForm) -> None:
    with qtbot.waitSignal(form.changed):
        form.volume.symmetry_edit.setText("Q4")
    assert "C1, C2, C3" in form.problems()[0] and form.volume.symmetry_edit.styleSheet()
    form.volume.symmetry_edit.setText(" c4 ")
    assert form.problems() == [] and form.settings.symmetry == "C4" and not form.volume.symmetry_edit.styleSheet()


def test_orientations_must_be_there_to_search_near_them(form: SettingsForm) -> None:
    form.volume.start_box.setCurrentIndex(form.volume.start_box.findData(NEAR))
    assert form.problems() == [] and form.volume.reach_spin.isEnabled()
    form.set_particles(make_subtomograms())
    assert "without orientations" in form.problems()[0]


def test_a_free_turn_is_a_rotation(form: SettingsForm) -> None:
    form.volume.start_box.setCurrentIndex(form.volume.start_box.findData(FREE))
    form.transform_boxes["rotation"].setChecked(False)
    assert "rotation among the transforms" in form.problems()[0]


def test_references_are_chosen_and_left_again(form: SettingsForm, monkeypatch: pytest.MonkeyPatch) -> None:
    box = form.volume.reference_box
    answers = [(["/maps/a.mrc", "/maps/b.mrc"], ""), ([], "")]
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: answers.pop(0))
    for _ in range(2):  # the second time the dialog is left without a choice
        box.setCurrentIndex(box.findData(OPEN))
        box.activated.emit(box.currentIndex())
        assert form.settings.references == ("/maps/a.mrc", "/maps/b.mrc") and box.currentText() == "a.mrc, b.mrc"
    box.setCurrentIndex(0)
    box.activated.emit(0)
    assert form.settings.references == () and box.count() == 2
