"""What a run on subtomograms does, stage by stage, counted in operations; see ``engine.counts``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from napari_harmony.engine.counts import (
    ADDED_COST,
    DECOYS,
    EXPECTED_REACH,
    LEAST_DECOYS,
    MEASURED,
    Counts,
    grouped,
    loaded,
    shortened,
    total,
    with_look,
)
from napari_harmony.engine.geometry import Geometry
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.volumes.plans import (
    ADAPTING,
    BATCH,
    BATCH_2022,
    EVERYWHERE,
    NEARBY,
    NETWORK_BOX,
    PLANS,
    REFINE_BAND,
    ROUNDS,
    Plan,
    Stage,
    adapting_plan,
    beside_and_everywhere,
    epochs,
    over_cluster,
)

#: Classes that a run is expected to find where it chooses their number.
EXPECTED_CLASSES = 4
#: Particles among which first templates are chosen; entries of a particle's posterior; looks of its refinement.
CANDIDATES, ENTRIES, NEWTON_STEPS = 120, 1.3, 7
#: Poses that a network proposes for a particle and that are looked at in every class.
PROPOSED = 4
#: Turns and shifts beside a pose that are tried.
TURNS_NEARBY, SHIFTS_NEARBY = 27, 7
#: A batch of the published objective, in batches of Harmony alone.
PUBLISHED_COST = 2.0
#: Numbers of turned templates held at a time.
BLOCK = 40_000_000
#: A look or a batch of the network that was pretrained, in those of one that was not.
GUIDED = 2.0
#: What letting a pretrained network draw the classes takes, in batches of a training.
TAUGHT = 0.3
#: Degrees that rotations may differ from those of the input where nothing else is said.
LOCAL = 30.0


@dataclass(frozen=True)
class Problem:
    """The subtomograms of a run: ``count`` of them, on the working grid, and how they are looked at."""

    count: int
    geometry: Geometry
    settings: Settings

    def samples(self, limit: float) -> float:
        """Fourier samples of a volume on a band of ``limit`` cycles per mask diameter."""
        return 2 / 3 * math.pi * self.cycles(limit) ** 3

    def cycles(self, limit: float) -> float:
        """Cycles per box of ``limit`` cycles per mask diameter, to just below Nyquist."""
        whole = limit * self.geometry.box / (2 * self.geometry.mask_radius)
        return min(whole, 0.5 * self.geometry.box - 1)

    @property
    def cells(self) -> float:
        """Cells of a padded volume."""
        return float((2 * self.geometry.box) ** 3)

    @property
    def order(self) -> int:
        """Elements of the symmetry group."""
        letter, number = re.fullmatch("([CD])([0-9]+)", self.settings.symmetry).groups()  # type: ignore[union-attr]
        return int(number) * (2 if letter == "D" else 1)

    def rotations(self, step: float) -> float:
        """Rotations that are tried, ``step`` degrees apart."""
        if "rotation" not in self.settings.transforms:
            return 1.0
        everywhere = 8 * math.pi**2 / math.radians(step) ** 3 / self.order
        if self.settings.start != "input":
            return everywhere
        cone = 4 / 3 * math.pi * ((self.settings.local_search or LOCAL) / step) ** 3
        return min(everywhere, max(1.0, cone * (360 / step if self.settings.free_rot else 1)))

    def shifts(self, limit: float, local: bool) -> float:
        """Shifts that are tried on a band: all, or those near the ones found."""
        if "translation" not in self.settings.transforms:
            return 1.0
        if local:
            return SHIFTS_NEARBY
        steps = EXPECTED_REACH * self.geometry.max_shift * 4 * self.cycles(limit) / self.geometry.box
        return max(1.0, 4 / 3 * math.pi * steps**3)

    def look(self, count: float, classes: float, stage: Stage, known: bool = True, entries: float = ENTRIES) -> Counts:
        """One expectation step of ``count`` volumes, and the averages it starts from.

        Poses are ``known`` from before, so many ``entries`` per volume.
        """
        samples, shifts = self.samples(stage.limit), self.shifts(stage.limit, known and stage.where != EVERYWHERE)
        common = {"inserted": count * ENTRIES * samples * self.order, "transformed": classes * self.cells}
        if stage.where == NEARBY and known:
            poses = count * entries * TURNS_NEARBY
            return common | {
                "sampled": poses * samples,
                "shifted": count * entries * shifts * samples,
                "matched": poses * shifts * samples,
            }
        rotations = self.rotations(stage.step)
        blocks = math.ceil(rotations * classes * samples / BLOCK)
        return common | {
            "sampled": rotations * classes * samples,
            "shifted": blocks * count * shifts * samples,
            "matched": count * shifts * rotations * classes * samples,
            "best": count * shifts * rotations * classes,
        }

    def looks(self, count: float, classes: float, stages: Iterable[Stage]) -> list[Counts]:
        """The iterations of some stages."""
        return [self.look(count, classes, s) for s in stages for _ in range(s.iterations)]

    def seeds(self, count: float, classes: int, stage: Stage) -> Counts:
        """First templates, single particles."""
        return total(classes * [self.look(min(count, CANDIDATES), 1, stage, False)])

    def weighings(self, count: float, many: float, kept: float, weigh: Stage) -> list[Counts]:
        """Classes weighed, split in two and weighed again."""
        return [self.look(count, classes, weigh) for classes in (many, 2 * kept, 2 * kept)]

    def placings(self, classes: int) -> list[Counts]:
        """Volumes placed on given classes: beside what a network proposes, everywhere, and once more where they fit."""
        plan, n = PLANS[self.settings.preset], self.count
        beside, grid = beside_and_everywhere(self.settings.preset)
        near = total(classes * [self.look(n, 1, beside, entries=PROPOSED)])
        return [near, self.look(n, classes, grid), self.look(n, classes, plan.settle[-1])]

    def compared(self, classes: int, weigh: Stage) -> Counts:
        """Averages of halves and their decoys aligned, and particles scored against those of the other half."""
        volumes = 1 + max(DECOYS, math.ceil(LEAST_DECOYS / classes))
        fits = [self.look(volumes, 1, weigh, False), self.look(1, 1, weigh, False), self.look(1, 1, weigh, False)]
        scored = [self.look(self.count / 2, classes, weigh) for _ in range(4)]
        return total([*(classes * fits), *scored, {"transformed": classes * volumes * self.cells}])

    def refined(self, limit: float, rounds: int) -> Counts:
        """Poses and averages refined in turn, and averages on the whole band."""
        samples = self.samples(limit)
        return {
            "volume refined": self.count * rounds * NEWTON_STEPS * samples,
            "inserted": self.count * self.order * (rounds * samples + self.samples(math.inf)),
        }

    def read(self) -> Counts:
        """Volumes read and transformed."""
        return {"voxel": self.count * self.geometry.source_box**3}

    def learned(self) -> Counts:
        """Batches that the network learns from, in full ones of Harmony alone on its usual grid."""
        published = self.settings.objective == "harmony-2022"
        size = BATCH_2022 if published else BATCH
        extra = sum(ADDED_COST[addition.name] for addition in self.settings.additions)
        own = PUBLISHED_COST if published else (1 + extra) * (min(NETWORK_BOX, self.geometry.box) / NETWORK_BOX) ** 3
        return {"volume batch": epochs(self.settings, self.count) * self.count / size * own}

    def finished(self, refined: Counts) -> dict[str, Counts]:
        """The last stages."""
        return {"refining poses": refined, "measuring leakage": {"volume measured": min(self.count, MEASURED)}}


def of_a_fit(problem: Problem, plan: Plan | None = None, seeded: bool = True) -> dict[str, Counts]:
    """Stages of a run from nothing, in their order.

    ``plan`` is another than the preset's; without ``seeded`` first templates are not looked for.
    """
    n, settings = problem.count, problem.settings
    plan = plan or PLANS[settings.preset]
    wanted = max(settings.classes or (1 if settings.references else EXPECTED_CLASSES), len(settings.references))
    many = wanted if settings.references else over_cluster(settings.classes, max(2, n // 2))
    kept = min(wanted, many)
    seeds = [problem.seeds(n / 2, many, plan.explore[0])] if seeded else []
    half = total([*seeds, *problem.looks(n / 2, many, plan.explore)])
    check = total([*problem.weighings(n / 2, many, kept, plan.weigh), *problem.looks(n / 2, kept, plan.settle)])
    looked_at = [problem.look(CANDIDATES, 2 * wanted, plan.explore[0], False)]
    return {
        "reading": total([problem.read(), loaded()]),
        **({"checking references": total(looked_at)} if settings.references else {}),
        "searching half 1 of 2": half,
        "searching half 2 of 2": half,
        "settling classes": total(problem.weighings(n, 2 * many, kept, plan.weigh)),
        "checking half 1 of 2": check,
        "checking half 2 of 2": check,
        "refining classes": total(problem.looks(n, kept, plan.settle)),
        "comparing halves": problem.compared(kept, plan.weigh),
        "training": problem.learned(),
        "proposing": {"volume proposed": n},
        **problem.finished(problem.refined(REFINE_BAND[settings.preset], ROUNDS[settings.preset])),
    }


def of_an_adaptation(problem: Problem) -> dict[str, Counts]:
    """Stages of a run that starts from a pretrained network."""
    settings = problem.settings
    stages = of_a_fit(problem, adapting_plan(settings), seeded=settings.symmetry != "C1")
    share = GUIDED * ADAPTING[settings.preset]
    look = {"volume proposed": GUIDED * problem.count}
    stages |= {"training": shortened(stages["training"], share) or {"volume batch": TAUGHT}, "proposing": look}
    return with_look(stages, look)


def of_the_published(problem: Problem) -> dict[str, Counts]:
    """Stages of a run with the published objective."""
    last = problem.finished(problem.refined(REFINE_BAND[problem.settings.preset], ROUNDS[problem.settings.preset]))
    return {
        "reading": total([problem.read(), loaded()]),
        "training": problem.learned(),
        "proposing": {"volume proposed": problem.count},
        "averaging": last["refining poses"],
        "measuring leakage": last["measuring leakage"],
    }


def of_a_model(problem: Problem, classes: int | None) -> dict[str, Counts]:
    """Stages of a run that places volumes on the classes of a model."""
    preset = problem.settings.preset
    return {
        "reading": total([problem.read(), loaded()]),
        "proposing": {"volume proposed": problem.count},
        "searching": total(problem.placings(classes or EXPECTED_CLASSES)),
        **problem.finished(problem.refined(REFINE_BAND[preset], 1)),
    }


def of_a_grouping(problem: Problem) -> dict[str, Counts]:
    """Stages of a run that groups content codes anew."""
    preset, kept = problem.settings.preset, problem.settings.classes or EXPECTED_CLASSES
    return {
        "reading": total([problem.read(), loaded()]),
        "grouping": grouped(problem.count, problem.settings.classes),
        "settling classes": total(problem.looks(problem.count, kept, PLANS[preset].settle)),
        **problem.finished(problem.refined(REFINE_BAND[preset], ROUNDS[preset])),
    }
