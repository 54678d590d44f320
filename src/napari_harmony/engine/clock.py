"""How far a run is, how long it will take, and how long each stage took."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TypeVar

from napari_harmony.engine.events import Event, Loss, Preview, Progress
from napari_harmony.engine.work import StagedWork, Work

T = TypeVar("T")

#: Of the expected time of all: before so much is done, nothing is said about the time left, unless expectations are
#: known to suit the machine.
TOO_EARLY = 0.02
#: Expectations weigh as much as measurements of so much of the time: of the stage that runs, of stages like it, and of
#: all where the expectations are guesses.
OF_THE_STAGE, OF_ITS_LIKE, UNTRUSTED = 0.5, 0.15, 0.001


@dataclass
class Clock:
    """Turns fractions of stages into progress of the whole.

    Expectations are corrected by what is measured: a stage takes as much longer than expected as it did so far, as
    stages like it did, or as all did. Time that passes while nobody takes the next event, a pause, is not counted.

    Attributes
    ----------
    weights : stage, in order, -> seconds that it is expected to take; a stage that is not listed counts as nothing
    alike : stage -> a word for stages whose speeds go together; one without a word tells nothing about others
    trusted : the expectations suit this machine, so that the time left can be told from the beginning
    seconds : stage -> what it took
    """

    weights: dict[str, float]
    alike: Mapping[str, str] = field(default_factory=dict)
    trusted: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    _paused: float = 0.0
    _stage: str = ""
    _place: int = 0
    _since: float = 0.0
    _started: float = field(init=False)
    _done: dict[str, float] = field(default_factory=dict)
    _shown: float = 0.0

    def __post_init__(self) -> None:
        self._started = self._since = self.now()

    def now(self) -> float:
        """Seconds, pauses left out."""
        return time.monotonic() - self._paused

    def watch(self, events: Generator[Event, None, T]) -> Generator[Event, None, T]:
        """The same events; how long whoever takes them leaves the run waiting is not counted."""
        with closing(events):
            while True:
                try:
                    event = next(events)
                except StopIteration as stop:
                    value: T = stop.value
                    return value
                left = time.monotonic()
                yield event
                self._paused += time.monotonic() - left

    def at(self, stage: str, fraction: float) -> Progress:
        """The progress when ``fraction`` of ``stage`` is done."""
        if stage != self._stage:
            self._enter(stage)
        # The first word of a stage is said as it begins.
        now = self._since if fraction == 0 and stage not in self.seconds else self.now()
        self.seconds[stage] = now - self._since
        self._done[stage] = max(fraction, self._done.get(stage, 0.0))
        worked, left = now - self._started, self._left()
        expected = sum(self.weights.values()) or 1.0
        passed = sum(list(self.weights.values())[: self._place]) + self._of(stage)
        overall = worked / (worked + left) if worked > 0 and worked + left > 0 else passed / expected
        self._shown = min(1.0, max(self._shown, overall))
        return Progress(
            stage, self._shown, seconds_left=left if self.trusted or passed > TOO_EARLY * expected else None
        )

    def follow(self, stage: str, work: Work[T] | StagedWork[T]) -> Generator[Progress | Preview | Loss, None, T]:
        """Run work, saying its progress; work that names its own stages is heard under those."""
        yield self.at(stage, 0.0)
        while True:
            try:
                said = next(work)
            except StopIteration as stop:
                value: T = stop.value
                return value
            if isinstance(said, Preview | Loss):
                yield said
            elif isinstance(said, tuple):
                yield self.at(*said)
            else:
                yield self.at(stage, said)

    def slowness(self, least: float) -> dict[str, float]:
        """How many times longer than expected stages took, by the word for those that are alike.

        ``least``: seconds that they must at least have been expected to take.
        """
        measured = {word: self._measured(self._like(word)) for word in set(self.alike.values())}
        return {word: taken / wanted for word, (taken, wanted) in measured.items() if taken > 0 and wanted >= least}

    def _enter(self, stage: str) -> None:
        """Everything before this stage is done, whether it ran or not."""
        now, names = self.now(), list(self.weights)
        if not self._stage:
            self._started = now
        if self._stage in self.seconds:
            self.seconds[self._stage] = now - self._since
            self._done[self._stage] = 1.0
        if stage in names:
            self._place = names.index(stage)
        self._stage, self._since = stage, now

    def _like(self, word: str) -> list[str]:
        """The stages that a word is for."""
        return [stage for stage in self.weights if self.alike.get(stage) == word]

    def _of(self, stage: str) -> float:
        """Seconds that what is done of a stage was expected to take."""
        return self.weights.get(stage, 0.0) * self._done.get(stage, 0.0)

    def _measured(self, stages: Iterable[str]) -> tuple[float, float]:
        """Seconds that were taken and expected for what is done of some stages."""
        known = [stage for stage in stages if stage in self.seconds and stage in self.weights]
        return sum(self.seconds[stage] for stage in known), sum(self._of(stage) for stage in known)

    def _left(self) -> float:
        """Seconds that are left, as far as can be told."""
        ahead, overall = list(self.weights)[self._place :], self._overall()
        slowness = {word: self._corrected(word, overall) for word in {self.alike.get(stage, "") for stage in ahead}}
        left = 0.0
        for stage in ahead:
            usual, weight = slowness[self.alike.get(stage, "")], self.weights[stage]
            done = self._done.get(stage, 0.0) if stage == self._stage else 0.0
            if done > 0:
                prior = OF_THE_STAGE * weight
                usual = (self.seconds[stage] + prior * usual) / (weight * done + prior) if weight else 0.0
            left += weight * (1 - done) * usual
        return left

    def _overall(self) -> float:
        """How many times longer than expected all stages take."""
        expected = sum(self.weights.values())
        taken, wanted = self._measured(self.alike or self.weights)
        if wanted <= TOO_EARLY * expected and not self.trusted:
            taken, wanted = self._measured(self.weights)
        # Where little is known of the machine, what is measured first counts almost alone.
        prior = expected * (OF_ITS_LIKE if self.trusted or taken <= 0 or wanted <= 0 else UNTRUSTED)
        return (taken + prior) / (wanted + prior) if wanted + prior > 0 else 1.0

    def _corrected(self, word: str, overall: float) -> float:
        """How many times longer than expected stages take that are alike."""
        if not word:
            return overall
        stages = self._like(word)
        taken, wanted = self._measured(stages)
        prior = OF_ITS_LIKE * sum(self.weights[stage] for stage in stages)
        return (taken + prior * overall) / (wanted + prior) if wanted + prior > 0 else overall
