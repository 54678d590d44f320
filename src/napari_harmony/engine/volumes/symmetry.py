"""Particles that look the same after some turns: which poses are one, and where the axes of an average lie.

A group acts on the reference: ``R`` and ``h R`` are one pose for every element ``h`` of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch

from napari_harmony.transforms import so3
from napari_harmony.transforms.spectra import Band, spectra_of, turned_points, volumes_from

#: Degrees between the rotations among which axes are looked for, then around the best of them.
AXIS_STEPS = (12.0, 4.0, 1.5)
_POINTS = 4_000_000


@dataclass(frozen=True)
class Symmetry:
    """A point group about the axes of the reference.

    Attributes
    ----------
    name : Cn or Dn
    group : (g, 4) quaternions, the identity first
    """

    name: str
    group: torch.Tensor

    @classmethod
    def of(cls, name: str, device: torch.device | str = "cpu") -> Symmetry:
        """The group of that name; raises ``InputError`` where there is none."""
        return cls(name.strip().upper(), so3.symmetry_group(name, device))

    def __len__(self) -> int:
        return len(self.group)

    def equivalents(self, rotation: torch.Tensor) -> torch.Tensor:
        """All rotations (..., g, 4) that are one with each of (..., 4)."""
        return so3.multiply(self.group, rotation[..., None, :])

    def canonical(self, rotation: torch.Tensor) -> torch.Tensor:
        """The equivalent (..., 4) nearest to the identity."""
        every = self.equivalents(rotation)
        nearest = every[..., 0].abs().argmax(-1)
        return every.gather(-2, nearest[..., None, None].expand(*nearest.shape, 1, 4))[..., 0, :]

    def unit(self, rotations: torch.Tensor) -> torch.Tensor:
        """Those of (r, 4) in the asymmetric unit: no equivalent is nearer to the identity."""
        return rotations[rotations[:, 0].abs() >= self.equivalents(rotations)[..., 0].abs().amax(-1) - 1e-6]

    def angle_between(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Radian from ``a`` to the nearest equivalent of ``b``, (...)."""
        return so3.angle_between(a[..., None, :], self.equivalents(b)).amin(-1)

    def invariant(self, vectors: torch.Tensor) -> torch.Tensor:
        """The part of vectors (n, 3) that the group leaves alone: along the axis of Cn, none of Dn."""
        return vectors @ so3.to_matrix(self.group).mean(0).T

    def onto_itself(self, step_degrees: float) -> torch.Tensor:
        """Rotations (r, 4) that turn symmetric volumes into symmetric ones, one of each set of equivalents."""
        device, order = self.group.device, int(self.name[1:])
        if self.name.startswith("D"):
            turns = _about((0, 0, 1), torch.tensor([0.0, math.pi / order]))
            if order == 2:  # its three axes may be exchanged
                cycle = _about((1, 1, 1), torch.arange(3) * (2 * math.pi / 3))
                turns = so3.multiply(turns[:, None], cycle).reshape(-1, 4)
            return turns.to(device)
        count = max(1, math.ceil(360 / order / step_degrees))
        about = _about((0, 0, 1), torch.arange(count) * (2 * math.pi / order / count))
        upside_down = so3.multiply(about, _about((1, 0, 0), torch.tensor([math.pi])))
        return torch.cat([about, upside_down]).to(device)

    def free(self) -> torch.Tensor:
        """(6,) 1 for each axis of rotation and of shift along which symmetric volumes may move and stay so."""
        if len(self) == 1:
            return torch.ones(6, device=self.group.device)
        axial = 0.0 if self.name.startswith("D") else 1.0
        return torch.tensor([0, 0, axial, 0, 0, axial], device=self.group.device)

    def averaged(self, volumes: torch.Tensor, band: Band) -> torch.Tensor:
        """Volumes (n, b, b, b) averaged over the group, of what lies on the band."""
        if len(self) == 1:
            return volumes
        samples = spectra_of(volumes, band.limit).turned(self.group, band.frequency).mean(1)
        return volumes_from(samples, band)


def _about(axis: tuple[float, float, float], angle: torch.Tensor) -> torch.Tensor:
    """Turns (n, 4) by angles (n,) in radian about an axis."""
    unit = torch.nn.functional.normalize(torch.tensor(axis, dtype=torch.float32), dim=0)
    return so3.from_rotation_vector(angle[:, None] * unit)


def axes_of(volumes: torch.Tensor, symmetry: Symmetry, band: Band) -> torch.Tensor:
    """Rotations (k, 4) that turn each volume (k, b, b, b) so that the group's turns change it least."""
    found = []
    for volume in volumes:
        tried = so3.rotation_grid(AXIS_STEPS[0], volume.device)
        best = tried[_likeness(volume, tried, symmetry, band).argmax()]
        for coarse, fine in pairwise(AXIS_STEPS):
            tried = so3.local_grid(best, fine, coarse)
            best = tried[_likeness(volume, tried, symmetry, band).argmax()]
        found.append(best)
    return torch.stack(found)


def _likeness(volume: torch.Tensor, rotations: torch.Tensor, symmetry: Symmetry, band: Band) -> torch.Tensor:
    """How much a volume turned by each of (r, 4) resembles itself after the group's turns, (r,)."""
    spectra = spectra_of(volume[None], band.limit)
    out = []
    for part in rotations.split(max(1, _POINTS // (len(symmetry) * len(band.frequency)))):
        # Samples of the volume turned by Q are those of the volume at frequencies turned back.
        back = so3.inverse(symmetry.equivalents(part))
        points = turned_points(back.flatten(0, 1), band.frequency)
        seen = spectra.at(points.reshape(-1, 3)).reshape(len(part), len(symmetry), -1)
        out.append((seen[:, :1].conj() * seen[:, 1:]).real.sum((1, 2)) / (seen.abs() ** 2).sum((1, 2)))
    return torch.cat(out)
