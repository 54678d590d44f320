"""The published objective on subtomograms: input, training, and a run from volumes to classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from engine_data import run
from volume_data import prepared, subtomograms

from napari_harmony.engine import api
from napari_harmony.engine.events import Done, Event, Progress
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.train import TrainSettings, train
from napari_harmony.engine.volumes import plans
from napari_harmony.engine.volumes.learning import published_samples, volume_card
from napari_harmony.engine.volumes.run import VolumeRun
from napari_harmony.errors import InputError
from napari_harmony.models import Harmony2022VolumeNetwork, published_band
from napari_harmony.transforms import so3
from napari_harmony.transforms.spectra import regridded, volumes_from

COUNT = 12
SETTINGS = Settings(classes=2, preset="fast", objective="harmony-2022")


@pytest.fixture(scope="module")
def brief() -> Iterator[None]:
    """Train for one pass."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "STEPS_2022", dict.fromkeys(plans.STEPS_2022, 1))
        yield


@pytest.fixture(scope="module")
def events(brief: None) -> list[Event]:
    return list(api.align(subtomograms(COUNT).particles, SETTINGS))


def test_input_is_the_whole_volume_padded_to_the_networks_box_and_of_unit_deviation() -> None:
    data = prepared(COUNT)
    samples, amplitude = published_samples(data)
    volumes = volumes_from(samples, published_band())
    assert volumes.shape == (COUNT, 32, 32, 32) and amplitude.shape == samples.shape
    torch.testing.assert_close(volumes.std((1, 2, 3), correction=0), torch.ones(COUNT))
    torch.testing.assert_close(volumes.mean((1, 2, 3)), torch.zeros(COUNT), atol=1e-6, rtol=0)
    white = data.data.matched / data.data.power.sqrt().clamp_min(1e-12)
    small = volumes_from(torch.where(data.data.power > 1e-6, white, 0), data.data.band)
    torch.testing.assert_close(
        volumes / volumes.amax(), regridded(small, 32) / regridded(small, 32).amax(), atol=1, rtol=1
    )


def test_training_lowers_the_loss() -> None:
    data = prepared(COUNT)
    card = volume_card(data.geometry, SETTINGS, 2, COUNT)
    assert card.box == 32 and card.hypotheses == 1 and card.pixel_size == pytest.approx(10 * 24 / 32)
    steps = list(train(*published_samples(data), card=card, settings=TrainSettings(epochs=3, batch=50)))
    assert steps[-1].loss < 0.9 * steps[0].loss and {"harmony-2022", "harmony-2022.views"} <= set(steps[0].parts)
    with pytest.raises(InputError, match="images: their shape is"):
        next(train(torch.zeros(4, 7, dtype=torch.complex64), torch.ones(4, 7), card=card))


def test_a_run_takes_poses_and_classes_from_the_network_alone(events: list[Event]) -> None:
    done = events[-1]
    assert isinstance(done, Done) and done.model is not None
    stages = dict.fromkeys(e.stage for e in events if isinstance(e, Progress))
    assert list(stages) == ["reading", "training", "proposing", "averaging", "measuring leakage"]
    result, network = done.value, done.model.network
    assert isinstance(network, Harmony2022VolumeNetwork) and result.summary["objective"] == "harmony-2022"
    best = network.propose(*published_samples(prepared(COUNT))).best
    angles = torch.as_tensor(result.table[["rot", "tilt", "psi"]].to_numpy(), dtype=torch.float32)
    assert float(so3.angle_between(so3.from_zyz(angles), so3.inverse(best.quaternion)).max()) < 1e-2
    origin = result.table[["origin_x", "origin_y", "origin_z"]].to_numpy()
    np.testing.assert_allclose(origin, -best.shift.numpy() * 24 / 32, atol=1e-3)
    assert set(result.table["class_number"]) == {1, 2} and result.content.shape == (COUNT, 8)
    assert result.averages.shape == (2, 24, 24, 24) and np.isfinite(result.averages).all()


def test_its_model_places_other_particles(events: list[Event]) -> None:
    model = events[-1].model
    placed = run(api.align(subtomograms(COUNT).particles, replace(SETTINGS, objective="harmony"), model=model)).value
    assert len(placed) == COUNT and set(placed.table["class_number"]) <= {1, 2}
    assert placed.content.shape == (COUNT, 8)


@pytest.mark.parametrize(
    ("change", "name"),
    [({"start": "input"}, "start"), ({"symmetry": "C2"}, "symmetry"), ({"references": ("a.mrc",)}, "references")],
)
def test_what_it_cannot_heed_is_refused(change: dict[str, object], name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: the objective harmony-2022 learns from nothing"):
        next(VolumeRun(subtomograms(COUNT).particles, replace(SETTINGS, **change), None, False).fit())
