"""How many pictures per second the content navigator shows while a slider is dragged, on the CPU.

Run it with a display or under xvfb: ``python benchmarks/navigator_speed.py [--seconds S]``. Every move of the slider
draws the content code by the model's decoder, gives the picture to its napari layer and paints the window. Weights are
random: drawing takes as long with trained ones. Volumes are timed in the 2D view and in the 3D view. Beside the
wall-clock rate stands the processor time of a frame, in which other programs on the machine have no part.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace

import napari
import numpy as np
import pandas as pd
import torch
from qtpy.QtWidgets import QApplication

from napari_harmony._layers import particles_layer, role_of
from napari_harmony.analysis.navigation import Navigation
from napari_harmony.models import HarmonyModel, ModelCard, VolumeNetwork, build_network
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.images import ArrayImages
from napari_harmony.particles.volumes import ArrayVolumes
from napari_harmony.results import Result, columns_of
from napari_harmony.session import session_of
from napari_harmony.widgets._navigator_work import draw
from napari_harmony.widgets.navigator import NavigatorWidget

WANTED = 10.0  # frames per second
CODES, DIRECTIONS, PARTICLES = 8, 4, 20
_TRANSFORMS = ("rotation", "translation", "contrast")


@dataclass(frozen=True)
class Case:
    """What is shown: edge of the picture, its dimensions, and whether the viewer shows it in 3D."""

    box: int
    dimensions: int
    view_3d: bool = False

    def __str__(self) -> str:
        kind = "image" if self.dimensions == 2 else "volume"
        return f"{kind} {self.box}^{self.dimensions}" + (", 3D view" if self.view_3d else "")


CASES = (Case(32, 2), Case(64, 2), Case(20, 3), Case(32, 3), Case(20, 3, True), Case(32, 3, True))


def random_model(case: Case) -> HarmonyModel:
    """A network of the usual sizes with random weights."""
    hypotheses = 16 if case.dimensions == 2 else VolumeNetwork.hypotheses(_TRANSFORMS)
    card = ModelCard(case.box, 5.0, case.box, _TRANSFORMS, CODES, hypotheses, 4.5 * case.box, 0.8 * case.box)
    card = replace(card, dimensions=case.dimensions)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return HarmonyModel(build_network(card).eval(), card)


def random_data(case: Case) -> tuple[Particles, Result]:
    """Particles of noise and a result with random codes."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(PARTICLES, *(case.box,) * case.dimensions)).astype(np.float32)
    source = ArrayImages(images) if case.dimensions == 2 else ArrayVolumes(images)
    table = pd.DataFrame({name: np.zeros(PARTICLES) for name in columns_of(case.dimensions)})
    table = table.assign(class_number=1, flags="", scale=1.0, contrast=1.0)
    table = table.assign(**{f"content_{i}": rng.normal(size=PARTICLES) for i in range(CODES)})
    shells = np.zeros((1, case.box // 2), np.float32)
    result = Result(table, images[:1], 5.0, shells, shells, shells[0], np.array([np.nan], np.float32), pixel_size=5.0)
    return Particles(source, pd.DataFrame(index=pd.RangeIndex(PARTICLES)), 5.0), result


def directions() -> Navigation:
    """Directions along the axes of the code."""
    axes = np.eye(CODES)[:DIRECTIONS]
    ones = np.ones(DIRECTIONS)
    names = tuple(f"direction {k + 1}" for k in range(DIRECTIONS))
    return Navigation(np.zeros(CODES), axes, axes, ones, ones, None, names, radius=10.0)


@dataclass(frozen=True)
class Speed:
    """``rate`` in frames per second; processor time of a whole frame, and wall time of its decoding, in ms."""

    rate: float
    processor: float
    decoding: float


def measure(case: Case, seconds: float) -> Speed:
    """Drag a slider for so many seconds."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1366, 768)
    particles, result = random_data(case)
    data, options, _ = particles_layer(particles, "particles")
    session = session_of(viewer)
    session.set_data(particles, viewer.add_image(data, **options))
    model = random_model(case)
    session.set_result(result, model)
    _, dock = viewer.window.add_plugin_dock_widget("napari-harmony", "Content navigator")
    assert isinstance(dock, NavigatorWidget)
    session.set_navigation(directions())
    viewer.dims.ndisplay = 3 if case.view_3d else 2
    _settle(0.5)
    frames, start, used = 0, time.perf_counter(), time.process_time()
    slider = dock.panel.rows.rows[0].slider
    while time.perf_counter() - start < seconds:
        before = _picture(viewer)
        slider.setValue((frames + 1) * 37 % 401 - 200)  # never the same place twice in a row
        while _picture(viewer) is before:
            QApplication.processEvents()
        QApplication.processEvents()  # paints
        frames += 1
    rate, processor = frames / (time.perf_counter() - start), (time.process_time() - used) / frames * 1000
    start = time.perf_counter()
    for _ in range(20):
        draw(model, np.zeros(CODES))
    decoding = (time.perf_counter() - start) / 20 * 1000
    viewer.close()
    _settle(0.2)
    return Speed(rate, processor, decoding)


def _picture(viewer: napari.Viewer) -> np.ndarray:
    return next(layer.data for layer in viewer.layers if role_of(layer) == "navigator")


def _settle(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        QApplication.processEvents()


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each case is timed")
    seconds = parser.parse_args().seconds
    print(f"{torch.get_num_threads()} threads; at least {WANTED:g} frames per second are wanted")
    print(f"{'':24}{'frames / s':>12}{'processor, ms':>15}{'decoding, ms':>14}")
    for case in CASES:
        speed = measure(case, seconds)
        slow = "" if speed.rate >= WANTED else "  too slow"
        print(f"{case!s:24}{speed.rate:12.1f}{speed.processor:15.1f}{speed.decoding:14.2f}{slow}", flush=True)


if __name__ == "__main__":
    main()
