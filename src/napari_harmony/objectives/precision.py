"""In which arithmetic networks compute: bfloat16 where the hardware is made for it, or as the user says."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

from napari_harmony.engine.settings import Precision

Said = TypeVar("Said")
T = TypeVar("T")

_PRECISION: ContextVar[Precision] = ContextVar("precision", default="auto")


def takes_bfloat16(device: torch.device, precision: Precision) -> bool:
    """Whether large products are made in bfloat16: on CUDA, unless "full" is asked for or ("auto") it is emulated."""
    if device.type != "cuda" or precision == "full":
        return False
    return precision == "mixed" or torch.cuda.is_bf16_supported(including_emulation=False)


def mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 for what a network computes, where :func:`in_precision` and the hardware say so; else no change."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=takes_bfloat16(device, _PRECISION.get()))


def in_precision(work: Generator[Said, None, T], precision: Precision) -> Generator[Said, None, T]:
    """The same computation, in which :func:`mixed_precision` follows ``precision``; between its steps nothing does."""
    try:
        while True:
            with _set(precision):
                try:
                    said = next(work)
                except StopIteration as stop:
                    value: T = stop.value
                    return value
            yield said
    finally:
        work.close()


@contextmanager
def _set(precision: Precision) -> Iterator[None]:
    token = _PRECISION.set(precision)
    try:
        yield
    finally:
        _PRECISION.reset(token)
