"""Defocus offsets are found where images tell them, doubted where not, and end up where RELION looks for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_data import VIEWS, run

from napari_harmony.engine import api
from napari_harmony.engine.defocus import (
    PRIOR_SPREAD,
    Defocus,
    _others,
    find_defocus,
    offset_ctf,
    refocused,
    with_defocus,
)
from napari_harmony.engine.preprocess import Prepared, prepare
from napari_harmony.engine.search import Posterior, Sums, accumulate, signal_variance
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.steerable import steerable_basis
from napari_harmony.engine.work import finish
from napari_harmony.errors import InputError
from napari_harmony.outputs import load_output, write_output
from napari_harmony.outputs.export import export_table
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.open import open_particles
from napari_harmony.particles.simulate import sample_volumes, simulate_noise, simulate_particles

BOX = 48


@dataclass(frozen=True)
class Known:
    """Particles whose classes and poses are known, while their defocus is off by ``error`` (n,) angstrom."""

    particles: Particles
    prepared: Prepared
    placed: Posterior
    error: np.ndarray

    def find(self) -> Defocus:
        data = self.prepared.observe(steerable_basis(BOX, self.prepared.geometry.mask_radius, 18.0))
        sums = accumulate(data, self.placed, int(self.placed.label.max()) + 1)
        member = torch.ones(len(self.error), dtype=torch.bool)
        assert self.particles.ctf is not None
        parameters = self.particles.ctf
        return finish(find_defocus(self.prepared, parameters, data, sums, self.placed, member, free_contrast=True))

    def remaining(self) -> float:
        """Root mean square of what is left of the error, angstrom."""
        return float(np.sqrt(((self.find().offset.numpy() + self.error) ** 2).mean()))


@lru_cache
def simulated(count: int) -> tuple[Particles, object]:
    data = simulate_particles(sample_volumes(BOX)[:3], views=VIEWS, count=count, box=BOX, pixel_size=3.5, snr=0.3)
    return data.particles, data.truth


def known(spread: float, count: int = 300) -> Known:
    particles, truth = simulated(count)
    assert particles.ctf is not None
    error = spread * np.random.default_rng(3).standard_normal(count)
    wrong = replace(particles, ctf=offset_ctf(particles.ctf, error))
    label = torch.as_tensor(truth["content"].to_numpy(copy=True))
    psi = torch.as_tensor(np.deg2rad(truth["psi"].to_numpy()), dtype=torch.float32)
    shift = torch.as_tensor(truth[["origin_x", "origin_y"]].to_numpy(copy=True), dtype=torch.float32)
    return Known(wrong, prepared_of(wrong), certain(label, psi, shift), error)


def prepared_of(particles: Particles) -> Prepared:
    return finish(prepare(particles, Settings(), torch.device("cpu")))


def certain(label: torch.Tensor, psi: torch.Tensor, shift: torch.Tensor) -> Posterior:
    n = len(label)
    ones = torch.ones(n)
    return Posterior(torch.arange(n), label.long(), psi, shift, ones, torch.zeros(n), torch.zeros(n, 0))


def test_perturbed_defocus_is_brought_back() -> None:
    """Off by 0.3 um rms, which is half as much again as the prior expects."""
    at = known(3000.0)
    before = float(np.sqrt((at.error**2).mean()))
    assert before > 2800
    assert at.remaining() < 0.7 * before
    offset = at.find().offset.numpy()
    assert np.corrcoef(offset, -at.error)[0, 1] > 0.75


def test_right_defocus_is_left_within_the_prior() -> None:
    at = known(0.0)
    assert at.remaining() < 0.75 * PRIOR_SPREAD
    assert abs(float(at.find().offset.mean())) < 0.25 * PRIOR_SPREAD


def test_what_is_left_of_the_error_is_about_the_spread() -> None:
    at = known(1500.0)
    found = at.find()
    assert 0.6 < float(((found.offset.numpy() + at.error) / found.spread.numpy()).std()) < 1.6
    assert float(found.spread.max()) <= 1.01 * PRIOR_SPREAD


def test_images_with_flipped_phases_say_the_same() -> None:
    """They were multiplied by the sign of the CTF that was believed in: exactly that is known of them."""
    at = known(1500.0)
    assert at.particles.ctf is not None
    flipped = replace(at.particles.ctf, phase_flipped=True)
    sign = torch.where(at.prepared.ctf < 0, -1.0, 1.0)
    prepared = replace(at.prepared, samples=at.prepared.samples * sign, ctf=at.prepared.ctf.abs())
    other = replace(at, particles=replace(at.particles, ctf=flipped), prepared=prepared)
    torch.testing.assert_close(other.find().offset, at.find().offset, atol=1.0, rtol=1e-3)
    moved = torch.linspace(-900, 900, len(at.error))
    signed = with_defocus(at.prepared, at.particles.ctf, moved).ctf
    torch.testing.assert_close(with_defocus(prepared, flipped, moved).ctf, signed * sign, atol=1e-5, rtol=1e-4)


def test_offsets_of_two_voltages_in_one_set_are_each_in_angstrom() -> None:
    at = known(1500.0)
    assert at.particles.ctf is not None
    alone = at.find()
    # a higher wavelength and a smaller defocus are the same phase
    ctf = at.particles.ctf
    from napari_harmony.particles.ctf import electron_wavelength

    ratio = float(electron_wavelength(300.0) / electron_wavelength(200.0))
    half = np.arange(len(at.error)) % 2 == 0
    both = replace(
        ctf,
        voltage=np.where(half, 200.0, 300.0),
        defocus_u=ctf.defocus_u * np.where(half, ratio, 1),
        defocus_v=ctf.defocus_v * np.where(half, ratio, 1),
        spherical_aberration=ctf.spherical_aberration * np.where(half, ratio**3, 1),
    )
    mixed = replace(at, particles=replace(at.particles, ctf=both)).find()
    expected = alone.offset * torch.as_tensor(np.where(half, ratio, 1), dtype=torch.float32)
    # the prior is in angstrom, which is another phase: nearly the same
    assert float((mixed.offset - expected).abs().median()) < 150


def test_noise_says_nothing_about_defocus() -> None:
    noise = simulate_noise(200, BOX, pixel_size=3.5)
    particles, _ = simulated(300)
    assert particles.ctf is not None
    blank = replace(noise, ctf=particles.ctf.subset(np.arange(200)))
    generator = torch.Generator().manual_seed(0)
    psi = 6.28 * torch.rand(200, generator=generator)
    found = Known(blank, prepared_of(blank), certain(torch.zeros(200), psi, torch.zeros(200, 2)), np.zeros(200)).find()
    assert float(found.offset.square().mean().sqrt()) < 0.5 * PRIOR_SPREAD
    assert float(found.spread.mean()) > 0.8 * PRIOR_SPREAD


def test_a_particle_is_compared_with_its_class_without_itself() -> None:
    at = known(0.0)
    data = at.prepared.observe(steerable_basis(BOX, at.prepared.geometry.mask_radius, 12.0))
    sums = accumulate(data, at.placed, 3)
    member, rows = torch.ones(300, dtype=torch.bool), torch.arange(5)
    variance = signal_variance(data.basis, sums)
    first = _others(data, sums, at.placed, member, variance, rows)
    louder = replace(data, matched=torch.cat([3 * data.matched[:5], data.matched[5:]]))
    again = _others(louder, Sums(*_sums(louder, at.placed)), at.placed, member, variance, rows[:1])
    others = _others(data, Sums(*_sums(louder, at.placed)), at.placed, member, variance, rows[:1])
    alone = replace(data, matched=torch.cat([3 * data.matched[:1], data.matched[1:]]))
    same = _others(alone, Sums(*_sums(alone, at.placed)), at.placed, member, variance, rows[:1])
    scale = float(first.abs().max())
    assert float((same - first[:1]).abs().max()) < 1e-3 * scale, "its own grey values must not matter"
    assert float((again - others).abs().max()) > 1e-3 * scale


def _sums(data: object, placed: Posterior) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    sums = accumulate(data, placed, 3)  # type: ignore[arg-type]
    return sums.total, sums.power, sums.share


def test_what_cannot_have_a_defocus_is_refused() -> None:
    settings = Settings(transforms=("rotation", "defocus"))
    with pytest.raises(InputError, match=r"CTF columns"):
        run(api.align(replace(simulate_noise(20, 32), ctf=None), settings))
    with pytest.raises(InputError, match="subtomograms"):
        settings.check_defocus(3, ctf_known=True)
    Settings().check_defocus(3, ctf_known=False)
    settings.check_defocus(2, ctf_known=True)


def test_a_run_finds_defocus_and_writes_it_where_relion_looks(brief_training: None, tmp_path: Path) -> None:
    particles, _ = simulated(300)
    few = replace(
        particles,
        images=type(particles.images)(particles.read(range(150))),
        table=particles.table.iloc[:150],
        ctf=particles.ctf.subset(np.arange(150)) if particles.ctf is not None else None,
    )
    chosen = Settings(classes=3, preset="fast", transforms=("rotation", "translation", "contrast", "defocus"))
    result = run(api.align(few, chosen)).value
    offset = result.table["defocus_offset"].to_numpy()
    assert np.isfinite(offset).all() and 100 < offset.std() < PRIOR_SPREAD
    assert (result.table["defocus_spread"] > 0).all()

    folder = write_output(tmp_path / "out", few, result, settings=chosen)
    restored = load_output(folder).table
    np.testing.assert_allclose(restored["defocus_offset"], offset, atol=0.1)
    again = open_particles(folder / "particles.star")
    assert again.ctf is not None and few.ctf is not None
    np.testing.assert_allclose(again.ctf.defocus_u, few.ctf.defocus_u + offset, atol=0.5)
    np.testing.assert_allclose(again.table["hrmDefocusUInput"].astype(float), few.ctf.defocus_u, atol=0.5)
    # exported once more from there, the offsets are not added twice
    exported = open_particles(export_table(tmp_path / "again.star", again, result))
    assert exported.ctf is not None
    np.testing.assert_allclose(exported.ctf.defocus_u, again.ctf.defocus_u, atol=0.5)
    focused = refocused(few, result.table).ctf
    assert focused is not None and refocused(again, result.table) is again
    np.testing.assert_allclose(focused.defocus_v, again.ctf.defocus_v, atol=0.5)
