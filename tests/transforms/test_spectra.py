"""Oversampled transforms: slices of a turned volume are those of the volume turned, and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from volume_data import densities, prepared, subtomograms, true_poses

from napari_harmony.engine.volumes.prepare import cropped
from napari_harmony.engine.volumes.search import accumulate, maximise
from napari_harmony.engine.volumes.seeding import denoise
from napari_harmony.particles.simulate_volumes import simulate_subtomograms
from napari_harmony.transforms import so3
from napari_harmony.transforms.spectra import (
    half_space,
    insert,
    spectra_of,
    turned_points,
    volumes_from,
    volumes_of,
)


def volumes() -> torch.Tensor:
    return torch.as_tensor(np.stack(densities()))


def alike(one: torch.Tensor, two: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1])


@pytest.mark.parametrize("box", [8, 9])
def test_a_half_space_holds_one_of_each_pair(box: int) -> None:
    band = half_space(box, 3.0)
    both = torch.cat([band.frequency, -band.frequency])
    assert len(both.unique(dim=0)) == len(both)
    assert len(both) == sum(
        0 < x * x + y * y + z * z <= 9 for x in range(-3, 4) for y in range(-3, 4) for z in range(-3, 4)
    )


@pytest.mark.parametrize("box", [16, 17])
def test_volumes_come_back_from_their_samples(box: int) -> None:
    band = half_space(box, 6.0)
    noise = torch.randn(2, box, box, box, generator=torch.Generator().manual_seed(0))
    smooth = volumes_from(cropped(noise, box, band), band)
    again = volumes_from(cropped(smooth, box, band), band)
    torch.testing.assert_close(again, smooth, atol=1e-5, rtol=0)


def test_on_the_grid_slices_are_the_transform() -> None:
    band = half_space(24, 9.0)
    want = cropped(volumes(), 24, band)
    got = spectra_of(volumes(), 9.0).at(band.frequency)
    # On the grid nothing is interpolated, yet the mean loss of interpolation is made up for.
    assert float((got - want).norm() / want.norm()) < 0.1
    assert float((got.conj() * want).real.sum() / (got.norm() * want.norm())) > 0.999


def test_turned_slices_are_those_of_the_simulators_turned_volume() -> None:
    clean = simulate_subtomograms(densities(), 12, 24, snr=np.inf, shift_sigma=1.0, tilt_range=None)
    posterior, band = true_poses(clean.truth), half_space(24, 8.0)
    seen = cropped(torch.as_tensor(np.asarray(clean.particles.read(range(12)))), 24, band)
    turn = posterior.shift @ band.frequency.T * (-2 * torch.pi / 24)
    centred = seen * torch.polar(torch.ones_like(turn), turn)
    spectra = spectra_of(torch.as_tensor(clean.clean), 8.0)
    for i, k in enumerate(posterior.label):
        model = spectra.only(k[None]).turned(posterior.rotation[i : i + 1], band.frequency)[0, 0]
        both = torch.view_as_real(torch.stack([model, centred[i]])).flatten(1)
        assert float(torch.cosine_similarity(both[0], both[1], dim=0)) > 0.995


def test_transforms_of_volumes_give_the_volumes() -> None:
    spectra = spectra_of(volumes(), 10.0)
    inner = volumes_of(torch.complex(spectra.values[:, 0], spectra.values[:, 1]), 24)
    assert alike(inner, volumes()) > 0.98


def test_samples_inserted_are_shared_among_eight_cells() -> None:
    total = torch.zeros(2, 1, 9, 9, 9)
    point, value = torch.tensor([[[0.6, -0.3, 1.1]]]), torch.tensor([[2.0]])
    insert(total, torch.tensor([0]), point, [value, 3 * value])
    assert float(total[0].sum()) == pytest.approx(2) and float(total[1].sum()) == pytest.approx(6)
    assert int((total[0] > 0).sum()) == 8
    cells = (total[0, 0] > 0).nonzero().float()
    centre = (total[0, 0][total[0, 0] > 0, None] * cells).sum(0) / 2
    torch.testing.assert_close(centre.flip(0), 2 * point[0, 0] + 4)


def test_points_are_turned_as_rotations_say() -> None:
    rotation = so3.from_zyz(torch.tensor([[90.0, 0.0, 0.0]]))
    points = turned_points(rotation, torch.tensor([[1.0, 0.0, 0.0]]))
    torch.testing.assert_close(points[0, 0], so3.rotate_points(rotation[0], torch.tensor([1.0, 0.0, 0.0])))


def test_averages_fill_the_wedge_and_show_the_content() -> None:
    some = prepared(48, 2.0)
    truth, mask = subtomograms(48, snr=2.0), torch.ones(24, 24, 24)
    average = maximise(accumulate(some.data.within(8.0), true_poses(truth.truth), 3), mask).volumes
    want = torch.as_tensor(truth.clean)
    for k in range(3):
        likeness = [alike(average[k], want[j]) for j in range(3)]
        assert likeness[k] > 0.9 and int(np.argmax(likeness)) == k


def test_a_denoised_particle_is_the_particle_behind_its_wedge() -> None:
    some, truth = prepared(48, 2.0), subtomograms(48, snr=2.0)
    noisy = torch.as_tensor(np.asarray(truth.particles.read(range(48))))
    clean = simulate_subtomograms(densities(), 48, 24, snr=np.inf, shift_sigma=1.0, seed=1)
    want = torch.as_tensor(np.asarray(clean.particles.read(range(48))))
    better = denoise(some.data.within(8.0))
    assert np.mean([alike(b, w) > alike(n, w) for b, n, w in zip(better, noisy, want, strict=True)]) > 0.95
