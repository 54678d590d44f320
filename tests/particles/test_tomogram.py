"""Tomograms: opened by their header, read by boxes."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_harmony.errors import InputError, InputWarning
from napari_harmony.particles.tomogram import open_tomogram, open_volume


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).integers(-100, 100, (5, 7, 9)).astype(np.float32)


@pytest.mark.parametrize("name", ["t.mrc", "t.rec", "t.map"])
@pytest.mark.parametrize(("mode", "kind"), [(1, np.int16), (2, np.float32), (12, np.float16)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_boxes_of_every_pixel_type(
    make_mrc: Callable[..., Path], volume: np.ndarray, name: str, mode: int, kind: type, order: str
) -> None:
    tomogram = open_tomogram(make_mrc(name, volume.astype(kind), mode, order=order, extended=b"x" * 32))
    assert tomogram.shape == (5, 7, 9) and tomogram.voxel_size == pytest.approx(1.5) and tomogram.voxel_size_known
    np.testing.assert_array_equal(tomogram.read(), volume)
    np.testing.assert_array_equal(tomogram.read((1, 2, 3), (4, 7, 8)), volume[1:4, 2:7, 3:8])
    np.testing.assert_array_equal(np.asarray(tomogram.lazy()[2]), volume[2])
    assert tomogram.read((0, 0, 0), (1, 1, 1)).dtype == np.float32


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_packed_files(make_mrc: Callable[..., Path], volume: np.ndarray, pack: Callable[[bytes], bytes]) -> None:
    plain = make_mrc("t.rec", volume)
    packed = plain.with_name("t.rec.gz" if pack is gzip.compress else "t.rec.bz2")
    packed.write_bytes(pack(plain.read_bytes()))
    np.testing.assert_array_equal(open_tomogram(packed).read((1, 1, 1), (3, 4, 5)), volume[1:3, 1:4, 1:5])


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff(tmp_path: Path, volume: np.ndarray, compression: str | None) -> None:
    path = tmp_path / "t.tif"
    tifffile.imwrite(path, volume, compression=compression)
    tomogram = open_tomogram(path)
    assert tomogram.shape == (5, 7, 9) and not tomogram.voxel_size_known
    np.testing.assert_array_equal(tomogram.read((0, 3, 2), (5, 6, 4)), volume[:, 3:6, 2:4])


def test_only_the_box_is_read(tmp_path: Path, make_mrc: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    tomogram = open_tomogram(make_mrc("t.mrc", np.zeros((40, 40, 40), np.float32)))
    read: list[int] = []
    original = np.fromfile

    def counted(*args: object, **options: int) -> np.ndarray:
        read.append(options["count"])
        return original(*args, **options)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(np, "fromfile", counted)
    tomogram.read((10, 10, 10), (14, 14, 14))
    assert read == [4 * 40] * 4


def test_real_files(shared_data: Path) -> None:
    microtubule = open_tomogram(shared_data / "real3d/13pf_MT.tif")
    assert microtubule.shape == (36, 206, 94)
    assert microtubule.voxel_size == pytest.approx(10.52, abs=0.01)
    assert microtubule.read((10, 100, 20), (14, 110, 60)).std() > 1
    plain = open_tomogram(shared_data / "real3d/EMD-3197.map")
    assert plain.shape == (20, 20, 20) and plain.voxel_size == pytest.approx(11.4)
    for name in ("EMD-3197.map.bz2", "emd_3197.map.gz"):
        np.testing.assert_array_equal(open_tomogram(shared_data / "real3d" / name).read(), plain.read())
    assert open_tomogram(shared_data / "real3d/EMD-3001.map").shape == (25, 43, 73)


def test_voxel_size_one_stands_for_unknown(make_mrc: Callable[..., Path], volume: np.ndarray) -> None:
    path = make_mrc("t.mrc", volume, cella=(9.0, 7.0, 1.0))
    assert not open_tomogram(path).voxel_size_known
    given = open_tomogram(path, voxel_size=13.5)
    assert given.voxel_size == 13.5 and given.voxel_size_known


def test_what_is_no_tomogram(make_mrc: Callable[..., Path], tmp_path: Path, volume: np.ndarray) -> None:
    with pytest.raises(InputError, match="single image"):
        open_tomogram(make_mrc("image.mrc", volume[:1]))
    with pytest.raises(InputError, match="does not exist"):
        open_tomogram(tmp_path / "gone.mrc")
    with pytest.raises(InputError, match="incomplete"):
        path = make_mrc("short.mrc", volume)
        path.write_bytes(path.read_bytes()[:-200])
        open_tomogram(path)
    with pytest.raises(InputError, match="2 volumes one behind another"):
        open_volume(make_mrc("two.mrc", np.zeros((8, 4, 4), np.float32), ispg=401, mz=4))
    with pytest.raises(InputError, match="positive number"):
        open_tomogram(make_mrc("t.mrc", volume), voxel_size=-1)
    with pytest.raises(InputError, match="4 axes"):
        tifffile.imwrite(tmp_path / "four.tif", np.zeros((2, 3, 4, 5), np.float32), photometric="minisblack")
        open_tomogram(tmp_path / "four.tif")
    with pytest.warns(InputWarning, match="not named like a tomogram"):
        open_tomogram(make_mrc("t.mrcs", volume))


def test_a_file_that_shrinks_is_an_error_and_no_crash(make_mrc: Callable[..., Path], volume: np.ndarray) -> None:
    path = make_mrc("t.mrc", volume)
    tomogram = open_tomogram(path)
    path.write_bytes(path.read_bytes()[:1100])
    with pytest.raises(InputError, match="ended while slice"):
        tomogram.read()
    path.unlink()
    with pytest.raises(InputError, match="cannot be read any more"):
        tomogram.read()


@pytest.mark.parametrize(("start", "stop"), [((-1, 0, 0), (2, 2, 2)), ((0, 0, 0), (6, 2, 2)), ((2, 2, 2), (2, 3, 3))])
def test_boxes_outside_are_a_mistake_of_the_caller(
    make_mrc: Callable[..., Path], volume: np.ndarray, start: tuple[int, ...], stop: tuple[int, ...]
) -> None:
    with pytest.raises(IndexError):
        open_tomogram(make_mrc("t.mrc", volume)).read(start, stop)
