"""A model goes to files and comes back the same; anything else is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_harmony.errors import InputError
from napari_harmony.models import ContentMixture, HarmonyModel, ModelCard, VolumeNetwork, build_network, model_files

CARD = ModelCard(
    box=16,
    pixel_size=7.5,
    original_box=64,
    transforms=("rotation", "translation"),
    content=3,
    hypotheses=4,
    mask_diameter=100.0,
    max_shift=20.0,
    seed=5,
    particles=10,
    epochs=2,
    classes=2,
    package_version="1.2.3",
)


@pytest.fixture
def model() -> HarmonyModel:
    torch.manual_seed(0)
    mixture = ContentMixture(torch.randn(2, 3), torch.eye(3).repeat(2, 1, 1), torch.tensor([0.25, 0.75]))
    return HarmonyModel(build_network(CARD).eval(), CARD, torch.randn(2, 16, 16), mixture)


@pytest.fixture
def folder(model: HarmonyModel, tmp_path: Path) -> Path:
    model.save(tmp_path / "trained")
    return tmp_path / "trained"


def edit(folder: Path, **changes: object) -> None:
    """Change or (with None) remove entries of the card."""
    card = json.loads((folder / "model.json").read_text()) | changes
    (folder / "model.json").write_text(json.dumps({k: v for k, v in card.items() if v is not None}))


def retensor(folder: Path, **changes: torch.Tensor | None) -> None:
    """Change or remove tensors, and let the card name the new file."""
    import hashlib

    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors |= {k.replace("__", "."): v for k, v in changes.items() if v is not None}
    for name in (k.replace("__", ".") for k, v in changes.items() if v is None):
        del tensors[name]
    save_file(tensors, path)
    edit(folder, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize("name", ["", "model.safetensors", "model.json"])
def test_a_model_comes_back_the_same(model: HarmonyModel, folder: Path, name: str) -> None:
    back = HarmonyModel.load(folder / name)
    assert back.card == CARD
    images = torch.randn(3, 16, 16)
    torch.testing.assert_close(back.network.propose(images).angle, model.network.propose(images).angle)
    for key, tensor in model.tensors().items():
        torch.testing.assert_close(back.tensors()[key], tensor)
    assert sorted(p.name for p in folder.iterdir()) == ["model.json", "model.safetensors"]


def test_a_model_without_classes_and_the_published_network_come_back(tmp_path: Path) -> None:
    card = replace(CARD, objective="harmony-2022", classes=0)
    HarmonyModel(build_network(card), card).save(tmp_path / "baseline.safetensors")
    back = HarmonyModel.load(tmp_path / "baseline.json")
    assert back.templates is None and back.mixture is None
    assert type(back.network).__name__ == "Harmony2022Network"


def test_cards_of_older_versions_are_read(folder: Path) -> None:
    edit(folder, trained_on=None, trained=None, started_from=None)
    card = HarmonyModel.load(folder).card
    assert (card.trained_on, card.trained, card.started_from) == ("", "", "") and card == CARD


def test_a_card_says_what_the_model_was_trained_on(model: HarmonyModel, tmp_path: Path) -> None:
    card = replace(CARD, trained_on="a <b> & \u212b.star", trained="2026-11-22", started_from="general")
    replace(model, card=card).save(tmp_path)
    assert HarmonyModel.load(tmp_path).card == card
    edit(tmp_path, trained_on=5)
    with pytest.raises(InputError, match="trained_on"):
        HarmonyModel.load(tmp_path)


def test_paths_stand_for_both_files(tmp_path: Path) -> None:
    assert model_files("a/b.json") == (Path("a/b.safetensors"), Path("a/b.json"))
    assert model_files(tmp_path)[0] == tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 99}, "format_version is 99"),
        ({"format_version": None}, "lacks 'format_version'"),
        ({"content": None}, "lacks 'content'"),
        ({"box": "large"}, "'box' of the model card is 'large'"),
        ({"box": True}, "'box' of the model card is True"),
        ({"box": 3}, "'box' of the model card is 3"),
        ({"pixel_size": -1.0}, "'pixel_size' of the model card is -1.0"),
        ({"transforms": "rotation"}, "'transforms' of the model card"),
        ({"transforms": ["wobble"]}, "'wobble' is unknown"),
        ({"objective": "magic"}, "'magic' is unknown"),
        ({"content": 4}, "tensor 'network.content_head.2.weight' is .* wants .*8, 256"),
        ({"classes": 3}, "tensor 'templates' is .* wants"),
        ({"sha256": "0"}, "'sha256' of model.json names another file"),
    ],
)
def test_a_card_that_does_not_match_is_refused_by_field(folder: Path, changes: dict, message: str) -> None:
    edit(folder, **changes)
    with pytest.raises(InputError, match=message):
        HarmonyModel.load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network__pose_head__bias": None}, "'network.pose_head.bias' is missing"),
        ({"surplus": torch.zeros(1)}, "'surplus' is unknown"),
        ({"network__pose_head__bias": torch.zeros(2)}, r"'network.pose_head.bias' is torch.float32 of shape \(2,\)"),
        ({"network__pose_head__bias": torch.full((5,), torch.nan)}, "'network.pose_head.bias' holds values that"),
        ({"templates": torch.zeros(2, 16, 16, dtype=torch.float64)}, "'templates' is torch.float64"),
        ({"mixture__means": None}, "'mixture.means' is missing"),
    ],
)
def test_tensors_that_do_not_match_are_refused_by_name(folder: Path, changes: dict, message: str) -> None:
    retensor(folder, **changes)
    with pytest.raises(InputError, match=message):
        HarmonyModel.load(folder)


def test_files_that_are_absent_or_something_else_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model card here"):
        HarmonyModel.load(tmp_path / "nowhere")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        HarmonyModel.load(folder)
    (folder / "model.json").write_text("not json")
    with pytest.raises(InputError, match="cannot be read"):
        HarmonyModel.load(folder)
    (folder / "model.json").write_text("[]")
    with pytest.raises(InputError, match="no model card"):
        HarmonyModel.load(folder)


def test_a_failed_save_leaves_the_old_model_whole(
    model: HarmonyModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def full(self: Path, data: bytes) -> int:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        model.save(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


VOLUMES = replace(
    CARD,
    box=20,
    content=4,
    hypotheses=VolumeNetwork.hypotheses(("rotation",)),
    mask_diameter=130.0,
    dimensions=3,
    template_box=24,
)


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """The folder of a model of subtomograms with templates finer than the network's grid."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mixture = ContentMixture(torch.randn(2, 4), torch.eye(4).repeat(2, 1, 1), torch.tensor([0.25, 0.75]))
        HarmonyModel(build_network(VOLUMES).eval(), VOLUMES, torch.randn(2, 24, 24, 24), mixture).save(tmp_path)
    return tmp_path


def test_a_model_of_subtomograms_comes_back_the_same(volumes: Path) -> None:
    model, again = HarmonyModel.load(volumes), HarmonyModel.load(volumes / "model.json")
    assert isinstance(model.network, VolumeNetwork) and model.card == VOLUMES and not model.network.training
    assert model.templates is not None and model.templates.shape == (2, 24, 24, 24)
    samples = torch.randn(2, len(model.network.band.index), dtype=torch.complex64)
    amplitude = torch.ones(1, samples.shape[1])
    one, other = (m.network.propose(samples, amplitude) for m in (model, again))
    torch.testing.assert_close(one.best.quaternion, other.best.quaternion)
    torch.testing.assert_close(one.content_mean, other.content_mean)
    # what follows from the card is not in the file
    assert not any("turning" in name or "even" in name for name in model.tensors())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dimensions": 2}, "is missing|is unknown|wants"),
        ({"dimensions": 4}, "'dimensions' of the model card is 4"),
        ({"dimensions": "3"}, "'dimensions' of the model card is '3'"),
        ({"template_box": 20}, "tensor 'templates' is .* wants .*20, 20, 20"),
        ({"template_box": -1}, "'template_box' of the model card is -1"),
        ({"content": 5}, "tensor 'network.content_head.2.weight' is .* wants"),
        ({"box": 24}, "tensor 'network.* wants"),
    ],
)
def test_a_card_of_other_volumes_is_refused_by_name(volumes: Path, changes: dict[str, object], message: str) -> None:
    edit(volumes, **changes)
    with pytest.raises(InputError, match=message):
        HarmonyModel.load(volumes)


def test_tensors_of_volumes_that_are_not_finite_are_refused(volumes: Path) -> None:
    retensor(volumes, templates=torch.full((2, 24, 24, 24), torch.inf))
    with pytest.raises(InputError, match="'templates' holds values that are not finite"):
        HarmonyModel.load(volumes)
