"""Cutting subtomograms out of a tomogram."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_harmony.errors import InputError
from napari_harmony.particles.coordinates import Coordinates, angles_to_quaternions, read_coordinates
from napari_harmony.particles.extract import Extracted, Extracting, ExtractSettings, extract, fourier_binned
from napari_harmony.particles.mrc import read_header, write_volume
from napari_harmony.particles.open import open_particles
from napari_harmony.particles.relion import write_relion
from napari_harmony.particles.tomogram import Tomogram, open_tomogram
from napari_harmony.particles.wedge import TiltRange

SHAPE = (20, 30, 40)


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(5, 2, SHAPE).astype(np.float32)


@pytest.fixture
def tomogram(tmp_path: Path, values: np.ndarray) -> Tomogram:
    write_volume(tmp_path / "TS_1.mrc", values, 10.0)
    return open_tomogram(tmp_path / "TS_1.mrc")


def run(tomogram: Tomogram, coordinates: Coordinates, folder: Path, **settings: object) -> Extracted:
    *steps, last = extract(tomogram, coordinates, folder, ExtractSettings(**settings))  # type: ignore[arg-type]
    assert isinstance(last, Extracted)
    assert steps == [Extracting(i + 1, len(steps)) for i in range(len(steps))]
    return last


def at(*positions: tuple[float, float, float], angles: object = None) -> Coordinates:
    rotation = None if angles is None else angles_to_quaternions(angles)  # type: ignore[arg-type]
    return Coordinates(np.array(positions, dtype=np.float64), rotation)


@pytest.mark.parametrize("box", [6, 7])
def test_the_position_is_the_centre_voxel(tomogram: Tomogram, values: np.ndarray, tmp_path: Path, box: int) -> None:
    done = run(tomogram, at((20, 12, 9)), tmp_path / "out", box=box, normalise=False)
    particles = open_particles(done.path)
    cut = particles.read([0])[0]
    assert cut[box // 2, box // 2, box // 2] == values[9, 12, 20]
    start = np.array([9, 12, 20]) - box // 2
    np.testing.assert_array_equal(cut, values[tuple(slice(s, s + box) for s in start)])
    assert particles.pixel_size == 10 and read_header(tmp_path / "out/subtomograms/000001.mrc").is_volume


def test_parts_of_voxels_and_orientations_are_kept(tomogram: Tomogram, tmp_path: Path) -> None:
    given = at((20.3, 12.75, 9.0), (15.5, 10, 8.4), angles=[[10, 20, 30], [-50, 100, 7]])
    done = run(tomogram, given, tmp_path / "out", box=4, bin=2, tilt_range=TiltRange(-50, 55))
    back = read_coordinates(done.path)
    np.testing.assert_allclose(back.positions, given.positions, atol=1e-6)
    assert back.angles is not None
    np.testing.assert_allclose(back.angles, given.angles, atol=1e-5)
    particles = open_particles(tmp_path / "out")
    assert particles.pixel_size == 20 and particles.wedge == TiltRange(-50, 55)
    # a particle 0.3 voxels to the right of its box's centre is brought there by an origin of -0.3
    np.testing.assert_allclose(particles.table["rlnOriginXAngst"], [-3, 5], atol=1e-6)


@pytest.mark.parametrize(("box", "factor"), [(8, 2), (7, 2), (6, 3), (9, 3)])
def test_binning_keeps_centre_mean_and_low_frequencies(box: int, factor: int, tmp_path: Path) -> None:
    size = 48
    z, y, x = np.meshgrid(*[np.arange(size)] * 3, indexing="ij")
    centre = np.array([22, 25, 24])
    blob = np.exp(-((x - 22) ** 2 + (y - 25) ** 2 + (z - 24) ** 2) / (2 * (1.3 * factor) ** 2)).astype(np.float32)
    write_volume(tmp_path / "t.mrc", blob, 10.0)
    done = run(
        open_tomogram(tmp_path / "t.mrc"), at(tuple(centre)), tmp_path / "out", box=box, bin=factor, normalise=False
    )
    cut = open_particles(done.path).read([0])[0]
    assert np.unravel_index(cut.argmax(), cut.shape) == (box // 2,) * 3
    middle = slice(box // 2 - 2, box // 2 + 3)
    line = cut[box // 2, box // 2, middle]
    np.testing.assert_allclose(line, np.exp(-(np.arange(-2, 3) ** 2) / (2 * 1.3**2)), atol=0.06)
    np.testing.assert_allclose(line, line[::-1], atol=0.02)


@pytest.mark.parametrize("size", [(12, 2), (18, 3), (15, 3), (18, 2)])
def test_binned_waves_are_the_same_waves(size: tuple[int, int]) -> None:
    edge, factor = size
    index = np.arange(edge) / edge
    wave = 3 + np.cos(2 * np.pi * (index[:, None, None] + 2 * index[None, :, None] - index[None, None, :]))
    binned = fourier_binned(wave.astype(np.float32), factor)
    np.testing.assert_allclose(binned, wave[::factor, ::factor, ::factor], atol=1e-5)


def test_normalised_and_inverted(tomogram: Tomogram, tmp_path: Path) -> None:
    plain = open_particles(run(tomogram, at((20, 12, 9)), tmp_path / "a", box=8).path).read([0])
    dark = open_particles(run(tomogram, at((20, 12, 9)), tmp_path / "b", box=8, invert=True).path).read([0])
    assert plain.mean() == pytest.approx(0, abs=1e-5) and plain.std() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(dark, -plain, atol=1e-6)


def test_edges_are_padded_with_the_mean_or_dropped_and_counted(
    tomogram: Tomogram, values: np.ndarray, tmp_path: Path
) -> None:
    given = at((1, 12, 9), (20, 12, 9), (39, 29, 19))
    done = run(tomogram, given, tmp_path / "pad", box=8, normalise=False)
    assert (done.count, done.padded, done.dropped) == (3, 2, 0)
    cut = open_particles(done.path).read([0])[0]
    inside = values[5:13, 8:16, 0:5]
    np.testing.assert_array_equal(cut[:, :, 3:], inside)
    np.testing.assert_allclose(cut[:, :, :3], inside.mean(), rtol=1e-5)
    done = run(tomogram, given, tmp_path / "drop", box=8, edge="drop")
    assert (done.count, done.padded, done.dropped) == (1, 0, 2)
    assert read_coordinates(done.path).positions.tolist() == [[20, 12, 9]]
    with pytest.raises(InputError, match="all 1 boxes of 8 voxels"):
        run(tomogram, at((1, 12, 9)), tmp_path / "none", box=8, edge="drop")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (at((20, 12, 9), (20, 12, 25)), r"1 of 2 coordinates lie outside .* particle 2 at 20, 12, 25"),
        (at((9, 12, 35), (5, 29, 21)), r"2 of 2 .*axes are swapped; exchange the columns x and z"),
        (Coordinates(np.array([[9.0, 9, 9]]), pixel_size=12.0), "differ by more than 1 %"),
    ],
)
def test_coordinates_that_do_not_fit_leave_nothing(
    tomogram: Tomogram, tmp_path: Path, given: Coordinates, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(tomogram, given, tmp_path / "out", box=8)
    assert not (tmp_path / "out").exists()


def test_voxels_that_are_no_numbers_leave_nothing(values: np.ndarray, tmp_path: Path) -> None:
    values[9, 12, 20:23] = np.nan
    write_volume(tmp_path / "t.mrc", values, 10.0)
    with pytest.raises(InputError, match="3 voxels that are not numbers in the boxes of 1 of 2 particles"):
        run(open_tomogram(tmp_path / "t.mrc"), at((8, 8, 8), (20, 12, 9)), tmp_path / "out", box=8)
    assert not (tmp_path / "out").exists()


def test_stopped_half_way_leaves_what_was_there(tomogram: Tomogram, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(tomogram, at((8, 8, 8)), out, box=8)
    before = sorted((p.name, p.read_bytes()) for p in out.rglob("*") if p.is_file())
    steps = extract(tomogram, at((20, 12, 9), (9, 9, 9)), out, ExtractSettings(6))
    next(iter(steps))
    steps.close()  # type: ignore[attr-defined]
    assert sorted((p.name, p.read_bytes()) for p in out.rglob("*") if p.is_file()) == before
    assert run(tomogram, at((20, 12, 9), (9, 9, 9)), out, box=6).count == 2
    assert sorted(p.name for p in out.iterdir()) == ["particles.star", "subtomograms"]


def test_particles_of_another_origin_are_not_replaced(tomogram: Tomogram, tmp_path: Path) -> None:
    (tmp_path / "particles.star").write_text("mine")
    with pytest.raises(InputError, match="another origin"):
        run(tomogram, at((8, 8, 8)), tmp_path, box=8)
    assert (tmp_path / "particles.star").read_text() == "mine"


def test_results_are_written_back_and_keep_the_wedge(tomogram: Tomogram, tmp_path: Path) -> None:
    done = run(tomogram, at((20, 12, 9), (9, 9, 9)), tmp_path / "out", box=6, tilt_range=TiltRange(-40, 60))
    particles = open_particles(done.path)
    angles = {"rlnAngleRot": [1.0, 2], "rlnAngleTilt": [3.0, 4], "rlnAnglePsi": [5.0, 6], "rlnOriginZ": [0.5, -0.5]}
    columns = {label: np.array(values) for label, values in angles.items()}
    again = open_particles(write_relion(tmp_path / "out/aligned.star", particles, columns))
    assert again.wedge == TiltRange(-40, 60) and again.table["rlnAngleTilt"].tolist() == [3, 4]
    assert again.table["rlnOriginZAngst"].tolist() == [5, -5]
    bare = open_particles(tmp_path / "out/subtomograms", tilt_range=(-40, 60))
    fresh = open_particles(write_relion(tmp_path / "fresh.star", bare, columns))
    assert fresh.dimensions == 3 and fresh.wedge == TiltRange(-40, 60) and fresh.pixel_size == 10
    np.testing.assert_array_equal(fresh.read(slice(None)), particles.read(slice(None)))


def test_the_real_microtubule(shared_data: Path, tmp_path: Path) -> None:
    tomogram = open_tomogram(shared_data / "real3d/13pf_MT.tif")
    line = read_coordinates(shared_data / "real3d/13pf_MT_centreline.csv").in_tomogram(tomogram.path)
    done = run(tomogram, line, tmp_path / "out", box=16, bin=2)
    particles = open_particles(done.path)
    assert particles.images.shape == (3, 16, 16, 16) and done.padded == 0
    assert particles.pixel_size == pytest.approx(21.04, abs=0.01)


@pytest.mark.parametrize("wrong", [{"box": 2}, {"box": 8, "bin": 0}, {"box": 8, "edge": "wrap"}])
def test_settings_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        ExtractSettings(**wrong)  # type: ignore[arg-type]
