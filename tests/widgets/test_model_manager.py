"""The Models dock: what it shows of a library, and what it does with it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gui_fakes import make_result
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QCheckBox, QComboBox, QFileDialog, QLineEdit, QMessageBox

from napari_harmony.engine.events import Done
from napari_harmony.engine.settings import Settings
from napari_harmony.errors import InputError
from napari_harmony.library import Library, default_library
from napari_harmony.models.card import ModelCard
from napari_harmony.particles.dataset import Particles
from napari_harmony.session import session_of
from napari_harmony.widgets import model_manager
from napari_harmony.widgets._work import Action, Job, Request, finished
from napari_harmony.widgets.model_manager import ModelManager


def card_for(particles: Particles, **changes: Any) -> ModelCard:
    """Of a model that fits these particles."""
    card = ModelCard(
        box=particles.box,
        pixel_size=particles.pixel_size,
        original_box=particles.box,
        transforms=("rotation",),
        content=8,
        hypotheses=16,
        mask_diameter=0.9 * particles.box * particles.pixel_size,
        max_shift=10.0,
        particles=300,
        classes=3,
        package_version="1.0",
        trained_on="<b>apo</b>.star",
        trained="2026-11-22",
    )
    return replace(card, **changes)


def write_model(folder: Path, card: ModelCard) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"tensors")
    (folder / "model.json").write_text(card.to_json(sha256=hashlib.sha256(b"tensors").hexdigest()))
    return folder


@dataclass(frozen=True)
class SavedModel:
    """A model as the session holds one."""

    card: ModelCard

    def save(self, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"tensors")
        (folder / "model.json").write_text(self.card.to_json(sha256=hashlib.sha256(b"tensors").hexdigest()))


@pytest.fixture
def library(particles: Particles, tmp_path: Path) -> Library:
    """Three models: one that fits the particles, one of twice their width, one that has lost its tensors."""
    library = default_library()
    fitting = write_model(tmp_path / "fitting", card_for(particles))
    wide = write_model(tmp_path / "wide", card_for(particles, pixel_size=1.2 * particles.pixel_size))
    library.add(fitting, "fitting")
    library.add(wide, "wide")
    library.add(fitting, "broken")
    (library.folder / "broken" / "model.safetensors").unlink()
    return library


@pytest.fixture
def dock(qtbot: QtBot, viewer: ViewerModel, library: Library, particles: Particles) -> ModelManager:
    session_of(viewer).set_data(particles, viewer.layers["particles"])
    dock = ModelManager(viewer)
    qtbot.addWidget(dock)
    dock.show()
    qtbot.waitExposed(dock)
    return dock


def rows(dock: ModelManager) -> list[list[str]]:
    items = [dock.list.topLevelItem(i) for i in range(dock.list.topLevelItemCount())]
    return [[item.text(column) for column in range(3)] for item in items]


def stand_on(dock: ModelManager, name: str) -> None:
    dock.list.setCurrentItem(dock.list.findItems(name, Qt.MatchFlag.MatchExactly)[0])


def said(dock: ModelManager) -> str:
    return dock.message_label.text()


def test_models_are_listed_with_whether_they_fit(dock: ModelManager) -> None:
    assert rows(dock) == [["broken", "images", "broken"], ["fitting", "images", "yes"], ["wide", "images", "rescaled"]]
    assert not dock.list.isHidden() and dock.empty_label.isHidden()


def test_particles_that_are_open_are_looked_at_without_the_harmony_dock(
    qtbot: QtBot, viewer: ViewerModel, library: Library, particles: Particles
) -> None:
    layer = viewer.layers.pop()
    dock = ModelManager(viewer)
    qtbot.addWidget(dock)
    assert {fits for *_, fits in rows(dock)} == {"", "broken"}
    viewer.layers.append(layer)
    assert dock.session.data is particles and dock.session.layer is layer
    assert [fits for *_, fits in rows(dock)] == ["broken", "yes", "rescaled"]


@pytest.mark.parametrize("action", [Action.TRAIN, Action.ALIGN])
@pytest.mark.parametrize("path", [None, Path("apo.star")])
def test_a_new_model_is_named_after_its_particles_and_one_in_use_keeps_its_name(
    particles: Particles, action: Action, path: Path | None
) -> None:
    model = SavedModel(card_for(particles))
    job = Job(action, replace(particles, path=path), Settings(), name="my layer")
    of_train = action is Action.TRAIN
    done = Done(model if of_train else make_result(), None if of_train else model)
    ended = finished(job, done, 1.0)
    known = ended.value if of_train else ended.model
    assert known.card.trained_on == ("my layer" if path is None else model.card.trained_on)
    if not of_train:
        assert finished(replace(job, model=model), done, 1.0).model is model


def test_a_card_is_shown_as_plain_words(dock: ModelManager) -> None:
    stand_on(dock, "fitting")
    values = dock.card.values
    assert values["Trained on"].text() == "<b>apo</b>.star (300 images)"
    assert values["Trained on"].textFormat() is Qt.TextFormat.PlainText
    assert values["Started from"].isHidden() and not values["Classes"].isHidden()
    assert dock.fit_label.text() == "Fits the particles 'particles'."
    assert dock.card.path_label.toolTip() == str(dock.library.folder / "fitting")


def test_a_model_of_another_width_offers_to_rescale(dock: ModelManager) -> None:
    stand_on(dock, "wide")
    assert "wide" in dock.fit_label.text() and "rescaled" in dock.fit_label.text()
    assert "rescaling" in dock.buttons["use"].text() and dock.buttons["use"].isEnabled()


def test_a_broken_model_says_why_and_can_only_be_deleted(dock: ModelManager) -> None:
    stand_on(dock, "broken")
    assert "is missing" in dock.card.problem_label.text()
    assert not dock.buttons["use"].isEnabled() and "is missing" in dock.buttons["use"].toolTip()
    assert dock.buttons["delete"].isEnabled()


def test_a_model_that_cannot_fit_says_why(
    dock: ModelManager, library: Library, particles: Particles, tmp_path: Path
) -> None:
    library.add(write_model(tmp_path / "3d", card_for(particles, dimensions=3)), "volumes")
    stand_on(dock, "volumes")
    assert rows(dock)[2] == ["volumes", "subtomograms", "no"]
    assert "subtomograms" in dock.fit_label.text() and not dock.buttons["use"].isEnabled()
    assert "rescaling" not in dock.buttons["use"].text()


def test_an_empty_library_says_how_to_fill_it(qtbot: QtBot, viewer: ViewerModel) -> None:
    dock = ModelManager(viewer)
    qtbot.addWidget(dock)
    assert dock.list.isHidden() and not dock.empty_label.isHidden()
    for name in ("use", "rename", "delete", "open", "keep"):
        assert not dock.buttons[name].isEnabled() and len(dock.buttons[name].toolTip()) > 10
    assert dock.buttons["import"].isEnabled() and dock.buttons["train"].isEnabled()


def test_what_others_do_to_the_library_is_seen(dock: ModelManager, library: Library, tmp_path: Path) -> None:
    stand_on(dock, "wide")
    library.add(tmp_path / "fitting", "a new one")
    assert rows(dock)[0][0] == "a new one"
    assert dock.list.entry is not None and dock.list.entry.name == "wide"
    library.delete("wide")
    assert [row[0] for row in rows(dock)] == ["a new one", "broken", "fitting"] and dock.list.entry is not None


def test_without_particles_nothing_is_compared(dock: ModelManager) -> None:
    dock.session.set_data(None)
    stand_on(dock, "wide")
    assert dock.list.isColumnHidden(2) and dock.fit_label.isHidden()
    assert dock.buttons["use"].isEnabled() and "rescaling" not in dock.buttons["use"].text()


def test_names_are_typed_in_the_list(qtbot: QtBot, dock: ModelManager, library: Library) -> None:
    stand_on(dock, "fitting")
    dock.list.setFocus()
    qtbot.keyClick(dock.list, Qt.Key.Key_F2)
    editor = dock.list.findChild(QLineEdit)
    assert editor is not None and editor.text() == "fitting"
    editor.setText("apo 5 \N{ANGSTROM SIGN}")
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: [row[0] for row in rows(dock)] == ["apo 5 \N{ANGSTROM SIGN}", "broken", "wide"])
    assert dock.list.entry is not None and dock.list.entry.folder.name == "apo 5 \N{ANGSTROM SIGN}"
    assert "is called" in said(dock)


@pytest.mark.parametrize("name", ["wide", "a/b", "", "WIDE"])
def test_a_name_that_cannot_be_is_refused_in_a_sentence(
    qtbot: QtBot, dock: ModelManager, library: Library, name: str
) -> None:
    item = dock.list.findItems("fitting", Qt.MatchFlag.MatchExactly)[0]
    item.setText(0, name)
    qtbot.waitUntil(lambda: bool(said(dock)))
    assert said(dock).endswith(".") and "e05252" in dock.message_label.styleSheet()
    assert [row[0] for row in rows(dock)] == ["broken", "fitting", "wide"]
    assert [entry.name for entry in library.entries()] == ["broken", "fitting", "wide"]


def test_models_of_the_package_are_not_touched(
    qtbot: QtBot, viewer: ViewerModel, particles: Particles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "bundled" / "general", card_for(particles))
    library = Library(tmp_path / "own", tmp_path / "bundled")
    monkeypatch.setattr(model_manager, "default_library", lambda: library)
    dock = ModelManager(viewer)
    qtbot.addWidget(dock)
    for name in ("rename", "delete"):
        assert not dock.buttons[name].isEnabled() and "stays as it is" in dock.buttons[name].toolTip()
    dock.ask_and_delete()  # by its key
    assert not dock.list.topLevelItem(0).flags() & Qt.ItemFlag.ItemIsEditable
    assert dock.buttons["use"].isEnabled() and [entry.name for entry in library.entries()] == ["general"]


def test_deleting_asks_and_uses_the_trash(
    qtbot: QtBot, dock: ModelManager, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = iter([QMessageBox.StandardButton.Cancel, QMessageBox.StandardButton.Yes])
    questions: list[str] = []

    def reply(box: QMessageBox) -> QMessageBox.StandardButton:
        questions.append(box.text())
        assert box.defaultButton() is box.button(QMessageBox.StandardButton.Cancel)
        return next(replies)

    monkeypatch.setattr(QMessageBox, "exec", reply)
    monkeypatch.setattr(model_manager, "_into_trash", lambda folder: folder.rename(tmp_path / "trash"))
    stand_on(dock, "wide")
    dock.list.setFocus()
    dock.ask_and_delete()
    assert len(rows(dock)) == 3
    qtbot.mouseClick(dock.buttons["delete"], Qt.MouseButton.LeftButton)
    assert [row[0] for row in rows(dock)] == ["broken", "fitting"] and "deleted" in said(dock)
    assert (tmp_path / "trash" / "model.json").is_file() and all("trash" in question for question in questions)


def test_where_there_is_no_trash_it_asks_again(
    dock: ModelManager, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = iter([True, False, True, True])
    questions: list[str] = []
    monkeypatch.setattr(dock, "_sure", lambda question, detail: questions.append(question) or next(replies))
    monkeypatch.setattr(model_manager, "_into_trash", lambda folder: None)
    stand_on(dock, "wide")
    dock.ask_and_delete()
    assert len(rows(dock)) == 3 and "for good" in questions[-1]
    dock.ask_and_delete()
    assert len(rows(dock)) == 2 and "deleted" in said(dock)


def test_the_delete_key_deletes(qtbot: QtBot, dock: ModelManager, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(dock, "_sure", lambda question, detail: asked.append(question))
    dock.activateWindow()
    dock.list.setFocus()
    qtbot.waitUntil(dock.list.hasFocus)
    qtbot.keyClick(dock.list, Qt.Key.Key_Delete)
    assert len(asked) == 1


def test_the_last_model_is_kept_under_a_free_name(qtbot: QtBot, dock: ModelManager, particles: Particles) -> None:
    assert not dock.buttons["keep"].isEnabled() and "No model" in dock.buttons["keep"].toolTip()
    dock.session.set_model(SavedModel(card_for(particles)))
    assert dock.buttons["keep"].isEnabled()
    qtbot.mouseClick(dock.buttons["keep"], Qt.MouseButton.LeftButton)
    assert "being copied" in said(dock) and not dock.buttons["import"].isEnabled()
    qtbot.waitUntil(lambda: dock.list.findChild(QLineEdit) is not None)
    assert dock.buttons["import"].isEnabled()
    editor = dock.list.findChild(QLineEdit)
    assert editor is not None and editor.text().startswith("particles 20")
    editor.setText("kept")
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: "kept" in [row[0] for row in rows(dock)])


def test_models_are_imported(
    qtbot: QtBot, dock: ModelManager, particles: Particles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_model(tmp_path / "else" / "wide", card_for(particles))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a: (str(source / "model.json"), ""))
    dock.ask_and_import()
    qtbot.waitUntil(lambda: "wide 2" in [row[0] for row in rows(dock)])
    (source / "model.safetensors").write_bytes(b"other")
    dock.ask_and_import()
    qtbot.waitUntil(lambda: "sha256" in said(dock))
    assert len(rows(dock)) == 4
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a: ("", ""))
    dock.ask_and_import()
    assert len(rows(dock)) == 4


class Harmony:
    """The parts of the Harmony dock that models are chosen in, and its runs."""

    def __init__(self) -> None:
        self.chosen: list[Path] = []
        self.settings = Settings(preset="fast")
        self.requests: list[Request] = []
        self.refusal = ""
        self.runs = SimpleNamespace(submit=self.requests.append, why_not=lambda request: self.refusal)
        box = QComboBox()
        box.addItem("other", "other")
        box.addItem("train", "train")
        models = SimpleNamespace(set_file=self.chosen.append, rescale_box=QCheckBox())
        self.form = SimpleNamespace(models=models, model_box=box)


@pytest.fixture
def harmony(dock: ModelManager, monkeypatch: pytest.MonkeyPatch) -> Harmony:
    harmony = Harmony()
    monkeypatch.setattr(dock, "_harmony", lambda: harmony)
    return harmony


def test_a_model_is_chosen_in_the_harmony_dock(qtbot: QtBot, dock: ModelManager, harmony: Harmony) -> None:
    stand_on(dock, "wide")
    qtbot.mouseClick(dock.buttons["use"], Qt.MouseButton.LeftButton)
    assert harmony.chosen == [dock.library.folder / "wide"] and harmony.form.models.rescale_box.isChecked()
    stand_on(dock, "fitting")
    dock.list.itemActivated.emit(dock.list.currentItem(), 0)  # Enter
    assert harmony.chosen[1:] == [dock.library.folder / "fitting"] and not harmony.form.models.rescale_box.isChecked()
    stand_on(dock, "broken")
    dock.use()
    assert len(harmony.chosen) == 2


def test_a_model_is_trained_on_as_a_run_of_the_harmony_dock(
    qtbot: QtBot, dock: ModelManager, harmony: Harmony, particles: Particles
) -> None:
    stand_on(dock, "wide")
    qtbot.mouseClick(dock.buttons["tune"], Qt.MouseButton.LeftButton)
    (request,) = harmony.requests
    assert request.action is Action.TRAIN and request.model == dock.library.folder / "wide" and request.rescale
    assert request.particles is particles and request.settings.preset == "fast" and request.name == "particles"
    assert harmony.form.model_box.currentData() == "train" and "Keep last model" in said(dock)
    harmony.refusal = "It is waiting already."
    dock.tune()
    assert len(harmony.requests) == 1 and said(dock) == "It is waiting already."


def test_what_cannot_be_trained_on_says_why(
    dock: ModelManager, harmony: Harmony, library: Library, particles: Particles, tmp_path: Path
) -> None:
    library.add(write_model(tmp_path / "old", card_for(particles, objective="harmony-2022")), "published")
    stand_on(dock, "published")
    assert not dock.buttons["tune"].isEnabled() and "harmony-2022" in dock.buttons["tune"].toolTip()
    stand_on(dock, "fitting")
    assert dock.buttons["tune"].isEnabled()
    dock.session.set_data(None)
    assert not dock.buttons["tune"].isEnabled() and "Choose particles" in dock.buttons["tune"].toolTip()
    dock.tune()
    assert harmony.requests == []


def test_training_begins_in_the_harmony_dock(dock: ModelManager, harmony: Harmony) -> None:
    dock.train()
    assert harmony.form.model_box.currentData() == "train"


def test_the_folder_is_opened(dock: ModelManager, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(model_manager.QDesktopServices, "openUrl", lambda url: opened.append(Path(url.toLocalFile())))
    stand_on(dock, "wide")
    dock.open_folder()
    assert opened == [dock.library.folder / "wide"]


def test_a_closed_dock_hears_nothing(dock: ModelManager, library: Library) -> None:
    before = rows(dock)
    dock.unbind()
    library.delete("wide")
    assert rows(dock) == before
    dock.bind()
    assert len(rows(dock)) == 2


def test_errors_of_the_disk_are_words(qtbot: QtBot, dock: ModelManager, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dock.library, "add", full)
    dock.add("x", "x")
    qtbot.waitUntil(lambda: "No space left" in said(dock))
    assert dock.buttons["import"].isEnabled()
    monkeypatch.setattr(dock.library, "rename", lambda *_: (_ for _ in ()).throw(InputError("no such model.")))
    stand_on(dock, "fitting")
    assert dock.list.entry is not None
    dock.rename(dock.list.entry, "y")
    assert said(dock) == "no such model."


def test_it_fits_small_screens_and_is_reached_by_keyboard(qtbot: QtBot, dock: ModelManager) -> None:
    stand_on(dock, "wide")
    assert dock.sizeHint().height() <= 700 and dock.minimumSizeHint().width() <= 360
    assert all("&" in button.text() for button in dock.buttons.values())
    mnemonics = [button.text()[button.text().index("&") + 1].lower() for button in dock.buttons.values()]
    assert len(set(mnemonics)) == len(mnemonics)
    assert all(len(widget.toolTip()) > 10 for widget in (dock.list, *dock.buttons.values()))
    policies = [widget.focusPolicy() for widget in (dock.list, *dock.buttons.values())]
    assert all(policy & Qt.FocusPolicy.TabFocus for policy in policies)


def test_the_trash_takes_folders_or_leaves_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = tmp_path / "model"
    folder.mkdir()
    model_manager._into_trash(folder)
    found = list((tmp_path / "data").rglob("model")) if (tmp_path / "data").exists() else []
    assert folder.exists() or found or QApplication.instance() is None
