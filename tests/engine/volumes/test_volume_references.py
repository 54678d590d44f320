"""Runs that start from volumes of the user."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from engine_data import run
from volume_data import prepared, subtomograms, true_poses

from napari_harmony.engine import api
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.volumes.discovery import Search
from napari_harmony.engine.volumes.frames import onto_references
from napari_harmony.engine.volumes.plans import PLANS
from napari_harmony.engine.volumes.posteriors import carried
from napari_harmony.engine.volumes.references import load_references
from napari_harmony.engine.volumes.run import INVERTED
from napari_harmony.engine.volumes.search import Posterior
from napari_harmony.errors import InputError
from napari_harmony.particles.mrc import write_volume
from napari_harmony.particles.simulate import sample_volumes
from napari_harmony.particles.simulate_volumes import posable, simulate_volume_noise
from napari_harmony.results import NO_STRUCTURE
from napari_harmony.transforms import so3

FAST = Settings(classes=3, preset="fast", reference_lowpass=50.0)
PIXEL = 10.0


def written(folder: Path, sign: float = 1.0) -> tuple[str, ...]:
    """The three contents on the grid of the data, as files."""
    paths = []
    for number, volume in enumerate(subtomograms().clean):
        paths.append(folder / f"reference_{number}.mrc")
        write_volume(paths[-1], (sign * volume).astype(np.float32), PIXEL)
    return tuple(map(str, paths))


def test_classes_and_poses_come_in_the_frames_of_the_references(tmp_path: Path) -> None:
    settings = replace(FAST, classes=None, references=written(tmp_path))
    result = run(api.align(subtomograms().particles, settings)).value
    truth, table = subtomograms().truth, result.table
    assert result.classes == 3 and result.warnings == ()
    crossed = pd.crosstab(table["class_number"], truth["content"])
    assert crossed.max(axis=1).sum() >= 45
    rotation = so3.from_zyz(torch.as_tensor(table[["rot", "tilt", "psi"]].to_numpy(), dtype=torch.float32))
    error = torch.rad2deg(so3.angle_between(rotation, true_poses(truth).rotation))
    moved = table[["origin_x", "origin_y", "origin_z"]].to_numpy() - truth[["origin_x", "origin_y", "origin_z"]]
    moved = np.einsum("nij,nj->ni", so3.to_matrix(true_poses(truth).rotation).numpy(), moved)
    # The first content looks much the same from several sides as blurred as this; the others keep their frame.
    for content in (1, 2):
        rows = np.flatnonzero(truth["content"] == content)
        assert float(error[rows].median()) < 9
        assert common_turn(rotation[rows], true_poses(truth).rotation[rows]) < 4
        assert np.linalg.norm(np.median(moved[rows], axis=0)) < 0.3
    assert result.summary["references"] == list(settings.references)


def common_turn(rotation: torch.Tensor, truth: torch.Tensor) -> float:
    """Degrees by which rotations (n, 4) as a whole are turned against the truth."""
    each = so3.multiply(rotation, so3.inverse(truth)).double()
    return float(torch.rad2deg(so3.angle(torch.linalg.eigh(each.T @ each).eigenvectors[:, -1])))


@pytest.mark.parametrize("degrees", [14.0, 110.0])
def test_classes_are_turned_into_the_frames_of_their_references(tmp_path: Path, degrees: float) -> None:
    data, truth = prepared(48, 2.0), true_poses(subtomograms(48, snr=2.0).truth)
    away = so3.from_rotation_vector(torch.tensor([[0.6, -0.5, 0.62], [0.0, 0.8, 0.6]]) * np.radians(degrees))
    aside = torch.tensor([[0.5, -0.4, 0.3], [-0.2, 0.6, 0.0]])
    # The references are those of the second and third content; their classes are called the other way round.
    pick = truth.label > 0
    rows = pick.nonzero()[:, 0]
    known = Posterior(
        torch.arange(len(rows)),
        2 - truth.label[rows],
        truth.rotation[rows],
        truth.shift[rows],
        torch.ones(len(rows)),
        torch.zeros(len(rows)),
        torch.zeros(len(rows), 2),
    )
    references = load_references(written(tmp_path)[1:], 40.0, data)
    turning = ("rotation", "translation")
    search = Search(data.subset(rows), torch.Generator(), turning, references=references)
    drifted = carried(known, torch.arange(2), away, aside)
    back = onto_references(search, drifted, PLANS["fast"].weigh)
    error = torch.rad2deg(so3.angle_between(back.rotation, known.rotation))
    assert float(torch.rad2deg(so3.angle_between(drifted.rotation, known.rotation)).min()) > degrees - 1
    assert float(error.max()) < 3 and float((back.shift - known.shift).norm(dim=1).max()) < 0.25
    still = Search(data.subset(rows), torch.Generator(), ("translation",), references=references)
    assert onto_references(still, drifted, PLANS["fast"].weigh) is drifted


def test_exchanged_contrast_is_reported_once(tmp_path: Path) -> None:
    settings = replace(FAST, references=written(tmp_path, -1.0)[:1], classes=1)
    warnings = run(api.align(subtomograms(24).particles, settings)).value.warnings
    assert [w for w in warnings if "bright and dark" in w] == [INVERTED]


def test_noise_is_not_taken_for_the_reference(tmp_path: Path) -> None:
    noise = simulate_volume_noise(28, 20, seed=5)
    settings = replace(FAST, classes=1, references=written(tmp_path)[:1])
    result = run(api.align(noise, settings)).value
    assert any(NO_STRUCTURE in warning for warning in result.warnings) and INVERTED not in result.warnings


@pytest.mark.parametrize(("box", "pixel"), [(24, 10.0), (48, 10.0), (60, 5.0), (31, 8.0), (96, 2.5)])
def test_references_of_any_grid_come_onto_that_of_the_data(tmp_path: Path, box: int, pixel: float) -> None:
    fine = sample_volumes(48)[0]
    magnification = 5.0 / pixel
    drawn = posable(fine, magnification).draw(np.eye(3), np.zeros(3), box)
    same = posable(fine, 0.5).draw(np.eye(3), np.zeros(3), 24)
    for name, volume, size in (("other.mrc", drawn, pixel), ("same.mrc", same, PIXEL)):
        write_volume(tmp_path / name, volume, size)
    paths = (str(tmp_path / "other.mrc"), str(tmp_path / "same.mrc"))
    one, two = load_references(paths, 50.0, prepared()).volumes.numpy()
    assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.97
    assert np.linalg.norm(one) == pytest.approx(np.linalg.norm(two), rel=0.05)


def test_fine_detail_of_references_is_left_out(tmp_path: Path) -> None:
    sharp, blurred = (load_references(written(tmp_path), a, prepared()).volumes[0] for a in (25.0, 80.0))
    spectrum = torch.fft.fftn(blurred).abs() ** 2
    k = torch.fft.fftfreq(24, 1 / 24)
    radius = (k[:, None, None] ** 2 + k[:, None] ** 2 + k**2).sqrt()
    assert float(spectrum[radius > 240 / 80 * 1.2].sum()) < 1e-3 * float(spectrum.sum())
    assert float((torch.fft.fftn(sharp).abs() ** 2)[radius > 4].sum()) > 1e-3 * float(spectrum.sum())


class Unread:
    """Volumes that must not be read."""

    shape = (48, 24, 24, 24)

    def read(self, indices: object) -> np.ndarray:
        raise AssertionError("particles were read before the references were looked at")


def test_a_missing_reference_is_reported_before_particles_are_read(tmp_path: Path) -> None:
    settings = replace(FAST, references=(*written(tmp_path)[:1], str(tmp_path / "missing.mrc")))
    unread = replace(subtomograms().particles, images=Unread())
    for entry in (api.align, api.fit):
        with pytest.raises(InputError, match="missing.mrc"):
            run(entry(unread, settings))


def test_references_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    box = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    hole = box.copy()
    hole[3, 3, 3] = np.nan
    bad = {
        "flat.mrc": (box[:10], 10.0, "cube"),
        "unknown.mrc": (box, 0.0, "how large its voxels are"),
        "hole.mrc": (hole, 10.0, "no numbers"),
        "same.mrc": (np.ones_like(box), 10.0, "same value"),
    }
    for name, (volume, size, words) in bad.items():
        write_volume(tmp_path / name, volume, size)
        with pytest.raises(InputError, match=f"{name}.*{words}"):
            load_references((str(tmp_path / name),), 60.0, prepared())
    with pytest.raises(InputError, match="missing.mrc"):
        load_references((str(tmp_path / "missing.mrc"),), 60.0, prepared())
    with pytest.raises(InputError, match="reference_0.mrc: a low pass of 900 A leaves nothing"):
        load_references(written(tmp_path), 900.0, prepared())
