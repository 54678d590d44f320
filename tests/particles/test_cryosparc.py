"""cryoSPARC particle files: reading, joining, refusing, writing back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_harmony.errors import InputError, InputWarning
from napari_harmony.particles.cryosparc import CryosparcMetadata, load_records, read_cryosparc, write_cryosparc
from napari_harmony.particles.mrc import write_stack
from napari_harmony.particles.open import open_particles
from napari_harmony.particles.relion import write_relion

FIELDS: list[Any] = [
    ("uid", "<u8"),
    ("blob/path", "S32"),
    ("blob/idx", "<u4"),
    ("blob/shape", "<u4", (2,)),
    ("blob/psize_A", "<f4"),
    ("blob/sign", "<f4"),
    ("ctf/df1_A", "<f4"),
    ("ctf/df2_A", "<f4"),
    ("ctf/df_angle_rad", "<f4"),
    ("ctf/accel_kv", "<f4"),
    ("ctf/cs_mm", "<f4"),
    ("ctf/amp_contrast", "<f4"),
    ("ctf/phase_shift_rad", "<f4"),
]
ALIGNMENTS: list[Any] = [
    ("alignments2D/shift", "<f4", (2,)),
    ("alignments2D/pose", "<f4"),
    ("alignments2D/psize_A", "<f4"),
    ("alignments2D/error", "<f4"),
    ("alignments2D/class", "<u4"),
]


def make_records(fields: list[Any]) -> np.ndarray:
    """Four particles of ``J1/a.mrc``, in the order 4, 1, 2, 3, contrast inverted."""
    records = np.zeros(4, FIELDS + ALIGNMENTS)
    records["uid"] = [40, 10, 20, 30]
    records["blob/path"] = b">J1/a.mrc"
    records["blob/idx"] = [3, 0, 1, 2]
    records["blob/shape"] = 8
    records["blob/psize_A"], records["blob/sign"] = 1.5, -1
    records["ctf/df1_A"], records["ctf/df2_A"] = 12000, 11000
    records["ctf/df_angle_rad"], records["ctf/phase_shift_rad"] = np.pi / 4, np.pi / 2
    records["ctf/accel_kv"], records["ctf/cs_mm"], records["ctf/amp_contrast"] = 300, 2.7, 0.1
    records["alignments2D/shift"] = [[1, -2], [0, 0], [3, 4], [5, 6]]
    records["alignments2D/pose"] = [0, np.pi / 2, np.pi, 6]
    records["alignments2D/psize_A"] = 3.0
    records["alignments2D/error"] = 77
    records["alignments2D/class"] = [0, 3, 1, 2]
    names = [field[0] for field in fields]
    out = np.zeros(4, fields)
    for name in names:
        out[name] = records[name]
    return out


@pytest.fixture
def cs(tmp_path: Path, images: np.ndarray) -> Callable[..., Path]:
    """Write a .cs file into a project with the stack ``J1/a.mrc``."""
    write_stack(tmp_path / "J1" / "a.mrc", images, 1.5)

    def make(fields: list[Any] | None = None, name: str = "particles.cs", **changes: Any) -> Path:
        records = make_records(FIELDS + ALIGNMENTS if fields is None else fields)
        for key, value in changes.items():
            records[key.replace("__", "/")] = value
        path = tmp_path / "J2" / name
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            np.save(file, records)
        return path

    return make


def test_images_ctf_and_classification(cs: Callable[..., Path], images: np.ndarray) -> None:
    particles = open_particles(cs())
    assert (len(particles), particles.box, particles.pixel_size) == (4, 8, 1.5)
    np.testing.assert_array_equal(particles.read(slice(None)), -images[[3, 0, 1, 2]])
    ctf = particles.ctf
    assert ctf is not None
    np.testing.assert_allclose(ctf.defocus_angle, 45, rtol=1e-6)
    np.testing.assert_allclose(ctf.phase_shift, 90, rtol=1e-6)
    assert ctf.defocus_u.tolist() == [12000] * 4
    table = particles.table
    np.testing.assert_allclose(table["rlnAnglePsi"], [0, 90, 180, np.rad2deg(6)], rtol=1e-6)
    assert table["rlnOriginXAngst"].tolist() == [3, 0, 9, 15]
    assert table["rlnOriginYAngst"].tolist() == [-6, 0, 12, 18]
    assert table["rlnClassNumber"].tolist() == [1, 4, 2, 3]
    assert table["uid"].tolist() == [40, 10, 20, 30]
    assert table["blob/shape[1]"].tolist() == [8] * 4


def test_without_ctf_sign_or_classification(cs: Callable[..., Path], images: np.ndarray) -> None:
    particles = open_particles(cs(FIELDS[:4]))
    assert particles.ctf is None
    assert particles.pixel_size == 1.5  # of the stack's header
    assert "rlnAnglePsi" not in particles.table
    np.testing.assert_array_equal(particles.read([0]), images[[3]])
    assert open_particles(cs(FIELDS[:4]), pixel_size=2.5).pixel_size == 2.5


def test_passthrough_files_are_joined_by_uid(cs: Callable[..., Path], tmp_path: Path, images: np.ndarray) -> None:
    whole = np.load(cs(FIELDS, "x.cs"))
    path = cs([FIELDS[0], *ALIGNMENTS])
    with (tmp_path / "J2" / "P1_passthrough_particles.cs").open("wb") as file:
        np.save(file, whole[[2, 0, 3, 1]])
    np.save(tmp_path / "J2" / "A_passthrough_others", whole[:2])
    (tmp_path / "J2" / "A_passthrough_others.npy").rename(tmp_path / "J2" / "A_passthrough_others.cs")
    particles = open_particles(path)
    np.testing.assert_array_equal(particles.read(slice(None)), -images[[3, 0, 1, 2]])
    assert particles.ctf is not None
    assert particles.table["rlnClassNumber"].tolist() == [1, 4, 2, 3]
    out = write_cryosparc(tmp_path / "out.cs", particles, {"rlnClassNumber": np.array([1, 1, 2, 2])})
    assert np.load(out).dtype.names == np.load(path).dtype.names


def test_a_damaged_passthrough_file_is_a_warning(cs: Callable[..., Path], tmp_path: Path) -> None:
    path = cs(FIELDS[:6])
    (tmp_path / "J2" / "passthrough.cs").write_bytes(b"\x93NUMPY garbage")
    with pytest.warns(InputWarning, match="passthrough"):
        assert len(open_particles(path)) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blob__idx": [3, 0, 1, 9]}, "row 4: image 10 is asked of .*which has 5"),
        ({"blob__psize_A": [1.5, 1.5, 2, 2]}, r"mixes pixel sizes: 1\.5 A and 2 A"),
        ({"blob__psize_A": 0}, "not positive"),
        ({"ctf__df2_A": [1, 2, np.nan, 4]}, "row 3: ctf/df2_A is nan"),
        ({"blob__path": b"J1/none.mrc"}, r"J1.none\.mrc, named in .*was not found"),
    ],
)
def test_what_cannot_be_right_is_refused(cs: Callable[..., Path], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_particles(cs(**changes))


def test_missing_fields_are_named(cs: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="does not say where its images are"):
        open_particles(cs([FIELDS[0], *ALIGNMENTS]))
    with pytest.raises(InputError, match="the field ctf/amp_contrast is missing"):
        open_particles(cs([field for field in FIELDS if field[0] != "ctf/amp_contrast"]))


def test_python_objects_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "evil.cs"
    with path.open("wb") as file:
        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"no readable \.cs file"):
        open_particles(path)


@pytest.mark.parametrize("keep", [60, 300, 900])
def test_truncated_files_are_refused(cs: Callable[..., Path], keep: int) -> None:
    path = cs()
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="export it again") as error:
        open_particles(path)
    assert "\n" not in str(error.value)


def test_other_arrays_are_refused(tmp_path: Path) -> None:
    for name, array in (("a.cs", np.zeros(3)), ("b.cs", np.zeros(3, [("x", "f4")])), ("c.cs", np.zeros(0, FIELDS))):
        with (tmp_path / name).open("wb") as file:
            np.save(file, array)
        with pytest.raises(InputError, match="no cryoSPARC file|no rows"):
            load_records(tmp_path / name)


def results(count: int) -> dict[str, np.ndarray]:
    """Columns as a run gives them; the last particle has no class."""
    return {
        "rlnClassNumber": np.array([*range(1, count), 0]),
        "rlnAnglePsi": np.linspace(-90, 90, count),
        "rlnOriginXAngst": np.linspace(-6, 6, count),
        "rlnOriginYAngst": np.linspace(3, -3, count),
        "rlnMaxValueProbDistribution": np.linspace(0.5, 1, count),
        "hrmScore": np.zeros(count),
    }


def test_results_are_written_into_the_alignment(cs: Callable[..., Path], tmp_path: Path) -> None:
    path = cs()
    out = write_cryosparc(tmp_path / "J2" / "out.cs", open_particles(path), results(4))
    before, after = np.load(path), np.load(out)
    assert after.dtype.names == (*before.dtype.names, "alignments2D/class_posterior")
    changed = {f"alignments2D/{name}" for name in ("shift", "pose", "class")}
    for name in set(before.dtype.names) - changed:
        assert before[name].tobytes() == after[name].tobytes(), name
    np.testing.assert_allclose(after["alignments2D/pose"], np.deg2rad([270, 330, 30, 90]), rtol=1e-6)
    np.testing.assert_allclose(after["alignments2D/shift"][:, 0], [-2, -2 / 3, 2 / 3, 2], rtol=1e-6)
    assert after["alignments2D/class"].tolist() == [0, 1, 2, 3]  # the one without a class is behind the last
    table = open_particles(out).table
    for label in ("rlnOriginXAngst", "rlnOriginYAngst", "rlnMaxValueProbDistribution"):
        np.testing.assert_allclose(table[label], results(4)[label], rtol=1e-6)
    np.testing.assert_allclose(table["rlnAnglePsi"] % 360, results(4)["rlnAnglePsi"] % 360, rtol=1e-6)


def test_a_classification_is_added_where_there_was_none(cs: Callable[..., Path], tmp_path: Path) -> None:
    path = cs(FIELDS)
    out = write_cryosparc(tmp_path / "J2" / "out.cs", open_particles(path), results(4), rows=[3, 0])
    after = np.load(out)
    assert after["uid"].tolist() == [30, 40]
    assert "alignments2D/split" in after.dtype.names
    assert after["alignments2D/psize_A"].tolist() == [1.5, 1.5]
    np.testing.assert_allclose(after["alignments2D/shift"], [[4, -2], [-4, 2]])


def test_shifts_are_pixels_of_the_file_where_the_user_set_another_size(cs: Callable[..., Path], tmp_path: Path) -> None:
    particles = read_cryosparc(cs(), pixel_size=6.0)
    columns = {"rlnOriginXAngst": np.full(4, 12.0), "rlnOriginYAngst": np.full(4, -12.0)}
    shift = np.load(write_cryosparc(tmp_path / "out.cs", particles, columns))["alignments2D/shift"]
    assert shift.tolist() == [[1, -1]] * 4  # two pixels of 1.5 A are one of 3 A


def test_nothing_changed_is_the_same_file(cs: Callable[..., Path], tmp_path: Path) -> None:
    path = cs()
    assert write_cryosparc(tmp_path / "out.cs", open_particles(path)).read_bytes() == path.read_bytes()


def test_real_results_survive(shared_data: Path, tmp_path: Path) -> None:
    from napari_harmony.particles.dataset import Particles
    from napari_harmony.particles.images import ArrayImages

    path = shared_data / "metadata" / "cryosparc_J2_particles_exported.cs"
    records = load_records(path)
    metadata = CryosparcMetadata(path, records, {})
    particles = Particles(ArrayImages(np.zeros((22, 4, 4))), None, 1.345, metadata=metadata)  # type: ignore[arg-type]
    assert write_cryosparc(tmp_path / "same.cs", particles).read_bytes() == path.read_bytes()
    psi = np.rad2deg(records["alignments2D/pose"].astype(float))
    origin = records["alignments2D/shift"].astype(float)
    columns = {
        "rlnAnglePsi": np.where(psi > 180, psi - 360, psi),
        "rlnOriginX": origin[:, 0],
        "rlnOriginY": origin[:, 1],
        "rlnClassNumber": records["alignments2D/class"].astype(int) + 1,
    }
    after = np.load(write_cryosparc(tmp_path / "out.cs", particles, columns))
    for name in records.dtype.names or ():
        if name == "alignments2D/pose":
            np.testing.assert_allclose(after[name], records[name], atol=1e-5)
        else:
            assert after[name].tobytes() == records[name].tobytes(), name


def test_other_particles_cannot_become_cs(tmp_path: Path, images: np.ndarray) -> None:
    write_stack(tmp_path / "x.mrcs", images, 1.5)
    with pytest.raises(InputError, match=r"did not come from a \.cs file"):
        write_cryosparc(tmp_path / "x.cs", open_particles(tmp_path / "x.mrcs"))


def test_columns_that_do_not_fit_are_refused(cs: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rlnAnglePsi has 3 values for 4 particles"):
        write_cryosparc(tmp_path / "out.cs", open_particles(cs()), {"rlnAnglePsi": np.zeros(3)})


def test_cs_particles_become_a_star_file(cs: Callable[..., Path], tmp_path: Path) -> None:
    particles = open_particles(cs())
    again = open_particles(write_relion(tmp_path / "out" / "x.star", particles, results(4)))
    np.testing.assert_array_equal(again.read(slice(None)), -particles.read(slice(None)))  # as stored: STAR has no sign
    assert particles.ctf is not None and again.ctf is not None
    np.testing.assert_allclose(again.ctf.defocus_angle, particles.ctf.defocus_angle, atol=1e-5)
    np.testing.assert_allclose(again.table["rlnOriginXAngst"], results(4)["rlnOriginXAngst"])
