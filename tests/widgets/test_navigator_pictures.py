"""What the navigator makes of a place: movies, files, particles in another's pose, sharp pictures, volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gui_fakes import make_result, make_result_3d, make_subtomograms
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from navigator_fakes import (
    GRID,
    Card,
    DrawingModel,
    FakeCanonical,
    FakeNavigate,
    OutOfMemory,
    drawn,
    make_navigation,
    shows,
    slider,
)
from pytestqt.qtbot import QtBot

from napari_harmony._layers import particles_layer
from napari_harmony.particles.mrc import read_header
from napari_harmony.results import Result
from napari_harmony.session import Session, session_of
from napari_harmony.widgets.navigator import NavigatorWidget

# -- movies and files -----------------------------------------------------------------------------------------------


def test_a_movie_goes_back_and_forth_until_stopped(qtbot: QtBot, navigator: NavigatorWidget, monkeypatch: Any) -> None:
    clock = {"now": 100.0}
    monkeypatch.setattr("napari_harmony.widgets._navigator_movie.time.monotonic", lambda: clock["now"])
    movie = navigator.panel.movie
    movie.play_button.click()
    assert movie.playing and movie.play_button.text() == "Stop (&Y)"
    seen = []
    for second in (1.0, 2.0, 3.0, 4.0):
        clock["now"] = 100.0 + second
        with qtbot.waitSignal(movie.frame_wanted):
            pass
        seen.append(navigator.place.coordinates[0])
    assert seen == pytest.approx([2.0, 0.0, -2.0, 0.0], abs=1e-6)
    slider(navigator, 1).setValue(40)  # a hand on a slider stops it
    assert not movie.playing and not movie.play_button.isChecked()


def test_export_of_pictures(qtbot: QtBot, navigator: NavigatorWidget, model: DrawingModel, tmp_path: Path) -> None:
    import mrcfile

    slider(navigator, 1).setValue(100)
    with qtbot.waitSignal(navigator.runner.done):
        navigator.export(tmp_path / "hinge", 0, 5)
    path = tmp_path / "hinge.mrcs"
    assert f"Written: {path}" in navigator.panel.message_label.text()
    header = read_header(path)
    assert header.shape == (5, GRID, GRID) and header.pixel_size == pytest.approx(2.5) and not header.is_volume
    with mrcfile.open(path) as file:
        expected = np.stack([model.picture(np.array([0.5 + 2 * c, 2.5])) for c in (-2, -1, 0, 1, 2)])
        np.testing.assert_allclose(file.data, expected, atol=1e-5)


def test_export_into_no_folder_is_refused(qtbot: QtBot, navigator: NavigatorWidget, tmp_path: Path) -> None:
    with qtbot.waitSignal(navigator.runner.failed):
        navigator.export(tmp_path / "nowhere" / "hinge.mrcs", 0, 5)
    assert "no such folder" in navigator.panel.message_label.text()


def test_the_export_button_asks_for_a_file(
    qtbot: QtBot, navigator: NavigatorWidget, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.set_navigation(session.navigation.renamed(1, "lid: open?"))
    asked = []

    def ask(_parent: Any, _title: str, name: str, kind: str) -> tuple[str, str]:
        asked.append((name, kind))
        return str(tmp_path / name), kind

    monkeypatch.setattr("napari_harmony.widgets.navigator.QFileDialog.getSaveFileName", ask)
    navigator.panel.movie.direction_box.setCurrentIndex(1)
    navigator.panel.movie.frames_spin.setValue(3)
    with qtbot.waitSignal(navigator.runner.done):
        navigator.panel.movie.export_button.click()
    assert (
        asked == [("lid__open.mrcs", "MRC stack (*.mrcs)")] and read_header(tmp_path / "lid__open.mrcs").shape[0] == 3
    )


# -- content of A in the pose of B ----------------------------------------------------------------------------------


def test_a_in_the_pose_of_b(
    qtbot: QtBot, navigator: NavigatorWidget, viewer: ViewerModel, session: Session, result: Result, model: DrawingModel
) -> None:
    table = result.table.copy()
    table.loc[5, ["psi", "origin_x", "origin_y", "scale", "contrast"]] = [90.0, 0.0, 0.0, 1.0, 2.0]
    session.set_result(result.with_table(table), model)
    session.set_navigation(make_navigation())
    swap = navigator.panel.swap
    swap.b_spin.setValue(5)
    assert drawn(viewer, "navigator posed") is None  # not before it is asked for
    swap.show_button.click()
    posed, target = drawn(viewer, "navigator posed"), drawn(viewer, "navigator target")
    # RELION turns the image by psi to reach the reference: the reference is turned back to reach the image
    expected = 2.0 * np.rot90(model.picture(np.array([0.5, 0.5])), 1)
    middle = np.s_[4:9, 4:9]
    np.testing.assert_allclose(posed.data[middle][:, :-1], np.roll(expected, 1, axis=0)[middle][:, :-1], atol=0.02)
    assert target.data.shape == (GRID, GRID)
    slider(navigator, 0).setValue(0 + 100)  # the sliders are A: it follows
    qtbot.waitUntil(lambda: np.ptp(drawn(viewer, "navigator posed").data[middle]) > 3 * np.ptp(expected[middle]))


def test_a_can_be_a_particle(
    qtbot: QtBot, navigator: NavigatorWidget, viewer: ViewerModel, session: Session, drawing: FakeCanonical
) -> None:
    swap = navigator.panel.swap
    viewer.dims.set_current_step(0, 12)
    swap.a_button.click()
    viewer.dims.set_current_step(0, 13)
    swap.b_button.click()
    assert (swap.content_particle, swap.pose_particle) == (12, 13) and swap.a_spin.isEnabled()
    swap.show_button.click()
    captions = drawn(viewer, "navigator captions").features["label"].tolist()
    assert captions[1:] == ["A: 12, as B", "B: 13"]
    before = drawn(viewer, "navigator posed").data
    slider(navigator, 0).setValue(30)
    qtbot.wait(30)
    assert drawn(viewer, "navigator posed").data is before  # A is a particle: sliders do not move it
    swap.b_spin.setValue(20)
    assert drawn(viewer, "navigator posed").data is not before  # once shown, another B is shown at once


def test_a_particle_without_a_pose_is_refused(navigator: NavigatorWidget, session: Session, result: Result) -> None:
    table = result.table.copy()
    table.loc[4, "psi"] = np.nan
    session.set_result(result.with_table(table), session.content_model)
    session.set_navigation(make_navigation())
    navigator.panel.swap.b_spin.setValue(4)
    navigator.panel.swap.show_button.click()
    assert "Particle 4 has no pose" in notification_manager.records[-1].message


# -- sharp ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sharp(qtbot: QtBot, navigator: NavigatorWidget, session: Session) -> DrawingModel:
    """A model with a diffusion decoder, and Sharp ticked."""
    model = DrawingModel(Card(additions=("independence", "diffusion=0.5")))
    session.set_result(make_result(seed=6), model)
    session.set_navigation(make_navigation())
    with qtbot.waitSignal(navigator.sharp.drawn):
        navigator.panel.sharp_box.click()
    return model


def test_sharp_needs_a_diffusion_decoder(navigator: NavigatorWidget) -> None:
    assert not navigator.panel.sharp_box.isEnabled() and "no diffusion decoder" in navigator.panel.sharp_box.toolTip()


def test_sharp_is_drawn_when_the_slider_rests(
    qtbot: QtBot, navigator: NavigatorWidget, viewer: ViewerModel, sharp: DrawingModel, drawing: FakeCanonical
) -> None:
    assert shows(viewer, sharp, [0.5, 0.5], sharp=True)
    slider(navigator, 0).setSliderDown(True)
    slider(navigator, 0).setSliderPosition(100)
    qtbot.waitUntil(lambda: shows(viewer, sharp, [2.5, 0.5]))
    count = drawing.sharp
    qtbot.wait(400)
    assert drawing.sharp == count  # not while it is held
    slider(navigator, 0).setSliderDown(False)
    qtbot.waitUntil(lambda: shows(viewer, sharp, [2.5, 0.5], sharp=True))
    qtbot.wait(400)
    assert drawing.sharp == count + 1 and navigator.panel.message_label.text() == ""
    navigator.panel.sharp_box.click()
    qtbot.waitUntil(lambda: shows(viewer, sharp, [2.5, 0.5]))


def test_only_the_last_sharp_picture_is_shown(
    qtbot: QtBot, navigator: NavigatorWidget, viewer: ViewerModel, sharp: DrawingModel, drawing: FakeCanonical
) -> None:
    drawing.pause, count = 0.1, drawing.sharp
    for value in (1.0, 1.5, -1.0):
        navigator.move_along(0, value)
        navigator._ask_for_sharp()
    qtbot.waitUntil(lambda: shows(viewer, sharp, [-1.5, 0.5], sharp=True))
    assert drawing.sharp == count + 2  # the one under way, and the last


def test_an_error_of_the_diffusion_decoder_is_said(
    qtbot: QtBot, navigator: NavigatorWidget, sharp: DrawingModel, drawing: FakeCanonical
) -> None:
    navigator.move_along(0, 1.0)
    qtbot.wait(50)
    drawing.error = OutOfMemory("out of memory")
    with qtbot.waitSignal(navigator.sharp.failed):
        navigator._ask_for_sharp()
    assert "ran out of memory" in navigator.panel.message_label.text()


# -- subtomograms ---------------------------------------------------------------------------------------------------


@pytest.fixture
def dock_3d(qtbot: QtBot, navigate: FakeNavigate) -> NavigatorWidget:
    viewer, particles = ViewerModel(), make_subtomograms()
    data, options, _ = particles_layer(particles, "subtomograms")
    session = session_of(viewer)
    session.set_data(particles, viewer.add_image(data, **options))
    session.set_result(make_result_3d(), DrawingModel(Card(box=6, dimensions=3, pixel_size=13.33)))
    session.set_navigation(make_navigation())
    dock = NavigatorWidget(viewer)
    qtbot.addWidget(dock)
    dock.show()
    qtbot.waitUntil(lambda: drawn(viewer) is not None)
    dock._test_viewer = viewer
    return dock


def test_volumes_are_drawn_posed_and_written(qtbot: QtBot, dock_3d: NavigatorWidget, tmp_path: Path) -> None:
    viewer = dock_3d._test_viewer
    assert drawn(viewer).data.shape == (6, 6, 6) and drawn(viewer).ndim == 3
    assert tuple(drawn(viewer).scale) == pytest.approx((80 / 6,) * 3)
    dock_3d.panel.swap.b_spin.setValue(7)
    dock_3d.panel.swap.show_button.click()
    assert drawn(viewer, "navigator posed").data.shape == drawn(viewer, "navigator target").data.shape == (6, 6, 6)
    with qtbot.waitSignal(dock_3d.runner.done):
        dock_3d.export(tmp_path / "lid.mrc", 1, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lid_001.mrc", "lid_002.mrc", "lid_003.mrc"]
    header = read_header(tmp_path / "lid_002.mrc")
    assert header.is_volume and header.pixel_size == pytest.approx(13.33, rel=1e-4)
    with qtbot.waitSignal(dock_3d.runner.failed):
        dock_3d.export(tmp_path / "lid.mrc", 0, 2)  # frames of two series must not mix
    assert "a series of this name already" in dock_3d.panel.message_label.text()
