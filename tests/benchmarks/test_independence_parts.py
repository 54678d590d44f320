"""Parts of the checks of adaptive independence: pairs share their content, and measures measure what they say."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from napari_harmony.objectives import AdversarialIndependence, Controls

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    names = "independence_images", "independence_measures"
    images, measures = (importlib.import_module(name) for name in names)
    return images, measures


def test_images_vary_by_the_power_and_have_the_noise(modules: tuple[ModuleType, ModuleType]) -> None:
    images, _ = modules
    data, scale = images.contents(300, seed=3)
    seen = images.views(data.pictures, torch.Generator().manual_seed(0))
    assert float(seen.clean.var(0).sum()) == pytest.approx(images.POWER, rel=0.15)
    noise = math.sqrt(images.POWER / images.BOX**2 / images.SNR)
    assert float((seen.noisy - seen.clean).std()) == pytest.approx(noise, rel=0.02)
    assert images.contents(20, seed=4, scale=scale)[1] == scale
    album = images.album(data, 0)
    assert album.shape == (300, images.VIEWS, images.BOX, images.BOX)
    own, others = (album[:, 0] - album[:, 1]).square().sum(), (album[:, 0] - album.roll(1, 0)[:, 1]).square().sum()
    assert float(own) < float(others)


def test_a_training_repeats_itself_and_gamma_is_kept(modules: tuple[ModuleType, ModuleType]) -> None:
    images, _ = modules
    album = images.album(images.contents(40, seed=3)[0], 0)
    trained = []
    for _ in range(2):
        torch.manual_seed(0)
        core = AdversarialIndependence(images.CODE, images.CODE, Controls(gamma=0.1))
        trained.append(images.train_pairs(album, core, penalised=True, seed=1, steps=4))
    assert trained[0].gamma == trained[1].gamma and len(trained[0].gamma) == 4
    one, two = (torch.cat([p.flatten() for p in t.network.parameters()]) for t in trained)
    assert torch.equal(one, two)


def test_a_fresh_critic_reads_what_there_is(
    modules: tuple[ModuleType, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, measures = modules
    monkeypatch.setattr(measures, "CRITIC_STEPS", 200)
    random = torch.Generator().manual_seed(0)
    one, two = torch.randn(1200, 3, generator=random), torch.randn(1200, 3, generator=random)
    learned = np.arange(1200) < 900
    assert measures.fresh_critic(one, two, learned, 0)[0] < 0.05
    nats, share = measures.fresh_critic(one, 3 * one + 0.5 * two, learned, 0)
    assert nats > 1.0 and 0.3 < share < 1


def test_the_plateau_is_that_of_the_last_quarter(modules: tuple[ModuleType, ModuleType]) -> None:
    _, measures = modules
    assert measures.plateau([0.001] * 6 + [0.2, 0.3]) == pytest.approx(1.5)
