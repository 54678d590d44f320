"""RELION's own programs read what we write."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from napari_harmony.particles.mrc import write_stack
from napari_harmony.particles.open import open_particles
from napari_harmony.particles.relion import write_relion


@pytest.fixture
def results() -> dict[str, np.ndarray]:
    """Columns as a run on five particles gives them."""
    return {
        "rlnClassNumber": np.array([1, 2, 1, 2, 0]),
        "rlnAnglePsi": np.array([0.0, 90.0, 180.0, 270.0, 0.0]),
        "rlnOriginXAngst": np.array([0.0, 1.5, -3.0, 0.0, 0.0]),
        "rlnOriginYAngst": np.array([0.0, 0.0, 4.5, -1.5, 0.0]),
        "hrmFlags": np.array(["none", "none", "none", "none", "junk,constant"], dtype=object),
    }


def run(folder: Path, program: str, *arguments: str) -> str:
    """Output of a RELION program, which must succeed."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def blobs() -> np.ndarray:
    """Five images of 16 x 16 pixels."""
    return np.random.default_rng(3).normal(size=(5, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("name", ["a.mrcs", "a.mrc"])
def test_new_files_of_bare_stacks(tmp_path: Path, blobs: np.ndarray, results: dict[str, np.ndarray], name: str) -> None:
    write_stack(tmp_path / name, blobs, 1.5)
    write_relion(tmp_path / "x.star", open_particles(tmp_path / name), results, rows=[4, 2, 1])
    printed = run(tmp_path, "relion_star_printtable", "x.star", "data_particles", "rlnAnglePsi", "hrmFlags")
    assert [line.split() for line in printed.strip().splitlines()] == [
        ["0.000000", "junk,constant"],
        ["180.000000", "none"],
        ["90.000000", "none"],
    ]
    run(tmp_path, "relion_stack_create", "--i", "x.star", "--o", "made")
    with mrcfile.open(tmp_path / "made.mrcs") as mrc:
        np.testing.assert_array_equal(mrc.data, blobs[[4, 2, 1]])


def test_origins_and_angles_are_applied_as_we_mean_them(
    tmp_path: Path, blobs: np.ndarray, results: dict[str, np.ndarray]
) -> None:
    write_stack(tmp_path / "a.mrcs", blobs, 1.5)
    write_relion(tmp_path / "x.star", open_particles(tmp_path / "a.mrcs"), results)
    run(tmp_path, "relion_stack_create", "--i", "x.star", "--o", "made", "--apply_transformation")
    with mrcfile.open(tmp_path / "made.mrcs") as mrc:
        made = mrc.data
    rows, columns = np.mgrid[4:13, 4:13]
    # psi 180 and t = (-2, 3) in pixels: x_ref = -(x - c + t) + c, so x = 2 c - x_ref - t
    np.testing.assert_allclose(made[2][rows, columns], blobs[2][16 - rows - 3, 16 - columns + 2], atol=1e-4)
    # psi 90 and t = (1, 0): (x_ref, y_ref) - c = (-(y - c), x - c + 1)
    np.testing.assert_allclose(made[1][rows, columns], blobs[1][16 - columns, rows - 1], atol=1e-4)


def test_images_written_beside_a_file(tmp_path: Path, blobs: np.ndarray, results: dict[str, np.ndarray]) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "a.tif", blobs, photometric="minisblack")
    write_relion(tmp_path / "x.star", open_particles(tmp_path / "a.tif", pixel_size=1.5), results)
    run(tmp_path, "relion_stack_create", "--i", "x.star", "--o", "made")
    with mrcfile.open(tmp_path / "made.mrcs") as mrc:
        np.testing.assert_array_equal(mrc.data, blobs)


@pytest.mark.parametrize("name", ["sample_particles_relion31.star", "sample_particles_relion30.star"])
def test_real_files_with_results(shared_data: Path, tmp_path: Path, name: str) -> None:
    particles = open_particles(shared_data / "real2d" / name)
    psi = np.linspace(-180, 160, len(particles))
    columns = {"rlnAnglePsi": psi, "rlnOriginXAngst": np.full(len(particles), particles.pixel_size), "hrmScore": psi}
    out = write_relion(tmp_path / "x.star", particles, columns)
    block = "data_particles" if "31" in name else "data_model_class_1"
    printed = run(tmp_path, "relion_star_printtable", "x.star", block, "rlnAnglePsi", "hrmScore", "rlnImageName")
    table = [line.split() for line in printed.strip().splitlines()]
    np.testing.assert_allclose([float(row[0]) for row in table], psi, atol=1e-6)
    np.testing.assert_allclose([float(row[1]) for row in table], psi, atol=1e-6)
    assert [row[2] for row in table] == [f"{i:06d}@sample.mrcs" for i in range(1, 18)]
    if "31" not in name:
        assert np.allclose(open_particles(out).table["rlnOriginX"], 1.0)
        return
    # RELION starts paths from where it runs, as it did for the file that came in
    shutil.copy(shared_data / "real2d" / "sample.mrcs", tmp_path)
    run(tmp_path, "relion_stack_create", "--i", "x.star", "--o", "made")
    with mrcfile.open(tmp_path / "made.mrcs", permissive=True) as mrc:
        np.testing.assert_allclose(mrc.data, particles.read(slice(None)), rtol=1e-6)
