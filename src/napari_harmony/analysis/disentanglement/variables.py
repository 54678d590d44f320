"""Codes and factors as values: a name, what kind of thing it is, and one value per particle.

What an estimator sees of a value depends on its kind. An angle is never used as a number of degrees, which jumps where
the circle closes, but as cosine and sine; a rotation in space as the nine entries of its matrix; a label as itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

Kind = Literal["label", "number", "circle", "rotation"]
#: The most cells that a value is sorted into, and how many particles each pair of cells of two values should have.
MOST_CELLS, PARTICLES_PER_PAIR = 20, 5
#: A number that takes at most so many values is one of several levels to estimators of information.
MOST_LEVELS = 10


@dataclass(frozen=True)
class Variable:
    """One value of every particle.

    Attributes
    ----------
    name : for people
    kind : ``label``, ``number``, ``circle`` (an angle) or ``rotation`` (in space)
    values : (n,) of any type for a label, (n,) or (n, k) for a number, (n,) in degrees for an angle, (n, 3, 3) matrices
        for a rotation
    """

    name: str
    kind: Kind
    values: NDArray

    def __len__(self) -> int:
        return len(self.values)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which particles (n,) have a value that is finite."""
        if self.kind == "label":
            return np.array([value is not None and value == value for value in self.values.tolist()], dtype=bool)
        finite = np.isfinite(self.features())
        return np.asarray(finite.all(axis=1), dtype=bool)

    @property
    def constant(self) -> bool:
        """Whether all particles have the same value, up to rounding."""
        features = self.features()
        return len(features) == 0 or bool((np.ptp(features, axis=0) <= 1e-9 * np.abs(features).max(axis=0)).all())

    def rows(self, index: NDArray) -> Variable:
        """The same variable of the particles ``index``, numbers or a mask."""
        return replace(self, values=self.values[index])

    def features(self) -> NDArray[np.float64]:
        """What estimators see, (n, f): cosine and sine of an angle, nine entries of a rotation, numbers as they are.

        A label is given by the number of its value in sorted order.
        """
        if self.kind == "label":
            return np.unique(self.values, return_inverse=True)[1].astype(np.float64)[:, None]
        values = self.values.astype(np.float64)
        if self.kind == "circle":
            return np.stack([np.cos(np.radians(values)), np.sin(np.radians(values))], axis=1)
        return values.reshape(len(values), int(np.prod(values.shape[1:])))

    def levels(self) -> NDArray[np.int64] | None:
        """The number of the value of every particle (n,), for labels and for numbers of few values; else None."""
        if self.kind not in ("label", "number") or self.values.ndim > 1:
            return None
        values, level = np.unique(self.values, return_inverse=True)
        return level if self.kind == "label" or len(values) <= MOST_LEVELS else None

    def cells(self, most: int = MOST_CELLS) -> NDArray[np.int64]:
        """Particles sorted into at most ``most`` cells, (n,).

        Numbers go by quantiles, so that the cells do not depend on units or outliers, angles into arcs of equal length,
        rotations to the nearest of the 24 of a cube, the 12 of a tetrahedron or 4 half turns, whose cells have equal
        volume (at least 4), and labels stay what they are.

        Raises
        ------
        ValueError : for a number of several components
        """
        if self.kind == "rotation":
            return self._rotation_cells(most)
        if self.kind == "circle":
            return np.floor(self.values.astype(np.float64) % 360 / 360 * most).astype(np.int64) % most
        if self.values.ndim > 1:
            raise ValueError(f"{self.name}: only single numbers are sorted into cells; give its components one by one")
        values, level = np.unique(self.values, return_inverse=True)
        if self.kind == "label" or len(values) <= most:
            return level
        edges = np.quantile(self.values, np.linspace(0, 1, most + 1)[1:-1])
        return np.searchsorted(edges, self.values, side="right")

    def _rotation_cells(self, most: int) -> NDArray[np.int64]:
        from scipy.spatial.transform import Rotation

        name = "O" if most >= MOST_CELLS else "T" if most >= 12 else "D2"
        group = Rotation.create_group(name).as_matrix().reshape(-1, 9)
        return (self.features() @ group.T).argmax(axis=1)


def cell_count(particles: int) -> int:
    """Into how many cells so many particles can be sorted, 2 to 20."""
    return int(np.clip(np.sqrt(particles / PARTICLES_PER_PAIR), 2, MOST_CELLS))


def numbers(name: str, values: ArrayLike) -> Variable:
    """A number (n,) or several (n, k) of every particle."""
    return Variable(name, "number", np.asarray(values, dtype=np.float64))


def labels(name: str, values: ArrayLike) -> Variable:
    """A label (n,) of every particle."""
    return Variable(name, "label", np.asarray(values))


def angles(name: str, degrees: ArrayLike) -> Variable:
    """An angle (n,) in degrees of every particle."""
    return Variable(name, "circle", np.asarray(degrees, dtype=np.float64))


def rotations(name: str, matrices: ArrayLike) -> Variable:
    """A rotation (n, 3, 3) of every particle."""
    return Variable(name, "rotation", np.asarray(matrices, dtype=np.float64).reshape(-1, 3, 3))


def content_units(codes: NDArray, collapsed: float = 0.05) -> tuple[Variable, ...]:
    """The dimensions of content codes (n, d) that are in use, one variable each.

    Those that vary by less than ``collapsed`` of the most varying one hold nothing and are left out.
    """
    spread = np.std(codes, axis=0) if codes.size else np.zeros(codes.shape[1])
    limit = collapsed * spread.max(initial=0.0)
    used = np.flatnonzero((spread >= limit) & (spread > 0))
    return tuple(numbers(f"content_{column}", codes[:, column]) for column in used)


def canonical_order(variables: Iterable[Variable]) -> NDArray[np.int64]:
    """An order of the particles that depends on their values only: scores must not depend on the order of the rows."""
    columns = np.concatenate([variable.features() for variable in variables], axis=1)
    return np.lexsort(columns.T[::-1])


def in_order(variables: Sequence[Variable], index: NDArray) -> tuple[Variable, ...]:
    """All variables at the particles ``index``."""
    return tuple(variable.rows(index) for variable in variables)
