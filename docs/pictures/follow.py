"""The Follow a job dock, while a job on the sample runs without a window."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from napari_harmony.cli.demo import SAMPLE, write_sample
from napari_harmony.engine.events import Event, Loss, Preview
from pictures.runs import Runs
from pictures.studio import LONGEST, Studio, wait, wait_or_stop

COMMAND = "import sys; from napari_harmony.cli.main import main; sys.exit(main())"
OUT = Path("job")
BATCHES = 120  # until the curve has a form


class Seen:
    """Whether averages and the curve of the training have come."""

    def __init__(self) -> None:
        self.previews, self.batches = 0, 0

    def hear(self, event: Event) -> None:
        """Note what the job says."""
        self.previews += isinstance(event, Preview)
        if isinstance(event, Loss):
            self.batches = event.done


def draw(studio: Studio, _runs: Runs) -> None:
    """Start a job, follow it, and stop it once it was photographed."""
    contents = write_sample(OUT, seed=0)
    options = ["--classes", str(contents), "--preset", "thorough"]
    job = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "align", str(OUT / SAMPLE), "-o", str(OUT), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        dock = studio.dock("Follow a job")
        seen = Seen()
        dock.runner.heard.connect(seen.hear)
        dock.follow(OUT)
        wait_or_stop(
            lambda: (seen.previews > 0 and seen.batches >= BATCHES) or job.poll() is not None,
            LONGEST,
            lambda: f"the job showed nothing: {dock.label.text()}",
        )
        studio.take("follow")
        dock.runner.cancel()
        wait(lambda: False, 1.5)
    finally:
        job.terminate()
        job.wait()
