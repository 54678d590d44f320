"""TIFF stacks of several makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_harmony.errors import InputError
from napari_harmony.particles.images import FileImages, RawFrames
from napari_harmony.particles.tiff import open_tiff

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "big": {"bigtiff": True, "byteorder": ">"},
    "imagej": {"imagej": True, "metadata": {"axes": "TYX"}},
    "ome": {"ome": True, "metadata": {"axes": "TYX"}},
    "deflated": {"compression": "zlib"},
    "tiled": {"tile": (16, 16)},
    "pages": {"compression": "zlib", "metadata": None},
}


@pytest.mark.parametrize("kind", KINDS)
def test_stacks_of_every_kind(tmp_path: Path, images: np.ndarray, kind: str) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, images, **KINDS[kind])
    frames, pixel_size = open_tiff(path)
    source = FileImages([frames])
    assert source.shape == (5, 8, 8)
    assert pixel_size is None
    np.testing.assert_array_equal(source.read([4, 1, 0]), images[[4, 1, 0]])
    if kind in ("plain", "big", "imagej", "ome"):
        assert isinstance(frames, RawFrames)


def test_images_saved_one_by_one(tmp_path: Path, images: np.ndarray) -> None:
    path = tmp_path / "x.tif"
    with tifffile.TiffWriter(path) as writer:
        for image in images:
            writer.write(image)
    source = FileImages([open_tiff(path)[0]])
    np.testing.assert_array_equal(source.read(slice(None)), images)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f8"])
def test_types_become_float32(tmp_path: Path, images: np.ndarray, dtype: str) -> None:
    path = tmp_path / "x.tiff"
    tifffile.imwrite(path, images.astype(dtype), byteorder=">")
    read = FileImages([open_tiff(path)[0]]).read(slice(None))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, images)


def test_one_image_is_a_stack_of_one(tmp_path: Path, images: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "x.tif", images[0])
    assert open_tiff(tmp_path / "x.tif")[0].shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"imagej": True, "resolution": (2 / 3, 2 / 3), "metadata": {"unit": "angstrom", "axes": "TYX"}}, 1.5),
        ({"imagej": True, "resolution": (5, 5), "metadata": {"unit": "nm", "axes": "TYX"}}, 2.0),
        ({"imagej": True, "resolution": (5000, 5000), "metadata": {"unit": "micron", "axes": "TYX"}}, 2.0),
        ({"imagej": True, "resolution": (5, 5), "metadata": {"unit": "pixel", "axes": "TYX"}}, None),
        (
            {"ome": True, "metadata": {"axes": "TYX", "PhysicalSizeX": 0.15, "PhysicalSizeXUnit": "nm"}},
            1.5,
        ),
        ({"ome": True, "metadata": {"axes": "TYX", "PhysicalSizeX": 1.5e-4, "PhysicalSizeXUnit": "µm"}}, 1.5),
        ({"resolution": (5e7, 5e7), "resolutionunit": "CENTIMETER"}, 2.0),
        ({"resolution": (28, 28), "resolutionunit": "CENTIMETER"}, None),  # of a printer
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
    ],
)
def test_pixel_size(tmp_path: Path, images: np.ndarray, options: dict[str, Any], expected: float | None) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, images, **options)
    size = open_tiff(path)[1]
    assert size == (None if expected is None else pytest.approx(expected, rel=1e-4))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((3, 8, 6), np.float32), "6 x 8 pixels"),
        (np.zeros((8, 8, 3), np.uint8), "colour"),
        (np.zeros((2, 3, 8, 8), np.float32), "one axis of images"),
        (np.zeros((3, 8, 8), np.complex64), "real numbers"),
    ],
)
def test_what_is_no_stack_of_grey_squares_is_refused(tmp_path: Path, data: np.ndarray, message: str) -> None:
    path = tmp_path / "x.tif"
    colour = data.dtype == np.uint8
    tifffile.imwrite(path, data, photometric="rgb" if colour else "minisblack")
    with pytest.raises(InputError, match=message):
        open_tiff(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [300, 900])
def test_truncated_stacks_are_refused(tmp_path: Path, images: np.ndarray, kind: str, cut: int) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, images, **KINDS[kind])
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(InputError, match="incomplete|no readable TIFF"):
        open_tiff(path)


def test_a_damaged_page_is_an_error_when_it_is_read(tmp_path: Path, images: np.ndarray) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, images, compression="zlib", metadata=None)
    with tifffile.TiffFile(path) as file:
        offset = file.pages[3].dataoffsets[0]  # type: ignore[union-attr]
    raw = bytearray(path.read_bytes())
    raw[offset : offset + 8] = b"\xff" * 8
    path.write_bytes(raw)
    source = FileImages([open_tiff(path)[0]])
    np.testing.assert_array_equal(source.read([2]), images[[2]])
    with pytest.raises(InputError, match="page 4 cannot be read"):
        source.read([3])


def test_what_is_no_tiff_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(b"II*\x00" + b"\x01" * 100)
    with pytest.raises(InputError, match="no readable TIFF"):
        open_tiff(path)
