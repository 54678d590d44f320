"""The steerable basis: inner products, exact rotation, and RELION's sense of rotation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_data import basis_of, draw, samples
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_harmony.engine.steerable import half_plane

ANGLES = st.floats(-720, 720)


def inner(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    """Inner product of the real images of which the samples are one half."""
    return 2 * (one.conj() * two).real.sum(-1)


@pytest.mark.parametrize("box", [32, 33])
def test_the_band_holds_one_of_every_pair_of_samples(box: int) -> None:
    band = half_plane(box, 9.0)
    here = set(zip(band.fx.tolist(), band.fy.tolist(), strict=True))
    opposite = {(-x, -y) for x, y in here}
    axis = np.arange(-9, 10)
    assert not here & opposite
    assert len(here | opposite) == (np.hypot(axis[:, None], axis) <= 9).sum() - 1
    spectrum = torch.fft.fftfreq(box, 1 / box)
    assert torch.equal(spectrum[band.row], band.fy)


@pytest.mark.parametrize("box", [32, 33])
def test_synthesis_is_the_adjoint_of_analysis(box: int) -> None:
    basis, generator = basis_of(box), torch.Generator().manual_seed(0)
    any_samples = torch.randn(5, len(basis.band.fx), generator=generator, dtype=torch.complex64)
    any_vector = torch.randn(5, basis.size, generator=generator)
    left = (basis.analyse(any_samples) * any_vector).sum(-1)
    torch.testing.assert_close(left, inner(any_samples, basis.synthesise(any_vector)), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("box", [32, 33])
def test_the_dot_product_is_the_inner_product_of_particles(box: int) -> None:
    basis = basis_of(box)
    seen = samples(torch.cat([draw(k, box=box) for k in range(3)]), basis)
    c = basis.analyse(seen)
    want = inner(seen[:, None], seen[None])
    assert float((c @ c.T - want).abs().max() / want.abs().max()) < 0.01


def test_a_particle_survives_analysis_and_synthesis() -> None:
    basis = basis_of()
    seen = samples(draw(1), basis)
    again = basis.synthesise(basis.analyse(seen))
    assert float((again - seen).abs().square().sum() / seen.abs().square().sum()) < 0.01


@settings(max_examples=25, deadline=None)
@given(angle=ANGLES, box=st.sampled_from([32, 33]), content=st.integers(0, 2))
def test_turning_coefficients_by_psi_undoes_relions_psi(angle: float, box: int, content: int) -> None:
    basis = basis_of(box)
    upright = basis.analyse(samples(draw(content, box=box), basis))
    turned = basis.analyse(samples(draw(content, [angle], box=box), basis))
    back = basis.rotate(turned, torch.deg2rad(torch.tensor([angle])))
    assert float((back - upright).norm() / upright.norm()) < 0.02


def test_positive_angles_turn_x_towards_y() -> None:
    basis = basis_of()
    axis = torch.arange(32.0) - 16
    dots = torch.stack([torch.exp(-((axis - x) ** 2 + (axis[:, None] - y) ** 2) / 8) for x, y in ((6, 0), (0, 6))])
    on_x, on_y = basis.analyse(samples(dots, basis))
    quarter = basis.rotate(on_x, torch.tensor(torch.pi / 2))
    assert float(torch.cosine_similarity(quarter, on_y, dim=0)) > 0.99


@settings(max_examples=25, deadline=None)
@given(first=ANGLES, second=ANGLES)
def test_turns_add_up_and_keep_the_norm(first: float, second: float) -> None:
    basis = basis_of()
    c = torch.randn(basis.size, generator=torch.Generator().manual_seed(1))
    one, two = torch.deg2rad(torch.tensor([first, second]))
    twice = basis.rotate(basis.rotate(c, one), two)
    torch.testing.assert_close(twice, basis.rotate(c, one + two), atol=2e-3, rtol=0)
    torch.testing.assert_close(twice.norm(), c.norm(), rtol=1e-4, atol=0)


def test_radial_power_sums_to_the_squared_norm() -> None:
    basis = basis_of()
    c = torch.randn(4, basis.size, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(basis.radial_power(c).sum(-1), c.square().sum(-1), rtol=1e-3, atol=0)


def test_complex_and_real_coefficients_are_the_same_numbers() -> None:
    basis = basis_of()
    c = torch.randn(3, basis.size, generator=torch.Generator().manual_seed(3))
    assert torch.equal(basis.to_real(basis.to_complex(c)), c)
    assert not basis.to_complex(c)[:, basis.order == 0].imag.any()
