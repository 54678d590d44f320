"""``napari-harmony demo``: the main job on simulated particles, whose truth is known."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_harmony.cli.jobs import Job, run_align
from napari_harmony.cli.progress import make_reporter
from napari_harmony.cli.run_options import Asked
from napari_harmony.cli.scoring import evaluate_output
from napari_harmony.cli.streams import complain, say
from napari_harmony.engine.settings import Settings
from napari_harmony.outputs import check_target, names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE, TRUTH, PICTURE = "sample/particles.star", "sample/truth.csv", "class_averages.png"
#: What of all scores the demo prints: the score's name, words for it, factor, and unit.
HEADLINES = (
    ("accuracy", "particles in the right class", 100.0, "%"),
    ("rotation_median", "rotation error, median", 1.0, "degrees"),
    ("rotation_under_10", "rotation error under 10 degrees", 100.0, "%"),
    ("shift_median", "shift error, median", 1.0, "pixels"),
)
#: Until the docks have found their places, and the canvas its size.
_LAYOUT_MS = 500


def run_demo(out: Path, *, gui: bool, device: str, seed: int, json_progress: bool) -> None:
    """Simulate particles into ``out/sample``, align and classify them, and show the result and how right it is.

    Parameters
    ----------
    out : OUT folder
    gui : open napari where there is a display; else the report and pictures are what there is to see
    device, seed : as for ``align``
    json_progress : events as JSON on standard output
    """
    settings = Settings(seed=seed, device=device)
    check_target(out)
    classes = write_sample(out, seed)
    result = run_align(Job(out / SAMPLE, out, Asked(replace(settings, classes=classes), json_progress=json_progress)))
    _write_picture(out / PICTURE, result.averages)
    scores = evaluate_output(out, out / TRUTH)
    if json_progress:
        with make_reporter(True) as reporter:
            reporter.finish("scores against the known truth", scores=scores)
    else:
        say("Against the known truth of the simulated particles:")
        for name, words, factor, unit in HEADLINES:
            if name in scores:
                say(f"  {words:<32} {factor * scores[name]:6.2f} {unit}")
        say(f"Report: {out / names.REPORT}\nClass averages: {out / PICTURE}")
    if gui and has_display():
        show(out)


def write_sample(out: Path, seed: int) -> int:
    """Write the simulated particles, as a user's own would be, and their truth; returns the number of contents."""
    from napari_harmony.particles.files import replacing
    from napari_harmony.particles.mrc import mrc_images, write_stack
    from napari_harmony.particles.relion import write_relion
    from napari_harmony.particles.simulate import sample_particles

    simulated = sample_particles(seed=seed)
    path = out / SAMPLE
    with replacing(out / TRUTH) as file:
        file.write(simulated.truth.to_csv(index=False, lineterminator="\n").encode())
    stack = path.with_suffix(".mrcs")
    write_stack(stack, simulated.particles.read(slice(None)), simulated.particles.pixel_size)
    write_relion(path, replace(simulated.particles, images=mrc_images(stack)))
    return len(simulated.clean)


def has_display() -> bool:
    """Whether a window can be shown here."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def show(folder: Path) -> None:
    """Open a finished run in napari, and wait until the window is closed.

    The window gets a process of its own: where its libraries are incomplete, Qt ends the process it is in, and the run
    is complete all the same.
    """
    code = f"from {__name__} import open_window; import sys; open_window(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        reason = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no reason given")
        complain(f"napari could not open a window here ({reason.strip()}); the report shows the same.")


def open_window(folder: str) -> None:
    """Show a finished run with both docks in napari until the window is closed."""
    import napari
    from qtpy.QtCore import QTimer

    viewer = napari.Viewer()
    viewer.open(folder, plugin="napari-harmony")
    _, dock = viewer.window.add_plugin_dock_widget("napari-harmony", "Harmony")
    dock.open_table()
    QTimer.singleShot(_LAYOUT_MS, viewer.reset_view)
    napari.run()


def _write_picture(path: Path, averages: NDArray[np.float32]) -> None:
    from napari_harmony.particles.files import replacing
    from napari_harmony.report.pictures import montage, png

    with replacing(path) as file:
        file.write(png(montage(averages)))
