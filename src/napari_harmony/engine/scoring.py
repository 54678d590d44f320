"""Scores of particles against posed templates: real matrix products, in blocks that stay in the processor's cache.

A half turn changes the sign of the odd angular orders and nothing else. The scores at ``psi`` and ``psi + pi`` are so
the sum and the difference of two products, each with about half of the coefficients and half of the rotations, and the
better of the two is the one plus the modulus of the other: half the multiplications of scoring every rotation. A shift
is a phase, and those of the grid's shifts are the same for all particles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from napari_harmony.engine.steerable import SteerableBasis

#: Pairs of a particle and a template that are scored exactly at a time.
CELLS = 2048


@dataclass(frozen=True)
class Arithmetic:
    """How scores are computed.

    Attributes
    ----------
    kind : number type of the matrix product
    budget : scores of one batch of particles
    memory : bytes that one batch of particles may take
    block : scores that are computed at a time before they are reduced: few enough to stay in the processor's cache
    columns : images that are moved at a time: few enough for the cache too, enough for a matrix product
    """

    kind: torch.dtype = torch.float32
    budget: int = 12_000_000
    memory: int = 2**28
    block: int = 2**18
    columns: int = 768


@dataclass(frozen=True)
class Analysed:
    """Coefficients of moved images, (images, even size) and (images, odd size): of even and of odd angular order."""

    even: torch.Tensor
    odd: torch.Tensor

    def __len__(self) -> int:
        return len(self.even)

    def __getitem__(self, rows: torch.Tensor | slice) -> Analysed:
        return Analysed(self.even[rows], self.odd[rows])


@dataclass(frozen=True)
class Moves:
    """The shifts of a grid as phases of the samples of a band.

    Attributes
    ----------
    cosine, sine : (s, f) of the phase that each shift gives each sample
    even, odd : (f, columns) analysis matrices in the number type of the scores
    """

    cosine: torch.Tensor
    sine: torch.Tensor
    even: torch.Tensor
    odd: torch.Tensor

    @classmethod
    def of(cls, basis: SteerableBasis, shift: torch.Tensor, box: int, kind: torch.dtype) -> Moves:
        """Those of shifts (s, 2) in pixels of images of ``box`` pixels."""
        turn = basis.band.phase(shift, box)
        return cls(turn.cos(), turn.sin(), basis.even.to(kind), basis.odd.to(kind))

    def room(self, images: int) -> Analysed:
        """Space for the coefficients of so many images at every shift."""
        rows, kind, device = images * len(self.cosine), self.even.dtype, self.even.device
        even, odd = (torch.empty(rows, m.shape[1], dtype=kind, device=device) for m in (self.even, self.odd))
        return Analysed(even, odd)

    def analyse(self, samples: torch.Tensor, out: Analysed) -> None:
        """Write the coefficients (n * s, ...) of images (n, f) at every shift to ``out``."""
        real, imaginary = samples.real.contiguous()[:, None], samples.imag.contiguous()[:, None]
        kind = self.even.dtype
        moved = torch.addcmul(real * self.cosine, imaginary, self.sine, value=-1).to(kind)
        torch.mm(moved.flatten(0, 1), self.even, out=out.even)
        moved = torch.addcmul(real * self.sine, imaginary, self.cosine).to(kind)
        torch.mm(moved.flatten(0, 1), self.odd, out=out.odd)

    def analysed(self, samples: torch.Tensor, columns: int = Arithmetic.columns) -> Analysed:
        """Coefficients (n * s, ...) of images (n, f) at every shift."""
        shifts, out = len(self.cosine), self.room(len(samples))
        for part in portions(len(samples), max(1, columns // shifts)):
            self.analyse(samples[part], out[part.start * shifts : part.stop * shifts])
        return out


@dataclass(frozen=True)
class Turned:
    """Templates at every rotation of a grid.

    Attributes
    ----------
    even, odd : (k, r, even size), (k, r, odd size); r rotations of a half circle where ``halved``, else all
    halved : the other half of the rotations follows from these
    """

    even: torch.Tensor
    odd: torch.Tensor
    halved: bool

    @classmethod
    def of(cls, basis: SteerableBasis, coefficients: torch.Tensor, psi: torch.Tensor) -> Turned:
        """Templates (k, size) turned by -``psi`` (r,) radian."""
        half = len(psi) // 2
        halved = len(psi) % 2 == 0 and bool((psi[half:] - psi[:half] - torch.pi).abs().max() < 1e-4)
        angles = psi[:half] if halved else psi
        turned = basis.rotate(coefficients[:, None].expand(-1, len(angles), -1), -angles[None])
        even, odd = basis.by_parity(turned)
        return cls(even.contiguous(), odd.contiguous(), halved)

    def __len__(self) -> int:
        return len(self.even)

    @property
    def rotations(self) -> int:
        """Rotations that are multiplied."""
        return self.even.shape[1]

    def to(self, kind: torch.dtype) -> Turned:
        """The same in another number type."""
        return Turned(self.even.to(kind), self.odd.to(kind), self.halved)

    def best(self, images: Analysed, block: int) -> torch.Tensor:
        """Score (images, k) at the best rotation of each template, about ``block`` scores at a time."""
        wide = max(1, block // self.rotations)
        return torch.cat([self._best(images[part], block) for part in portions(len(images), wide)])

    def _best(self, images: Analysed, block: int) -> torch.Tensor:
        count = max(1, block // (self.rotations * len(images)))
        parts = []
        for classes in range(0, len(self), count):
            some = slice(classes, classes + count)
            even = self.even[some].flatten(0, 1) @ images.even.T
            odd = self.odd[some].flatten(0, 1) @ images.odd.T
            even += odd.abs_() if self.halved else odd
            parts.append(even.view(-1, self.rotations, even.shape[1]).amax(1))
        return torch.cat(parts).float().T

    def every(self, images: Analysed) -> torch.Tensor:
        """Scores (k, n, all rotations) of images (k, n, ...), those in row ``i`` against template ``i``."""
        even = torch.bmm(images.even.to(self.even.dtype), self.even.transpose(1, 2))
        odd = torch.bmm(images.odd.to(self.odd.dtype), self.odd.transpose(1, 2))
        return torch.cat([even + odd, even - odd], dim=-1) if self.halved else even + odd

    def each(self, images: Analysed, label: torch.Tensor) -> torch.Tensor:
        """Scores (n, all rotations) of images (n, ...), each against the template ``label`` (n,)."""
        order = label.argsort(stable=True)
        count = torch.bincount(label, minlength=len(self))
        scores = []
        for k, rows in enumerate(order.split(count.tolist())):
            if len(rows):
                one = Turned(self.even[k : k + 1], self.odd[k : k + 1], self.halved)
                some = images[rows]
                scores.append(one.every(Analysed(some.even[None], some.odd[None]))[0])
        turned = torch.cat(scores)
        return torch.empty_like(turned).index_copy_(0, order, turned)


def portions(count: int, size: int) -> Iterator[slice]:
    """Slices of at most ``size``, in order."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
