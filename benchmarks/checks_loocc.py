"""Leave-one-out cycle contrast: does the content code follow rotation, shift and contrast less, and at what price?

    python benchmarks/checks_loocc.py --seeds 0,1,2

Plain Harmony, with poses of the library's own search, is trained up to a checkpoint; from there training goes on for
as many steps without and with the objective, at its own weight (a tenth, as in the literature) and at three tenths of
it. Four minutes per seed on a core.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable

os.environ.setdefault("OMP_NUM_THREADS", "1")

from checks import Medians, Part, Record, Rule, run_part
from loocc_data import particles_of, scores
from loocc_training import Start, continued, searched, trained_until
from napari_harmony.engine.settings import Settings
from napari_harmony.objectives.loocc import RELATIVE_WEIGHT

COUNT = 1200
#: Passes over the particles: to the checkpoint, and in all.
UNTIL, EPOCHS = 16, 32
BEFORE, WITHOUT, WITH, MILD = "checkpoint", "harmony", "harmony + loocc", "harmony + loocc=0.3"

COLUMNS = (
    ("leak", "leakage R^2"),
    ("leak rotation", "rotation"),
    ("leak shift", "shift"),
    ("leak contrast", "contrast"),
    ("ood", "accuracy beyond the range"),
    ("accuracy", "accuracy"),
    ("conformation", "conformation R^2"),
    ("cross-talk", "cross-talk shift, contrast"),
    ("cross-talk rotation", "cross-talk rotation"),
    ("noise floor", "noise floor"),
    ("kl", "KL(z), nats"),
    ("seconds", "s / step"),
)


def measure(seed: int) -> Iterable[Record]:
    """The checkpoint, and what becomes of it without and with the objective."""
    data = particles_of(COUNT, seed)
    start: Start = searched(data.particles, Settings(classes=3, preset="fast", seed=seed))
    truth = data.truth.iloc[start.rows].reset_index(drop=True)
    state, network = trained_until(start, UNTIL, EPOCHS)
    yield {"mode": BEFORE, **scores(network, data, start.images, truth, seed)}
    for mode, additions in ((WITHOUT, ()), (WITH, ("loocc",)), (MILD, ("loocc=0.3",))):
        network, seconds = continued(start, state, EPOCHS, additions)
        yield {"mode": mode, **scores(network, data, start.images, truth, seed), "seconds": seconds}


def _change(medians: Medians, value: str) -> float:
    """Relative change of a value by the objective."""
    before = medians(WITHOUT, value)
    return (medians(WITH, value) - before) / before if before > 0 else math.nan


def _gain(medians: Medians, value: str) -> float:
    return medians(WITH, value) - medians(WITHOUT, value)


def _pair(medians: Medians, value: str) -> str:
    return f"{medians(WITHOUT, value):.3f} -> {medians(WITH, value):.3f}"


RULES = (
    Rule("a", "leakage down by at least 30 %", lambda m: _pair(m, "leak"), lambda m: _change(m, "leak") <= -0.3),
    Rule(
        "b",
        "accuracy at 1 to 1.5 times the range of rotation and contrast up by at least 0.04",
        lambda m: _pair(m, "ood"),
        lambda m: _gain(m, "ood") >= 0.04,
    ),
    Rule(
        "c",
        "linear accuracy not down by more than 0.01, conformation R^2 not by more than 0.02",
        lambda m: f"{_pair(m, 'accuracy')}; {_pair(m, 'conformation')}",
        lambda m: _gain(m, "accuracy") >= -0.01 and _gain(m, "conformation") >= -0.02,
    ),
    Rule(
        "d",
        "cross-talk of shift and contrast down by at least 20 %",
        lambda m: _pair(m, "cross-talk"),
        lambda m: _change(m, "cross-talk") <= -0.2,
    ),
    Rule(
        "e",
        "KL(z) at least half of what it was at the checkpoint",
        lambda m: f"{m(BEFORE, 'kl'):.2f} -> {m(WITH, 'kl'):.2f} nats",
        lambda m: m(WITH, "kl") >= 0.5 * m(BEFORE, "kl"),
    ),
)

PART = Part(
    "loocc",
    "Leave-one-out cycle contrast (`--with loocc`)",
    f"{COUNT} particles of 32 pixels, three kinds with three continuous conformations each, SNR 0.2, turned by up to 1 "
    "radian, shifted by 1.2 pixels and log contrast within 0.3; plain Harmony with poses of its own search up to a "
    f"checkpoint ({UNTIL} passes), then as many passes without and with the objective. Leakage and conformations are "
    "read from the content code by nearest neighbours, kinds by a linear probe; cross-talk is the mean squared change "
    "of the code, over twice its variance, when one factor alone is drawn anew, the floor of new noise subtracted. "
    f"(f), the order of rotation and shift, is a test. Relative weight {RELATIVE_WEIGHT:g}.",
    COLUMNS,
    RULES,
)

if __name__ == "__main__":
    run_part(PART, measure)
