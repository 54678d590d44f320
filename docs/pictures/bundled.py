"""What the Harmony dock finds in the sample particles with the model that comes with the package."""

from __future__ import annotations

from dataclasses import replace

from napari_harmony.models.bundled import bundled_model
from napari_harmony.widgets._work import Action
from pictures.runs import PARTICLES, SETTINGS, Runs, run
from pictures.studio import Studio, wait


def draw(studio: Studio, _runs: Runs) -> None:
    """Choose the model for any images, with the preset that does not train, and run."""
    studio.sample("simulated")
    harmony = studio.dock("Harmony")
    harmony.form.set_settings(replace(SETTINGS[PARTICLES], preset="fast"))
    harmony.form.models.set_file(bundled_model(2))
    wait(lambda: harmony.form.device_box.count() > 1, 60)
    run(studio, harmony, Action.ALIGN_AND_CLUSTER)
    studio.fit()
    studio.take("bundled-result")
