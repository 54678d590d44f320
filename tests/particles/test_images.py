"""Image sources in files and memory, and the lazy array over them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_harmony.errors import InputError
from napari_harmony.particles.images import ArrayImages, FileImages, LazyStack, RawFrames, as_indices
from napari_harmony.particles.mrc import open_frames


@given(st.lists(st.integers(-7, 6), max_size=20))
def test_indices_mean_what_numpy_means(indices: list[int]) -> None:
    rows = np.arange(7)
    np.testing.assert_array_equal(as_indices(indices, 7), rows[np.array(indices, dtype=int)])


@given(st.slices(9))
def test_slices_mean_what_numpy_means(part: slice) -> None:
    np.testing.assert_array_equal(as_indices(part, 9), np.arange(9)[part])


def test_indices_out_of_range_and_wrong_masks_are_refused() -> None:
    for wrong in ([5], [-6], np.ones(4, dtype=bool)):
        with pytest.raises(IndexError):
            as_indices(wrong, 5)
    np.testing.assert_array_equal(as_indices(np.array([True, False, True]), 3), [0, 2])


@pytest.fixture
def two_files(make_mrc: Callable[..., Path]) -> tuple[FileImages, np.ndarray]:
    """Seven particles spread over two files, out of order, one used twice; and what they must be."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(4, 6, 6)).astype("f4"), rng.normal(size=(3, 6, 6)).astype("f4")
    files = [open_frames(make_mrc(name, data))[0] for name, data in (("a.mrcs", a), ("b.mrcs", b))]
    file_of, frame_of = np.array([0, 1, 0, 0, 1, 0, 0]), np.array([3, 2, 0, 1, 0, 2, 3])
    sign = np.array([1, -1, 1, 1, -1, 1, 1])
    expected = np.stack([(a, b)[f][i] * s for f, i, s in zip(file_of, frame_of, sign, strict=True)])
    return FileImages(files, file_of, frame_of, sign), expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the files do not change
@given(st.data())
def test_order_of_reading_is_the_order_asked(two_files: tuple[FileImages, np.ndarray], data: st.DataObject) -> None:
    source, expected = two_files
    chosen = data.draw(st.lists(st.integers(0, 6), max_size=12))
    np.testing.assert_array_equal(source.read(chosen), expected[np.array(chosen, dtype=int)])


def test_neighbouring_images_are_read_at_once(
    make_mrc: Callable[..., Path], images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, _ = open_frames(make_mrc("x.mrcs", images))
    calls: list[int] = []
    original = np.fromfile

    def counted(file: object, dtype: np.dtype, count: int) -> np.ndarray:
        calls.append(count // 64)
        return original(file, dtype=dtype, count=count)

    monkeypatch.setattr(np, "fromfile", counted)
    np.testing.assert_array_equal(FileImages([frames]).read([4, 0, 1, 2]), images[[4, 0, 1, 2]])
    assert calls == [3, 1]
    monkeypatch.setattr("napari_harmony.particles.images._RUN_BYTES", 2 * 256)
    np.testing.assert_array_equal(FileImages([frames]).read(slice(None)), images)
    assert calls == [3, 1, 2, 2, 1]


def test_reading_from_threads_gives_the_same(two_files: tuple[FileImages, np.ndarray]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    source, expected = two_files
    with ThreadPoolExecutor(4) as pool:
        for number, image in zip(range(7), pool.map(lambda i: source.read([i])[0], range(7)), strict=True):
            np.testing.assert_array_equal(image, expected[number])


@pytest.mark.parametrize("dtype", ["u1", "i4", "f8", "f2", "?"])
def test_arrays_become_float32_copies(dtype: str) -> None:
    array = np.arange(48).reshape(3, 4, 4).astype(dtype)
    source = ArrayImages(array)
    read = source.read([2, 0])
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, array[[2, 0]])
    read[:] = -5
    np.testing.assert_array_equal(source.read(slice(0, 3)), array)


def test_one_image_is_a_stack_of_one() -> None:
    assert ArrayImages(np.zeros((4, 4))).shape == (1, 4, 4)


def test_lazy_arrays_are_computed_per_slice() -> None:
    dask = pytest.importorskip("dask.array")
    array = np.random.default_rng(0).normal(size=(6, 4, 4)).astype("f4")
    source = ArrayImages(dask.from_array(array, chunks=(2, 4, 4)))
    np.testing.assert_array_equal(source.read([5, 1]), array[[5, 1]])


@pytest.mark.parametrize("wrong", [np.zeros((2, 3, 4)), np.zeros(3), np.zeros((0, 4, 4)), np.zeros((1, 2, 3, 3))])
def test_arrays_that_are_no_stack_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(InputError):
        ArrayImages(wrong)


def test_complex_arrays_are_refused() -> None:
    with pytest.raises(InputError, match="complex64"):
        ArrayImages(np.zeros((2, 4, 4), np.complex64))


@pytest.mark.parametrize(
    "key",
    [
        3,
        -1,
        np.int64(2),
        slice(1, 4),
        [4, 0],
        (2, slice(1, 3)),
        (slice(0, 4, 2), 1),
        (..., 0),
        (2, ...),
        ...,
        (1, 2, 3),
        (),
    ],
)
def test_lazy_stack_is_indexed_like_an_array(images: np.ndarray, key: object) -> None:
    stack = LazyStack(ArrayImages(images))
    np.testing.assert_array_equal(stack[key], images[key])


def test_lazy_stack_applies_its_function_only_to_what_is_looked_at(images: np.ndarray) -> None:
    seen: list[int] = []

    def double(batch: np.ndarray, indices: np.ndarray) -> np.ndarray:
        seen.extend(indices.tolist())
        return 2 * batch

    stack = LazyStack(ArrayImages(images), double)
    np.testing.assert_array_equal(stack[3], 2 * images[3])
    assert seen == [3]
    np.testing.assert_array_equal(np.asarray(stack, dtype=np.float64), 2.0 * images)
    assert (stack.shape, stack.ndim, stack.dtype, len(stack), stack.nbytes) == ((5, 8, 8), 3, np.float32, 5, 1280)


def test_lazy_stack_may_change_the_size_of_images(images: np.ndarray) -> None:
    stack = LazyStack(ArrayImages(images), lambda batch, _: batch[:, 2:6, 2:6], image_shape=(4, 4))
    assert stack.shape == (5, 4, 4)
    np.testing.assert_array_equal(stack[1:3], images[1:3, 2:6, 2:6])


def test_raw_frames_of_a_missing_file_say_so(tmp_path: Path) -> None:
    frames = RawFrames(tmp_path / "gone.mrcs", (1, 4, 4), np.dtype("f4"), 0)
    with pytest.raises(InputError, match=r"gone\.mrcs"):
        FileImages([frames]).read([0])
