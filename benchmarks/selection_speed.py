"""How fast a selection shows everywhere: table, latent plot, gallery and layers open together, in a real napari window.

Run it with a display or under xvfb: ``python benchmarks/selection_speed.py [ROWS ...]``. Times are seconds of what the
user waits for, the repainting of all views included: by the clock on the wall, and of the processor, which other
programs cannot lengthen; the largest of several tries. Opening is each dock's own, in a window that is there already.
Results go to ``benchmarks/results/selection_speed.json``. The limits were fixed before it was first run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pandas as pd
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from latent_speed import around, with_codes
from napari_harmony._layers import aligned_layer, particles_layer, space_of
from napari_harmony.particles.dataset import Particles
from napari_harmony.session import session_of
from napari_harmony.widgets._latent_canvas import Mode
from napari_harmony.widgets._points_link import link_points
from table_speed import BlankImages, random_result

RESULTS = Path(__file__).parent / "results" / "selection_speed.json"
PLUGIN = "napari-harmony"
DOCKS = ("Transforms table", "Latent plot", "Class gallery")
CHOSEN = 5_000
MOST_POINTS = 100_000
SELECT, POINTS, LASSO, ROWS = (
    "select 5,000, all docks",
    "select 5,000, points in a tomogram too",
    "lasso around 5,000",
    "select 5,000 rows in the table",
)
TILE, SORT, FILTER = "choose a class in the gallery", "sort, slowest column", "filter, slowest kind"
OPEN = tuple(f"open {name.lower()}" for name in DOCKS)
#: Seconds allowed, by number of particles.
LIMITS = {
    100_000: {SELECT: 0.5, POINTS: 0.5, LASSO: 0.5, ROWS: 0.5, TILE: 0.5, SORT: 0.3, FILTER: 0.2},
    1_000_000: dict.fromkeys(OPEN, 2.0),
}

Times = tuple[float, float]


def clock(action: Callable[[], object]) -> Times:
    """Seconds, on the wall and of the processor, until the action is done and all views are painted."""
    QApplication.processEvents()
    wall, processor = time.perf_counter(), time.process_time()
    action()
    QApplication.processEvents()
    return time.perf_counter() - wall, time.process_time() - processor


def slowest(times: Iterable[Times]) -> Times:
    """The largest on the wall and the largest of the processor."""
    walls, processors = zip(*times, strict=True)
    return max(walls), max(processors)


def measure(count: int) -> dict[str, Times]:
    """Seconds for each thing a user does."""
    viewer = napari.Viewer()
    viewer.window.resize(1500, 1000)
    particles = Particles(BlankImages(count), pd.DataFrame(index=pd.RangeIndex(count)), 2.0)
    data, options, _ = particles_layer(particles, "particles")
    layer, session = viewer.add_image(data, **options), session_of(viewer)
    session.set_data(particles, layer)
    result = with_codes(random_result(count))
    session.set_result(result)
    stack, options, _ = aligned_layer(particles, result, space_of(layer), layer.contrast_limits)
    viewer.add_image(stack, **options)
    docks: dict[str, Any] = {}
    times: dict[str, Times] = {}
    for name, key in zip(DOCKS, OPEN, strict=True):
        times[key] = clock(lambda name=name: docks.update({name: opened(viewer, name)}))
    times |= chosen_everywhere(viewer, docks, count)
    times |= sorted_and_filtered(docks[DOCKS[0]])
    viewer.close()
    QApplication.processEvents()
    return times


def opened(viewer: Any, name: str) -> Any:
    """A dock beside the others, none of them under another."""
    frame, dock = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    QApplication.processEvents()  # docks take their places when the window is idle
    frame.show()
    return dock


def chosen_everywhere(viewer: Any, docks: dict[str, Any], count: int) -> dict[str, Times]:
    """Seconds until a selection, made in each place in turn, is seen in all."""
    table, plot, gallery = (docks[name] for name in DOCKS)
    session, random = session_of(viewer), np.random.default_rng(1)
    picks = [random.choice(count, CHOSEN, replace=False) for _ in range(5)]
    times = {SELECT: slowest(clock(lambda p=p: session.select(p)) for p in picks)}
    lasso = around(plot, CHOSEN)
    times[LASSO] = slowest(
        from_nothing(session, lambda: plot.canvas.choose_polygon(lasso, Mode.REPLACE)) for _ in range(3)
    )
    rows = table.model.selection_of(np.arange(CHOSEN))
    flag = table.view.selectionModel().SelectionFlag.ClearAndSelect
    times[ROWS] = slowest(
        from_nothing(session, lambda: table.view.selectionModel().select(rows, flag)) for _ in range(3)
    )
    times[TILE] = slowest(
        from_nothing(session, lambda row=row: gallery.view.setCurrentIndex(gallery.model.index(row)))
        for row in range(3)
    )
    if count <= MOST_POINTS:
        places = random.uniform(0, 1000, (count, 3))
        points = viewer.add_points(places, features={"particle": np.arange(count)}, size=4)
        link_points(viewer, points)
        QApplication.processEvents()
        times[POINTS] = slowest(clock(lambda p=p: session.select(p)) for p in picks)
        viewer.layers.remove(points)
    return times


def from_nothing(session: Any, action: Callable[[], object]) -> Times:
    """Seconds of an action while nothing is selected."""
    session.select([])
    return clock(action)


def sorted_and_filtered(table: Any) -> dict[str, Times]:
    """Seconds to sort and to filter, with 5,000 particles selected."""
    table.session.select(np.arange(CHOSEN))
    orders = (Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder)
    columns = range(table.model.columnCount())
    sort = slowest(clock(lambda c=c, o=o: table.view.sortByColumn(c, o)) for c in columns for o in orders)
    choices: tuple[Callable[[], object], ...] = (
        lambda: table.class_box.setCurrentIndex(7),
        lambda: table.flag_box.setCurrentIndex(2),
        lambda: table.score_low.setValue(0.3),
    )
    return {SORT: sort, FILTER: slowest(filtered(table, choose) for choose in choices)}


def filtered(table: Any, choose: Callable[[], object]) -> Times:
    """Seconds for the work after the short delay that gathers edits of a filter."""
    choose()
    table._filter_timer.stop()
    return clock(table.apply_filter)


def missed(count: int, times: dict[str, Times]) -> list[str]:
    """Limits that do not hold, of the processor's time: other programs may have slowed the clock on the wall."""
    return [
        f"{key}: {times[key][1]:.2f} s, not {most}"
        for key, most in LIMITS.get(count, {}).items()
        if times[key][1] > most
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
    print("seconds: wall, processor".ljust(42) + "".join(f"{count:>18,}" for count in counts))
    for key in columns[counts[0]]:
        cells = [columns[count].get(key) for count in counts]
        print(key.ljust(42) + "".join(f"{one[0]:10.3f}{one[1]:8.3f}" if one else " " * 18 for one in cells))
    failures = {str(count): missed(count, columns[count]) for count in counts}
    for count, sentences in failures.items():
        print(f"{count}: " + ("; ".join(sentences) if sentences else "all limits hold"))
    record = {
        "machine": {"system": platform.system(), "python": platform.python_version(), "processor": platform.machine()},
        "load_before": round(load, 2),
        "seconds": {
            str(count): {
                key: {"wall": round(wall, 4), "processor": round(processor, 4)}
                for key, (wall, processor) in columns[count].items()
            }
            for count in counts
        },
        "limits": {str(count): limits for count, limits in LIMITS.items()},
        "missed": failures,
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    app.quit()


if __name__ == "__main__":
    main()
