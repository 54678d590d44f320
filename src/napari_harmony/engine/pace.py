"""How fast this machine was in earlier runs: a small file in the user's cache, which nothing depends on."""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from napari_harmony.engine.clock import Clock
from napari_harmony.engine.costs import NETWORK, SEARCH
from napari_harmony.engine.portions import FOLDER as FOLDER
from napari_harmony.engine.portions import user_folder
from napari_harmony.errors import InputError
from napari_harmony.particles.files import replacing

#: Stages that were expected to take less, in seconds, say little about how fast a machine is.
LEAST = 2.0
#: Edge of two matrices, and the seconds that their product took where ``costs.SECONDS`` were measured.
EDGE, PRODUCT = 384, 1.1e-3
#: A graphics card against that machine, roughly, until a run has measured it.
CARD = {SEARCH: 0.03, NETWORK: 0.2}


@dataclass(frozen=True)
class Pace:
    """How fast a device is.

    Attributes
    ----------
    device : "cpu", "cuda" or "mps"
    slowness : how many times slower than expected stages are, by the words of ``costs.ALIKE``
    known : it was measured in a run, not guessed
    """

    device: str
    slowness: dict[str, float]
    known: bool

    def among(self, processes: int) -> dict[str, float]:
        """``slowness`` where so many processes share what is slow or fast by the device."""
        return {word: times / processes if word else times for word, times in self.slowness.items()}


def cache_file() -> Path:
    """Where it is kept."""
    return user_folder() / "pace.json"


def pace_of(device: str) -> Pace:
    """What is known of a device, or a guess."""
    kept = _read().get(device, {})
    slowness = {word: kept[word] for word in (SEARCH, NETWORK) if _is_plausible(kept.get(word))}
    if not slowness:
        guess = CARD if device != "cpu" else dict.fromkeys((SEARCH, NETWORK), _slowness_of_the_cpu())
        return Pace(device, dict(guess), known=False)
    usual = math.prod(slowness.values()) ** (1 / len(slowness))
    return Pace(device, {SEARCH: usual, NETWORK: usual, "": usual if device == "cpu" else 1.0} | slowness, known=True)


def remember(pace: Pace, clock: Clock) -> None:
    """Keep what a finished run has measured, averaged with what was known; where nothing can be written, nothing is."""
    measured = {word: pace.slowness.get(word, 1.0) * times for word, times in clock.slowness(LEAST).items()}
    if not measured:
        return
    known = pace.slowness if pace.known else {}
    new = {word: math.sqrt(value * known.get(word, value)) for word, value in measured.items()}
    everything = _read()
    everything[pace.device] = {**everything.get(pace.device, {}), **new}
    with suppress(OSError, InputError), replacing(cache_file()) as file:
        file.write(json.dumps(everything, indent=1).encode())


def _read() -> dict[str, dict[str, float]]:
    try:
        found = json.loads(cache_file().read_text())
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}


def _is_plausible(value: object) -> bool:
    return isinstance(value, float | int) and 1e-4 < value < 1e4


@cache
def _slowness_of_the_cpu() -> float:
    """A guess from the time of a matrix product, in milliseconds."""
    one, least = np.ones((EDGE, EDGE), np.float32), math.inf
    for _ in range(15):
        begin = time.perf_counter()
        _ = one @ one
        least = min(least, time.perf_counter() - begin)
    return min(5.0, max(0.2, least / PRODUCT))
