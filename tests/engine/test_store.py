"""Particles that wait on disk: the same as in memory, in whatever order they are asked for, read as they lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_data import simulated

from napari_harmony.engine import portions
from napari_harmony.engine.preprocess import prepare
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.store import Store, drawn, stored
from napari_harmony.engine.work import finish
from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.images import ArrayImages, FileImages, storage_order
from napari_harmony.particles.mrc import open_frames, write_stack

CPU = torch.device("cpu")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache=str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def particles() -> Particles:
    return simulated(60).particles


def put(particles: Particles, settings: Settings) -> Store:
    return finish(stored(particles, settings, CPU))


def test_particles_come_back_as_they_would_be_prepared(particles: Particles, settings: Settings) -> None:
    kept, held = put(particles, settings), finish(prepare(particles, settings, CPU))
    rows = np.array([41, 3, 59, 0, 17])
    some = finish(kept.preparing(rows))
    at = torch.as_tensor(rows)
    assert (some.samples - held.samples[at]).abs().max() < 1e-3 * held.samples.abs().max()
    torch.testing.assert_close(some.ctf, held.ctf[at])
    torch.testing.assert_close(some.noise, held.noise)
    np.testing.assert_array_equal(some.keys, held.keys[rows])
    kept.close()
    assert not list(Path(settings.cache).iterdir())


def test_portions_are_the_usable_particles_in_the_order_of_the_files(
    particles: Particles, settings: Settings, tmp_path: Path
) -> None:
    images = particles.read(range(60)).copy()
    images[7], images[11], images[30] = np.nan, 1.0, images[29]
    for name, part in (("one", images[:25]), ("two", images[25:])):
        write_stack(tmp_path / f"{name}.mrcs", part, 13.0)
    files = [open_frames(tmp_path / f"{name}.mrcs")[0] for name in ("one", "two")]
    mixed = np.random.default_rng(0).permutation(60)
    source = FileImages(files, (mixed >= 25).astype(int), np.where(mixed >= 25, mixed - 25, mixed))
    assert particles.ctf is not None
    shuffled = replace(particles, images=source, ctf=particles.ctf.subset(mixed))
    kept = put(shuffled, settings)
    rows = np.concatenate(kept.portions(16))
    order = mixed[rows]
    assert np.all(np.diff(order) > 0) and len(rows) == 57 and not {7, 11} & set(order.tolist())
    assert sorted(kept.flags[~kept.usable]) == ["constant", "duplicate", "not-finite"]
    alike = put(replace(particles, images=ArrayImages(images)), settings)
    again = finish(alike.preparing(order[:5]))
    torch.testing.assert_close(finish(kept.preparing(rows[:5])).samples, again.samples)


def test_a_sample_depends_on_the_images_and_the_seed_and_on_nothing_else(
    particles: Particles, settings: Settings
) -> None:
    mixed = np.random.default_rng(1).permutation(60)
    assert particles.ctf is not None
    one = put(particles, settings)
    two = put(replace(particles, images=ArrayImages(particles.read(mixed)), ctf=particles.ctf.subset(mixed)), settings)
    chosen = drawn(one, 20, 0)
    assert len(set(chosen.tolist())) == 20
    np.testing.assert_array_equal(chosen, mixed[drawn(two, 20, 0)])
    assert set(drawn(one, 20, 1).tolist()) != set(chosen.tolist())


def test_a_disk_without_room_is_said_before_anything_is_read(
    particles: Particles, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portions, "SPARE", 2**60)
    with pytest.raises(InputError, match="75 kB are needed for the cache of the particles, and .* are free; choose"):
        put(particles, settings)


def test_a_folder_that_cannot_be_is_no_place_for_a_cache(particles: Particles, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="this folder for the cache cannot be made"):
        put(particles, Settings(cache=str(tmp_path / "file" / "in")))


def test_extreme_numbers_stay_finite(particles: Particles, settings: Settings) -> None:
    images = particles.read(range(60)).copy()
    images[0] *= 1e12
    images[1, 12, 12] = 1e15
    kept = put(replace(particles, images=ArrayImages(images)), settings)
    assert torch.isfinite(torch.view_as_real(finish(kept.preparing(np.arange(60))).samples)).all()


def test_images_of_an_array_lie_as_they_are() -> None:
    np.testing.assert_array_equal(storage_order(ArrayImages(np.zeros((3, 16, 16)))), [0, 1, 2])
