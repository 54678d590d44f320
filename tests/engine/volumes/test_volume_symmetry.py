"""Symmetric particles: one pose of many, averages about their axes, halves and decoys alike."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
import torch
from engine_data import run
from scipy.spatial.transform import Rotation
from volume_data import subtomograms, true_poses

from napari_harmony.engine import api
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.volumes.assembly import flip_odds
from napari_harmony.engine.volumes.posteriors import centred
from napari_harmony.engine.volumes.search import Posterior
from napari_harmony.engine.volumes.symmetry import Symmetry, axes_of
from napari_harmony.errors import InputError
from napari_harmony.particles.simulate_volumes import SimulatedVolumes, simulate_subtomograms, simulate_volume_noise
from napari_harmony.results import NO_STRUCTURE
from napari_harmony.transforms import so3
from napari_harmony.transforms.spectra import half_space

BOX = 20
#: x, y, z, width and height of the blobs of one asymmetric unit
BLOBS = ((4.5, 1.0, -3.0, 1.3, 1.0), (3.0, 3.0, 3.5, 1.6, 0.8), (1.5, 0.5, -5.5, 1.3, 0.9))


def elements(name: str) -> np.ndarray:
    """Matrices (g, 3, 3), made without the engine."""
    order = int(name[1:])
    about = Rotation.from_rotvec(2 * np.pi / order * np.arange(order)[:, None] * [0.0, 0.0, 1.0]).as_matrix()
    across = about @ Rotation.from_euler("x", 180, degrees=True).as_matrix()
    return np.concatenate([about, across]) if name[0] == "D" else about


def drawn(name: str, matrix: np.ndarray | None = None) -> np.ndarray:
    """A volume (z, y, x) of that symmetry, turned."""
    axis = np.arange(BOX) - BOX // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    volume = np.zeros((BOX,) * 3)
    for element in elements(name):
        for *place, width, height in BLOBS:
            px, py, pz = (np.eye(3) if matrix is None else matrix) @ element @ np.array(place)
            volume += height * np.exp(-((x - px) ** 2 + (y - py) ** 2 + (z - pz) ** 2) / (2 * width**2))
    return volume.astype(np.float32)


@lru_cache
def particles(name: str) -> SimulatedVolumes:
    return simulate_subtomograms([drawn(name)], 32, BOX, snr=0.5, shift_sigma=0.7, seed=2)


@pytest.mark.parametrize("name", ["C4", "D2"])
def test_a_run_finds_axes_and_poses_of_a_symmetric_particle(name: str) -> None:
    simulated = particles(name)
    result = run(api.align(simulated.particles, Settings(classes=1, preset="fast", symmetry=name))).value
    average = result.averages[0]
    for element in Symmetry.of(name).group[1:]:
        assert likeness(average, turned(average, element)) > 0.95
    rotation = so3.from_zyz(torch.as_tensor(result.table[["rot", "tilt", "psi"]].to_numpy(), dtype=torch.float32))
    symmetry = Symmetry.of(name)
    torch.testing.assert_close(so3.angle(rotation), so3.angle(symmetry.canonical(rotation)), atol=1e-3, rtol=0)
    assert error(rotation, true_poses(simulated.truth).rotation, symmetry) < 8
    assert float(result.table["flip_odds"].median()) < 0.2 and np.isfinite(result.resolution).all()


def turned(volume: np.ndarray, element: torch.Tensor) -> np.ndarray:
    from scipy.ndimage import affine_transform

    linear = so3.to_matrix(element).numpy().astype(float)[::-1, ::-1].T
    centre = np.full(3, BOX // 2)
    return np.asarray(affine_transform(volume, linear, centre - linear @ centre, order=3))


def likeness(one: np.ndarray, two: np.ndarray) -> float:
    inner = slice(3, -3)
    return float(np.corrcoef(one[inner, inner, inner].ravel(), two[inner, inner, inner].ravel())[0, 1])


def error(rotation: torch.Tensor, truth: torch.Tensor, symmetry: Symmetry) -> float:
    """Median in degrees after the one turn of the frame, of all that leave the symmetry, that suits most particles."""
    best = np.inf
    for frame in symmetry.onto_itself(3.0):
        apart = symmetry.angle_between(rotation, so3.multiply(frame, truth))
        best = min(best, float(torch.rad2deg(apart).median()))
    return best


def test_noise_is_not_significant_for_being_made_symmetric() -> None:
    noise = simulate_volume_noise(32, 16, seed=4)
    result = run(api.align(noise, Settings(classes=1, preset="fast", symmetry="C4"))).value
    assert any(NO_STRUCTURE in warning for warning in result.warnings)


@pytest.mark.parametrize("name", ["C3", "D2", "D3"])
def test_axes_are_found_wherever_they_lie(name: str) -> None:
    away = Rotation.from_rotvec([0.6, -0.9, 0.4])
    volume = torch.as_tensor(drawn(name, away.as_matrix()))
    symmetry = Symmetry.of(name)
    found = axes_of(volume[None], symmetry, half_space(BOX, 6.0))[0]
    x, y, z, w = away.as_quat()
    total = so3.multiply(found, torch.tensor([w, x, y, z], dtype=torch.float32))
    nearest = min(float(symmetry.angle_between(total, frame)) for frame in symmetry.onto_itself(1.0))
    assert np.degrees(nearest) < 2.5


@pytest.mark.parametrize("name", ["C1", "C5", "D2", "D4"])
def test_the_asymmetric_unit_holds_one_of_every_pose(name: str) -> None:
    symmetry, grid = Symmetry.of(name), so3.rotation_grid(20)
    unit = symmetry.unit(grid)
    assert len(unit) == pytest.approx(len(grid) / len(symmetry), rel=0.1)
    every = so3.random_rotations(50, torch.Generator().manual_seed(0))
    gap = torch.stack([symmetry.angle_between(unit, q).min() for q in every])
    assert float(torch.rad2deg(gap.max())) < 25
    canonical = symmetry.canonical(every)
    assert float(symmetry.angle_between(canonical, every).max()) < 1e-3
    for h in symmetry.group:
        again = symmetry.canonical(so3.multiply(h, every))
        assert float(so3.angle_between(again, canonical).max()) < 1e-2


@pytest.mark.parametrize("name", ["C3", "D2", "D3"])
def test_turns_onto_itself_keep_the_symmetry(name: str) -> None:
    symmetry = Symmetry.of(name)
    for turn in symmetry.onto_itself(30.0):
        moved = so3.multiply(so3.multiply(turn, symmetry.group), so3.inverse(turn))
        for h in moved:
            assert float(so3.angle_between(h, symmetry.group).min()) < 1e-3


def test_equivalent_poses_are_no_flips() -> None:
    symmetry, one = Symmetry.of("C2"), so3.from_zyz(torch.tensor([10.0, 20.0, 30.0]))
    both = torch.stack([one, so3.multiply(symmetry.group[1], one)])
    posterior = Posterior(
        torch.zeros(2, dtype=torch.long),
        torch.zeros(2, dtype=torch.long),
        both,
        torch.zeros(2, 3),
        torch.tensor([0.6, 0.4]),
        torch.zeros(1),
        torch.zeros(1, 1),
    )
    assert float(flip_odds(posterior, symmetry)) == 0
    assert float(flip_odds(posterior, Symmetry.of("C1"))) == pytest.approx(0.4)


def test_a_symmetric_class_moves_along_its_axis_alone() -> None:
    posterior = true_poses(pd.DataFrame(subtomograms().truth))
    aside = torch.einsum("eji,j->ei", so3.to_matrix(posterior.rotation), torch.tensor([2.0, 1.0, 3.0]))
    start = Posterior(**{**posterior.__dict__, "shift": aside})
    for name, left in (("C3", (2.0, 1.0, 0.0)), ("D3", (2.0, 1.0, 3.0))):
        moved = centred(start, 3, Symmetry.of(name))
        in_class = torch.einsum("eij,ej->ei", so3.to_matrix(moved.rotation), moved.shift)
        torch.testing.assert_close(in_class.mean(0), torch.tensor(left), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["c4", "T", "C0", "D1", "C1000", ""])
def test_other_symmetries_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="symmetry: '.*' is unknown; give C1"):
        Settings(symmetry=name)
