"""Several processes that compute one run together: each does its share of the particles, and all know the whole.

Every process holds the same particles and takes the same decisions in the same order. What is costly is done for a
share of the particles alone, and what comes out is gathered or summed, so that all go on with the same numbers; they
differ from those of one process by the rounding of sums. Messages go through torch's process group, or on one node
through memory; both are set up by ``engine.processes``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor

from napari_harmony.engine.near import Near
from napari_harmony.errors import TeamBroken

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """The place of this process among those of the run.

    Attributes
    ----------
    rank : from 0 to ``size - 1``; rank 0 reads requests, shows progress and writes files
    size : how many processes there are
    device : where tensors must be to be sent; None where nothing is sent
    near : memory through which they are sent, where all processes share some
    """

    rank: int = 0
    size: int = 1
    device: torch.device | None = None
    near: Near | None = None

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Which of ``count`` things this process does; the shares are consecutive, and differ by at most one."""
        return self.of(self.rank, count)

    def of(self, rank: int, count: int) -> slice:
        """Which of ``count`` things another process does."""
        return slice(rank * count // self.size, (rank + 1) * count // self.size)

    def gather(self, value: T) -> T:
        """A tensor, or a dataclass of tensors, with the rows of all processes one after another.

        Every process gives its own rows, of which there may be none; other than in their number they must be alike.
        What is no tensor stays as it is.
        """
        if self.size == 1:
            return value
        mine = _tensors_of(value)
        counts = self._exchanged(torch.tensor([len(tensor) for tensor in mine], device=self.device))
        packed = torch.cat([_bytes_of(tensor).to(self.device or tensor.device) for tensor in mine])
        sizes = [sum(map(len, self._lengths(mine, count))) for count in counts]
        padded = packed.new_zeros(max(sizes))
        padded[: len(packed)] = packed
        whole = self._exchanged(padded)
        parts = [_unpacked(sent, self._lengths(mine, count)) for sent, count in zip(whole, counts, strict=True)]
        joined = [
            torch.cat([part[i].to(tensor.device).view(tensor.dtype).reshape(-1, *tensor.shape[1:]) for part in parts])
            for i, tensor in enumerate(mine)
        ]
        return _rebuilt(value, iter(joined).__next__)

    def sum(self, value: T) -> T:
        """A tensor, or a dataclass of tensors, added up over all processes; of the same shapes in all of them."""
        if self.size == 1:
            return value
        mine = _tensors_of(value)
        flat = torch.cat([_as_numbers(tensor).to(self.device or tensor.device) for tensor in mine])
        self._sent(torch.distributed.all_reduce if self.near is None else self.near.sum, flat)
        pieces = iter(flat.split([_as_numbers(tensor).numel() for tensor in mine]))
        return _rebuilt(
            value, iter([_like(piece, tensor) for piece, tensor in zip(pieces, mine, strict=True)]).__next__
        )

    def sum_gradients(self, parameters: Iterable[Tensor], said: Tensor) -> Tensor:
        """Add up the gradients of parameters in place and, in the same message, numbers (n,), which are given back."""
        if self.size == 1:
            return said
        own = [p.grad for p in parameters if p.grad is not None]
        flat = self.sum(torch.cat([said, *(gradient.flatten() for gradient in own)]))
        told, *summed = flat.split([len(said), *(gradient.numel() for gradient in own)])
        for gradient, whole in zip(own, summed, strict=True):
            gradient.copy_(whole.view_as(gradient))
        return told

    def complete(self, whole: Tensor) -> None:
        """Fill in the rows that are the other processes' share, where each has filled in its own."""
        if self.size == 1:
            return
        shares = [self.of(rank, len(whole)) for rank in range(self.size)]
        if self.near is not None:
            self._sent(self.near.complete, whole, shares)
            return
        for rank, rows in enumerate(shares):
            if rows.stop > rows.start:
                self._sent(torch.distributed.broadcast, _bytes_of(whole[rows]), rank)

    def of_first(self, numbers: list[int]) -> list[int]:
        """Whole numbers as the first process has them, so that what all do next does not hang on rounding."""
        if self.size == 1:
            return numbers
        count = torch.tensor([len(numbers)], device=self.device)
        self._sent(torch.distributed.broadcast, count, 0)
        told = torch.zeros(int(count), dtype=torch.long, device=self.device)
        if self.first:
            told = torch.tensor(numbers, dtype=torch.long, device=self.device)
        self._sent(torch.distributed.broadcast, told, 0)
        return [int(number) for number in told.tolist()]

    def agreed(self, yes: bool) -> bool:
        """A decision of the first process; what the others believe does not count."""
        if self.size == 1:
            return yes
        said = torch.tensor([int(yes)], device=self.device)
        self._sent(torch.distributed.broadcast, said, 0)
        return bool(said.item())

    def wait(self) -> None:
        """Go on when all have come here."""
        self.sum(torch.zeros(1))

    def _exchanged(self, mine: Tensor) -> list[Tensor]:
        """A tensor of the same shape from every process, in the order of their ranks."""
        if self.near is not None:
            return list(self._sent(self.near.exchanged, mine))
        everyone = [torch.empty_like(mine) for _ in range(self.size)]
        self._sent(torch.distributed.all_gather, everyone, mine)
        return everyone

    @staticmethod
    def _lengths(tensors: list[Tensor], counts: Tensor) -> list[range]:
        """Where the bytes of each tensor lie when there are so many rows of each."""
        places, start = [], 0
        for tensor, count in zip(tensors, counts.tolist(), strict=True):
            size = count * tensor.element_size() * int(torch.Size(tensor.shape[1:]).numel())
            places.append(range(start, start + size))
            start += size
        return places

    @staticmethod
    def _sent(send: Callable[..., Any], *message: Any) -> Any:
        """Send a message; ``TeamBroken`` where somebody is missing."""
        try:
            return send(*message)
        except RuntimeError as error:
            words = "Another process of this run ended unexpectedly; run the same command with --resume."
            raise TeamBroken(words) from error


#: One process that does everything.
ALONE = Team()


def _tensors_of(value: Any) -> list[Tensor]:
    """The tensors of a dataclass, of those in it too, in the order of their fields."""
    if isinstance(value, Tensor):
        return [value]
    if is_dataclass(value) and not isinstance(value, type):
        return [tensor for field in fields(value) for tensor in _tensors_of(getattr(value, field.name))]
    return []


def _rebuilt(value: Any, following: Callable[[], Tensor]) -> Any:
    """The same value with other tensors, taken one by one."""
    if isinstance(value, Tensor):
        return following()
    if is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: _rebuilt(getattr(value, f.name), following) for f in fields(value) if f.init}
        return replace(value, **changed)
    return value


def _bytes_of(tensor: Tensor) -> Tensor:
    """A tensor as its bytes."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _unpacked(sent: Tensor, places: list[range]) -> list[Tensor]:
    """Pieces of bytes, each at an address of its own, as a view with another number type wants it."""
    return [sent[place.start : place.stop].clone() for place in places]


def _as_numbers(tensor: Tensor) -> Tensor:
    """A tensor as a row of real numbers that can be added."""
    flat = tensor.detach().reshape(-1)
    return torch.view_as_real(flat).reshape(-1) if flat.is_complex() else flat


def _like(numbers: Tensor, tensor: Tensor) -> Tensor:
    """Real numbers in the form of a tensor."""
    moved = numbers.to(tensor.device, tensor.real.dtype)
    if tensor.is_complex():
        return torch.view_as_complex(moved.reshape(*tensor.shape, 2))
    return moved.reshape(tensor.shape)
