"""An encoder that turns with its volume: matched filters under every rotation of a grid, by spherical harmonics.

On a shell of Fourier space a rotation mixes the spherical harmonics of one degree among themselves, so that a filter
need only be learnt in one orientation: its answers under all others follow from small fixed matrices. This is a
correlation on SO(3) (Cohen et al., "Spherical CNNs", ICLR 2018), here on the samples inside a missing wedge, with
what covers them as a second input: the energy of a turned filter behind the wedge is a correlation of the same kind.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_harmony.transforms.harmonics import real_harmonics, turning_matrices
from napari_harmony.transforms.spectra import Band

#: Highest degree of the harmonics: detail of about 180 / degree degrees on a shell.
DEGREE = 7
#: Filters on SO(3), and features per rotation.
FILTERS, WIDTH = 48, 64
#: Radial filters that look for the centre, and about how many places along an axis they look at.
_CENTRES, _PLACES = 4, 9


class SphericalEncoder(nn.Module):
    """Samples (n, m) complex and their amplitudes to features (n, rotations, width), and centres (n, 3) voxels.

    Entry h describes the particle as seen from rotation h of ``rotations``: it is what the features of the particle
    turned back by that rotation would be at the identity. The centre is where the particle is before all else.

    Parameters
    ----------
    band : where the samples lie
    rotations : (h, 4) quaternions
    max_shift : voxels of the band's box; 0 keeps every centre at 0
    """

    def __init__(self, band: Band, rotations: Tensor, max_shift: float) -> None:
        super().__init__()
        self.width = WIDTH
        self.centring = Centring(band, max_shift) if max_shift > 0 else None
        self.expansion = ShellExpansion(band)
        shells = self.expansion.shells
        self.filters = nn.ParameterList(
            torch.randn((2 - degree % 2) * shells, FILTERS * (2 * degree + 1)) / math.sqrt(shells * (2 * degree + 1))
            for degree in range(DEGREE + 1)
        )
        turning = [m.flatten(1) / math.sqrt(m.shape[1]) for m in turning_matrices(DEGREE, rotations)]
        self.turning: Tensor
        self.register_buffer("turning", torch.cat(turning, dim=1).T.float().contiguous(), persistent=False)
        self.norms = nn.ModuleList([nn.BatchNorm1d(FILTERS), nn.BatchNorm1d(WIDTH)])
        self.last = nn.Linear(FILTERS, WIDTH, bias=False)

    @torch.no_grad()
    def start_from(self, patterns: Tensor) -> None:
        """Let the first filters look for patterns (p, m), the samples of what is expected at the identity.

        A filter becomes the likelihood of its pattern: the correlation with the samples, less half the energy that
        the wedge lets through. Patterns beyond the number of filters are left out.
        """
        patterns = patterns[:FILTERS]
        together = self.expansion(patterns, -0.5 * patterns.abs().square())
        size = torch.stack([part.square().sum((1, 2)) for part in together]).sum(0).sqrt()
        usual = sum(float(weights.square().sum()) for weights in self.filters) / FILTERS
        for degree, (part, weights) in enumerate(zip(together, self.filters, strict=True)):
            scaled = part * (usual**0.5 / size.clamp_min(1e-9))[:, None, None]
            weights.view(len(weights), FILTERS, 2 * degree + 1)[:, : len(patterns)] = scaled.transpose(0, 1)

    def forward(self, samples: Tensor, amplitude: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (n, m) with noise of unit variance, amplitudes (n or 1, m) that the signal is seen through."""
        matched = samples * amplitude
        centre = matched.real.new_zeros(len(samples), 3)
        if self.centring is not None:
            centre = self.centring(matched)
            matched = matched * self.centring.towards_origin(centre)
        features = self._correlate(self.expansion(matched, amplitude.square() - 1))
        features = self._activate(features, 0)
        return self._activate(self.last(features), 1), centre

    def _correlate(self, coefficients: list[Tensor]) -> Tensor:
        """Answers (n, rotations, filters) of all filters under all rotations."""
        n = len(coefficients[0])
        parts = []
        for degree, (own, filters) in enumerate(zip(coefficients, self.filters, strict=True)):
            size = 2 * degree + 1
            product = own.transpose(1, 2).reshape(n * size, -1) @ filters
            # filter coefficient first, then the particle's: the order in which the matrices were flattened
            parts.append(product.view(n, size, FILTERS, size).permute(0, 2, 3, 1).reshape(n, FILTERS, size * size))
        return (torch.cat(parts, dim=2) @ self.turning).transpose(1, 2)

    def _activate(self, features: Tensor, layer: int) -> Tensor:
        """Normalise (n, rotations, channels) per channel, then SiLU."""
        return functional.silu(self.norms[layer](features.flatten(0, 1)).view_as(features))


class Centring(nn.Module):
    """Where a particle is, by filters that look the same from all sides: (n, m) matched samples to (n, 3) voxels."""

    def __init__(self, band: Band, max_shift: float) -> None:
        super().__init__()
        reach = max(1, math.ceil(_PLACES / 2))
        ticks = torch.arange(-reach, reach + 1) * (max_shift / reach)
        places = torch.cartesian_prod(ticks, ticks, ticks)
        places = places[places.norm(dim=1) <= max_shift * 1.001]
        self.wave: Tensor
        self.places: Tensor
        self.register_buffer("wave", band.frequency.cpu() * (2 * torch.pi / band.box), persistent=False)
        self.register_buffer("places", places, persistent=False)
        phase = self.wave @ places.T
        self.looking: Tensor
        self.register_buffer("looking", torch.cat([phase.cos(), -phase.sin()]), persistent=False)
        radius = band.radius.cpu()
        weights = tents(radius, math.floor(band.limit)) / radius[:, None].clamp_min(1)
        self.shells: Tensor
        self.register_buffer("shells", weights, persistent=False)
        smooth = torch.exp(-0.5 * (torch.arange(weights.shape[1]) / 2.0) ** 2)
        self.profile = nn.Parameter(0.05 * smooth[:, None] * torch.linspace(0.5, 1.5, _CENTRES))

    def forward(self, matched: Tensor) -> Tensor:
        radial = (self.shells @ self.profile).T
        seen = torch.view_as_real((matched[:, None] * radial).resolve_conj())
        heat = torch.cat([seen[..., 0], seen[..., 1]], dim=2) @ self.looking
        odds = torch.softmax(heat.logsumexp(dim=1), dim=1)
        return odds @ self.places

    def towards_origin(self, centre: Tensor) -> Tensor:
        """Factors (n, m) that move particles from their centres (n, 3) to the origin."""
        phase = centre @ self.wave.T
        return torch.polar(torch.ones_like(phase), phase)


class ShellExpansion(nn.Module):
    """Matched samples and coverage to coefficients in spherical harmonics, per degree (n, shells, 2 l + 1).

    Of a real volume even degrees are in the real part, odd ones in the imaginary part. The coverage, which looks the
    same from opposite sides, has even degrees only; there its shells follow those of the samples.

    A shell at s cycles per box has degrees up to 2 s. Its samples are too few to tell higher ones apart, which would
    not turn with the volume, and a particle that fills two thirds of the box has hardly any.
    """

    def __init__(self, band: Band) -> None:
        super().__init__()
        self.shells = math.floor(band.limit)
        weights = tents(band.radius.cpu(), self.shells).double()
        basis = weights[:, :, None] * real_harmonics(DEGREE, band.frequency)[:, None]
        basis = basis / basis.square().sum(0).sqrt().clamp_min(1e-9)
        degree = torch.cat([torch.full((2 * k + 1,), k) for k in range(DEGREE + 1)])
        basis = basis * (degree <= 2 * torch.arange(1, self.shells + 1)[:, None])
        even = degree % 2 == 0
        self.even: Tensor
        self.odd: Tensor
        self.register_buffer("even", basis[:, :, even].flatten(1).float(), persistent=False)
        self.register_buffer("odd", basis[:, :, ~even].flatten(1).float(), persistent=False)

    def forward(self, matched: Tensor, covered: Tensor) -> list[Tensor]:
        """Samples (n, m), complex, and what covers them (n or 1, m), real."""
        n = len(matched)
        real = (matched.real @ self.even).view(n, self.shells, -1)
        imaginary = (matched.imag @ self.odd).view(n, self.shells, -1)
        above = (covered @ self.even).view(len(covered), self.shells, -1).expand_as(real)
        both = torch.cat([real, above], dim=1)
        sources, starts = (both, imaginary), [0, 0]
        parts = []
        for degree in range(DEGREE + 1):
            parity = degree % 2
            parts.append(sources[parity][..., starts[parity] : starts[parity] + 2 * degree + 1])
            starts[parity] += 2 * degree + 1
        return parts


def tents(radius: Tensor, shells: int) -> Tensor:
    """Weights (m, shells) of samples on shells at 1, 2, ... cycles per box, falling linearly to the next shell."""
    return (1 - (radius[:, None] - torch.arange(1, shells + 1)).abs()).clamp_min(0)
