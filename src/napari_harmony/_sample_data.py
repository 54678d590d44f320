"""Sample data made in code: nothing is downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_harmony._layers import LayerTuple

_COUNT = 600
_TRUTH = ("content", "psi", "origin_x", "origin_y")
_MOVING, _MOVING_VOLUMES = 2000, 200


def simulated_particles() -> list[LayerTuple]:
    """A stack of simulated particles of five contents; what they truly are is in the metadata of the layer."""
    from napari_harmony._layers import KEY, particles_layer
    from napari_harmony.particles.simulate import sample_particles

    simulated = sample_particles(count=_COUNT, seed=0)
    stack, options, kind = particles_layer(simulated.particles, "simulated particles")
    truth = {name: simulated.truth[name].tolist() for name in _TRUTH}
    options["metadata"][KEY]["truth"] = truth
    return [(stack, options, kind)]


def particles_with_moving_parts() -> list[LayerTuple]:
    """Simulated particles with a hinge, an occupancy and a slide; the truth is in the metadata of the layer."""
    from napari_harmony._layers import KEY, particles_layer
    from napari_harmony.particles.conformations import sample_conformations

    made = sample_conformations(count=_MOVING, seed=0)
    stack, options, kind = particles_layer(made.particles, "simulated particles with moving parts")
    options["metadata"][KEY]["truth"] = made.truth.to_dict("list")
    return [(stack, options, kind)]


def subtomograms_with_moving_parts() -> list[LayerTuple]:
    """Simulated subtomograms with a hinge, an occupancy and a slide; the truth is in the metadata of the layer."""
    from napari_harmony._layers import KEY, particles_layer
    from napari_harmony.particles.conformation_volumes import sample_conformation_volumes

    made = sample_conformation_volumes(count=_MOVING_VOLUMES, seed=0)
    stack, options, kind = particles_layer(made.particles, "simulated subtomograms with moving parts")
    options["metadata"][KEY]["truth"] = made.truth.to_dict("list")
    return [(stack, options, kind)]


def simulated_tomogram() -> list[LayerTuple]:
    """A simulated tomogram, and the true places of its particles with their kinds and orientations."""
    from napari_harmony._layers import ANGSTROM, KEY, contrast_limits
    from napari_harmony.particles.simulate_tomogram import sample_tomogram

    made, names = sample_tomogram(seed=0)
    space = {
        "scale": (made.pixel_size,) * 3,
        "units": (ANGSTROM,) * 3,
        "axis_labels": ("z", "y", "x"),
    }
    about = {
        "role": "volume",
        "pixel_size": made.pixel_size,
        "pixel_size_known": True,
        "tilt_range": [made.wedge.low, made.wedge.high],
    }
    volume = {
        "name": "simulated tomogram",
        "colormap": "gray",
        "contrast_limits": contrast_limits(made.volume[len(made.volume) // 2]),
        "metadata": {KEY: about},
    }
    features = made.truth[["rot", "tilt", "psi"]].assign(kind=[names[number] for number in made.truth["kind"]])
    points = {
        "name": "simulated particles in the tomogram",
        "features": features,
        "face_color": "kind",
        "size": 8,
        "projection_mode": "rescale_linear",
        "metadata": {KEY: {"role": "coordinates"}},
    }
    return [
        (made.volume, {**volume, **space}, "image"),
        (made.truth[["z", "y", "x"]].to_numpy(), {**points, **space}, "points"),
    ]
