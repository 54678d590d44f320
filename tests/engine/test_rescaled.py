"""Runs of a model on particles of another grid speak of the particles given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_harmony.engine.events import Done, Progress
from napari_harmony.engine.rescaled import in_original_pixels, rescaled_for, restored
from napari_harmony.errors import InputError
from napari_harmony.models.card import ModelCard
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.images import ArrayImages
from napari_harmony.results import COLUMNS, Result

CARD = ModelCard(
    box=32,
    pixel_size=10.0,
    original_box=64,
    transforms=("rotation", "translation"),
    content=2,
    hypotheses=16,
    mask_diameter=288.0,
    max_shift=50.0,
    classes=2,
)


def particles(box: int, pixel_size: float) -> Particles:
    images = np.random.default_rng(0).standard_normal((4, box, box)).astype(np.float32)
    return Particles(ArrayImages(images), pd.DataFrame(index=range(4)), pixel_size, path=Path("stack.star"))


def result_of(used: Particles) -> Result:
    """Of particles shifted by 3 pixels of the rescaled grid, with averages that hold a point at the centre."""
    table = pd.DataFrame(dict.fromkeys(COLUMNS, 0.0), index=range(4))
    table = table.assign(
        class_number=1, flags="", origin_x=3.0, origin_y=-1.0, shift_spread=0.5, psi=30.0, content_0=0.1
    )
    averages = np.zeros((2, used.box, used.box), np.float32)
    averages[:, used.box // 2, used.box // 2] = 1
    nothing = np.full((2, 5), np.nan, np.float32)
    return Result(
        table,
        averages,
        used.pixel_size,
        nothing,
        nothing,
        np.arange(5, dtype=np.float32),
        np.full(2, np.nan, np.float32),
        used.pixel_size,
        {"warnings": ["one"]},
        np.stack([averages, averages]),
    )


@pytest.mark.parametrize(
    ("box", "pixel_size", "wanted"),
    [
        (128, 2.5, 64),  # as wide, finer than a run looks: its working grid
        (160, 2.5, 64),
        (80, 5.0, 64),
        (50, 6.7, 48),  # as many as the particles have in that width
        (30, 11.0, 32),  # the least that the model works on
    ],
)
def test_particles_come_to_the_models_width(box: int, pixel_size: float, wanted: int) -> None:
    used = rescaled_for(particles(box, pixel_size), CARD)
    assert used.box == wanted
    assert used.box * used.pixel_size == pytest.approx(320)


def test_what_rescaling_cannot_mend_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="stack.star: .*too narrow"):
        rescaled_for(particles(80, 2.5), CARD)
    with pytest.raises(InputError, match="subtomograms"):
        rescaled_for(particles(64, 5.0), replace(CARD, dimensions=3))


def test_lengths_are_those_of_the_particles_given() -> None:
    given = particles(160, 2.5)
    used = rescaled_for(given, CARD)
    back = restored(result_of(used), used, given)
    assert back.pixel_size == 2.5
    assert back.table["origin_x"].tolist() == pytest.approx([6.0] * 4)
    assert back.table["origin_y"].tolist() == pytest.approx([-2.0] * 4)
    assert back.table["shift_spread"].tolist() == pytest.approx([1.0] * 4)
    assert back.table["psi"].tolist() == [30.0] * 4 and back.table["content_0"].tolist() == [0.1] * 4
    assert back.summary["rescaled"] == {"box": 64, "pixel_size": 5.0} and back.warnings == ("one",)


def test_averages_are_on_the_working_grid_of_the_particles_given() -> None:
    given = particles(160, 2.5)
    used = rescaled_for(given, CARD)
    back = restored(result_of(used), used, given)
    assert back.averages.shape == (2, 64, 64) and back.average_pixel_size == pytest.approx(400 / 64)
    assert np.unravel_index(back.averages[0].argmax(), (64, 64)) == (32, 32)
    assert back.half_averages is not None and back.half_averages.shape == (2, 2, 64, 64)
    without = restored(replace(result_of(used), half_averages=None), used, given)
    assert without.half_averages is None


def test_only_the_result_is_changed_on_the_way() -> None:
    given = particles(160, 2.5)
    used = rescaled_for(given, CARD)
    events = [Progress("searching", 0.5), Done(result_of(used), "model")]
    first, last = in_original_pixels(iter(events), used, given)
    assert first == events[0]
    assert isinstance(last, Done) and last.model == "model" and last.value.pixel_size == 2.5
