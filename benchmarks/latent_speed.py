"""How fast the latent plot is, with the transforms table beside it: open, select, draw, with 100,000 and 1,000,000.

Run it with a display or under xvfb: ``python benchmarks/latent_speed.py [ROWS ...]``. Times are wall-clock seconds of
what the user waits for, the repainting of the views included; the largest of several tries. Results go to
``benchmarks/results/latent_speed.json``. The limits were fixed before it was first run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication

from napari_harmony._layers import particles_layer
from napari_harmony.particles.dataset import Particles
from napari_harmony.results import Result
from napari_harmony.session import Session, session_of
from napari_harmony.widgets._latent_canvas import Mode
from napari_harmony.widgets._latent_choice import Plot
from napari_harmony.widgets._points_link import link_points
from napari_harmony.widgets.latent_plot import LatentPlot
from napari_harmony.widgets.transforms_table import TransformsTable
from table_speed import BlankImages, clock, random_result

RESULTS = Path(__file__).parent / "results" / "latent_speed.json"
DIMENSIONS = 8
MOST_IN_TOMOGRAMS = 100_000
CHOSEN = 5_000
OPEN, SELECT, LASSO = "open", "select 5,000, plot and table", "lasso around 5,000, plot and table"
POINTS = "select 5,000, points in a tomogram too"
#: Seconds allowed, by number of particles.
LIMITS = {100_000: {OPEN: 2.0, SELECT: 0.5, LASSO: 0.5, POINTS: 0.5}, 1_000_000: {OPEN: 2.0}}


def with_codes(result: Result, seed: int = 0) -> Result:
    """The result with content codes: a Gaussian cloud for each class."""
    random = np.random.default_rng(seed)
    centres = random.normal(0, 3, (result.classes + 1, DIMENSIONS))
    codes = centres[result.table["class_number"]] + random.normal(size=(len(result), DIMENSIONS))
    columns = {f"content_{i}": codes[:, i].astype(np.float32) for i in range(DIMENSIONS)}
    return replace(result, table=pd.concat([result.table, pd.DataFrame(columns)], axis=1))


def opened(count: int) -> tuple[LatentPlot, TransformsTable, float]:
    """The docks over a result of ``count`` particles, and how long the plot took to open."""
    viewer = ViewerModel()
    particles = Particles(BlankImages(count), pd.DataFrame(index=pd.RangeIndex(count)), 2.0)
    data, options, _ = particles_layer(particles, "particles")
    session = session_of(viewer)
    session.set_data(particles, viewer.add_image(data, **options))
    session.set_result(with_codes(random_result(count)))
    docks: list[LatentPlot] = []

    def open_plot() -> None:
        docks.append(LatentPlot(viewer))
        docks[0].resize(420, 700)
        docks[0].show()

    seconds = clock(open_plot)
    table = TransformsTable(viewer)
    table.resize(1100, 500)
    table.show()
    QApplication.processEvents()
    return docks[0], table, seconds


def around(plot: LatentPlot, wanted: int) -> np.ndarray:
    """Corners (60, 2) of a ragged lasso that encloses about so many particles."""
    x, y = plot.canvas._x, plot.canvas._y
    middle = np.median(x), np.median(y)
    spread = x.std(), y.std()
    away = np.hypot((x - middle[0]) / spread[0], (y - middle[1]) / spread[1])
    radius = float(np.partition(away, wanted)[wanted])
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    ragged = radius * (1 + 0.1 * np.sin(9 * angle))
    return np.c_[middle[0] + ragged * spread[0] * np.cos(angle), middle[1] + ragged * spread[1] * np.sin(angle)]


def measure(count: int) -> dict[str, float]:
    """Seconds for each thing a user does."""
    plot, table, seconds = opened(count)
    session, times = plot.session, {OPEN: seconds}
    random = np.random.default_rng(1)
    picks = [random.choice(count, CHOSEN, replace=False) for _ in range(5)]
    times[SELECT] = max(clock(lambda p=p: session.select(p)) for p in picks)
    times[POINTS] = _with_points(plot, picks) if count <= MOST_IN_TOMOGRAMS else float("nan")
    lasso = around(plot, CHOSEN)
    times[LASSO] = _after_nothing(session, lambda: plot.canvas.choose_polygon(lasso, Mode.REPLACE))
    found = len(session.selection)
    assert 0.5 * CHOSEN < found < 2 * CHOSEN, f"the lasso holds {found} particles"
    half = around(plot, count // 2)
    times["lasso around half of all"] = _after_nothing(session, lambda: plot.canvas.choose_polygon(half, Mode.REPLACE))
    session.select([])
    table.close()
    place = plot.canvas.frame().center()
    times["click on a particle"] = max(clock(lambda: plot.canvas.pick(place, Mode.REPLACE)) for _ in range(3))
    session.select([])
    times["zoom"] = max(clock(lambda f=f: plot.canvas.zoom(f)) for f in (1.25, 0.8, 2.0, 0.5))
    times["colour by score"] = clock(lambda: plot.choice.set_colour("score"))
    times["two other columns"] = clock(lambda: plot.choice.set_plot(Plot.COLUMNS))
    plot.close()
    return times


def _with_points(plot: LatentPlot, picks: list[np.ndarray]) -> float:
    """Seconds to select where each particle is also a point of a layer; the time to draw that layer is not in it."""
    viewer, count = plot._viewer, len(plot.session.result)
    places = np.random.default_rng(0).uniform(0, 1000, (count, 3))
    layer = viewer.add_points(places, features={"particle": np.arange(count)}, size=4)
    link_points(viewer, layer)
    seconds = max(clock(lambda p=p: plot.session.select(p)) for p in picks)
    viewer.layers.remove(layer)
    return seconds


def _after_nothing(session: Session, action: Callable[[], object]) -> float:
    seconds = []
    for _ in range(3):
        session.select([])
        QApplication.processEvents()
        seconds.append(clock(action))
    return max(seconds)


def missed(count: int, times: dict[str, float]) -> list[str]:
    """Limits that do not hold."""
    return [
        f"{key}: {times[key]:.2f} s, not {most}" for key, most in LIMITS.get(count, {}).items() if times[key] > most
    ]


def main() -> None:
    """Print one table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", type=int, default=[100_000, 1_000_000])
    counts = parser.parse_args().rows
    app = QApplication.instance() or QApplication([])
    load = os.getloadavg()[0]
    measure(20_000)  # imports and fonts
    columns = {count: measure(count) for count in counts}
    print("seconds".ljust(40) + "".join(f"{count:>14,}" for count in counts))
    for key in columns[counts[0]]:
        print(key.ljust(40) + "".join(f"{columns[count][key]:14.3f}" for count in counts))
    failures = {str(count): missed(count, columns[count]) for count in counts}
    for count, sentences in failures.items():
        print(f"{count}: " + ("; ".join(sentences) if sentences else "all limits hold"))
    rounded = {
        str(count): {key: round(value, 4) for key, value in columns[count].items() if value == value}
        for count in counts
    }
    record = {
        "machine": {"system": platform.system(), "python": platform.python_version(), "processor": platform.machine()},
        "load_before": round(load, 2),
        "seconds": rounded,
        "limits": {str(count): limits for count, limits in LIMITS.items()},
        "missed": failures,
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    app.quit()


if __name__ == "__main__":
    main()
