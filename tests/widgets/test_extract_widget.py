"""The Extract Subtomograms dock: reasons in words, cutting in a thread, cancel, and particles at the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from tomogram_fakes import FakeTomogram

from napari_harmony._layers import particles_of
from napari_harmony.particles import open_particles
from napari_harmony.particles.mrc import write_volume
from napari_harmony.particles.wedge import TiltRange
from napari_harmony.session import State
from napari_harmony.widgets.extract import ExtractWidget, in_words


@pytest.fixture(scope="module")
def made() -> FakeTomogram:
    return FakeTomogram()


@pytest.fixture
def dock(qtbot: QtBot, made: FakeTomogram, tmp_path: Path) -> ExtractWidget:
    viewer = ViewerModel()
    made.add_to(viewer)
    dock = ExtractWidget(viewer)
    qtbot.addWidget(dock)
    dock.folder_edit.setText(str(tmp_path / "cut"))
    return dock


def press(qtbot: QtBot, dock: ExtractWidget) -> None:
    with qtbot.waitSignal(dock.runner.done, timeout=10_000):
        qtbot.mouseClick(dock.run_button, Qt.MouseButton.LeftButton)


def test_without_a_tomogram_it_says_what_to_do(qtbot: QtBot) -> None:
    dock = ExtractWidget(ViewerModel())
    qtbot.addWidget(dock)
    assert not dock.run_button.isEnabled() and "Open a tomogram first" in dock.reason_label.text()


def test_the_dock_fits_a_small_screen(dock: ExtractWidget) -> None:
    dock.show()
    assert dock.sizeHint().height() < 700 and dock.minimumSizeHint().height() < 700


def test_it_says_what_it_will_do(dock: ExtractWidget) -> None:
    assert dock.run_button.isEnabled()
    assert "4 subtomograms of 32 voxels of 10 \N{ANGSTROM SIGN}" in dock.reason_label.text()
    assert dock.tilt_edit.value == TiltRange(-60, 60)
    dock.box_spin.setValue(48)
    assert "reach beyond the tomogram" in dock.reason_label.text()
    dock.edge_box.setCurrentIndex(dock.edge_box.findData("drop"))
    assert "nothing is left" in dock.reason_label.text() and not dock.run_button.isEnabled()


def test_why_it_cannot_be_done_is_said(dock: ExtractWidget) -> None:
    dock.folder_edit.clear()
    assert "Choose a folder" in dock.reason_label.text() and not dock.run_button.isEnabled()
    dock.folder_edit.setText("somewhere")
    dock.tilt_edit.low.setValue(80)
    assert "makes no sense" in dock.reason_label.text() and not dock.run_button.isEnabled()
    dock.tilt_edit.low.setValue(-60)
    points = dock.source.layer
    points.data = np.vstack([points.data, [[500, 3, 3]]])
    assert "1 of 5 coordinates lie outside" in dock.reason_label.text()
    points.data = points.data[:, ::-1][:4] + [[0, 0, 0]]
    assert not dock.run_button.isEnabled()
    points.data = np.zeros((0, 3))
    assert "no points" in dock.reason_label.text()


def test_points_become_particles_of_the_session(qtbot: QtBot, dock: ExtractWidget, made: FakeTomogram) -> None:
    press(qtbot, dock)
    layer = dock.session.layer
    particles = particles_of(layer)
    assert particles is dock.session.data and particles is not None
    assert particles.images.shape == (4, 32, 32, 32) and particles.pixel_size == pytest.approx(10)
    assert particles.wedge == TiltRange(-60, 60)
    np.testing.assert_allclose(particles.table["rlnAngleTilt"].astype(float), made.truth["tilt"], atol=1e-4)
    centre = np.round(made.truth[["z", "y", "x"]].to_numpy()[2]).astype(int)
    cut = made.volume[tuple(slice(c - 16, c + 16) for c in centre)]
    assert np.corrcoef(particles.read([2])[0].ravel(), cut.ravel())[0, 1] > 0.999
    assert layer.visible and not any(x.visible for x in dock._viewer.layers if x is not layer)
    assert "4 subtomograms are in" in dock.message_label.text()


def test_a_file_and_a_binned_dark_tomogram(
    qtbot: QtBot, dock: ExtractWidget, made: FakeTomogram, tmp_path: Path
) -> None:
    csv = tmp_path / "picks.csv"
    made.truth[["x", "y", "z"]].to_csv(csv, index=False)
    dock.source.set_file(csv)
    dock.box_spin.setValue(16)
    dock.bin_spin.setValue(2)
    dock.invert_box.setChecked(True)
    dock.tilt_edit.known.setChecked(False)
    assert "voxels of 20 \N{ANGSTROM SIGN}" in dock.reason_label.text()
    press(qtbot, dock)
    particles = dock.session.data
    assert particles is not None and particles.box == 16 and particles.pixel_size == pytest.approx(20)
    assert particles.wedge is None and "rlnAngleTilt" not in particles.table
    whole = np.round(made.truth[["z", "y", "x"]].to_numpy()[0]).astype(int)
    cut = made.specimen[tuple(slice(c - 16, c + 16, 2) for c in whole)]
    assert np.corrcoef(particles.read([0])[0].ravel(), cut.ravel())[0, 1] < -0.8


def test_a_file_that_cannot_be_read_is_said(dock: ExtractWidget, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    dock.source.set_file(tmp_path / "bad.csv")
    assert "no column x" in dock.reason_label.text() and not dock.run_button.isEnabled()


def test_cancel_leaves_nothing(
    qtbot: QtBot, dock: ExtractWidget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    from napari_harmony.particles import extract

    cut = extract.cut_box
    monkeypatch.setattr(extract, "cut_box", lambda *given: time.sleep(0.2) or cut(*given))
    with qtbot.waitSignal(dock.runner.heard, timeout=10_000):
        dock.run()
    assert not dock.run_button.isEnabled() and dock.run_row.isVisibleTo(dock)
    assert dock.session.state is State.IDLE  # a run on other particles is not held up
    with qtbot.waitSignal(dock.runner.cancelled, timeout=10_000):
        dock.run_row.cancel_button.click()
    assert not (tmp_path / "cut").exists() and "Cancelled" in dock.message_label.text()
    assert dock.run_button.isEnabled() and dock.session.data is None


def test_a_failure_is_said(qtbot: QtBot, dock: ExtractWidget, tmp_path: Path) -> None:
    (tmp_path / "cut").write_text("a file")
    with qtbot.waitSignal(dock.runner.failed, timeout=10_000):
        dock.run()
    assert "is a file; give a folder" in dock.message_label.text() and dock.run_button.isEnabled()


def test_a_tomogram_file_is_cut_and_its_folder_suggested(qtbot: QtBot, made: FakeTomogram, tmp_path: Path) -> None:
    write_volume(tmp_path / "ts_01.rec", made.volume, 10.0)
    viewer = ViewerModel()
    dock = ExtractWidget(viewer)
    qtbot.addWidget(dock)
    from napari_harmony._reader import read

    ((data, options, _),) = read(str(tmp_path / "ts_01.rec"))
    viewer.add_image(data, **options)
    viewer.add_points(made.truth[["z", "y", "x"]].to_numpy() * 10, name="picks")  # in angstrom, as world coordinates
    assert dock.folder_edit.text() == str(tmp_path / "ts_01_subtomograms")
    press(qtbot, dock)
    written = open_particles(tmp_path / "ts_01_subtomograms" / "particles.star")
    assert len(written) == 4 and set(written.table["rlnTomoName"]) == {"ts_01"}


def test_options_of_the_command_line_are_not_spoken_of() -> None:
    assert in_words(ValueError("give the true voxel size with --pixel-size.")) == "give the true voxel size."


def test_a_path_becomes_particles_along_it(qtbot: QtBot, dock: ExtractWidget, made: FakeTomogram) -> None:
    paths = [np.array([[22, 18, 20], [22, 40, 20], [22, 50, 24.0]]), np.array([[20, 30, 50], [20, 36, 50.0]])]
    closed = np.array([[22, 18, 20], [22, 40, 20], [22, 40, 30], [22, 18, 30.0]])
    shapes = dock._viewer.add_shapes([*paths, closed], shape_type=["path", "line", "rectangle"], **made.space)
    dock.source.setCurrentIndex([dock.source.itemText(i) for i in range(dock.source.count())].index(shapes.name))
    dock.source.changed.emit()
    assert "how far apart along them" in dock.reason_label.text() and not dock.run_button.isEnabled()
    dock.every_spin.setValue(30)
    assert dock.run_button.isEnabled()
    press(qtbot, dock)
    table = dock.session.data.table if dock.session.data is not None else None
    assert table is not None and table["rlnHelicalTubeID"].astype(int).tolist() == [1] * 11 + [2] * 3
    np.testing.assert_allclose(table["rlnHelicalTrackLengthAngst"].astype(float)[-3:], [0, 30, 60], atol=1e-3)
    np.testing.assert_allclose(table["rlnAnglePsi"].astype(float)[-3:], 90, atol=1e-3)  # along y


def test_features_tell_filaments_apart(dock: ExtractWidget) -> None:
    points = dock.source.layer
    dock.every_spin.setValue(40)
    alone = dock.extraction().coordinates
    assert set(alone.table["rlnHelicalTubeID"]) == {1}
    points.features = {"filament": ["a", "a", "b", "b"]}
    dock.update_button()
    found = dock.extraction().coordinates
    assert set(found.table["rlnHelicalTubeID"]) == {1, 2} and found.rotation is not None
    points.features = {"filament": ["a", "a", "a", "b"]}
    dock.update_button()
    assert "filament b: a line needs at least two points" in dock.reason_label.text()


def test_of_a_file_of_several_tomograms_those_of_the_open_one_are_taken(
    qtbot: QtBot, made: FakeTomogram, dock: ExtractWidget, tmp_path: Path
) -> None:
    dock.show()
    assert not dock.names_combo.isVisible()
    table = made.truth[["x", "y", "z"]].assign(tomogram=["tomogram", "TS_2", "TS_2", "tomogram"])
    table.to_csv(tmp_path / "picks.csv", index=False)
    dock.source.set_file(tmp_path / "picks.csv")
    assert dock.names_combo.isVisible() and dock.names_combo.name == "tomogram"
    assert [dock.names_combo.itemText(i) for i in range(2)] == ["tomogram (2)", "TS_2 (2)"]
    said = dock.reason_label.text()
    assert said.startswith("2 subtomograms") and "4 in 2 tomograms; those of tomogram are taken" in said
    dock.names_combo.setCurrentIndex(1)
    dock.names_combo.activated.emit(1)
    np.testing.assert_allclose(dock.extraction().coordinates.positions, made.truth[["x", "y", "z"]].to_numpy()[1:3])
    assert "those of TS_2 are taken" in dock.reason_label.text()
    table.iloc[1:3].to_csv(tmp_path / "one.csv", index=False)
    dock.source.set_file(tmp_path / "one.csv")
    assert not dock.names_combo.isVisible() and dock.names_combo.name is None
    assert dock.reason_label.text().startswith("2 subtomograms")


def test_where_no_name_fits_the_user_is_asked(dock: ExtractWidget, made: FakeTomogram, tmp_path: Path) -> None:
    table = made.truth[["x", "y", "z"]].assign(tomogram=["TS_1", "TS_1", "TS_1", "TS_2"])
    table.to_csv(tmp_path / "picks.csv", index=False)
    dock.source.set_file(tmp_path / "picks.csv")
    assert dock.names_combo.name is None and not dock.run_button.isEnabled()
    assert "choose it under 'Those of'" in dock.reason_label.text()
    dock.names_combo.setCurrentIndex(dock.names_combo.findData("TS_1"))
    dock.names_combo.activated.emit(dock.names_combo.currentIndex())
    assert dock.run_button.isEnabled() and dock.reason_label.text().startswith("3 subtomograms")
