"""A real microtubule of 13 protofilaments: cut along a traced line and averaged, its cross-section says so.

Nothing in extraction, alignment or the spectrum is told of 13.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from engine_data import run
from scipy import ndimage

from napari_harmony.analysis.rotational import rotational_spectrum
from napari_harmony.engine.api import align
from napari_harmony.engine.settings import Settings
from napari_harmony.particles.coordinates import read_coordinates
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.euler import relion_to_matrix
from napari_harmony.particles.extract import ExtractSettings, extract, particles_along_lines
from napari_harmony.particles.open import open_particles
from napari_harmony.particles.tomogram import Tomogram, open_tomogram
from napari_harmony.particles.wedge import TiltRange

pytestmark = pytest.mark.usefixtures("brief_volume_training")

BOX, EVERY, RINGS = 36, 40.0, (7, 16)


@pytest.fixture(scope="module")
def tomogram(shared_data: Path) -> Tomogram:
    path = shared_data / "real3d" / "13pf_MT.tif"
    if not path.is_file():
        pytest.skip(f"the real tomogram is not there ({path} does not exist)")
    return open_tomogram(path)


@pytest.fixture(scope="module")
def boxes(tomogram: Tomogram, tmp_path_factory: pytest.TempPathFactory) -> Particles:
    return cut(tomogram, tomogram, tmp_path_factory.mktemp("boxes"))


def cut(tomogram: Tomogram, traced: Tomogram, folder: Path) -> Particles:
    """Particles along the line that was traced in a tomogram."""
    line = read_coordinates(traced.path.with_name("13pf_MT_centreline.csv"))
    along = particles_along_lines(tomogram, line, EVERY)
    for _ in extract(tomogram, along, folder, ExtractSettings(BOX, tilt_range=TiltRange(-60, 60))):
        pass
    return open_particles(folder / "particles.star")


def plain_average(particles: Particles, angles: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """Mean of the particles turned and shifted onto their reference (z, y, x), by interpolation alone."""
    centre, total = np.full(3, BOX // 2), np.zeros((BOX, BOX, BOX))
    volumes = particles.read(range(len(particles)))
    for volume, turn, origin in zip(volumes, relion_to_matrix(angles), origins, strict=True):
        back = turn.T[::-1, ::-1]  # on (z, y, x), from the reference to the particle
        total += ndimage.affine_transform(volume, back, centre - origin[::-1] - back @ centre, order=3)
    return total / len(particles)


def traced_average(boxes: Particles) -> np.ndarray:
    angles = boxes.table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy(float)
    origins = boxes.table[[f"rlnOrigin{axis}Angst" for axis in "XYZ"]].to_numpy(float) / boxes.pixel_size
    return plain_average(boxes, angles, origins)


def test_a_box_every_four_nanometres(boxes: Particles) -> None:
    assert len(boxes) == 41 and boxes.pixel_size == pytest.approx(10.52, abs=0.01)
    track = boxes.table["rlnHelicalTrackLengthAngst"].astype(float)
    np.testing.assert_allclose(track, EVERY * np.arange(41), atol=1e-3)


def test_straightened_along_the_line_it_has_13_protofilaments(boxes: Particles) -> None:
    order, ratio = rotational_spectrum(traced_average(boxes), *RINGS).peak()
    assert order == 13 and ratio > 2


def test_aligned_it_has_them_more_clearly(boxes: Particles) -> None:
    settings = Settings(classes=1, start="input", local_search=10.0, preset="fast", device="cpu")
    result = run(align(boxes, settings)).value
    assert rotational_spectrum(result.averages[0], *RINGS).peak()[0] == 13
    poses = result.table[["rot", "tilt", "psi", "origin_x", "origin_y", "origin_z"]].to_numpy()
    spectrum = rotational_spectrum(plain_average(boxes, poses[:, :3], poses[:, 3:]), *RINGS)
    before = rotational_spectrum(traced_average(boxes), *RINGS)
    assert spectrum.peak()[0] == 13 and spectrum.power[13] > 3 * before.power[13]
    # What the wedge does not explain: it blurs 13 into 11 and 15, but not into 12 and 14.
    assert spectrum.power[13] > 15 * max(spectrum.power[12], spectrum.power[14])


def test_noise_of_the_same_spectrum_has_not(tomogram: Tomogram, tmp_path: Path) -> None:
    volume = tomogram.read().astype(np.float64)
    amplitude = np.abs(np.fft.fftn(volume - volume.mean()))
    powers = []
    for seed in range(3):
        noise = np.fft.fftn(np.random.default_rng(seed).normal(size=volume.shape))
        drawn = np.fft.ifftn(amplitude * noise / np.abs(noise)).real
        tifffile.imwrite(tmp_path / f"noise{seed}.tif", drawn.astype(np.float32))
        opened = open_tomogram(tmp_path / f"noise{seed}.tif", voxel_size=tomogram.voxel_size)
        spectrum = rotational_spectrum(traced_average(cut(opened, tomogram, tmp_path / str(seed))), *RINGS)
        powers.append(spectrum.power[8:21])
    assert any(power.argmax() != 5 for power in powers)
    assert max(power[5] / np.sort(power)[-2] for power in powers) < 2
