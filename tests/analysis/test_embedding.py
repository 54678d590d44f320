"""Content codes as points: principal components, and UMAP with progress and cancel (a stand-in; it is optional)."""

from __future__ import annotations

import sys
import threading
import time
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from napari_harmony.analysis import embedding as module
from napari_harmony.analysis.embedding import Embedding, principal_components, umap_embedding, umap_problem
from napari_harmony.engine.events import Done, Progress
from napari_harmony.errors import InputError


def codes(count: int = 400, seed: int = 0) -> np.ndarray:
    """Codes (count, 4) that vary most along one slanted direction."""
    random = np.random.default_rng(seed)
    turn = np.linalg.qr(random.normal(size=(4, 4)))[0]
    return (random.normal(size=(count, 4)) * [5.0, 2.0, 1.0, 0.1] @ turn).astype(np.float32)


def test_components_are_those_of_the_covariance() -> None:
    content = codes()
    found = principal_components(content, 3)
    assert found.names == ("PC 1", "PC 2", "PC 3") and found.points.shape == (400, 3)
    spread = np.var(found.points, axis=0)
    assert spread[0] > spread[1] > spread[2]
    total = np.var(content, axis=0).sum()
    np.testing.assert_allclose(found.shares, spread / total, rtol=1e-4)
    correlation = np.corrcoef(found.points.T)
    np.testing.assert_allclose(correlation, np.eye(3), atol=1e-4)


def test_components_do_not_depend_on_the_order_of_particles() -> None:
    content = codes()
    order = np.random.default_rng(1).permutation(len(content))
    np.testing.assert_allclose(
        principal_components(content[order]).points, principal_components(content).points[order], atol=1e-4
    )


def test_particles_without_a_code_have_no_place() -> None:
    content = codes()
    content[7] = np.nan
    points = principal_components(content).points
    assert np.isnan(points[7]).all() and np.isfinite(np.delete(points, 7, axis=0)).all()


@pytest.mark.parametrize("content", [np.empty((5, 0)), np.full((5, 3), np.nan), np.ones((1, 3))])
def test_no_codes_are_said(content: np.ndarray) -> None:
    with pytest.raises(InputError, match="no content codes"):
        principal_components(content)


def test_codes_that_do_not_vary_have_no_shares() -> None:
    found = principal_components(np.ones((5, 2)))
    assert found.shares == (0.0, 0.0) and not found.points.any()


class FakeUMAP:
    """Prints epochs where it is told to, as umap-learn does through tqdm, and moves the codes by one."""

    made: list[FakeUMAP] = []
    pause = 0.0
    error: Exception | None = None

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.transformed = 0
        FakeUMAP.made.append(self)

    def fit_transform(self, content: np.ndarray) -> np.ndarray:
        ticks = self.options["tqdm_kwds"]
        assert ticks["disable"] is False
        for epoch in range(1, 11):
            time.sleep(self.pause)
            ticks["file"].write("\r" + ticks["bar_format"].format(n=epoch, total=10))
            ticks["file"].flush()
        if self.error is not None:
            raise self.error
        return content[:, :2] + 1

    def transform(self, content: np.ndarray) -> np.ndarray:
        self.transformed += len(content)
        self.options["tqdm_kwds"]["file"].write("1/2")
        return content[:, :2] + 1


@pytest.fixture
def umap(monkeypatch: pytest.MonkeyPatch) -> type[FakeUMAP]:
    fake = ModuleType("umap")
    fake.__spec__ = ModuleSpec("umap", None)
    fake.UMAP = FakeUMAP  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "umap", fake)
    monkeypatch.setattr(FakeUMAP, "made", [])
    return FakeUMAP


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "umap"]


def test_umap_tells_its_progress(umap: type[FakeUMAP]) -> None:
    content = codes(50)
    content[3] = np.nan
    events = list(umap_embedding(content, seed=5))
    fractions = [event.fraction for event in events if isinstance(event, Progress)]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0 and len(fractions) == 11
    assert isinstance(events[-1], Done)
    found: Embedding = events[-1].value
    assert found.names == ("UMAP 1", "UMAP 2") and np.isnan(found.points[3]).all()
    np.testing.assert_allclose(np.delete(found.points, 3, 0), np.delete(content[:, :2] + 1, 3, 0))
    assert umap.made[0].options["random_state"] == 5
    assert not threads()


def test_umap_of_very_many_particles_learns_from_some(umap: type[FakeUMAP], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UMAP_FITTED", 100)
    monkeypatch.setattr(module, "_UMAP_CHUNK", 120)
    content = codes(400)
    events = list(umap_embedding(content))
    np.testing.assert_allclose(events[-1].value.points, content[:, :2] + 1)
    assert umap.made[0].transformed == 300
    fractions = [event.fraction for event in events if isinstance(event, Progress)]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0


def test_umap_ends_at_the_next_epoch_when_it_is_closed(umap: type[FakeUMAP], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(umap, "pause", 0.05)
    events = umap_embedding(codes(50))
    next(events), next(events)
    (running,) = threads()
    events.close()
    running.join(timeout=2)
    assert not running.is_alive()


def test_an_error_within_umap_comes_out(umap: type[FakeUMAP], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(umap, "error", ValueError("no neighbours"))
    with pytest.raises(ValueError, match="no neighbours"):
        list(umap_embedding(codes(50)))


def test_too_few_particles_for_umap_are_said(umap: type[FakeUMAP]) -> None:
    with pytest.raises(InputError, match="10 particles or more"):
        list(umap_embedding(codes(9)))


def test_where_umap_is_missing_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _name: None)
    assert "pip install umap-learn" in umap_problem()


def test_where_umap_is_installed_nothing_is_imported(umap: type[FakeUMAP]) -> None:
    assert umap_problem() == "" and not umap.made
