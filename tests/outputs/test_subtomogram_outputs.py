"""Results on subtomograms: the OUT folder, its restoration, and the tables of RELION and Dynamo."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
from fake_run import FakeModel, make_result

from napari_harmony.analysis.fsc import masked_fsc
from napari_harmony.errors import InputError
from napari_harmony.outputs import check_target, export_table, load_output, names, write_output
from napari_harmony.particles import open_particles
from napari_harmony.particles.coordinates import read_coordinates
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.euler import angular_distance, quaternion_to_matrix, relion_to_matrix
from napari_harmony.particles.mrc import write_volume
from napari_harmony.particles.star import read_star
from napari_harmony.particles.tomogram import open_volume
from napari_harmony.particles.volumes import ArrayVolumes
from napari_harmony.particles.wedge import TiltRange
from napari_harmony.results import COLUMNS_3D, Result

BOX, COUNT, VOXEL, BINNING = 6, 8, 10.0, 4.0
ANGLES = ["rot", "tilt", "psi"]
ORIGINS = ["origin_x", "origin_y", "origin_z"]
CENTRES = np.arange(3 * COUNT).reshape(COUNT, 3) * 7.0 + 40


def star_text(folder: Path, coordinates: bool, rows: int = COUNT) -> str:
    optics = (
        "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n_rlnImageSize\n_rlnImageDimensionality\n"
        f"_rlnTomoTiltSeriesPixelSize\n_hrmTiltLow\n_hrmTiltHigh\n1 {VOXEL} {BOX} 3 {VOXEL / BINNING} -60 60\n\n"
    )
    labels = ["rlnTomoName", "rlnImageName", "rlnOpticsGroup", "rlnOriginXAngst", "myOwn"]
    labels += [f"rlnCoordinate{axis}" for axis in "XYZ"] if coordinates else []
    text = f"{optics}data_particles\n\nloop_\n" + "".join(f"_{label}\n" for label in labels)
    for row in range(rows):
        place = " ".join(f"{value:.1f}" for value in CENTRES[row]) if coordinates else ""
        text += f"TS_{row % 2 + 1:02d} {folder / f'{row}.mrc'} 1 99.0 word{row} {place}\n"
    return text + "\n"


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    folder = tmp_path / "volumes"
    folder.mkdir()
    for row, volume in enumerate(np.random.default_rng(0).normal(size=(COUNT, BOX, BOX, BOX))):
        write_volume(folder / f"{row}.mrc", volume, VOXEL)
    return folder


@pytest.fixture(params=[True, False], ids=["coordinates", "no coordinates"])
def particles(volumes: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Particles:
    (tmp_path / "in.star").write_text(star_text(volumes, request.param))
    return open_particles(tmp_path / "in.star")


def with_halves(result: Result) -> Result:
    halves = np.random.default_rng(1).normal(size=(2, *result.averages.shape)).astype(np.float32)
    return replace(result, half_averages=halves)


def turned(table: pd.DataFrame) -> np.ndarray:
    return relion_to_matrix(table[ANGLES].fillna(0.0).to_numpy())


def assert_same(read: Result, written: Result) -> None:
    assert read.dimensions == 3
    assert list(read.table.columns) == list(written.table.columns)
    assert list(read.table.columns[: len(COLUMNS_3D)]) == list(COLUMNS_3D)
    assert angular_distance(turned(read.table), turned(written.table)).max() < 1e-3
    relion = [*ANGLES, *ORIGINS, "class_probability"]  # no nan is written where RELION reads
    expected = written.table.drop(columns="flags").astype(float).fillna(dict.fromkeys(relion, 0.0))
    np.testing.assert_allclose(read.table.drop(columns="flags").astype(float), expected, atol=2e-6)
    assert read.table["flags"].tolist() == written.table["flags"].tolist()
    np.testing.assert_array_equal(read.averages, written.averages)
    np.testing.assert_allclose(read.frc, written.frc, rtol=1e-6)
    np.testing.assert_allclose(read.frc_floor, written.frc_floor, rtol=1e-6)
    np.testing.assert_array_equal(read.resolution, written.resolution)


def test_result_comes_back_from_the_folder_alone(particles: Particles, volumes: Path, tmp_path: Path) -> None:
    result = with_halves(make_result(particles))
    out = write_output(tmp_path / "out", particles, result, model=FakeModel())
    volumes.rename(tmp_path / "moved")
    read = load_output(out)
    assert_same(read, result)
    assert read.half_averages is not None
    np.testing.assert_array_equal(read.half_averages, result.half_averages)
    assert json.loads((out / names.SUMMARY).read_text())["dimensions"] == 3
    assert (out / names.FRC).read_text().startswith("class_number,frequency,fsc,noise_floor\n")


def test_the_rows_of_the_input_stay_and_can_be_opened_again(particles: Particles, tmp_path: Path) -> None:
    result = make_result(particles)
    out = write_output(tmp_path / "out", particles, result)
    written = open_particles(out / names.PARTICLES)
    assert written.dimensions == 3
    assert isinstance(written.wedge, TiltRange)
    for label in particles.table.columns.drop("rlnOriginXAngst"):
        assert written.table[label].tolist() == particles.table[label].tolist()
    expected = result.table[ORIGINS].fillna(0.0).to_numpy() * VOXEL
    np.testing.assert_allclose(written.table[[f"rlnOrigin{a}Angst" for a in "XYZ"]], expected, atol=1e-6)
    np.testing.assert_allclose(written.table["rlnAngleTilt"], result.table["tilt"], atol=1e-6)
    np.testing.assert_allclose(written.table["hrmAngleSpread"], result.table["angle_spread"], atol=1e-6)
    np.testing.assert_array_equal(written.read([0, 7]), particles.read([0, 7]))


def test_every_class_is_a_volume_of_its_own(particles: Particles, tmp_path: Path) -> None:
    result = with_halves(make_result(particles))
    out = write_output(tmp_path / "out", particles, result)
    assert not (out / names.AVERAGES).exists()
    for number in (1, 2, 3):
        with mrcfile.open(out / f"class_{number:03d}.mrc") as file:
            assert file.is_volume() and file.header.ispg == 1
            assert float(file.voxel_size.z) == pytest.approx(VOXEL)
            np.testing.assert_array_equal(file.data, result.averages[number - 1])
        with mrcfile.open(out / f"class_{number:03d}_half2.mrc") as file:
            np.testing.assert_array_equal(file.data, result.half_averages[1, number - 1])


def test_a_run_of_fewer_classes_leaves_none_of_the_earlier_ones(particles: Particles, tmp_path: Path) -> None:
    out = write_output(tmp_path / "out", particles, with_halves(make_result(particles, classes=3)), relion_job=True)
    assert {"class_003.mrc", "run_it025_class003.mrc"} <= set(names.volumes_in(out))
    write_output(out, particles, make_result(particles, classes=2))
    assert names.volumes_in(out) == ("class_001.mrc", "class_002.mrc")
    read = load_output(out)
    assert read.classes == 2 and read.half_averages is None


def test_volumes_of_somebody_else_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "class_001.mrc").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"class_001.mrc: this file is not from napari-harmony"):
        check_target(tmp_path)


def test_volumes_in_memory_are_written_beside_their_table_each_time(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(COUNT, BOX, BOX, BOX)).astype(np.float32)
    particles = Particles(ArrayVolumes(array), pd.DataFrame(index=pd.RangeIndex(COUNT)), VOXEL)
    for _ in range(2):
        result = make_result(particles)
        out = write_output(tmp_path / "out", particles, result)
        np.testing.assert_array_equal(open_particles(out / names.PARTICLES).read(slice(None)), array)
        assert_same(load_output(out), result)


def test_a_failure_leaves_volumes_of_the_earlier_run_where_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.random.default_rng(0).normal(size=(COUNT, BOX, BOX, BOX)).astype(np.float32)
    particles = Particles(ArrayVolumes(array), pd.DataFrame(index=pd.RangeIndex(COUNT)), VOXEL)
    out = write_output(tmp_path / "out", particles, make_result(particles))
    before = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_harmony.outputs.folder.write_summary", fail)
    with pytest.raises(OSError, match="No space left"):
        write_output(out, particles, make_result(particles, classes=2))
    assert before == {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_result_of_no_classes_comes_back(particles: Particles, tmp_path: Path) -> None:
    result = make_result(particles)
    none = np.empty((0, 4), np.float32)
    result = replace(
        result.with_table(result.table.assign(class_number=0)),
        averages=np.empty((0, BOX, BOX, BOX), np.float32),
        frc=none,
        frc_floor=none,
        resolution=np.empty(0, np.float32),
    )
    read = load_output(write_output(tmp_path / "out", particles, result))
    assert read.classes == 0 and read.dimensions == 3 and len(read) == COUNT


def test_a_missing_class_is_named(particles: Particles, tmp_path: Path) -> None:
    out = write_output(tmp_path / "out", particles, make_result(particles))
    (out / "class_002.mrc").unlink()
    with pytest.raises(InputError, match="class_002.mrc"):
        load_output(out)


def test_relions_own_names_are_of_three_dimensions(particles: Particles, tmp_path: Path) -> None:
    starfile = pytest.importorskip("starfile")
    out = write_output(tmp_path / "out", particles, make_result(particles), relion_job=True)
    model = starfile.read(out / "run_it025_model.star")
    assert int(model["model_general"]["rlnReferenceDimensionality"]) == 3
    assert [Path(name).name for name in model["model_classes"]["rlnReferenceImage"]] == [
        f"run_it025_class{number:03d}.mrc" for number in (1, 2, 3)
    ]
    assert all((out / f"run_it025_class{number:03d}.mrc").is_file() for number in (1, 2, 3))


def test_star_and_dynamo_give_the_same_poses_back(particles: Particles, tmp_path: Path) -> None:
    result = make_result(particles)
    rows = [6, 0, 3]
    export_table(tmp_path / "some.star", particles, result, rows=rows)
    export_table(tmp_path / "some.tbl", particles, result, rows=rows)
    table = result.table.iloc[sorted(rows)]
    star = open_particles(tmp_path / "some.star").table
    angles = star[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy()
    assert angular_distance(relion_to_matrix(angles), turned(table)).max() < 1e-3
    dynamo = read_coordinates(tmp_path / "some.tbl")
    assert angular_distance(quaternion_to_matrix(dynamo.rotation), turned(table)).max() < 1e-3
    assert dynamo.table["tag"].tolist() == [1, 4, 7]
    assert dynamo.table["class"].tolist() == table["class_number"].tolist()
    np.testing.assert_allclose(dynamo.table["cc"], table["score"], rtol=1e-6)
    assert dynamo.table["ymintilt"].tolist() == [-60.0] * 3
    shift = table[ORIGINS].to_numpy()
    if "rlnCoordinateX" in particles.table:
        np.testing.assert_array_equal(dynamo.table[["x", "y", "z"]] - 1, CENTRES[sorted(rows)])
        np.testing.assert_allclose(dynamo.positions, CENTRES[sorted(rows)] - shift * BINNING, atol=1e-4)
        assert dynamo.pixel_size == VOXEL / BINNING
        again = read_coordinates(tmp_path / "some.star")
        np.testing.assert_allclose(again.positions, dynamo.positions, atol=1e-4)
        assert dynamo.table["tomo"].tolist() == [1, 2, 1]
    else:
        np.testing.assert_allclose(dynamo.table[["dx", "dy", "dz"]], -shift, atol=1e-6)


def test_formats_of_the_other_dimension_are_refused(particles: Particles, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cryoSPARC has no files of subtomograms"):
        export_table(tmp_path / "a.cs", particles, make_result(particles))
    images = replace(make_result(particles), averages=np.zeros((3, BOX, BOX), np.float32))
    with pytest.raises(InputError, match="a table of Dynamo describes subtomograms"):
        export_table(tmp_path / "a.tbl", particles, images)
    assert not list(tmp_path.glob("a.*"))


def test_masked_curves_are_written_with_the_labels_of_relion(particles: Particles, tmp_path: Path) -> None:
    result = with_halves(make_result(particles))
    shape = np.indices(result.averages.shape[1:]) - result.averages.shape[1] // 2
    ball = ((shape**2).sum(0) < 3).astype(np.float32)
    assert result.half_averages is not None
    halves = result.half_averages * 0.02 + ball
    halves[1, 2] = 0  # a class without a second half
    out = write_output(tmp_path / "out", particles, replace(result, averages=halves.mean(0), half_averages=halves))
    assert not (out / "class_003_fsc.star").exists()
    for number in (1, 2):
        document = read_star(out / f"class_{number:03d}_fsc.star")
        general, shells = document.table("general"), document.table("fsc")
        assert general is not None and shells is not None
        assert general.texts("rlnMaskName") == [f"class_{number:03d}_mask.mrc"]
        mask = open_volume(out / f"class_{number:03d}_mask.mrc").read()
        assert mask.max() == 1 and general.numbers("rlnParticleBoxFractionSolventMask")[0] == pytest.approx(
            100 * mask.mean(), rel=1e-4
        )
        curves = masked_fsc(halves[0, number - 1], halves[1, number - 1], mask, seed=number - 1)
        np.testing.assert_array_equal(shells.integers("rlnSpectralIndex"), np.arange(len(curves.masked)))
        angstrom = shells.numbers("rlnAngstromResolution")
        assert angstrom[0] == 999 and angstrom[1] == pytest.approx(result.averages.shape[1] * VOXEL)
        for label, curve in (
            ("rlnFourierShellCorrelationCorrected", curves.corrected),
            ("rlnFourierShellCorrelationUnmaskedMaps", curves.unmasked),
            ("rlnFourierShellCorrelationMaskedMaps", curves.masked),
            ("rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps", curves.randomised),
        ):
            np.testing.assert_allclose(shells.numbers(label), curve, atol=1e-5)
    assert "under a mask, corrected" in (out / names.REPORT).read_text(encoding="utf-8")
    write_output(out, particles, make_result(particles, classes=1))
    assert names.volumes_in(out) == ("class_001.mrc",)
