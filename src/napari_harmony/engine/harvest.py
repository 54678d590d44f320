"""What passes over portions of particles bring in: numbers of each particle, sums over all; kept as they come."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from napari_harmony.engine.events import Preview
from napari_harmony.engine.saved import save_tensors
from napari_harmony.engine.search import Sums
from napari_harmony.engine.work import Work, portion, shares

_SUMS = ("total", "power", "share")


@dataclass(frozen=True)
class Harvest:
    """Of some particles.

    Attributes
    ----------
    each : name -> (n, ...) numbers of each particle, on the CPU
    sums : over the particles, on each of some bands
    """

    each: dict[str, torch.Tensor]
    sums: tuple[Sums, ...]


@dataclass(frozen=True)
class Barn:
    """Where the harvest of a pass is kept while it comes in, so that an interrupted run goes on from there.

    One file per portion for its particles, written once, and one for the sums up to the last portion, written anew
    after each: whenever a run ends, what lies there belongs together.

    Attributes
    ----------
    folder : None keeps nothing
    name : of the pass
    device : of the sums
    """

    folder: Path | None
    name: str
    device: str = "cpu"

    def keep(self, number: int, harvest: Harvest, sums: Sequence[Sums]) -> None:
        """Add portion ``number``; ``sums`` are those of all portions up to it."""
        if self.folder is None:
            return
        save_tensors(self._portion(number), harvest.each, {})
        tensors = {f"{i}.{name}": getattr(one, name) for i, one in enumerate(sums) for name in _SUMS}
        save_tensors(self._sums(), tensors, {"portions": json.dumps(number + 1), "bands": json.dumps(len(sums))})

    def kept(self) -> list[Harvest]:
        """The portions of an interrupted run, from the first; the last of them has the sums of all."""
        from safetensors import SafetensorError, safe_open

        if self.folder is None:
            return []
        try:
            with safe_open(os.fspath(self._sums()), framework="pt", device=self.device) as file:
                words = file.metadata() or {}
                bands = range(json.loads(words["bands"]))
                sums = tuple(Sums(*(file.get_tensor(f"{i}.{name}") for name in _SUMS)) for i in bands)
            found = []
            for number in range(json.loads(words["portions"])):
                with safe_open(os.fspath(self._portion(number)), framework="pt") as file:
                    found.append(Harvest({name: file.get_tensor(name) for name in file.keys()}, ()))  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, ValueError):
            return []
        return [*found[:-1], Harvest(found[-1].each, sums)] if found else []

    def clear(self) -> None:
        """Forget what an earlier run left."""
        if self.folder is not None:
            for path in self.folder.glob(f"{self.name}-*.safetensors"):
                path.unlink(missing_ok=True)

    def _portion(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{self.name}-{number:06d}.safetensors"

    def _sums(self) -> Path:
        assert self.folder is not None
        return self.folder / f"{self.name}-sums.safetensors"


def gathered(
    sizes: Sequence[int],
    look: Callable[[int], Work[Harvest]],
    barn: Barn,
    resume: bool,
    *,
    keeping: Callable[[], bool] = lambda: True,
    show: Callable[[Sequence[Sums], int], Preview] | None = None,
) -> Work[Harvest]:
    """One pass over portions of ``sizes`` particles: what all bring in together.

    Parameters
    ----------
    look : gives the harvest of a portion by its number; those that an interrupted run had are not looked at again
    barn : keeps the harvest as it comes in
    resume : take up what it has
    keeping : whether it is to be kept still
    show : a picture of the sums so far, after each portion
    """
    done: list[Harvest] = []
    if resume:
        done = [one for one in barn.kept() if one.each]
        if [len(next(iter(one.each.values()))) for one in done] != list(sizes[: len(done)]):
            done = []
    if not done and keeping():
        barn.clear()
    sums = done[-1].sums if done else ()
    spans = shares(sizes)
    for number in range(len(done), len(sizes)):
        harvest = yield from portion(look(number), *spans[number])
        sums = tuple(map(added, sums, harvest.sums)) if sums else harvest.sums
        if keeping():
            barn.keep(number, harvest, sums)
        done.append(Harvest(harvest.each, ()))
        if show is not None:
            yield show(sums, number + 1)
    return Harvest(joined(one.each for one in done), sums)


def added(one: Sums, two: Sums) -> Sums:
    """The sums over both."""
    return Sums(*(getattr(one, name) + getattr(two, name) for name in _SUMS))


def joined(parts: Iterable[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Numbers of particles, one portion after the other."""
    every = list(parts)
    return {name: torch.cat([part[name] for part in every]) for name in every[0]}
