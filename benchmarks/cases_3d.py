"""A benchmark data set of subtomograms on disk, and the scores of what a method made of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.spatial.transform import Rotation

import protocols_3d
from cases import WORK, Run
from napari_harmony import open_particles
from napari_harmony.analysis import frc, metrics_3d
from napari_harmony.particles.dataset import Particles


@dataclass(frozen=True)
class Case3D:
    """One data set: a protocol with its densities, seed and number of particles, in a folder of its own."""

    protocol: protocols_3d.Protocol3D
    seed: int
    work: Path = WORK

    @property
    def classes(self) -> int:
        """K: as many as there are densities."""
        return len(self.protocol.densities)

    @property
    def key(self) -> dict[str, object]:
        """What tells this data set from all others."""
        p = self.protocol
        densities = [Path(d).stem for d in p.densities]
        return {
            "set": p.name,
            "data_seed": self.seed,
            "densities": densities,
            "count": p.count,
            "classes": self.classes,
        }

    @property
    def folder(self) -> Path:
        """Where its files and the runs on it are."""
        p = self.protocol
        parts = [p.name, *(Path(d).stem for d in p.densities), f"n{p.count}", f"seed{self.seed}"]
        return self.work / "_".join(parts)

    def prepare(self) -> None:
        """Make the data set unless it is there."""
        if (self.folder / "protocol.json").is_file():
            return
        p = self.protocol
        simulated = protocols_3d.make(p.name, self.seed, p.densities, p.count)
        # The description comes last: it says that the data set is complete.
        protocols_3d.write(simulated, self.folder, asdict(p) | {"seed": self.seed})

    @cached_property
    def particles(self) -> Particles:
        """The subtomograms as everybody is given them."""
        return open_particles(self.folder / "particles.star")

    @cached_property
    def truth(self) -> pd.DataFrame:
        """One row per particle."""
        return pd.read_csv(self.folder / "truth.csv")

    @cached_property
    def clean(self) -> np.ndarray:
        """The contents (k, box, box, box) in units of the noise, without wedge."""
        return np.array(mrcfile.read(self.folder / "clean.mrcs"), dtype=np.float32)

    @cached_property
    def diameter(self) -> float:
        """Particle diameter in angstrom as a user would measure it: what exceeds 5 % of the peak, and a margin."""
        box, size = self.particles.box, self.particles.pixel_size
        points = np.argwhere((self.clean > 0.05 * self.clean.max(axis=(1, 2, 3), keepdims=True)).any(axis=0))
        largest = float(np.linalg.norm(points - box // 2, axis=1).max())
        return min(10 * np.ceil((2 * largest + 3) * size / 10), 0.95 * box * size)


def score(case: Case3D, run: Run) -> dict[str, float]:
    """All scores that the run and the case allow."""
    scores: dict[str, float] = dict(run.extra)
    if run.table is None:
        return scores
    scores |= metrics_3d.evaluate(run.table, case.truth)
    if run.averages is not None and "rot" in run.table:
        scores |= average_scores(case, run.table, run.averages)
    return scores


def average_scores(case: Case3D, table: pd.DataFrame, averages: np.ndarray) -> dict[str, float]:
    """Resolution in angstrom at which averages and truth correlate by one half, median over members and worst class.

    The truth of a class is its majority content, brought into the frame that the poses of the members imply.
    """
    columns = table[metrics_3d.ANGLES], table[metrics_3d.ORIGINS]
    known = case.truth[metrics_3d.ANGLES], case.truth[metrics_3d.ORIGINS]
    gauges = metrics_3d.pose_errors(*columns, *known, table["class_number"], case.truth["content"]).gauges
    if not gauges or averages.shape[-1] != case.particles.box:
        return {}
    box, size = case.particles.box, case.particles.pixel_size
    mask = sphere(box, case.diameter / size)
    contents = np.unique(case.truth["content"]).tolist()
    angstrom, counts = [], []
    for number, gauge in gauges.items():
        shown = in_frame(case.clean[contents.index(gauge.content)], gauge.rotation, np.array(gauge.tau))
        curve = shell_correlation(averages[number - 1] * mask, shown * mask)
        angstrom.append(np.nan_to_num(frc.resolution(curve, frc.TRUTH, size, box), nan=box * size))
        counts.append(int((table["class_number"] == number).sum()))
    order = np.argsort(angstrom)
    middle = np.searchsorted(np.cumsum(np.array(counts)[order]), sum(counts) / 2)
    return {"fsc_half": float(angstrom[order[middle]]), "fsc_half_worst": float(max(angstrom))}


def in_frame(volume: np.ndarray, rotation: Rotation, tau: np.ndarray) -> np.ndarray:
    """What a class shows of a volume (z, y, x) with ``x' = G (x - c) + c + tau``, ``tau`` (x, y, z) in voxels."""
    backwards = rotation.as_matrix().T[::-1, ::-1]  # on (z, y, x)
    centre = np.full(3, volume.shape[0] // 2)
    return ndimage.affine_transform(volume, backwards, centre - backwards @ (centre + tau[::-1]), order=3)


def shell_correlation(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Fourier shell correlation (box // 2,) of two volumes; shells as those of rings in ``analysis.frc``."""
    box = one.shape[0]
    axis = np.fft.fftfreq(box, 1 / box)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    shell = np.rint(radius).astype(int).ravel() - 1
    inside = (shell >= 0) & (shell < box // 2)
    a, b = (np.fft.fftn(volume).ravel()[inside] for volume in (one, two))
    cross, first, second = (
        np.bincount(shell[inside], weights, minlength=box // 2)
        for weights in ((a * b.conj()).real, np.abs(a) ** 2, np.abs(b) ** 2)
    )
    power = np.sqrt(first * second)
    return np.divide(cross, power, out=np.zeros_like(cross), where=power > 0)


def sphere(box: int, diameter: float, edge: float = 3.0) -> np.ndarray:
    """1 within ``diameter`` voxels around floor(box / 2), falling to 0 over ``edge`` voxels, (box, box, box)."""
    axis = np.arange(box) - box // 2
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    return 0.5 + 0.5 * np.cos(np.pi * np.clip((radius - diameter / 2) / edge, 0, 1))


def with_changes(
    protocol: protocols_3d.Protocol3D, densities: str | None, count: int | None
) -> protocols_3d.Protocol3D:
    """A protocol with other densities (comma-separated) or another number of particles."""
    chosen = protocol.densities if densities is None else tuple(densities.split(","))
    return replace(protocol, densities=chosen, count=count or protocol.count)
