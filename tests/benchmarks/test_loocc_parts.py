"""Parts of the checks of leave-one-out cycles: probes change what they say, and the same start serves both modes."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from napari_harmony.models import ModelCard
from napari_harmony.objectives import SeedPoses

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    return importlib.import_module(name)


def test_one_nuisance_is_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = module("loocc_data", monkeypatch)
    data = parts.particles_of(40, seed=3)
    columns = {"rotation": ["psi"], "shift": ["origin_x", "origin_y"], "contrast": ["contrast"]}
    for nuisance in ("", *columns):
        truth = parts.changed(data, 40, nuisance, seed=1).truth
        moved = {c for c in truth if not np.allclose(truth[c], data.truth[c])}
        assert moved == set(columns.get(nuisance, []))
    far = parts.beyond(data, 40, seed=1).truth
    assert bool(((far["psi"].abs() >= parts.TURN) & (far["psi"].abs() <= 1.5 * parts.TURN)).all())
    assert bool((np.log(far["contrast"]).abs() >= 0.999 * parts.LOG_GAIN).all())


def test_redrawn_particles_look_like_those_of_the_training_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pictures under the same poses, drawn in another way: nothing but the noise differs."""
    parts = module("loocc_data", monkeypatch)
    monkeypatch.setattr(parts, "SNR", 50.0)
    data = parts.particles_of(20, seed=3)
    own = parts.prepared(data.particles).flatten(1)
    again = parts.changed(data, 20, "", seed=1).images.flatten(1)
    assert float(torch.cosine_similarity(own, again).min()) > 0.95


def test_what_codes_determine_is_told_from_what_they_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = module("loocc_data", monkeypatch)
    code = np.random.default_rng(0).standard_normal((600, 2))
    assert parts.determined(code, code[:, :1] ** 2) > 0.8
    assert parts.determined(code, np.random.default_rng(1).standard_normal((600, 1))) == 0.0


def test_both_modes_go_on_from_the_same_state(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = module("loocc_training", monkeypatch)
    generator, n = torch.Generator().manual_seed(0), 70
    card = ModelCard(
        box=24,
        pixel_size=10.0,
        original_box=48,
        transforms=("rotation", "translation", "contrast"),
        content=3,
        hypotheses=4,
        mask_diameter=200.0,
        max_shift=40.0,
    )
    seeds = SeedPoses(torch.linspace(-3, 3, n), torch.zeros(n, 2), torch.ones(n))
    images = torch.randn(n, 24, 24, generator=generator)
    start = parts.Start(images, torch.rand(n, 24, 13, generator=generator), np.arange(n), seeds, card)
    state, network = parts.trained_until(start, 1, 2)
    assert state.epoch == 1
    for name, value in network.state_dict().items():
        torch.testing.assert_close(state.tensors[f"network.{name}"], value)
    whole, _ = parts.continued(replace(start), state, 2)
    straight, _ = parts.continued(start, parts.trained_until(start, 1, 2)[0], 2)
    torch.testing.assert_close(whole.decoder[0].weight, straight.decoder[0].weight, atol=0, rtol=0)
    added, _ = parts.continued(start, state, 2, ("loocc",))
    assert added.shape == whole.shape
