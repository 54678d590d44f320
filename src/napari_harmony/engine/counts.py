"""What a run on images does, stage by stage, counted in operations: the one source of its expected time and memory.

No torch is needed to count. How long an operation takes is in ``costs``.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from napari_harmony.engine.bases import BASES
from napari_harmony.engine.geometry import Geometry
from napari_harmony.engine.plans import (
    ADAPTING,
    MODEL_BAND,
    PLANS,
    REFINE_BAND,
    SHORTENED,
    Plan,
    Stage,
    grouping_bands,
    over_cluster,
)
from napari_harmony.engine.schedule import BATCH, NETWORK_BOX, epochs
from napari_harmony.engine.settings import Settings

#: Operations by kind.
Counts = dict[str, float]
#: Classes that a run is expected to find where it chooses their number.
EXPECTED_CLASSES = 12
#: Where shifts are learned from the data, they are expected to reach so far of what is allowed.
EXPECTED_REACH = 0.85
#: Particles among which first templates are chosen; entries of a particle's posterior; steps of its refinement.
CANDIDATES, ENTRIES, NEWTON_STEPS = 1000, 6, 7
#: Particles that leakage is measured with.
MEASURED = 1000
#: Numbers of classes that are compared where content codes are grouped and none is asked for.
GROUPS = (1, 2, 3, 4, 6, 8, 10, 12, 15, 20, 25, 30)
#: Content codes that a mixture is fitted to; of more, some by chance.
MOST_GROUPED = 20_000
#: What the stage is called in which a pretrained network looks at the particles.
LOOKING = "looking with the model"
#: What teaching a pretrained network pictures of classes takes, in batches of a training.
TAUGHT = 10.0
#: As in the comparison of halves: decoys per class, and how many there are at least.
DECOYS, LEAST_DECOYS = 6, 24
#: A batch with an added objective, and one of the published objective, in batches of Harmony alone.
ADDED_COST = {"loocc": 0.12, "independence": 0.1, "diffusion": 0.5}
PUBLISHED_COST = 0.15


def loaded() -> Counts:
    """What is loaded once in a process, see ``learning.warm_up``."""
    return {"library": float("sklearn" not in sys.modules)}


def grouped(count: int, classes: int | None) -> Counts:
    """Content codes of ``count`` particles grouped."""
    return {"grouped": min(count, MOST_GROUPED) * (classes or sum(GROUPS))}


def total(counts: Iterable[Counts]) -> Counts:
    """All counts together."""
    sums: Counts = {}
    for one in counts:
        for name, number in one.items():
            sums[name] = sums.get(name, 0.0) + number
    return sums


@dataclass(frozen=True)
class Problem:
    """The images of a run: ``count`` of them, on the working grid, and how they are looked at."""

    count: int
    geometry: Geometry
    settings: Settings

    def cycles(self, limit: float) -> float:
        """Cycles per box of ``limit`` cycles per mask diameter, to just below Nyquist."""
        whole = limit * self.geometry.box / (2 * self.geometry.mask_radius)
        return min(whole, 0.5 * self.geometry.box - 1)

    def samples(self, limit: float) -> float:
        """Fourier samples of an image on a band."""
        return 0.5 * math.pi * self.cycles(limit) ** 2

    def size(self, limit: float) -> float:
        """Numbers that an image is on the steerable basis of a band."""
        return (math.pi * self.geometry.mask_radius * self.cycles(limit) / self.geometry.box) ** 2

    def rotations(self, limit: float) -> int:
        """Rotations that are tried on a band."""
        return 4 * math.ceil(1.5 * self.cycles(limit)) if "rotation" in self.settings.transforms else 1

    def shifts(self, limit: float, local: bool) -> float:
        """Shifts that are tried on a band: all, or those near the ones found."""
        if "translation" not in self.settings.transforms:
            return 1.0
        step = self.geometry.box / (4 * self.cycles(limit))
        reach = 2.2 * step if local else max(EXPECTED_REACH * self.geometry.max_shift, 2 * step)
        steps = min(reach, self.geometry.max_shift) / step
        return max(1.0, math.pi * steps**2)

    def look(self, count: float, classes: float, limit: float, local: bool) -> Counts:
        """One expectation step of ``count`` images, and the averages it starts from."""
        shifts, samples, size = self.shifts(limit, local), self.samples(limit), self.size(limit)
        poses = shifts * self.rotations(limit)
        return {
            "analysed": count * shifts * samples * size,
            "moved": count * (shifts + ENTRIES) * samples,
            "multiplied": count * poses * classes * size,
            "scored": count * poses * classes,
            "averaged": count * samples * size,
            "look": 1,
        }

    def looks(self, count: float, classes: float, stages: Iterable[Stage]) -> list[Counts]:
        """The iterations of some stages."""
        return [self.look(count, classes, s.limit, s.local) for s in stages for _ in range(s.iterations)]

    def seeds(self, count: float, classes: float, limit: float) -> Counts:
        """First templates."""
        one = self.look(min(count, CANDIDATES), 1, limit, False)
        every = {name: number * classes for name, number in one.items() if name in ("multiplied", "scored")}
        return one | every | {"look": 1}

    def weighings(self, count: float, many: float, kept: float, bands: tuple[float, ...]) -> list[Counts]:
        """Classes weighed, split in two and weighed again on each band."""
        looks, left = [], many
        for number, limit in enumerate(bands):
            for divided in (False, True, False) if number == 0 else (True, False):
                left = 2 * left if divided else left
                looks.append(self.look(count, left, limit, True))
                left = left if divided else kept
        return looks

    def bases(self, bands: Iterable[float]) -> list[Counts]:
        """Steerable bases, from the coarsest, which are built unless this process has them."""
        different = sorted({round(self.cycles(limit), 1) for limit in bands})
        box, radius = self.geometry.box, self.geometry.mask_radius
        return [{"basis": 0.0 if BASES.has(box, radius, cycles) else cycles**2} for cycles in different]

    def model_band(self, box: int = NETWORK_BOX) -> float:
        """The band, in cycles per mask diameter, that averages of a model are compared on which works on ``box``."""
        most = min(0.5 * box - 1, 0.5 * self.geometry.box - 1)
        return min(MODEL_BAND, most * 2 * self.geometry.mask_radius / self.geometry.box)

    def read(self) -> Counts:
        """Images read and transformed."""
        return {"pixel": self.count * self.geometry.source_box**2}

    def compared(self, classes: int, limit: float) -> Counts:
        """Averages of halves and their decoys aligned, and particles scored against those of the other half."""
        pairs = classes * (1 + max(DECOYS, math.ceil(LEAST_DECOYS / classes)))
        size = self.size(math.inf)
        aligned = {
            "analysed": pairs * 49 * self.samples(math.inf) * size,
            "multiplied": pairs * 49 * 180 * size,
            "averaged": 2 * self.count * self.samples(math.inf) * size,
        }
        return total([aligned, *(self.look(self.count, classes, limit, True) for _ in range(2))])

    def learned(self) -> Counts:
        """Batches that the network learns from, in full ones of Harmony alone on its usual grid."""
        published = self.settings.objective == "harmony-2022"
        extra = sum(ADDED_COST[addition.name] for addition in self.settings.additions)
        own = (PUBLISHED_COST if published else 1 + extra) * (min(NETWORK_BOX, self.geometry.box) / NETWORK_BOX) ** 2
        passes = epochs(self.settings, not published, self.count, self.settings.classes)
        return {"batch": passes * self.count / BATCH * own}

    def finished(self, limit: float) -> dict[str, Counts]:
        """The last stages; poses are refined on the band of ``limit``."""
        measured: Counts = {"measured": min(self.count, MEASURED)}
        return {"refining poses": self.refined(limit), "measuring leakage": measured}

    def refined(self, limit: float) -> Counts:
        """Poses refined on a band, and averages on the whole one."""
        n, fine, coarse = self.count, self.samples(math.inf), self.samples(limit)
        work = NEWTON_STEPS * 3 * coarse * self.size(limit) + coarse * self.size(limit)
        return {"refined": n * work, "averaged": n * fine * self.size(math.inf), "moved": n * 7 * NEWTON_STEPS * coarse}


def of_a_fit(problem: Problem, plan: Plan | None = None, seeded: bool = True) -> dict[str, Counts]:
    """Stages of a run from nothing, in their order.

    ``plan`` is another than the preset's; without ``seeded`` first templates are not looked for.
    """
    n, settings = problem.count, problem.settings
    plan = plan or PLANS[settings.preset]
    many = over_cluster(settings.classes, max(2, n // 2))
    kept = min(settings.classes or EXPECTED_CLASSES, many)
    seeds = [problem.seeds(n / 2, many, plan.explore[0].limit)] if seeded else []
    half = total([*seeds, *problem.looks(n / 2, many, plan.explore)])
    last = problem.look(n / 2, kept, plan.settle[-1], True)
    check = total([*problem.weighings(n / 2, many, kept, plan.settle), last])
    return {
        "reading": problem.read(),
        "preparing the search": total([*problem.bases(plan.bands), loaded()]),
        "searching half 1 of 2": half,
        "searching half 2 of 2": half,
        "settling classes": total(problem.weighings(n, 2 * many, kept, plan.settle)),
        "checking half 1 of 2": check,
        "checking half 2 of 2": check,
        "refining classes": total(problem.looks(n, kept, plan.refine)),
        "comparing halves": problem.compared(kept, plan.settle[-1]),
        "training": problem.learned(),
        "proposing": {"proposed": n},
        **problem.finished(REFINE_BAND[settings.preset]),
    }


def of_an_adaptation(problem: Problem) -> dict[str, Counts]:
    """Stages of a run that starts from a pretrained network."""
    settings = problem.settings
    stages = of_a_fit(problem, SHORTENED[settings.preset], seeded=False)
    if not settings.additions:
        stages["training"] = shortened(stages["training"], ADAPTING[settings.preset]) or {"batch": TAUGHT}
    return with_look(stages, {"proposed": problem.count})


def shortened(counts: Counts, share: float) -> Counts:
    """A share of something, nothing where it is left out."""
    return {name: share * number for name, number in counts.items()} if share else {}


def with_look(stages: dict[str, Counts], look: Counts) -> dict[str, Counts]:
    """The stages of a run that begins with a ``look`` of a pretrained network at what was read."""
    first = "reading"
    return {first: stages[first], LOOKING: look, **{stage: done for stage, done in stages.items() if stage != first}}


def of_the_published(problem: Problem) -> dict[str, Counts]:
    """Stages of a run with the published objective."""
    last = problem.finished(MODEL_BAND)
    return {
        "reading": total([problem.read(), loaded()]),
        "training": problem.learned(),
        "proposing": {"proposed": problem.count},
        "preparing averages": total(problem.bases((MODEL_BAND, math.inf))),
        "averaging": last["refining poses"],
        "measuring leakage": last["measuring leakage"],
    }


def of_a_model(problem: Problem, classes: int | None) -> dict[str, Counts]:
    """Stages of a run that places images on the classes of a model."""
    band = problem.model_band()
    return {
        "reading": problem.read(),
        "preparing the search": total([*problem.bases((band, math.inf)), loaded()]),
        "proposing": {"proposed": problem.count},
        "searching": problem.look(problem.count, classes or EXPECTED_CLASSES, band, problem.settings.preset == "fast"),
        **problem.finished(band),
    }


def of_a_grouping(problem: Problem) -> dict[str, Counts]:
    """Stages of a run that groups content codes anew."""
    preset, kept = problem.settings.preset, problem.settings.classes or EXPECTED_CLASSES
    return {
        "reading": problem.read(),
        "grouping": grouped(problem.count, problem.settings.classes),
        "preparing the search": total([*problem.bases(grouping_bands(preset)), loaded()]),
        "settling classes": total(problem.looks(problem.count, kept, PLANS[preset].refine)),
        **problem.finished(REFINE_BAND[preset]),
    }
