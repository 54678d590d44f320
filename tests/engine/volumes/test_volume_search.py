"""The search over SO(3): it finds poses and classes under a wedge, and refinement sharpens them."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from volume_data import prepared, rotation_errors, subtomograms, true_poses

from napari_harmony.engine.volumes import search
from napari_harmony.engine.volumes.classes import fair_scores, own_share, split
from napari_harmony.engine.volumes.refine import refine
from napari_harmony.engine.volumes.search import (
    Posterior,
    Templates,
    accumulate,
    expect_everywhere,
    expect_near,
    maximise,
    shift_ball,
    signal_variance,
)
from napari_harmony.engine.work import finish
from napari_harmony.transforms import so3, soft_sphere
from napari_harmony.transforms.spectra import spectra_of

MASK = soft_sphere(24, 10.8)


def truth() -> Posterior:
    return true_poses(subtomograms().truth)


@lru_cache
def templates(limit: float = 6.0) -> Templates:
    return maximise(accumulate(prepared().data.within(limit), truth(), 3), MASK)


@lru_cache
def found(limit: float = 6.0, step: float = 20.0) -> Posterior:
    data, still = prepared().data.within(limit), torch.zeros(48, 3)
    work = expect_everywhere(data, templates(limit), so3.rotation_grid(step), shift_ball(4.0, 1.0, 1.0), still)
    return finish(work)


def test_the_search_finds_class_and_pose_under_a_wedge() -> None:
    best, want = found().best(), truth()
    assert (best.label == want.label).float().mean() > 0.97
    error = torch.rad2deg(so3.angle_between(best.rotation, want.rotation))
    assert float(error.median()) < 15 and float((error < 40).float().mean()) > 0.9
    assert float((best.shift - want.shift).abs().median()) < 0.6


def test_weights_are_a_posterior() -> None:
    posterior = found()
    total = torch.zeros(48).index_add_(0, posterior.particle, posterior.weight)
    torch.testing.assert_close(total, torch.ones(48))
    assert torch.equal(posterior.particle, posterior.particle.sort().values)
    assert torch.equal(posterior.class_score.argmax(1), posterior.best().label)


@pytest.mark.parametrize("budget", [20_000, 10**9])
def test_portions_do_not_change_the_posterior(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    want = found()
    monkeypatch.setattr(search, "BUDGET", budget)
    got = found.__wrapped__()
    assert torch.equal(got.best().label, want.best().label)
    torch.testing.assert_close(got.best().rotation, want.best().rotation)
    torch.testing.assert_close(got.log_evidence, want.log_evidence, rtol=1e-4, atol=1e-2)


def test_looking_nearby_sharpens_a_coarse_pose() -> None:
    data, coarse = prepared().data.within(7.0), found(step=24.0)
    turns = so3.local_grid(so3.identity(), 8.0, 20.0)
    near = finish(expect_near(data, templates(7.0), coarse, turns, shift_ball(1.0, 0.5, 1.0)))
    before, after = (so3.angle_between(p.best().rotation, truth().rotation).median() for p in (coarse, near))
    assert float(after) < 0.7 * float(before)
    assert torch.isinf(near.class_score).any()


def test_refinement_ends_at_the_truth_wherever_it_starts() -> None:
    data, want = prepared().data.within(9.0), truth()
    generator = torch.Generator().manual_seed(0)
    off = so3.from_rotation_vector(torch.randn(48, 3, generator=generator) * np.radians(5))
    start = so3.multiply(want.rotation, off)
    shift = want.shift + 0.4 * torch.randn(48, 3, generator=generator)
    template = maximise(accumulate(data, want, 3), MASK)
    energy = 2 * prepared().energy[:, : int(data.band.shell.max()) + 1].sum(1)
    sharp = finish(refine(data, template, want.label, start, shift, energy, 1.0, free=torch.ones(6)))
    error = torch.rad2deg(so3.angle_between(sharp.rotation, want.rotation))
    assert float(error.median()) < 2.5 < float(torch.rad2deg(so3.angle(off)).median())
    assert float((sharp.shift - want.shift).abs().median()) < 0.12
    assert 0.2 < float(sharp.score.median()) < 1
    # What is said of the precision per axis is what it is, within a factor of two.
    rms = float((error**2).median().sqrt()) / np.sqrt(3)
    assert 0.5 < np.degrees(float(sharp.angle_spread.median())) / rms < 2
    held = finish(refine(data, template, want.label, start, shift, energy, 1.0, free=torch.zeros(6)))
    torch.testing.assert_close(held.rotation, so3.normalise(start))
    torch.testing.assert_close(held.shift, shift)


def test_refinement_finds_how_much_a_particle_is_magnified() -> None:
    data, want = prepared().data.within(6.0), truth()
    template = maximise(accumulate(data, want, 3), MASK)
    scale = torch.linspace(0.93, 1.08, 48)
    points = torch.einsum("nij,mj->nmi", so3.to_matrix(want.rotation) * scale[:, None, None], data.band.frequency)
    drawn = spectra_of(template.volumes, 7.0).only(want.label).each_at(points) * scale[:, None] ** 3
    magnified = replace(data, matched=data.power.expand(48, -1) * drawn)
    still, energy = torch.zeros(48, 3), torch.ones(48)
    found = finish(
        refine(magnified, template, want.label, want.rotation, still, energy, 1.0, free=torch.ones(6), free_scale=True)
    )
    assert float(np.corrcoef(found.scale, scale)[0, 1]) > 0.95
    assert float((found.scale - scale).abs().median()) < 0.02
    fixed = finish(refine(magnified, template, want.label, want.rotation, still, energy, 1.0, free=torch.ones(6)))
    torch.testing.assert_close(fixed.scale, torch.ones(48))


def test_a_particle_owes_its_class_what_it_loses_when_left_out() -> None:
    data, want = prepared().data.within(6.0), truth()
    sums = accumulate(data, want, 3)
    variance = signal_variance(sums)
    share = own_share(data, want, sums, maximise(sums, torch.ones_like(MASK), variance))
    lost = []
    for i in range(12):
        others = want.entries(torch.arange(48) != i)
        left = maximise(accumulate(data, others, 3), torch.ones_like(MASK), variance)
        whole = maximise(sums, torch.ones_like(MASK), variance)
        lost.append(score_of(i, whole) - score_of(i, left))
    # Shells are taken as evenly covered and the wedge's edge is not, so that this holds on average.
    assert float(share[:12].mean()) == pytest.approx(np.mean(lost), rel=0.35)


def score_of(i: int, templates: Templates) -> float:
    data, want = prepared().data.within(6.0).subset(torch.tensor([i])), truth().entries(torch.arange(48) == i)
    only = templates.only(want.label)
    at = shift_ball(0.0, 1.0, 1e6)
    work = expect_everywhere(data, Templates(only.volumes, torch.zeros(1)), want.rotation, at, want.shift)
    return float(finish(work).class_score[0, 0])


def test_fair_scores_take_away_only_what_a_particle_gave() -> None:
    data, before = prepared().data.within(6.0), truth()
    sums = accumulate(data, before, 3)
    after = found()
    taken = after.class_score - fair_scores(data, before, after, sums, maximise(sums, MASK))
    own = torch.nn.functional.one_hot(before.label, 3).bool() & (after.best().label == before.label)[:, None]
    assert (taken[~own] == 0).all() and (taken[own] > 0).all()


def test_a_class_of_two_contents_splits_into_them() -> None:
    """Two contents in one class, each at its own right pose for an average that shows both."""
    data, want = prepared(48, 2.0).data.within(6.0), true_poses(subtomograms(48, snr=2.0).truth)
    both = want.label < 2
    rows = both.nonzero()[:, 0]
    one = Posterior(
        torch.arange(len(rows)),
        torch.zeros(len(rows), dtype=torch.long),
        want.rotation[rows],
        want.shift[rows],
        torch.ones(len(rows)),
        torch.zeros(len(rows)),
        torch.zeros(len(rows), 1),
    )
    some = data.subset(rows)
    label = split(some, one, maximise(accumulate(some, one, 1), MASK)).label
    right = float((label == want.label[rows]).float().mean())
    assert max(right, 1 - right) > 0.95


def test_errors_of_rotation_do_not_know_the_frame() -> None:
    turned = so3.multiply(so3.from_zyz(torch.tensor([30.0, 40.0, 50.0])), truth().rotation)
    assert float(rotation_errors(turned, truth().rotation).max()) < 0.1
