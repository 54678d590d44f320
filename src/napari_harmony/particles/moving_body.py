"""A made-up particle with moving parts, as Gaussian beads that are drawn exactly in any pose.

A compact core without symmetry carries an arm on a hinge, a subunit that may be missing, and a domain that slides
along the core: three factors that change three different places. Beads are isotropic, so that the volume and its
projection along z are evaluated in closed form: nothing is interpolated, and gradients pass from the grey values to
the factors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: What varies from particle to particle, each in [-1, 1].
FACTORS = ("hinge", "occupancy", "slide")

#: Cores of the kinds of particle: beads (x, y, z, weight, width), in pixels of a box of 32 from its centre.
_CORES = (
    # a boot with a bright heel
    (
        (0.0, 0.0, 0.0, 1.0, 2.4),
        (-2.5, -3.0, 1.5, 1.0, 1.6),
        (3.0, 2.5, -1.0, 0.9, 1.7),
        (-3.5, 3.0, 2.0, 1.4, 1.3),
        (2.5, -2.5, -2.5, 0.7, 1.5),
    ),
    # an open ring
    (
        (4.0, 0.5, 0.0, 1.0, 1.5),
        (2.5, 3.5, 1.0, 1.0, 1.5),
        (-1.5, 4.0, 2.0, 1.2, 1.5),
        (-4.2, 1.0, 1.0, 1.2, 1.5),
        (-3.2, -2.8, -1.5, 1.4, 1.5),
        (1.5, -4.0, -2.5, 0.8, 1.4),
    ),
    # a slanted bar with a knob
    (
        (-3.6, 4.0, 1.5, 1.2, 1.6),
        (-1.4, 1.4, 0.5, 1.2, 1.6),
        (1.2, -1.2, -0.5, 1.2, 1.6),
        (3.4, -3.4, -1.5, 1.2, 1.6),
        (4.2, 2.6, 2.5, 1.6, 1.4),
    ),
)
#: How many different cores there are.
KINDS = len(_CORES)

_PIVOT = (3.2, -4.0, 0.5)
_ARM = (1.6, 3.8, 6.0)  # beads along the arm, pixels from the pivot
_ARM_DIRECTION, _ARM_SWING = -50.0, 24.0  # degrees from x towards y
_ARM_WEIGHT, _ARM_WIDTH = 0.9, 1.35
_SUBUNIT = (-8.0, -2.6, 1.0, 1.5, 1.9)
_DOMAIN = ((0.2, 8.6, -1.0, 1.0, 1.5), (1.2, 10.2, 0.5, 0.5, 1.2))
_DOMAIN_PATH = 2.2  # pixels to either side along x
_UNIT = 32  # the box, in pixels, in which all of these numbers are stated


@dataclass(frozen=True)
class Beads:
    """``centres`` (n, k, 3) as (x, y, z) in pixels from the centre of the box, ``weights`` (n, k), ``widths`` (k,).

    A weight is the largest grey value of the bead in the projection; a width is its standard deviation in pixels.
    """

    centres: Tensor
    weights: Tensor
    widths: Tensor

    def posed(self, matrices: Tensor, origins: Tensor) -> Beads:
        """The beads turned and moved, in RELION's convention ``x_ref = R (x_img - c + t) + c``.

        ``matrices`` (n, 3, 3) act on (x, y, z); ``origins`` (n, 3) in pixels.
        """
        # rows times R are R's inverse acting on columns
        return Beads(self.centres @ matrices - origins[:, None], self.weights, self.widths)


def body(factors: Tensor, kind: Tensor, box: int) -> Beads:
    """The particle in given conformations, in its canonical pose.

    Parameters
    ----------
    factors : (n, 3) hinge, occupancy and slide, each in [-1, 1]
    kind : (n,) whole numbers below ``KINDS``: which core
    box : edge of the pictures in pixels; all sizes are proportional to it
    """
    arm, moving = _arm(factors[:, 0]), [_subunit(factors[:, 1]), _domain(factors[:, 2])]
    cores = _padded_cores(factors)
    core = cores[kind.to(cores.device)]
    centres = torch.cat([core[..., :3], arm[0], *(part[0] for part in moving)], dim=1)
    weights = torch.cat([core[..., 3], arm[1], *(part[1] for part in moving)], dim=1)
    # widths differ between cores, and a width is shared by all particles: every core is a set of beads of its own
    widths = torch.tensor(
        [bead[4] for one in _CORES for bead in one]
        + [_ARM_WIDTH] * len(_ARM)
        + [_SUBUNIT[4]]
        + [bead[4] for bead in _DOMAIN],
        dtype=factors.dtype,
        device=factors.device,
    )
    unit = box / _UNIT
    return Beads(unit * centres, weights, unit * widths)


def _padded_cores(like: Tensor) -> Tensor:
    """Beads of all cores (kinds, beads of all cores together, 4); those of the other cores have weight 0."""
    total = sum(map(len, _CORES))
    cores = torch.zeros(KINDS, total, 4, dtype=like.dtype, device=like.device)
    start = 0
    for number, beads in enumerate(_CORES):
        cores[number, start : start + len(beads)] = cores.new_tensor([bead[:4] for bead in beads])
        start += len(beads)
    return cores


def _arm(hinge: Tensor) -> tuple[Tensor, Tensor]:
    """Beads of the arm: centres (n, k, 3) and weights (n, k)."""
    angle = torch.deg2rad(_ARM_DIRECTION + _ARM_SWING * hinge)
    direction = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], dim=1)
    along = hinge.new_tensor(_ARM)
    centres = hinge.new_tensor(_PIVOT) + along[:, None] * direction[:, None]
    return centres, torch.full(centres.shape[:2], _ARM_WEIGHT, dtype=hinge.dtype, device=hinge.device)


def _subunit(occupancy: Tensor) -> tuple[Tensor, Tensor]:
    """The subunit, absent at -1 and complete at 1."""
    centres = occupancy.new_tensor(_SUBUNIT[:3]).expand(len(occupancy), 1, 3)
    return centres, _SUBUNIT[3] * 0.5 * (1 + occupancy)[:, None]


def _domain(slide: Tensor) -> tuple[Tensor, Tensor]:
    """The domain that slides along x."""
    place = slide.new_tensor([bead[:3] for bead in _DOMAIN])
    step = torch.stack([_DOMAIN_PATH * slide, torch.zeros_like(slide), torch.zeros_like(slide)], dim=1)
    return place + step[:, None], slide.new_tensor([bead[3] for bead in _DOMAIN]).expand(len(slide), -1)


def draw_pictures(beads: Beads, box: int) -> Tensor:
    """Projections along z (n, box, box), axes y, x; the centre is pixel box // 2."""
    x, y = (_profiles(beads, axis, box) for axis in (0, 1))
    return torch.einsum("nk,nky,nkx->nyx", beads.weights, y, x)


def draw_volumes(beads: Beads, box: int) -> Tensor:
    """Densities (n, box, box, box), axes z, y, x, whose sums along z are those of ``draw_pictures``."""
    x, y, z = (_profiles(beads, axis, box) for axis in range(3))
    heights = beads.weights / (beads.widths * (2 * torch.pi) ** 0.5)
    return torch.einsum("nkz,nky,nkx->nzyx", heights[..., None] * z, y, x)


def _profiles(beads: Beads, axis: int, box: int) -> Tensor:
    """Values along one axis (n, k, box) of every bead."""
    places = torch.arange(box, dtype=beads.centres.dtype, device=beads.centres.device) - box // 2
    distance = (places - beads.centres[..., axis, None]) / beads.widths[:, None]
    return (-0.5 * distance**2).exp()
