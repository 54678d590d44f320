"""MRC headers of every make, lazy reading, stack writing."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from napari_harmony.errors import InputError, InputWarning
from napari_harmony.particles.mrc import mrc_images, open_frames, read_header, write_stack

Make = Callable[..., Path]
IMOD_STAMP = np.array([1146047817], "<i4").tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("mode", "dtype"), [(0, "i1"), (1, "i2"), (2, "f4"), (6, "u2"), (12, "f2")])
def test_every_mode_in_both_byte_orders(make_mrc: Make, images: np.ndarray, mode: int, dtype: str, order: str) -> None:
    path = make_mrc("x.mrcs", images.astype(dtype), mode, order=order, dmin=-1, dmax=99)
    source = mrc_images(path)
    assert source.shape == (5, 8, 8)
    read = source.read(slice(None))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, images)


@pytest.mark.parametrize(
    "stamp",
    [(0, 0, 0, 0), (0x44, 0x20, 0x20, 0x20), (0x44, 0x41, 0, 0), (0x44, 0, 0, 0), (0x11, 0x11, 0, 0), (9, 9, 9, 9)],
)
def test_odd_and_wrong_machine_stamps(make_mrc: Make, images: np.ndarray, stamp: tuple[int, ...]) -> None:
    path = make_mrc("x.mrcs", images, machst=stamp)
    if stamp[0] == 0x11:
        with pytest.warns(InputWarning, match="wrong byte order"):
            source = mrc_images(path)
    else:
        source = mrc_images(path)
    np.testing.assert_array_equal(source.read([4, 0]), images[[4, 0]])


def test_big_endian_without_a_stamp_is_told_by_its_sizes(make_mrc: Make, images: np.ndarray) -> None:
    path = make_mrc("x.mrcs", images, order=">", machst=(0, 0, 0, 0))
    np.testing.assert_array_equal(mrc_images(path).read(slice(None)), images)


@pytest.mark.parametrize("identifier", [b"", b"MAP", b"XXXX"])
def test_missing_map_identifier(make_mrc: Make, images: np.ndarray, identifier: bytes) -> None:
    path = make_mrc("x.mrcs", images, map=identifier)
    if identifier.startswith(b"MAP"):
        source = mrc_images(path)
    else:
        with pytest.warns(InputWarning, match="identifier"):
            source = mrc_images(path)
    np.testing.assert_array_equal(source.read([1]), images[[1]])


def test_extended_header_is_skipped(make_mrc: Make, images: np.ndarray) -> None:
    path = make_mrc("x.mrcs", images, extended=b"\x07" * 160)
    assert read_header(path).offset == 1184
    np.testing.assert_array_equal(mrc_images(path).read(slice(1, 3)), images[1:3])


@pytest.mark.parametrize(("flags", "expected"), [(1, -56.0), (0, 200.0)])
def test_imod_says_whether_bytes_are_signed(make_mrc: Make, flags: int, expected: float) -> None:
    data = np.full((1, 4, 4), 200, np.uint8)
    path = make_mrc("x.mrcs", data, 0)
    raw = bytearray(path.read_bytes())
    raw[152:156], raw[156:160] = IMOD_STAMP, np.array([flags], "<i4").tobytes()
    path.write_bytes(raw)
    assert mrc_images(path).read([0])[0, 0, 0] == expected


@pytest.mark.parametrize(("extremes", "expected"), [((-56, 100), -56.0), ((0, 200), 200.0)])
def test_extremes_in_the_header_say_whether_bytes_are_signed(
    make_mrc: Make, extremes: tuple[int, int], expected: float
) -> None:
    path = make_mrc("x.mrcs", np.full((1, 4, 4), 200, np.uint8), 0, dmin=extremes[0], dmax=extremes[1])
    assert mrc_images(path).read([0])[0, 0, 0] == expected


def test_bytes_without_any_hint_are_signed_with_a_warning(make_mrc: Make) -> None:
    path = make_mrc("x.mrcs", np.full((1, 4, 4), 200, np.uint8), 0)
    with pytest.warns(InputWarning, match="signed"):
        assert mrc_images(path).read([0])[0, 0, 0] == -56.0


@pytest.mark.parametrize("mode", [3, 4, 16, 101])
def test_pixels_that_are_no_real_numbers_are_refused(make_mrc: Make, images: np.ndarray, mode: int) -> None:
    with pytest.raises(InputError, match=rf"x\.mrcs holds .*mode {mode}.*convert"):
        mrc_images(make_mrc("x.mrcs", images, mode))


@pytest.mark.parametrize("mode", [154285104, 1937006958, -1, 5])
def test_absurd_modes_are_refused(make_mrc: Make, images: np.ndarray, mode: int) -> None:
    with pytest.raises(InputError, match=rf"x\.mrcs is no readable MRC file.*mode {mode}"):
        mrc_images(make_mrc("x.mrcs", images, mode))


@pytest.mark.parametrize("fields", [{"nx": 0}, {"ny": -3}, {"nz": 0}, {"nx": 2**30 + 1}])
def test_absurd_sizes_are_refused(make_mrc: Make, images: np.ndarray, fields: dict[str, int]) -> None:
    with pytest.raises(InputError, match="no readable MRC file"):
        mrc_images(make_mrc("x.mrcs", images, **fields))


def test_negative_extended_header_is_refused(make_mrc: Make, images: np.ndarray) -> None:
    with pytest.raises(InputError, match="damaged header"):
        mrc_images(make_mrc("x.mrcs", images, nsymbt=-4))


@pytest.mark.parametrize(
    ("cut", "message"),
    [(1, "promises 5 images and only 4 are there"), (4 * 256, "only 1 is there"), (5 * 256, "there is none")],
)
def test_truncated_stacks_say_how_many_images_are_there(
    make_mrc: Make, images: np.ndarray, cut: int, message: str
) -> None:
    path = make_mrc("x.mrcs", images)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(InputError, match=message):
        mrc_images(path)


def test_less_than_a_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mrcs"
    path.write_bytes(b"MAP " * 50)
    with pytest.raises(InputError, match="200 bytes"):
        mrc_images(path)


def test_extra_bytes_are_ignored_with_a_warning(make_mrc: Make, images: np.ndarray) -> None:
    path = make_mrc("x.mrcs", images)
    path.write_bytes(path.read_bytes() + b"tail")
    with pytest.warns(InputWarning, match="4 bytes more"):
        np.testing.assert_array_equal(mrc_images(path).read([4]), images[[4]])


def test_images_that_are_not_square_are_refused(make_mrc: Make) -> None:
    with pytest.raises(InputError, match="8 x 6 pixels"):
        mrc_images(make_mrc("x.mrcs", np.zeros((2, 6, 8), np.float32)))


@pytest.mark.parametrize(("suffix", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_packed_stacks_are_unpacked_for_as_long_as_needed(
    make_mrc: Make, images: np.ndarray, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    plain = make_mrc("x.mrcs", images)
    packed = plain.with_name(f"x.mrcs.{suffix}")
    packed.write_bytes(compress(plain.read_bytes()))
    frames, header = open_frames(packed)
    assert header.path == packed
    unpacked = frames.path
    np.testing.assert_array_equal(mrc_images(packed).read(slice(None)), images)
    assert unpacked.exists()
    del frames
    assert not unpacked.exists()


@pytest.mark.parametrize("keep", [200, 40])
def test_damaged_packed_stacks_are_refused_and_leave_nothing(
    make_mrc: Make, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(cache))
    packed = tmp_path / "x.mrcs.gz"
    packed.write_bytes(gzip.compress(make_mrc("x.mrcs", images).read_bytes())[:keep])
    with pytest.raises(InputError, match="damaged compressed file"):
        mrc_images(packed)
    assert not list(cache.iterdir())


def test_not_finite_and_constant_images_come_unharmed(make_mrc: Make, images: np.ndarray) -> None:
    images[1], images[2, 3, 3], images[3, 0, 0] = 7.0, np.nan, np.inf
    np.testing.assert_array_equal(mrc_images(make_mrc("x.mrcs", images)).read(slice(None)), images)


@pytest.mark.parametrize(
    ("shape", "fields", "volume"),
    [
        ((8, 8, 8), {"ispg": 1, "mz": 8}, True),
        ((8, 8, 8), {"ispg": 0, "mz": 8}, True),  # RELION's maps
        ((8, 8, 8), {"ispg": 0, "mz": 1}, False),  # as many images as pixels along an edge
        ((1, 8, 8), {"ispg": 1, "mz": 1}, False),
        ((5, 8, 8), {"ispg": 1, "mz": 5, "cella": (0, 0, 0)}, False),  # a stack flagged as volume
        ((5, 8, 8), {"ispg": 0, "mz": 5, "cella": (12, 12, 7.5)}, True),  # a slab flagged as stack
        ((16, 8, 8), {"ispg": 401, "mz": 8}, True),
    ],
)
def test_volumes_are_told_from_stacks(
    make_mrc: Make, shape: tuple[int, int, int], fields: dict[str, int], volume: bool
) -> None:
    assert read_header(make_mrc("x.mrc", np.zeros(shape, np.float32), **fields)).is_volume is volume


def test_pixel_size_is_that_of_x_or_unknown(make_mrc: Make, images: np.ndarray) -> None:
    assert read_header(make_mrc("a.mrcs", images)).pixel_size == pytest.approx(1.5)
    assert read_header(make_mrc("b.mrcs", images, cella=(0, 0, 0))).pixel_size is None
    assert read_header(make_mrc("c.mrcs", images, mx=0)).pixel_size is None
    assert read_header(make_mrc("d.mrcs", images, cella=(np.nan, 0, 0))).pixel_size is None


@pytest.mark.parametrize("half", [False, True])
def test_written_stacks_are_valid_mrc(tmp_path: Path, images: np.ndarray, half: bool) -> None:
    path = tmp_path / "deep" / "x.mrcs"
    batches = (images[i : i + 2] for i in range(0, 5, 2))
    assert write_stack(path, batches, 1.25, half_precision=half) == 5
    assert half or mrcfile.validate(str(path))  # mrcfile sums float16 in float16, and overflows
    with mrcfile.open(path) as mrc:
        assert mrc.is_image_stack()
        assert mrc.voxel_size.x == pytest.approx(1.25)
        assert mrc.header.rms == pytest.approx(images.std(), rel=1e-5)
        assert mrc.header.dmean == pytest.approx(images.mean(), rel=1e-5)
        np.testing.assert_array_equal(mrc.data, images)
    np.testing.assert_array_equal(mrc_images(path).read(slice(None)), images)
    assert read_header(path).pixel_size == pytest.approx(1.25)


def test_a_stack_of_one_image_and_not_finite_pixels_can_be_written(tmp_path: Path) -> None:
    image = np.full((1, 6, 6), np.nan, np.float32)
    write_stack(tmp_path / "x.mrcs", image, 1.0)
    source = mrc_images(tmp_path / "x.mrcs")
    assert source.shape == (1, 6, 6)
    assert np.isnan(source.read([0])).all()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, images: np.ndarray) -> None:
    path = tmp_path / "x.mrcs"
    write_stack(path, images, 1.0)
    before = path.read_bytes()
    with pytest.raises(InputError, match="do not fit"):
        write_stack(path, iter([images, images[:, :4, :4]]), 1.0)
    with pytest.raises(InputError, match="no images"):
        write_stack(path, iter([]), 1.0)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows would fill the disk")
def test_a_million_images_open_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "x.mrcs"
    write_stack(path, np.zeros((1, 64, 64), np.float32), 1.0)
    count = 1_000_000
    with path.open("r+b") as file:  # a sparse file of 16 GB takes no space
        file.seek(8)
        file.write(np.array([count], "<i4").tobytes())
        try:
            file.truncate(1024 + count * 64 * 64 * 4)
        except OSError:
            pytest.skip("this file system has no sparse files")
    source = mrc_images(path)
    assert source.shape == (count, 64, 64)
    assert source.read([count - 1, 0]).shape == (2, 64, 64)


def test_a_file_cut_after_opening_is_an_error_and_no_crash(make_mrc: Make, images: np.ndarray) -> None:
    path = make_mrc("x.mrcs", images)
    source = mrc_images(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="ended while image 5 was read"):
        source.read([4])
    path.unlink()
    with pytest.raises(InputError, match="cannot be read any more"):
        source.read([0])
