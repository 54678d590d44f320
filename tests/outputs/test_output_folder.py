"""The OUT folder: complete, restored as it was, and never half written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
from fake_run import BOX, PIXEL_SIZE, FakeModel, make_result

from napari_harmony.engine.settings import Settings
from napari_harmony.errors import InputError
from napari_harmony.outputs import check_target, is_output, load_output, names, write_output
from napari_harmony.outputs.staging import staged
from napari_harmony.particles import open_particles
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.mrc import write_stack

DIALECTS = {
    "3.0": "_rlnOriginX #2\n_rlnOriginY #3\n_rlnMagnification #4\n_rlnDetectorPixelSize #5\n_myOwn #6\n",
    "3.1": "_rlnOriginXAngst #2\n_rlnOriginYAngst #3\n_rlnOpticsGroup #4\n_myOwn #5\n",
}


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    images = np.random.default_rng(0).normal(size=(12, BOX, BOX)).astype(np.float32)
    (tmp_path / "in").mkdir()
    write_stack(tmp_path / "in" / "stack.mrcs", images, PIXEL_SIZE)
    return tmp_path / "in" / "stack.mrcs"


def star_file(stack: Path, dialect: str) -> Path:
    optics = (
        "" if dialect == "3.0" else f"data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n1 {PIXEL_SIZE}\n\n"
    )
    middle = "9.0 9.0 4000 1.0" if dialect == "3.0" else "9.0 9.0 1"
    rows = "".join(f"{i + 1:06d}@stack.mrcs {middle} word{i}\n" for i in range(12))
    text = f"{optics}data_particles\n\nloop_\n_rlnImageName #1\n{DIALECTS[dialect]}{rows}\n"
    path = stack.with_name(f"input_{dialect}.star")
    path.write_text(text)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same_table(read: pd.DataFrame, written: pd.DataFrame) -> None:
    assert list(read.columns) == list(written.columns)
    assert read["flags"].tolist() == written["flags"].tolist()
    numbers = written.drop(columns="flags").astype(float)
    for name in ("psi", "origin_x", "origin_y", "class_probability"):
        numbers[name] = numbers[name].fillna(0.0)  # RELION cannot read nan, so its own columns hold 0
    np.testing.assert_allclose(read.drop(columns="flags").astype(float), numbers, atol=2e-6)


@pytest.mark.parametrize("kind", ["3.0", "3.1", "stack"])
def test_result_comes_back_from_the_folder_alone(stack: Path, tmp_path: Path, kind: str) -> None:
    source = stack if kind == "stack" else star_file(stack, kind)
    particles = open_particles(source)
    assert particles.pixel_size == pytest.approx(PIXEL_SIZE)
    result = make_result(particles)
    out = write_output(tmp_path / "out", particles, result, model=FakeModel(), settings=Settings(seed=3))
    stack.rename(tmp_path / "moved.mrcs")
    read = load_output(out)
    assert_same_table(read.table, result.table)
    np.testing.assert_array_equal(read.averages, result.averages)
    np.testing.assert_allclose(read.frc, result.frc, rtol=1e-6)
    np.testing.assert_allclose(read.frc_floor, result.frc_floor, rtol=1e-6)
    np.testing.assert_allclose(read.frc_frequency, result.frc_frequency, rtol=1e-6)
    np.testing.assert_array_equal(read.resolution, result.resolution)
    assert read.pixel_size == result.pixel_size and read.average_pixel_size == result.average_pixel_size
    assert read.half_averages is None
    assert read.summary == json.loads((out / names.SUMMARY).read_text())


def test_half_set_averages_are_kept_where_there_are_any(stack: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    particles = open_particles(stack)
    halves = np.random.default_rng(1).normal(size=(2, 3, BOX, BOX)).astype(np.float32)
    result = replace(make_result(particles), half_averages=halves)
    read = load_output(write_output(tmp_path / "out", particles, result))
    np.testing.assert_array_equal(read.half_averages, halves)


@pytest.mark.parametrize("dialect", ["3.0", "3.1"])
def test_rows_keep_order_and_unknown_columns_and_the_dialect_of_the_input(
    stack: Path, tmp_path: Path, dialect: str
) -> None:
    particles = open_particles(star_file(stack, dialect))
    result = make_result(particles)
    out = write_output(tmp_path / "out", particles, result)
    written = open_particles(out / names.PARTICLES)
    assert written.table["myOwn"].tolist() == [f"word{i}" for i in range(12)]
    label, unit = ("rlnOriginX", 1.0) if dialect == "3.0" else ("rlnOriginXAngst", PIXEL_SIZE)
    expected = result.table["origin_x"].fillna(0.0) * unit
    np.testing.assert_allclose(written.table[label], expected, atol=1e-6)
    assert ("rlnOriginXAngst" in written.table) == (dialect == "3.1")
    assert written.table["rlnClassNumber"].tolist() == result.table["class_number"].tolist()
    np.testing.assert_array_equal(written.read([0, 11]), particles.read([0, 11]))


def test_origins_survive_a_pixel_size_that_the_user_overrides(stack: Path, tmp_path: Path) -> None:
    particles = open_particles(star_file(stack, "3.1"), pixel_size=2 * PIXEL_SIZE)
    result = make_result(particles)
    read = load_output(write_output(tmp_path / "out", particles, result))
    assert read.pixel_size == 2 * PIXEL_SIZE
    assert_same_table(read.table, result.table)


def test_content_columns_of_an_earlier_run_are_not_taken_for_this_ones(stack: Path, tmp_path: Path) -> None:
    particles = open_particles(stack)
    first = write_output(tmp_path / "first", particles, make_result(particles, content=6))
    again = open_particles(first / names.PARTICLES)
    read = load_output(write_output(tmp_path / "second", again, make_result(again, content=2)))
    assert read.content.shape == (12, 2)


def test_summary_counts_and_has_no_nan(stack: Path, tmp_path: Path) -> None:
    particles = open_particles(stack)
    result = make_result(particles)
    out = write_output(tmp_path / "out", particles, result, settings=Settings(seed=3))
    text = (out / names.SUMMARY).read_text()
    summary = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert summary["input"] == str(stack)
    assert summary["seed"] == 3 and summary["parameters"]["preset"] == "balanced"
    assert (summary["particles_in"], summary["particles_out"], summary["particles_flagged"]) == (12, 11, 2)
    assert summary["flags"] == {"not-finite": 1, "junk": 1, "shift-bound": 1}
    assert summary["classes"] == 3 and summary["particles_per_class"] == [4, 3, 4]
    assert summary["resolution_per_class"] == [12.5, 12.5, None]
    assert summary["versions"]["numpy"] == np.__version__
    assert summary["seconds"] == {"search": 1.25}


def test_averages_carry_their_pixel_size(stack: Path, tmp_path: Path) -> None:
    particles = open_particles(stack)
    out = write_output(tmp_path / "out", particles, make_result(particles))
    with mrcfile.open(out / names.AVERAGES) as file:
        assert file.data.shape == (3, BOX, BOX)
        assert float(file.voxel_size.x) == pytest.approx(PIXEL_SIZE)


def test_unknown_pixel_size_is_a_warning_of_the_run(tmp_path: Path) -> None:
    from napari_harmony.particles.images import ArrayImages

    images = ArrayImages(np.zeros((12, BOX, BOX), np.float32))
    particles = Particles(images, pd.DataFrame(index=pd.RangeIndex(12)), 1.0, pixel_size_known=False)
    out = write_output(tmp_path / "out", particles, make_result(particles))
    assert "pixel size is unknown" in load_output(out).warnings[0]
    assert "The pixel size is unknown" in (out / names.REPORT).read_text()


def test_images_that_only_exist_in_memory_are_written_beside_their_table(tmp_path: Path) -> None:
    from napari_harmony.particles.images import ArrayImages

    array = np.random.default_rng(0).normal(size=(12, BOX, BOX)).astype(np.float32)
    particles = Particles(ArrayImages(array), pd.DataFrame(index=pd.RangeIndex(12)), PIXEL_SIZE)
    out = write_output(tmp_path / "out", particles, make_result(particles), relion_job=True)
    for table in (names.PARTICLES, names.RELION_JOB[0]):
        np.testing.assert_array_equal(open_particles(out / table).read(slice(None)), array)


def test_a_result_of_no_classes_comes_back(stack: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    particles = open_particles(stack)
    result = make_result(particles)
    none = np.empty((0, 8), np.float32)
    result = replace(
        result.with_table(result.table.assign(class_number=0)),
        averages=np.empty((0, BOX, BOX), np.float32),
        frc=none,
        frc_floor=none,
        resolution=np.empty(0, np.float32),
    )
    read = load_output(write_output(tmp_path / "out", particles, result))
    assert read.classes == 0 and len(read) == 12


def test_a_new_run_replaces_the_files_of_the_old_one_and_nothing_else(stack: Path, tmp_path: Path) -> None:
    particles = open_particles(stack)
    out = write_output(tmp_path / "out", particles, make_result(particles), model=FakeModel(), relion_job=True)
    (out / "notes.txt").write_text("mine")
    (out / names.CHECKPOINT).mkdir()
    (out / names.CHECKPOINT / "state").write_text("state")
    assert (out / names.RELION_JOB[0]).exists()
    write_output(out, particles, make_result(particles, classes=2))
    assert load_output(out).classes == 2
    assert not any((out / name).exists() for name in (*names.RELION_JOB, *names.MODEL))
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / names.CHECKPOINT / "state").read_text() == "state"


def test_a_failure_while_writing_leaves_the_earlier_run_as_it_was(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    particles = open_particles(stack)
    out = write_output(tmp_path / "out", particles, make_result(particles))
    before = contents(tmp_path)

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_harmony.outputs.folder.write_summary", fail)
    with pytest.raises(OSError, match="No space left"):
        write_output(out, particles, make_result(particles, classes=2))
    assert contents(tmp_path) == before
    with pytest.raises(OSError, match="No space left"):
        write_output(tmp_path / "a" / "b", particles, make_result(particles))
    assert contents(tmp_path) == before
    assert not (tmp_path / "a").exists()


def test_a_failure_while_files_are_moved_puts_everything_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_text(f"old {name}")
    real, moves = os.replace, []

    def replace(source: Path, target: Path) -> None:
        moves.append(Path(target).name)
        if moves[-1] == "b" and moves.count("b") == 2:  # once into safety, then again when the new one should come
            raise OSError(5, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="Input/output"), staged(folder, ("a", "b", "c")) as stage:
        for name in ("a", "b", "d"):
            (stage / name).write_text(f"new {name}")
    assert contents(folder) == {name: f"old {name}".encode() for name in ("a", "b", "c")}


def test_targets_that_cannot_be_written_or_would_destroy_something_are_refused(stack: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"stack.mrcs: this is a file"):
        check_target(stack)
    with pytest.raises(InputError, match=r"stack.mrcs: this is a file, so the folder .*deeper cannot be made"):
        check_target(stack / "deeper")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "particles.star").write_text("data_\n")
    with pytest.raises(InputError, match=r"particles.star: this file is not from napari-harmony"):
        check_target(foreign)
    out = write_output(tmp_path / "out", open_particles(stack), make_result(open_particles(stack)))
    check_target(out)
    with pytest.raises(InputError, match="would overwrite this input"):
        check_target(out, [out / names.PARTICLES])
    (out / names.REPORT).unlink()
    (out / names.REPORT).mkdir()
    with pytest.raises(InputError, match=r"report.html: this is not a file"):
        check_target(out)


def test_result_of_other_particles_is_refused(stack: Path, tmp_path: Path) -> None:
    particles = open_particles(stack)
    result = make_result(particles)
    with pytest.raises(InputError, match="the result has 5 rows, but the input 12 particles"):
        write_output(tmp_path / "out", particles, result.with_table(result.table.head(5)))
    assert not (tmp_path / "out").exists()


class TestDamagedFolders:
    """What an OUT folder can have lost, each in one clear sentence."""

    @pytest.fixture
    def out(self, stack: Path, tmp_path: Path) -> Path:
        particles = open_particles(stack)
        return write_output(tmp_path / "out", particles, make_result(particles))

    @pytest.mark.parametrize("name", [names.SUMMARY, names.PARTICLES, names.FRC])
    def test_missing_file(self, out: Path, name: str) -> None:
        (out / name).unlink()
        assert not is_output(out)
        with pytest.raises(InputError, match=f"it has no {name}"):
            load_output(out)

    def test_missing_averages(self, out: Path) -> None:
        (out / names.AVERAGES).unlink()
        with pytest.raises(InputError, match=names.AVERAGES):
            load_output(out)

    def test_broken_summary(self, out: Path) -> None:
        (out / names.SUMMARY).write_text("{")
        with pytest.raises(InputError, match="not valid JSON"):
            load_output(out)
        (out / names.SUMMARY).write_text("[]")
        with pytest.raises(InputError, match="not the summary"):
            load_output(out)

    @pytest.mark.parametrize(
        ("label", "sentence"),
        [("hrmPsiSpread", "column hrmPsiSpread is missing"), ("hrmContent3", "column hrmContent3 is missing")],
    )
    def test_missing_column(self, out: Path, label: str, sentence: str) -> None:
        path = out / names.PARTICLES
        path.write_text(path.read_text().replace(label, "hrmOther"))
        with pytest.raises(InputError, match=sentence):
            load_output(out)

    def test_value_that_is_no_number(self, out: Path) -> None:
        path = out / names.PARTICLES
        lines = path.read_text().splitlines()
        row = next(i for i, line in enumerate(lines) if "000003@" in line)
        spread = 1 + next(int(line.split("#")[1]) for line in lines if line.startswith("_hrmScale")) - 2
        lines[row] = " ".join([*lines[row].split()[:spread], "large", *lines[row].split()[spread + 1 :]])
        path.write_text("\n".join(lines) + "\n")
        with pytest.raises(InputError, match="hrmScale is 'large', which is not a number"):
            load_output(out)

    def test_averages_of_another_run(self, out: Path) -> None:
        write_stack(out / names.AVERAGES, np.zeros((7, BOX, BOX), np.float32), PIXEL_SIZE)
        with pytest.raises(InputError, match="it holds 7 classes"):
            load_output(out)
