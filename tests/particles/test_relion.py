"""RELION particle files: reading every dialect, refusing what cannot be right, writing back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_harmony.errors import InputError, InputWarning
from napari_harmony.particles.images import ArrayImages
from napari_harmony.particles.mrc import write_stack
from napari_harmony.particles.open import open_particles
from napari_harmony.particles.relion import read_relion, write_relion
from napari_harmony.particles.star import read_star

OPTICS = """
# version 30001

data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnImagePixelSize #6
_rlnImageSize #7
_rlnImageDimensionality #8
1 thin 300 2.7 0.1 1.5 8 2
2 thick 200 1.4 0.07 {second} 8 2

"""
ROWS = """
# version 30001

data_particles

loop_
_rlnImageName #1
_rlnOpticsGroup #2
_rlnDefocusU #3
_rlnDefocusV #4
_rlnDefocusAngle #5
_rlnOriginXAngst #6
_rlnOriginYAngst #7
_fancyColumn #8
000002@stacks/a.mrcs 1 10000.5 9000 30 1.5 -3.0 keep
000001@stacks/b.mrcs 2 11000.5 9100 31 0 0 this
000005@stacks/a.mrcs 1 12000.5 9200 32 0 0 text

"""
OLD = """
data_

loop_
_rlnImageName #1
_rlnMagnification #2
_rlnDetectorPixelSize #3
_rlnOriginX #4
_rlnOriginY #5
000003@stacks/a.mrcs 40000 6 2.5 -1
000001@stacks/a.mrcs 40000 6 0 0
"""


@pytest.fixture
def project(tmp_path: Path, images: np.ndarray) -> Path:
    """A folder with two stacks, ``stacks/a.mrcs`` of 5 images and ``stacks/b.mrcs`` of the same negated."""
    root = tmp_path / "project"
    write_stack(root / "stacks" / "a.mrcs", images, 1.5)
    write_stack(root / "stacks" / "b.mrcs", -images, 1.5)
    return root


@pytest.fixture
def star(project: Path) -> Callable[..., Path]:
    """Write a STAR file into the project."""

    def make(text: str, name: str = "particles.star") -> Path:
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return make


def new_file(second: object = 1.5) -> str:
    """A file of RELION 3.1 with two optics groups."""
    return OPTICS.format(second=second) + ROWS


def test_rows_stacks_pixel_size_and_ctf(star: Callable[..., Path], images: np.ndarray) -> None:
    particles = open_particles(star(new_file()))
    assert (len(particles), particles.box, particles.pixel_size, particles.pixel_size_known) == (3, 8, 1.5, True)
    np.testing.assert_array_equal(particles.read(slice(None)), [images[1], -images[0], images[4]])
    np.testing.assert_array_equal(particles.read([2, 0]), [images[4], images[1]])
    assert particles.table["fancyColumn"].tolist() == ["keep", "this", "text"]
    assert list(particles.table.columns)[0] == "rlnImageName"
    ctf = particles.ctf
    assert ctf is not None
    assert ctf.defocus_u.tolist() == [10000.5, 11000.5, 12000.5]
    assert ctf.voltage.tolist() == [300, 200, 300]
    assert ctf.spherical_aberration.tolist() == [2.7, 1.4, 2.7]
    assert ctf.amplitude_contrast.tolist() == [0.1, 0.07, 0.1]
    assert ctf.phase_shift.tolist() == ctf.b_factor.tolist() == [0, 0, 0]
    assert not ctf.phase_flipped


def test_optics_may_follow_the_particles(star: Callable[..., Path]) -> None:
    one, other = open_particles(star(new_file())), open_particles(star(ROWS + OPTICS.format(second=1.5), "b.star"))
    np.testing.assert_array_equal(one.read(slice(None)), other.read(slice(None)))
    assert one.table.equals(other.table)


def test_the_dialect_of_relion_3_0(star: Callable[..., Path], images: np.ndarray) -> None:
    particles = open_particles(star(OLD))
    assert particles.pixel_size == pytest.approx(1.5)
    assert particles.ctf is None
    np.testing.assert_array_equal(particles.read(slice(None)), images[[2, 0]])


def test_pixel_size_falls_back_to_the_stacks_and_then_to_unknown(
    star: Callable[..., Path], project: Path, images: np.ndarray
) -> None:
    text = OLD.replace("_rlnMagnification", "_rlnOther")
    assert open_particles(star(text)).pixel_size == pytest.approx(1.5)
    write_stack(project / "stacks" / "a.mrcs", images, 0.0)
    unknown = open_particles(star(text))
    assert (unknown.pixel_size, unknown.pixel_size_known) == (1.0, False)
    given = open_particles(star(text), pixel_size=3.25)
    assert (given.pixel_size, given.pixel_size_known) == (3.25, True)


def test_the_star_file_wins_over_the_stacks_with_a_warning(star: Callable[..., Path]) -> None:
    with pytest.warns(InputWarning, match=r"gives 3 A per pixel and its stacks 1\.5"):
        assert open_particles(star(OLD.replace("40000 6 ", "20000 6 "))).pixel_size == 3


def test_mixed_pixel_sizes_name_the_groups(star: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"mixes pixel sizes: 1\.5 A \(thin\) and 2 A \(thick\)"):
        open_particles(star(new_file(2.0)))
    assert open_particles(star(new_file(2.0)), pixel_size=1.5).pixel_size == 1.5


def test_groups_without_particles_do_not_matter(star: Callable[..., Path]) -> None:
    text = new_file(2.0).replace("b.mrcs 2 ", "b.mrcs 1 ")
    assert open_particles(star(text)).pixel_size == 1.5


def test_mixed_boxes_name_the_stacks(star: Callable[..., Path], project: Path) -> None:
    write_stack(project / "stacks" / "b.mrcs", np.zeros((2, 6, 6)), 1.5)
    with pytest.raises(InputError, match=r"mixes box sizes: 8 pixels in stacks/a\.mrcs and 6 in stacks/b\.mrcs"):
        open_particles(star(new_file()))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("000005@", "000006@", "line 34: image 6 is asked of .*which has 5"),
        ("000005@", "abc@", "line 34: 'abc@stacks/a.mrcs' has no image number"),
        ("b.mrcs 2 ", "b.mrcs 3 ", "line 33: optics group 3 is not in table data_optics"),
        ("stacks/b", "stacks/none", r"stacks.none\.mrcs, named in .*particles\.star, was not found \(looked in "),
        ("12000.5", "nan", "line 34: rlnDefocusU is nan"),
        ("12000.5", "x", "line 34: rlnDefocusU is 'x', which is not a number"),
        ("_rlnDefocusV", "_other", "rlnDefocusU and no rlnDefocusV"),
        ("_rlnVoltage", "_other", "no rlnVoltage, so its CTF is incomplete"),
        ("_rlnAmplitudeContrast", "_other", "no rlnAmplitudeContrast"),
        ("_rlnImageName", "_rlnMicrographName", "names no particle images"),
        ("1.5 8 2\n2", "0 8 2\n2", "line 32: the pixel size comes to 0 A"),
        ("_fancyColumn", "_rlnOpticsGroup", "label _rlnOpticsGroup .* stands on line 25 already"),
        ("8 2\n\n", "8 3\n\n", "subtomograms"),
        ("_fancyColumn", "_rlnTomoName", "subtomograms"),
    ],
)
def test_what_cannot_be_right_is_refused(star: Callable[..., Path], old: str, new: str, message: str) -> None:
    text = new_file()
    assert old in text
    with pytest.raises(InputError, match=message) as error:
        open_particles(star(text.replace(old, new, 1)))
    assert "\n" not in str(error.value)


def test_2d_tilt_stacks_of_subtomograms_are_refused(star: Callable[..., Path]) -> None:
    text = "data_general\n_rlnTomoSubTomosAre2DStacks 1\n" + new_file()
    with pytest.raises(InputError, match="subtomograms extracted as 2D tilt stacks"):
        open_particles(star(text))


def test_images_multiplied_by_their_ctf_are_refused(star: Callable[..., Path]) -> None:
    text = new_file().replace("_fancyColumn", "_rlnCtfDataAreCtfPremultiplied")
    for value in ("keep", "this", "text"):
        text = text.replace(value, "1")
    with pytest.raises(InputError, match="multiplied by their CTF"):
        open_particles(star(text))


def test_phase_flipped_images_are_known_and_not_mixed(star: Callable[..., Path]) -> None:
    text = (
        new_file().replace("_fancyColumn", "_rlnCtfDataArePhaseFlipped").replace(" keep", " 1").replace(" this", " 1")
    )
    ctf = open_particles(star(text.replace(" text", " 1"))).ctf
    assert ctf is not None and ctf.phase_flipped
    with pytest.raises(InputError, match="with and without rlnCtfDataArePhaseFlipped"):
        open_particles(star(text.replace(" text", " 0")))


def test_a_file_without_rows_is_refused(star: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="no rows"):
        open_particles(star("data_particles\nloop_\n_rlnImageName\n\n"))


def test_image_number_zero_is_the_first_image_with_a_warning(star: Callable[..., Path], images: np.ndarray) -> None:
    with pytest.warns(InputWarning, match="has 1 image numbers 0"):
        particles = open_particles(star(OLD.replace("000003@", "000000@")))
    np.testing.assert_array_equal(particles.read([0])[0], images[0])


def test_single_images_may_go_without_a_number_and_volumes_not(
    star: Callable[..., Path], project: Path, images: np.ndarray
) -> None:
    write_stack(project / "stacks" / "one.mrc", images[:1], 1.5)
    text = OLD.replace("000003@stacks/a.mrcs", "stacks/one.mrc")
    np.testing.assert_array_equal(open_particles(star(text)).read(slice(None)), images[[0, 0]])
    with pytest.raises(InputError, match="without an image number, and it has 5 slices"):
        open_particles(star(OLD.replace("000003@", "")))


def test_stacks_may_be_tiff_packed_or_of_a_forced_format(
    star: Callable[..., Path], project: Path, images: np.ndarray
) -> None:
    import gzip

    import tifffile

    tifffile.imwrite(project / "stacks" / "t.tif", images)
    (project / "stacks" / "z.mrcs.gz").write_bytes(gzip.compress((project / "stacks" / "a.mrcs").read_bytes()))
    write_stack(project / "stacks" / "v.mrc", images, 1.5)
    for name in ("t.tif", "z.mrcs.gz", "v.mrc:mrcs", "v.mrc"):
        particles = open_particles(star(OLD.replace("a.mrcs", name)))
        np.testing.assert_array_equal(particles.read(slice(None)), images[[2, 0]])


class TestWhereImagesAre:
    def test_below_the_working_folder(
        self, star: Callable[..., Path], project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        elsewhere = tmp_path / "elsewhere" / "x.star"
        elsewhere.parent.mkdir()
        elsewhere.write_text(OLD)
        monkeypatch.chdir(project)
        assert len(open_particles(elsewhere)) == 2

    def test_below_a_folder_above_the_file(self, star: Callable[..., Path]) -> None:
        assert len(open_particles(star(OLD, "Class2D/job001/run_it025_data.star"))) == 2

    def test_not_above_the_root_of_the_project(self, star: Callable[..., Path], project: Path) -> None:
        (project / "Class2D").mkdir()
        (project / "Class2D" / "default_pipeline.star").touch()
        with pytest.raises(InputError, match="was not found"):
            open_particles(star(OLD, "Class2D/job001/run_it025_data.star"))

    def test_absolute(self, star: Callable[..., Path], project: Path) -> None:
        text = OLD.replace("stacks/", f"{project.as_posix()}/stacks/")
        assert len(open_particles(star(text))) == 2
        with pytest.raises(InputError, match="does not exist"):
            open_particles(star(text.replace("stacks/", "stocks/")))

    def test_beside_the_file_with_a_warning(self, star: Callable[..., Path], project: Path) -> None:
        path = star(OLD.replace("stacks/a", "Extract/job7/a"), "stacks/x.star")
        with pytest.warns(InputWarning, match=r"a\.mrcs was taken for it"):
            assert len(open_particles(path)) == 2

    def test_two_stacks_are_never_taken_for_one(self, star: Callable[..., Path]) -> None:
        text = OLD.replace("000001@stacks/a", "000001@E/two/a").replace("stacks/a", "E/one/a")
        with pytest.warns(InputWarning), pytest.raises(InputError, match="keep the folders of the stacks"):
            open_particles(star(text, "stacks/x.star"))


def results(count: int, pixel_size: float) -> dict[str, np.ndarray]:
    """Columns as a run gives them."""
    return {
        "rlnClassNumber": np.arange(1, count + 1),
        "rlnAnglePsi": np.linspace(-170, 170, count),
        "rlnOriginXAngst": np.arange(count) * pixel_size,
        "rlnOriginYAngst": -2.0 * np.arange(count) * pixel_size,
        "hrmFlags": np.array(["none"] * count, dtype=object),
    }


def test_results_in_angstrom_since_relion_3_1(star: Callable[..., Path], project: Path) -> None:
    particles = open_particles(star(new_file()))
    write_relion(project / "out.star", particles, results(3, 1.5))
    again = open_particles(project / "out.star")
    assert again.table["rlnOriginXAngst"].tolist() == [0, 1.5, 3]
    assert "rlnOriginX" not in again.table
    assert again.table["rlnClassNumber"].tolist() == [1, 2, 3]
    kept = ["rlnImageName", "rlnOpticsGroup", "rlnDefocusU", "fancyColumn"]
    assert again.table[kept].equals(particles.table[kept])
    np.testing.assert_array_equal(again.read(slice(None)), particles.read(slice(None)))
    before, after = (project / "particles.star").read_text(), (project / "out.star").read_text()
    assert after.partition("data_particles")[0] == before.partition("data_particles")[0]


def test_results_in_pixels_before_relion_3_1(star: Callable[..., Path], project: Path) -> None:
    particles = open_particles(star(OLD))
    write_relion(project / "out.star", particles, results(2, particles.pixel_size))
    again = open_particles(project / "out.star")
    assert again.table["rlnOriginX"].tolist() == [0, 1]
    assert again.table["rlnOriginY"].tolist() == [0, -2]
    assert "rlnOriginXAngst" not in again.table


def test_origins_of_the_other_dialect_are_not_left_stale(star: Callable[..., Path], project: Path) -> None:
    text = new_file().replace("_fancyColumn", "_rlnOriginX")
    for row, value in enumerate(("keep", "this", "text")):
        text = text.replace(value, str(row))
    particles = open_particles(star(text))
    write_relion(project / "out.star", particles, results(3, 1.5))
    table = open_particles(project / "out.star").table
    np.testing.assert_allclose(table["rlnOriginX"] * 1.5, table["rlnOriginXAngst"])


def test_angstroms_are_those_of_the_file_where_the_user_set_another_pixel_size(
    star: Callable[..., Path], project: Path
) -> None:
    particles = open_particles(star(new_file(2.0)), pixel_size=3.0)
    write_relion(project / "out.star", particles, {"rlnOriginXAngst": np.full(3, 6.0), "rlnOriginY": np.ones(3)})
    table = read_star(project / "out.star").tables[1]
    assert table.numbers("rlnOriginXAngst").tolist() == [3.0, 4.0, 3.0]
    assert table.numbers("rlnOriginYAngst").tolist() == [1.5, 2.0, 1.5]


def test_files_written_elsewhere_still_find_their_images(
    star: Callable[..., Path], tmp_path: Path, images: np.ndarray
) -> None:
    particles = open_particles(star(new_file()))
    out = write_relion(tmp_path / "other" / "deep" / "out.star", particles, results(3, 1.5))
    assert out.read_text().startswith("# image paths are relative to: ../../project\n")
    assert "000002@stacks/a.mrcs" in out.read_text()
    again = open_particles(out)
    np.testing.assert_array_equal(again.read(slice(None)), particles.read(slice(None)))
    third = write_relion(tmp_path / "third.star", again)
    assert third.read_text().count("# image paths") == 1
    np.testing.assert_array_equal(open_particles(third).read([0]), images[[1]])
    assert "# image paths" not in write_relion(tmp_path / "project" / "back.star", again).read_text()


def test_nothing_changed_is_the_same_file(star: Callable[..., Path], project: Path) -> None:
    particles = open_particles(star(new_file()))
    assert write_relion(project / "out.star", particles).read_bytes() == (project / "particles.star").read_bytes()


def test_chosen_rows(star: Callable[..., Path], project: Path, images: np.ndarray) -> None:
    particles = open_particles(star(new_file()))
    write_relion(project / "out.star", particles, results(3, 1.5), rows=[2, 0])
    again = open_particles(project / "out.star")
    assert again.table["rlnClassNumber"].tolist() == [3, 1]
    np.testing.assert_array_equal(again.read(slice(None)), images[[4, 1]])


def test_columns_that_do_not_fit_are_refused(star: Callable[..., Path], project: Path) -> None:
    particles = open_particles(star(new_file()))
    with pytest.raises(InputError, match="rlnAnglePsi has 2 values for 3 particles"):
        write_relion(project / "out.star", particles, {"rlnAnglePsi": np.zeros(2)})
    assert not (project / "out.star").exists()


def test_bare_stacks_get_a_file_of_their_own(project: Path, tmp_path: Path, images: np.ndarray) -> None:
    particles = open_particles(project / "stacks" / "a.mrcs")
    out = write_relion(tmp_path / "out.star", particles, results(5, 1.5), rows=[3, 1])
    again = read_relion(out)
    assert again.pixel_size == 1.5
    assert again.table["rlnClassNumber"].tolist() == [4, 2]
    assert again.table["rlnOriginXAngst"].tolist() == [4.5, 1.5]
    assert again.ctf is None
    np.testing.assert_array_equal(again.read(slice(None)), images[[3, 1]])
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["out.star"]


def test_paths_in_new_files_start_from_the_root_of_the_project(project: Path) -> None:
    (project / "default_pipeline.star").touch()
    out = write_relion(project / "sub" / "out.star", open_particles(project / "stacks" / "a.mrcs"))
    assert read_star(out).tables[1].texts("rlnImageName")[0] == "000001@stacks/a.mrcs"
    assert len(open_particles(out)) == 5


def test_stacks_named_mrc_are_marked_as_stacks_for_relion(project: Path, images: np.ndarray) -> None:
    write_stack(project / "v.mrc", images, 1.5)
    out = write_relion(project / "out.star", open_particles(project / "v.mrc"))
    assert read_star(out).tables[1].texts("rlnImageName")[0].endswith("/v.mrc:mrcs")
    np.testing.assert_array_equal(open_particles(out).read(slice(None)), images)


@pytest.mark.parametrize("kind", ["tif", "gz", "array"])
def test_images_that_relion_cannot_read_are_written_beside(
    project: Path, tmp_path: Path, images: np.ndarray, kind: str
) -> None:
    import gzip
    from dataclasses import replace

    import tifffile

    particles = open_particles(project / "stacks" / "a.mrcs")
    if kind == "tif":
        tifffile.imwrite(tmp_path / "x.tif", images)
        particles = open_particles(tmp_path / "x.tif", pixel_size=1.5)
    elif kind == "gz":
        (tmp_path / "x.mrcs.gz").write_bytes(gzip.compress((project / "stacks" / "a.mrcs").read_bytes()))
        particles = open_particles(tmp_path / "x.mrcs.gz")
    else:
        particles = replace(particles, images=ArrayImages(images), path=None)
    out = write_relion(tmp_path / "out" / "x.star", particles, results(5, 1.5), rows=[4, 0])
    assert sorted(path.name for path in out.parent.iterdir()) == ["x.star", "x_images.mrcs"]
    again = open_particles(out)
    np.testing.assert_array_equal(again.read(slice(None)), images[[4, 0]])
    assert again.pixel_size == 1.5
    assert again.table["rlnClassNumber"].tolist() == [5, 1]


def test_ctf_and_optics_groups_survive_in_a_new_file(star: Callable[..., Path], project: Path) -> None:
    from dataclasses import fields, replace

    particles = open_particles(star(new_file()))
    assert particles.ctf is not None
    bare = replace(particles, metadata=None, ctf=replace(particles.ctf, phase_flipped=True))
    again = open_particles(write_relion(project / "new.star", bare))
    assert again.ctf is not None and again.ctf.phase_flipped
    for f in fields(particles.ctf):
        if f.name != "phase_flipped":
            np.testing.assert_allclose(getattr(again.ctf, f.name), getattr(particles.ctf, f.name))
    np.testing.assert_array_equal(again.read(slice(None)), particles.read(slice(None)))


def test_unknown_pixel_size_is_said_in_a_new_file(project: Path, images: np.ndarray) -> None:
    write_stack(project / "x.mrcs", images, 0.0)
    text = write_relion(project / "out.star", open_particles(project / "x.mrcs")).read_text()
    assert "# the pixel size is a placeholder" in text
