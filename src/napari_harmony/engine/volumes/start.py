"""Poses that the input already has: read from its table, and a neighbourhood of each that the search keeps to."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from napari_harmony.engine.geometry import name_of
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.volumes.prepare import Prepared
from napari_harmony.engine.volumes.search import Posterior
from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import Particles
from napari_harmony.transforms import so3

#: How far rotations may go from those of the input where nothing else is said, in degrees.
USUAL_REACH = 30.0
#: Neighbourhoods are searched at least so many steps to each side.
STEPS_ASIDE = 2
#: Relative slack of the limit, for rounding.
_SLACK = 1e-3
_ROT = "rlnAngleRot"
#: Each angle, and what RELION calls the same where it is only known beforehand, as along a filament.
_OTHERS = (("rlnAngleTilt", "rlnAngleTiltPrior"), ("rlnAnglePsi", "rlnAnglePsiPrior"))


@dataclass(frozen=True)
class Anchors:
    """The rotations that particles are looked for around, and how far.

    Attributes
    ----------
    rotation : (n, 4) quaternions that turn the particles onto the reference, as the input gives them
    reach : radian; no rotation is tried farther from the input's
    free_rot : rot, the turn about the reference's z axis, is not known: ``reach`` limits the axis alone
    """

    rotation: torch.Tensor
    reach: float
    free_rot: bool = False

    def __len__(self) -> int:
        return len(self.rotation)

    def subset(self, rows: torch.Tensor | slice) -> Anchors:
        """Those of some particles."""
        return replace(self, rotation=self.rotation[rows])

    def allowed(self, rows: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
        """Which rotations (e, ..., 4) of particles ``rows`` (e,) are near enough, (e, ...) bool."""
        own = self.rotation[rows].reshape(len(rows), *(1,) * (rotation.ndim - 2), 4)
        if self.free_rot:
            w, x, y, z = so3.multiply(rotation, so3.inverse(own)).unbind(-1)
            apart = 2 * torch.atan2(torch.hypot(x, y), torch.hypot(w, z))
        else:
            apart = so3.angle_between(rotation, own)
        return apart <= self.reach * (1 + _SLACK)

    def turns(self, step_degrees: float) -> torch.Tensor:
        """Turns of the reference (t, 4) that span the neighbourhood, the first of which changes nothing."""
        reach = float(np.rad2deg(self.reach))
        step = min(step_degrees, reach / STEPS_ASIDE)
        if not self.free_rot:
            return so3.local_grid(so3.identity(), step, reach).to(self.rotation)
        tips = _tips(step, reach)
        count = int(np.ceil(360 / step_degrees))
        about = torch.zeros(count, 3)
        about[:, 2] = torch.arange(count) * (2 * np.pi / count)
        spins = so3.from_rotation_vector(about)
        return so3.multiply(spins[:, None], tips).reshape(-1, 4).to(self.rotation)

    def posterior(self, classes: int = 1) -> Posterior:
        """Every particle at its anchor, unshifted, in every class alike."""
        n, device = len(self), self.rotation.device
        particle = torch.arange(n, device=device).repeat_interleave(classes)
        return Posterior(
            particle,
            torch.arange(classes, device=device).repeat(n),
            self.rotation[particle],
            torch.zeros(n * classes, 3, device=device),
            torch.full((n * classes,), 1 / classes, device=device),
            torch.zeros(n, device=device),
            torch.zeros(n, classes, device=device),
        )


def _tips(step: float, reach: float) -> torch.Tensor:
    """Turns (t, 4) that tip the z axis by up to ``reach`` degrees, ``step`` degrees apart, from the smallest."""
    ticks = torch.arange(-int(reach / step + 1e-6), int(reach / step + 1e-6) + 1) * step
    lattice = torch.cartesian_prod(ticks, ticks)
    length = lattice.norm(dim=1)
    order = length.argsort(stable=True)
    kept = lattice[order[length[order] <= reach * (1 + 1e-6)]]
    return so3.from_rotation_vector(torch.deg2rad(torch.nn.functional.pad(kept, (0, 1))))


@dataclass(frozen=True)
class Start:
    """Poses of the input for the particles of a run.

    Attributes
    ----------
    anchors : rotations
    shift : (n, 3) working voxels that centre the particles, as the input gives them
    """

    anchors: Anchors
    shift: torch.Tensor

    def to(self, device: torch.device) -> Start:
        """The same on a device."""
        anchors = replace(self.anchors, rotation=self.anchors.rotation.to(device))
        return Start(anchors, self.shift.to(device))

    def placed(self, prepared: Prepared) -> Prepared:
        """The particles shifted by the origins of the input, so that the search looks for what is left."""
        data = prepared.data
        matched = torch.empty_like(data.matched)
        for rows in torch.arange(len(data), device=self.shift.device).split(64):
            matched[rows] = data.moved(rows, self.shift[rows])
        return replace(prepared, data=replace(data, matched=matched))


def start_of(particles: Particles, settings: Settings, rows: NDArray[np.int64], scale: float) -> Start:
    """The poses that the input's table gives particles ``rows``; ``scale`` is source voxels per working voxel.

    Raises
    ------
    InputError : no orientations, or some that are not numbers
    """
    columns = [_angle_column(particles, names) for names in _OTHERS]
    rot = np.zeros(len(particles)) if settings.free_rot and _ROT not in particles.table else _numbers(particles, _ROT)
    angles = np.stack([rot, *columns], axis=1)[rows]
    rotation = so3.from_zyz(torch.as_tensor(angles, dtype=torch.float64)).float()
    shift = np.stack([_origin(particles, axis) for axis in "XYZ"], axis=1)[rows] / scale
    reach = float(np.deg2rad(settings.local_search or USUAL_REACH))
    anchors = Anchors(rotation, reach, settings.free_rot)
    return Start(anchors, torch.as_tensor(shift, dtype=torch.float32))


def _angle_column(particles: Particles, names: tuple[str, ...]) -> NDArray[np.float64]:
    return _numbers(particles, next((name for name in names if name in particles.table), names[0]))


def _origin(particles: Particles, axis: str) -> NDArray[np.float64]:
    """Source voxels (n,), zero where the table has no origins."""
    if f"rlnOrigin{axis}Angst" in particles.table:
        return _numbers(particles, f"rlnOrigin{axis}Angst") / particles.pixel_size
    name = f"rlnOrigin{axis}"
    return _numbers(particles, name) if name in particles.table else np.zeros(len(particles))


def _numbers(particles: Particles, name: str) -> NDArray[np.float64]:
    """A column of the table as numbers."""
    if name not in particles.table:
        raise InputError(
            f"{name_of(particles)} gives its particles no orientations ({name} is missing), so a run cannot start "
            "from them; search for them instead."
        )
    try:
        values = particles.table[name].to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        values = np.full(len(particles), np.nan)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise InputError(
            f"{name_of(particles)}, particle {bad[0] + 1}: {name} is {particles.table[name].iloc[bad[0]]}, which is "
            "no number; correct it, or search for orientations instead of starting from these."
        )
    return values
