"""A benchmark data set on disk, and what a method made of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

import matching
import protocols
from napari_harmony.particles.ctf import CtfParameters
from napari_harmony.particles.projection import project

WORK = Path(__file__).resolve().parents[1] / ".work" / "benchmark"


@dataclass(frozen=True)
class Case:
    """One data set: a protocol with its densities, seed and number of particles, in a folder of its own."""

    protocol: protocols.Protocol
    seed: int
    work: Path = WORK

    @property
    def key(self) -> dict[str, object]:
        """What tells this data set from all others."""
        p = self.protocol
        densities = [Path(d).stem for d in p.densities]
        return {"set": p.name, "data_seed": self.seed, "densities": densities, "count": p.count, "classes": p.classes}

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
        simulated = protocols.make(p.name, self.seed, p.densities, p.count)
        # The description comes last: it says that the data set is complete.
        protocols.write(simulated, self.folder, asdict(p) | {"seed": self.seed})

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """Images, CTF columns, clean contents, as ``protocols.write`` left them."""
        with np.load(self.folder / "raw.npz", allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    @cached_property
    def truth(self) -> pd.DataFrame:
        """One row per particle."""
        return pd.read_csv(self.folder / "truth.csv")

    @property
    def pixel_size(self) -> float:
        """Angstrom per pixel."""
        return float(self.arrays["pixel_size"])

    @property
    def box(self) -> int:
        """Edge of the images in pixels."""
        return int(self.arrays["images"].shape[-1])

    @property
    def ctf(self) -> CtfParameters | None:
        """CTF of the particles, None for sets without."""
        columns = protocols.CTF_COLUMNS
        return CtfParameters(**{c: self.arrays[c] for c in columns}) if columns[0] in self.arrays else None

    @cached_property
    def densities(self) -> list[np.ndarray]:
        """The maps the set was made from."""
        return [protocols.load_density(name) for name in self.protocol.densities]

    @cached_property
    def diameter(self) -> float:
        """Particle diameter in angstrom as a user would measure it: what exceeds 5 % of the peak, and a margin."""
        largest = 0.0
        for density in self.densities:
            centre = np.array(density.shape) // 2
            points = np.argwhere(density > 0.05 * density.max()) - centre
            largest = max(largest, float(np.linalg.norm(points, axis=1).max()))
        exact = (2 * largest + 3) * self.pixel_size
        return min(10 * np.ceil(exact / 10), 0.95 * self.box * self.pixel_size)

    def content_templates(self) -> matching.Templates:
        """Templates of the true contents in units of the noise, one per content of the truth, in order."""
        views = self.truth.groupby("content")[["rot", "tilt"]].first()
        per_density = self.protocol.views or 1
        chosen = []
        for content, (rot, tilt) in views.iterrows():
            density = self.densities[int(content) // per_density]
            clean, shape = self.arrays["clean"][int(content)], project(density, rot, tilt, box=self.box)[0]
            chosen.append((density, rot, tilt, float((clean * shape).sum() / (shape**2).sum())))
        return matching.make_templates(chosen, self.box)


@dataclass(frozen=True)
class Run:
    """What a method made of a case.

    Attributes
    ----------
    method, seed : which method, and its seed
    table : rows of all particles in order, ``class_number``, ``psi``, ``origin_x``, ``origin_y`` (degree, pixel); None
        for methods that give no partition
    averages : (k, box, box) class averages, class 1 first, or None
    seconds, peak_mb : wall time of the whole process and its peak memory; NaN where they mean nothing
    extra : further scores that the method itself allows
    note : what one must know to read the row
    """

    method: str
    seed: int
    table: pd.DataFrame | None = None
    averages: np.ndarray | None = None
    seconds: float = float("nan")
    peak_mb: float = float("nan")
    extra: dict[str, float] = field(default_factory=dict)
    note: str = ""

    def with_timing(self, path: Path) -> Run:
        """The same with the figures that ``timed.py`` wrote."""
        if not path.is_file():
            return self
        figures = json.loads(path.read_text())
        return replace(self, seconds=figures["seconds"], peak_mb=figures["peak_mb"])
