"""The model library: a folder of models that is never half written, and names that a folder can have."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_harmony.errors import InputError
from napari_harmony.library import (
    Library,
    card_facts,
    default_folder,
    default_library,
    mismatch,
    name_problem,
    why_not_rescaled,
)
from napari_harmony.models.card import ModelCard
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.images import ArrayImages

CARD = ModelCard(
    box=32,
    pixel_size=10.0,
    original_box=64,
    transforms=("rotation", "translation"),
    content=8,
    hypotheses=16,
    mask_diameter=288.0,
    max_shift=50.0,
    particles=2000,
    classes=12,
    trained_on="ribosomes.star",
    trained="2026-11-22",
)


def write_model(folder: Path, card: ModelCard = CARD, name: str = "model") -> Path:
    """The two files of a model whose tensors nobody reads."""
    import hashlib

    folder.mkdir(parents=True)
    data = b"tensors of " + name.encode()
    (folder / f"{name}.safetensors").write_bytes(data)
    more = {"tensors": f"{name}.safetensors", "sha256": hashlib.sha256(data).hexdigest()}
    (folder / f"{name}.json").write_text(card.to_json(**more))
    return folder


def particles(box: int = 64, pixel_size: float = 5.0, known: bool = True) -> Particles:
    images = ArrayImages(np.zeros((4, box, box), np.float32))
    return Particles(images, pd.DataFrame(index=range(4)), pixel_size, pixel_size_known=known)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_model(tmp_path / "source")


@pytest.fixture
def library(tmp_path: Path) -> Library:
    write_model(tmp_path / "bundled" / "general 2D")
    return Library(tmp_path / "models", tmp_path / "bundled")


def own(library: Library) -> list[str]:
    return [entry.name for entry in library.entries() if not entry.bundled]


def test_models_are_added_renamed_and_deleted(library: Library, source: Path) -> None:
    changes: list[str] = []
    library.changed.connect(lambda: changes.append("changed"))
    assert [(entry.name, entry.bundled) for entry in library.entries()] == [("general 2D", True)]
    entry = library.add(source, "  Ribosomes ")
    assert (entry.name, entry.card, entry.problem) == ("Ribosomes", CARD, "")
    assert (entry.folder / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    library.add(source / "model.json", "b")
    assert own(library) == ["b", "Ribosomes"]
    assert library.rename("b", "Apes").folder == library.folder / "Apes"
    assert library.rename("Apes", "apes").name == "apes"  # capitals alone may change
    library.delete("Ribosomes")
    assert own(library) == ["apes"]
    assert len(changes) == 5
    assert sorted(path.name for path in library.folder.iterdir()) == ["apes"]  # nothing half done is left


def test_a_model_under_another_name_is_copied_under_the_librarys(library: Library, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "else", name="trained")
    entry = library.add(folder / "trained.safetensors", "x")
    assert sorted(path.name for path in entry.folder.iterdir()) == ["model.json", "model.safetensors"]
    assert json.loads((entry.folder / "model.json").read_text())["tensors"] == "model.safetensors"
    assert not entry.problem


def test_a_model_in_memory_is_saved_and_can_be_loaded(library: Library) -> None:
    import torch

    from napari_harmony.models import HarmonyModel, build_network

    card = replace(CARD, classes=0)
    torch.manual_seed(0)
    entry = library.add(HarmonyModel(build_network(card), card), "in memory")
    assert HarmonyModel.load(entry.folder).card == card


def test_names_that_are_taken_or_cannot_be_folders(library: Library, source: Path) -> None:
    library.add(source, "one")
    for taken in ("one", "ONE", "General 2d"):
        with pytest.raises(InputError, match="already"):
            library.add(source, taken)
    library.add(source, "two")
    with pytest.raises(InputError, match="already"):
        library.rename("two", "One")
    (library.folder / "notes").mkdir()
    with pytest.raises(InputError, match="already"):
        library.rename("two", "notes")
    for bad in ("", "   ", "a/b", "..", ".x", "x.", "a:b", "con", "LPT1.old", "train", "bundled", "a\nb", "x" * 81):
        with pytest.raises(InputError):
            library.add(source, bad)
        assert name_problem(bad.strip()).count(".") >= 1
    assert own(library) == ["one", "two"]
    assert not name_problem("80S ribosome, 5 \N{ANGSTROM SIGN} (v2)")


def test_a_source_that_is_no_whole_model_changes_nothing(library: Library, source: Path) -> None:
    (source / "model.safetensors").write_bytes(b"other tensors")
    with pytest.raises(InputError, match="sha256"):
        library.add(source, "x")
    (source / "model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        library.add(source, "x")
    with pytest.raises(InputError, match="no model card"):
        library.add(source.parent / "nowhere", "x")
    assert own(library) == [] and list(library.folder.iterdir()) == []


def test_broken_models_are_listed_with_their_problem(library: Library, source: Path) -> None:
    for name in ("no tensors", "bad card", "newer"):
        library.add(source, name)
    (library.folder / "no tensors" / "model.safetensors").unlink()
    (library.folder / "bad card" / "model.json").write_text("{")
    (library.folder / "newer" / "model.json").write_text(
        CARD.to_json().replace('"format_version": 1', '"format_version": 2')
    )
    (library.folder / "not a model").mkdir()
    (library.folder / "file").write_text("")
    broken = {entry.name: entry for entry in library.entries() if not entry.bundled}
    assert set(broken) == {"no tensors", "bad card", "newer"}
    assert broken["no tensors"].card == CARD and "is missing" in broken["no tensors"].problem
    assert broken["bad card"].card is None and "cannot be read" in broken["bad card"].problem
    assert "format_version" in broken["newer"].problem
    with pytest.raises(InputError, match="is missing"):
        library.find("no tensors")
    library.delete("bad card")
    assert "bad card" not in own(library)


def test_find_says_which_models_there_are(library: Library, source: Path) -> None:
    library.add(source, "Mine")
    assert library.find("mine").folder == library.folder / "Mine"
    assert library.find("general 2d").bundled
    with pytest.raises(InputError, match="holds: Mine, general 2D"):
        library.find("yours")


def test_models_of_the_package_stay(library: Library) -> None:
    for act in (lambda: library.delete("general 2D"), lambda: library.rename("general 2D", "x")):
        with pytest.raises(InputError, match="stays as it is"):
            act()
    for name in ("nothing", "", "..", "../bundled/general 2D"):
        with pytest.raises(InputError, match="not in the library"):
            library.delete(name)
    assert library.find("general 2D").folder.is_dir()


def test_deleting_may_be_kinder_and_may_fail(library: Library, source: Path, tmp_path: Path) -> None:
    library.add(source, "x")
    library.delete("x", discard=lambda folder: shutil.move(folder, tmp_path / "trash"))
    assert (tmp_path / "trash" / "model.json").is_file()
    library.add(source, "y")
    with pytest.raises(InputError, match="could not be deleted"):
        library.delete("y", discard=lambda folder: False)

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(InputError, match="Permission denied"):
        library.delete("y", discard=refuse)


def test_the_default_library_is_one_object_per_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAPARI_HARMONY_MODELS", str(tmp_path / "mine"))
    assert default_folder() == tmp_path / "mine"
    assert default_library() is default_library()
    assert default_library().entries() == []  # neither folder is there
    monkeypatch.setenv("NAPARI_HARMONY_MODELS", "")
    assert default_folder().name == "models" and default_folder().is_absolute()


def test_which_particles_a_model_fits() -> None:
    assert mismatch(CARD, particles()) == ""
    assert mismatch(CARD, particles(128, 2.5)) == ""  # as wide: the engine crops it
    assert "400" in mismatch(CARD, particles(160, 2.5)) and "320" in mismatch(CARD, particles(160, 2.5))
    assert "coarser" in mismatch(CARD, particles(24, 320 / 24))
    assert "not known" in mismatch(CARD, particles(60, known=False))
    assert mismatch(CARD, particles(known=False)) == ""  # as the engine sees it: neither knew the pixel size
    assert "subtomograms" in mismatch(replace(CARD, dimensions=3), particles())
    assert "no classes" in mismatch(replace(CARD, classes=0), particles())


def test_what_rescaling_can_do() -> None:
    assert why_not_rescaled(CARD, particles(160, 2.5)) == ""
    assert why_not_rescaled(CARD, particles(48, 5.0)) == ""
    assert "too narrow" in why_not_rescaled(CARD, particles(40, 5.0))
    assert "too coarse" in why_not_rescaled(CARD, particles(24, 16.0))
    assert "subtomograms" in why_not_rescaled(replace(CARD, dimensions=3), particles())


def test_a_card_in_words() -> None:
    facts = card_facts(CARD)
    assert facts["Trained on"] == "ribosomes.star (2,000 images)"
    assert facts["Box"] == "64 px of 5 \N{ANGSTROM SIGN}, 320 \N{ANGSTROM SIGN} wide"
    assert facts["Classes"] == "12" and "Started from" not in facts
    assert "2026-11-22" in facts["Trained"]
    old = card_facts(replace(CARD, trained_on="", trained="", started_from="general 2D"))
    assert "not recorded" in old["Trained on"] and old["Started from"] == "general 2D"


def test_listing_models_loads_no_torch(source: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from napari_harmony.library import Library;"
        f"entries = Library(Path({str(source.parent)!r})).entries();"
        "assert entries[0].card is not None; print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
