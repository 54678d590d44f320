"""Layers in three dimensions: tomograms read piece by piece, subtomograms shown one at a time and put upright."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gui_fakes import make_result_3d, make_subtomograms
from napari.components import ViewerModel
from napari.layers import Image, Points

from napari_harmony import _layers, _stacks, _tomograms
from napari_harmony._layers import KEY, particles_of
from napari_harmony._reader import get_reader, read
from napari_harmony._stacks import ParticleStack, TomogramArray, align_volume
from napari_harmony.errors import InputError
from napari_harmony.particles.euler import relion_to_matrix
from napari_harmony.particles.mrc import write_volume
from napari_harmony.particles.simulate import sample_volumes
from napari_harmony.particles.simulate_volumes import simulate_subtomograms
from napari_harmony.particles.tomogram import open_tomogram
from napari_harmony.particles.wedge import TiltRange


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(6, 10, 12)).astype(np.float32)


@pytest.fixture
def file(tmp_path: Path, voxels: np.ndarray) -> Path:
    write_volume(tmp_path / "tomo.rec", voxels, 7.5)
    return tmp_path / "tomo.rec"


@pytest.mark.parametrize(
    "key",
    [
        3,
        -1,
        (slice(None), 4),
        (slice(None), slice(None), 5),
        (2, slice(1, 9, 3), slice(None, None, -2)),
        (..., 3),
        (slice(4, 1, -1), ...),
        (1, 2, 3),
        (slice(2, 2),),
        slice(None),
    ],
)
def test_a_tomogram_is_indexed_like_an_array(file: Path, voxels: np.ndarray, key: object) -> None:
    np.testing.assert_array_equal(TomogramArray(open_tomogram(file))[key], voxels[key])


def test_a_slice_that_is_not_there_is_refused(file: Path) -> None:
    with pytest.raises(IndexError, match="6 slices"):
        TomogramArray(open_tomogram(file))[6]


def test_a_tomogram_too_large_for_the_3d_view_is_refused_in_words(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stacks, "_LARGEST_READ", 1000)
    array = TomogramArray(open_tomogram(file))
    assert array[2].shape == (10, 12)
    with pytest.raises(InputError, match="too large to be shown as a whole"):
        array[:]


def test_a_tomogram_layer_is_lazy_and_in_angstrom(file: Path, voxels: np.ndarray) -> None:
    layer = Image(*read(str(file))[0][:1], **read(str(file))[0][1])
    assert isinstance(layer.data, TomogramArray) and tuple(layer.scale) == pytest.approx((7.5,) * 3)
    assert layer.axis_labels == ("z", "y", "x") and {str(unit) for unit in layer.units} == {"angstrom"}
    assert _tomograms.is_tomogram(layer) and particles_of(layer) is None
    tomogram = _tomograms.tomogram_of(layer)
    assert tomogram.voxel_size == pytest.approx(7.5) and tomogram.voxel_size_known
    layer.scale = (8, 8, 8)
    assert _tomograms.tomogram_of(layer).voxel_size == pytest.approx(8)
    np.testing.assert_array_equal(tomogram.read((1, 2, 3), (4, 5, 6)), voxels[1:4, 2:5, 3:6])


def test_an_image_from_elsewhere_is_a_tomogram_too(voxels: np.ndarray) -> None:
    layer = Image(voxels, name="mine", scale=(2, 2, 2), units=("nm",) * 3)
    assert _tomograms.is_tomogram(layer)
    tomogram = _tomograms.tomogram_of(layer)
    assert tomogram.voxel_size == pytest.approx(20) and tomogram.path == Path("mine")
    np.testing.assert_array_equal(tomogram.read((1, 2, 3), (4, 5, 6)), voxels[1:4, 2:5, 3:6])
    layer.scale = (2, 2, 3)
    with pytest.raises(InputError, match="cubic voxels"):
        _tomograms.tomogram_of(layer)
    assert not _tomograms.is_tomogram(Image(voxels[0])) and not _tomograms.is_tomogram(Points(np.zeros((2, 3))))


def test_points_are_counted_in_the_voxels_of_the_tomogram(voxels: np.ndarray) -> None:
    tomogram = Image(voxels, scale=(2, 2, 2), translate=(10, 0, 4))
    angles = {"rot": [10.0, 20.0], "tilt": [30.0, 40.0], "psi": [50.0, 60.0]}
    points = Points([[20.0, 2, 8], [12, 4, 6]], features=angles)
    found = _tomograms.points_in(points, tomogram)
    np.testing.assert_allclose(found.positions, [[2, 1, 5], [1, 2, 1]], atol=1e-9)
    np.testing.assert_allclose(found.angles, [[10, 30, 50], [20, 40, 60]], atol=1e-9)
    with pytest.raises(InputError, match="no points"):
        _tomograms.points_in(Points(ndim=3, name="none"), tomogram)
    with pytest.raises(InputError, match="have three, z, y and x"):
        _tomograms.points_in(Points(np.zeros((2, 2))), tomogram)


def test_subtomograms_are_shown_one_at_a_time() -> None:
    particles = make_subtomograms()
    asked: list[int] = []
    source = particles.images

    class Counting:
        shape = source.shape

        def read(self, indices: np.ndarray) -> np.ndarray:
            asked.append(len(np.arange(len(particles))[indices]))
            return source.read(indices)

    data, options, _ = _layers.particles_layer(replace(particles, images=Counting()), "subtomograms")
    assert asked == [8]  # for the contrast
    viewer = ViewerModel()
    layer = viewer.add_image(data, **options)
    assert layer.data.shape == (12, 8, 8, 8) and layer.axis_labels == ("particle", "z", "y", "x")
    assert [str(unit) for unit in layer.units] == ["pixel", *["angstrom"] * 3]
    viewer.dims.ndisplay = 3
    viewer.dims.set_point(0, 7)
    layer.set_view_slice()
    assert layer._slice.image.raw.shape == (8, 8, 8)
    assert set(asked[1:]) == {1}


def test_the_slices_of_one_aligned_subtomogram_are_turned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    turned: list[int] = []
    align = _stacks.align_volume
    monkeypatch.setattr(_stacks, "align_volume", lambda *given: turned.append(1) or align(*given))
    particles, result = make_subtomograms(), make_result_3d()
    stack = ParticleStack(particles, result, aligned=True)
    whole = stack[5]
    for z in range(8):
        np.testing.assert_array_equal(stack[5, z], whole[z])
    assert len(turned) == 1
    stack[6, 0]
    assert len(turned) == 2
    row = result.table.iloc[5]
    expected = align(
        particles.read([5])[0],
        row[["rot", "tilt", "psi"]].to_numpy(float),
        row[["origin_x", "origin_y", "origin_z"]].to_numpy(float),
    )
    np.testing.assert_array_equal(whole, expected)


def test_subtomograms_are_put_upright_by_their_pose() -> None:
    simulated = simulate_subtomograms(
        sample_volumes()[1:2], 3, 32, snr=np.inf, tilt_range=None, pixel_size=10.0, voxel_sizes=[5.0]
    )
    inner = (slice(6, -6),) * 3
    for i, row in simulated.truth.iterrows():
        angles, origin = row[["rot", "tilt", "psi"]].to_numpy(float), row[["origin_x", "origin_y", "origin_z"]]
        upright = align_volume(simulated.particles.read([i])[0], angles, origin.to_numpy(float))
        assert np.corrcoef(upright[inner].ravel(), simulated.clean[0][inner].ravel())[0, 1] > 0.97
        assert np.linalg.det(relion_to_matrix(angles)) == pytest.approx(1)


def test_what_cannot_be_posed_is_left_as_it_is() -> None:
    volume = np.zeros((8, 8, 8), np.float32)
    assert align_volume(volume, np.array([np.nan, 0, 0]), np.zeros(3)) is volume
    broken = np.full((8, 8, 8), np.nan, np.float32)
    assert align_volume(broken, np.zeros(3), np.zeros(3)) is broken


def test_a_folder_of_subtomograms_is_one_layer(tmp_path: Path) -> None:
    for number in range(3):
        write_volume(tmp_path / f"p_{number}.mrc", np.full((8, 8, 8), number, np.float32), 4.0)
    assert get_reader(str(tmp_path)) is read
    ((data, options, kind),) = read(str(tmp_path))
    assert kind == "image" and data.shape == (3, 8, 8, 8) and tuple(options["scale"]) == (1, 4, 4, 4)
    assert data[2, 0, 0, 0] == 2


def test_a_folder_of_tiff_slices_is_left_to_napari(tmp_path: Path) -> None:
    (tmp_path / "slice_1.tif").write_bytes(b"II*\x00")
    assert get_reader(str(tmp_path)) is None


def test_four_axes_of_cubes_are_subtomograms_and_learn_their_wedge() -> None:
    layer = Image(np.zeros((5, 6, 6, 6), np.float32), scale=(1, 10, 10, 10), units=("pixel", *["angstrom"] * 3))
    particles = particles_of(layer)
    assert particles is not None and particles.dimensions == 3 and particles.wedge is None
    assert particles.pixel_size == 10
    known = _layers.set_wedge(layer, TiltRange(-50, 50))
    assert known is not None and known.wedge == TiltRange(-50, 50) and particles_of(layer) is known
    data, options, _ = _layers.particles_layer(make_subtomograms(), "ours")
    ours = Image(data, **options)
    changed = _layers.set_wedge(ours, TiltRange(-40, 50))
    assert changed is not None and particles_of(ours) is changed and changed.wedge == TiltRange(-40, 50)
    assert ours.metadata[KEY]["role"] == "particles"
