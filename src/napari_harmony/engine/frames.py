"""How class averages lie on each other: the pose of each on another one, for classes that are to share a frame."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_harmony.engine.refine import Refined, refine
from napari_harmony.engine.search import Arithmetic, Observations, Templates, expect, pose_grid
from napari_harmony.engine.steerable import SteerableBasis, steerable_basis
from napari_harmony.engine.volumes.halves import Alignment, Placed, fit_onto, likeness_of
from napari_harmony.engine.volumes.search import shift_ball
from napari_harmony.engine.volumes.symmetry import Symmetry
from napari_harmony.engine.work import finish
from napari_harmony.transforms import so3
from napari_harmony.transforms.spectra import half_space

#: Share of the box that is looked at, and finest detail, in cycles per diameter of that.
_DIAMETER, _CYCLES, _CYCLES_3D = 0.9, 15.0, 8.0
#: How far averages may lie apart, as a share of the box, and how much more alike, as a correlation, they must be
#: elsewhere than near where they are: halves of one class share its frame, and many averages look alike upside down.
_REACH, _CLEARLY = 0.16, 0.03
#: Rotations looked at in 2D, and the step in 3D in degrees: everywhere, and within a radius of the given frame.
_ROTATIONS, _STEP, _NEAR_STEP, _NEAR = 180, 12.0, 6.0, 18.0


def poses_onto(
    averages: NDArray[np.float32], target: NDArray[np.float32], parameters: Mapping[str, Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Poses at which averages fit a target best, in RELION's convention: ``x_target = R (x - c + t) + c``.

    Near where they lie already, unless they are clearly more alike elsewhere.

    Parameters
    ----------
    averages, target : (n, b, b) and (b, b), or volumes (n, b, b, b) and (b, b, b)
    parameters : of the run: only ``transforms`` that separate its particles are allowed, the frame of its ``symmetry``
        is kept, and so is that of the input where the run started from it

    Returns
    -------
    degrees (n, 1) psi, or (n, 3) rot, tilt, psi; and shifts in pixels of the averages, (n, 2) or (n, 3)
    """
    transforms = parameters.get("transforms", ("rotation", "translation"))
    turn, move = "rotation" in transforms, "translation" in transforms
    given = torch.as_tensor(np.asarray(averages, np.float32)), torch.as_tensor(np.asarray(target, np.float32))
    if target.ndim == 2:
        return _images_onto(*given, turn, move)
    turn = turn and parameters.get("start", "search") == "search"
    return _volumes_onto(*given, Symmetry.of(parameters.get("symmetry", "C1")), turn, move)


@lru_cache(maxsize=2)
def _basis(box: int) -> SteerableBasis:
    radius = 0.5 * _DIAMETER * box
    return steerable_basis(box, radius, min(_CYCLES / _DIAMETER, 0.5 * box - 1))


def _images_onto(
    averages: torch.Tensor, target: torch.Tensor, turn: bool, move: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    box, count = target.shape[-1], len(averages)
    basis = _basis(box)
    stack = torch.cat([averages, target[None]])
    stack = (stack - stack.mean((1, 2), keepdim=True)) / stack.std((1, 2), keepdim=True)
    spectrum = torch.fft.rfft2(torch.fft.ifftshift(stack, dim=(1, 2)), norm="ortho")
    samples = spectrum[:, basis.band.row, basis.band.column]
    data = Observations(samples[:count], torch.ones(count, len(basis.node_frequency)), basis, box)
    template = Templates(basis.analyse(samples[count:]), torch.zeros(1))
    reach = _REACH * box
    here, still = torch.zeros(count), torch.zeros(count, 2)

    def sharpened(psi: torch.Tensor, shift: torch.Tensor) -> Refined:
        energy, label = 2 * (data.matched.abs() ** 2).sum(1), torch.zeros(count, dtype=torch.long)
        work = refine(data, template, label, psi, shift, energy, 10.0 * box, free_contrast=False, turn=turn, move=move)
        return finish(work)

    near = sharpened(here, still)
    grid = pose_grid(_ROTATIONS if turn else 1, reach if move else 0.0, 1.0, 10.0 * box)
    found = finish(expect(data, template, grid, still, Arithmetic())).best()
    far = sharpened(found.psi, found.shift)
    elsewhere = far.score > near.score + _CLEARLY
    psi = torch.where(elsewhere, far.psi, near.psi)
    shift = torch.where(elsewhere[:, None], far.shift, near.shift)
    degrees = np.rad2deg(psi.double().numpy())[:, None]
    return 180.0 - (180.0 - degrees) % 360.0, shift.double().numpy()


def _volumes_onto(
    averages: torch.Tensor, target: torch.Tensor, symmetry: Symmetry, turn: bool, move: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    box = target.shape[-1]
    band = half_space(box, min(_CYCLES_3D / _DIAMETER, box / 2 - 1))
    step = box / (4 * band.limit)
    shifts = shift_ball(_REACH * box if move else 0.0, max(1.0, step), 10.0 * box)
    free = symmetry.free() * torch.tensor(3 * [float(turn)] + 3 * [float(move)])
    rotations = so3.identity(1)
    if turn:
        # turned about its axes alone a symmetric average stays symmetric about them
        rotations = so3.rotation_grid(_STEP) if len(symmetry) == 1 else symmetry.onto_itself(_STEP / 3)
    if len(symmetry) > 1:
        along = (shifts.offset - symmetry.invariant(shifts.offset)).norm(dim=1) < 1e-3
        shifts = type(shifts)(shifts.offset[along], shifts.sigma)
    whole = torch.cat([averages, target[None]])
    whole = (whole - whole.mean((1, 2, 3), keepdim=True)) / whole.std((1, 2, 3), keepdim=True)
    near = so3.local_grid(so3.identity(), _NEAR_STEP, _NEAR) if turn and len(symmetry) == 1 else so3.identity(1)
    placed = []
    for tried in (near, rotations):
        how = Alignment(band, tried, shifts, free, symmetry)
        fit = fit_onto(whole[:-1], whole[-1], how)
        placed.append((fit, likeness_of(whole[:-1], whole[-1], fit, how)))
    (close, alike), (far, other) = placed
    elsewhere = (other > alike + _CLEARLY)[:, None]
    best = Placed(torch.where(elsewhere, far.rotation, close.rotation), torch.where(elsewhere, far.shift, close.shift))
    return so3.to_zyz(best.rotation.double()).numpy(), best.shift.double().numpy()
