"""The gallery of classes: tiles, what is chosen, edits by buttons and keys, and nothing left behind."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gui_fakes import make_particles, make_result, make_result_3d, make_subtomograms
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QItemSelectionModel, Qt
from qtpy.QtGui import QImage
from qtpy.QtWidgets import QWidget

from napari_harmony._layers import aligned_layer, particles_layer, role_of, space_of
from napari_harmony.edits import Junk, Merge, Split, Turn, due_averages, with_averages
from napari_harmony.engine.events import Done, Event, Progress
from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import Particles
from napari_harmony.results import Result
from napari_harmony.session import State, session_of
from napari_harmony.widgets._gallery_model import GalleryModel, Lit, Order
from napari_harmony.widgets._gallery_tiles import Cut, Pictures, flat, grey
from napari_harmony.widgets.class_gallery import EMPTY, ClassGallery

STILL = Turn((0.0,), (0.0, 0.0))
CONTROL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier


@pytest.fixture(autouse=True)
def averages(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Averages are made at once, of ones; what was asked for is written down."""
    asked: list[tuple[int, ...]] = []

    def recompute(_particles: Particles, result: Result, device: str = "auto") -> Iterator[Event]:
        due = due_averages(result)
        asked.append(due)
        yield Progress("averaging", 0.5)
        ones = np.ones((len(due), *result.averages.shape[1:]), np.float32)
        curve = np.ones((len(due), result.frc.shape[1]), np.float32)
        yield Done(with_averages(result, due, ones, curve, curve, np.full(len(due), 7.0, np.float32), None))

    monkeypatch.setattr("napari_harmony.widgets._editing.recompute", recompute)
    return asked


@pytest.fixture
def gallery(qtbot: QtBot, viewer: ViewerModel, particles: Particles, result: Result) -> Iterator[ClassGallery]:
    session = session_of(viewer)
    session.set_data(particles, viewer.layers["particles"])
    session.set_result(result)
    gallery = shown(qtbot, viewer)
    yield gallery
    gallery.unbind()


def shown(qtbot: QtBot, viewer: ViewerModel) -> ClassGallery:
    gallery = ClassGallery(viewer)
    qtbot.addWidget(gallery)
    gallery.resize(380, 600)
    gallery.show()
    qtbot.waitExposed(gallery)
    return gallery


def click(qtbot: QtBot, gallery: ClassGallery, number: int, modifier: Any = Qt.KeyboardModifier.NoModifier) -> None:
    row = gallery.model.row_of(number)
    place = gallery.view.visualRect(gallery.model.index(row)).center()
    qtbot.mouseClick(gallery.view.viewport(), Qt.MouseButton.LeftButton, modifier, place)


def choose(gallery: ClassGallery, *numbers: int) -> None:
    gallery.view.selectionModel().clearSelection()
    for number in numbers:
        index = gallery.model.index(gallery.model.row_of(number))
        gallery.view.selectionModel().select(index, QItemSelectionModel.SelectionFlag.Select)


def chosen(gallery: ClassGallery) -> list[int]:
    return sorted(int(gallery.model.numbers[i.row()]) for i in gallery.view.selectionModel().selectedIndexes())


def settled(qtbot: QtBot, gallery: ClassGallery) -> None:
    """No edit at work, no average due."""
    editing = gallery.editing
    qtbot.waitUntil(lambda: not editing.busy and not editing.averaging and not editing.due, timeout=30_000)


# -- the model ------------------------------------------------------------------------------------------------------


def some_result() -> Result:
    result = make_result(60, 4)
    number = np.repeat([1, 2, 3, 4, 0], [10, 25, 5, 15, 5])
    score = np.repeat([0.2, 0.1, 0.4, 0.3, 0.9], [10, 25, 5, 15, 5])
    resolution = np.array([9.0, np.nan, 7.0, 8.0], np.float32)
    return replace(result, table=result.table.assign(class_number=number, score=score, flags=""), resolution=resolution)


@pytest.mark.parametrize(
    ("order", "descending", "expected"),
    [
        (Order.COUNT, True, [2, 4, 1, 3]),
        (Order.COUNT, False, [3, 1, 4, 2]),
        (Order.RESOLUTION, False, [3, 4, 1, 2]),
        (Order.RESOLUTION, True, [1, 4, 3, 2]),  # a class without one comes last either way
        (Order.SCORE, True, [3, 4, 1, 2]),
        (Order.NUMBER, False, [1, 2, 3, 4]),
    ],
)
def test_classes_are_sorted_by_what_is_asked(order: Order, descending: bool, expected: list[int]) -> None:
    model = GalleryModel()
    model.set_result(some_result())
    model.set_order(order, descending)
    assert model.numbers.tolist() == expected


def test_junk_comes_last_and_merged_classes_not_at_all() -> None:
    from napari_harmony.edits import apply_edits

    model = GalleryModel()
    model.set_result(apply_edits(some_result(), [Junk((2,)), Merge((4, 1), ((1, STILL),))]))
    assert model.numbers.tolist() == [4, 3, 2]
    tile = model.tile(2)
    assert (tile.count, tile.junked, tile.lines) == (0, 25, ("junk", "25 to restore"))
    assert model.tile(0).due and model.tile(0).lines == ("25", "averaging")
    assert "before the last edits" in model.tile(0).words


def test_tiles_say_how_much_of_a_class_is_selected() -> None:
    model = GalleryModel()
    model.set_result(some_result())
    model.set_selection(np.r_[np.arange(10), 35, 59])  # all of 1, one of 3, one of no class
    lit = {int(number): model.tile(row).lit for row, number in enumerate(model.numbers)}
    assert lit == {1: Lit.ALL, 2: Lit.NONE, 3: Lit.SOME, 4: Lit.NONE}
    assert model.tile(model.row_of(3)).share == 0.2
    assert "20% of it selected" in model.tile(model.row_of(3)).words


def test_tiles_have_words_for_those_who_do_not_see_them() -> None:
    model = GalleryModel()
    model.set_result(some_result())
    text = model.data(model.index(model.row_of(3)), Qt.ItemDataRole.AccessibleTextRole)
    assert text == "Class 3: 5 particles; 7.0 \N{ANGSTROM SIGN} (half-set correlation 0.143); mean score 0.400."
    assert "do not agree beyond chance" in model.tile(model.row_of(2)).words


def test_pictures_are_cuts_of_volumes_and_bytes_of_images() -> None:
    volume = np.zeros((4, 4, 4), np.float32)
    volume[2, 1, 1], volume[0, 3, 3] = 1, 5
    assert flat(volume, Cut.SLICE)[1, 1] == 1 and flat(volume, Cut.SLICE)[3, 3] == 0
    assert flat(volume, Cut.PROJECTION)[3, 3] == 5
    assert grey(np.zeros((4, 4), np.float32)).max() == 0
    assert grey(np.full((4, 4), np.nan, np.float32)).max() == 0
    shades = grey(np.arange(16, dtype=np.float32).reshape(4, 4))
    assert shades[0, 0] == 0 and shades[3, 3] == 255 and (np.diff(shades.ravel().astype(int)) >= 0).all()


def test_pictures_are_made_once_and_anew_where_the_average_changed(qtbot: QtBot) -> None:
    result, pictures = make_result(), Pictures()
    one, two = pictures.of(result, 1, 64), pictures.of(result, 2, 64)
    assert one.width() == 64
    changed = result.averages.copy()
    changed[1] += np.arange(16)
    edited = replace(result, averages=changed)
    assert pictures.of(edited, 1, 64).cacheKey() == one.cacheKey()
    assert pictures.of(edited, 2, 64).cacheKey() != two.cacheKey()


# -- choosing -------------------------------------------------------------------------------------------------------


def test_a_click_selects_the_particles_of_a_class(qtbot: QtBot, gallery: ClassGallery, result: Result) -> None:
    click(qtbot, gallery, 2)
    np.testing.assert_array_equal(gallery.session.selection, result.members(2))
    click(qtbot, gallery, 3, CONTROL)
    np.testing.assert_array_equal(gallery.session.selection, np.sort(np.r_[result.members(2), result.members(3)]))
    assert "2 chosen" in gallery.count_label.text()


def test_the_keyboard_chooses_too(qtbot: QtBot, gallery: ClassGallery, result: Result) -> None:
    click(qtbot, gallery, int(gallery.model.numbers[0]))
    qtbot.keyClick(gallery.view, Qt.Key.Key_Right)
    assert chosen(gallery) == [int(gallery.model.numbers[1])]
    qtbot.keyClick(gallery.view, Qt.Key.Key_Right, SHIFT)
    assert len(chosen(gallery)) == 2
    qtbot.keyClick(gallery.view, Qt.Key.Key_A, CONTROL)
    assert chosen(gallery) == [1, 2, 3]
    assert len(gallery.session.selection) == result.counts.sum()


def test_particles_selected_elsewhere_light_their_classes(gallery: ClassGallery, result: Result) -> None:
    gallery.session.select(np.r_[result.members(1), result.members(3)[:2]])
    assert chosen(gallery) == [1]
    assert gallery.model.tile(gallery.model.row_of(3)).lit is Lit.SOME
    assert "1 chosen, 1 in part" in gallery.count_label.text()
    assert len(gallery.session.selection) == len(result.members(1)) + 2  # and the selection is left alone


def test_sorting_keeps_what_is_chosen(gallery: ClassGallery) -> None:
    choose(gallery, 2)
    before = gallery.session.selection
    gallery.order_box.setCurrentIndex(gallery.order_box.findData(Order.RESOLUTION))
    gallery.direction_button.click()
    assert gallery.direction_button.text() == "ascending" and not gallery.model.descending
    assert chosen(gallery) == [2]
    np.testing.assert_array_equal(gallery.session.selection, before)


def test_a_double_click_or_enter_opens_the_aligned_members(
    qtbot: QtBot, gallery: ClassGallery, viewer: ViewerModel, result: Result
) -> None:
    click(qtbot, gallery, 2)
    qtbot.keyClick(gallery.view, Qt.Key.Key_Return)
    layer = viewer.layers.selection.active
    assert role_of(layer) == "class" and layer.data.shape[0] == len(result.members(2))
    click(qtbot, gallery, 3)
    place = gallery.view.visualRect(gallery.model.index(gallery.model.row_of(3))).center()
    qtbot.mouseDClick(gallery.view.viewport(), Qt.MouseButton.LeftButton, pos=place)
    np.testing.assert_array_equal(viewer.layers.selection.active.data.ids, result.members(3))


# -- editing --------------------------------------------------------------------------------------------------------


def test_merging_puts_all_into_the_first_chosen(
    qtbot: QtBot, gallery: ClassGallery, result: Result, averages: list[tuple[int, ...]]
) -> None:
    click(qtbot, gallery, 3)
    click(qtbot, gallery, 1, CONTROL)
    assert "into class 3" in gallery.actions_box.buttons["merge"].toolTip()
    gallery.actions_box.buttons["merge"].click()
    settled(qtbot, gallery)
    edited = gallery.session.result
    assert edited.counts.tolist() == [0, result.counts[1], result.counts[0] + result.counts[2]]
    assert averages == [(3,)] and (edited.averages[2] == 1).all()
    assert gallery.model.numbers.tolist() == [3, 2]
    assert chosen(gallery) == [3]  # what was chosen still is
    assert gallery.session.undo_words == "merge classes 3 and 1"


def test_every_edit_has_its_key(qtbot: QtBot, gallery: ClassGallery, result: Result) -> None:
    view = gallery.view
    click(qtbot, gallery, 2)
    qtbot.keyClick(view, Qt.Key.Key_Delete)
    assert gallery.session.result.counts[1] == 0 and chosen(gallery) == [2]
    qtbot.keyClick(view, Qt.Key.Key_U)
    assert gallery.session.result.counts.tolist() == result.counts.tolist()
    qtbot.keyClick(view, Qt.Key.Key_K)
    assert (gallery.session.result.counts > 0).tolist() == [False, True, False]
    qtbot.keyClick(view, Qt.Key.Key_Z, CONTROL)
    assert gallery.session.result.counts.all()
    qtbot.keyClick(view, Qt.Key.Key_Z, CONTROL | SHIFT)
    assert not gallery.session.result.counts.all()
    qtbot.keyClick(view, Qt.Key.Key_Z, CONTROL)
    qtbot.keyClick(view, Qt.Key.Key_S)
    settled(qtbot, gallery)
    assert gallery.session.result.classes == 4
    qtbot.keyClick(view, Qt.Key.Key_N)
    assert gallery.session.undo_words == "number the classes anew"
    choose(gallery, 1, 2)
    qtbot.keyClick(view, Qt.Key.Key_M)
    settled(qtbot, gallery)
    assert gallery.session.undo_words == "merge classes 1 and 2"


def test_undo_gives_the_picture_of_before(qtbot: QtBot, gallery: ClassGallery, result: Result) -> None:
    choose(gallery, 1)
    gallery.actions_box.do("split")
    settled(qtbot, gallery)
    assert gallery.session.result.classes == 4
    gallery.actions_box.do("undo")
    assert gallery.session.result is result
    gallery.actions_box.do("redo")
    settled(qtbot, gallery)  # the averages came back with the edit, or are made again
    assert gallery.session.result.classes == 4 and gallery.session.can_undo


def test_buttons_say_why_they_cannot_be_used(qtbot: QtBot, gallery: ClassGallery) -> None:
    buttons = gallery.actions_box.buttons
    assert "Choose classes first" in buttons["junk"].toolTip() and not buttons["junk"].isEnabled()
    assert "No class was changed yet" in buttons["undo"].toolTip()
    choose(gallery, 1)
    assert buttons["junk"].isEnabled() and "(Del)" in buttons["junk"].toolTip()
    assert "at least two" in buttons["merge"].toolTip()
    assert "Nothing was junked" in buttons["restore"].toolTip()
    choose(gallery, 1, 2)
    assert "one class alone" in buttons["split"].toolTip()
    choose(gallery, 1, 2, 3)
    assert "nothing else to junk" in buttons["keep"].toolTip()
    gallery.session.set_state(State.RUNNING)
    assert "A run is at work" in buttons["junk"].toolTip() and not buttons["junk"].isEnabled()
    gallery.session.set_state(State.IDLE)
    gallery.actions_box.do("junk")
    choose(gallery, 1)
    assert "restore them first" in buttons["split"].toolTip() and buttons["restore"].isEnabled()


def test_averages_that_fail_are_said_and_can_be_asked_for_again(
    qtbot: QtBot, gallery: ClassGallery, monkeypatch: pytest.MonkeyPatch, averages: list[tuple[int, ...]]
) -> None:
    import napari_harmony.widgets._editing as module

    works = module.recompute

    def fails(*_: Any) -> Iterator[Event]:
        yield Progress("averaging", 0.1)
        raise InputError("stack.mrcs cannot be read any more.")

    monkeypatch.setattr(module, "recompute", fails)
    choose(gallery, 1)
    gallery.session.edit(Split(1))
    qtbot.waitUntil(lambda: "cannot be read" in gallery.message_label.text(), timeout=10_000)
    assert gallery.average_button.isVisible() and gallery.editing.due == (1, 4)
    monkeypatch.setattr(module, "recompute", works)
    gallery.average_button.click()
    settled(qtbot, gallery)
    assert averages == [(1, 4)] and not gallery.average_button.isVisible()


def test_a_run_on_chosen_classes_gets_a_layer_of_its_own(
    gallery: ClassGallery, viewer: ViewerModel, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("napari_harmony.widgets.class_gallery.open_dock", lambda _viewer, name: opened.append(name))
    choose(gallery, 2, 3)
    ids, whole = gallery.session.selection, gallery.session.data
    gallery.actions_box.do("rerun")
    some = gallery.session.data
    assert opened == ["Harmony"] and len(some) == len(ids) and gallery.session.result is None
    np.testing.assert_array_equal(some.read([3]), whole.read([ids[3]]))
    layer = gallery.session.layer
    assert layer.name == f"particles of classes 2 and 3 ({len(ids)})"
    np.testing.assert_array_equal(layer.scale, viewer.layers["particles"].scale)
    gallery.session.set_data(whole, viewer.layers["particles"])
    assert gallery.session.result is result and gallery.model.rowCount() == 3


def test_layers_follow_edits(qtbot: QtBot, gallery: ClassGallery, viewer: ViewerModel, result: Result) -> None:
    layer = viewer.layers["particles"]
    for number in (None, 1, 2):
        data, options, _ = aligned_layer(layer.data.particles, result, space_of(layer), (0, 1), number)
        options["metadata"]["napari-harmony"]["set"] = str(layer.unique_id)
        viewer.add_image(data, **options)
    gallery.session.edit(Junk((2,)))
    assert [role_of(x) for x in viewer.layers] == ["particles", "aligned", "class"]
    gallery.session.edit(Split(1))
    settled(qtbot, gallery)
    edited = gallery.session.result
    assert viewer.layers[1].data.result is edited
    np.testing.assert_array_equal(viewer.layers[2].data.ids, edited.members(1))
    assert viewer.layers[2].name == f"class 1 ({len(edited.members(1))})"


# -- empty, large, closed -------------------------------------------------------------------------------------------


def test_without_a_result_it_says_what_to_do(qtbot: QtBot, viewer: ViewerModel) -> None:
    gallery = shown(qtbot, viewer)
    assert gallery.empty_label.isVisible() and gallery.empty_label.text() == EMPTY
    assert not any(button.isEnabled() for button in gallery.actions_box.buttons.values())
    gallery.session.set_data(make_particles(), viewer.layers["particles"])
    gallery.session.set_result(make_result())
    assert gallery.view.isVisible() and gallery.model.rowCount() == 3
    gallery.unbind()


def test_volumes_are_shown_by_slices_or_projections(qtbot: QtBot) -> None:
    viewer, particles = ViewerModel(), make_subtomograms()
    data, options, _ = particles_layer(particles, "subtomograms")
    session = session_of(viewer)
    session.set_data(particles, viewer.add_image(data, **options))
    session.set_result(make_result_3d())
    gallery = shown(qtbot, viewer)
    assert gallery.cut_box.isVisible()
    before = painted(gallery)
    gallery.cut_box.setCurrentIndex(1)
    assert painted(gallery) != before
    gallery.unbind()


def painted(gallery: ClassGallery) -> bytes:
    image = gallery.view.viewport().grab().toImage().convertToFormat(QImage.Format.Format_Grayscale8)
    return bytes(image.constBits().asarray(image.sizeInBytes()) if hasattr(image.constBits(), "asarray") else b"")


def test_it_fits_a_small_screen(gallery: ClassGallery) -> None:
    assert gallery.minimumSizeHint().height() <= 700 and gallery.sizeHint().height() <= 700
    assert gallery.minimumSizeHint().width() <= 360


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_it_is_painted_in_the_colours_of_the_theme(gallery: ClassGallery, viewer: ViewerModel, theme: str) -> None:
    viewer.theme = theme
    text = gallery.delegate.colours.text.lightness()
    assert (text > 128) == (theme == "dark")
    assert painted(gallery)


def test_the_wheel_and_the_slider_change_the_size(gallery: ClassGallery) -> None:
    before = gallery.view.gridSize()
    gallery.size_slider.setValue(160)
    assert gallery.delegate.edge == 160 and gallery.view.gridSize().height() > before.height()
    gallery.view.zoomed.emit(-16)
    assert gallery.delegate.edge == 144


def listeners(gallery: ClassGallery, viewer: ViewerModel) -> list[int]:
    session = gallery.session
    signals = (session.result_changed, session.selection_changed, session.history_changed, session.state_changed)
    return [
        *(len(s) for s in signals),
        len(viewer.layers.events.inserted.callbacks),
        len(viewer.events.theme.callbacks),
    ]


def test_nothing_listens_once_it_is_closed(qtbot: QtBot, viewer: ViewerModel, result: Result) -> None:
    """Fifty times opened, bound, edited and closed."""
    session = session_of(viewer)
    session.set_data(make_particles(), viewer.layers["particles"])
    session.set_result(result)
    first = ClassGallery(viewer)
    first.unbind()
    bare, gone = listeners(first, viewer), []
    for number in range(50):
        gallery, holder = ClassGallery(viewer), QWidget()
        gallery.setParent(holder)
        choose(gallery, 1)
        if number % 10 == 0:
            gallery.actions_box.do("junk")
            gallery.actions_box.do("undo")
        gallery.setParent(None)  # as napari does when the dock is closed
        assert listeners(gallery, viewer) == bare
        gone.append(weakref.ref(gallery.model))
        gallery.deleteLater()
        holder.deleteLater()
        del gallery, holder

    def nothing_is_left() -> None:
        gc.collect()
        assert [number for number, model in enumerate(gone) if model() is not None] == []

    # what is posted to the closed docks is delivered first, which takes its time on a busy machine
    qtbot.waitUntil(nothing_is_left, timeout=10_000)
    assert not first.editing.averaging and not first.editing.busy


def test_averaging_stops_with_the_last_dock(
    qtbot: QtBot, viewer: ViewerModel, gallery: ClassGallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[bool] = []
    closed: list[bool] = []

    def endless(*_: Any) -> Iterator[Event]:
        started.append(True)
        try:
            while True:
                time.sleep(0.005)
                yield Progress("averaging", 0.1)
        finally:
            closed.append(True)

    monkeypatch.setattr("napari_harmony.widgets._editing.recompute", endless)
    gallery.session.edit(Split(1))
    qtbot.waitUntil(lambda: bool(started), timeout=10_000)
    assert gallery.editing.averaging and gallery.run_row.isVisible()
    gallery.unbind()
    qtbot.waitUntil(lambda: bool(closed), timeout=10_000)
    assert not gallery.editing.averaging
