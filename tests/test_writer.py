"""The writer and the sample: what is saved can be opened again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gui_fakes import make_particles, make_result
from napari.layers import Image, Layer

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
