"""``--format relion``: what RELION itself makes of the files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from fake_run import BOX, PIXEL_SIZE, make_result

from napari_harmony.outputs import names, write_output
from napari_harmony.particles import open_particles
from napari_harmony.particles.mrc import mrc_images, write_stack
from napari_harmony.particles.star import read_star
from napari_harmony.results import Result

DATA, MODEL, OPTIMISER, CLASSES = names.RELION_JOB


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Result]:
    """A finished run below the current folder, as in a RELION project."""
    monkeypatch.chdir(tmp_path)
    write_stack(tmp_path / "stack.mrcs", np.random.default_rng(0).normal(size=(12, BOX, BOX)), PIXEL_SIZE)
    particles = open_particles(tmp_path / "stack.mrcs")
    result = make_result(particles)
    return write_output(Path("Class2D/job001"), particles, result, relion_job=True), result


def test_files_refer_to_each_other_as_relion_started_here_sees_them(job: tuple[Path, Result]) -> None:
    folder, result = job
    optimiser = read_star(folder / OPTIMISER).table("optimiser_general")
    assert optimiser is not None
    assert optimiser.texts("rlnModelStarFile") == [f"Class2D/job001/{MODEL}"]
    assert optimiser.texts("rlnExperimentalDataStarFile") == [f"Class2D/job001/{DATA}"]
    classes = read_star(folder / MODEL).table("model_classes")
    assert classes is not None
    references = classes.texts("rlnReferenceImage")
    assert references == [f"{number:06d}@Class2D/job001/{CLASSES}" for number in (1, 2, 3)]
    assert Path(references[0].partition("@")[2]).is_file()
    np.testing.assert_allclose(classes.numbers("rlnClassDistribution"), result.counts / 11, atol=1e-6)
    assert classes.numbers("rlnEstimatedResolution").tolist() == [12.5, 12.5, 999.0]
    np.testing.assert_array_equal(mrc_images(folder / CLASSES).read(slice(None)), result.averages)


def test_paths_are_absolute_outside_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stack(tmp_path / "stack.mrcs", np.zeros((12, BOX, BOX)), PIXEL_SIZE)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    particles = open_particles(tmp_path / "stack.mrcs")
    folder = write_output(tmp_path / "out", particles, make_result(particles), relion_job=True)
    table = read_star(folder / OPTIMISER).table("optimiser_general")
    assert table is not None and table.texts("rlnModelStarFile") == [str(tmp_path / "out" / MODEL)]


def relion(program: str, *arguments: object) -> str:
    """What one of RELION's programs prints."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_relion_prints_the_classes(job: tuple[Path, Result]) -> None:
    folder, _ = job
    printed = relion("relion_star_printtable", folder / MODEL, "data_model_classes", "rlnReferenceImage")
    assert printed.split() == [f"{number:06d}@Class2D/job001/{CLASSES}" for number in (1, 2, 3)]


def test_relion_classifies_what_we_write_and_names_its_own_results_alike(job: tuple[Path, Result]) -> None:
    folder, result = job
    Path("theirs").mkdir()
    options = "--K 2 --iter 1 --particle_diameter 30 --psi_step 60 --offset_range 2 --offset_step 2 --norm --scale"
    relion("relion_refine", "--i", folder / DATA, "--o", "theirs/run", *options.split())
    theirs, ours = read_star("theirs/run_it001_model.star"), read_star(folder / MODEL)
    for block, same in (("model_general", False), ("model_classes", True)):
        own, other = ours.table(block), theirs.table(block)
        assert own is not None and other is not None
        assert own.is_loop == other.is_loop
        assert own.labels == other.labels if same else set(own.labels) <= set(other.labels)
    optimiser = read_star("theirs/run_it001_optimiser.star").table("optimiser_general")
    assert optimiser is not None
    assert set(read_star(folder / OPTIMISER).tables[0].labels) <= set(optimiser.labels)
    kept = read_star("theirs/run_it001_data.star").table("particles")
    assert kept is not None
    np.testing.assert_allclose(kept.numbers("hrmScale"), result.table["scale"], atol=1e-5)


def test_relion_selects_the_particles_of_a_class(job: tuple[Path, Result]) -> None:
    folder, result = job
    chosen = ("--select", "rlnClassNumber", "--minval", 2, "--maxval", 2)
    relion("relion_star_handler", "--i", folder / DATA, "--o", "selected.star", *chosen)
    selected = open_particles(Path("selected.star"))
    members = result.members(2)
    names_of = [name.partition("@")[0] for name in selected.table["rlnImageName"]]
    assert names_of == [f"{row + 1:06d}" for row in members]
    np.testing.assert_allclose(selected.table["rlnAnglePsi"], result.table["psi"].iloc[members], atol=1e-4)
