"""From prepared particles to content classes and poses, without references: search halves, join, settle, refine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch

from napari_harmony.engine.bases import BASES
from napari_harmony.engine.classes import best_pairs, centred, eliminate, fair_scores, pool, relabel, split
from napari_harmony.engine.costs import seconds_of
from napari_harmony.engine.counts import EXPECTED_CLASSES, Counts, Problem, total
from napari_harmony.engine.enough import FEWER_ITERATIONS, NO_SPLIT, NOT_COMPARED, ONE_HALF, Enough
from napari_harmony.engine.events import Preview
from napari_harmony.engine.geometry import Geometry
from napari_harmony.engine.halves import Agreement, compare_halves, decoy_templates, judged
from napari_harmony.engine.plans import Plan, Stage, over_cluster
from napari_harmony.engine.preprocess import Prepared
from napari_harmony.engine.search import (
    Arithmetic,
    Grid,
    Observations,
    Posterior,
    Sums,
    Templates,
    accumulating,
    expect,
    maximise,
    pose_grid,
)
from napari_harmony.engine.seeding import seed_templates
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.steerable import SteerableBasis
from napari_harmony.engine.subsets import split as split_halves
from napari_harmony.engine.team import ALONE, Team
from napari_harmony.engine.work import StagedWork, Work, finish, named, portion, shares


@dataclass(frozen=True)
class Discovery:
    """What the search found, on the band of ``basis``.

    Attributes
    ----------
    posterior : over class and pose, every particle
    sums : of each class
    agreement : of two independent halves, or None where there were none
    junk : (n,) bool, particles that fit no class of the other half better than decoys
    sigma : pixels, spread of the shifts per axis
    """

    posterior: Posterior
    sums: Sums
    basis: SteerableBasis
    agreement: Agreement | None
    junk: torch.Tensor
    sigma: float


class Search:
    """The stages of a search on one set of prepared particles."""

    def __init__(
        self,
        prepared: Prepared,
        arithmetic: Arithmetic,
        generator: torch.Generator,
        transforms: tuple[str, ...] = ("rotation", "translation"),
        enough: Enough | None = None,
        team: Team = ALONE,
    ) -> None:
        self.transforms, self.enough, self.team = transforms, enough or Enough(), team
        self.prepared, self.arithmetic, self.generator = prepared, arithmetic, generator
        self.geometry: Geometry = prepared.geometry
        self.device = prepared.samples.device
        self.sigma = max(1.0, self.geometry.max_shift / 3)
        self._observed: Observations | None = None

    @property
    def rows(self) -> slice:
        """The particles that this process looks at."""
        return self.team.share(len(self.prepared))

    def observe(self, basis: SteerableBasis) -> Observations:
        """The particles of this process on a band; the last band is kept."""
        if self._observed is None or self._observed.basis is not basis:
            self._observed = None  # before there are two
            self._observed = self.prepared.subset(self.rows).observe(basis)
        return self._observed

    def costs(self, operations: Iterable[Counts]) -> list[tuple[float, float]]:
        """Portions of a stage in proportion to what its steps are expected to take."""
        return shares(seconds_of(done) for done in operations)

    @property
    def problem(self) -> Problem:
        """The particles as they are counted."""
        return Problem(len(self.prepared), self.geometry, Settings(transforms=self.transforms))

    def part(self, rows: torch.Tensor) -> Search:
        """The search on some of the particles."""
        also = (self.transforms, self.enough, self.team)
        return Search(self.prepared.subset(rows), self.arithmetic, self.generator, *also)

    def basis(self, limit: float) -> SteerableBasis:
        """The basis up to ``limit`` cycles per mask diameter (at most to just below Nyquist)."""
        return finish(self.built(limit))

    def built(self, limit: float) -> Work[SteerableBasis]:
        """:meth:`basis`, yielding while it is built."""
        cycles = round(self.problem.cycles(limit), 1)
        return BASES.get(self.geometry.box, self.geometry.mask_radius, cycles, str(self.device))

    def ready(self, limits: Iterable[float]) -> Work[None]:
        """Build the bases that a search will need."""
        # Limits beyond Nyquist are one.
        wanted = {round(self.problem.cycles(limit), 1): limit for limit in limits}
        limits = [wanted[cycles] for cycles in sorted(wanted)]
        for limit, span in zip(limits, self.costs(self.problem.bases(limits)), strict=True):
            yield from portion(self.built(limit), *span)

    def grid(self, basis: SteerableBasis, local: bool) -> Grid:
        """Poses fine enough for the band of ``basis``."""
        cycles = basis.band.limit
        step = self.geometry.box / (4 * cycles)
        reach = min(2.2 * step if local else max(4 * self.sigma, 2 * step), self.geometry.max_shift)
        # A multiple of four, so that an image turned by a quarter is searched at the same poses as it was.
        rotations = 4 * int(np.ceil(1.5 * cycles)) if "rotation" in self.transforms else 1
        return pose_grid(rotations, reach if "translation" in self.transforms else 0.0, step, self.sigma, self.device)

    def expect(
        self, templates: Templates, basis: SteerableBasis, local: bool, near: Posterior | None
    ) -> Work[Posterior]:
        """One expectation step over the whole shift range, or around the shifts of ``near``."""
        centre = torch.zeros(len(self.prepared), 2, device=self.device)
        if local and near is not None:
            best = near.best()
            centre = best.shift
        data, rows = self.observe(basis), self.rows
        found = yield from expect(data, templates, self.grid(basis, local), centre[rows], self.arithmetic)
        return self.team.gather(replace(found, particle=found.particle + rows.start))

    def average(self, basis: SteerableBasis, posterior: Posterior, classes: int) -> Work[Sums]:
        """What all particles say of each class in the poses of ``posterior``."""
        mine = posterior if self.team.size == 1 else posterior.subset(self._numbers())
        return self.team.sum((yield from accumulating(self.observe(basis), mine, classes)))

    def _scores(
        self, basis: SteerableBasis, before: Posterior, after: Posterior, sums: Sums, templates: Templates
    ) -> torch.Tensor:
        """Scores (n, k) by which classes are weighed."""
        if self.team.size > 1:
            before, after = before.subset(self._numbers()), after.subset(self._numbers())
        return self.team.gather(fair_scores(self.observe(basis), before, after, sums, templates))

    def _numbers(self) -> torch.Tensor:
        """Of the particles that this process looks at."""
        return torch.arange(self.rows.start, self.rows.stop, device=self.device)

    def seed(self, classes: int, stage: Stage) -> Work[Templates]:
        """First templates on the band of ``stage``."""
        basis = self.basis(stage.limit)
        data = self.prepared.observe(basis)
        return (
            yield from seed_templates(
                data, classes, self.grid(basis, False), self.generator, self.team, self.arithmetic
            )
        )

    def explore(self, classes: int, plan: Plan) -> Work[Posterior]:
        """Search from random particles to ``classes`` classes."""
        n, problem, stage = len(self.prepared), self.problem, plan.explore[0]
        looks = total(problem.looks(n, classes, plan.explore))
        seeding, iterating = self.costs([problem.seeds(n, classes, stage.limit), looks])
        templates = yield from portion(self.seed(classes, stage), *seeding)
        return (yield from portion(self.iterate(plan.explore, classes, templates), *iterating))

    def iterate(self, stages: tuple[Stage, ...], classes: int, start: Posterior | Templates) -> Work[Posterior]:
        """Expectation-maximisation through ``stages``, at least once; previews after each iteration."""
        posterior = start if isinstance(start, Posterior) else None
        templates = start if isinstance(start, Templates) else None
        spans = iter(self.costs(self.problem.looks(len(self.prepared), classes, stages)))
        done = 0
        for stage in stages:
            if done and self.enough.leave_out(*FEWER_ITERATIONS):
                break
            basis = self.basis(stage.limit)
            for _ in range(stage.iterations):
                if done and self.enough.leave_out(*FEWER_ITERATIONS):
                    break
                begin, end = next(spans)
                if posterior is not None:
                    sums = yield from portion(self.average(basis, posterior, classes), begin, begin)
                    templates = maximise(basis, sums)
                assert templates is not None
                found = yield from portion(self.expect(templates, basis, stage.local, posterior), begin, end)
                posterior = centred(found, classes)
                self._learn_sigma(posterior)
                done += 1
                yield self.preview(templates, basis, posterior, done)
        assert posterior is not None
        return posterior

    def settle(
        self, bands: tuple[float, ...], start: Posterior, many: int, classes: int | None
    ) -> Work[tuple[Posterior, int]]:
        """Reduce ``many`` classes to ``classes`` (None: to those worth having), with a chance for hidden contents.

        Per band: weigh the classes and drop the dispensable; split each in two; weigh again and drop again. They are
        weighed at least once.
        """
        posterior, left = start, many
        wanted = min(classes or EXPECTED_CLASSES, many)
        spans = iter(self.costs(self.problem.weighings(len(self.prepared), many, wanted, bands)))
        for i, limit in enumerate(bands):
            basis = self.basis(limit)
            for divide in (False, True, False) if i == 0 else (True, False):
                if divide and self.enough.leave_out(*NO_SPLIT):
                    return posterior, left
                if divide:
                    templates = maximise(basis, finish(self.average(basis, posterior, left)))
                    posterior, left = split(self.prepared.observe(basis), posterior, templates, self.team), 2 * left
                begin, end = next(spans)
                sums = yield from portion(self.average(basis, posterior, left), begin, begin)
                templates = maximise(basis, sums)
                after = yield from portion(self.expect(templates, basis, True, posterior), begin, end)
                scores = self._scores(basis, posterior, after, sums, templates)
                # A split is first tried out: half-way classes are only dropped below what is wanted once they moved.
                kept = list(range(left)) if divide else self.team.of_first(eliminate(scores, classes))
                posterior, left = centred(relabel(after, kept, left), len(kept)), len(kept)
                yield self.preview(templates, basis, after, i)
        return posterior, left

    def check(self, bands: tuple[float, ...], start: Posterior, many: int, classes: int) -> Work[tuple[Posterior, int]]:
        """:meth:`settle`, with every particle in one of the classes that stay, as it is in the joint run."""
        last, n = (Stage(bands[-1], 1, local=True),), len(self.prepared)
        weighings = total(self.problem.weighings(n, many, classes, bands))
        settling, iterating = self.costs([weighings, *self.problem.looks(n, classes, last)])
        posterior, left = yield from portion(self.settle(bands, start, many, classes), *settling)
        return (yield from portion(self.iterate(last, left, posterior), *iterating)), left

    def _learn_sigma(self, posterior: Posterior) -> None:
        """Spread of the shifts, from the particles themselves."""
        square = (posterior.weight[:, None] * posterior.shift**2).sum() / (2 * posterior.weight.sum())
        self.sigma = float(square.sqrt().clamp(0.5, max(0.5, self.geometry.max_shift / 2)))

    def preview(self, templates: Templates, basis: SteerableBasis, posterior: Posterior, iteration: int) -> Preview:
        """The templates as images, with the number of particles of each."""
        images = render_averages(basis, templates.coefficients, self.geometry.box)
        counts = posterior.class_weights(len(templates)).sum(0)
        return Preview(images.cpu().numpy(), counts.cpu().numpy(), iteration)


def render_averages(basis: SteerableBasis, coefficients: torch.Tensor, box: int) -> torch.Tensor:
    """Images (k, box, box) of coefficient vectors (k, size)."""
    spectrum = torch.zeros(len(coefficients), box, box // 2 + 1, dtype=torch.complex64, device=coefficients.device)
    band = basis.band
    samples = basis.synthesise(coefficients)
    spectrum[:, band.row, band.column] = samples
    # irfft2 reads only half of the fx = 0 column's Friedel pairs: write the other half too.
    edge = band.column == 0
    spectrum[:, -band.row[edge] % box, 0] = samples[:, edge].conj()
    return torch.fft.fftshift(torch.fft.irfft2(spectrum, s=(box, box), norm="ortho"), dim=(1, 2))


def discover(
    search: Search, classes: int | None, plan: Plan, start: Callable[[torch.Tensor, int], Posterior] | None = None
) -> StagedWork[Discovery]:
    """Find classes and poses from nothing; yields (stage in words, fraction of it) and previews.

    With ``start`` each half begins from what it says of the particles in some rows, put into so many classes, instead
    of from random particles; it must know of each particle what that alone shows, or the halves are not independent.

    The halves never see each other: their classes meet only in the joint run, which gives the result, and in the
    comparison, which gives its resolution.
    """
    yield from named("preparing the search", search.ready(plan.bands))
    rows = split_halves(len(search.prepared), search.generator, search.prepared.subset_number)
    halves = [search.part(r.to(search.device)) for r in rows]
    many = over_cluster(classes, min(len(r) for r in rows))
    found: list[Posterior] = []
    for number, half in enumerate(halves, 1):
        if found and search.enough.leave_out(*ONE_HALF):
            break
        first = None if start is None else start(rows[number - 1].to(search.device), many)
        work = half.explore(many, plan) if first is None else half.iterate(plan.explore, many, first)
        found.append((yield from named(f"searching half {number} of 2", work)))
    search.sigma = float(np.mean([h.sigma for h in halves[: len(found)]]))
    if len(found) == 2:
        union, count = pool(found[0], found[1], rows, many), 2 * many
    else:
        union, count = (yield from named("settling classes", _placed(search, halves[0], found[0], plan))), many
    settled, kept = yield from named("settling classes", search.settle(plan.settle, union, count, classes))
    checks: list[tuple[Posterior, int]] = []
    for number, (half, begun) in enumerate(zip(halves, found, strict=False), 1):
        if search.enough.leave_out(*NOT_COMPARED):
            break
        checks.append((yield from named(f"checking half {number} of 2", half.check(plan.settle, begun, many, kept))))
    posterior = yield from named("refining classes", search.iterate(plan.refine, kept, settled))
    compared = len(checks) == 2 and not search.enough.leave_out(*NOT_COMPARED)
    verdict = None
    if compared:
        verdict = yield from named("comparing halves", _compare(search, posterior, rows, halves, checks, plan))
    basis = search.basis(np.inf)
    summing = portion(search.average(basis, posterior, kept), 1.0, 1.0)
    sums = yield from named("comparing halves", summing)
    if verdict is None:
        nothing = torch.zeros(len(search.prepared), dtype=torch.bool)
        return Discovery(posterior, sums, basis, None, nothing, search.sigma)
    margins = torch.zeros(len(search.prepared))
    margins[torch.cat(rows)] = verdict.margins
    agreement, junk = judged(verdict.agreement, margins, posterior.best().label)
    return Discovery(posterior, sums, basis, agreement, junk, search.sigma)


def _placed(search: Search, half: Search, found: Posterior, plan: Plan) -> Work[Posterior]:
    """All particles on the classes that were ``found`` in one half of them."""
    basis, classes = search.basis(plan.explore[0].limit), found.class_score.shape[1]
    templates = maximise(basis, finish(half.average(basis, found, classes)))
    return centred((yield from portion(search.expect(templates, basis, False, None), 0.0, 0.3)), classes)


@dataclass(frozen=True)
class _Verdict:
    """What comparing the halves says; particles in the order first half, second half."""

    agreement: Agreement
    margins: torch.Tensor


def _compare(
    search: Search,
    posterior: Posterior,
    rows: tuple[torch.Tensor, torch.Tensor],
    halves: list[Search],
    checks: list[tuple[Posterior, int]],
    plan: Plan,
) -> Work[_Verdict]:
    """Correlate the halves' averages, and score each half's particles under the other half's classes and decoys."""
    coarse, fine = search.basis(plan.settle[-1]), search.basis(np.inf)
    joint, classes = posterior.best().label, posterior.class_score.shape[1]
    target = maximise(coarse, finish(search.average(coarse, posterior, classes)))
    placed: list[Sums] = []
    for half, (found, _), part in zip(halves, checks, rows, strict=True):
        work = _onto(search, target, coarse, half, found, joint[part.to(joint.device)])
        begin = 0.1 * len(placed)
        turned = yield from portion(work, begin, begin + 0.05)
        placed.append((yield from portion(half.average(fine, turned, classes), begin + 0.05, begin + 0.1)))
    grid = pose_grid(180, 2.0, 0.5, search.sigma, search.device)
    comparison = compare_halves(fine, search.geometry.box, placed[0], placed[1], grid, search.generator, search.team)
    agreement = yield from portion(comparison, 0.2, 0.3)
    evidence, decoy = [], []
    for i, half in enumerate(halves):
        (found, _), (others, count) = checks[i], checks[1 - i]
        templates = maximise(coarse, finish(halves[1 - i].average(coarse, others, count)))
        false = decoy_templates(coarse, templates, search.generator)
        middle = 0.3 + 0.35 * i
        real = yield from portion(half.expect(templates, coarse, True, found), middle, middle + 0.17)
        fake = yield from portion(half.expect(false, coarse, True, found), middle + 0.17, middle + 0.35)
        evidence.append(real.log_evidence.cpu())
        decoy.append(fake.log_evidence.cpu())
    return _Verdict(agreement, torch.cat(evidence) - torch.cat(decoy))


def _onto(
    search: Search, target: Templates, basis: SteerableBasis, half: Search, found: Posterior, joint: torch.Tensor
) -> Work[Posterior]:
    """The posterior of a half with each of its classes placed, as a whole, on a joint class.

    ``joint`` (n,) says in which joint class each particle of the half is. Every class of the half gets a joint class
    of its own, so that as few as possible are left without a half, and as many particles as can be stay in theirs.
    """
    count = found.class_score.shape[1]
    sums = finish(half.average(basis, found, count))
    averages = Observations(basis.synthesise(sums.total), sums.power, basis, search.geometry.box)
    grid = pose_grid(8 * int(np.ceil(basis.band.limit)), search.geometry.max_shift, 1.0, 1e3, search.device)
    even = replace(target, log_share=torch.zeros_like(target.log_share))
    still = torch.zeros(count, 2, device=search.device)
    common = torch.bincount(found.best().label * len(target) + joint, minlength=count * len(target))
    mine, theirs = best_pairs(common.reshape(count, len(target)))
    label = torch.zeros(count, dtype=torch.long, device=search.device)
    label[torch.as_tensor(mine, device=search.device)] = torch.as_tensor(theirs, device=search.device)
    psi, shift = torch.zeros(count, device=search.device), still.clone()
    own = mine[search.team.share(len(mine))]
    for done, k in enumerate(own):
        row = torch.as_tensor([k], device=search.device)
        alone = replace(even, coefficients=even.coefficients[label[k], None], log_share=even.log_share[:1])
        placed = yield from portion(
            expect(averages.subset(row), alone, grid, still[:1], search.arithmetic),
            done / len(own),
            (done + 1) / len(own),
        )
        psi[k], shift[k] = placed.best().psi[0], placed.best().shift[0]
    return _carried(found, label, search.team.sum(psi), search.team.sum(shift))


def _carried(found: Posterior, label: torch.Tensor, psi: torch.Tensor, shift: torch.Tensor) -> Posterior:
    """The posterior with class ``k`` called ``label[k]``, turned by ``psi[k]`` and moved by ``shift[k]``."""
    c, s = torch.cos(found.psi), torch.sin(found.psi)
    x, y = shift[found.label].T
    # The class moves in its own frame, which the particle reaches only after its turn by psi.
    moved = torch.stack([c * x + s * y, c * y - s * x], dim=1)
    return replace(found, label=label[found.label], psi=found.psi + psi[found.label], shift=found.shift + moved)
