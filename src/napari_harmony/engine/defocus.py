"""How far the defocus of each particle is from that of its micrograph, from how well its class explains it.

A step in defocus turns the phase of the CTF by an angle that grows with the square of the frequency:
``CTF(d) = CTF cos(t) + Q sin(t)``, where ``t = pi * wavelength * d * u^2`` and ``Q`` is the CTF a quarter of a period
on. What a particle says of any offset is therefore held in five sums over each ring of equal frequency, and the
likelihood of all particles at all offsets is a product of matrices. Particles lie at different heights in the ice, some
tens to hundreds of nanometres apart; per-particle defocus is refined in this way by the CTF refinement of RELION
(Zivanov et al. 2018) against projections of a map; here it is against the class average, without the particle itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_harmony.engine.preprocess import Prepared, ctf_grid, on_rings
from napari_harmony.engine.refine import CONTRAST_SPREAD
from napari_harmony.engine.search import Observations, Posterior, Sums, signal_variance, wiener
from napari_harmony.engine.work import Work
from napari_harmony.particles.ctf import CtfParameters, ctf_at, electron_wavelength
from napari_harmony.results import defocus_to_add

if TYPE_CHECKING:
    import pandas as pd

    from napari_harmony.particles.dataset import Particles

#: Offsets that are compared, and their steps; prior standard deviation. Angstrom.
REACH, STEP = 5000.0, 100.0
PRIOR_SPREAD = 2000.0
#: Particles at a time.
BATCH = 256


@dataclass(frozen=True)
class Defocus:
    """Defocus of n particles against what their CTF parameters say, angstrom.

    Attributes
    ----------
    offset : (n,) posterior mean; positive is more underfocus
    spread : (n,) posterior standard deviation
    """

    offset: torch.Tensor
    spread: torch.Tensor


@dataclass(frozen=True)
class _Rings:
    """What particles say of defocus, summed over the samples of each ring of equal frequency, (n, rings) each.

    ``cross``: samples against the class under the CTF and under ``Q``; ``energy``: of the class under CTF squared,
    CTF times Q, and Q squared.
    """

    cross: tuple[torch.Tensor, torch.Tensor]
    energy: tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def find_defocus(
    prepared: Prepared,
    parameters: CtfParameters,
    data: Observations,
    sums: Sums,
    placed: Posterior,
    member: torch.Tensor,
    *,
    free_contrast: bool,
) -> Work[Defocus]:
    """Posterior of the defocus offset of every particle in its pose on its class.

    Parameters
    ----------
    prepared : n particles
    parameters : of their CTF
    data : the particles on the band to use
    sums : of the classes on that band, over the particles that are a ``member`` (n,) of one
    placed : one entry per particle: its class and pose
    free_contrast : the gain of each particle is profiled out, under the same prior as in pose refinement
    """
    variance = signal_variance(data.basis, sums)
    wavelength = torch.as_tensor(electron_wavelength(parameters.voltage), dtype=torch.float32, device=member.device)
    parts = []
    for rows in torch.arange(len(data), device=member.device).split(BATCH):
        models = _others(data, sums, placed, member, variance, rows)
        rings, square = _sums_over_rings(prepared, parameters, data, placed, models, rows)
        parts.append(_posterior(rings, square, wavelength[rows], free_contrast))
        yield min(1.0, (int(rows[-1]) + 1) / len(data))
    return Defocus(torch.cat([p.offset for p in parts]), torch.cat([p.spread for p in parts]))


def with_defocus(prepared: Prepared, parameters: CtfParameters, offset: torch.Tensor) -> Prepared:
    """The particles with the CTF of the defocus found; ``offset`` (n,) in angstrom."""
    nominal = replace(parameters, phase_flipped=False)
    moved = offset_ctf(nominal, offset.double().cpu().numpy())
    ctf = ctf_grid(moved, prepared.geometry, prepared.ctf.device)
    if parameters.phase_flipped:
        # the images were multiplied by the sign of the CTF that was believed in, whatever the true one is
        ctf *= torch.where(ctf_grid(nominal, prepared.geometry, ctf.device) < 0, -1.0, 1.0)
    return replace(prepared, ctf=ctf * _inverse_noise(prepared))


def offset_ctf(parameters: CtfParameters, offset: np.ndarray) -> CtfParameters:
    """CTF parameters with the defocus along both axes moved by ``offset`` (n,) angstrom."""
    return replace(parameters, defocus_u=parameters.defocus_u + offset, defocus_v=parameters.defocus_v + offset)


def refocused(particles: Particles, table: pd.DataFrame) -> Particles:
    """The particles with the CTF that a run found for them; ``table`` is that of its result."""
    offset = defocus_to_add(table, particles.table)
    if particles.ctf is None or offset is None:
        return particles
    return replace(particles, ctf=offset_ctf(particles.ctf, offset))


def _inverse_noise(prepared: Prepared) -> torch.Tensor:
    """One over the noise amplitude on the rfft2 grid of the particles."""
    return on_rings(1.0 / prepared.noise, prepared.geometry.box)


def _others(
    data: Observations, sums: Sums, placed: Posterior, member: torch.Tensor, variance: torch.Tensor, rows: torch.Tensor
) -> torch.Tensor:
    """Samples (b, f) of the class averages of some particles, turned to their angle and without themselves.

    An average that a particle is part of holds its noise, filtered by the CTF that was believed in: against it every
    particle would seem to have that CTF.
    """
    basis, label, psi = data.basis, placed.label[rows], placed.psi[rows]
    own = basis.rotate(data.coefficients(rows, placed.shift[rows]), psi)
    inside = member[rows, None].to(own.dtype)
    total, power = sums.total[label] - inside * own, sums.power[label] - inside * data.ctf_power[rows]
    coefficients = wiener(basis, total, power.clamp_min(0), variance)
    return basis.synthesise(basis.rotate(coefficients, -psi))


def _sums_over_rings(
    prepared: Prepared,
    parameters: CtfParameters,
    data: Observations,
    placed: Posterior,
    models: torch.Tensor,
    rows: torch.Tensor,
) -> tuple[_Rings, torch.Tensor]:
    """The sums of some particles, and the squared frequency (rings,) of each ring, 1 / square angstrom."""
    band = data.basis.band
    samples = prepared.samples[rows][:, band.row, band.column]
    shift = placed.shift[rows]
    turn = -2 * torch.pi / data.box * (shift[:, :1] * band.fx + shift[:, 1:] * band.fy)
    match = 2 * (models.conj() * samples * torch.polar(torch.ones_like(turn), turn)).real
    power = 2 * models.abs().square()
    ctf, quadrature = _ctf_and_quadrature(prepared, parameters, data, rows)
    square, ring = torch.unique((band.fx**2 + band.fy**2).round(), return_inverse=True)

    def over(values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(len(values), len(square)).index_add_(1, ring, values)

    cross = over(ctf * match), over(quadrature * match)
    energy = over(ctf**2 * power), over(ctf * quadrature * power), over(quadrature**2 * power)
    extent = prepared.geometry.box * prepared.geometry.pixel_size
    return _Rings(cross, energy), square / extent**2


def _ctf_and_quadrature(
    prepared: Prepared, parameters: CtfParameters, data: Observations, rows: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """CTF over noise (b, f) as it is in the images, and the same a quarter of a period on."""
    band, geometry = data.basis.band, prepared.geometry
    step = 1.0 / (geometry.box * geometry.pixel_size)
    chosen = replace(parameters.subset(rows.cpu().numpy()), phase_flipped=False)
    later = replace(chosen, phase_shift=chosen.phase_shift + 90.0)
    ctf, quadrature = (ctf_at(p, band.fx * step, band.fy * step) for p in (chosen, later))
    weight = _inverse_noise(prepared)[band.row, band.column]
    if parameters.phase_flipped:
        weight = weight * torch.where(ctf < 0, -1.0, 1.0)
    return ctf * weight, quadrature * weight


def _posterior(rings: _Rings, square: torch.Tensor, wavelength: torch.Tensor, free_contrast: bool) -> Defocus:
    """Mean and standard deviation over the offsets of a grid, under the prior.

    The mean errs least in the square, and never more than the prior does; the grid is finer than what images say.
    """
    # equal steps in phase for every voltage: angstrom at the mean wavelength
    mean = wavelength.mean()
    grid = torch.arange(-REACH, REACH + STEP / 2, STEP, device=square.device)
    offset = grid * (mean / wavelength)[:, None]
    angle = torch.pi * mean * square[:, None] * grid
    cos, sin = angle.cos(), angle.sin()
    cross = rings.cross[0] @ cos + rings.cross[1] @ sin
    energy = rings.energy[0] @ cos**2 + 2 * rings.energy[1] @ (cos * sin) + rings.energy[2] @ sin**2
    gain, prior = torch.ones_like(cross), -0.5 * (offset / PRIOR_SPREAD) ** 2
    if free_contrast:
        weight = CONTRAST_SPREAD**-2
        gain = ((cross + weight) / (energy + weight)).clamp(0.2, 5.0)
        prior = prior - 0.5 * weight * (gain - 1) ** 2
    odds = torch.softmax(gain * cross - 0.5 * gain**2 * energy + prior, dim=1)
    best = (odds * offset).sum(1)
    spread = (odds * (offset - best[:, None]) ** 2).sum(1).sqrt()
    return Defocus(best, spread.clamp_min(0.3 * STEP))
