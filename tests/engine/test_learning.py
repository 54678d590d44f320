"""What the network is shown, what it is called, and how its content codes are grouped."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_data import draw

from napari_harmony.additions import addition_of
from napari_harmony.engine import schedule
from napari_harmony.engine.geometry import Geometry
from napari_harmony.engine.learning import cluster_content, content_mixture, model_card, network_input, propose
from napari_harmony.engine.preprocess import Prepared
from napari_harmony.engine.schedule import (
    BATCH,
    EPOCHS,
    EPOCHS_2022,
    ONE_CLASS_EPOCHS,
    ONE_CLASS_STEPS,
    batch_of,
    epochs,
)
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.work import finish
from napari_harmony.models import HarmonyModel
from napari_harmony.models.model import build_network

GEOMETRY = Geometry(96, 48, 4.0, 20.0, 6.0)


def prepared_of(images: torch.Tensor, ctf: torch.Tensor) -> Prepared:
    """Images (n, box, box) as if they had been prepared under a CTF (n, box, box // 2 + 1)."""
    n, box = len(images), images.shape[-1]
    samples = torch.fft.rfft2(torch.fft.ifftshift(images, dim=(1, 2)), norm="ortho") * ctf
    flags, keys = np.full(n, "", dtype=object), np.arange(n, dtype=np.uint64)
    geometry = Geometry(box, box, 10.0, 0.45 * box, 0.1 * box)
    return Prepared(samples, ctf, torch.ones(box // 2), np.ones(n, bool), flags, keys, geometry)


@pytest.mark.parametrize(("box", "size"), [(48, 32), (49, 32), (24, 24), (25, 24)])
def test_the_network_sees_cropped_images_with_flipped_phases(box: int, size: int) -> None:
    drawn = draw(0, [0.0, 50.0], [[0, 0], [1, 2]], box)
    ctf = torch.where(torch.hypot(torch.fft.fftfreq(box)[:, None], torch.fft.rfftfreq(box)) > 0.08, -0.7, 0.7)
    images, magnitude = network_input(prepared_of(drawn, ctf.expand(2, -1, -1)))
    assert images.shape == (2, size, size) and magnitude.shape == (2, size, size // 2 + 1)
    assert torch.equal(magnitude, torch.full_like(magnitude, 0.7))
    want = 0.7 * (box / size) * draw(0, [0.0, 50.0], np.array([[0, 0], [1, 2]]) * size / box, size)
    assert float(torch.corrcoef(torch.stack([images.flatten(), want.flatten()]))[0, 1]) > 0.99
    assert float(images.std() / want.std()) == pytest.approx(1, abs=0.05)


def test_noise_keeps_its_variance_on_the_way_to_the_network() -> None:
    noise = torch.randn(100, 48, 48, generator=torch.Generator().manual_seed(0))
    images, _ = network_input(prepared_of(noise, torch.ones(100, 48, 25)))
    assert float(images.var()) == pytest.approx(1, abs=0.05)


@pytest.fixture(autouse=True)
def true_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole runs of other tests train for one pass."""
    monkeypatch.setattr(schedule, "EPOCHS", EPOCHS)
    monkeypatch.setattr(schedule, "EPOCHS_2022", EPOCHS_2022)
    monkeypatch.setattr(schedule, "ONE_CLASS_EPOCHS", ONE_CLASS_EPOCHS)


def test_the_card_says_what_the_network_is_for() -> None:
    settings = Settings(preset="fast", seed=7, transforms=("rotation",))
    card = model_card(GEOMETRY, settings, 32, 12, 500)
    assert (card.box, card.pixel_size, card.original_box, card.particles, card.seed) == (32, 6.0, 96, 500, 7)
    assert (card.mask_diameter, card.max_shift, card.transforms) == (160.0, 24.0, ("rotation",))
    assert card.box * card.pixel_size == GEOMETRY.box * GEOMETRY.pixel_size
    assert card.hypotheses > 1 and card.content > model_card(GEOMETRY, settings, 32, 4, 500).content
    published = model_card(GEOMETRY, Settings(objective="harmony-2022"), 32, 3, 500)
    assert published.hypotheses == 1 and published.epochs == EPOCHS_2022["balanced"]


def test_poses_from_a_search_shorten_training() -> None:
    for preset in ("fast", "balanced", "thorough"):
        settings = Settings(preset=preset)  # type: ignore[arg-type]
        assert (epochs(settings, True, 500), epochs(settings, False, 500)) == EPOCHS[preset]
        assert epochs(settings, True, 500) < epochs(settings, False, 500)


def test_one_class_trains_until_weak_motions_show_up_but_does_not_learn_few_particles_by_heart() -> None:
    def passes(particles: int, classes: int | None) -> int:
        return epochs(Settings(), True, particles, classes)

    assert passes(5000, 1) * round(5000 / 64) >= ONE_CLASS_STEPS["balanced"]
    assert passes(100_000, 1) == EPOCHS["balanced"][0]  # many particles bring enough batches
    assert passes(200, 1) == ONE_CLASS_EPOCHS
    assert passes(2000, 12) == passes(2000, None) == EPOCHS["balanced"][0]
    assert model_card(GEOMETRY, Settings(), 32, 1, 5000).epochs == passes(5000, 1)
    assert model_card(GEOMETRY, Settings(), 32, 12, 2000).epochs == EPOCHS["balanced"][0]


def test_many_particles_need_fewer_passes_and_allow_larger_batches() -> None:
    counts = (500, 2000, 4000, 8000, 32_000, 1_000_000)
    passes = [epochs(Settings(), True, count, 12) for count in counts]
    batches = [batch_of(Settings(), count, 12) for count in counts]
    assert passes == [8, 8, 6, 4, 2, 1] and batches == [64, 64, 64, 128, 256, 256]
    seen = [count * each for count, each in zip(counts, passes, strict=True)]
    assert seen == sorted(seen)  # never less in all of more particles
    assert batch_of(Settings(), 32_000, 1) == batch_of(Settings(objective="harmony-2022"), 32_000) == BATCH
    assert batch_of(Settings(additions=(addition_of("loocc"),)), 32_000, 12) == BATCH


def test_proposals_come_in_the_order_of_the_particles_however_they_are_batched() -> None:
    card = model_card(Geometry(24, 24, 10.0, 10.0, 3.0), Settings(), 24, 2, 4)
    torch.manual_seed(0)
    model = HarmonyModel(build_network(card).eval(), card)
    images = draw(0, np.linspace(0, 300, 1030) % 360, box=24) + draw(1, np.linspace(0, 90, 1030), box=24)
    prepared = prepared_of(images, torch.ones(1030, 24, 13))
    fractions, work = [], propose(model, prepared)
    while True:
        try:
            fractions.append(next(work))
        except StopIteration as stop:
            found = stop.value
            break
    assert len(found) == 1030 and fractions == [pytest.approx(1024 / 1030, abs=0.01), 1.0]
    last = finish(propose(model, prepared.subset(torch.arange(1024, 1030))))
    torch.testing.assert_close(found.content_mean[1024:], last.content_mean, rtol=1e-3, atol=1e-4)
    assert float(found.content_mean.std()) > 1e-3


def blobs(counts: tuple[int, ...] = (80, 60, 40)) -> tuple[np.ndarray, np.ndarray]:
    """Codes (n, 4) around separate centres, each dimension in units of its own, and which centre."""
    label = np.repeat(np.arange(len(counts)), counts)
    codes = np.random.default_rng(0).standard_normal((len(label), 4))
    codes[:, :3] += 8 * np.eye(3)[label]
    return codes * [1, 1e-3, 50, 1], label


@pytest.mark.parametrize("classes", [3, None])
def test_codes_are_grouped_by_content(classes: int | None) -> None:
    codes, label = blobs()
    found = cluster_content(codes, classes, 0)
    assert len({*zip(found.tolist(), label.tolist(), strict=True)}) == 3 == len(set(found.tolist()))
    assert np.array_equal(found, cluster_content(codes, classes, 0))


def test_one_cloud_of_codes_is_one_class_unless_more_are_asked_for() -> None:
    codes = np.random.default_rng(1).standard_normal((200, 3))
    assert set(cluster_content(codes, None, 0)) == {0}
    assert len(set(cluster_content(codes, 4, 0))) == 4
    assert len(set(cluster_content(codes[:5], 9, 0))) <= 5


def test_codes_that_are_all_the_same_are_one_class() -> None:
    assert set(cluster_content(np.ones((30, 3)), None, 0)) == {0}


def test_a_mixture_says_where_each_class_lies() -> None:
    codes, label = blobs()
    mixture = content_mixture(codes, label, 4)
    for k in range(3):
        np.testing.assert_allclose(mixture.means[k], codes[label == k].mean(0), rtol=1e-4)
        np.testing.assert_allclose(mixture.covariances[k], np.cov(codes[label == k].T), rtol=0.05, atol=0.01)
    assert float(mixture.weights.sum()) == pytest.approx(1)
    assert np.argsort(-mixture.weights.numpy()).tolist() == [0, 1, 2, 3] and float(mixture.weights[3]) > 0
    # An empty class, like one too small for a covariance, takes the spread of all.
    np.testing.assert_allclose(mixture.means[3], codes.mean(0), rtol=1e-4)
    np.testing.assert_allclose(mixture.covariances[3], np.cov(codes.T), rtol=0.05, atol=0.01)
    assert all(bool((torch.linalg.eigvalsh(c) > 0).all()) for c in mixture.covariances.double())


def test_images_without_ctf_are_shown_as_they_are() -> None:
    images = torch.as_tensor(np.random.default_rng(0).standard_normal((3, 32, 32)), dtype=torch.float32)
    shown, _ = network_input(prepared_of(images, torch.ones(3, 32, 17)))
    torch.testing.assert_close(shown, images, rtol=1e-4, atol=1e-4)
