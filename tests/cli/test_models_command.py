"""The model library on the command line, and names of models where a path could stand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_run import FakeEngine, FakeModel

from napari_harmony.cli import main
from napari_harmony.library import default_library
from napari_harmony.models.bundled import bundled_model
from napari_harmony.models.card import ModelCard, read_card


def write_model(folder: Path) -> Path:
    """The two files of a model whose tensors nobody reads."""
    import hashlib

    folder.mkdir(parents=True)
    card = ModelCard(
        box=32,
        pixel_size=10.0,
        original_box=64,
        transforms=("rotation",),
        content=8,
        hypotheses=16,
        mask_diameter=288.0,
        max_shift=50.0,
        particles=500,
        classes=3,
        trained_on="apo.star",
    )
    (folder / "model.safetensors").write_bytes(b"tensors")
    (folder / "model.json").write_text(card.to_json(sha256=hashlib.sha256(b"tensors").hexdigest()))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "run 7")


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> tuple[str, str]:
    assert main([str(a) for a in arguments]) == code
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return said.out, said.err


def test_the_library_begins_empty_and_says_how_to_fill_it(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, "models")
    assert str(default_library().folder) in out and "models add" in out
    told = json.loads(run(capsys, "models", "list", "--json")[0])
    assert told == {"library": str(default_library().folder), "models": []}


def test_models_come_get_names_and_go(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'run 7'" in run(capsys, "models", "add", model)[0]
    assert "'b'" in run(capsys, "models", "add", model / "model.json", "--name", "b")[0]
    out, _ = run(capsys, "models", "list")
    assert "run 7" in out and "2D, 3 classes, 64 px box 320 A wide, trained on apo.star" in out
    out, _ = run(capsys, "models", "show", "run 7")
    assert "apo.star (500 images)" in out and "\N{ANGSTROM SIGN}" not in out
    run(capsys, "models", "rename", "run 7", "apo")
    told = json.loads(run(capsys, "models", "list", "--json")[0])
    assert [(entry["name"], entry["card"]["classes"]) for entry in told["models"]] == [("apo", 3), ("b", 3)]
    run(capsys, "models", "delete", "b", "--yes")
    assert [entry.name for entry in default_library().entries()] == ["apo"]


def test_deleting_asks(model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run(capsys, "models", "add", model)
    for reply, left in ((False, 1), (True, 0)):
        monkeypatch.setattr("typer.confirm", lambda question, reply=reply: reply)
        run(capsys, "models", "delete", "run 7", code=0 if reply else 2)
        assert len(default_library().entries()) == left


def test_a_broken_model_is_listed_as_such(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "models", "add", model)
    (default_library().folder / "run 7" / "model.safetensors").unlink()
    assert "broken" in run(capsys, "models")[0]
    assert "is missing" in run(capsys, "models", "show", "run 7", code=2)[1]


@pytest.mark.parametrize(
    "command",
    [
        ["add", "nowhere"],
        ["add", "{model}", "--name", "a/b"],
        ["rename", "nothing", "x"],
        ["delete", "nothing", "--yes"],
        ["show", "nothing"],
    ],
)
def test_what_cannot_be_done_is_one_line(model: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = [word.format(model=model) for word in command]
    error = run(capsys, "models", *words, code=2)[1]
    assert error.startswith("Error: ") and len(error.splitlines()) == 1


def test_models_are_used_by_their_names(
    engine: FakeEngine, stack: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    default_library().add(model, "apo")
    run(capsys, "align", stack, "-o", tmp_path / "out", "--model", "apo")
    assert isinstance(engine.calls[0]["model"], FakeModel) and not engine.rescaled
    run(capsys, "apply", "apo", stack, "-o", tmp_path / "out2", "--rescale")
    assert isinstance(engine.calls[1]["model"], FakeModel) and engine.rescaled


def test_the_bundled_model_is_the_one_for_such_particles(
    engine: FakeEngine, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read_card(bundled_model(2) / "model.json")[0].dimensions == 2
    run(capsys, "align", stack, "-o", tmp_path / "out", "--model", "bundled", "--preset", "fast")
    assert engine.calls[0]["model"] is not None


def test_models_of_the_package_are_listed_as_such(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("napari_harmony.library.BUNDLED", bundled_model(2).parent)
    assert "images          2D, for any images: '--model bundled'" in run(capsys, "models")[0]
    assert "made-up particles" in run(capsys, "models", "show", "images")[0]


def test_training_goes_on_from_a_model(
    engine: FakeEngine, stack: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    default_library().add(model, "apo")
    run(capsys, "train", stack, "-o", tmp_path / "new", "--model", "apo", "--rescale")
    assert isinstance(engine.calls[0]["model"], FakeModel) and engine.rescaled
    run(capsys, "train", stack, "-o", tmp_path / "newer")
    assert engine.calls[1]["model"] is None and not engine.rescaled
    assert "--model" in run(capsys, "train", stack, "-o", tmp_path / "newest", "--rescale", code=2)[1]


def test_a_path_goes_before_a_name(
    engine: FakeEngine, stack: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_harmony.cli.jobs import find_model

    monkeypatch.chdir(tmp_path)
    default_library().add(model, "run 7")
    assert find_model("run 7") == Path("run 7")
    monkeypatch.chdir(tmp_path / "run 7")
    assert find_model("run 7") == default_library().folder / "run 7"


def test_names_that_are_unknown_say_which_there_are(
    engine: FakeEngine, stack: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    default_library().add(model, "apo")
    error = run(capsys, "align", stack, "-o", tmp_path / "out", "--model", "holo", code=2)[1]
    assert "it holds: apo" in error and not engine.calls
    error = run(capsys, "apply", "some/where", stack, "-o", tmp_path / "out", code=2)[1]
    assert "no such file" in error and "library" not in error


def test_rescaling_needs_a_model(
    engine: FakeEngine, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--model" in run(capsys, "align", stack, "-o", tmp_path / "out", "--rescale", code=2)[1]
