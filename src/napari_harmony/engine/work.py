"""Long computations as generators: they yield the fraction done and return their value."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")

#: A computation that yields the fraction of itself that is done, in [0, 1], and returns its value.
Work = Generator[float, None, T]


def finish(work: Work[T]) -> T:
    """Run a computation to its end and return its value."""
    while True:
        try:
            next(work)
        except StopIteration as stop:
            value: T = stop.value
            return value


def portion(work: Work[T], start: float, end: float) -> Work[T]:
    """The same computation as a part of a longer one that runs from ``start`` to ``end``."""
    while True:
        try:
            fraction = next(work)
        except StopIteration as stop:
            value: T = stop.value
            return value
        yield start + (end - start) * fraction


def shares(costs: Iterable[float]) -> list[tuple[float, float]]:
    """Consecutive (start, end) portions of [0, 1] in proportion to ``costs``."""
    costs = list(costs)
    total, edges = sum(costs) or 1.0, [0.0]
    for cost in costs:
        edges.append(edges[-1] + cost / total)
    return list(zip(edges[:-1], edges[1:], strict=True))
