"""Defocus as an estimated factor: how far offsets found by a whole run are from the truth.

    python benchmarks/checks_defocus.py --seeds 0,1,2

The run is told CTF parameters whose defocus is off by a normal error per particle, or by none. Two minutes per seed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from checks import Part, Record, Rule, run_part
from napari_harmony.engine import api
from napari_harmony.engine.defocus import PRIOR_SPREAD, offset_ctf
from napari_harmony.engine.events import Done
from napari_harmony.engine.settings import Settings
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.simulate import sample_volumes, simulate_particles
from napari_harmony.results import Result

COUNT, BOX, PIXEL, SNR = 900, 64, 3.5, 0.2
VIEWS = np.array([[[20.0, 75.0]], [[10.0, 25.0]], [[-60.0, 60.0]]])
#: Standard deviation of the error of the parameters, angstrom, by mode.
ERRORS = {"0.3 um off": 3000.0, "0.15 um off": 1500.0, "right": 0.0}


def measure(seed: int) -> Iterable[Record]:
    """One run for each error."""
    data = simulate_particles(
        sample_volumes(BOX)[:3], views=VIEWS, count=COUNT, box=BOX, pixel_size=PIXEL, snr=SNR, seed=seed
    )
    ctf = data.particles.ctf
    assert ctf is not None
    normal = np.random.default_rng(100 + seed).standard_normal(COUNT)
    for mode, size in ERRORS.items():
        error = size * normal
        table = _run(replace(data.particles, ctf=offset_ctf(ctf, error)), seed).table
        left = table["defocus_offset"].to_numpy() + error
        yield {
            "mode": mode,
            "before": _rms(error),
            "after": _rms(left),
            "median": float(np.median(np.abs(left))),
            "spread": float(table["defocus_spread"].mean()),
            "within": float((np.abs(left) < 2 * table["defocus_spread"]).mean()),
        }


def _run(particles: Particles, seed: int) -> Result:
    chosen = Settings(
        classes=3, preset="fast", seed=seed, transforms=("rotation", "translation", "contrast", "defocus")
    )
    for event in api.align(particles, chosen):
        if isinstance(event, Done):
            assert isinstance(event.value, Result)
            return event.value
    raise AssertionError("a run ends with its result")


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))


OFF, HALF, RIGHT = ERRORS
PART = Part(
    "defocus",
    "Defocus of each particle (`--transforms ...,defocus`)",
    f"{COUNT} particles of {BOX} pixels ({PIXEL} angstrom), three contents, SNR {SNR}, CTF; the parameters given are "
    "off by a normal error of the size named. Classes and poses come from the run (`fast`). Angstrom.",
    (
        ("before", "error given, rms"),
        ("after", "left, rms"),
        ("median", "left, median"),
        ("spread", "spread told"),
        ("within", "share within two spreads"),
    ),
    (
        Rule(
            "a",
            "an error of 0.3 um falls by at least 30 %",
            lambda m: f"{m(OFF, 'before'):.0f} -> {m(OFF, 'after'):.0f}",
            lambda m: m(OFF, "after") <= 0.7 * m(OFF, "before"),
        ),
        Rule(
            "b",
            "right parameters are left within the spread of the prior",
            lambda m: f"{m(RIGHT, 'after'):.0f} of {PRIOR_SPREAD:.0f}",
            lambda m: m(RIGHT, "after") <= PRIOR_SPREAD,
        ),
    ),
)

if __name__ == "__main__":
    run_part(PART, measure)
