"""The Content navigator on the sample with moving parts: sliders, and one particle's content in another's pose."""

from __future__ import annotations

from napari_harmony.session import session_of
from pictures.runs import MOVING, Runs, finished
from pictures.studio import LONGEST, Studio, wait_or_stop

A, B = 3, 11  # particles that lie differently
AWAY = 1.5  # standard deviations that the first slider is moved


def draw(studio: Studio, runs: Runs) -> None:
    """Find directions, move along the first, put a particle's content into another's pose."""
    finished(studio, runs, MOVING, "moving")
    dock = studio.dock("Content navigator")
    dock.panel.find_button.click()
    wait_or_stop(
        lambda: session_of(studio.viewer).navigation is not None,
        LONGEST,
        lambda: f"no directions: {dock.panel.message_label.text()}",
    )
    dock.panel.rows.rows[0].slider.setValue(round(100 * AWAY))
    studio.take("navigator")
    dock.start_from(A)
    dock.panel.swap.take("B", B)
    dock.panel.swap.show_button.click()
    studio.take("navigator-pose")
