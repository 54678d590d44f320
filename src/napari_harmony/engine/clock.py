"""How far a run is, how long it will take, and how long each stage took."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TypeVar

from napari_harmony.engine.events import Preview, Progress

T = TypeVar("T")


@dataclass
class Clock:
    """Turns fractions of stages into progress of the whole.

    ``weights`` maps each stage, in order, to the share of the time that it is expected to take; a stage that is not
    listed counts as nothing. ``seconds`` holds what the stages took.
    """

    weights: dict[str, float]
    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    _done: float = 0.0
    _stage: str = ""
    _since: float = field(default_factory=time.monotonic)

    def at(self, stage: str, fraction: float) -> Progress:
        """The progress when ``fraction`` of ``stage`` is done."""
        if stage != self._stage:
            self._enter(stage)
        self.seconds[stage] = time.monotonic() - self._since
        total = sum(self.weights.values()) or 1.0
        overall = min(1.0, (self._done + fraction * self.weights.get(stage, 0.0)) / total)
        elapsed = time.monotonic() - self.started
        left = elapsed * (1 - overall) / overall if overall > 0.02 else None
        return Progress(stage, overall, seconds_left=left)

    def _enter(self, stage: str) -> None:
        """Everything before this stage is done, whether it ran or not."""
        names = list(self.weights)
        if stage in names:
            self._done = sum(self.weights[name] for name in names[: names.index(stage)])
        self._stage, self._since = stage, time.monotonic()

    def follow(
        self, stage: str, work: Generator[float | tuple[str, float] | Preview, None, T]
    ) -> Generator[Progress | Preview, None, T]:
        """Run work, saying its progress; work that names its own stages is heard under those."""
        yield self.at(stage, 0.0)
        while True:
            try:
                event = next(work)
            except StopIteration as stop:
                value: T = stop.value
                return value
            if isinstance(event, Preview):
                yield event
            elif isinstance(event, tuple):
                yield self.at(*event)
            else:
                yield self.at(stage, event)
