"""Averages put back: at the right place, turned the right way, by class, however little of it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from napari_harmony.analysis import map_back
from napari_harmony.analysis.map_back import Painted, Placement, Template
from napari_harmony.particles.euler import relion_to_matrix
from napari_harmony.particles.simulate import sample_volumes
from napari_harmony.particles.simulate_volumes import posable, random_angles

SHAPE = (44, 70, 74)
BOX = 32


@dataclass(frozen=True)
class Specimen:
    """Particles of two kinds in a volume, as simulated subtomograms are drawn, without noise."""

    volume: np.ndarray
    clean: np.ndarray


@pytest.fixture(scope="module")
def placement() -> Placement:
    positions = np.array([[20.3, 17.8, 18.0], [55.1, 20.6, 25.4], [21.0, 52.2, 26.9], [52.7, 51.9, 20.2]])
    matrices = relion_to_matrix(random_angles(4, np.random.default_rng(1)))
    return Placement(positions, matrices, np.array([1, 2, 2, 1]))


@pytest.fixture(scope="module")
def made(placement: Placement) -> Specimen:
    prepared = [posable(density, 0.5) for density in sample_volumes()[1:3]]
    clean = np.stack([one.draw(np.eye(3), np.zeros(3), BOX) for one in prepared])
    volume = np.zeros(SHAPE, np.float32)
    for position, matrix, number in zip(placement.positions, placement.matrices, placement.classes, strict=True):
        whole = np.round(position).astype(int)
        region = tuple(slice(c - BOX // 2, c + BOX // 2) for c in whole[::-1])
        volume[region] += prepared[number - 1].draw(matrix, whole - position, BOX)
    return Specimen(volume, clean)


def blob(box: int = 16) -> np.ndarray:
    """An average with a spot on its +z axis and a smaller one on its +x axis."""
    z, y, x = np.mgrid[:box, :box, :box] - box // 2
    ball = np.exp(-(x**2 + y**2 + (z - 4.0) ** 2) / 4) + np.exp(-((x - 4.0) ** 2 + y**2 + z**2) / 4)
    return ball.astype(np.float32)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def test_painted_particles_are_the_tomogram(made: Specimen, placement: Placement) -> None:
    templates = [Template(density, threshold=0.0) for density in made.clean]
    painted = Painted(templates, placement, SHAPE).density(overlap="sum")
    turned = Placement(placement.positions, np.roll(placement.matrices, 1, axis=0), placement.classes)
    for row, place in enumerate(np.round(placement.positions).astype(int)):
        region = tuple(slice(max(0, c - 10), c + 11) for c in place[::-1])
        here = correlation(painted[region], made.volume[region])
        wrong = Painted(templates, turned.subset([row]), SHAPE).density()[region]
        assert here > 0.97
        assert here > correlation(wrong, made.volume[region]) + 0.1


def test_a_part_is_a_part_of_the_whole(made: Specimen, placement: Placement) -> None:
    painted = Painted(map_back.templates_of(made.clean), placement, SHAPE)
    whole, labels = painted.density(), painted.labels()
    np.testing.assert_array_equal(np.concatenate(list(painted.slabs(7))), whole)
    np.testing.assert_allclose(painted.density((5, 10, 0), (6, 60, 74)), whole[5:6, 10:60], atol=1e-6)
    np.testing.assert_array_equal(painted.labels((0, 20, 30), (44, 21, 50)), labels[:, 20:21, 30:50])
    assert set(np.unique(labels)) == {0, 1, 2}
    assert ((whole > 0) == (labels > 0)).all()
    for row, place in enumerate(placement.positions):
        alone = Painted(painted.templates, placement.subset([row]), SHAPE).labels()
        assert set(np.unique(alone)) == {0, placement.classes[row]}
        found = np.argwhere(alone)[:, ::-1]
        assert np.abs(found - place).max() <= 16


def test_binned_averages_grow_to_the_tomogram() -> None:
    position, matrix = np.array([20.0, 20.0, 20.0]), np.eye(3)
    drawn = Template(blob(), ratio=2.0).draw(position, matrix, (0, 0, 0), (40, 40, 40))
    brightest = np.unravel_index(drawn[:, :, :25].argmax(), (40, 40, 25))
    assert brightest == (28, 20, 20)  # 4 voxels of the average along z are 8 of the tomogram


def test_surfaces_lie_where_the_density_is(made: Specimen, placement: Placement) -> None:
    templates = map_back.templates_of(made.clean)
    mesh = map_back.surfaces(templates, placement)
    density = Painted(templates, placement, SHAPE).density()
    inside = np.round(mesh.vertices).astype(int)
    centres = placement.positions[:, ::-1]
    nearest = np.linalg.norm(mesh.vertices[:, None] - centres, axis=-1).argmin(axis=1)
    np.testing.assert_array_equal(mesh.classes, placement.classes[nearest])
    # vertices hug the painted volume: matter lies within a voxel or two of every one of them
    assert np.quantile(distance_transform_edt(density == 0)[tuple(inside.T)], 0.99) <= 2
    assert np.quantile(distance_transform_edt(density > 0)[tuple(inside.T)], 0.99) <= 3
    assert mesh.faces.min() == 0 and mesh.faces.max() == len(mesh.vertices) - 1


def test_surfaces_and_vectors_turn_like_the_particles() -> None:
    matrices = relion_to_matrix([[30.0, 70.0, -50.0], [0, 0, 0]])
    placement = Placement(np.array([[10.0, 20, 30], [50, 50, 50]]), matrices, np.array([1, 1]))
    template = Template(blob(), threshold=0.5)
    mesh = map_back.surfaces([template], placement)
    z_axes, x_axes = map_back.orientation_vectors(placement, 4.0)
    for row in range(2):
        np.testing.assert_allclose(z_axes[row, 0], placement.positions[row, ::-1])
        own = mesh.vertices[row * len(mesh.vertices) // 2 : (row + 1) * len(mesh.vertices) // 2]
        for vectors in (z_axes, x_axes):
            tip = vectors[row].sum(axis=0)  # there is a spot at the end of either axis
            assert np.linalg.norm(own - tip, axis=1).min() < 3
            assert np.linalg.norm(own - (vectors[row, 0] - vectors[row, 1]), axis=1).min() > 3
    np.testing.assert_allclose(z_axes[1, 1], [4, 0, 0], atol=1e-12)
    np.testing.assert_allclose(x_axes[1, 1], [0, 0, 4], atol=1e-12)


def test_many_particles_get_coarser_surfaces() -> None:
    placement = Placement(np.zeros((50, 3)), np.stack([np.eye(3)] * 50), np.ones(50, np.int64))
    template = Template(blob(24))
    fine, coarse = map_back.surfaces([template], placement), map_back.surfaces([template], placement, 10_000)
    assert len(coarse.faces) < len(fine.faces) / 3


@pytest.mark.parametrize("average", [np.zeros((8, 8, 8)), np.full((8, 8, 8), 3.0), np.full((8, 8, 8), np.nan)])
def test_an_empty_average_shows_nothing(average: np.ndarray) -> None:
    placement = Placement(np.full((1, 3), 4.0), np.eye(3)[None], np.array([1]))
    painted = Painted([Template(average)], placement, (8, 8, 8))
    assert not painted.density().any() and not painted.labels().any()
    assert len(map_back.surfaces(painted.templates, placement).vertices) == 0


def test_the_contour_separates_matter_from_noise() -> None:
    average = blob() + np.random.default_rng(0).normal(0, 0.05, (16, 16, 16))
    assert 0.1 < map_back.contour_level(average) < 0.7


def test_particles_beyond_the_border_are_cut() -> None:
    placement = Placement(np.array([[0.0, 0, 0], [500, 500, 500]]), np.stack([np.eye(3)] * 2), np.array([1, 1]))
    painted = Painted([Template(blob())], placement, (8, 8, 8)).density()
    assert painted.shape == (8, 8, 8) and painted[4, 0, 0] > 0


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 positions"):
        Placement(np.zeros((2, 3)), np.zeros((1, 3, 3)), np.zeros(2, np.int64))
