"""Content codes as a few numbers per particle that can be drawn: principal components, or UMAP where installed.

For looking, choosing and colouring only: classes come from the content codes themselves.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.engine.events import Done, Event, Progress
from napari_harmony.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMPONENTS = 6
#: UMAP learns from so many particles and places the others among them.
UMAP_FITTED = 50_000
_UMAP_CHUNK = 10_000
_UMAP_NEIGHBOURS = 15
_UMAP_FEWEST = 10
_NO_CODES = "This result has no content codes to draw: show two columns, or run Align and Cluster again."
_NO_UMAP = "UMAP needs the package umap-learn: 'pip install umap-learn' in the environment of napari, then restart it."


@dataclass(frozen=True, eq=False)
class Embedding:
    """Particles as points.

    Attributes
    ----------
    points : (n, k) float32; NaN for particles without a finite content code
    names : of the k axes
    shares : (k,) part of the variance of the codes along each axis, 0 to 1; empty where that has no meaning
    """

    points: NDArray[np.float32]
    names: tuple[str, ...]
    shares: tuple[float, ...] = ()


def principal_components(content: NDArray[Any], count: int = COMPONENTS) -> Embedding:
    """The first ``count`` principal components of content codes (n, d), or all d where there are fewer.

    The sign of each is chosen so that the largest entry of its direction is positive, so that two runs look alike.

    Raises
    ------
    InputError : no codes, or fewer than two particles with a finite one
    """
    usable = _usable(content)
    codes = np.asarray(content, dtype=np.float64)[usable]
    codes = codes - codes.mean(axis=0)
    variance, directions = np.linalg.eigh(codes.T @ codes / len(codes))
    chosen = np.argsort(-variance, kind="stable")[:count]
    directions = directions[:, chosen]
    largest = directions[np.abs(directions).argmax(axis=0), np.arange(len(chosen))]
    directions = directions * np.where(largest < 0, -1.0, 1.0)
    points = np.full((len(content), len(chosen)), np.nan, dtype=np.float32)
    points[usable] = codes @ directions
    total = float(variance.sum())
    shares = tuple(float(max(v, 0.0)) / total if total > 0 else 0.0 for v in variance[chosen])
    return Embedding(points, tuple(f"PC {i}" for i in range(1, len(chosen) + 1)), shares)


def umap_problem() -> str:
    """Why UMAP cannot be used, in one sentence; empty where it can. Imports nothing."""
    return "" if find_spec("umap") is not None else _NO_UMAP


def umap_embedding(content: NDArray[Any], seed: int = 0) -> Iterator[Event]:
    """Two dimensions of UMAP [McInnes, Healy, Melville 2018] of content codes (n, d): progress, then an ``Embedding``.

    Closing the generator stops the work at its next epoch. Beyond ``UMAP_FITTED`` particles it learns from a random
    part of them and places the others among these.

    Raises
    ------
    InputError : no codes, or fewer than ten particles with a finite one
    ImportError : umap-learn is not installed
    """
    usable = np.flatnonzero(_usable(content))
    if len(usable) < _UMAP_FEWEST:
        raise InputError(f"UMAP needs {_UMAP_FEWEST} particles or more with content codes: show the components.")
    codes = np.asarray(content, dtype=np.float32)[usable]
    yield Progress("loading UMAP", 0.0, "takes longest the first time")
    placed = np.empty((len(codes), 2), dtype=np.float32)
    ticker = _Ticker()
    for fraction in _in_thread(partial(_place, codes, placed, seed, ticker), ticker):
        yield Progress("UMAP", fraction)
    points = np.full((len(content), 2), np.nan, dtype=np.float32)
    points[usable] = placed
    yield Done(Embedding(points, ("UMAP 1", "UMAP 2")))


def _place(codes: NDArray[np.float32], placed: NDArray[np.float32], seed: int, ticker: _Ticker) -> None:
    """Fill ``placed`` (n, 2): fitted to some of the codes (n, d), the others put among them piece by piece."""
    from umap import UMAP

    order = np.random.default_rng(seed).permutation(len(codes))
    first, rest = np.sort(order[:UMAP_FITTED]), np.sort(order[UMAP_FITTED:])
    ticks = {"disable": False, "file": ticker, "bar_format": "{n}/{total}", "leave": False}
    neighbours = min(_UMAP_NEIGHBOURS, len(first) - 1)
    reducer = UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1, tqdm_kwds=ticks)
    ticker.span = (0.0, len(first) / len(codes))
    placed[first] = reducer.fit_transform(codes[first])
    for start in range(0, len(rest), _UMAP_CHUNK):
        chunk = rest[start : start + _UMAP_CHUNK]
        ticker.span = (ticker.span[1], (len(first) + start + len(chunk)) / len(codes))
        placed[chunk] = reducer.transform(codes[chunk])
        ticker.write("1/1")


def _usable(content: NDArray[Any]) -> NDArray[np.bool_]:
    """Which particles have a finite code, (n,)."""
    if content.ndim != 2 or not content.shape[1]:
        raise InputError(_NO_CODES)
    usable: NDArray[np.bool_] = np.isfinite(content).all(axis=1)
    if np.count_nonzero(usable) < 2:
        raise InputError(_NO_CODES)
    return usable


class _Stopped(Exception):
    """Ends a computation from within its progress bar."""


class _Ticker:
    """The file that a tqdm bar of the format "{n}/{total}" writes to; relays the fraction, and stops the work.

    ``span`` is the part of all the work that the bar is about.
    """

    def __init__(self) -> None:
        self.span = (0.0, 1.0)
        self.fractions: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.stop = threading.Event()

    def write(self, text: str) -> None:
        """Relay what a bar prints.

        Raises
        ------
        _Stopped : the work is to end
        """
        if self.stop.is_set():
            raise _Stopped
        done, _, total = text.strip().partition("/")
        if done.isdigit() and total.isdigit() and int(total):
            low, high = self.span
            self.fractions.put(low + (high - low) * int(done) / int(total))

    def flush(self) -> None:
        """Nothing is held back."""


def _in_thread(work: Callable[[], None], ticker: _Ticker) -> Iterator[float]:
    """Run ``work`` in a thread of its own, and give the fractions it reports until it has ended.

    One blocking call becomes a generator in this way, and closing the generator sets ``ticker.stop``.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except _Stopped:
            pass
        except BaseException as error:  # raised again where it can be handled
            errors.append(error)
        finally:
            ticker.fractions.put(None)

    threading.Thread(target=run, name="umap", daemon=True).start()
    try:
        while (fraction := ticker.fractions.get()) is not None:
            yield fraction
    except GeneratorExit:
        ticker.stop.set()
        raise
    if errors:
        raise errors[0]
