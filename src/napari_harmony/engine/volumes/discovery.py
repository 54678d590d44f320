"""From prepared subtomograms to content classes and poses, without references: search halves, join, settle, refine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch

from napari_harmony.engine.classes import eliminate
from napari_harmony.engine.costs import seconds_of
from napari_harmony.engine.counts import Counts, total
from napari_harmony.engine.enough import FEWER_ITERATIONS, NO_SPLIT, NOT_COMPARED, ONE_HALF, Enough
from napari_harmony.engine.events import Preview
from napari_harmony.engine.halves import Agreement, judged
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.subsets import split as split_halves
from napari_harmony.engine.team import ALONE, Team
from napari_harmony.engine.volumes.classes import fair_scores, split
from napari_harmony.engine.volumes.counts import EXPECTED_CLASSES, Problem
from napari_harmony.engine.volumes.frames import laid, onto_classes, onto_references
from napari_harmony.engine.volumes.halves import Alignment, compare_halves, decoy_templates
from napari_harmony.engine.volumes.plans import ALL_ROTATIONS, EVERYWHERE, NEARBY, Plan, Stage, over_cluster
from napari_harmony.engine.volumes.posteriors import carried, centred, pool, relabel
from napari_harmony.engine.volumes.prepare import Prepared
from napari_harmony.engine.volumes.references import LOOKED_AT, References, looks_inverted
from napari_harmony.engine.volumes.search import (
    Observations,
    Posterior,
    Shifts,
    Sums,
    Templates,
    expect_everywhere,
    expect_near,
    maximise,
    shift_ball,
)
from napari_harmony.engine.volumes.seeding import seed_templates
from napari_harmony.engine.volumes.shared import shared_expect, shared_sums
from napari_harmony.engine.volumes.start import Anchors
from napari_harmony.engine.volumes.symmetry import Symmetry, axes_of
from napari_harmony.engine.work import StagedWork, Work, named, portion, shares
from napari_harmony.transforms import so3, soft_sphere


class Search:
    """The stages of a search on one set of prepared subtomograms."""

    def __init__(
        self,
        prepared: Prepared,
        generator: torch.Generator,
        transforms: tuple[str, ...],
        anchors: Anchors | None = None,
        symmetry: str = "C1",
        references: References | None = None,
        enough: Enough | None = None,
        team: Team = ALONE,
    ) -> None:
        self.team = team
        self.prepared, self.generator, self.transforms = prepared, generator, transforms
        self.enough = enough or Enough()
        self.anchors, self.symmetry = anchors, Symmetry.of(symmetry, prepared.energy.device)
        self.references = references
        self.geometry, self.device = prepared.geometry, prepared.energy.device
        self.mask = soft_sphere(self.geometry.box, self.geometry.mask_radius, self.device)
        self.sigma = max(1.0, self.geometry.max_shift / 3)

    def costs(self, operations: Iterable[Counts]) -> list[tuple[float, float]]:
        """Portions of a stage in proportion to what its steps are expected to take."""
        return shares(seconds_of(done) for done in operations)

    @property
    def problem(self) -> Problem:
        """The particles as they are counted."""
        settings = Settings(transforms=self.transforms, symmetry=self.symmetry.name)
        return Problem(len(self.prepared), self.geometry, settings)

    def part(self, rows: torch.Tensor) -> Search:
        """The search on some of the particles."""
        anchors = None if self.anchors is None else self.anchors.subset(rows)
        also = (self.symmetry.name, self.references, self.enough, self.team)
        return Search(self.prepared.subset(rows), self.generator, self.transforms, anchors, *also)

    def sums(self, data: Observations, posterior: Posterior, classes: int) -> Sums:
        """What the particles say of each class, its symmetry heeded."""
        return shared_sums(self.team, data, posterior, classes, self.symmetry.group)

    def average(self, data: Observations, posterior: Posterior, classes: int) -> Templates:
        """The averages of the classes as templates."""
        return maximise(self.sums(data, posterior, classes), self.mask)

    def data(self, limit: float) -> Observations:
        """The particles up to ``limit`` cycles per mask diameter."""
        cycles = limit * self.geometry.box / (2 * self.geometry.mask_radius)
        return self.prepared.data.within(min(cycles, 0.5 * self.geometry.box - 1))

    def rotations(self, step: float) -> torch.Tensor:
        """All different rotations ``step`` degrees apart, or none where rotation is not among the transformations."""
        if "rotation" not in self.transforms:
            return so3.identity(1, device=self.device)
        return self.symmetry.unit(so3.rotation_grid(step, self.device))

    def turns(self, step: float) -> torch.Tensor:
        """Small rotations around one found on a grid ``step`` degrees fine, half as far apart."""
        none = so3.identity(device=self.device)
        if self.anchors is not None and not self.anchors.free_rot and self.references is None:
            step = min(step, float(np.rad2deg(self.anchors.reach)))
        if "rotation" not in self.transforms:
            return none[None]
        return so3.local_grid(none, step / 2, step * 0.9)

    def shifts(self, data: Observations, local: bool) -> Shifts:
        """Shifts fine enough for the band."""
        step = data.band.box / (4 * data.band.limit)
        reach = min(1.2 * step if local else max(3 * self.sigma, step), self.geometry.max_shift)
        return shift_ball(reach if "translation" in self.transforms else 0.0, step, self.sigma, self.device)

    def expect(self, data: Observations, templates: Templates, stage: Stage, near: Posterior | None) -> Work[Posterior]:
        """One expectation step."""

        def look(data: Observations, near: Posterior | None, anchors: Anchors | None) -> Work[Posterior]:
            return self._expect(data, templates, stage, near, anchors)

        return (yield from shared_expect(self.team, data, near, self.anchors, look))

    def _expect(
        self, data: Observations, templates: Templates, stage: Stage, near: Posterior | None, anchors: Anchors | None
    ) -> Work[Posterior]:
        """One expectation step of particles with these anchors."""
        shifts = self.shifts(data, near is not None and stage.where != EVERYWHERE)
        if stage.where == NEARBY and near is not None:
            turns, anchored = self.turns(stage.step), anchors is not None
            work = expect_near(data, templates, near, turns, shifts, of_reference=anchored, bound=anchors)
            return (yield from work)
        if anchors is not None:
            shift = near.best().shift if near is not None and stage.where == ALL_ROTATIONS else None
            return (yield from self.expect_anchored(data, templates, anchors, stage.step, shifts, shift))
        centre = torch.zeros(len(data), 3, device=self.device)
        if stage.where == ALL_ROTATIONS and near is not None:
            centre = near.best().shift
        return (yield from expect_everywhere(data, templates, self.rotations(stage.step), shifts, centre))

    def expect_anchored(
        self,
        data: Observations,
        templates: Templates,
        anchors: Anchors,
        step: float,
        shifts: Shifts,
        centre: torch.Tensor | None = None,
    ) -> Work[Posterior]:
        """Posterior over all classes and all that ``anchors`` allow, about ``step`` degrees apart."""
        around = anchors.posterior(len(templates))
        if centre is not None:
            around = replace(around, shift=centre[around.particle])
        turns = anchors.turns(step) if "rotation" in self.transforms else so3.identity(1, device=self.device)
        return (yield from expect_near(data, templates, around, turns, shifts, of_reference=True))

    def alignment(self, data: Observations, stage: Stage) -> Alignment:
        """How averages of halves are laid onto each other: freely, as far as their symmetry allows."""
        rotations, shifts, free = self.rotations(stage.step), self.shifts(data, False), self.symmetry.free()
        if len(self.symmetry) > 1:
            offset = shifts.offset[(shifts.offset - self.symmetry.invariant(shifts.offset)).norm(dim=1) < 1e-3]
            shifts = replace(shifts, offset=offset)
            rotations = self.symmetry.onto_itself(stage.step / 3) if "rotation" in self.transforms else rotations
        if "rotation" not in self.transforms:
            free = torch.zeros_like(free)
        return Alignment(data.band, rotations, shifts, free, self.symmetry, self.trusted())

    def trusted(self) -> int:
        """The first shell in which halves that agree prove something: beyond what common references showed both."""
        if self.references is None:
            return 0
        beyond = int(np.ceil(self.geometry.box * self.geometry.pixel_size / self.references.lowpass))
        return min(beyond, self.geometry.box // 2 - 3)

    def inverted(self, stage: Stage) -> Work[bool]:
        """Whether the references evidently have bright and dark exchanged."""
        assert self.references is not None
        some = self.part(torch.arange(min(LOOKED_AT, len(self.prepared)), device=self.device))
        seen = yield from some.expect(some.data(stage.limit), self.references.both_signs(), stage, None)
        return looks_inverted(seen, len(self.references))

    def first(self, classes: int, stages: tuple[Stage, ...]) -> Work[Posterior]:
        """From nothing, or from the input's poses, to ``classes`` classes in frames that fit the symmetry.

        Where nothing says how the axes lie, classes are found without symmetry and then turned onto their axes.
        """
        known = self.anchors is not None or self.references is not None or "rotation" not in self.transforms
        if known or len(self.symmetry) == 1:
            return (yield from self.explore(classes, stages))
        plain = Search(self.prepared, self.generator, self.transforms, enough=self.enough, team=self.team)
        found = yield from portion(plain.explore(classes, stages), 0.0, 0.7)
        self.sigma = plain.sigma
        data = self.data(stages[0].limit)
        turn = axes_of(plain.average(data, found, classes).volumes, self.symmetry, data.band)
        label, still = torch.arange(classes, device=self.device), torch.zeros(classes, 3, device=self.device)
        yield 0.75
        upright = centred(carried(found, label, turn, still), classes, self.symmetry)
        return (yield from portion(self.iterate(stages[-1:], classes, upright), 0.75, 1.0))

    def explore(self, classes: int, stages: tuple[Stage, ...]) -> Work[Posterior]:
        """From single particles to ``classes`` classes."""
        first = stages[0]
        if self.anchors is not None and not self.anchors.free_rot and self.references is None:
            posterior = yield from portion(self.divide(self.anchors.posterior(), first, classes), 0.0, 0.3)
            return (yield from portion(self.iterate(stages, classes, posterior), 0.3, 1.0))
        n, problem = len(self.prepared), self.problem
        looks = total(problem.looks(n, classes, stages))
        seeding, iterating = self.costs([problem.seeds(n, classes, first), looks])
        templates = yield from portion(self.seeds(first, classes), *seeding)
        return (yield from portion(self.iterate(stages, classes, templates), *iterating))

    def seeds(self, stage: Stage, classes: int) -> Work[Templates]:
        """First templates: the references, then single particles, as the input turns them where it does."""
        known = self.references.templates() if self.references is not None else None
        if known is not None and len(known) >= classes:
            return known

        def look(pool: Observations, rows: torch.Tensor, template: Templates) -> Work[Posterior]:
            return self.part(rows).expect(pool, template, stage, None)

        data, frames = self.data(stage.limit), self.anchors.rotation if self.anchors is not None else None
        return (yield from seed_templates(data, classes, self.mask, look, frames, self.generator, known))

    def divide(self, start: Posterior, stage: Stage, classes: int) -> Work[Posterior]:
        """From one class in known poses to ``classes``, split in two again and again where their particles differ."""
        posterior, left, data = start, 1, self.data(stage.limit)
        rounds = max(1, int(np.ceil(np.log2(classes))))
        for done in range(rounds):
            if left < classes:
                posterior = split(data, posterior, self.average(data, posterior, left))
                left *= 2
            templates = self.average(data, posterior, left)
            work = self.expect(data, templates, stage, posterior)
            posterior = yield from portion(work, done / rounds, (done + 1) / rounds)
            posterior = centred(posterior, left, self.symmetry)
        count = torch.zeros(left, device=self.device).index_add_(0, posterior.label, posterior.weight)
        return relabel(posterior, sorted(count.topk(classes).indices.tolist()))

    def iterate(self, stages: tuple[Stage, ...], classes: int, start: Posterior | Templates) -> Work[Posterior]:
        """Expectation-maximisation through ``stages``, at least once; previews after each iteration."""
        posterior = start if isinstance(start, Posterior) else None
        templates = start if isinstance(start, Templates) else None
        spans = iter(self.costs(self.problem.looks(len(self.prepared), classes, stages)))
        done = 0
        for stage in stages:
            if done and self.enough.leave_out(*FEWER_ITERATIONS):
                break
            data = self.data(stage.limit)
            for _ in range(stage.iterations):
                if done and self.enough.leave_out(*FEWER_ITERATIONS):
                    break
                if posterior is not None:
                    templates = self.average(data, posterior, classes)
                assert templates is not None
                posterior = yield from portion(self.expect(data, templates, stage, posterior), *next(spans))
                posterior = centred(posterior, classes, self.symmetry)
                self._learn_sigma(posterior)
                done += 1
                yield self.preview(templates, posterior, done)
        assert posterior is not None
        return posterior

    def settle(self, stage: Stage, start: Posterior, many: int, classes: int | None) -> Work[tuple[Posterior, int]]:
        """Reduce ``many`` classes to ``classes`` (None: to those worth having), with a chance for hidden contents.

        Weigh the classes and drop the dispensable; split each in two; weigh again and drop again. They are weighed at
        least once.
        """
        data, posterior, left = self.data(stage.limit), start, many
        wanted = min(classes or EXPECTED_CLASSES, many)
        spans = self.costs(self.problem.weighings(len(self.prepared), many, wanted, stage))
        for number, ((begin, end), divide) in enumerate(zip(spans, (False, True, False), strict=True), 1):
            if divide and self.enough.leave_out(*NO_SPLIT):
                break
            if divide:
                posterior = split(data, posterior, self.average(data, posterior, left))
                left *= 2
            sums = self.sums(data, posterior, left)
            templates = maximise(sums, self.mask)
            after = yield from portion(self.expect(data, templates, stage, posterior), begin, end)
            # A split is first tried out: half-way classes are only dropped once they moved.
            scores = fair_scores(data, posterior, after, sums, templates)
            kept = list(range(left)) if divide else self.team.of_first(eliminate(scores, classes))
            posterior, left = centred(relabel(after, kept), len(kept), self.symmetry), len(kept)
            yield self.preview(templates, after, number)
        return posterior, left

    def check(self, plan: Plan, start: Posterior, many: int, classes: int) -> Work[Posterior]:
        """A half brought to ``classes`` classes as the whole is, every particle in one of them."""
        n, problem = len(self.prepared), self.problem
        weighings = total(problem.weighings(n, many, classes, plan.weigh))
        settling, iterating = self.costs([weighings, total(problem.looks(n, classes, plan.settle))])
        posterior, left = yield from portion(self.settle(plan.weigh, start, many, classes), *settling)
        return (yield from portion(self.iterate(plan.settle, left, posterior), *iterating))

    def preview(self, templates: Templates, posterior: Posterior, iteration: int) -> Preview:
        """The templates as volumes, with the number of particles of each."""
        counts = torch.zeros(len(templates), device=self.device).index_add_(0, posterior.label, posterior.weight)
        return Preview(templates.volumes.cpu().numpy(), counts.cpu().numpy(), iteration)

    def _learn_sigma(self, posterior: Posterior) -> None:
        """Spread of the shifts, from the particles themselves."""
        square = (posterior.weight[:, None] * posterior.shift**2).sum() / (3 * posterior.weight.sum())
        self.sigma = float(square.sqrt().clamp(0.5, max(0.5, self.geometry.max_shift / 2)))


@dataclass(frozen=True)
class Discovery:
    """What the search found.

    Attributes
    ----------
    posterior : over class and pose, every particle
    halves : (2,) sums of each half's classes on the whole band, placed on the joint classes and on each other; empty
        where there are none
    agreement : of the two halves, or None
    junk : (n,) bool, particles that fit no class of the other half better than decoys
    sigma : voxels, spread of the shifts per axis
    """

    posterior: Posterior
    halves: tuple[Sums, ...]
    agreement: Agreement | None
    junk: torch.Tensor
    sigma: float


def discover(search: Search, classes: int | None, plan: Plan) -> StagedWork[Discovery]:
    """Find classes and poses from nothing; yields (stage in words, fraction of it) and previews.

    The halves never see each other: their classes meet only in the joint run, which gives the result, and in the
    comparison, which gives its resolution.
    """
    rows = split_halves(len(search.prepared), search.generator, search.prepared.subset_number)
    halves = [search.part(r.to(search.device)) for r in rows]
    many = over_cluster(classes, min(len(r) for r in rows))
    if search.references is not None:
        # Classes beyond those that are wanted could take the place of a reference, and its frame with it.
        classes = many = max(classes or 1, len(search.references))
    found: list[Posterior] = []
    for number, half in enumerate(halves, 1):
        if found and search.enough.leave_out(*ONE_HALF):
            break
        found.append((yield from named(f"searching half {number} of 2", half.first(many, plan.explore))))
    search.sigma = sum(h.sigma for h in halves[: len(found)]) / len(found)
    if len(found) == 2:
        union, count = pool(found[0], found[1], rows, many), 2 * many
    else:
        placing = _placed(search, halves[0], found[0], many, plan.explore[0])
        union, count = (yield from named("settling classes", placing)), many
    settled, kept = yield from named("settling classes", search.settle(plan.weigh, union, count, classes))
    checks: list[Posterior] = []
    for number, (half, start) in enumerate(zip(halves, found, strict=False), 1):
        if search.enough.leave_out(*NOT_COMPARED):
            break
        checks.append((yield from named(f"checking half {number} of 2", half.check(plan, start, many, kept))))
    posterior = yield from named("refining classes", search.iterate(plan.settle, kept, settled))
    posterior = onto_references(search, posterior, plan.weigh)
    if len(checks) < 2 or search.enough.leave_out(*NOT_COMPARED):
        return Discovery(posterior, (), None, torch.zeros(len(posterior), dtype=torch.bool), search.sigma)
    return (yield from named("comparing halves", _compare(search, posterior, rows, halves, checks, plan)))


def _placed(search: Search, half: Search, found: Posterior, classes: int, stage: Stage) -> Work[Posterior]:
    """All particles on the classes that were ``found`` in one half of them."""
    templates = half.average(half.data(stage.limit), found, classes)
    placed = yield from portion(search.expect(search.data(stage.limit), templates, stage, None), 0.0, 0.3)
    return centred(placed, classes, search.symmetry)


def _compare(
    search: Search,
    posterior: Posterior,
    rows: tuple[torch.Tensor, torch.Tensor],
    halves: list[Search],
    checks: list[Posterior],
    plan: Plan,
) -> Work[Discovery]:
    """Correlate the halves' averages, and score each half's particles under the other half's classes and decoys."""
    data, stage = search.data(plan.weigh.limit), plan.weigh
    classes, joint = posterior.class_score.shape[1], posterior.best().label
    how = search.alignment(data, stage)
    target = search.average(data, posterior, classes)
    placed: list[Posterior] = []
    for i, (half, found, part) in enumerate(zip(halves, checks, rows, strict=True)):
        work = onto_classes(target, half, stage, found, joint[part.to(joint.device)], how)
        placed.append((yield from portion(work, 0.1 * i, 0.1 * i + 0.1)))

    def sums(i: int, posterior: Posterior) -> Sums:
        return halves[i].sums(halves[i].prepared.data, posterior, classes)

    first = sums(0, placed[0])
    comparison = compare_halves(first, sums(1, placed[1]), search.mask, how, search.generator)
    agreement, onto_first = yield from portion(comparison, 0.2, 0.4)
    second = sums(1, laid(placed[1], onto_first))
    margins = torch.zeros(len(posterior))
    for i, half in enumerate(halves):
        others = halves[1 - i].data(stage.limit)
        templates = halves[1 - i].average(others, checks[1 - i], checks[1 - i].class_score.shape[1])
        false = decoy_templates(templates, search.mask, others.band, search.symmetry, search.generator)
        seen, start = half.data(stage.limit), 0.4 + 0.3 * i
        real = yield from portion(half.expect(seen, templates, stage, checks[i]), start, start + 0.15)
        fake = yield from portion(half.expect(seen, false, stage, checks[i]), start + 0.15, start + 0.3)
        margins[rows[i]] = (real.log_evidence - fake.log_evidence).cpu()
    agreement, junk = judged(agreement, margins, joint)
    return Discovery(posterior, (first, second), agreement, junk, search.sigma)
