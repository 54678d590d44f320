"""Sample data made in code: nothing is downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_harmony._layers import LayerTuple

_COUNT = 600
_TRUTH = ("content", "psi", "origin_x", "origin_y")


def simulated_particles() -> list[LayerTuple]:
    """A stack of simulated particles of five contents; what they truly are is in the metadata of the layer."""
    from napari_harmony._layers import KEY, particles_layer
    from napari_harmony.particles.simulate import sample_particles

    simulated = sample_particles(count=_COUNT, seed=0)
    stack, options, kind = particles_layer(simulated.particles, "simulated particles")
    truth = {name: simulated.truth[name].tolist() for name in _TRUTH}
    options["metadata"][KEY]["truth"] = truth
    return [(stack, options, kind)]
