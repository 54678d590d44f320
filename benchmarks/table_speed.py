"""How fast the transforms table is: open, sort, filter, select, jump, with 100,000 and 1,000,000 particles.

Run it with a display or under xvfb: ``python benchmarks/table_speed.py [ROWS ...]``. Times are wall-clock seconds of
what the user waits for, the repainting of the view included; for sorting, of the slowest column.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_harmony._layers import particles_layer
from napari_harmony.particles.dataset import Indices, Particles
from napari_harmony.particles.images import as_indices
from napari_harmony.results import Result
from napari_harmony.session import session_of
from napari_harmony.widgets._columns import COLUMNS
from napari_harmony.widgets.transforms_table import TransformsTable

CLASSES = 50
FLAGS = ("", "", "", "", "", "", "junk", "shift-bound", "junk,shift-bound", "duplicate")


class BlankImages:
    """So many images of which none takes memory."""

    def __init__(self, count: int, box: int = 64) -> None:
        self.shape: tuple[int, ...] = (count, box, box)

    def read(self, indices: Indices) -> np.ndarray:
        return np.zeros((len(as_indices(indices, self.shape[0])), *self.shape[1:]), np.float32)


def random_result(count: int, seed: int = 0) -> Result:
    """A result of ``count`` particles with values as they could be."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "class_number": random.integers(0, CLASSES + 1, count),
            "class_probability": random.uniform(size=count),
            "psi": random.uniform(-180, 180, count),
            "origin_x": random.normal(0, 2, count),
            "origin_y": random.normal(0, 2, count),
            "psi_spread": random.exponential(2, count),
            "shift_spread": random.exponential(0.5, count),
            "flip_odds": random.uniform(0, 0.5, count),
            "scale": np.ones(count),
            "contrast": random.lognormal(0, 0.2, count),
            "offset": np.zeros(count),
            "score": random.normal(0.3, 0.1, count),
            "flags": np.array(FLAGS, dtype=object)[random.integers(0, len(FLAGS), count)],
        }
    )
    blank = np.zeros((CLASSES, 32), np.float32)
    averages = np.zeros((CLASSES, 64, 64), np.float32)
    return Result(table, averages, 2.0, blank, blank, blank[0], blank[:, 0], pixel_size=2.0)


def clock(action: Callable[[], object]) -> float:
    """Seconds until the action is done and its view painted."""
    start = time.perf_counter()
    action()
    QApplication.processEvents()
    return time.perf_counter() - start


def measure(count: int) -> dict[str, float]:
    """Seconds for each thing a user does."""
    viewer = ViewerModel()
    particles = Particles(BlankImages(count), pd.DataFrame(index=pd.RangeIndex(count)), 2.0)
    data, options, _ = particles_layer(particles, "particles")
    layer = viewer.add_image(data, **options)
    session = session_of(viewer)
    session.set_data(particles, layer)
    result = random_result(count)
    times: dict[str, float] = {}
    dock: list[TransformsTable] = []

    def open_dock() -> None:
        session.set_result(result)
        dock.append(TransformsTable(viewer))
        dock[0].resize(1100, 500)
        dock[0].show()

    times["open"] = clock(open_dock)
    table = dock[0]
    orders = (Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder)
    times["sort"] = max(
        clock(lambda c=c, o=o: table.view.sortByColumn(c, o)) for c in range(len(COLUMNS)) for o in orders
    )
    times["filter by class"] = _filtered(table, lambda: table.class_box.setCurrentIndex(7))
    times["filter by flag"] = _filtered(table, lambda: table.flag_box.setCurrentIndex(2))
    times["filter by score"] = _filtered(table, lambda: table.score_low.setValue(0.3))
    times["no filter"] = clock(lambda: table._fill_filters(result) or table.apply_filter())
    chosen = np.random.default_rng(1).choice(count, 5000, replace=False)
    times["show 5,000 selected"] = clock(lambda: session.select(chosen))
    times["sort with 5,000 selected"] = clock(lambda: table.view.sortByColumn(3, orders[1]))
    times["select all"] = clock(table.view.selectAll)
    times["jump to a particle"] = clock(lambda: session.set_current(count // 2))
    table.close()
    return times


def _filtered(table: TransformsTable, choose: Callable[[], object]) -> float:
    choose()  # starts the short delay that gathers edits; what is measured is the work after it
    table._filter_timer.stop()
    return clock(table.apply_filter)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", type=int, default=[100_000, 1_000_000])
    counts = parser.parse_args().rows
    app = QApplication.instance() or QApplication([])
    columns = [measure(count) for count in counts]
    print("seconds".ljust(28) + "".join(f"{count:>14,}" for count in counts))
    for key in columns[0]:
        print(key.ljust(28) + "".join(f"{times[key]:14.3f}" for times in columns))
    app.quit()


if __name__ == "__main__":
    main()
