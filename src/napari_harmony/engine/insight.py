"""What a result tells about itself: the leakage of transformations into the content, and how added objectives went."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_harmony.analysis.disentanglement import study_of_estimates
from napari_harmony.analysis.disentanglement.leakage import measure_leakage
from napari_harmony.engine.team import ALONE, Team
from napari_harmony.engine.work import Work
from napari_harmony.results import Result

if TYPE_CHECKING:
    from napari_harmony.engine.train import TrainStep


class Traces:
    """Means over each epoch of what the added objectives log, as far as this process trained them.

    ``names`` are those of the objectives.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._prefixes = tuple(f"{name}." for name in names)
        self._sums: dict[str, dict[int, list[float]]] = {}

    def add(self, step: TrainStep) -> None:
        """Take up what one step logged."""
        for name, value in step.parts.items():
            if name.startswith(self._prefixes):
                self._sums.setdefault(name, {}).setdefault(step.epoch, []).append(value)

    def to_dict(self) -> dict[str, list[float]]:
        """Plain values by ``objective.part``, one per epoch."""
        return {name: [sum(v) / len(v) for v in epochs.values()] for name, epochs in self._sums.items()}


def with_insight(result: Result, traces: Traces | None = None, team: Team = ALONE) -> Work[Result]:
    """The result with ``leakage`` and, where objectives were added, ``traces`` in its summary."""
    yield 0.0
    found: dict[str, Any] = {}
    study = study_of_estimates(result.table, result.dimensions)
    leaks = (yield from measure_leakage(study.blocks[0].values, study.factors, team=team)) if study.blocks else None
    if leaks is not None:
        found["leakage"] = leaks.to_dict()
    if traces is not None and (kept := traces.to_dict()):
        found["traces"] = kept
    yield 1.0
    return replace(result, summary={**result.summary, **found})
