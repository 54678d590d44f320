"""A steerable basis for particles: concentrated in a disc and band-limited, so that rotation is a phase.

Per angular order ``m`` the radial functions are the eigenfunctions of the operator that limits an image to a disc in
space and to a disc in frequency (two-dimensional prolate spheroidal wave functions: Slepian 1964; for cryo-EM images
Landa and Shkolnisky 2017). About ``pi^2 (radius * band)^2`` of them carry all that a particle of that radius can hold
below that frequency, three to six times fewer numbers than its pixels; rotating a particle multiplies a coefficient of
order ``m`` by ``exp(-i m psi)``, without interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from napari_harmony.engine.work import Work, finish

#: Eigenvalues above this are kept: functions with less of their energy inside the disc mostly hold its surroundings.
CONCENTRATION = 0.3


@dataclass(frozen=True)
class Band:
    """Fourier samples of a real image in one half plane, below a frequency.

    Attributes
    ----------
    limit : frequency limit in cycles per box
    row, column : (f,) index of each sample in the ``rfft2`` of a box x box image
    fx, fy : (f,) frequency in cycles per box
    """

    limit: float
    row: torch.Tensor
    column: torch.Tensor
    fx: torch.Tensor
    fy: torch.Tensor

    @property
    def radius(self) -> torch.Tensor:
        """Modulus of the frequency, (f,), in cycles per box."""
        return torch.hypot(self.fx, self.fy)

    def phase(self, shift: torch.Tensor, box: int) -> torch.Tensor:
        """Phase (..., f) in radian that a shift (..., 2) in pixels (x, y) of a ``box`` gives each sample."""
        return (-2 * torch.pi / box) * (shift[..., :1] * self.fx + shift[..., 1:] * self.fy)


def unit(phase: torch.Tensor) -> torch.Tensor:
    """Complex numbers of modulus 1 (three times faster than ``torch.polar`` on a processor)."""
    return torch.complex(phase.cos(), phase.sin())


def half_plane(box: int, limit: float, device: torch.device | str = "cpu") -> Band:
    """All Fourier samples of a box x box image with 0 < |f| <= limit, one of each Friedel pair."""
    fy = np.round(np.fft.fftfreq(box) * box)[:, None]
    fx = np.arange(box // 2 + 1)[None, :]
    chosen = (np.hypot(fx, fy) <= limit) & ((fx > 0) | ((fx == 0) & (fy > 0)))
    row, column = np.nonzero(chosen)
    return Band(
        limit,
        torch.as_tensor(row, device=device),
        torch.as_tensor(column, device=device),
        torch.as_tensor(np.broadcast_to(fx, chosen.shape)[chosen], dtype=torch.float32, device=device),
        torch.as_tensor(np.broadcast_to(fy, chosen.shape)[chosen], dtype=torch.float32, device=device),
    )


@dataclass(frozen=True)
class SteerableBasis:
    """The basis sampled on a :class:`Band`, with what rotation and CTF do to its coefficients.

    Coefficients are real vectors of length ``size``: the real parts of all (order, radial) pairs, then the imaginary
    parts of those with order > 0, scaled so that the dot product of two vectors is the inner product of the images.

    Attributes
    ----------
    band : where the images are sampled
    even, odd : (f, pairs) analysis matrices; even orders see the real, odd orders the imaginary part of the samples
    order : (complex coefficients,) angular order of each
    radial : (complex coefficients, nodes) radial functions at ``node_frequency``, times sqrt of quadrature weight
    node_frequency : (nodes,) cycles per box
    """

    band: Band
    even: torch.Tensor
    odd: torch.Tensor
    order: torch.Tensor
    radial: torch.Tensor
    node_frequency: torch.Tensor

    @property
    def size(self) -> int:
        """Length of the real coefficient vectors."""
        return 2 * len(self.order) - int((self.order == 0).sum())

    def analyse(self, samples: torch.Tensor) -> torch.Tensor:
        """Coefficients (..., size) of images given by complex samples (..., f), centred on the origin."""
        even = samples.real @ self.even
        odd = samples.imag @ self.odd
        return torch.cat([even, odd], dim=-1)[..., self._gather]

    def synthesise(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Complex samples (..., f) of the images with these coefficients; the adjoint of :meth:`analyse`."""
        even, odd = self.by_parity(coefficients)
        return torch.complex(even @ self.even.T, odd @ self.odd.T) / 2

    def by_parity(self, coefficients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Coefficients (..., size) of even and of odd orders, in the order of the columns of ``even`` and ``odd``."""
        pairs, split = coefficients[..., self._scatter], self.even.shape[1]
        return pairs[..., :split], pairs[..., split:]

    def rotate(self, coefficients: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
        """Coefficients of the images turned by ``angle`` (radian, broadcast against the leading dimensions).

        Positive turns x towards y, as RELION's psi turns the image onto its reference.
        """
        turned = self.to_complex(coefficients) * unit(-self.order * angle[..., None])
        return self.to_real(turned)

    def to_complex(self, coefficients: torch.Tensor) -> torch.Tensor:
        """(..., size) real -> (..., complex coefficients)."""
        n, zero = len(self.order), int((self.order == 0).sum())
        imaginary = torch.nn.functional.pad(coefficients[..., n:], (zero, 0))
        return torch.complex(coefficients[..., :n].contiguous(), imaginary)

    def to_real(self, coefficients: torch.Tensor) -> torch.Tensor:
        """(..., complex coefficients) -> (..., size) real."""
        zero = int((self.order == 0).sum())
        return torch.cat([coefficients.real, coefficients.imag[..., zero:]], dim=-1)

    def ring(self) -> torch.Tensor:
        """Frequency around which each complex coefficient lies, in whole cycles per box."""
        return (self.radial**2 * self.node_frequency).sum(1).round().long()

    def radial_power(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Power at each radial node, (..., nodes): sums over nodes to the squared norm of the image."""
        c = self.to_complex(coefficients)
        power = torch.zeros(*c.shape[:-1], self.radial.shape[1], device=c.device)
        for m in range(int(self.order.max()) + 1):
            of_m = self.order == m
            power += (c[..., of_m] @ self.radial[of_m].to(c.dtype)).abs() ** 2
        return power

    @cached_property
    def _scatter(self) -> torch.Tensor:
        """Where each of [even pairs, odd pairs] stands among the real coefficients."""
        return self._gather.argsort()

    @cached_property
    def _gather(self) -> torch.Tensor:
        """Where each real coefficient stands in [even pairs, odd pairs]."""
        n, zero = len(self.order), int((self.order == 0).sum())
        is_even = self.order % 2 == 0
        even_count = int(is_even.sum())
        even_columns, odd_columns = 2 * even_count - zero, 2 * (n - even_count)
        rank_even, rank_odd = torch.cumsum(is_even, 0) - 1, torch.cumsum(~is_even, 0) - 1
        real = torch.where(is_even, rank_even, even_columns + rank_odd)
        imaginary = torch.where(is_even, even_count + rank_even - zero, even_columns + odd_columns // 2 + rank_odd)
        return torch.cat([real, imaginary[zero:]])


def steerable_basis(box: int, radius: float, limit: float, device: torch.device | str = "cpu") -> SteerableBasis:
    """Basis for particles within ``radius`` pixels of the centre of a ``box``, up to ``limit`` cycles per box."""
    return finish(build_basis(box, radius, limit, device))


def build_basis(box: int, radius: float, limit: float, device: torch.device | str = "cpu") -> Work[SteerableBasis]:
    """:func:`steerable_basis` as a computation that can be followed: seconds for a large box and a high limit."""
    band = half_plane(box, limit, device)
    theta = np.arctan2(band.fy.cpu().numpy(), band.fx.cpu().numpy())
    rho, ring = np.unique(band.radius.cpu().numpy().astype(float), return_inverse=True)
    nodes, weights = _gauss_legendre(0.0, limit, 2 * int(np.ceil(limit)) + 24)
    orders, radials, columns = [], [], []
    highest = int(2 * np.pi * limit * radius / box) + 8
    r, w = _gauss_legendre(0.0, radius / box, 64)
    every = bessel(highest, 2 * np.pi * np.concatenate([nodes, rho])[:, None] * r)
    kernel = 2 * np.pi * np.sqrt(w * r)
    yield 0.5
    for m in range(highest):
        at_nodes, at_samples = _radial_functions(every[m] * kernel, nodes, weights)
        yield 0.5 + 0.5 * m / highest
        if at_nodes.shape[1] == 0:
            if m > 4:
                break
            continue
        orders += [m] * at_nodes.shape[1]
        radials.append(at_nodes.T)
        columns.append(at_samples[ring])
    order = np.array(orders)
    sampled = np.concatenate(columns, axis=1) / np.sqrt(2 * np.pi)
    even, odd = _analysis_matrices(sampled, order, theta)

    def tensor(array: NDArray[np.floating]) -> torch.Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=device)

    return SteerableBasis(
        band,
        tensor(even),
        tensor(odd),
        torch.as_tensor(order, device=device),
        tensor(np.concatenate(radials)),
        tensor(nodes),
    )


def _analysis_matrices(
    sampled: NDArray[np.float64], order: NDArray[np.int64], theta: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Even- and odd-order columns: [real parts, imaginary parts without order 0], factor 2 for Friedel pairs."""
    phase = order[None, :] * theta[:, None]
    scale = 2.0 * np.where(order == 0, 1.0, np.sqrt(2.0)) * sampled
    is_even = order % 2 == 0
    real = scale * np.where(is_even, np.cos(phase), np.sin(phase))
    imaginary = scale * np.where(is_even, -np.sin(phase), np.cos(phase))
    even = np.concatenate([real[:, is_even], imaginary[:, is_even & (order > 0)]], axis=1)
    odd = np.concatenate([real[:, ~is_even], imaginary[:, ~is_even]], axis=1)
    return even, odd


def _gauss_legendre(low: float, high: float, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, w = np.polynomial.legendre.leggauss(count)
    return 0.5 * (high - low) * (x + 1) + low, 0.5 * (high - low) * w


def _radial_functions(
    kernel: NDArray[np.float64], nodes: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radial eigenfunctions of one order: at the nodes (times sqrt of their weight) and at further frequencies.

    ``kernel`` (nodes + frequencies, points) leads from space to frequency.
    """
    u, s, vt = np.linalg.svd(np.sqrt(weights * nodes)[:, None] * kernel[: len(nodes)], full_matrices=False)
    keep = s**2 > CONCENTRATION
    return u[:, keep], kernel[len(nodes) :] @ (vt[keep].T / s[keep])


def bessel(orders: int, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bessel functions of the first kind J_0 ... J_(orders - 1) at ``x`` > 0, (orders, ...).

    All orders at once by Miller's downward recurrence (Olver 1964), many times faster than one by one.
    """
    flat = x.ravel()
    # From an order where J is 0 at all points to double precision.
    start = max(orders, int(flat.max() + 12 * np.cbrt(flat.max()))) + 30
    found = np.zeros((orders, len(flat)))
    above, here, total = np.zeros_like(flat), np.full_like(flat, 1e-280), np.zeros_like(flat)
    for m in range(start, 0, -1):
        above, here = here, (2 * m / flat) * here - above
        huge = np.flatnonzero(np.abs(here) > 1e200)
        if len(huge):
            for values in (above, here, total):
                values[huge] *= 1e-200
            found[m:, huge] *= 1e-200
        if m <= orders:
            found[m - 1] = here
        if m % 2:
            total += (2 if m > 1 else 1) * here
    return (found / total).reshape(orders, *x.shape)
