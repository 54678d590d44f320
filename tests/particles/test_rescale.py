"""Particles on another grid: the same places keep their values, and what was never measured is said to be so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.images import ArrayImages
from napari_harmony.particles.rescale import Grid, band_of, resampled, rescaled
from napari_harmony.particles.subset import subset
from napari_harmony.particles.wedge import TiltRange


class Volumes:
    """Volumes in memory."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array.astype(np.float32)
        self.shape = array.shape

    def read(self, indices: object) -> np.ndarray:
        return np.array(self.array[indices])


class Cone:
    """A coverage that depends on the frequency in cycles per pixel alone, as weights of files do."""

    def coverage(self, indices: object, box: int) -> np.ndarray:
        frequency = np.abs(np.fft.fftfreq(box))
        cone = (frequency[:, None, None] <= 0.25 + 0 * frequency[None, :, None]).astype(np.float32)
        return np.broadcast_to(cone, (len(np.asarray(indices)), box, box, box))[..., : box // 2 + 1]

    def subset(self, rows: object) -> Cone:
        return self


def blob(grid: Grid, *centre: float, sigma: float = 15.0) -> np.ndarray:
    """A Gaussian about a place in angstrom (x, y[, z]) from the centre, (1, box, box[, box])."""
    axis = (np.arange(grid.box) - grid.box // 2) * grid.pixel_size
    parts = [np.exp(-((axis - place) ** 2) / (2 * sigma**2)) for place in reversed(centre)]
    product = parts[0]
    for part in parts[1:]:
        product = product[..., None] * part
    return product[None].astype(np.float32)


def stack(images: np.ndarray, pixel_size: float, **more: object) -> Particles:
    source = ArrayImages(images) if images.ndim == 3 else Volumes(images)
    return Particles(source, pd.DataFrame(index=range(len(images))), pixel_size, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (Grid(64, 5.0), Grid(64, 5.0)),
        (Grid(64, 5.0), Grid(128, 2.5)),  # finer
        (Grid(128, 2.5), Grid(32, 10.0)),  # coarser
        (Grid(64, 5.0), Grid(45, 7.1)),  # no whole ratio, odd
        (Grid(61, 5.0), Grid(64, 4.7)),  # odd, narrower
        (Grid(64, 5.0), Grid(100, 2.7)),
        (Grid(50, 6.7), Grid(64, 5.0)),
        (Grid(64, 5.0), Grid(64, 6.6)),  # wider
    ],
)
def test_places_keep_their_values(old: Grid, new: Grid) -> None:
    inside = (slice(None), slice(6, -6), slice(6, -6))
    found = resampled(blob(old, 20, -13), old, new)
    assert_allclose(found[inside], blob(new, 20, -13)[inside], atol=0.004)


def test_volumes_keep_their_places_along_every_axis() -> None:
    old, new = Grid(24, 10.0), Grid(30, 7.0)
    found = resampled(blob(old, 20, -10, 30, sigma=25), old, new)
    inside = (slice(None), *(slice(4, -4),) * 3)
    assert_allclose(found[inside], blob(new, 20, -10, 30, sigma=25)[inside], atol=0.01)


@pytest.mark.parametrize("box", [15, 16])
def test_the_same_grid_changes_nothing_and_a_round_trip_little(box: int) -> None:
    images = np.random.default_rng(0).standard_normal((3, box, box)).astype(np.float32)
    grid, fine = Grid(box, 2.0), Grid(2 * box, 1.0)
    assert_allclose(resampled(images, grid, grid), images, atol=1e-5)
    assert_allclose(resampled(resampled(images, grid, fine), fine, grid), images, atol=1e-5)


def test_reading_is_lazy_and_in_the_order_asked() -> None:
    images = np.random.default_rng(0).standard_normal((5, 20, 20)).astype(np.float32)
    small = rescaled(stack(images, 2.0), 4.0, 10)
    assert (len(small), small.box, small.pixel_size, small.dimensions) == (5, 10, 4.0, 2)
    whole = small.read(slice(0, 5))
    assert_allclose(small.read([3, 1]), whole[[3, 1]], atol=1e-6)
    assert_allclose(subset(small, [4, 0]).read([0]), whole[[4]], atol=1e-6)


def test_white_noise_stays_white_where_it_was_and_is_added_where_nothing_was() -> None:
    images = np.random.default_rng(0).standard_normal((200, 32, 32)).astype(np.float32)
    copy = np.concatenate([images, images[:1]])
    fine = rescaled(stack(copy, 8.0), 5.0, 48).read(slice(0, 201))
    power = (np.abs(np.fft.rfft2(fine, norm="ortho")) ** 2).mean(0)
    band = band_of(Grid(32, 8.0), Grid(48, 5.0))
    assert band == 15
    inside, beyond = power[2:12, 2:12].mean(), power[18:30, 2:].mean()
    assert 0.8 < beyond / inside < 1.25
    assert np.array_equal(fine[0], fine[-1])  # copies stay copies


def test_a_wider_box_has_noise_around_the_image() -> None:
    images = np.random.default_rng(0).standard_normal((50, 32, 32)).astype(np.float32) + 3
    wide = rescaled(stack(images, 5.0), 5.0, 48).read(slice(0, 50))
    assert_allclose(wide[:, 8:-8, 8:-8], images, atol=1e-4)
    assert 0.8 < wide[:, :6].std() < 1.2 and abs(wide[:, :6].mean() - 3) < 0.1


def test_what_cannot_be_used_stays_so() -> None:
    images = np.zeros((3, 16, 16), np.float32)
    images[0] = 7.0
    images[1, 3, 3] = np.nan
    read = rescaled(stack(images, 5.0), 4.4, 18).read([0, 1])
    assert np.ptp(read[0]) < 1e-6 * 7 and not np.isfinite(read[1]).any()


def test_an_unknown_pixel_size_is_refused() -> None:
    with pytest.raises(InputError, match="pixel size"):
        rescaled(stack(np.zeros((2, 16, 16), np.float32), 1.0, pixel_size_known=False), 2.0, 16)


def test_a_tilt_range_holds_on_any_grid_with_all_frequencies() -> None:
    volumes = stack(np.zeros((2, 16, 16, 16)), 10.0, wedge=TiltRange(-60, 60))
    assert rescaled(volumes, 12.0, 12).wedge == TiltRange(-60, 60)
    assert rescaled(stack(np.zeros((2, 16, 16, 16)), 10.0), 12.0, 12).wedge is None


def test_volumes_have_no_data_beyond_their_band() -> None:
    volumes = stack(np.zeros((2, 16, 16, 16)), 10.0, wedge=TiltRange(-60, 60))
    wedge = rescaled(volumes, 6.0, 28).wedge
    assert wedge is not None
    coverage = wedge.coverage([0, 1], 28)
    assert coverage.shape == (2, 28, 28, 15)
    assert coverage[:, 0, 0, 5].all() and not coverage[..., 10:].any()
    plain = rescaled(stack(np.zeros((2, 16, 16, 16)), 10.0), 6.0, 28).wedge
    assert plain is not None
    assert plain.coverage(np.array([True, False]), 28).shape == (1, 28, 28, 15)
    assert plain.coverage([0], 28)[0, 8, 8, 8] == 1 and plain.coverage([0], 28)[0, 12, 0, 0] == 0
    assert_allclose(wedge.subset([1]).coverage([0], 28), coverage[:1])


def test_weights_of_files_follow_their_frequencies() -> None:
    volumes = stack(np.zeros((1, 16, 16, 16)), 10.0, wedge=Cone())
    wide = rescaled(volumes, 10.0, 32).wedge  # as fine, twice as wide: frequencies lie twice as dense
    assert wide is not None
    coverage = wide.coverage([0], 32)[0]
    assert coverage[8, 0, 0] == 1 and coverage[10, 0, 0] == 0 and coverage[-8, 0, 0] == 1
