"""The benchmark of subtomograms: what is written opens again as what was made."""

from __future__ import annotations

import sys
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest

from napari_harmony import open_particles
from napari_harmony.particles.simulate import sample_volumes

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import protocols_3d


@pytest.fixture
def densities(tmp_path: Path) -> tuple[str, ...]:
    """Two small maps of known voxel size."""
    paths = []
    for number in (1, 3):
        paths.append(str(tmp_path / f"density_{number}.mrc"))
        with mrcfile.new(paths[-1]) as mrc:
            mrc.set_data(sample_volumes(32)[number])
            mrc.voxel_size = 8.0
    return tuple(paths)


def test_a_written_data_set_opens_as_it_was_made(tmp_path: Path, densities: tuple[str, ...]) -> None:
    made = protocols_3d.make("T4", 5, densities, 6)
    protocols_3d.write(made, tmp_path / "T4", {"protocol": "T4"})
    opened = open_particles(tmp_path / "T4" / "particles.star")
    assert opened.images.shape == (6, 32, 32, 32) and opened.pixel_size == 10.0
    np.testing.assert_array_equal(opened.read([4, 1]), made.particles.read([4, 1]))
    assert opened.wedge is not None and made.particles.wedge is not None
    expected = made.particles.wedge.coverage([0], 32)
    np.testing.assert_allclose(opened.wedge.coverage([3], 32), expected, atol=1e-6)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "T4" / "truth.csv"), made.truth)
    assert mrcfile.read(tmp_path / "T4" / "clean.mrcs").shape == (2, 32, 32, 32)


@pytest.mark.parametrize(("name", "voxel_size"), [("5mrc", 10.0), ("70S", 5.0)])
def test_densities_are_found_by_their_names(shared_data: Path, name: str, voxel_size: float) -> None:
    density, size = protocols_3d.load_density_3d(name, shared_data / "densities")
    assert size == voxel_size and density.ndim == 3
    with pytest.raises(SystemExit, match="No density 'none'"):
        protocols_3d.load_density_3d("none", shared_data / "densities")
