"""The contrast transfer function of the microscope, per particle, in RELION's sign."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class CtfParameters:
    """Per-particle CTF parameters, each an array of shape (n,).

    Attributes
    ----------
    defocus_u, defocus_v : angstrom, positive is underfocus
    defocus_angle : degree, of the ``defocus_u`` axis against x
    voltage : kilovolt
    spherical_aberration : millimetre
    amplitude_contrast : fraction
    phase_shift : degree
    b_factor : square angstrom, envelope ``exp(-B u^2 / 4)``
    phase_flipped : the images were already multiplied by the sign of their CTF
    """

    defocus_u: NDArray[np.float64]
    defocus_v: NDArray[np.float64]
    defocus_angle: NDArray[np.float64]
    voltage: NDArray[np.float64]
    spherical_aberration: NDArray[np.float64]
    amplitude_contrast: NDArray[np.float64]
    phase_shift: NDArray[np.float64]
    b_factor: NDArray[np.float64]
    phase_flipped: bool = False

    def __len__(self) -> int:
        return len(self.defocus_u)

    def subset(self, indices: ArrayLike) -> CtfParameters:
        """The parameters of some particles, in the order of ``indices``."""
        chosen = np.asarray(indices)
        return replace(
            self, **{f.name: getattr(self, f.name)[chosen] for f in fields(self) if f.name != "phase_flipped"}
        )


def electron_wavelength(voltage: ArrayLike) -> NDArray[np.float64]:
    """Relativistic electron wavelength in angstrom for a voltage in kilovolt (RELION's constants)."""
    volts = np.asarray(voltage, dtype=np.float64) * 1e3
    return 12.2643247 / np.sqrt(volts * (1.0 + 0.978466e-6 * volts))


def ctf_at(parameters: CtfParameters, frequency_x: torch.Tensor, frequency_y: torch.Tensor) -> torch.Tensor:
    """CTF of every particle at the given spatial frequencies.

    Parameters
    ----------
    parameters : of n particles
    frequency_x, frequency_y : tensors of one shape (...,), in 1 / angstrom

    Returns
    -------
    float32 tensor of shape (n, ...). The value at zero frequency is ``+amplitude_contrast``: RELION's sign, for
    particles that are white on black. Formula as in RELION's ``ctf.cpp`` (description in Scheres, 2012). Where
    ``parameters.phase_flipped`` the modulus is returned, which is what such images hold.
    """
    import torch

    def column(values: ArrayLike) -> torch.Tensor:
        shape = (-1,) + (1,) * frequency_x.ndim
        return torch.as_tensor(np.asarray(values), dtype=torch.float64, device=frequency_x.device).reshape(shape)

    wavelength = column(electron_wavelength(parameters.voltage))
    u2 = (frequency_x.double() ** 2 + frequency_y.double() ** 2)[None]
    azimuth = torch.atan2(frequency_y.double(), frequency_x.double())[None]
    mean = column(0.5 * (parameters.defocus_u + parameters.defocus_v))
    half_difference = column(0.5 * (parameters.defocus_u - parameters.defocus_v))
    defocus = mean + half_difference * torch.cos(2 * (azimuth - column(np.deg2rad(parameters.defocus_angle))))
    w = np.asarray(parameters.amplitude_contrast)
    phase = (
        -torch.pi * wavelength * defocus * u2
        + 0.5 * torch.pi * column(parameters.spherical_aberration * 1e7) * wavelength**3 * u2**2
        - column(np.deg2rad(parameters.phase_shift) + np.arctan2(w, np.sqrt(1 - w**2)))
    )
    ctf = -torch.sin(phase) * torch.exp(-0.25 * column(parameters.b_factor) * u2)
    return (ctf.abs() if parameters.phase_flipped else ctf).float()
