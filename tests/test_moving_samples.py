"""The samples with moving parts as napari gets them: a stack in angstrom with the truth of every particle."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_harmony import _sample_data
from napari_harmony._layers import KEY, particles_of

FACTORS = ("kind", "hinge", "occupancy", "slide")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sample_data, "_MOVING", 40)
    monkeypatch.setattr(_sample_data, "_MOVING_VOLUMES", 6)


def test_particles_come_with_their_conformations() -> None:
    from napari.layers import Layer

    (made,) = (Layer.create(*layer) for layer in _sample_data.particles_with_moving_parts())
    assert made.data.shape == (40, 32, 32) and tuple(made.scale) == (1.0, 5.0, 5.0)
    truth = made.metadata[KEY]["truth"]
    assert {*FACTORS, "psi", "origin_x", "origin_y"} <= set(truth)
    assert all(len(values) == 40 for values in truth.values())
    assert np.std(truth["hinge"]) > 0.3
    json.dumps(made.metadata[KEY])  # plain values, as every other layer's


def test_subtomograms_come_with_their_conformations_and_their_wedge() -> None:
    from napari.layers import Layer

    (made,) = (Layer.create(*layer) for layer in _sample_data.subtomograms_with_moving_parts())
    assert made.data.shape == (6, 32, 32, 32) and tuple(made.scale) == (1.0, 10.0, 10.0, 10.0)
    assert {*FACTORS, "rot", "tilt", "psi", "origin_z"} <= set(made.metadata[KEY]["truth"])
    particles = particles_of(made)
    assert particles is not None and particles.wedge is not None
