"""What can be done to a result by hand, as values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from napari_harmony.errors import InputError


@dataclass(frozen=True)
class Turn:
    """How the frame of one class lies on that of another: the pose of its average there, in RELION's convention.

    ``x_there = R (x_here - c + t) + c`` for a point of the average, with R of ``angles`` and t of ``shift``.

    Attributes
    ----------
    angles : degree; (psi,) of images, (rot, tilt, psi) of subtomograms
    shift : pixel or voxel of the input; (x, y) or (x, y, z)
    """

    angles: tuple[float, ...]
    shift: tuple[float, ...]

    def __post_init__(self) -> None:
        if (len(self.angles), len(self.shift)) not in ((1, 2), (3, 3)):
            raise InputError(
                "a turn has one angle and two shifts, or three of each; "
                f"these are {len(self.angles)} and {len(self.shift)}."
            )
        object.__setattr__(self, "angles", tuple(map(float, self.angles)))
        object.__setattr__(self, "shift", tuple(map(float, self.shift)))


#: From which class, and how its frame lies on the one that its particles move to.
Turns = tuple[tuple[int, Turn], ...]


@dataclass(frozen=True)
class Assign:
    """Particles to a class.

    Attributes
    ----------
    ids : particles, by their row in the input from 0
    to : an existing class, the next free number (one more than there are classes) for a new one, or 0 for junk
    turns : for each other class that some of the particles were in; empty: found by aligning the averages. The frame
        of a new class is that of the class most of its particles come from
    """

    ids: tuple[int, ...]
    to: int
    turns: Turns = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", _distinct(self.ids, "ids", least=0))
        object.__setattr__(self, "to", int(self.to))
        if not self.ids:
            raise InputError("no particle is chosen: select some first.")
        if self.to < 0:
            raise InputError(f"class {self.to} does not exist: give 0 for junk, or a class from 1 on.")


@dataclass(frozen=True)
class Merge:
    """All particles of the classes to the first of them, in its frame.

    Attributes
    ----------
    classes : at least two
    turns : one for each class but the first; empty: found by aligning the averages
    """

    classes: tuple[int, ...]
    turns: Turns = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(dict.fromkeys(map(int, self.classes))))
        if len(self.classes) < 2:
            raise InputError("merging needs at least two classes: choose more.")


@dataclass(frozen=True)
class Split:
    """A class in two or more by the content codes of its particles: a Gaussian mixture from a fixed seed.

    Attributes
    ----------
    class_number : the class; its largest group keeps the number, the others get new ones
    count : how many groups
    parts : particles of each group but the largest, from larger to smaller; empty: found from the content codes
    """

    class_number: int
    count: int = 2
    parts: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        parts = tuple(_distinct(part, "parts", least=0) for part in self.parts)
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "class_number", int(self.class_number))
        object.__setattr__(self, "count", len(parts) + 1 if parts else int(self.count))
        if self.count < 2:
            raise InputError(f"a split into {self.count} is none: give at least 2.")


@dataclass(frozen=True)
class Junk:
    """All particles of the classes to class 0, flagged as junk. The classes stand empty and can be restored."""

    classes: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", _chosen(self.classes))


@dataclass(frozen=True)
class Keep:
    """All particles of all other classes to class 0, flagged as junk."""

    classes: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", _chosen(self.classes))


@dataclass(frozen=True)
class Restore:
    """Particles that were junked from the classes by hand, back into them."""

    classes: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", _chosen(self.classes))


@dataclass(frozen=True)
class Renumber:
    """Class numbers anew from the largest class on, as after a run, without those that stand empty for good."""


Edit = Assign | Merge | Split | Junk | Keep | Restore | Renumber


def describe(edit: Edit) -> str:
    """An edit in words, to stand behind "Undo:"."""
    if isinstance(edit, Assign):
        moved = "1 particle" if len(edit.ids) == 1 else f"{len(edit.ids):,} particles"
        return f"{moved} to {f'class {edit.to}' if edit.to else 'junk'}"
    if isinstance(edit, Split):
        return f"split class {edit.class_number} in {edit.count}"
    if isinstance(edit, Renumber):
        return "number the classes anew"
    verb = {Merge: "merge", Junk: "junk", Keep: "keep only", Restore: "restore"}[type(edit)]
    return f"{verb} {class_words(edit.classes)}"


def class_words(numbers: tuple[int, ...]) -> str:
    """Some classes in words: "class 2", "classes 2 and 5", "classes 1, 2, 3, 4, 5, 6, ..."."""
    words = [str(number) for number in numbers[:6]] + (["..."] if len(numbers) > 6 else [])
    if len(numbers) == 1:
        return f"class {words[0]}"
    return f"classes {', '.join(words[:-1])} and {words[-1]}" if len(numbers) <= 6 else f"classes {', '.join(words)}"


def _chosen(classes: Iterable[int]) -> tuple[int, ...]:
    numbers = _distinct(classes, "classes", least=1)
    if not numbers:
        raise InputError("no class is chosen: select some first.")
    return numbers


def _distinct(values: Iterable[int], name: str, least: int) -> tuple[int, ...]:
    """Whole numbers, sorted, each once."""
    numbers = tuple(sorted({int(value) for value in values}))
    if numbers and numbers[0] < least:
        raise InputError(f"{name}: {numbers[0]} is not possible; they are counted from {least}.")
    return numbers
