"""Coordinates of RELION, Dynamo, CSV files and napari: where 0 is, what is added, and which tomogram is meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_harmony.errors import InputError, InputWarning
from napari_harmony.particles import euler
from napari_harmony.particles.coordinates import Coordinates, points_to_coordinates, read_coordinates
from napari_harmony.particles.dynamo import read_dynamo, write_dynamo

OPTICS = "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnTomoTiltSeriesPixelSize\n1 2.0\n\n"


def star(path: Path, labels: str, *rows: str, optics: str = OPTICS) -> Path:
    names = "".join(f"_{label}\n" for label in labels.split())
    path.write_text(f"{optics}data_particles\n\nloop_\n{names}" + "\n".join(rows) + "\n\n")
    return path


def matrices(coordinates: Coordinates) -> np.ndarray:
    assert coordinates.rotation is not None
    return euler.quaternion_to_matrix(coordinates.rotation)


def test_csv_counts_from_zero_and_columns_go_by_name(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("psi,z, Y,x,tilt,rot\n30,3,2,1,20,10\n0,0,0,0,0,0\n")
    found = read_coordinates(path)
    np.testing.assert_array_equal(found.positions, [[1, 2, 3], [0, 0, 0]])
    assert found.angles is not None
    np.testing.assert_allclose(found.angles[0], [10, 20, 30])
    path.write_text("index,axis-0,axis-1,axis-2\n0,3,2,1\n")  # as napari saves points
    np.testing.assert_array_equal(read_coordinates(path).positions, [[1, 2, 3]])
    assert read_coordinates(path).rotation is None


def test_points_of_napari_are_z_y_x() -> None:
    found = points_to_coordinates([[3, 2, 1.5]], angles=[[10, 20, 30]])
    np.testing.assert_array_equal(found.positions, [[1.5, 2, 3]])
    np.testing.assert_allclose(matrices(found)[0], euler.relion_to_matrix([10, 20, 30]), atol=1e-12)
    for wrong in ([[1, 2]], [[1, np.nan, 2]]):
        with pytest.raises(InputError):
            points_to_coordinates(wrong)


def test_dynamo_counts_from_one_and_adds_its_shifts(tmp_path: Path) -> None:
    row = "1 1 1 0.25 -0.5 1 -47.273 1.1777 -132.3 0 0 0 1 -60 60 -60 60 0 0 7 1 2 0 11 21 31" + " 0" * 9
    path = tmp_path / "c.tbl"
    path.write_text(row + "\n")
    found = read_coordinates(path)
    np.testing.assert_allclose(found.positions, [[10.25, 19.5, 31]])
    np.testing.assert_allclose(matrices(found)[0], euler.relion_to_matrix([137.7, 1.1777, 42.727]), atol=1e-9)
    assert found.tomograms is not None and found.tomograms.tolist() == ["7"]


def test_relion_counts_pixels_from_zero_and_subtracts_origins(tmp_path: Path) -> None:
    labels = "rlnCoordinateX rlnCoordinateY rlnCoordinateZ rlnOriginXAngst rlnOriginZAngst rlnOpticsGroup rlnTomoName"
    found = read_coordinates(star(tmp_path / "c.star", labels, "10 20 30 3 -1 1 TS_1", "0 0 0 0 0 1 TS_1"))
    np.testing.assert_allclose(found.positions, [[8.5, 20, 30.5], [0, 0, 0]])
    assert found.pixel_size == 2.0 and found.unbinned and found.rotation is None
    old = "rlnCoordinateX rlnCoordinateY rlnCoordinateZ rlnOriginX rlnMagnification rlnDetectorPixelSize"
    found = read_coordinates(star(tmp_path / "old.star", old, "10 20 30 3 10000 6.9", optics=""))
    np.testing.assert_allclose(found.positions, [[7, 20, 30]])
    assert found.pixel_size == pytest.approx(6.9) and not found.unbinned


def test_a_turned_box_turns_shift_and_orientation(tmp_path: Path) -> None:
    """x_ref = R_particle (x_box + t), and x_box is the box's own R times what it is in the tomogram."""
    labels = (
        "rlnCoordinateX rlnCoordinateY rlnCoordinateZ rlnOriginXAngst rlnOpticsGroup rlnTomoSubtomogramRot "
        "rlnTomoSubtomogramTilt rlnTomoSubtomogramPsi rlnAngleRot rlnAngleTilt rlnAnglePsi"
    )
    found = read_coordinates(star(tmp_path / "c.star", labels, "10 20 30 4 1 30 40 50 5 6 7"))
    box, particle = euler.relion_to_matrix([30, 40, 50]), euler.relion_to_matrix([5, 6, 7])
    np.testing.assert_allclose(matrices(found)[0], particle @ box, atol=1e-12)
    # the particle's centre, x_ref = 0, is where the position says
    offset = found.positions[0] - [10, 20, 30]
    np.testing.assert_allclose(particle @ (box @ offset + [2, 0, 0]), 0, atol=1e-12)


def passive(rot: float, tilt: float, psi: float) -> np.ndarray:
    """RELION's Euler matrix A, which turns the reference into the particle: the coordinate axes about Z, Y and Z."""

    def about_z(degrees: float) -> np.ndarray:
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])

    c, s = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
    return about_z(psi) @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]) @ about_z(rot)


@pytest.mark.parametrize("seed", range(3))
def test_box_rotations_follow_the_rule_of_relion(tmp_path: Path, seed: int) -> None:
    """Orientation A_subtomogram A_particle, position coord - A_subtomogram t, with t in pixels of the tilt series."""
    rng = np.random.default_rng(seed)
    box, particle = rng.uniform((-180, 0, -180), (180, 180, 180), (2, 3)).round(3)
    coordinate, origin = rng.uniform(50, 200, 3).round(3), rng.normal(0, 8, 3).round(3)
    labels = [f"rlnCoordinate{axis}" for axis in "XYZ"] + [f"rlnOrigin{axis}Angst" for axis in "XYZ"]
    labels += [f"rlnTomoSubtomogram{name}" for name in ("Rot", "Tilt", "Psi")] + ["rlnOpticsGroup"]
    labels += [f"rlnAngle{name}" for name in ("Rot", "Tilt", "Psi")]
    row = " ".join(map(str, [*coordinate, *origin, *box, 1, *particle]))
    found = read_coordinates(star(tmp_path / "c.star", " ".join(labels), row))
    assert found.pixel_size == 2.0
    np.testing.assert_allclose(matrices(found)[0].T, passive(*box) @ passive(*particle), atol=1e-9)
    np.testing.assert_allclose(found.positions[0], coordinate - passive(*box) @ origin / 2, atol=1e-9)


def test_centred_coordinates_need_the_sizes_of_the_tomograms(tmp_path: Path, shared_data: Path) -> None:
    labels = (
        "rlnTomoName rlnCenteredCoordinateXAngst rlnCenteredCoordinateYAngst rlnCenteredCoordinateZAngst "
        "rlnOriginXAngst rlnOpticsGroup"
    )
    path = star(tmp_path / "c.star", labels, "tomo200528_100 0 0 0 0 1", "tomo200528_101 17.24 -17.24 3.448 1.724 1")
    with pytest.raises(InputError, match=r"tomograms\.star with --tomograms"):
        read_coordinates(path)
    found = read_coordinates(path, tomograms=shared_data / "metadata/relion5_tomograms.star")
    np.testing.assert_allclose(found.positions, [[2000, 2000, 1000], [2009, 1990, 1002]])
    assert found.pixel_size == pytest.approx(1.724)
    binned = found.in_voxels(8.12065, shape=(425, 849, 849), where="t.mrc")  # RELION's own rounding of the sizes
    np.testing.assert_allclose(binned.positions[0], np.array([2000, 2000, 1000]) * 1.724 / 8.12065)
    with pytest.raises(InputError, match="6896 x 6896 x 3448 A .* differs by more than 1 %"):
        found.in_voxels(9.0, shape=(425, 849, 849), where="t.mrc")
    other = star(tmp_path / "d.star", labels, "TS_9 0 0 0 0 1")
    with pytest.raises(InputError, match="line .*TS_9 is not in .*relion5_tomograms.star"):
        read_coordinates(other, tomograms=shared_data / "metadata/relion5_tomograms.star")


@pytest.mark.parametrize("unbinned", [True, False])
def test_pixel_sizes_must_agree_to_one_percent(unbinned: bool) -> None:
    given = Coordinates(np.array([[10.0, 20, 40]]), pixel_size=2.0, unbinned=unbinned)
    np.testing.assert_array_equal(given.in_voxels(2.01).positions, given.positions)
    np.testing.assert_array_equal(given.in_voxels(None).positions, given.positions)
    with pytest.raises(InputError, match="differ by more than 1 %"):
        given.in_voxels(2.1)
    if unbinned:
        np.testing.assert_allclose(given.in_voxels(8.0).positions, given.positions / 4)
    else:
        with pytest.raises(InputError, match="differ by more than 1 %"):
            given.in_voxels(8.0)


def test_the_tomogram_is_told_by_its_name() -> None:
    names = np.array(["TS_1", "TS_12", "Tomograms/TS_1_b.mrc.tomostar"], dtype=object)
    many = Coordinates(np.arange(9.0).reshape(3, 3), tomograms=names)
    assert many.in_tomogram(Path("rec_TS_1.mrc")).positions[0, 0] == 0
    assert many.in_tomogram(Path("TS_12.rec")).positions[0, 0] == 3
    assert many.in_tomogram(Path("TS_1_b.mrc")).positions[0, 0] == 6
    assert many.in_tomogram(Path("x.mrc"), "TS_12").positions[0, 0] == 3
    for file, name in (("x.mrc", None), ("TS_1.mrc", "TS_5")):
        with pytest.raises(InputError, match="TS_12"):
            many.in_tomogram(Path(file), name)
    with pytest.warns(InputWarning, match="not in the name of other.mrc"):
        assert len(many.subset([1]).in_tomogram(Path("other.mrc"))) == 1


def test_real_files(shared_data: Path) -> None:
    folder = shared_data / "metadata"
    relion4 = read_coordinates(folder / "relion_4.0.star")
    assert relion4.pixel_size == pytest.approx(1.971) and relion4.angles is not None
    origin = np.array([1.260416, 2.364176, 3.783296])
    np.testing.assert_allclose(relion4.positions[0], np.array([1700, 428, 944]) - origin / 1.971)
    np.testing.assert_allclose(relion4.angles[0], [-61.71449, 150.606435, 110.442075])
    warp = read_coordinates(folder / "subtomo_format.star")
    np.testing.assert_array_equal(warp.positions[0], [806, 398, 208])
    assert warp.pixel_size == pytest.approx(6.896)
    assert warp.tomograms is not None and len(warp.in_tomogram(Path("tomo200528_100.mrc"))) < len(warp)
    assert len(read_coordinates(folder / "chlamy_clathrin.star")) > 5000
    line = read_coordinates(shared_data / "real3d/13pf_MT_centreline.csv")
    np.testing.assert_allclose(line.positions[0], [27.56, 180.61, 18.03])


def test_dynamo_tables_survive_a_round_trip(shared_data: Path, tmp_path: Path) -> None:
    first = read_dynamo(shared_data / "metadata/crop.tbl")
    classes = np.arange(len(first)) % 3 + 1
    second = read_dynamo(write_dynamo(tmp_path / "out.tbl", first, classes=classes, tilt_range=(-50, 60)))
    np.testing.assert_allclose(second.positions, first.positions, atol=1e-3)
    assert euler.angular_distance(matrices(first), matrices(second)).max() < 1e-3
    assert (second.table["class"] == classes).all() and (second.table["ymintilt"] == -50).all()
    assert (second.table["tag"] == first.table["tag"]).all() and (second.table["x"] % 1 == 0).all()


def test_relion_poses_survive_a_table_of_dynamo(shared_data: Path, tmp_path: Path) -> None:
    first = read_coordinates(shared_data / "metadata/relion_4.0.star")
    second = read_dynamo(write_dynamo(tmp_path / "out.tbl", first))
    np.testing.assert_allclose(second.positions, first.positions, atol=1e-3)
    assert euler.angular_distance(matrices(first), matrices(second)).max() < 1e-3
    assert second.pixel_size == pytest.approx(1.971)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.csv", "x,y\n1,2\n", "no column z"),
        ("c.csv", "x,y,z\n1,2,three\n", "row 1: z is 'three'"),
        ("c.csv", "x,y,z\n", "no rows"),
        ("c.tbl", "1 2 3\n", "35 or more"),
        ("c.tbl", "a b\n", "line 1: 'a' is no number"),
        ("c.txt", "1 2 3\n", "no known kind"),
        ("c.star", "data_\n\nloop_\n_rlnImageName\na.mrc\n\n", "no coordinates"),
        ("c.star", "data_\n\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2\n\n", "no rlnCoordinateZ"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_coordinates(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
