"""Averages of subtomograms as a picture of slices and as volumes side by side, and saved again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gui_fakes import make_result_3d
from napari.layers import Layer

from napari_harmony._averages import average_layers, class_at
from napari_harmony._layers import KEY, stack_space
from napari_harmony._volume_averages import orthogonal_slices
from napari_harmony._writer import write_image_stack, write_volume_file
from napari_harmony.errors import InputError
from napari_harmony.particles.tomogram import open_volume


def drawn(averages: np.ndarray, box: int) -> dict[str, Layer]:
    space = stack_space(10.0, dimensions=3)
    made = average_layers(averages, np.ones(len(averages)), np.full(len(averages), np.nan), 10.0, space, box)
    return {options["metadata"][KEY]["role"]: Layer.create(data, options, kind) for data, options, kind in made}


def test_the_picture_shows_three_slices_and_the_projection() -> None:
    average = np.random.default_rng(0).normal(size=(2, 6, 6, 6)).astype(np.float32)
    picture = orthogonal_slices(average)
    assert picture.shape == (2, 13, 13)
    np.testing.assert_array_equal(picture[1, :6, :6], average[1, 3])  # y down, x right
    np.testing.assert_array_equal(picture[1, 7:, :6], average[1, :, 3])  # z down, x right
    np.testing.assert_array_equal(picture[1, :6, 7:], average[1, :, :, 3].T)  # y down, z right
    along = picture[1, 7:, 7:]
    assert np.corrcoef(along.ravel(), average[1].sum(axis=0).ravel())[0, 1] == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(picture[:, 6], picture.min(axis=(1, 2))[:, None] + 0 * picture[:, 6], atol=1e-6)


@pytest.mark.parametrize("average", [np.zeros((2, 6, 6, 6)), np.full((2, 6, 6, 6), np.nan), np.zeros((0, 6, 6, 6))])
def test_empty_averages_do_no_harm(average: np.ndarray) -> None:
    assert np.isfinite(orthogonal_slices(average)).all()
    assert "averages" in drawn(average, 6)


def test_cropped_averages_are_as_large_as_the_particles() -> None:
    layers = drawn(make_result_3d(box=8).averages, 16)
    assert tuple(layers["average volumes"].scale) == (20, 20, 20)
    assert tuple(layers["averages"].scale) == (20, 20)
    assert class_at(layers["averages"].metadata[KEY], 8, 20) == 2


def test_volumes_are_saved_one_file_for_each_class(tmp_path: Path) -> None:
    averages = make_result_3d(classes=5, box=8).averages
    layers = drawn(averages, 8)
    data, meta, _ = layers["average volumes"].as_layer_data_tuple()
    written = write_volume_file(str(tmp_path / "average.mrc"), data, meta)
    assert [Path(path).name for path in written] == [f"average_00{number}.mrc" for number in range(1, 6)]
    for path, average in zip(written, averages, strict=True):
        volume = open_volume(path)
        np.testing.assert_array_equal(volume.read(), average)
        assert volume.voxel_size == pytest.approx(10)
    data, meta, _ = layers["averages"].as_layer_data_tuple()
    with pytest.raises(InputError, match="picture of slices"):
        write_image_stack(str(tmp_path / "a.mrcs"), data, meta)
    with pytest.raises(InputError, match="axes z, y and x"):
        write_volume_file(str(tmp_path / "a.mrc"), np.zeros((3, 3)), {})
