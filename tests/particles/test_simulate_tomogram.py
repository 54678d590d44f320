"""The simulated tomogram against exact projections, the coverage of its tilt series, and its own truth."""

from __future__ import annotations

import numpy as np
import pytest

from napari_harmony.particles.euler import relion_to_matrix
from napari_harmony.particles.simulate import sample_volumes
from napari_harmony.particles.simulate_tomogram import SimulatedTomogram, TiltGeometry, simulate_tomogram
from napari_harmony.particles.simulate_volumes import posable
from napari_harmony.particles.wedge import TiltRange

SIGMA = 2.0
POINTS = np.random.default_rng(1).uniform(-7, 7, (6, 3))  # x, y, z


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def gaussians(size: int, coordinate: np.ndarray) -> np.ndarray:
    """(points, size): Gaussians of one axis about size // 2."""
    return np.exp(-((np.arange(size) - size // 2 - coordinate[:, None]) ** 2) / (2 * SIGMA**2))


def blobs(shape: tuple[int, int, int]) -> np.ndarray:
    x, y, z = (gaussians(size, POINTS[:, i]) for i, size in enumerate(shape[::-1]))
    return np.einsum("nz,ny,nx->zyx", z, y, x).astype(np.float32)


@pytest.mark.parametrize("shape", [(32, 20, 36), (31, 21, 35)])
def test_projections_are_those_along_the_beam(shape: tuple[int, int, int]) -> None:
    geometry = TiltGeometry(shape, np.array([-50.0, 0.0, 20.0]))
    images = geometry.project(blobs(shape))
    for image, tilt in zip(images, np.radians(geometry.tilts), strict=True):
        across = POINTS[:, 0] * np.cos(tilt) + POINTS[:, 2] * np.sin(tilt)
        exact = np.einsum("nx,ny->xy", gaussians(geometry.width, across), gaussians(shape[1], POINTS[:, 1]))
        exact *= SIGMA * np.sqrt(2 * np.pi)
        assert np.abs(image - exact).max() < 0.01 * exact.max()


def test_half_a_turn_brings_the_volume_back() -> None:
    shape = (32, 16, 32)
    geometry = TiltGeometry(shape, np.arange(-90.0, 90.0, 3.0))
    volume = blobs(shape)
    back = geometry.back_project(geometry.project(volume))
    assert correlation(back, volume) > 0.99
    assert np.abs(back - volume).max() < 0.1 * volume.max()


def test_what_a_tilt_series_lacks_is_what_its_range_says() -> None:
    """An uneven range tells left from right: the sign of the tilts is that of ``TiltRange``."""
    size = 48
    geometry = TiltGeometry((size,) * 3, np.arange(-20.0, 61.0, 2.0))
    noise = np.random.default_rng(0).standard_normal((len(geometry.tilts), geometry.width, size), dtype=np.float32)
    power = np.abs(np.fft.rfftn(geometry.back_project(noise) * np.hanning(size)[:, None, None])) ** 2
    coverage = TiltRange(-20.0, 60.0).coverage([0], size)[0]
    frequency = np.fft.fftfreq(size)
    band = np.abs(frequency[:, None, None]) + np.fft.rfftfreq(size) > 0.15
    band = np.broadcast_to(band & (np.abs(frequency[:, None, None]) < 0.4), power.shape)
    covered, missing = power[(coverage == 1) & band].mean(), power[(coverage == 0) & band].mean()
    assert missing < 0.1 * covered
    mirrored = TiltRange(-60.0, 20.0).coverage([0], size)[0]
    assert power[(mirrored == 0) & band].mean() > 0.3 * covered


@pytest.fixture(scope="module")
def made() -> SimulatedTomogram:
    volumes = sample_volumes()
    return simulate_tomogram([volumes[1], volumes[3]], 5.0, (48, 80, 96), 8, snr=np.inf, seed=4)


def test_particles_are_where_and_how_the_truth_says(made: SimulatedTomogram) -> None:
    assert made.volume.shape == (48, 80, 96) and made.volume.dtype == np.float32
    assert made.wedge == TiltRange(-60.0, 60.0)
    assert sorted(made.truth["kind"]) == [0, 0, 0, 0, 1, 1, 1, 1]
    volumes = sample_volumes()
    kinds = [posable(volumes[1], 0.5), posable(volumes[3], 0.5)]
    coverage = made.wedge.coverage([0], 32)[0]
    scores = []
    for row in made.truth.itertuples():
        place = np.array([row.x, row.y, row.z])
        whole = np.round(place).astype(int)
        box = made.volume[tuple(slice(first - 16, first + 16) for first in whole[::-1])]
        matrix = relion_to_matrix([row.rot, row.tilt, row.psi])

        def seen(matrix: np.ndarray, kind: int, place: np.ndarray = place, whole: np.ndarray = whole) -> np.ndarray:
            drawn = kinds[kind].draw(matrix, whole - place, 32)
            return np.fft.irfftn(np.fft.rfftn(drawn) * coverage, (32,) * 3)

        ball = (np.indices((32,) * 3) - 16) ** 2
        inside = ball.sum(axis=0) < 11**2
        alternatives = (matrix, row.kind), (matrix, 1 - row.kind), (matrix.T, row.kind)
        scores.append([correlation(box[inside], seen(*chosen)[inside]) for chosen in alternatives])
    true, other_kind, other_way = np.array(scores).T
    assert true.min() > 0.7  # neighbours and the CTF are in it
    assert (true > np.maximum(other_kind, other_way)).all()
    assert true.mean() > max(other_kind.mean(), other_way.mean()) + 0.1


def test_particles_keep_their_distance(made: SimulatedTomogram) -> None:
    places = made.truth[["x", "y", "z"]].to_numpy()
    apart = np.linalg.norm(places[:, None] - places, axis=-1) + 1e9 * np.eye(len(places))
    assert apart.min() >= 20
    assert (places >= 16).all() and (places <= np.array([96, 80, 48]) - 16).all()


def test_the_same_seed_gives_the_same_and_noise_adds_power() -> None:
    volume = sample_volumes()[1]

    def of(seed: int, snr: float) -> np.ndarray:
        return simulate_tomogram([volume], 5.0, (40, 48, 64), 1, tilts=range(-60, 61, 12), snr=snr, seed=seed).volume

    np.testing.assert_array_equal(of(1, 0.1), of(1, 0.1))
    assert correlation(of(1, 0.1), of(2, 0.1)) < 0.5
    assert of(1, 0.01).std() == pytest.approx(of(1, 1e-6).std(), rel=0.1)  # noise has variance 1 in the images


def test_too_many_particles_are_refused() -> None:
    with pytest.raises(ValueError, match="of 50 particles fit"):
        simulate_tomogram([sample_volumes()[1]], 5.0, (40, 48, 48), 50)
