"""Subtomograms from folders, STAR files and files of several volumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_harmony.errors import InputError, InputWarning
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.open import open_particles
from napari_harmony.particles.volumes import ArrayVolumes, count_not_finite
from napari_harmony.particles.wedge import CoverageFiles, TiltRange

BOX = 6
OPTICS = """
# version 30001

data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnImagePixelSize #3
_rlnImageDimensionality #4
{labels}1 group1 12.5 {dimensions} {values}

"""
PARTICLES = """
# version 30001

data_particles

loop_
_rlnImageName #1
_rlnOpticsGroup #2
_rlnAngleRot #3
_rlnAngleTilt #4
_rlnAnglePsi #5
_rlnOriginXAngst #6
{labels}{rows}
"""


@pytest.fixture
def volumes() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, BOX, BOX, BOX)).astype(np.float32)


@pytest.fixture
def folder(make_mrc: Callable[..., Path], volumes: np.ndarray) -> Path:
    """Four volumes whose names are not in the order of the alphabet."""
    paths = [make_mrc(f"sub_{i + 8}.mrc", v, mz=BOX, cella=(75, 75, 75)) for i, v in enumerate(volumes)]
    target = paths[0].parent / "sub"
    target.mkdir()
    for path in paths:
        path.rename(target / path.name)
    (target / "notes.txt").write_text("not a volume")
    return target


@pytest.fixture
def star(folder: Path) -> Callable[..., Path]:
    def make(optics: str = "", values: str = "", labels: str = "", cells: str = "", dimensions: int = 3) -> Path:
        names = [f"sub/sub_{i}.mrc" for i in (11, 8, 9)]
        rows = "".join(f"{name} 1 {10.5 * i} 20 -{i} 2.5 {cells.format(i=i)}\n" for i, name in enumerate(names))
        path = folder.parent / "particles.star"
        text = OPTICS.format(labels=optics, values=values, dimensions=dimensions)
        path.write_text(text + PARTICLES.format(labels=labels, rows=rows))
        return path

    return make


def test_a_folder_in_the_order_of_its_numbers(folder: Path, volumes: np.ndarray) -> None:
    particles = open_particles(folder)
    assert particles.dimensions == 3 and particles.images.shape == (4, BOX, BOX, BOX)
    assert particles.pixel_size == pytest.approx(12.5) and particles.wedge is None
    np.testing.assert_array_equal(particles.read(slice(None)), volumes)
    np.testing.assert_array_equal(particles.read([3, 0, 3]), volumes[[3, 0, 3]])
    assert [Path(name).name for name in particles.table["rlnImageName"]] == [f"sub_{i}.mrc" for i in range(8, 12)]


def test_a_tilt_range_given_on_opening(folder: Path, make_mrc: Callable[..., Path]) -> None:
    assert open_particles(folder, tilt_range=(-50, 60)).wedge == TiltRange(-50, 60)
    images = make_mrc("images.mrcs", np.zeros((3, 8, 8), np.float32))
    with pytest.raises(InputError, match="no tilt range"):
        open_particles(images, tilt_range=(-50, 60))


def test_a_star_file_with_angles_and_pixel_size(star: Callable[..., Path], volumes: np.ndarray) -> None:
    particles = open_particles(star())
    assert particles.dimensions == 3 and particles.box == BOX
    assert particles.pixel_size == 12.5 and particles.wedge is None and particles.ctf is None
    np.testing.assert_array_equal(particles.read(slice(None)), volumes[[3, 0, 1]])
    np.testing.assert_array_equal(particles.table["rlnAngleRot"], [0, 10.5, 21])
    np.testing.assert_array_equal(particles.table["rlnAngleTilt"], 20)


def test_our_tilt_range_in_the_optics_or_the_rows(star: Callable[..., Path]) -> None:
    labels = "_hrmTiltLow\n_hrmTiltHigh\n"
    assert open_particles(star(labels, "-48 54")).wedge == TiltRange(-48, 54)
    assert open_particles(star(labels=labels, cells="-40 60")).wedge == TiltRange(-40, 60)
    with pytest.raises(InputError, match="mixes tilt ranges: 0 to 60 degrees and, in line .*1 to 60"):
        open_particles(star(labels=labels, cells="{i} 60"))


def test_wedge_volumes_of_a_star_file(star: Callable[..., Path], make_mrc: Callable[..., Path]) -> None:
    for i in range(3):
        make_mrc(f"wedge_{i}.mrc", np.full((BOX, BOX, BOX // 2 + 1), 0.25 * (i + 1), np.float32))
    path = star(labels="_rlnCtfImage\n", cells="wedge_{i}.mrc")
    wedge = open_particles(path).wedge
    assert isinstance(wedge, CoverageFiles)
    assert wedge.coverage([2, 0], BOX)[:, 1, 1, 1].tolist() == [0.75, 0.25]
    (path.parent / "wedge_1.mrc").unlink()
    with pytest.raises(InputError, match=r"wedge_1.mrc.*not found.*rlnCtfImage.*tilt range\.$"):
        open_particles(path)


def test_one_wedge_volume_may_serve_all(star: Callable[..., Path], make_mrc: Callable[..., Path]) -> None:
    make_mrc("wedge.mrc", np.ones((BOX, BOX, BOX), np.float32))
    wedge = open_particles(star(labels="_rlnCtfImage\n", cells="wedge.mrc")).wedge
    assert isinstance(wedge, CoverageFiles) and len(wedge.files) == 1
    assert wedge.coverage(slice(None), 4).shape == (3, 4, 4, 3)


def test_tilt_stacks_are_no_volumes(star: Callable[..., Path]) -> None:
    path = star()
    for name in ("sub/sub_11_stack2d.mrcs", "1@sub/sub_11.mrcs"):
        changed = path.with_name("stacks.star")
        changed.write_text(path.read_text().replace("sub/sub_11.mrc", name))
        with pytest.raises(InputError, match="2D tilt stacks.*extract them again"):
            open_particles(changed)
    general = path.with_name("general.star")
    general.write_text("data_general\n\n_rlnTomoSubTomosAre2DStacks 1\n\n" + path.read_text())
    with pytest.raises(InputError, match="2D tilt stacks.*extract them again"):
        open_particles(general)
    general.write_text("data_general\n\n_rlnTomoSubTomosAre2DStacks 0\n\n" + path.read_text())
    assert open_particles(general).dimensions == 3


@pytest.mark.parametrize("count", [1, 4])
def test_a_file_of_several_volumes(make_mrc: Callable[..., Path], volumes: np.ndarray, count: int) -> None:
    stacked = volumes[:count].reshape(-1, BOX, BOX)
    particles = open_particles(make_mrc("stack.mrc", stacked, ispg=401, mz=BOX, cella=(75, 75, 75)))
    assert particles.images.shape == (count, BOX, BOX, BOX) and particles.pixel_size == pytest.approx(12.5)
    np.testing.assert_array_equal(particles.read(slice(None)), volumes[:count])


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_of_several_volumes(tmp_path: Path, volumes: np.ndarray, compression: str | None) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, volumes, compression=compression, photometric="minisblack")
    np.testing.assert_array_equal(open_particles(path).read([2, 1]), volumes[[2, 1]])


def test_real_subtomograms(shared_data: Path) -> None:
    particles = open_particles(shared_data / "poses3d")
    assert particles.dimensions == 3 and particles.box == 64 and len(particles) >= 8
    assert np.isfinite(particles.read([0])).all()


def test_what_does_not_fit_together(folder: Path, make_mrc: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="looks like a volume of 6 x 6 x 6 voxels"):
        open_particles(folder / "sub_8.mrc")
    other = make_mrc("sub_99.mrc", np.zeros((8, 8, 8), np.float32))
    other.rename(folder / other.name)
    with pytest.raises(InputError, match=r"mixes box sizes: 6 voxels in .*sub_8.mrc and 8 in .*sub_99.mrc"):
        open_particles(folder)
    (folder / other.name).unlink()
    flat = make_mrc("sub_99.mrc", np.zeros((4, 6, 6), np.float32))
    flat.rename(folder / flat.name)
    with pytest.raises(InputError, match="6 x 6 x 4 voxels; a subtomogram is a cube"):
        open_particles(folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="directory"):
        open_particles(empty)


def test_voxel_sizes_that_differ_are_told(folder: Path, make_mrc: Callable[..., Path]) -> None:
    other = make_mrc("sub_99.mrc", np.zeros((BOX, BOX, BOX), np.float32), cella=(60, 60, 60))
    other.rename(folder / other.name)
    with pytest.warns(InputWarning, match="voxel sizes from 10 to 12.5"):
        assert not open_particles(folder).pixel_size_known


def test_arrays(volumes: np.ndarray) -> None:
    particles = Particles(ArrayVolumes(volumes), table=open_particles_table(4), pixel_size=10.0)
    assert particles.dimensions == 3 and particles.box == BOX
    np.testing.assert_array_equal(particles.read(np.array([False, True, False, True])), volumes[[1, 3]])
    for wrong in (volumes[0], volumes[:, :3], volumes.astype(complex), volumes[:0]):
        with pytest.raises(InputError):
            ArrayVolumes(wrong)


def open_particles_table(count: int) -> object:
    import pandas as pd

    return pd.DataFrame(index=pd.RangeIndex(count))


def test_voxels_that_are_no_numbers_are_counted(volumes: np.ndarray) -> None:
    volumes[1, 0, 0, :2] = np.nan
    volumes[3, 2, 2, 2] = np.inf
    particles = Particles(ArrayVolumes(volumes), table=open_particles_table(4), pixel_size=1.0)
    assert list(count_not_finite(particles)) == [(0, 0), (1, 2), (2, 0), (3, 1)]
