"""The Harmony dock: before a run, while the averages sharpen, while it trains, paused with a queue, and at the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from napari_harmony.engine.events import Event, Loss, Preview, Progress
from napari_harmony.widgets._work import Action
from pictures.runs import PARTICLES, SETTINGS, Runs, run
from pictures.studio import LONGEST, Studio, wait, wait_or_stop

PREVIEWS = 4  # until averages show something
BATCHES = 60  # until the curve of the training has a form


class Watch:
    """Counts what a run says."""

    def __init__(self, runner: Any) -> None:
        self.previews = self.batches = 0
        self.fraction = 0.0
        runner.heard.connect(self._on_event)

    def _on_event(self, event: Event) -> None:
        self.previews += isinstance(event, Preview)
        if isinstance(event, Loss):
            self.batches = event.done
        elif isinstance(event, Progress):
            self.fraction = event.fraction


def draw(studio: Studio, runs: Runs) -> None:
    """Open the sample, run, pause, queue, look at the result and keep it for the other docks."""
    studio.sample("simulated")
    harmony = studio.dock("Harmony")
    settings = SETTINGS[PARTICLES]
    harmony.form.set_settings(settings)
    wait(lambda: harmony.form.device_box.count() > 1, 60)
    studio.take("open")
    watch = Watch(harmony.runner)

    def ended() -> bool:
        return not harmony.session.state.busy

    def meanwhile() -> None:
        wait(lambda: watch.previews >= PREVIEWS or ended(), LONGEST)
        studio.take("running")
        wait(lambda: watch.batches >= BATCHES or ended(), LONGEST)
        harmony.run_row.pause_button.click()
        wait_or_stop(lambda: not harmony.runner.pausing or _paused(harmony) or ended(), 60, lambda: "it never paused")
        harmony.form.set_settings(replace(settings, classes=8))
        harmony.buttons[Action.CLUSTER].click()
        studio.take("paused")
        for request in harmony.runs.waiting:
            harmony.runs.remove(request)
        harmony.form.set_settings(settings)
        harmony.run_row.pause_button.click()

    run(studio, harmony, Action.ALIGN_AND_CLUSTER, meanwhile)
    studio.take("result")
    runs.keep(harmony, PARTICLES)


def _paused(harmony: Any) -> bool:
    return harmony.session.state.value == "paused"
