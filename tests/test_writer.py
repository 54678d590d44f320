"""The writer and the sample: what is saved can be opened again."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from gui_fakes import make_particles, make_result
from napari.layers import Image, Layer

from napari_harmony import _writer
from napari_harmony._averages import average_layers
from napari_harmony._layers import KEY, aligned_layer, particles_layer, stack_space
from napari_harmony._writer import write_image_stack, write_particle_table
from napari_harmony.errors import InputError


def saved(layer: Layer, path: Path) -> list[str]:
    """Save a layer as napari does."""
    data, meta, _ = layer.as_layer_data_tuple()
    write = write_image_stack if path.suffix == ".mrcs" else write_particle_table
    return write(str(path), data, meta)


def test_a_stack_comes_back_with_its_pixel_size(tmp_path: Path) -> None:
    from napari_harmony.particles import open_particles

    particles = make_particles()
    data, options, _ = particles_layer(particles, "p")
    assert saved(Image(data, **options), tmp_path / "p.mrcs") == [str(tmp_path / "p.mrcs")]
    again = open_particles(tmp_path / "p.mrcs")
    assert again.pixel_size == pytest.approx(2.0)
    np.testing.assert_array_equal(again.read(slice(None)), particles.read(slice(None)))


def test_nanometres_become_angstrom(tmp_path: Path) -> None:
    from napari_harmony.particles import open_particles

    layer = Image(np.zeros((3, 8, 8), np.float32), scale=(1, 0.5, 0.5), units=("pixel", "nm", "nm"))
    saved(layer, tmp_path / "p.mrcs")
    assert open_particles(tmp_path / "p.mrcs").pixel_size == pytest.approx(5.0)


def test_class_averages_are_saved_as_averages(tmp_path: Path) -> None:
    from napari_harmony.particles import open_particles

    result = make_result()
    picture = average_layers(result.averages, result.counts, result.resolution, 2.5, stack_space(2.0), 16)[0]
    saved(Layer.create(*picture), tmp_path / "a.mrcs")
    again = open_particles(tmp_path / "a.mrcs")
    assert again.pixel_size == pytest.approx(2.5)
    np.testing.assert_allclose(again.read(slice(None)), result.averages, atol=1e-5)


def test_colours_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="grey"):
        saved(Image(np.zeros((3, 8, 8, 3), np.uint8), rgb=True), tmp_path / "p.mrcs")
    assert not list(tmp_path.iterdir())


def test_a_class_is_saved_as_its_rows(tmp_path: Path) -> None:
    import pandas as pd

    result = make_result()
    drawn = aligned_layer(make_particles(), result, stack_space(2.0), (0, 1), 2)
    saved(Layer.create(*drawn), tmp_path / "class.csv")
    assert len(pd.read_csv(tmp_path / "class.csv")) == len(result.members(2))


def test_layers_without_transformations_have_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no transformations"):
        saved(Image(np.zeros((3, 8, 8), np.float32), name="bare"), tmp_path / "p.star")


def test_the_sample_knows_its_truth() -> None:
    from napari_harmony._sample_data import simulated_particles

    (drawn,) = simulated_particles()
    layer = Layer.create(*drawn)
    truth = layer.metadata[KEY]["truth"]
    assert set(truth) == {"content", "psi", "origin_x", "origin_y"}
    assert len(truth["psi"]) == layer.data.shape[0] == len(layer.data.particles)
    assert layer.data.particles.ctf is not None


class Drawn:
    """A volume that exists only where it is looked at; it remembers the most slices that were asked for at once."""

    ndim = 3
    dtype = np.dtype(np.float32)

    def __init__(self, shape: tuple[int, int, int], broken_at: int | None = None) -> None:
        self.shape = shape
        self.most = 0
        self.broken_at = broken_at

    def __getitem__(self, key: slice) -> np.ndarray:
        slices = range(*key.indices(self.shape[0]))
        if self.broken_at in slices:
            raise RuntimeError("cannot be drawn")
        self.most = max(self.most, len(slices))
        return np.broadcast_to(np.array(slices, np.float32)[:, None, None], (len(slices), *self.shape[1:]))


def test_a_volume_larger_than_memory_is_written_slab_by_slab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (96, 256, 256)  # 25 MB, of which four slices are a MiB
    monkeypatch.setattr(_writer, "_BATCH_BYTES", 2**20)
    volume = Drawn(shape)
    tracemalloc.start()
    _writer.write_volume_file(str(tmp_path / "big.mrc"), volume, {"scale": (10.0,) * 3, "units": ("angstrom",) * 3})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * 2**20 and volume.most == 4
    with mrcfile.open(tmp_path / "big.mrc") as file:
        assert file.is_volume() and file.data.shape == shape and float(file.voxel_size.z) == pytest.approx(10)
        np.testing.assert_array_equal(file.data[:, 7, 9], np.arange(96))
        assert float(file.header.dmax) == 95 and float(file.header.dmean) == pytest.approx(47.5)
    assert mrcfile.validate(tmp_path / "big.mrc")


def test_a_volume_that_cannot_be_drawn_to_the_end_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_writer, "_BATCH_BYTES", 2**16)
    (tmp_path / "back.mrc").write_bytes(b"before")
    with pytest.raises(RuntimeError, match="cannot be drawn"):
        _writer.write_volume_file(str(tmp_path / "back.mrc"), Drawn((20, 64, 64), broken_at=12), {"scale": (1.0,) * 3})
    assert [path.name for path in tmp_path.iterdir()] == ["back.mrc"]
    assert (tmp_path / "back.mrc").read_bytes() == b"before"
