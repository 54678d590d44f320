"""Simulated particles in their true poses, with one class split in two whose frames lie apart by a known turn."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd
from gui_fakes import make_result, make_result_3d
from scipy.spatial.transform import Rotation

from napari_harmony._stacks import aligner
from napari_harmony.edits import Turn
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.simulate import sample_volumes, simulate_particles
from napari_harmony.particles.simulate_volumes import simulate_subtomograms
from napari_harmony.results import Result

#: How the frame of class 2 lies on that of class 1.
GAUGE_2D, GAUGE_3D = Turn((137.0,), (2.0, -1.5)), Turn((40.0, 70.0, -115.0), (1.5, -1.0, 0.5))


@lru_cache
def split_images(count: int = 120, box: int = 40) -> tuple[Particles, Result, Result]:
    """Particles of two contents; the result with the first content in classes 1 and 2; and the truth, unsplit."""
    made = simulate_particles(sample_volumes(box)[:2], views=1, count=count, box=box, snr=1.0, ctf=None, seed=3)
    true = _true(made.truth, make_result(count, 3, box=box), ["psi", "origin_x", "origin_y"])
    return made.particles, *_split(made.particles, true, GAUGE_2D)


@lru_cache
def split_volumes(count: int = 60, box: int = 24) -> tuple[Particles, Result, Result]:
    """The same of subtomograms behind a wedge."""
    made = simulate_subtomograms(sample_volumes(box)[:2], count, box, snr=1.0, shift_sigma=1.0, seed=3)
    names = ["rot", "tilt", "psi", "origin_x", "origin_y", "origin_z"]
    return made.particles, *_split(
        made.particles, _true(made.truth, make_result_3d(count, 3, box=box), names), GAUGE_3D
    )


def _true(truth: pd.DataFrame, like: Result, names: list[str]) -> Result:
    """The true poses; content 0 is class 1, content 1 class 3, class 2 has nobody yet."""
    table = like.table.assign(flags="", scale=1.0, class_number=np.where(truth["content"] == 0, 1, 3))
    table[names] = truth[names].to_numpy()
    return replace(like, table=table, summary={"parameters": {"transforms": ["rotation", "translation"]}})


def _split(particles: Particles, true: Result, gauge: Turn) -> tuple[Result, Result]:
    members = true.members(1)
    moved = members[1::2]
    table = true.table.copy()
    table.loc[moved, "class_number"] = 2
    _turn_back(table, moved, gauge)
    size = {"average_pixel_size": particles.pixel_size, "pixel_size": particles.pixel_size}
    split = replace(true, table=table, **size)
    return replace(split, averages=averages_of(particles, split)), replace(true, **size)


def _turn_back(table: pd.DataFrame, rows: np.ndarray, gauge: Turn) -> None:
    """Poses of ``rows`` in a frame that lies on theirs as ``gauge`` says, by matrices alone.

    With y = Q (z + s): the poses z = R (x + t) of the new frame are such that R is Q^-1 R_true and t is
    t_true - R^-1 s.
    """
    three = len(gauge.angles) == 3
    names, axes = (["rot", "tilt", "psi"], "xyz") if three else (["psi"], "xy")
    turn = Rotation.from_euler("ZYZ" if three else "Z", gauge.angles, degrees=True)
    true = Rotation.from_euler("ZYZ" if three else "Z", table.loc[rows, names].to_numpy(), degrees=True)
    seen = turn.inv() * true
    shift = np.zeros(3)
    shift[: len(gauge.shift)] = gauge.shift
    back = seen.inv().apply(shift)
    angles = np.atleast_2d(seen.as_euler("ZYZ" if three else "ZYX", degrees=True))
    table.loc[rows, names] = angles if three else angles[:, :1]
    for i, axis in enumerate(axes):
        table.loc[rows, f"origin_{axis}"] -= back[:, i]


def averages_of(particles: Particles, result: Result) -> np.ndarray:
    """Plain averages of particles in their poses, by what draws aligned particles in the viewer."""
    shown = []
    for number in range(1, result.classes + 1):
        rows = result.members(number)
        posed = aligner(result, rows)(particles.read(rows), np.arange(len(rows)))
        shown.append(posed.mean(0))
    return np.asarray(shown, np.float32)


def pose_errors(result: Result, true: Result, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Degrees and pixels between poses and true ones, particle by particle, with no gauge taken out.

    What is compared is where the centre of the class and the axes lie in the particle.
    """
    three = result.dimensions == 3
    names, axes = (["rot", "tilt", "psi"], "xyz") if three else (["psi"], "xy")
    kind = "ZYZ" if three else "Z"
    one, two = (Rotation.from_euler(kind, r.table.loc[rows, names].to_numpy(), degrees=True) for r in (result, true))
    origins = [r.table.loc[rows, [f"origin_{axis}" for axis in axes]].to_numpy() for r in (result, true)]
    return np.rad2deg((one.inv() * two).magnitude()), np.linalg.norm(origins[0] - origins[1], axis=1)
