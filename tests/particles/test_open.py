"""Opening any particle file: by content and name, real data, and one sentence for whatever is wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_harmony.errors import InputError, InputWarning
from napari_harmony.particles.mrc import write_stack
from napari_harmony.particles.open import open_particles

REAL = [
    ("real2d/insitu_ribosome_tilts.star", (1478, 32, 32), 12.0, True),
    ("real2d/insitu_ribosome_tilts.mrcs", (1478, 32, 32), 12.0, True),
    ("real2d/sample_particles_relion30.star", (17, 200, 200), 1.338, True),
    ("real2d/sample_particles_relion31.star", (17, 200, 200), 1.4, True),
    ("real2d/sample.mrcs", (17, 200, 200), 1.0, False),
    ("real2d/empiar_10076_7.star", (7, 320, 320), 1.31, True),
    ("real2d/empiar_10076_7.cs", (7, 320, 320), 1.31, True),
    ("real2d/empiar_10076_7.mrc", (7, 320, 320), 1.0, False),
    ("poses/rln_proj_64.star", (5, 64, 64), 1.0, False),
    ("poses/rln_proj_65_shifted.star", (4, 65, 65), 1.0, True),
]


@pytest.mark.parametrize(("name", "shape", "pixel_size", "known"), REAL)
def test_real_files(shared_data: Path, name: str, shape: tuple[int, ...], pixel_size: float, known: bool) -> None:
    particles = open_particles(shared_data / name)
    assert particles.images.shape == shape
    assert particles.pixel_size == pytest.approx(pixel_size, rel=1e-4)
    assert particles.pixel_size_known is known
    assert len(particles.table) == shape[0]
    assert list(particles.table.index) == list(range(shape[0]))
    image = particles.read([shape[0] - 1])[0]
    assert np.isfinite(image).all() and image.std() > 0


def test_ctf_of_real_files(shared_data: Path) -> None:
    star = open_particles(shared_data / "real2d/empiar_10076_7.star").ctf
    cs = open_particles(shared_data / "real2d/empiar_10076_7.cs").ctf
    assert star is not None and cs is not None
    for name in ("defocus_u", "defocus_v", "defocus_angle", "voltage", "spherical_aberration", "amplitude_contrast"):
        np.testing.assert_allclose(getattr(star, name), getattr(cs, name), rtol=1e-5)
    assert open_particles(shared_data / "real2d/insitu_ribosome_tilts.star").ctf is None
    groups = open_particles(shared_data / "real2d/sample_particles_relion31.star").ctf
    assert groups is not None
    assert set(groups.voltage) <= {300.0, 200.0}


def test_star_and_cs_of_one_stack_differ_by_the_sign_that_cs_gives(shared_data: Path) -> None:
    star = open_particles(shared_data / "real2d/empiar_10076_7.star").read(slice(None))
    cs = open_particles(shared_data / "real2d/empiar_10076_7.cs").read(slice(None))
    np.testing.assert_array_equal(star, -cs)


@pytest.mark.filterwarnings("ignore::napari_harmony.errors.InputWarning")
def test_whatever_is_opened_is_particles_or_one_sentence(shared_data: Path) -> None:
    opened = 0
    for path in sorted(shared_data.rglob("*")):
        if path.is_dir() or path.name.endswith((".csv", ".txt")):
            continue
        try:
            particles = open_particles(path)
        except InputError as error:
            text = str(error)
            assert "\n" not in text and text.endswith((".", ".)")) and str(path) in text, text
        else:
            opened += 1
            assert particles.read([0]).shape == (1, particles.box, particles.box)
    assert opened >= 20


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("header_only.mrc", "promises 32 images and there is none"),
        ("noncubic_volume_flagged_stack.mrc", "looks like a volume of 32 x 32 x 128 voxels"),
        ("sample_incomplete_ctf_params.star", "no rlnVoltage, so its CTF is incomplete"),
        ("truncated_nz_11029.mrcs", "promises 11029 images and only 1 is there"),
        ("unparsable.star", "line 20: the row has 5 values for the 4 labels"),
    ],
)
@pytest.mark.filterwarnings("ignore::napari_harmony.errors.InputWarning")
def test_malformed_files_say_what_is_wrong(shared_data: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_particles(shared_data / "malformed" / name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("chlamy_clathrin.star", "names no particle images"),
        ("relion31.6opticsgroups.star", r"mixes pixel sizes: 1\.25 A \(opticsGroup5, .*\) and 1\.24 A \(opticsGroup3"),
        ("relion_4.0.star", "68_data.mrc, named in .*was not found"),
        ("subtomo_format.star", "_0000000_6.90A.mrc, named in .*was not found"),
        ("relion5_tomograms.star", "names no particle images"),
        ("relion31.star", r"relion31\.mrcs, named in .*, was not found"),
        ("FinalRefinement-OriginalParticles-PfCRT.star", "no rlnAmplitudeContrast"),
        ("cryosparc_J2_particles_exported.cs", "was not found"),
        ("crop.tbl", "of no known kind"),
    ],
)
def test_metadata_of_other_things_is_refused(shared_data: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_particles(shared_data / "metadata" / name)


@pytest.mark.parametrize("name", ["relion31.star", "relion31.v2.star"])
def test_optics_before_and_after_the_particles(shared_data: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(shared_data / "metadata" / name, tmp_path)
    shutil.copy(shared_data / "real2d" / "relion31.mrcs", tmp_path)
    with pytest.warns(InputWarning, match="identifier"):
        particles = open_particles(tmp_path / name)
    assert particles.images.shape == (5, 256, 256)
    assert particles.pixel_size == pytest.approx(2.806)
    assert particles.ctf is not None
    assert particles.ctf.spherical_aberration.tolist() == [0.01] * 5


def test_what_is_not_there(tmp_path: Path) -> None:
    empty = tmp_path / "empty.mrcs"
    empty.touch()
    for path, message in (
        (tmp_path / "none.star", "does not exist; check"),
        (empty, r"is empty \(0 bytes\)"),
        (tmp_path, "is a directory"),
    ):
        with pytest.raises(InputError, match=message) as error:
            open_particles(path)
        assert str(path) in str(error.value)


@pytest.mark.skipif(sys.platform == "win32", reason="links need privileges on Windows")
def test_broken_links(tmp_path: Path) -> None:
    link = tmp_path / "link.star"
    link.symlink_to(tmp_path / "gone.star")
    with pytest.raises(InputError, match="a link whose target is gone"):
        open_particles(link)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind this user")
def test_unreadable_files(tmp_path: Path) -> None:
    path = tmp_path / "x.star"
    path.write_text("data_\n_a 1\n")
    path.chmod(0)
    with pytest.raises(InputError, match="cannot be read"):
        open_particles(path)


@pytest.mark.parametrize("suffix", ["star", "cs", "mrcs", "mrc", "tif", "xyz", "gz"])
def test_files_of_another_kind(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8)
    with pytest.raises(InputError) as error:
        open_particles(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_content_counts_where_the_name_is_wrong(tmp_path: Path, images: np.ndarray) -> None:
    write_stack(tmp_path / "x.mrcs", images, 1.5)
    (tmp_path / "x.data").write_bytes((tmp_path / "x.mrcs").read_bytes())
    tifffile.imwrite(tmp_path / "y.mrcs", images, photometric="minisblack")
    (tmp_path / "z.txt").write_text("data_\nloop_\n_rlnImageName\n1@x.mrcs\n")
    for name, count in (("x.data", 5), ("y.mrcs", 5), ("z.txt", 1)):
        assert len(open_particles(tmp_path / name)) == count


def test_only_mrc_is_read_packed(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "x.star.gz"
    path.write_bytes(gzip.compress(b"data_\n"))
    with pytest.raises(InputError, match="unpack it first"):
        open_particles(path)


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf")])
def test_pixel_sizes_that_make_no_sense(tmp_path: Path, images: np.ndarray, size: float) -> None:
    write_stack(tmp_path / "x.mrcs", images, 1.5)
    with pytest.raises(InputError, match="positive number of angstrom"):
        open_particles(tmp_path / "x.mrcs", pixel_size=size)
    assert open_particles(tmp_path / "x.mrcs", pixel_size=2.0).pixel_size == 2.0


def test_a_stack_of_one_image_in_every_format(make_mrc: Callable[..., Path], tmp_path: Path) -> None:
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    tifffile.imwrite(tmp_path / "x.tif", image[0])
    for path in (make_mrc("x.mrcs", image), make_mrc("x.mrc", image, ispg=1), tmp_path / "x.tif"):
        np.testing.assert_array_equal(open_particles(path).read([0]), image)


def test_opening_loads_no_heavy_library(tmp_path: Path, images: np.ndarray) -> None:
    write_stack(tmp_path / "x.mrcs", images, 1.5)
    code = (
        "import sys; from napari_harmony import open_particles; "
        f"open_particles({str(tmp_path / 'x.mrcs')!r}); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'matplotlib', 'sklearn', 'napari', 'qtpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
