"""What a search found survives the disk, and nothing else is taken for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_data import certain, draw, stack

from napari_harmony.engine.discovery import Discovery, Search
from napari_harmony.engine.halves import Agreement
from napari_harmony.engine.preprocess import prepare
from napari_harmony.engine.saved import load_discovery, save_discovery
from napari_harmony.engine.search import Arithmetic, Sums
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.work import finish
from napari_harmony.errors import InferenceError, InputError

COUNT = 6


@pytest.fixture(scope="module")
def search() -> Search:
    images = draw(0, np.arange(COUNT) * 50.0) + torch.randn(COUNT, 32, 32, generator=torch.Generator().manual_seed(0))
    prepared = finish(prepare(stack(images), Settings(), torch.device("cpu")))
    return Search(prepared, Arithmetic(), torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def found(search: Search) -> Discovery:
    generator = np.random.default_rng(0)
    posterior = certain(generator.uniform(-180, 180, COUNT), generator.uniform(-2, 2, (COUNT, 2)), np.arange(COUNT) % 2)
    posterior = replace(posterior, class_score=torch.rand(COUNT, 2), log_evidence=torch.rand(COUNT))
    curves = generator.uniform(-1, 1, (2, 15)).astype(np.float32)
    agreement = Agreement(curves, curves**2, np.array([5.5, np.nan], np.float32), np.array([True, False]))
    sums = Sums(torch.rand(2, 40), torch.rand(2, 9), torch.tensor([3.0, 3.0]))
    return Discovery(posterior, sums, search.basis(np.inf), agreement, torch.arange(COUNT) == 4, 1.375)


def test_everything_that_was_found_comes_back(tmp_path: Path, search: Search, found: Discovery) -> None:
    path = tmp_path / "new" / "search.safetensors"
    save_discovery(path, found)
    assert [p.name for p in path.parent.iterdir()] == ["search.safetensors"]
    back = load_discovery(path, search)
    for part in ("posterior", "sums"):
        for name, value in vars(getattr(found, part)).items():
            assert torch.equal(getattr(getattr(back, part), name), value), name
    assert found.agreement is not None and back.agreement is not None
    for name, value in vars(found.agreement).items():
        np.testing.assert_array_equal(getattr(back.agreement, name), value, err_msg=name)
    assert torch.equal(back.junk, found.junk) and back.junk.dtype == torch.bool
    assert back.sigma == 1.375 and back.basis is found.basis


def test_a_search_without_halves_has_none_when_read(tmp_path: Path, search: Search, found: Discovery) -> None:
    save_discovery(tmp_path / "s", replace(found, agreement=None))
    assert load_discovery(tmp_path / "s", search).agreement is None


def test_what_is_no_search_of_these_particles_is_refused(tmp_path: Path, search: Search, found: Discovery) -> None:
    path = tmp_path / "search.safetensors"
    with pytest.raises(InputError, match=r"search\.safetensors: .*cannot be read.*start without resuming"):
        load_discovery(path, search)
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot be read"):
        load_discovery(path, search)
    from safetensors.torch import save_file

    save_file({"junk": torch.zeros(COUNT)}, path, {"sigma": "1.0"})
    with pytest.raises(InputError, match="cannot be read"):
        load_discovery(path, search)
    save_discovery(path, found)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read"):
        load_discovery(path, search)
    save_discovery(path, found)
    with pytest.raises(InputError, match="is of 6 particles"):
        load_discovery(path, search.part(torch.arange(3)))


def test_a_search_that_cannot_be_written_leaves_the_last_one(
    tmp_path: Path, search: Search, found: Discovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "search.safetensors"
    save_discovery(path, found)

    def full(tensors: object, beside: Path, metadata: object) -> None:
        Path(beside).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(InferenceError, match="the disk is full.*make room"):
        save_discovery(path, replace(found, sigma=9.0))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert load_discovery(path, search).sigma == 1.375
