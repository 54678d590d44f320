"""The runs that pictures show: each is made once, in the real window, and kept as an OUT folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_harmony.engine.settings import Settings
from napari_harmony.outputs.restore import is_output
from napari_harmony.widgets._work import Action
from pictures.studio import LONGEST, Studio, wait_or_stop

PARTICLES, MANY, MOVING, TOMOGRAM = "particles", "many", "moving", "tomogram"
#: Settings of the runs: the numbers of contents that the samples have, and for one of them too many classes.
SETTINGS = {
    PARTICLES: Settings(classes=5),
    MANY: Settings(classes=8, preset="fast"),
    MOVING: Settings(classes=1),
    TOMOGRAM: Settings(classes=3),
}


class Runs:
    """Finished runs in a folder.

    Parameters
    ----------
    folder : holds one OUT folder per run
    microtubule : the tomogram of the tutorial on filaments, or None where it is not at hand
    """

    def __init__(self, folder: Path, microtubule: Path | None = None) -> None:
        self.folder = folder
        self.microtubule = microtubule

    def path(self, name: str) -> Path:
        """Where a run is, or will be kept."""
        return self.folder / name

    def has(self, name: str) -> bool:
        """Whether a run is there."""
        return is_output(self.path(name))

    def keep(self, harmony: Any, name: str) -> None:
        """Save the result that the Harmony dock holds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        harmony.save_result(self.path(name))


def run(studio: Studio, harmony: Any, action: Action, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Press a button of the Harmony dock and wait until the run has ended; ``meanwhile`` is called once it goes on."""
    before = harmony.session.result
    harmony.buttons[action].click()
    meanwhile()

    def over() -> bool:
        return not harmony.session.state.busy and not harmony.runs.waiting

    wait_or_stop(over, LONGEST, lambda: "the run did not end in time")
    if harmony.session.result is before:
        raise SystemExit(f"the run failed: {harmony.message_label.text()}")
    wait_or_stop(lambda: harmony.runs.current is None, 10, lambda: "the run is still shown as running")


def finished(studio: Studio, runs: Runs, name: str, sample: str) -> None:
    """Open a run of a sample; where there is none yet it is made first."""
    if not runs.has(name):
        studio.sample(sample)
        harmony = studio.dock("Harmony")
        harmony.form.set_settings(SETTINGS[name])
        run(studio, harmony, Action.ALIGN_AND_CLUSTER)
        runs.keep(harmony, name)
        studio.begin_anew()
    studio.open(runs.path(name))
