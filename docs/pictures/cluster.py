"""The dialog that writes a script for a cluster."""

from __future__ import annotations

from pathlib import Path

from napari_harmony.particles.simulate import sample_particles
from napari_harmony.widgets._cluster_dialog import ClusterDialog
from napari_harmony.widgets._commands import Job
from pictures.runs import PARTICLES, SETTINGS, Runs
from pictures.studio import SETTLING, Studio, wait


def draw(studio: Studio, _runs: Runs) -> None:
    """As it opens for a stack on disk."""
    window = studio.viewer.window._qt_window
    particles = sample_particles().particles
    job = Job(particles, SETTINGS[PARTICLES], Path("/data/particles.star"), None, Path("/data/particles-harmony"))
    dialog = ClusterDialog(job, window)
    dialog.show()
    wait(lambda: False, SETTLING)
    studio.take_part("cluster", dialog)
    dialog.close()
