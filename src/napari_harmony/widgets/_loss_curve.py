"""The objective of a training as it goes down: kept in few points, however long the training. No Qt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_harmony.engine.events import Loss

_MOST = 800  # points that are kept; of more, neighbours are averaged
_WIDE = 20.0  # largest over smallest value from which on the axis is logarithmic
_TAIL = 0.98  # of the values that a linear axis shows: the first few may be far above all others


@dataclass(frozen=True)
class Axis:
    """Lowest and highest value shown, and whether their logarithms are even apart."""

    low: float
    high: float
    logarithmic: bool

    def place(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Height (n,) of values on the axis, 0 at its foot and 1 at its top."""
        if self.logarithmic:
            shown = np.log(np.maximum(values, self.low))
            low, high = np.log(self.low), np.log(self.high)
        else:
            shown, low, high = values, self.low, self.high
        return (shown - low) / (high - low)


class LossCurve:
    """What ``Loss`` events said.

    Attributes
    ----------
    last : the latest event, or None
    """

    last: Loss | None
    _points: list[tuple[float, float]]
    _waiting: list[tuple[float, float]]
    _weight: int  # events averaged in one point

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.last, self._points, self._waiting, self._weight = None, [], [], 1

    def add(self, loss: Loss) -> None:
        """Take one event; one of an earlier batch begins another training, and the curve with it."""
        if self.last is not None and loss.done < self.last.done:
            self.clear()
        self.last = loss
        if not np.isfinite(loss.value):
            return
        self._waiting.append((float(loss.done), float(loss.value)))
        if len(self._waiting) >= self._weight:
            self._points.append(_mean(self._waiting))
            self._waiting = []
        if len(self._points) > _MOST:
            pairs = [_mean(self._points[i : i + 2]) for i in range(0, len(self._points), 2)]
            self._points, self._weight = pairs, 2 * self._weight

    @property
    def points(self) -> NDArray[np.float64]:
        """Batch and objective, (n, 2)."""
        return np.array(self._points, dtype=np.float64).reshape(-1, 2)

    @property
    def axis(self) -> Axis:
        """The axis for the points: logarithmic where they are positive and far apart."""
        values = self.points[:, 1]
        if not len(values):
            return Axis(0.0, 1.0, False)
        low, high = float(values.min()), float(values.max())
        if low > 0 and high / low > _WIDE:
            return Axis(low, high, True)
        high = float(np.quantile(values, _TAIL)) if len(values) > 1 / (1 - _TAIL) else high
        return Axis(low, high, False) if high > low else Axis(low - 0.5, low + 0.5, False)


def _mean(points: list[tuple[float, float]]) -> tuple[float, float]:
    batch, value = np.mean(points, axis=0)
    return float(batch), float(value)
