"""The diffusion decoder: its schedule is the known one, drawing is deterministic, and models keep it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_harmony.errors import InputError
from napari_harmony.models import DiffusionDecoder, HarmonyModel, ModelCard, NetworkShape, VolumeNetwork, build_network
from napari_harmony.models.canonical import canonical, draws_sharp
from napari_harmony.models.diffusion import LEVELS
from napari_harmony.models.schedule import NoiseSchedule

CARD = ModelCard(
    box=18,
    pixel_size=5.0,
    original_box=36,
    transforms=("rotation", "translation"),
    content=3,
    hypotheses=4,
    mask_diameter=85.0,
    max_shift=15.0,
    additions=("diffusion",),
)


def fresh(card: ModelCard) -> HarmonyModel:
    """A model of random weights, the last layer of its diffusion decoder included, which begins with zeros."""
    torch.manual_seed(0)
    network = build_network(card).eval()
    if draws_sharp(HarmonyModel(network, card)):
        torch.nn.init.normal_(network.sharp.unet.out[-1].conv.weight, std=0.1)
        network.sharp.adapt(torch.randn(4, *(card.box,) * card.dimensions))
    return HarmonyModel(network, card)


def codes(count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> HarmonyModel:
    return fresh(CARD)


def test_the_schedule_is_that_of_monai() -> None:
    from monai.networks.schedulers import DDIMScheduler

    wanted = DDIMScheduler(LEVELS, schedule="cosine").alphas_cumprod
    torch.testing.assert_close(NoiseSchedule.cosine(LEVELS).kept, wanted, atol=1e-6, rtol=0)


def test_the_bottleneck_loosens_as_published() -> None:
    """Nats per pixel at some of 1000 levels of the cosine schedule, computed once from the formula by other means."""
    capacity = NoiseSchedule.cosine(1000).capacity
    levels = torch.tensor([999, 600, 200, 50, 1])
    torch.testing.assert_close(capacity[levels], torch.tensor([0.0, 2.72, 3.43, 4.10, 5.37]), atol=0.006, rtol=0)
    assert bool((capacity.diff() <= 0).all())


def test_the_bottleneck_opens_from_nothing_to_all() -> None:
    schedule = NoiseSchedule.cosine(LEVELS)
    along = [schedule.loosened(progress) for progress in np.linspace(0, 1.5, 16)]
    assert along[0] == 0.0 and along[10:] == [1.0] * 6
    assert all(a <= b for a, b in zip(along, along[1:], strict=False))


def test_information_of_a_normal_variable_is_what_shannon_says() -> None:
    """A normal picture of variance v, told exactly: the gain is all of its error, and I = log(1 + v snr) / 2."""
    schedule, variance, limit = NoiseSchedule.cosine(2000), 3.0, 2.0
    gain = variance / (1 + variance * schedule.snr)
    nats = 0.5 * float((schedule.information(limit) * gain).sum())
    assert nats == pytest.approx(0.5 * np.log1p(variance * limit), rel=0.02)


@pytest.mark.parametrize(("box", "dimensions"), [(24, 2), (18, 2), (18, 3)])
def test_patches_come_back(box: int, dimensions: int) -> None:
    decoder = DiffusionDecoder(NetworkShape(box=box, content=3), dimensions, 8)
    pictures = torch.randn(2, *(box,) * dimensions)
    torch.testing.assert_close(decoder._from_patches(decoder._to_patches(pictures)), pictures)


def test_without_the_content_no_code_matters(model: HarmonyModel) -> None:
    decoder = model.network.sharp
    noised, level, content = torch.randn(2, 18, 18), torch.tensor([150, 20]), torch.as_tensor(codes())
    unknown = torch.zeros(2, dtype=torch.bool)
    with torch.no_grad():
        told = [decoder.denoise(noised, level, c) for c in (content, -content)]
        untold = [decoder.denoise(noised, level, c, unknown) for c in (content, -content)]
    torch.testing.assert_close(*untold)
    assert float((told[0] - told[1]).abs().max()) > 1e-3


@pytest.mark.parametrize("dimensions", [2, 3])
def test_drawing_is_deterministic_and_one_by_one(dimensions: int) -> None:
    model = fresh(replace(CARD, dimensions=dimensions, hypotheses=VolumeNetwork.hypotheses(CARD.transforms)))
    both = canonical(model, codes(), sharp=True)
    assert both.shape == (2, *(18,) * dimensions) and both.dtype == np.float32
    np.testing.assert_array_equal(both, canonical(model, codes(), sharp=True))
    # Products of another size are rounded otherwise, in proportion to the values, and differently on each processor.
    np.testing.assert_allclose(both[1:], canonical(model, codes()[1:], sharp=True), rtol=1e-5, atol=1e-5)
    assert np.abs(both - canonical(model, codes(), sharp=True, seed=1)).max() > 1e-4
    assert np.abs(both - canonical(model, codes())).max() > 1e-4


def test_drawing_sends_a_known_picture_back(model: HarmonyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A denoiser that always says the same is followed to the end, whatever the noise and the number of steps."""
    known = torch.randn(1, 18, 18)
    seen: list[torch.Tensor] = []

    def denoise(noised: torch.Tensor, level: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
        seen.append(noised / 1.0 - model.network.sharp.schedule.kept[level].sqrt()[:, None, None] * known / size)
        return known

    size = float(model.network.sharp.size)
    monkeypatch.setattr(model.network.sharp, "denoise", denoise)
    torch.testing.assert_close(model.network.sharp.draw(torch.zeros(1, 3), steps=8), known)
    # what is left of the noise at every level visited is the one noise picture, scaled down
    levels = [LEVELS - 1 - 25 * number for number in range(8)]
    left = (1 - model.network.sharp.schedule.kept[levels]).sqrt()
    for residual, scale in zip(seen[1:], left[1:], strict=True):
        torch.testing.assert_close(residual / scale, seen[0] / left[0], atol=1e-3, rtol=1e-3)


def test_a_model_keeps_its_decoder(model: HarmonyModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    again = HarmonyModel.load(tmp_path)
    assert draws_sharp(again)
    np.testing.assert_array_equal(canonical(model, codes(), sharp=True), canonical(again, codes(), sharp=True))


def test_what_cannot_be_drawn_is_refused(model: HarmonyModel) -> None:
    plain = fresh(replace(CARD, additions=()))
    assert not draws_sharp(plain)
    assert canonical(plain, codes()).shape == (2, 18, 18)
    with pytest.raises(InputError, match="no diffusion decoder"):
        canonical(plain, codes(), sharp=True)
    with pytest.raises(InputError, match=r"\(2, 2\).*\(n, 3\)"):
        canonical(model, codes()[:, :2])
    with pytest.raises(InputError, match="steps is 0"):
        canonical(model, codes(), sharp=True, steps=0)


def test_monai_is_loaded_only_for_a_decoder() -> None:
    check = "import sys, napari_harmony.objectives, napari_harmony.models.canonical; sys.exit('monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
