"""The dialog of *Send to cluster*: the script says what the dock and its fields say."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from gui_fakes import make_particles
from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QFileDialog

from napari_harmony.cluster import MOST_GPUS, Resources, memory_for
from napari_harmony.engine.estimate import estimate
from napari_harmony.engine.settings import Settings
from napari_harmony.errors import InputError
from napari_harmony.widgets._cluster_dialog import ClusterDialog
from napari_harmony.widgets._commands import Job, moved

SETTINGS = Settings(classes=20, device="auto")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    source = tmp_path / "particles.star"
    return Job(make_particles(40), SETTINGS, source, None, source.with_name("particles-harmony"))


@pytest.fixture
def dialog(qtbot: QtBot, job: Job) -> ClusterDialog:
    dialog = ClusterDialog(job)
    qtbot.addWidget(dialog)
    return dialog


def command_in(script: str) -> list[str]:
    return shlex.split(script.splitlines()[-1])[1:]  # without 'exec'


def test_it_begins_with_what_the_run_needs(dialog: ClusterDialog, job: Job) -> None:
    needed = estimate(job.particles, SETTINGS, "cuda").memory
    assert dialog.resources == replace(Resources(), memory=memory_for(needed))
    dialog.gpus_spin.setValue(0)
    assert dialog.resources.memory == memory_for(estimate(job.particles, SETTINGS, "cpu").memory)
    assert dialog.gpus_spin.maximum() == MOST_GPUS


def test_the_script_runs_the_settings_of_the_dock_on_what_was_asked_for(dialog: ClusterDialog, job: Job) -> None:
    words = command_in(dialog.script())
    assert words[:3] == ["napari-harmony", "align", str(job.source)]
    assert words[3:5] == ["-o", str(job.out)] and words[-1] == "--resume"
    assert words[words.index("--classes") + 1] == "20" and words[words.index("--device") + 1] == "cuda"
    dialog.gpus_spin.setValue(0)
    dialog.hours_spin.setValue(30)
    dialog.partition_edit.setText(" long ")
    script = dialog.script()
    assert "--device cpu" in script and "gres" not in script
    assert "#SBATCH --time=30:00:00" in script and "#SBATCH --partition=long" in script


def test_the_cluster_may_see_the_files_elsewhere(qtbot: QtBot, job: Job, tmp_path: Path) -> None:
    model, reference = tmp_path / "models" / "mine", tmp_path / "ribosome.mrc"
    settings = replace(SETTINGS, references=(str(reference), "/elsewhere/other.mrc"))
    dialog = ClusterDialog(replace(job, model=model, settings=settings))
    qtbot.addWidget(dialog)
    dialog.source_edit.clear()
    qtbot.keyClicks(dialog.source_edit, "/data/lab/particles.star")
    words = command_in(dialog.script())
    assert words[2:5] == ["/data/lab/particles.star", "-o", "/data/lab/particles-harmony"]
    assert words[words.index("--model") + 1] == "/data/lab/models/mine"
    assert words[words.index("--reference") + 1] == "/data/lab/ribosome.mrc,/elsewhere/other.mrc"
    dialog.out_edit.clear()
    qtbot.keyClicks(dialog.out_edit, "/scratch/out")
    qtbot.keyClicks(dialog.source_edit, "2")
    assert command_in(dialog.script())[2:5] == ["/data/lab/particles.star2", "-o", "/scratch/out"]


@pytest.mark.parametrize(
    ("path", "there"),
    [("/mnt/lab/a/model", "/data/a/model"), ("/mnt/lab", "/data"), ("/home/me/model", "/home/me/model")],
)
def test_what_lies_in_the_same_place_moves_along(path: str, there: str) -> None:
    here = PurePosixPath("/mnt/lab/b/particles.star")
    assert moved(PurePosixPath(path), here, PurePosixPath("/data/b/particles.star")) == PurePosixPath(there)


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("source_edit", "particles.star", "Particles: give the whole path"),
        ("out_edit", "", "Results: give the whole path"),
        ("out_edit", "/data/50%", "choose another folder"),
        ("partition_edit", "two words", "no name of a partition"),
    ],
)
def test_what_cannot_be_is_said_and_gives_no_script(dialog: ClusterDialog, field: str, text: str, words: str) -> None:
    assert dialog.save_button.isEnabled() and dialog.problem_label.isHidden()
    getattr(dialog, field).setText(text)
    assert not dialog.save_button.isEnabled() and words in dialog.problem_label.text()


def test_the_script_is_saved_and_what_comes_next_is_said(
    qtbot: QtBot, dialog: ClusterDialog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = tmp_path / "job.sh"
    asked = []

    def choose(_parent: object, _title: str, suggested: str, _kinds: str) -> tuple[str, str]:
        asked.append(suggested)
        return str(chosen), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    with qtbot.waitSignals([dialog.saved, dialog.accepted]) as signals:
        dialog.save_button.click()
    notice = signals.all_signals_and_args[0].args[0]
    assert "sbatch job.sh" in notice.text and "Follow a job" in notice.text and not notice.error
    assert chosen.read_text() == dialog.script() and os.access(chosen, os.X_OK)
    assert asked == [str(tmp_path / "particles-harmony.sh")]


def test_a_folder_that_is_not_there_is_said(dialog: ClusterDialog, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="choose another folder"):
        dialog.save(tmp_path / "file" / "job.sh")
