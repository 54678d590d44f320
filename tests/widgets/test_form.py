"""The form: what is shown is what is run, and what is wrong is said."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from gui_fakes import make_particles
from pytestqt.qtbot import QtBot

from napari_harmony.additions import Addition
from napari_harmony.engine.settings import Settings
from napari_harmony.library import default_library
from napari_harmony.models.bundled import bundled_model
from napari_harmony.particles.simulate import CtfRange
from napari_harmony.widgets._devices import Device, cpu
from napari_harmony.widgets._form import SettingsForm
from napari_harmony.widgets._work import LAST, TRAIN


@pytest.fixture
def form(qtbot: QtBot) -> SettingsForm:
    form = SettingsForm()
    qtbot.addWidget(form)
    return form


def test_an_untouched_form_gives_the_defaults(form: SettingsForm) -> None:
    assert form.settings == Settings()
    assert form.model == TRAIN and form.problems() == []


def test_settings_go_in_and_come_out(form: SettingsForm) -> None:
    form.set_devices([cpu(), Device("mps", "Apple GPU")])
    chosen = Settings(
        classes=12,
        transforms=("rotation", "scale"),
        mask_diameter=120.0,
        max_shift=20.5,
        preset="fast",
        seed=7,
        device="mps",
        objective="harmony-2022",
    )
    form.set_settings(chosen)
    assert form.settings == chosen


def test_defocus_is_offered_for_images_with_a_ctf_alone(form: SettingsForm) -> None:
    box = form.transform_boxes["defocus"]
    assert not box.isChecked() and "CTF" in box.toolTip()
    bare = make_particles()
    seen = replace(bare, ctf=CtfRange().sample(len(bare), np.random.default_rng(0)))
    form.set_particles(seen)
    box.click()
    assert "defocus" in form.settings.transforms
    form.set_particles(bare)
    assert not box.isEnabled() and "defocus" not in form.settings.transforms
    form.set_particles(seen)
    assert "defocus" in form.settings.transforms


def test_further_objectives_go_in_and_come_out_with_their_strengths(form: SettingsForm) -> None:
    chosen = (Addition("loocc", 0.5), Addition("diffusion"))
    form.set_settings(replace(form.settings, additions=chosen))
    assert form.settings.additions == chosen
    assert form.additions.strengths["loocc"].isEnabled() and not form.additions.strengths["independence"].isEnabled()
    form.additions.boxes["loocc"].setChecked(False)
    assert form.settings.additions == (Addition("diffusion"),)


def test_the_published_objective_takes_no_others(form: SettingsForm) -> None:
    form.set_settings(replace(form.settings, additions=(Addition("loocc"),)))
    form.objective_box.setCurrentIndex(form.objective_box.findData("harmony-2022"))
    assert form.settings.additions == () and not form.additions.isEnabled()


def test_every_edit_is_heard(qtbot: QtBot, form: SettingsForm) -> None:
    for edit in (
        lambda: form.classes_spin.setValue(3),
        lambda: form.mask_spin.setValue(50),
        lambda: form.transform_boxes["scale"].click(),
        lambda: form.preset_box.setCurrentText("fast"),
        lambda: form.seed_spin.setValue(1),
        lambda: form.precision_box.setCurrentText("full"),
    ):
        with qtbot.waitSignal(form.changed):
            edit()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("mask_spin", 500.0, "wider than the images"),
        ("mask_spin", 3.0, "narrower than 8 pixels"),
        ("shift_spin", 17.0, "half the images"),
        ("classes_spin", 31, "only 60 particles"),
    ],
)
def test_impossible_values_are_marked_and_explained(form: SettingsForm, field: str, value: float, words: str) -> None:
    form.set_particles(make_particles())
    spin = getattr(form, field)
    spin.setValue(value)
    (problem,) = form.problems()
    assert words in problem and "red" not in problem
    assert spin.styleSheet()
    spin.setValue(0)
    assert form.problems() == [] and not spin.styleSheet()


def test_auto_is_said_in_angstrom(form: SettingsForm) -> None:
    form.set_particles(make_particles())  # 16 pixels of 2 angstrom
    assert "29 \N{ANGSTROM SIGN}" in form.mask_spin.toolTip()
    assert "5 \N{ANGSTROM SIGN}" in form.shift_spin.toolTip()


def test_devices_are_named_and_the_choice_stays(form: SettingsForm) -> None:
    gpu = Device("cuda:0", "NVIDIA H100, 80 GB")
    form.set_devices([gpu, cpu()])
    assert form.device_box.itemText(0) == "auto: NVIDIA H100, 80 GB"
    form.device_box.setCurrentIndex(2)
    form.set_devices([gpu, cpu()])
    assert form.settings.device == "cpu"
    form.set_devices([cpu()], "torch sees no CUDA device")
    assert "torch sees no CUDA device" in form.device_box.toolTip()


def test_models_can_be_chosen(form: SettingsForm, tmp_path: Path) -> None:
    form.set_last_model(True)
    form.set_last_model(True)
    assert [form.model_box.itemData(i) for i in range(form.model_box.count())] == [TRAIN, LAST, "open"]
    form.set_model_file(tmp_path / "ribosome" / "model.json")
    assert form.model == tmp_path / "ribosome" / "model.json"
    assert "ribosome" in form.model_box.currentText()
    form.set_model_file(tmp_path / "other" / "model.json")
    assert form.model_box.count() == 4 and "other" in form.model_box.currentText()
    form.model_box.setCurrentIndex(0)
    assert form.model == TRAIN
    form.set_last_model(False)
    assert form.model_box.findData(LAST) < 0


@pytest.mark.parametrize("answer", ["", "model.json"])
def test_the_file_dialog_may_be_left_empty(
    form: SettingsForm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    path = str(tmp_path / answer) if answer else ""
    monkeypatch.setattr("napari_harmony.widgets._model_choice.QFileDialog.getOpenFileName", lambda *_: (path, ""))
    form.model_box.setCurrentIndex(form.model_box.findData("open"))
    form.model_box.activated.emit(form.model_box.currentIndex())
    assert form.model == (Path(path) if answer else TRAIN)


def test_the_cpu_counts_its_cores() -> None:
    assert cpu().key == "cpu" and cpu().words.startswith("CPU (")


def save_card(folder: Path, box: int = 16, pixel_size: float = 2.0) -> None:
    """A model of which only the card matters."""
    from napari_harmony.models.card import FORMAT_VERSION, ModelCard

    card = ModelCard(box, pixel_size, box, ("rotation",), 8, 4, 24.0, 5.0, classes=3, format_version=FORMAT_VERSION)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "model.json").write_text(json.dumps({**asdict(card), "tensors": "model.safetensors"}))


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the library, empty."""
    monkeypatch.setenv("NAPARI_HARMONY_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_the_models_of_the_library_are_offered(library: Path, form: SettingsForm) -> None:
    save_card(library / "ribosome")
    (library / "broken").mkdir()
    (library / "broken" / "model.json").write_text("{")
    form.models.refresh()
    assert [form.model_box.itemText(i) for i in range(form.model_box.count())] == [
        "train on these particles",
        "broken",
        "ribosome",
        "open a saved model...",
    ]
    form.set_particles(make_particles())
    form.set_model_file(library / "ribosome")
    assert form.model == library / "ribosome" and form.model_box.count() == 4 and form.problems() == []
    form.model_box.setCurrentIndex(1)
    assert len(form.problems()) == 1 and "broken" in form.problems()[0]


def test_a_model_of_another_size_asks_to_rescale(library: Path, form: SettingsForm) -> None:
    save_card(library / "larger", box=20)
    form.set_particles(make_particles())
    form.set_model_file(library / "larger")
    models = form.models
    assert models.rescale_box.isVisibleTo(form) and not models.rescale
    assert "32 \N{ANGSTROM SIGN} wide" in form.problems()[0] and "Tick 'rescale'" in form.problems()[0]
    models.rescale_box.click()
    assert form.problems() == [] and models.rescale
    form.model_box.setCurrentIndex(0)
    assert not models.rescale_box.isVisibleTo(form) and not models.rescale


def test_the_device_is_the_one_that_auto_takes(form: SettingsForm) -> None:
    gpu = Device("cuda:0", "NVIDIA H100, 78 GB", 78 * 2**30)
    assert form.device.key == "cpu"
    form.set_devices([gpu, cpu()])
    assert form.device is gpu
    form.device_box.setCurrentIndex(form.device_box.findData("cpu"))
    assert form.device == cpu()


def test_what_is_disabled_says_why(form: SettingsForm) -> None:
    form.set_particles(make_particles())
    defocus = form.transform_boxes["defocus"]
    assert not defocus.isEnabled() and "do not have" in defocus.toolTip()
    strength = form.additions.strengths["independence"]
    assert not strength.isEnabled() and strength.toolTip() == "Tick the objective first."
    form.additions.boxes["independence"].click()
    assert strength.isEnabled() and "1 is a sensible default" in strength.toolTip()
    form.objective_box.setCurrentIndex(form.objective_box.findData("harmony-2022"))
    assert not form.additions.isEnabled() and "stands alone" in form.additions.boxes["independence"].toolTip()
    reach = form.volume.reach_spin
    assert not reach.isEnabled() and "choose it above" in reach.toolTip()
    form.volume.start_box.setCurrentIndex(1)
    assert reach.isEnabled() and "30 degrees" in reach.toolTip()


def test_of_the_models_of_the_package_the_one_for_such_particles_is_offered(
    library: Path, form: SettingsForm, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, text = bundled_model(2), "bundled: any images"
    monkeypatch.setattr(default_library(), "bundled", images.parent)
    form.set_particles(replace(make_particles(box=32), pixel_size=1.7))
    offered = [form.model_box.itemText(i) for i in range(form.model_box.count())]
    assert text in offered and not any("subtomograms" in name for name in offered)
    form.model_box.setCurrentIndex(offered.index(text))
    assert form.model == images
    assert not form.models.rescale_box.isVisibleTo(form)
