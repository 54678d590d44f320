"""A tomogram with a handful of particles, as napari layers, and what a perfect run would find in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from napari_harmony.particles.euler import relion_to_matrix
from napari_harmony.particles.simulate import sample_volumes
from napari_harmony.particles.simulate_volumes import posable, random_angles

SHAPE, BOX, VOXEL = (44, 70, 74), 32, 10.0
PLACES = np.array([[20.3, 17.8, 18.0], [55.1, 20.6, 25.4], [21.0, 52.2, 26.9], [52.7, 51.9, 20.2]])


class FakeTomogram:
    """Four particles of two kinds and a little noise.

    ``volume`` (z, y, x), ``truth`` with kind, x, y, z, rot, tilt, psi, ``clean`` (2, 32, 32, 32).
    """

    def __init__(self) -> None:
        prepared = [posable(density, 0.5) for density in sample_volumes()[1:3]]
        self.clean = np.stack([one.draw(np.eye(3), np.zeros(3), BOX) for one in prepared])
        angles = random_angles(len(PLACES), np.random.default_rng(1))
        self.truth = pd.DataFrame(np.hstack([PLACES, angles]), columns=["x", "y", "z", "rot", "tilt", "psi"])
        self.truth["kind"] = [0, 1, 1, 0]
        self.specimen = np.zeros(SHAPE, np.float32)
        for row, matrix in zip(self.truth.itertuples(), relion_to_matrix(angles), strict=True):
            place = np.array([row.x, row.y, row.z])
            whole = np.round(place).astype(int)
            region = tuple(slice(c - BOX // 2, c + BOX // 2) for c in whole[::-1])
            self.specimen[region] += prepared[row.kind].draw(matrix, whole - place, BOX)
        noise = np.random.default_rng(0).normal(0, 0.1 * self.specimen.std(), SHAPE)
        self.volume = (self.specimen + noise).astype(np.float32)

    @property
    def space(self) -> dict[str, Any]:
        """Of both layers."""
        return {"scale": (VOXEL,) * 3, "units": ("angstrom",) * 3, "axis_labels": ("z", "y", "x")}

    def add_to(self, viewer: Any) -> tuple[Any, Any]:
        """Add the tomogram and its points."""
        about = {"napari-harmony": {"role": "volume", "tilt_range": [-60, 60]}}
        image = viewer.add_image(self.volume, name="tomogram", metadata=about, **self.space)
        points = viewer.add_points(
            self.truth[["z", "y", "x"]].to_numpy(),
            name="picks",
            features=self.truth[["rot", "tilt", "psi", "kind"]],
            **self.space,
        )
        return image, points
