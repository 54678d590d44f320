"""The estimator: scikit-learn's habits around the engine."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from fake_run import BOX, PIXEL_SIZE, FakeEngine, FakeModel

import napari_harmony.engine
from napari_harmony import Harmony, open_particles
from napari_harmony.engine.events import Loss, Preview, Progress
from napari_harmony.errors import HarmonyError, InputError
from napari_harmony.particles.mrc import write_stack


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    fake = FakeEngine()
    module = ModuleType("napari_harmony.engine.api")
    module.align, module.fit = fake.align, fake.fit  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "napari_harmony.engine.api", module)
    monkeypatch.setattr(napari_harmony.engine, "api", module, raising=False)
    return fake


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(12, BOX, BOX)).astype(np.float32)


def test_fit_then_align_uses_the_fitted_model(engine: FakeEngine, images: np.ndarray) -> None:
    harmony = Harmony(classes=2, seed=4, transforms=["rotation"])
    assert harmony.fit(images) is harmony
    result = harmony.align(images)
    assert engine.calls[0]["model"] is None and engine.calls[1]["model"] is harmony.model_
    assert engine.calls[1]["settings"] == harmony.settings
    assert harmony.settings.transforms == ("rotation",)
    assert result is harmony.result_ and result.classes == 2


def test_particles_are_rescaled_to_the_model_on_request(engine: FakeEngine, images: np.ndarray) -> None:
    harmony = Harmony(classes=2).fit(images)
    harmony.align(images)
    assert not engine.rescaled
    harmony.align(images, rescale=True)
    assert engine.rescaled


def test_align_without_a_model_and_fit_align_fit_first(engine: FakeEngine, images: np.ndarray) -> None:
    harmony = Harmony()
    harmony.align(images)
    first = harmony.model_
    harmony.fit_align(images)
    assert [call["model"] for call in engine.calls] == [None, None]
    assert harmony.model_ is not first


def test_particles_come_from_files_arrays_or_opened(engine: FakeEngine, images: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "stack.mrcs"
    write_stack(path, images, PIXEL_SIZE)
    for source in (path, str(path), open_particles(path)):
        assert Harmony().align(source).pixel_size == pytest.approx(PIXEL_SIZE)
    assert Harmony().align(images).pixel_size == 1.0
    assert Harmony().align(np.zeros((12, 8, 8, 8), np.float32)).dimensions == 3
    with pytest.raises(InputError, match="shape"):
        Harmony().align(np.zeros((2, 3, 4, 5)))


def test_callback_hears_every_event_and_can_end_the_run(engine: FakeEngine, images: np.ndarray) -> None:
    heard: list[object] = []
    Harmony().fit(images, callback=heard.append)
    assert [type(event) for event in heard] == [Progress, Preview, Loss, Progress]

    def stop(event: object) -> None:
        raise KeyboardInterrupt

    engine.closed = False
    with pytest.raises(KeyboardInterrupt):
        Harmony().fit(images, callback=stop)
    assert engine.closed


def test_parameters_follow_scikit_learn() -> None:
    from sklearn.base import clone

    harmony = Harmony(5, preset="fast", transforms=("rotation",))
    assert harmony.get_params()["classes"] == 5
    copy = clone(harmony)
    assert copy is not harmony and copy.get_params() == harmony.get_params()
    assert harmony.set_params(seed=3).seed == 3
    assert repr(harmony) == "Harmony(classes=5, transforms=('rotation',), preset='fast', seed=3)"
    with pytest.raises(InputError, match="no parameter 'klasses'; choose from classes, "):
        harmony.set_params(klasses=3)


def test_bad_parameters_are_refused_when_used(engine: FakeEngine, images: np.ndarray) -> None:
    harmony = Harmony(classes=0)
    with pytest.raises(InputError, match="classes is 0"):
        harmony.fit(images)
    assert engine.calls == []


def test_save_and_load(engine: FakeEngine, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = ModuleType("napari_harmony.models")
    models.HarmonyModel = FakeModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "napari_harmony.models", models)
    with pytest.raises(HarmonyError, match="no model yet"):
        Harmony().save(tmp_path / "model")
    Harmony().fit(images).save(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"model.safetensors", "model.json"}
    loaded = Harmony.load(tmp_path / "model", classes=3)
    loaded.align(images)
    assert engine.calls[-1]["model"] is loaded.model_ and loaded.classes == 3
    with pytest.raises(InputError, match="there is no model"):
        Harmony.load(tmp_path)
