"""Long computations as generators: they yield how far they are, or what there is to see, and return their value."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TypeAlias, TypeVar

from napari_harmony.engine.events import Loss, Preview

T = TypeVar("T")

#: What a computation says: the fraction of itself that is done, in [0, 1], or something to look at meanwhile.
Said: TypeAlias = float | Preview | Loss
#: A computation that says how far it is and returns its value.
Work = Generator[Said, None, T]
#: The same where it names the stages that the fractions are of.
StagedWork = Generator[tuple[str, float] | Preview | Loss, None, T]


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
            said = next(work)
        except StopIteration as stop:
            value: T = stop.value
            return value
        yield said if isinstance(said, Preview | Loss) else start + (end - start) * said


def named(stage: str, work: Work[T]) -> StagedWork[T]:
    """The same computation, naming the stage with each fraction."""
    while True:
        try:
            said = next(work)
        except StopIteration as stop:
            value: T = stop.value
            return value
        yield said if isinstance(said, Preview | Loss) else (stage, said)


def shares(costs: Iterable[float]) -> list[tuple[float, float]]:
    """Consecutive (start, end) portions of [0, 1] in proportion to ``costs``."""
    costs = list(costs)
    total, edges = sum(costs) or 1.0, [0.0]
    for cost in costs:
        edges.append(edges[-1] + cost / total)
    return list(zip(edges[:-1], edges[1:], strict=True))
