"""What is done with the selection of the latent plot: classes, junk, a layer, a table; undone and made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gui_fakes import make_result, make_result_3d, make_subtomograms
from latent_gui import CONTROL, SHIFT
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, Qt

from napari_harmony._layers import KEY, particles_layer
from napari_harmony.errors import HarmonyError
from napari_harmony.results import Result
from napari_harmony.session import State, session_of
from napari_harmony.widgets._latent_colours import CLASS
from napari_harmony.widgets.latent_plot import LatentPlot

# -- what is done with the selection ---------------------------------------------------------------------------------


def test_a_new_class_of_the_selection_is_undone_and_made_again(qtbot: QtBot, plot: LatentPlot, result: Result) -> None:
    members = result.members(2)[:6]
    plot.session.select(members)
    plot.actions_box.new_class_button.click()
    edited = plot.session.result
    assert edited.classes == 4
    np.testing.assert_array_equal(edited.members(4), members)
    np.testing.assert_array_equal(plot.session.selection, members)  # still selected, in their new colour
    assert plot.legend.categories.item(3).text() == "4 (6)"
    assert "Undo" in plot.actions_box.undo_button.toolTip() and "6 particles" in plot.actions_box.undo_button.toolTip()
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Z, CONTROL)
    assert plot.session.result is result and not plot.actions_box.undo_button.isEnabled()
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Z, CONTROL | SHIFT)
    assert plot.session.result.classes == 4


def test_the_selection_is_merged_into_a_class(qtbot: QtBot, plot: LatentPlot, result: Result) -> None:
    """Frames are aligned in a thread first, and nothing else can be changed meanwhile."""
    chosen = result.members(2)[:5]
    plot.session.select(chosen)
    menu = plot.actions_box.merge_menu
    menu.aboutToShow.emit()
    assert [action.text() for action in menu.actions()] == ["&1  (19)", "&2  (19)", "&3  (20)"]
    with qtbot.waitSignal(plot.editing.editor.done, timeout=60_000):
        menu.actions()[0].trigger()
        assert not plot.actions_box.junk_button.isEnabled()
        assert "still being carried out" in plot.actions_box.junk_button.toolTip()
        plot.actions_box.junk()  # refused by the key as well
    assert set(chosen) <= set(plot.session.result.members(1)) and plot.session.can_undo
    assert plot.actions_box.junk_button.isEnabled()


def test_an_edit_of_a_result_that_is_gone_is_dropped(qtbot: QtBot, plot: LatentPlot, result: Result) -> None:
    plot.session.select(result.members(2)[:5])
    with qtbot.waitSignal(plot.editing.editor.done, timeout=60_000):
        plot.actions_box.assign(1)
        newer = make_result(seed=8)
        plot.session.set_result(newer)
    assert plot.session.result is newer


@pytest.mark.parametrize("key", [Qt.Key.Key_Delete, Qt.Key.Key_Backspace])
def test_the_selection_is_junked(qtbot: QtBot, plot: LatentPlot, key: Qt.Key) -> None:
    plot.session.select([10, 11])
    qtbot.keyClick(plot.canvas, key)
    table = plot.session.result.table
    assert table[CLASS][[10, 11]].tolist() == [0, 0] and all("junk" in f for f in table["flags"][[10, 11]])


def test_nothing_is_edited_while_a_run_is_at_work(qtbot: QtBot, plot: LatentPlot, result: Result) -> None:
    plot.session.select([10, 11])
    plot.session.set_state(State.RUNNING)
    assert not plot.actions_box.junk_button.isEnabled() and "run is at work" in plot.actions_box.junk_button.toolTip()
    assert plot.actions_box.layer_button.isEnabled()
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Delete)
    assert plot.session.result is result
    plot.session.set_state(State.IDLE)
    assert plot.actions_box.junk_button.isEnabled()


def test_what_cannot_be_edited_is_said(plot: LatentPlot, result: Result) -> None:
    plot.session.select([2])  # not usable: the image was constant
    plot.actions_box.new_class()
    assert plot.session.result is result
    assert notification_manager.records and notification_manager.records[-1].message


def test_a_new_layer_of_the_selection(qtbot: QtBot, plot: LatentPlot, viewer: ViewerModel, result: Result) -> None:
    plot.session.select([5, 20, 40])
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Y)
    layer = viewer.layers["3 selected particles"]
    assert layer.data.shape == (3, 16, 16) and layer.metadata[KEY]["role"] == "selection"
    assert tuple(layer.scale) == tuple(viewer.layers["particles"].scale)
    assert viewer.layers.selection.active is layer
    viewer.dims.set_current_step(0, 1)
    assert plot.session.current == 20  # the slider counts the images of the layer
    plot.session.set_current(40)
    assert viewer.dims.current_step[0] == 2


def test_a_new_layer_of_subtomograms(qtbot: QtBot) -> None:
    viewer, particles = ViewerModel(), make_subtomograms()
    data, options, _ = particles_layer(particles, "subtomograms")
    session = session_of(viewer)
    session.set_data(particles, viewer.add_image(data, **options))
    session.set_result(make_result_3d())
    plot = LatentPlot(viewer)
    qtbot.addWidget(plot)
    session.select([3, 7])
    plot.actions_box.new_layer()
    layer = viewer.layers["2 selected particles"]
    assert layer.data.shape == (2, 8, 8, 8)
    viewer.layers.remove("subtomograms")
    session.select([4])
    plot.actions_box.new_layer()  # also without the layer they came from
    assert viewer.layers["1 selected particle"].data.shape == (1, 8, 8, 8)


@pytest.mark.parametrize("typed", ["some", "some.csv"])
def test_a_new_table_of_the_selection(plot: LatentPlot, tmp_path: Path, monkeypatch, typed: str) -> None:
    monkeypatch.setattr(
        "napari_harmony.widgets._latent_actions.QFileDialog.getSaveFileName",
        lambda *_: (str(tmp_path / typed), "RELION STAR (*.star)"),
    )
    plot.session.select([3, 7, 50])
    plot.actions_box.star_button.click()
    if typed.endswith("csv"):
        assert len((tmp_path / typed).read_text().splitlines()) == 4
    else:
        import starfile

        assert len(starfile.read(tmp_path / "some.star", always_dict=True)["particles"]) == 3


def test_nothing_selected_is_no_table(plot: LatentPlot, tmp_path: Path) -> None:
    with pytest.raises(HarmonyError, match="Select particles first"):
        plot.actions_box.export(tmp_path / "none.star")


def test_the_menu_offers_what_can_be_done(plot: LatentPlot, monkeypatch: pytest.MonkeyPatch) -> None:
    offered: dict[str, bool] = {}
    monkeypatch.setattr(
        "napari_harmony.widgets._latent_actions.QMenu.exec",
        lambda menu, _place: offered.update(
            {a.text().partition("\t")[0]: a.isEnabled() for a in menu.actions() if a.text()}
        ),
    )
    plot.canvas.customContextMenuRequested.emit(QPoint(5, 5))
    assert not offered["&New class"] and not offered["&Merge into"] and offered["Select &all"]
    plot.session.select([5])
    plot.canvas.customContextMenuRequested.emit(QPoint(5, 5))
    assert offered["&New class"] and offered["&Merge into"] and not offered["&Undo"]
    letters = [text[text.index("&") + 1].lower() for text in offered]
    assert len(letters) == len(set(letters))
