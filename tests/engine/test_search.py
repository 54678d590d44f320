"""The posterior search: it finds poses, averages undo them, and how it is portioned does not matter."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile
import torch
from engine_data import basis_of, certain, draw, observations, samples, templates_of, wrapped
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from napari_harmony.engine import search
from napari_harmony.engine.preprocess import cropped_transform
from napari_harmony.engine.refine import refine
from napari_harmony.engine.search import (
    Arithmetic,
    Observations,
    Posterior,
    accumulate,
    expect,
    maximise,
    pose_grid,
)
from napari_harmony.engine.work import finish
from napari_harmony.particles.ctf import ctf_at
from napari_harmony.particles.simulate import CtfRange

GRID = pose_grid(60, 3.0, 0.75, 1.0)


def mixed(
    count: int = 12, noise: float = 0.0, reach: float = 2.0
) -> tuple[Observations, np.ndarray, np.ndarray, np.ndarray]:
    """Posed drawings, with content, psi in degrees and origin of each."""
    generator = np.random.default_rng(0)
    content, psi = np.arange(count) % 3, generator.uniform(-180, 180, count)
    origin = generator.uniform(-reach, reach, (count, 2))
    images = torch.cat([draw(c, p, o) for c, p, o in zip(content, psi, origin, strict=True)])
    images += noise * torch.as_tensor(generator.standard_normal(images.shape), dtype=torch.float32)
    return observations(30 * images, basis_of()), content, psi, origin


def three_templates() -> search.Templates:
    return templates_of(30 * torch.cat([draw(k) for k in range(3)]), basis_of())


def found(data: Observations, arithmetic: Arithmetic | None = None) -> Posterior:
    return finish(expect(data, three_templates(), GRID, torch.zeros(len(data), 2), arithmetic or Arithmetic()))


def test_the_search_finds_class_and_pose() -> None:
    data, content, psi, origin = mixed()
    best = found(data).best()
    assert best.label.tolist() == content.tolist()
    assert np.abs(wrapped(np.degrees(best.psi.numpy()) - psi)).max() <= 3.1
    assert np.abs(best.shift.numpy() - origin).max() <= 0.45


def test_weights_are_a_posterior_and_evidence_prefers_signal() -> None:
    data, *_ = mixed(noise=1.0)
    posterior = found(data)
    total = torch.zeros(len(data)).index_add_(0, posterior.particle, posterior.weight)
    torch.testing.assert_close(total, torch.ones(len(data)))
    torch.testing.assert_close(posterior.class_weights(3).sum(1), torch.ones(len(data)))
    noise = observations(torch.randn(6, 32, 32, generator=torch.Generator().manual_seed(0)), basis_of())
    assert float(posterior.log_evidence.min()) > float(found(noise).log_evidence.max())


@pytest.mark.parametrize("off", [(0.0, 0.0, 0.0), (0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.5, 0.5, 0.5)])
def test_class_scores_hardly_depend_on_where_the_grid_lies(off: tuple[float, float, float]) -> None:
    """``off``: of the grid's step in psi, x and y."""
    grid, psi = pose_grid(60, 3.0, 0.75, 1e3), np.array([36 + 6 * off[0]])
    data = observations(30 * draw(0, psi, [[0.75 * off[1], 0.75 * (1 + off[2])]]), basis_of())
    posterior = finish(expect(data, three_templates(), grid, torch.zeros(1, 2), Arithmetic()))
    drawn = finish(expect(data, three_templates(), pose_grid(720, 1.5, 0.125, 1e3), torch.zeros(1, 2), Arithmetic()))
    assert float(posterior.class_score[0, 0]) == pytest.approx(float(drawn.class_score[0, 0]), rel=0.015)


@pytest.mark.parametrize("budget", [1, 40_000, 10**9])
def test_portions_do_not_change_the_posterior(budget: int) -> None:
    data, *_ = mixed(noise=1.0)
    whole, parts = found(data), found(data, Arithmetic(budget=budget))
    assert torch.equal(parts.best().label, whole.best().label)
    assert torch.equal(parts.best().psi, whole.best().psi)
    torch.testing.assert_close(parts.log_evidence, whole.log_evidence, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(parts.class_score, whole.class_score, rtol=1e-4, atol=1e-2)


def test_the_best_entry_is_the_heaviest_however_many_there_are() -> None:
    generator, n, entries = torch.Generator().manual_seed(0), 1000, 200_000
    particle = torch.randint(n, (entries,), generator=generator).sort().values
    weight = torch.rand(entries, generator=generator)
    nothing = torch.zeros(entries)
    posterior = Posterior(
        particle, nothing.long(), weight, torch.zeros(entries, 2), weight, torch.zeros(n), torch.zeros(n, 1)
    )
    heaviest = torch.zeros(n).scatter_reduce(0, particle, weight, "amax")
    for _ in range(5):
        best = posterior.best()
        assert torch.equal(best.weight, heaviest)
        assert torch.equal(best.particle, torch.arange(n))
        assert torch.equal(best.psi, best.weight)


def test_a_part_of_a_posterior_is_numbered_in_the_order_asked() -> None:
    data, content, *_ = mixed()
    posterior = found(data)
    rows = torch.tensor([7, 2, 5])
    part = posterior.subset(rows)
    assert part.best().label.tolist() == content[rows.numpy()].tolist()
    assert torch.equal(part.best().psi, posterior.best().psi[rows])
    kept = torch.zeros(len(data), dtype=torch.bool)
    kept[rows] = True
    assert set(posterior.only(kept).particle.tolist()) == {2, 5, 7}


def with_ctf(count: int) -> tuple[Observations, np.ndarray, np.ndarray]:
    """One drawing in many poses, each under its own CTF."""
    generator = np.random.default_rng(3)
    basis, psi, origin = basis_of(), generator.uniform(-180, 180, count), generator.uniform(-2, 2, (count, 2))
    parameters = CtfRange().sample(count, generator)
    ctf = ctf_at(parameters, basis.band.fx / 320, basis.band.fy / 320)
    seen = 30 * samples(draw(0, psi, origin), basis) * ctf
    rings = [torch.hypot(basis.band.fx, basis.band.fy).sub(f).abs().argmin() for f in basis.node_frequency]
    return Observations(seen * ctf, ctf[:, rings] ** 2, basis, 32), psi, origin


def test_averages_undo_poses_and_ctf() -> None:
    data, psi, origin = with_ctf(60)
    sums = accumulate(data, certain(psi, origin, np.zeros(60)), 1)
    average = maximise(data.basis, sums).coefficients[0]
    want = templates_of(30 * draw(0), data.basis).coefficients[0]
    assert float(sums.share[0]) == pytest.approx(60)
    assert float(torch.cosine_similarity(average, want, dim=0)) > 0.99
    assert float(average.norm() / want.norm()) == pytest.approx(1, abs=0.05)


def test_sums_are_the_same_whether_particles_or_sums_are_turned() -> None:
    data, content, psi, origin = mixed()
    on_grid = certain(np.round(psi / 90) * 90, origin, content)
    together = accumulate(data, on_grid, 3)
    alone = [accumulate(data.subset(rows), on_grid.subset(rows), 3) for rows in torch.arange(len(data)).split(1)]
    torch.testing.assert_close(together.total, sum(one.total for one in alone), rtol=1e-4, atol=0.05)
    torch.testing.assert_close(together.power, sum(one.power for one in alone))
    torch.testing.assert_close(together.share, torch.tensor([4.0, 4.0, 4.0]))


def test_exhausted_memory_halves_the_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    data, *_ = mixed()
    want, score, sizes = found(data), search._score, []

    def failing(*arguments: object) -> Posterior:
        sizes.append(len(arguments[-1]))
        if len(sizes) == 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return score(*arguments)

    monkeypatch.setattr(search, "_score", failing)
    cells = len(GRID.shift) * len(GRID.psi) * 3
    posterior = found(data, Arithmetic(budget=6 * cells))
    assert sizes == [6, 6, 3, 3]
    assert torch.equal(posterior.best().psi, want.best().psi)
    torch.testing.assert_close(posterior.log_evidence, want.log_evidence, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(("message", "calls"), [("CUDA out of memory", 4), ("shapes do not match", 1)])
def test_what_smaller_portions_do_not_help_is_raised(monkeypatch: pytest.MonkeyPatch, message: str, calls: int) -> None:
    data, *_ = mixed()
    sizes = []

    def failing(*arguments: object) -> Posterior:
        sizes.append(len(arguments[-1]))
        raise RuntimeError(message)

    monkeypatch.setattr(search, "_score", failing)
    with pytest.raises(RuntimeError, match=message):
        found(data, Arithmetic(budget=8 * len(GRID.shift) * len(GRID.psi) * 3))
    assert sizes == [8, 4, 2, 1][:calls]


def test_a_grid_knows_its_neighbours_and_its_reach() -> None:
    grid = pose_grid(8, 2.0, 1.0, 1.0)
    assert float(grid.shift.norm(dim=1).max()) == 2.0
    for step, neighbour in zip(((-1, 0), (1, 0), (0, -1), (0, 1)), grid.neighbours, strict=True):
        there = neighbour >= 0
        moved = grid.shift[there] + torch.tensor(step)
        assert torch.equal(grid.shift[neighbour[there]], moved)
        assert ((grid.shift[~there] + torch.tensor(step)).norm(dim=1) > 2).all()
    assert pose_grid(1, 0.0, 1.0, 1.0).shift.tolist() == [[0.0, 0.0]]


def relion_views(folder: Path, rows: object, box: int) -> torch.Tensor:
    """Projections of the 70S ribosome at rot and tilt of each row with psi 0 about floor(box / 2)."""
    volume = mrcfile.read(folder / "densities" / "70S_65px_5A.mrc").astype(np.float32)
    axis = (np.arange(box) - box // 2) * volume.shape[0] / box
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    views = []
    for _, row in rows.iterrows():  # type: ignore[attr-defined]
        turn = Rotation.from_euler("ZYZ", [row["rlnAngleRot"], row["rlnAngleTilt"], 0.0], degrees=True).as_matrix()
        at = np.stack([x, y, z], -1) @ turn.T + volume.shape[0] // 2
        views.append(map_coordinates(volume, [at[..., 2], at[..., 1], at[..., 0]], order=1).sum(0))
    return torch.from_numpy(np.stack(views)).float()


@pytest.mark.parametrize("box", [64, 65])
def test_psi_and_shift_are_relions(shared_data: Path, box: int) -> None:
    images = mrcfile.read(shared_data / "poses" / f"rln_proj_{box}_shifted.mrcs").astype(np.float32)
    table = starfile.read(shared_data / "poses" / f"rln_proj_{box}_shifted.star")
    rows = table["particles"] if isinstance(table, dict) else table
    views = relion_views(shared_data, rows, box)
    basis, unit = basis_of(box, 10.0), 30 / float(views.std())
    data = observations(unit * torch.from_numpy(images), basis)
    templates = templates_of(unit * views, basis)
    work = expect(data, templates, pose_grid(72, 16.0, 1.5, 8.0), torch.zeros(len(data), 2), Arithmetic())
    best = finish(work).best()
    assert best.label.tolist() == list(range(len(data)))
    energy = 2 * samples(unit * torch.from_numpy(images), basis).abs().square().sum(1)
    sharp = finish(refine(data, templates, best.label, best.psi, best.shift, energy, 8.0))
    # RELION's projector draws an odd box one pixel right and down of floor(box / 2).
    origin = rows[["rlnOriginX", "rlnOriginY"]].to_numpy(float) - box % 2
    assert np.abs(wrapped(np.degrees(sharp.psi.numpy()) - rows["rlnAnglePsi"].to_numpy(float))).max() < 0.5
    assert np.abs(sharp.shift.numpy() - origin).max() < 0.15
    assert float(sharp.score.min()) > 0.98


def test_cropping_in_fourier_space_keeps_the_centre() -> None:
    for source, box in ((48, 32), (49, 32), (48, 33), (49, 33)):
        crop = cropped_transform(draw(0, box=source), box)
        image = torch.fft.fftshift(torch.fft.irfft2(crop, s=(box, box), norm="ortho"), dim=(1, 2))[0]
        want = draw(0, box=box)[0] * (source / box)
        # A drawing is as large as its box, so that only pixels of another size differ.
        assert float(torch.corrcoef(torch.stack([image.flatten(), want.flatten()]))[0, 1]) > 0.999
