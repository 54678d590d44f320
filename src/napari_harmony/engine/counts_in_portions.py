"""What a run on images does that does not fit in memory, counted in operations, stage by stage."""

from __future__ import annotations

import math
from dataclasses import replace

from napari_harmony.engine.counts import (
    EXPECTED_CLASSES,
    Counts,
    Problem,
    grouped,
    loaded,
    of_a_fit,
    of_an_adaptation,
    total,
)
from napari_harmony.engine.plans import PLANS, REFINE_BAND, grouping_bands, over_cluster, placing_bands
from napari_harmony.engine.portions import Portions


def of_a_large_fit(problem: Problem, portions: Portions, adapting: bool = False) -> dict[str, Counts]:
    """Stages of a run from nothing, or from a pretrained network: a sample is searched and learned from, all placed."""
    settings, plan, n = problem.settings, PLANS[problem.settings.preset], problem.count
    sample = replace(problem, count=portions.sample)
    searched = of_an_adaptation(sample) if adapting else of_a_fit(sample)
    kept = min(settings.classes or EXPECTED_CLASSES, over_cluster(settings.classes, max(2, portions.sample // 2)))
    looks = [problem.look(n, kept, limit, local) for limit, local in placing_bands(plan)]
    decoys = problem.look(n, kept, *placing_bands(plan)[0])
    return {
        "reading": problem.read(),
        "drawing a sample": _drawn(sample),
        **{stage: done for stage, done in searched.items() if stage not in ("reading", "proposing", *_ended(sample))},
        "averaging": total(_averaged(sample, limit) for limit, _ in placing_bands(plan)),
        "placing particles": total([_drawn(problem), {"proposed": n}, *looks, decoys]),
        **problem.finished(REFINE_BAND[settings.preset]),
    }


def of_a_large_model(problem: Problem, classes: int | None) -> dict[str, Counts]:
    """Stages of a run that places images on the classes of a model."""
    n, band = problem.count, problem.model_band()
    look = problem.look(n, classes or EXPECTED_CLASSES, band, problem.settings.preset == "fast")
    return {
        "reading": problem.read(),
        "preparing the search": total([*problem.bases((band, math.inf)), loaded()]),
        "placing particles": total([_drawn(problem), {"proposed": n}, look]),
        **problem.finished(band),
    }


def of_a_large_grouping(problem: Problem) -> dict[str, Counts]:
    """Stages of a run that groups content codes anew."""
    preset, kept = problem.settings.preset, problem.settings.classes or EXPECTED_CLASSES
    stages = PLANS[preset].refine
    return {
        "reading": problem.read(),
        "grouping": grouped(problem.count, problem.settings.classes),
        "preparing the search": total([*problem.bases(grouping_bands(preset)), loaded()]),
        "averaging": _averaged(problem, stages[0].limit),
        "placing particles": total(problem.look(problem.count, kept, s.limit, s.local) for s in stages),
        **problem.finished(REFINE_BAND[preset]),
    }


def _ended(problem: Problem) -> list[str]:
    """The last stages of a run."""
    return list(problem.finished(1.0))


def _drawn(problem: Problem) -> Counts:
    """Particles read back from the disk, with their CTF."""
    return {"pixel": 0.5 * problem.count * problem.geometry.box**2}


def _averaged(problem: Problem, limit: float) -> Counts:
    """Averages of particles in known poses on a band."""
    return {"averaged": problem.count * problem.samples(limit) * problem.size(limit)}
