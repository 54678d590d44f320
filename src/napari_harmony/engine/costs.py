"""How long the stages of a run are expected to take.

The operations are counted (``counts``) and multiplied by what each took on one core of a machine of 2024, then by how
much slower this machine was in earlier runs, where there were any. Seconds per operation were measured with
``benchmarks/time_left.py``, by non-negative least squares: of images over the stages of eleven runs, of subtomograms
over the single looks of five; those of the search of images with ``benchmarks/profile_engine.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from napari_harmony.engine import counts, counts_in_portions
from napari_harmony.engine.counts import Counts
from napari_harmony.engine.geometry import working_geometry
from napari_harmony.engine.portions import portions_of
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.volumes import counts as volume_counts
from napari_harmony.particles.dataset import Particles

#: What is done with particles: a network is fitted to them, from nothing or from a pretrained one; they are placed on a
#: model; or grouped anew.
Task: TypeAlias = Literal["fit", "adapt", "apply", "cluster"]

#: Seconds per operation.
SECONDS = {
    "analysed": 2.2e-11,
    "averaged": 6e-11,
    "basis": 3e-4,
    "batch": 7.8e-2,
    "best": 1.03e-8,
    "grouped": 7e-6,
    "inserted": 2.7e-7,
    "library": 1.3,
    "look": 2e-2,
    "matched": 6.1e-11,
    "measured": 2.3e-3,
    "moved": 3e-9,
    "multiplied": 4.7e-12,
    "pixel": 9.2e-8,
    "proposed": 1.0e-4,
    "refined": 4.0e-11,
    "sampled": 8.0e-8,
    "scored": 1.6e-9,
    "shifted": 5e-9,
    "transformed": 2e-8,
    "volume batch": 0.77,
    "volume measured": 4e-3,
    "volume proposed": 1.4e-3,
    "volume refined": 7e-7,
    "voxel": 4.5e-8,
}

SEARCH, NETWORK = "search", "network"
#: Stages whose speeds go together. How fast files are read says little about the others, nor does how fast libraries
#: are loaded and steerable bases built, which is done once per process.
ALIKE = {
    **dict.fromkeys(("training", "proposing"), NETWORK),
    **dict.fromkeys(
        (
            "checking references",
            "searching half 1 of 2",
            "searching half 2 of 2",
            "searching",
            "settling classes",
            "checking half 1 of 2",
            "checking half 2 of 2",
            "refining classes",
            "comparing halves",
            "placing particles",
            "refining poses",
            "averaging",
        ),
        SEARCH,
    ),
}


def seconds_of(operations: Counts) -> float:
    """Seconds on the machine where they were measured."""
    return sum(SECONDS[name] * number for name, number in operations.items())


def expected(
    particles: Particles,
    settings: Settings,
    task: Task = "fit",
    classes: int | None = None,
    slowness: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Seconds per stage.

    Parameters
    ----------
    classes : of the model, where particles are placed on one
    slowness : by the words of ``ALIKE``, how many times slower than the machine of ``SECONDS`` this one is

    Raises
    ------
    InputError : box, mask or shift do not fit each other
    """
    stages, slow = operations_of(particles, settings, task, classes), slowness or {}
    return {stage: seconds_of(done) * slow.get(ALIKE.get(stage, ""), 1.0) for stage, done in stages.items()}


def operations_of(
    particles: Particles, settings: Settings, task: Task = "fit", classes: int | None = None
) -> dict[str, Counts]:
    """Operations per stage; parameters and errors as for :func:`expected`."""
    geometry, published = working_geometry(particles, settings), settings.objective == "harmony-2022"
    if particles.dimensions == 3:
        volumes = volume_counts.Problem(len(particles), geometry, settings)
        if task == "apply":
            return volume_counts.of_a_model(volumes, classes)
        if task == "cluster":
            return volume_counts.of_a_grouping(volumes)
        if task == "adapt":
            return volume_counts.of_an_adaptation(volumes)
        return volume_counts.of_the_published(volumes) if published else volume_counts.of_a_fit(volumes)
    images = counts.Problem(len(particles), geometry, settings)
    if (portions := portions_of(particles, settings)) is not None:
        if task == "apply":
            return counts_in_portions.of_a_large_model(images, classes)
        if task == "cluster":
            return counts_in_portions.of_a_large_grouping(images)
        return counts_in_portions.of_a_large_fit(images, portions, adapting=task == "adapt")
    if task == "apply":
        return counts.of_a_model(images, classes)
    if task == "cluster":
        return counts.of_a_grouping(images)
    if task == "adapt":
        return counts.of_an_adaptation(images)
    return counts.of_the_published(images) if published else counts.of_a_fit(images)
