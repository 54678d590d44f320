"""Coverage of Fourier space: tilt ranges and files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_harmony.errors import InputError, InputWarning
from napari_harmony.particles.wedge import CoverageFiles, TiltRange, half_complex, resized


def tilts(box: int) -> tuple[np.ndarray, np.ndarray]:
    """fz and fx of every voxel of one (z, x) plane of the grid."""
    fz = np.fft.fftfreq(box)[:, None] * box
    fx = np.fft.rfftfreq(box)[None] * box
    return np.broadcast_arrays(fz, fx)


@pytest.mark.parametrize("box", [15, 16])
@pytest.mark.parametrize("limit", [30.0, 45.0, 60.0])
def test_symmetric_range_is_the_usual_wedge(box: int, limit: float) -> None:
    coverage = TiltRange(-limit, limit).coverage([0, 1, 2], box)
    assert coverage.shape == (3, box, box, box // 2 + 1) and coverage.dtype == np.float32
    fz, fx = tilts(box)
    expected = np.abs(fz) <= np.abs(fx) * np.tan(np.deg2rad(limit)) + 1e-9
    for fy in range(box):
        np.testing.assert_array_equal(coverage[2, :, fy], expected)


def test_missing_fraction_is_that_of_the_angles() -> None:
    box = 96
    z, y, x = np.meshgrid(*[np.fft.fftfreq(box) * box] * 2, np.fft.rfftfreq(box) * box, indexing="ij")
    ball = np.sqrt(x**2 + y**2 + z**2) < 40
    weight = np.where(x == 0, 1, 2)[ball]  # rfftn keeps one of each pair of opposite voxels
    covered = TiltRange(-60, 60).coverage([0], box)[0][ball]
    assert (covered * weight).sum() / weight.sum() == pytest.approx(2 / 3, abs=0.01)


def test_sign_of_an_asymmetric_range() -> None:
    coverage = TiltRange(-20, 60).coverage([0], 16)[0, :, 3]
    fz, fx = tilts(16)
    inner = (fx > 0) & (fx < 8) & (np.abs(fz) < 8)
    angle = np.rad2deg(np.arctan2(fz, fx))
    np.testing.assert_array_equal(coverage[inner], ((angle >= -20) & (angle <= 60))[inner])
    assert coverage[3, 2] == 1 and coverage[-3, 2] == 0  # fz / fx = +1.5 (56 degrees) and -1.5


@pytest.mark.parametrize("tilt", [-50.0, -20.0, 10.0, 45.0])
def test_a_projection_fills_the_plane_of_its_tilt(tilt: float) -> None:
    """Points projected at a tilt, x' = x cos + z sin, know nothing of the volume off their plane in Fourier space."""
    random = np.random.default_rng(1)
    x, z = random.normal(size=(2, 12))
    c, s = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))

    def transform(fx: float, fz: float) -> complex:
        return complex(np.exp(-2j * np.pi * (fx * x + fz * z)).sum())

    of_projection = complex(np.exp(-2j * np.pi * 0.3 * (x * c + z * s)).sum())
    assert of_projection == pytest.approx(transform(0.3 * c, 0.3 * s))
    size = 48
    mask = TiltRange(tilt - 3, tilt + 3).coverage([0], size)[0, :, 0]
    assert mask[round(20 * s) % size, round(20 * c)] == 1
    assert mask[round(-20 * s) % size, round(20 * c)] == (abs(tilt) < 3)


@pytest.mark.parametrize("box", [12, 13])
@pytest.mark.parametrize("limits", [(-60, 60), (-20, 60), (-70, 10), (-60, 90), (-90, 30)])
def test_filtered_volumes_stay_real(box: int, limits: tuple[float, float]) -> None:
    coverage = TiltRange(*limits).coverage([0], box)[0]
    # the full spectrum of a real volume takes its other half from opposite frequencies
    full = np.zeros((box, box, box))
    full[..., : box // 2 + 1] = coverage
    opposite = (-np.arange(box)) % box
    for x in range(box // 2 + 1, box):
        full[..., x] = full[np.ix_(opposite, opposite, [box - x])][..., 0]
    np.testing.assert_array_equal(full, full[np.ix_(opposite, opposite, opposite)])
    assert full[0, :, 0].min() == 1  # the tilt axis


def test_a_full_range_covers_everything() -> None:
    assert TiltRange(-90, 90).coverage([0], 10).min() == 1


@pytest.mark.parametrize("limits", [(60, -60), (10, 10), (-100, 60), (0, 91), (float("nan"), 60)])
def test_ranges_that_make_no_sense(limits: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="tilt range .* two angles in degrees"):
        TiltRange(*limits)


def test_the_range_is_the_same_for_a_subset() -> None:
    wedge = TiltRange(-40, 50)
    assert wedge.subset([3, 1]) == wedge
    assert wedge.coverage(np.array([True, False, True]), 8).shape[0] == 2


def half_of(box: int) -> np.ndarray:
    """A coverage whose every voxel is different, symmetric as that of a real volume."""
    spectrum = np.abs(np.fft.rfftn(np.random.default_rng(box).normal(size=(box, box, box))))
    return (spectrum / spectrum.max()).astype(np.float32)


def centred(half: np.ndarray) -> np.ndarray:
    """The same as a cube with its zero frequency at floor(n / 2)."""
    box = half.shape[0]
    full = np.zeros((box, box, box), np.float32)
    opposite = (-np.arange(box)) % box
    full[..., : box // 2 + 1] = half
    for x in range(box // 2 + 1, box):
        full[..., x] = half[np.ix_(opposite, opposite, [box - x])][..., 0]
    return np.fft.fftshift(full)


@pytest.mark.parametrize("box", [8, 9])
def test_centred_and_half_complex_files_are_told_apart_by_shape(make_mrc: Callable[..., Path], box: int) -> None:
    half = half_of(box)
    files = [
        make_mrc("half.mrc", half),
        make_mrc("full.mrc", centred(half)),
        make_mrc("relion4.mrc", np.concatenate([half, np.ones_like(half)])),
    ]
    wedge = CoverageFiles(files)
    coverage = wedge.coverage(slice(None), box)
    for found in coverage:
        np.testing.assert_allclose(found, half, atol=1e-6)


def test_order_and_subset_of_files(make_mrc: Callable[..., Path]) -> None:
    files = [make_mrc(f"{i}.mrc", np.full((8, 8, 5), value, np.float32)) for i, value in enumerate((0.25, 0.5))]
    wedge = CoverageFiles(files, np.array([0, 1, 1, 0]))
    assert wedge.coverage([1, 0, 3], 8)[:, 0, 0, 0].tolist() == [0.5, 0.25, 0.25]
    assert wedge.subset([2, 0]).coverage([0, 1], 8)[:, 0, 0, 0].tolist() == [0.5, 0.25]
    assert wedge.subset(np.array([False, True, False, True])).coverage([0, 1], 8)[:, 0, 0, 0].tolist() == [0.5, 0.25]


@pytest.mark.parametrize("box", [12, 13])
@pytest.mark.parametrize("other", [6, 7])
def test_cut_to_a_smaller_box_each_voxel_keeps_its_frequency(box: int, other: int) -> None:
    half = half_of(box)
    small = resized(half, other)
    assert small.shape == (other, other, other // 2 + 1)
    for z in range(-(other // 2) + 1, (other + 1) // 2):
        for y in (0, 2, -2):
            np.testing.assert_array_equal(small[z, y], half[z, y, : other // 2 + 1])


@pytest.mark.parametrize("box", [6, 7])
def test_filled_up_to_a_larger_box_with_no_data(box: int) -> None:
    half = half_of(box)
    large = resized(half, 16)
    np.testing.assert_array_equal(resized(large, box), half)
    assert large[5, 0, 0] == large[0, 6, 0] == large[0, 0, 7] == 0


def test_sums_over_tilts_are_brought_below_one_and_signs_dropped(make_mrc: Callable[..., Path]) -> None:
    values = half_of(8) * 40
    values[1, 1, 1] *= -1
    with pytest.warns(InputWarning, match="negative values"):
        coverage = CoverageFiles([make_mrc("sum.mrc", values)]).coverage([0], 8)
    np.testing.assert_allclose(coverage[0], half_of(8), atol=1e-6)


def test_what_is_no_coverage(make_mrc: Callable[..., Path], tmp_path: Path) -> None:
    wrong = half_of(8)
    wrong[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="1 values that are not numbers"):
        CoverageFiles([make_mrc("nan.mrc", wrong)]).coverage([0], 8)
    with pytest.raises(InputError, match="zero everywhere"):
        CoverageFiles([make_mrc("zero.mrc", np.zeros((8, 8, 8), np.float32))]).coverage([0], 8)
    with pytest.raises(InputError, match="4 x 8 x 8 voxels; a wedge"):
        half_complex(np.zeros((8, 8, 4), np.float32))
    with pytest.raises(InputError, match="does not exist"):
        CoverageFiles([tmp_path / "gone.mrc"]).coverage([0], 8)
