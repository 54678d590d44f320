"""The sample tomogram as napari gets it: an image in angstrom and points with what is known about them."""

from __future__ import annotations

import numpy as np
import pytest

from napari_harmony import _sample_data
from napari_harmony.particles import simulate_tomogram
from napari_harmony.particles.simulate import sample_volumes


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> simulate_tomogram.SimulatedTomogram:
    """A sample that takes a moment only."""
    densities = sample_volumes()[1:3]
    made = simulate_tomogram.simulate_tomogram(densities, 5.0, (40, 64, 64), 3, tilts=range(-60, 61, 15))
    monkeypatch.setattr(simulate_tomogram, "sample_tomogram", lambda seed: (made, ["ring", "lobes"]))
    return made


def test_the_layers_say_where_everything_is(small: simulate_tomogram.SimulatedTomogram) -> None:
    from napari.layers import Layer

    volume, points = (Layer.create(*layer) for layer in _sample_data.simulated_tomogram())
    assert volume.data is small.volume
    assert tuple(volume.scale) == tuple(points.scale) == (10.0, 10.0, 10.0)
    assert [str(unit) for unit in volume.units] == ["angstrom"] * 3 == [str(unit) for unit in points.units]
    assert volume.metadata["napari-harmony"]["tilt_range"] == [-60.0, 60.0]
    np.testing.assert_array_equal(points.data, small.truth[["z", "y", "x"]])
    np.testing.assert_array_equal(points.features[["rot", "tilt", "psi"]], small.truth[["rot", "tilt", "psi"]])
    assert set(points.features["kind"]) <= {"ring", "lobes"}
    colours = {kind: tuple(c) for kind, c in zip(points.features["kind"], points.face_color, strict=True)}
    assert len(set(colours.values())) == len(colours) == 2
