"""The Models dock, with the models that the other pictures have trained."""

from __future__ import annotations

from napari_harmony.library import default_library
from pictures.runs import MOVING, PARTICLES, TOMOGRAM, Runs, finished
from pictures.studio import Studio

NAMES = {PARTICLES: "five kinds", MOVING: "moving parts", TOMOGRAM: "sample tomogram"}


def draw(studio: Studio, runs: Runs) -> None:
    """Choose the model that was trained on the open particles; one of the others fits too, one does not."""
    finished(studio, runs, PARTICLES, "simulated")
    library = default_library()
    for run, name in NAMES.items():
        if runs.has(run) and name not in [entry.name for entry in library.entries()]:
            library.add(runs.path(run), name)
    studio.close_dock(studio.dock("Harmony"))  # it says which particles are meant
    dock = studio.dock("Models")
    dock.refresh(current=NAMES[PARTICLES])
    studio.fit()
    studio.take("models")
