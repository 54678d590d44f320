"""Whether networks compute in bfloat16 follows the precision that a run asks for, and nothing outlives the run."""

from __future__ import annotations

from collections.abc import Generator

import pytest
import torch

from napari_harmony.engine.settings import Precision
from napari_harmony.objectives.precision import in_precision, mixed_precision, takes_bfloat16

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graphics card that only emulates bfloat16."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)


def test_bfloat16_where_the_card_is_made_for_it_or_the_user_says_so(
    emulated: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: tuple[Precision, ...] = ("auto", "full", "mixed")
    assert [takes_bfloat16(CUDA, precision) for precision in asked] == [False, False, True]
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert [takes_bfloat16(CUDA, precision) for precision in asked] == [True, False, True]
    assert not any(takes_bfloat16(CPU, precision) for precision in asked)


def test_a_computation_is_in_its_precision_and_what_is_between_its_steps_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # as on a card, for what the CPU can show: the product of float32 matrices comes out in bfloat16
    monkeypatch.setattr("napari_harmony.objectives.precision.takes_bfloat16", lambda device, asked: asked == "mixed")

    def product() -> torch.dtype:
        with mixed_precision(CPU):
            return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype

    def work() -> Generator[torch.dtype, None, str]:
        yield product()
        yield product()
        return "value"

    def taken(precision: Precision) -> Generator[torch.dtype, None, None]:
        value = yield from in_precision(work(), precision)
        assert value == "value"

    mixed, full = taken("mixed"), taken("full")
    # two runs that take turns do not see each other's
    seen = [next(mixed), product(), next(full), next(mixed), next(full)]
    assert seen == [torch.bfloat16, torch.float32, torch.float32, torch.bfloat16, torch.float32]
    assert list(mixed) == list(full) == []


def test_closing_ends_the_computation() -> None:
    ended = []

    def work() -> Generator[int, None, None]:
        try:
            yield 1
            yield 2
        finally:
            ended.append(True)

    running = in_precision(work(), "full")
    assert next(running) == 1
    running.close()
    assert ended == [True]
