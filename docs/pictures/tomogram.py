"""A tomogram: extraction, the run, its classes, and the averages in their places."""

from __future__ import annotations

from napari_harmony.widgets._work import Action
from pictures.harmony import Watch
from pictures.runs import SETTINGS, TOMOGRAM, Runs, run
from pictures.studio import LONGEST, Studio, wait, wait_or_stop

BEGUN = 0.3  # of the run: by then averages show something
DEPTH = 200.0  # angstrom, along z, in which points are shown before the run


def draw(studio: Studio, runs: Runs) -> None:
    """Extract from the sample tomogram, run, put the averages back. The run is kept for its model."""
    studio.sample("tomogram")
    extract = studio.dock("Extract Subtomograms")
    extract.folder_edit.setText("subtomograms")
    show_through(studio, DEPTH)
    studio.take("tomogram")
    show_through(studio, 0)
    extract.folder_edit.setText(str(runs.path("subtomograms")))
    extract.run_button.click()
    wait_or_stop(
        lambda: extract.session.data is not None, 120, lambda: f"extraction failed: {extract.message_label.text()}"
    )
    studio.close_dock(extract)
    harmony = studio.dock("Harmony")
    harmony.form.set_settings(SETTINGS[TOMOGRAM])
    watch = Watch(harmony.runner)

    def meanwhile() -> None:
        wait(lambda: watch.fraction >= BEGUN or not harmony.session.state.busy, LONGEST)
        studio.take("tomogram-running")

    run(studio, harmony, Action.ALIGN_AND_CLUSTER, meanwhile)
    studio.take("tomogram-result")
    runs.keep(harmony, TOMOGRAM)
    harmony.results.start_map_back()
    wait_or_stop(lambda: not harmony.map_back.busy, 120, lambda: "the averages were not put back in time")
    studio.take("tomogram-map-back")


def show_through(studio: Studio, depth: float) -> None:
    """Show the points of a slab of the tomogram, and not only of one slice."""
    _, *others = studio.viewer.dims.thickness
    studio.viewer.dims.thickness = (depth, *others)
