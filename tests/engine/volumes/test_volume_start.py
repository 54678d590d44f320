"""Runs that start from the orientations of the input, and keep near them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from engine_data import run
from volume_data import prepared, subtomograms, true_poses

from napari_harmony.engine import api
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.volumes.search import accumulate, expect_near, maximise, shift_ball
from napari_harmony.engine.volumes.seeding import turned
from napari_harmony.engine.volumes.start import Anchors, start_of
from napari_harmony.engine.work import finish
from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.simulate import simulate_particles
from napari_harmony.results import Result
from napari_harmony.transforms import so3, soft_sphere

ANGLES = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
NEAR = Settings(classes=3, preset="fast", start="input", local_search=20)


def truth() -> torch.Tensor:
    return true_poses(subtomograms().truth).rotation


def off(degrees: float, seed: int = 0) -> torch.Tensor:
    """Turns (48, 4) by exactly so many degrees about random axes."""
    axis = torch.nn.functional.normalize(torch.randn(48, 3, generator=torch.Generator().manual_seed(seed)), dim=1)
    return so3.from_rotation_vector(axis * np.radians(degrees))


def given(rotation: torch.Tensor, **columns: object) -> Particles:
    """The subtomograms with orientations (and true origins in angstrom) in their table."""
    simulated = subtomograms()
    angles = dict(zip(ANGLES, so3.to_zyz(rotation.double()).numpy().T, strict=True))
    origins = {
        f"rlnOrigin{axis}Angst": simulated.truth[f"origin_{axis.lower()}"] * simulated.particles.pixel_size
        for axis in "XYZ"
    }
    table = pd.DataFrame({**angles, **origins, **columns})
    return replace(simulated.particles, table=table)


def rotations(result: Result) -> torch.Tensor:
    return so3.from_zyz(torch.as_tensor(result.table[["rot", "tilt", "psi"]].to_numpy(), dtype=torch.float32))


def test_a_run_sharpens_the_poses_it_is_given_in_their_own_frame() -> None:
    rough = so3.multiply(truth(), off(12))
    result = run(api.align(given(rough), NEAR)).value
    error = torch.rad2deg(so3.angle_between(rotations(result), truth()))
    assert float(error.median()) < 7 and float((error < 12).float().mean()) > 0.85
    crossed = pd.crosstab(result.table["class_number"], subtomograms().truth["content"])
    assert crossed.max(axis=1).sum() >= 44
    origin = subtomograms().truth[["origin_x", "origin_y", "origin_z"]].to_numpy()
    assert np.abs(result.table[["origin_x", "origin_y", "origin_z"]].to_numpy() - origin).mean() < 0.5


def test_no_particle_goes_farther_than_it_may() -> None:
    wrong = so3.multiply(truth(), off(60))
    result = run(api.align(given(wrong), replace(NEAR, local_search=10, classes=1))).value
    moved = torch.rad2deg(so3.angle_between(rotations(result), wrong))
    assert float(moved.max()) < 10.2
    assert float(moved.median()) > 2


def test_a_free_rot_finds_the_turn_about_the_axis_and_keeps_the_axis() -> None:
    about = torch.zeros(48, 3)
    about[:, 2] = torch.rand(48, generator=torch.Generator().manual_seed(3)) * 2 * np.pi
    unknown = so3.multiply(so3.from_rotation_vector(about), truth())
    settings = replace(NEAR, classes=1, preset="balanced", free_rot=True)
    one = np.flatnonzero(subtomograms().truth["content"] == 0)
    everything = given(unknown)
    stored = np.asarray(everything.read(range(48)))[one]
    particles = replace(
        everything,
        images=type(everything.images)(stored),
        table=everything.table.iloc[one].drop(columns="rlnAngleRot").reset_index(drop=True),
    )
    result = run(api.align(particles, settings)).value
    turn = so3.multiply(rotations(result), so3.inverse(truth()[one]))
    tip = so3.to_zyz(turn)[:, 1]
    assert float(tip.max()) < 20.2 and float(tip.median()) < 8
    # One turn of the class about its axis is its own affair.
    apart = torch.rad2deg(so3.angle_between(turn[:, None], turn[None]))
    assert float(apart.median(dim=1).values.min()) < 10


def test_poses_stay_the_input_s_where_rotation_is_not_asked_for() -> None:
    settings = replace(NEAR, classes=2, transforms=("contrast",))
    particles = given(truth())
    result = run(api.align(particles, settings)).value
    assert float(torch.rad2deg(so3.angle_between(rotations(result), truth())).max()) < 0.1
    origin = subtomograms().truth[["origin_x", "origin_y", "origin_z"]].to_numpy()
    np.testing.assert_allclose(result.table[["origin_x", "origin_y", "origin_z"]], origin, atol=1e-4)


@pytest.mark.parametrize("free", [False, True])
def test_turns_span_what_is_allowed_and_nothing_else(free: bool) -> None:
    anchors = Anchors(truth(), float(np.radians(25)), free)
    turns = anchors.turns(10.0)
    assert float(so3.angle(turns[0])) < 1e-6
    rows = torch.arange(48)
    tried = so3.multiply(turns, truth()[:, None])
    assert anchors.allowed(rows, tried).all()
    within = so3.multiply(so3.rotation_grid(20), truth()[:, None])
    apart = so3.angle_between(within[0][:, None], tried[0][None]).amin(dim=1)
    inside = anchors.allowed(rows[:1], within[:1])[0]
    assert 0 < int(inside.sum()) < len(inside) and float(torch.rad2deg(apart[inside].max())) < 13


def test_what_lies_beyond_the_bound_weighs_nothing() -> None:
    data, want = prepared().data.within(6.0), true_poses(subtomograms().truth)
    templates = maximise(accumulate(data, want, 3), soft_sphere(24, 10.8))
    edge = replace(want, rotation=so3.multiply(off(10), want.rotation))
    anchors = Anchors(so3.multiply(off(30), want.rotation), float(np.radians(20)))
    turns = so3.local_grid(so3.identity(), 5.0, 20.0)
    found = finish(expect_near(data, templates, edge, turns, shift_ball(0, 1, 1), of_reference=True, bound=anchors))
    assert anchors.allowed(found.particle, found.rotation).all()


def test_a_particle_turned_into_its_frame_looks_like_its_reference() -> None:
    data = prepared(48, 2.0).data
    simulated = subtomograms(48, snr=2.0)
    first = torch.as_tensor(np.asarray(simulated.particles.read([0])))
    pose = true_poses(simulated.truth)
    back = turned(first, pose.rotation[:1], data.within(6.0).band)[0].numpy()
    want = simulated.clean[int(pose.label[0])]
    assert np.corrcoef(back.ravel(), want.ravel())[0, 1] > 0.45


def test_angles_known_beforehand_of_filaments_are_taken_where_there_are_no_others() -> None:
    particles = given(truth())
    table = particles.table.rename(columns={"rlnAngleTilt": "rlnAngleTiltPrior", "rlnAnglePsi": "rlnAnglePsiPrior"})
    settings = replace(NEAR, free_rot=True)
    start = start_of(replace(particles, table=table.drop(columns="rlnAngleRot")), settings, np.arange(48), 1.0)
    turn = so3.multiply(truth(), so3.inverse(start.anchors.rotation))
    assert float(so3.to_zyz(turn)[:, 1].max()) < 0.1
    torch.testing.assert_close(
        start.shift, torch.as_tensor(subtomograms().truth[["origin_x", "origin_y", "origin_z"]].to_numpy()).float()
    )


def test_orientations_that_are_missing_or_no_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="rlnAngleTilt is missing"):
        run(api.align(subtomograms().particles, NEAR))
    bad = given(truth())
    bad.table.loc[4, "rlnAnglePsi"] = np.nan
    with pytest.raises(InputError, match="particle 5: rlnAnglePsi is nan"):
        run(api.align(bad, NEAR))
    with pytest.raises(InputError, match="rlnAngleRot is missing"):
        run(api.align(replace(bad, table=given(truth()).table.drop(columns="rlnAngleRot")), NEAR))


def test_settings_that_contradict_each_other_are_refused() -> None:
    for settings, words in (
        ({"start": "guess"}, "start: 'guess' is unknown"),
        ({"local_search": 5.0}, "start from 'input'"),
        ({"free_rot": True}, "start from 'input'"),
        ({"start": "input", "local_search": 0.0}, "above 0"),
        ({"start": "input", "free_rot": True, "transforms": ()}, "'rotation' among"),
    ):
        with pytest.raises(InputError, match=words):
            Settings(**settings)


def test_images_are_not_started_from_the_input() -> None:
    images = simulate_particles([subtomograms().clean[0]], views=1, count=20, box=24).particles
    with pytest.raises(InputError, match="only subtomograms start from the input"):
        run(api.align(images, Settings(start="input")))
