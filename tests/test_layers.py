"""Layers: lazy stacks that carry their particles, images put upright, and class averages as one picture."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gui_fakes import make_particles, make_result
from napari.layers import Image
from scipy.ndimage import gaussian_filter

from napari_harmony import _layers
from napari_harmony._averages import Montage, averages_of, caption, class_at
from napari_harmony._layers import KEY, particles_of
from napari_harmony._stacks import ParticleStack, align_image
from napari_harmony.errors import InputError


def blob(box: int, y: float, x: float) -> np.ndarray:
    yy, xx = np.mgrid[:box, :box]
    return np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / 8).astype(np.float32)


@pytest.mark.parametrize("box", [32, 33])
def test_a_particle_is_shifted_then_turned(box: int) -> None:
    centre = box // 2
    # A spot 8 px right of the particle's centre; the particle lies at the centre minus its origin.
    image = blob(box, centre - 3, centre + 2 + 8)
    aligned = align_image(image, psi=90.0, origin_x=-2.0, origin_y=3.0)
    # +90 degrees takes x to y: clockwise where y points down, as RELION and napari show it.
    expected = blob(box, centre + 8, centre)
    assert np.corrcoef(aligned.ravel(), expected.ravel())[0, 1] > 0.999


def test_a_magnified_particle_comes_back_to_size() -> None:
    image = blob(32, 16, 16 + 8)
    assert np.unravel_index(align_image(image, 0, 0, 0, scale=2.0).argmax(), (32, 32)) == (16, 20)


def test_no_pose_changes_nothing_and_bad_ones_do_no_harm() -> None:
    image = gaussian_filter(np.random.default_rng(0).normal(size=(16, 16)), 1).astype(np.float32)
    np.testing.assert_allclose(align_image(image, 0, 0, 0), image, atol=1e-5)
    assert align_image(image, np.nan, 0, 0) is image
    broken = np.full((16, 16), np.nan, np.float32)
    assert align_image(broken, 10, 0, 0) is broken


def test_alignment_matches_relions_projections(shared_data: Path) -> None:
    from napari_harmony.particles import open_particles
    from napari_harmony.particles.dataset import Particles

    def opened(name: str) -> tuple[Particles, dict[str, list[float]]]:
        stack = open_particles(shared_data / "poses" / name)
        step = 1.0 if "rlnOriginX" in stack.table else stack.pixel_size
        labels = ("rlnOriginX", "rlnOriginY") if step == 1.0 else ("rlnOriginXAngst", "rlnOriginYAngst")
        return stack, {
            axis: [float(v) / step for v in stack.table[name]] for axis, name in zip("xy", labels, strict=True)
        }

    stack, origin = opened("rln_proj_65_shifted.star")
    centred, _ = opened("rln_proj_65_centered.star")
    inner = (slice(12, -12), slice(12, -12))
    for i in range(len(stack)):
        moved = align_image(stack.read([i])[0], 0.0, origin["x"][i], origin["y"][i])
        assert np.corrcoef(moved[inner].ravel(), centred.read([i])[0][inner].ravel())[0, 1] > 0.99


def test_an_aligned_stack_reads_only_what_is_looked_at() -> None:
    particles, result = make_particles(), make_result()
    read: list[int] = []
    source = particles.images

    class Counting:
        shape = source.shape

        def read(self, indices: np.ndarray) -> np.ndarray:
            read.extend(np.arange(len(particles))[indices])
            return source.read(indices)

    counted = replace(particles, images=Counting())
    stack = ParticleStack(counted, result, result.members(2), aligned=True)
    assert stack[3].shape == (16, 16)
    assert read == [result.members(2)[3]]
    row = result.table.iloc[result.members(2)[3]]
    expected = align_image(source.read([read[0]])[0], row.psi, row.origin_x, row.origin_y, row.scale)
    np.testing.assert_array_equal(stack[3], expected)


def test_the_3d_view_does_not_read_a_huge_stack() -> None:
    class Endless:
        shape = (10_000_000, 64, 64)

        def read(self, indices: np.ndarray) -> np.ndarray:
            return np.zeros((len(indices), 64, 64), np.float32)

    stack = ParticleStack(replace(make_particles(), images=Endless()))
    with pytest.raises(InputError, match="2D view"):
        stack[:, :, :]
    assert stack[9_999_999].shape == (64, 64) and stack[5:9, 3].shape == (4, 64)


def test_duplicating_a_layer_copies_no_images() -> None:
    stack = ParticleStack(make_particles())
    assert copy.deepcopy(stack) is stack


def test_ids_and_positions_are_inverses() -> None:
    result = make_result()
    stack = ParticleStack(make_particles(), result, result.members(3), aligned=True)
    ids = [stack.particle_at(i) for i in range(stack.shape[0])]
    assert ids == list(result.members(3))
    assert [stack.position_of(i) for i in ids if i is not None] == list(range(stack.shape[0]))
    assert stack.particle_at(stack.shape[0]) is None
    assert stack.position_of(int(result.members(1)[0])) is None


def test_layers_carry_space_and_provenance_that_json_can_hold() -> None:
    data, options, kind = _layers.particles_layer(make_particles(), "stack")
    assert kind == "image" and options["scale"] == (1.0, 2.0, 2.0)
    assert options["units"] == ("pixel", "angstrom", "angstrom")
    layer = Image(data, **options)
    assert layer.data is data and layer.axis_labels == ("particle", "y", "x")
    assert json.loads(json.dumps(layer.metadata[KEY]))["particles"] == 60
    aligned = _layers.aligned_layer(make_particles(), make_result(), _layers.space_of(layer), (0, 1), 2)
    json.dumps(aligned[1]["metadata"])
    assert tuple(aligned[1]["scale"]) == (1.0, 2.0, 2.0) and aligned[1]["units"] == layer.units


@pytest.mark.parametrize(
    ("shape", "dtype", "rgb"),
    [((5, 8, 9), "f4", False), ((8, 8), "f4", False), ((5, 8, 8, 3), "u1", True), ((2, 5, 8, 8), "f4", False)],
)
def test_layers_that_hold_no_particles(shape: tuple[int, ...], dtype: str, rgb: bool) -> None:
    assert particles_of(Image(np.zeros(shape, dtype), rgb=rgb)) is None


def test_a_stack_from_elsewhere_is_a_data_set_once() -> None:
    layer = Image(np.random.default_rng(0).normal(size=(5, 8, 8)), scale=(1, 0.3, 0.3), units=("pixel", "nm", "nm"))
    particles = particles_of(layer)
    assert particles is not None and len(particles) == 5
    assert particles.pixel_size == pytest.approx(3.0) and particles.pixel_size_known
    assert particles_of(layer) is particles
    layer.scale = (1, 0.4, 0.4)
    again = particles_of(layer)
    assert again is not None and again.pixel_size == pytest.approx(4.0)


def test_without_a_length_unit_the_pixel_size_is_unknown() -> None:
    particles = particles_of(Image(np.zeros((5, 8, 8), np.float32)))
    assert particles is not None and not particles.pixel_size_known and particles.pixel_size == 1.0


@pytest.mark.parametrize("ours", [True, False])
def test_a_layer_can_be_told_its_pixel_size(ours: bool) -> None:
    unknown = replace(make_particles(), pixel_size=1.0, pixel_size_known=False)
    layer = Image(np.zeros((5, 8, 8), np.float32))
    if ours:
        data, options, _ = _layers.particles_layer(unknown, "p")
        layer = Image(data, **options)
    particles = _layers.set_pixel_size(layer, 1.31)
    assert particles is not None and particles.pixel_size_known and particles.pixel_size == pytest.approx(1.31)
    assert particles_of(layer) is particles
    assert tuple(layer.scale) == (1, 1.31, 1.31) and [str(u) for u in layer.units] == ["pixel", "angstrom", "angstrom"]


def test_the_picture_of_averages_gives_the_averages_back() -> None:
    averages = np.random.default_rng(0).normal(5, 3, size=(7, 12, 12)).astype(np.float32)
    averages[3] = 1.0  # a class without contrast
    tiles = Montage.of(averages)
    np.testing.assert_allclose(averages_of(tiles.picture, json.loads(json.dumps(tiles.about()))), averages, atol=1e-5)


def test_classes_are_found_under_the_cursor() -> None:
    about = Montage.of(np.ones((5, 10, 10), np.float32)).about()
    for number, (y, x) in enumerate(about["corners"], start=1):
        assert class_at(about, y, x) == number == class_at(about, y + 9, x + 9)
        assert class_at(about, y + 10.6, x) != number
    assert class_at(about, -1, 0) is None


@pytest.mark.parametrize("count", [1, 2, 3, 10, 50, 137])
def test_tiles_do_not_overlap_and_the_picture_is_broad(count: int) -> None:
    tiles = Montage.of(np.ones((count, 4, 4), np.float32))
    assert len({tuple(c) for c in tiles.corners.tolist()}) == count
    height, width = tiles.picture.shape
    assert height <= width + 4


def test_limits_survive_everything() -> None:
    assert _layers.contrast_limits(np.full((2, 4, 4), np.nan)) == (0.0, 1.0)
    low, high = _layers.contrast_limits(np.full((2, 4, 4), 3.0))
    assert low < high


def test_captions_speak_of_resolution_only_where_there_is_one() -> None:
    assert caption(np.array([1200, 3]), np.array([8.26, np.nan])) == ["1: 1,200, 8.3 \N{ANGSTROM SIGN}", "2: 3"]
