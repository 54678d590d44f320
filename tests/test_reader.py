"""The reader: particles lazily, volumes as volumes, result folders whole, and nothing that is not ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from gui_fakes import make_particles, make_result
from napari.components import ViewerModel
from napari.layers import Layer

from napari_harmony._layers import KEY, particles_of, result_of, role_of
from napari_harmony._reader import get_reader, read
from napari_harmony._stacks import ParticleStack, TomogramArray
from napari_harmony.errors import InputError
from napari_harmony.particles.mrc import write_stack


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    images = np.random.default_rng(0).normal(size=(60, 16, 16)).astype(np.float32)
    write_stack(tmp_path / "stack.mrcs", images, 2.0)
    return tmp_path / "stack.mrcs"


@pytest.fixture
def folder(tmp_path: Path, stack: Path) -> Path:
    from napari_harmony.outputs import write_output
    from napari_harmony.particles import open_particles

    return write_output(tmp_path / "out", open_particles(stack), make_result())


def write_mrc(path: Path, data: np.ndarray, voxel: float, volume: bool) -> Path:
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(data)
        file.voxel_size = voxel
        if volume:
            file.set_volume()
        else:
            file.set_image_stack()
    return path


def layers(path: str | list[str]) -> list[Layer]:
    """What the reader gives, as real layers."""
    return [Layer.create(*drawn) for drawn in read(path)]


@pytest.mark.parametrize("name", ["a.mrcs", "a.MRC", "a.star", "a.cs", "a.map", "a.rec", "a.mrcs.gz", "a.mrc.bz2"])
def test_files_of_ours(name: str) -> None:
    assert get_reader(name) is read
    assert get_reader([name, name]) is read


@pytest.mark.parametrize("path", ["a.tif", "a.png", "a.csv", "a.gz", "a.tif.gz", ["a.mrcs", "a.tif"], []])
def test_files_of_others(path: str | list[str]) -> None:
    assert get_reader(path) is None


def test_a_folder_is_ours_only_when_a_run_wrote_it(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "zarr").mkdir()
    assert get_reader(str(tmp_path / "zarr")) is None
    assert get_reader(str(folder)) is read


def test_a_stack_is_one_lazy_layer_in_angstrom(stack: Path) -> None:
    (layer,) = layers(str(stack))
    assert isinstance(layer.data, ParticleStack) and layer.data.shape == (60, 16, 16)
    assert layer.name == "stack"
    assert tuple(layer.scale) == (1, 2, 2)
    assert [str(u) for u in layer.units] == ["pixel", "angstrom", "angstrom"]
    assert layer.axis_labels == ("particle", "y", "x")
    low, high = layer.contrast_limits
    assert -4 < low < -2 and 2 < high < 4
    assert layer.metadata[KEY]["path"] == str(stack)


def test_opening_many_particles_reads_few(monkeypatch: pytest.MonkeyPatch, stack: Path) -> None:
    from napari_harmony.particles.images import RawFrames

    seen: list[int] = []
    read_frames = RawFrames.read_frames

    def counting(self: RawFrames, frames: np.ndarray, out: np.ndarray, rows: np.ndarray) -> None:
        seen.extend(frames)
        read_frames(self, frames, out, rows)

    monkeypatch.setattr(RawFrames, "read_frames", counting)
    read(str(stack))
    assert 0 < len(seen) <= 32


def test_several_files_are_several_layers(stack: Path) -> None:
    assert len(layers([str(stack), str(stack)])) == 2


@pytest.mark.parametrize("suffix", [".mrc", ".map", ".rec"])
def test_a_volume_is_a_volume(tmp_path: Path, suffix: str) -> None:
    path = write_mrc(tmp_path / f"tomogram{suffix}", np.zeros((6, 10, 12), np.float32), 4.0, volume=True)
    (layer,) = layers(str(path))
    assert role_of(layer) == "volume" and isinstance(layer.data, TomogramArray)
    assert tuple(layer.scale) == pytest.approx((4, 4, 4)) and layer.axis_labels == ("z", "y", "x")
    assert {str(u) for u in layer.units} == {"angstrom"}
    assert particles_of(layer) is None


def test_a_stack_named_mrc_is_a_stack(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "stack.mrc", np.zeros((6, 10, 10), np.float32), 4.0, volume=False)
    (layer,) = layers(str(path))
    assert isinstance(layer.data, ParticleStack)


def test_a_micrograph_is_an_image(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "micrograph.mrc", np.zeros((1, 20, 30), np.float32), 1.5, volume=False)
    (layer,) = layers(str(path))
    assert layer.data.shape == (20, 30) and layer.axis_labels == ("y", "x")
    assert tuple(layer.scale) == pytest.approx((1.5, 1.5))


def test_what_cannot_be_read_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.mrcs").write_bytes(b"")
    with pytest.raises(InputError, match=r"empty\.mrcs"):
        read(str(tmp_path / "empty.mrcs"))


def test_a_result_folder_restores_layers_and_result(folder: Path) -> None:
    found = {role_of(layer): layer for layer in layers(str(folder))}
    assert set(found) == {"particles", "aligned", "averages", "labels"}
    result = result_of(found["particles"])
    assert result is not None and len(result) == 60
    assert particles_of(found["particles"]) is found["aligned"].data.particles
    np.testing.assert_allclose(result.table["psi"], make_result().table["psi"], atol=1e-3)
    assert tuple(found["aligned"].scale) == (1, 2, 2)
    assert list(found["labels"].features["count"]) == make_result().counts.tolist()


def test_a_result_opened_beside_other_layers_is_what_is_looked_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((4, 4)), translate=(1e5, 1e5))
    monkeypatch.setattr("napari.current_viewer", lambda: viewer)
    connected = len(viewer.layers.events.inserted.callbacks)
    for data, options, kind in read(str(folder)):
        viewer.add_layer(Layer.create(data, options, kind))
    new = viewer.layers[1:]
    low, high = (np.stack([layer.extent.world[i][-2:] for layer in new]) for i in (0, 1))
    assert (low.min(0) <= viewer.camera.center[-2:]).all() and (viewer.camera.center[-2:] <= high.max(0)).all()
    assert len(viewer.layers.events.inserted.callbacks) == connected


def test_a_result_folder_without_its_images_still_shows_averages(folder: Path, stack: Path) -> None:
    stack.unlink()
    with pytest.warns(UserWarning, match="only the class averages"):
        found = layers(str(folder))
    assert [role_of(layer) for layer in found] == ["averages", "labels"]


def test_unknown_pixel_sizes_are_not_made_up() -> None:
    from napari_harmony._layers import particles_layer

    particles = replace(make_particles(), pixel_size=1.0, pixel_size_known=False)
    layer = Layer.create(*particles_layer(particles, "p"))
    assert layer.metadata[KEY]["pixel_size_known"] is False
    assert {str(u) for u in layer.units} == {"pixel"}
