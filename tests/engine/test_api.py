"""The three entry points: what they end with, and failures of the machine in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from engine_data import run, simulated

from napari_harmony.engine import api, search
from napari_harmony.engine.run import Run
from napari_harmony.engine.settings import Settings
from napari_harmony.errors import InferenceError, InputError
from napari_harmony.models import HarmonyModel
from napari_harmony.particles.simulate import Simulated

if TYPE_CHECKING:
    from conftest import Example


@pytest.fixture(scope="module")
def few(brief_training: None) -> Simulated:
    return simulated(24)


def test_fit_ends_with_a_model_that_knows_its_classes(few: Simulated) -> None:
    done = run(api.fit(few.particles, Settings(classes=2, preset="fast")))
    assert isinstance(done.value, HarmonyModel) and done.model is done.value
    card = done.value.card
    assert (card.classes, card.box, card.particles, card.original_box) == (2, 24, 24, 24)
    assert done.value.templates is not None and done.value.templates.shape == (2, 24, 24)
    assert done.value.mixture is not None and float(done.value.mixture.weights.sum()) == pytest.approx(1)


def test_align_ends_with_the_result_and_the_model_used(example: Example) -> None:
    done = run(api.align(example.data.particles, Settings(), model=example.model))
    assert done.model is example.model and len(done.value) == 120


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "needs more memory than there is"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "needs more memory than there is"),
        (MemoryError(), "needs more memory than there is"),
        (RuntimeError("shapes do not match\nmore lines"), "^The computation failed: shapes do not match$"),
        (RuntimeError(), "^The computation failed: RuntimeError$"),
    ],
)
def test_failures_of_the_machine_are_inference_errors(
    few: Simulated, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    """However small the portions: superqt swallows a RuntimeError, so none may leave the engine."""

    def failing(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(search, "_score", failing)
    with pytest.raises(InferenceError, match=message) as raised:
        run(api.align(few.particles, Settings(classes=2, preset="fast")))
    assert not isinstance(raised.value, RuntimeError) and raised.value.__cause__ is error
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("entry", ["fit", "align", "cluster"])
def test_every_entry_point_puts_failures_into_words(
    example: Example, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    def failing(self: Run) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(Run, "read", failing)
    more = (example.result,) if entry == "cluster" else ()
    with pytest.raises(InferenceError, match="close other programs"):
        run(getattr(api, entry)(example.data.particles, *more, Settings()))


def test_errors_of_the_input_stay_what_they_are(few: Simulated) -> None:
    with pytest.raises(InputError, match="max shift"):
        run(api.align(few.particles, Settings(max_shift=1e4)))


def test_memory_that_runs_out_once_does_not_change_the_result(
    example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, failed = search._score, []

    def failing(*arguments: object) -> search.Posterior:
        if not failed:
            failed.append(True)
            raise RuntimeError("CUDA out of memory")
        return score(*arguments)

    monkeypatch.setattr(search, "_score", failing)
    particles, want = example.data.particles, run(api.align(example.data.particles, Settings(), model=example.model))
    failed.clear()
    found = run(api.align(particles, Settings(), model=example.model))
    assert failed
    assert found.value.table["class_number"].equals(want.value.table["class_number"])
    np.testing.assert_allclose(found.value.table["psi"], want.value.table["psi"], atol=0.1)
