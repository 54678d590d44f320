"""Which part of the plane a plot shows, and round numbers for its axes. Numbers only, no Qt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MARGIN = 0.04
_SMALLEST = 1e-9  # of the numbers shown: floats cannot be told apart below it


@dataclass(frozen=True)
class View:
    """A rectangle of the plane; ``bottom`` is at the lower edge of the screen.

    Attributes
    ----------
    left, right, bottom, top : its borders in data coordinates
    """

    left: float = 0.0
    right: float = 1.0
    bottom: float = 0.0
    top: float = 1.0

    @classmethod
    def around(cls, x: NDArray[Any], y: NDArray[Any]) -> View:
        """The view that shows all points (n,) that are finite, with a margin."""
        shown = np.isfinite(x) & np.isfinite(y)
        if not shown.any():
            return cls()
        (left, right), (bottom, top) = _span(x[shown]), _span(y[shown])
        return cls(left, right, bottom, top)

    @property
    def width(self) -> float:
        """In data units."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """In data units."""
        return self.top - self.bottom

    def to_pixels(self, x: Any, y: Any, width: float, height: float) -> tuple[Any, Any]:
        """Columns and rows, from the upper left corner of a picture of ``width`` x ``height`` pixels."""
        return (x - self.left) * (width / self.width), (self.top - y) * (height / self.height)

    def to_data(self, column: Any, row: Any, width: float, height: float) -> tuple[Any, Any]:
        """The way back from ``to_pixels``."""
        return self.left + column * (self.width / width), self.top - row * (self.height / height)

    def panned(self, right: float, up: float) -> View:
        """Moved by parts of its width and height."""
        dx, dy = right * self.width, up * self.height
        return View(self.left + dx, self.right + dx, self.bottom + dy, self.top + dy)

    def zoomed(self, factor: float, x: float | None = None, y: float | None = None) -> View:
        """Shows ``1 / factor`` of it; the place (x, y), by default the centre, stays where it is on the screen."""
        x = (self.left + self.right) / 2 if x is None else x
        y = (self.bottom + self.top) / 2 if y is None else y
        left, right = ((edge - x) / factor + x for edge in (self.left, self.right))
        bottom, top = ((edge - y) / factor + y for edge in (self.bottom, self.top))
        new = View(left, right, bottom, top)
        largest = max(map(abs, (new.left, new.right, new.bottom, new.top)))
        return self if min(new.width, new.height) < _SMALLEST * largest else new

    def inside(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.bool_]:
        """Which points (n,) it shows."""
        return (x >= self.left) & (x <= self.right) & (y >= self.bottom) & (y <= self.top)


def _span(values: NDArray[Any]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if high <= low:
        room = max(abs(low), 1.0) / 2
        return low - room, high + room
    room = _MARGIN * (high - low)
    return low - room, high + room


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers within an interval, at most about ``most`` of them, 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / max(1, most)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1.0, 2.0, 5.0, 10.0) if s * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def tick_text(value: float, step: float) -> str:
    """A tick written with as many decimals as its neighbours ask for."""
    if value == 0 or abs(value) < step * 1e-6:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2g}"
    return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"
