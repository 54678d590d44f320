"""Runs on more images than fit in memory.

The source is read once, in the order in which it lies, into a file of small numbers (``store``). A sample by chance is
searched and learned from, as if it were all there is. Then every particle is placed on the classes of the sample,
portion by portion, and the sums of each class grow; templates of all particles then refine all poses, in another pass.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from napari_harmony.engine.assembly import Findings, Placement
from napari_harmony.engine.classes import centred
from napari_harmony.engine.defocus import Defocus, find_defocus, with_defocus
from napari_harmony.engine.discovery import Discovery, Search
from napari_harmony.engine.enough import ONLY_NEAR
from napari_harmony.engine.events import Event, Preview
from napari_harmony.engine.geometry import name_of
from napari_harmony.engine.harvest import Barn, Harvest, gathered
from napari_harmony.engine.learning import content_of, group_content, propose, warm_up
from napari_harmony.engine.onto_model import averages_of, on_basis, proposed, with_classes
from napari_harmony.engine.placing import (
    Look,
    harvest_of,
    junk_of,
    look_at,
    looks_of,
    part_of,
    picture,
    placed,
    refined_of,
    refinement,
    slices,
    told,
)
from napari_harmony.engine.plans import PLANS, REFINE_BAND, grouping_bands
from napari_harmony.engine.portions import Portions, cache_folder, in_words, peak_memory, portions_of
from napari_harmony.engine.posteriors import certain, known_poses
from napari_harmony.engine.preprocess import Prepared
from napari_harmony.engine.refine import Refined, with_poses
from napari_harmony.engine.run import LEAST_PARTICLES, Run
from napari_harmony.engine.search import Posterior, Sums, Templates, maximise
from napari_harmony.engine.steerable import SteerableBasis
from napari_harmony.engine.store import Store, drawn, stored
from napari_harmony.engine.work import Work, finish, portion
from napari_harmony.errors import InputError
from napari_harmony.models import HarmonyModel
from napari_harmony.results import Result


@dataclass(frozen=True)
class _Classes:
    """The classes that particles are placed on.

    Attributes
    ----------
    looks : at them, from coarse to fine
    count : how many
    sigma : pixels, spread of the shifts per axis
    model : that proposes content and poses, or None
    near : the first look is near the poses proposed
    start : poses known before, of all particles in the order of their portions, or None
    """

    looks: list[Look]
    count: int
    sigma: float
    model: HarmonyModel | None = None
    near: bool = False
    start: Posterior | None = None


@dataclass(frozen=True)
class _Located:
    """All particles that can be used, portion by portion, and what was found of them.

    Attributes
    ----------
    portions : rows of each portion
    each : numbers of each particle, as ``placing.told`` names them
    sums : of each class on the bands that were asked for
    """

    portions: list[np.ndarray]
    each: dict[str, torch.Tensor]
    sums: tuple[Sums, ...]

    @property
    def rows(self) -> np.ndarray:
        """(m,) input rows."""
        return np.concatenate(self.portions)

    @property
    def posterior(self) -> Posterior:
        """Sure of the best class and pose of each particle."""
        return certain(*(self.each[name] for name in ("psi", "shift", "label")))

    @property
    def placement(self) -> Placement:
        """Classes, and how sure they are."""
        return Placement(*(self.each[name].numpy() for name in ("label", "probability", "flip_odds")))


@dataclass(frozen=True)
class _Settled:
    """All particles, and the classes that they are to be refined on.

    Attributes
    ----------
    located : where the particles are
    templates, basis : the classes, and the basis that they are given on
    junk : (n,) particles that no class is averaged from
    sigma : pixels, spread of the shifts per axis
    """

    located: _Located
    templates: Templates
    basis: SteerableBasis
    junk: torch.Tensor
    sigma: float


class StreamedRun(Run):
    """The stages of a run on images of which a portion is in memory at a time."""

    def fit(self) -> Generator[Event, None, tuple[Result, HarmonyModel]]:
        """Classes from a sample, which the network learns, and the poses of all particles on them."""
        self._expect("fit")
        warm_up()
        with closing((yield from self._stored())) as store:
            sample = drawn(store, self.portions.sample, self.settings.seed)
            found, classes = yield from self._searched(store, sample)
            fine = self._search_on_nothing(store).basis(REFINE_BAND[self.settings.preset])
            located = yield from self._located(store, classes, [fine])
            junk = junk_of(found, sample, located.rows, located.each["margin"])
            templates = maximise(fine, located.sums[0])
            findings = yield from self._finished(store, _Settled(located, templates, fine, junk, found.sigma))
            findings = replace(findings, agreement=found.agreement)
            result = yield from self._told(
                store, findings, {"sample": len(sample), "resolution_particles": len(sample)}
            )
        assert classes.model is not None
        return result, with_classes(classes.model, store.geometry.box, findings)

    def apply(self, model: HarmonyModel) -> Generator[Event, None, Result]:
        """Place every particle on the classes of a trained model."""
        self._expect("apply", model.card.classes)
        with closing((yield from self._stored())) as store:
            search = self._search_on_nothing(store)
            averages, band = averages_of(model, search, name_of(self.particles))
            yield from self.clock.follow("preparing the search", search.ready((band, np.inf)))
            basis = search.basis(band)
            templates, quick = on_basis(averages, model, basis), self.settings.preset == "fast"
            classes = _Classes([Look(basis, templates, quick)], len(templates), search.sigma, model, quick)
            located = yield from self._located(store, classes, [])
            junk = torch.zeros(len(located.rows), dtype=torch.bool)
            findings = yield from self._finished(store, _Settled(located, templates, basis, junk, search.sigma))
            return (yield from self._told(store, replace(findings, numbered=True), {}))

    def cluster(self, result: Result) -> Generator[Event, None, Result]:
        """Group content codes anew, and let particles and averages settle on the new classes."""
        self._expect("cluster")
        codes = content_of(result, self.particles)
        with closing((yield from self._stored())) as store:
            portions = store.portions(self.portions.portion)
            rows = np.concatenate(portions)
            work = group_content(codes[rows], self.settings.classes, self.settings.seed)
            label = yield from self.clock.follow("grouping", work)
            count = int(label.max()) + 1
            start = centred(known_poses(result.table.iloc[rows], label, store.geometry.scale, self.device), count)
            search, preset = self._search_on_nothing(store), self.settings.preset
            stages = PLANS[preset].refine
            yield from self.clock.follow("preparing the search", search.ready(grouping_bands(preset)))
            basis, sigma = search.basis(stages[0].limit), _spread(start, store)
            sums = yield from self.clock.follow("averaging", self._summed(store, portions, start, basis, count))
            for number, stage in enumerate(stages, 1):
                looks = [look_at(basis, sums, stage.local, None)]
                limit = stages[number].limit if number < len(stages) else REFINE_BAND[preset]
                basis = search.basis(limit)
                located = yield from self._located(store, _Classes(looks, count, sigma, start=start), [basis])
                start, sums = located.posterior, located.sums[0]
            templates = maximise(basis, sums)
            flags = result.table["flags"].fillna("").str.contains("junk").to_numpy(dtype=bool)
            junk = torch.as_tensor(flags[rows])
            findings = yield from self._finished(store, _Settled(located, templates, basis, junk, sigma))
            findings = replace(findings, content=codes[rows].astype(np.float32))
            return (yield from self._told(store, findings, {}))

    @property
    def portions(self) -> Portions:
        """How the particles are divided."""
        portions = portions_of(self.particles, self.settings)
        assert portions is not None, "these particles fit in memory"
        return portions

    def _stored(self) -> Generator[Event, None, Store]:
        """All particles on disk; says first how much of it they take."""
        room = f"{in_words(self.portions.disk)} in {cache_folder(self.settings)} until the run ends"
        yield replace(self.clock.at("reading", 0.0), message=room)
        store: Store = yield from self.clock.follow(
            "reading", stored(self.particles, self.settings, self.device, self.team)
        )
        if int(store.usable.sum()) < LEAST_PARTICLES:
            store.close()
            raise InputError(
                f"{name_of(self.particles)}: only {int(store.usable.sum())} images hold a finite signal of their own; "
                f"at least {LEAST_PARTICLES} are needed."
            )
        return store

    def _searched(self, store: Store, sample: np.ndarray) -> Generator[Event, None, tuple[Discovery, _Classes]]:
        """What the search finds in a sample, the network that learns it, and the looks at all others."""
        store.passes += 1
        usable = yield from self.clock.follow("drawing a sample", self._share_of(store, sample))
        for values in (usable.samples, usable.ctf):
            self.team.complete(values)
        found = yield from self.discover(usable)
        card, seeds = self.lesson(usable, found)
        model = yield from self.clock.follow("training", self._train(usable, card, seeds))
        search = self.search(usable)
        decoys = None if found.agreement is None else torch.Generator().manual_seed(self.settings.seed)
        work = looks_of(search, found.posterior, len(found.sums), PLANS[self.settings.preset], decoys)
        looks = yield from self.clock.follow("averaging", work)
        return found, _Classes(looks, len(found.sums), found.sigma, model)

    def _share_of(self, store: Store, rows: np.ndarray) -> Work[Prepared]:
        """Particles, of which this process looks at its share alone."""
        return store.preparing(rows, self.team.share(len(rows)))

    def _search_on_nothing(self, store: Store) -> Search:
        """A search on particles of this geometry, for its bases and what it takes for granted."""
        return self.search(finish(store.preparing(np.zeros(0, np.int64))))

    def _located(
        self, store: Store, classes: _Classes, bases: list[SteerableBasis]
    ) -> Generator[Event, None, _Located]:
        """Every particle on one of the classes, and the sums of these on the bands of ``bases``."""
        portions = store.portions(self.portions.portion)

        parts = list(slices([len(rows) for rows in portions]))

        def look(number: int) -> Work[Harvest]:
            near = None if classes.start is None else part_of(classes.start, parts[number], self.device)
            return self._placed(store, portions[number], near, classes, bases)

        def show(sums: Sequence[Sums], number: int) -> Preview:
            return picture(bases[0], sums[0], store.geometry.box, number)

        work = self._through(store, "placed", portions, look, show if bases else None)
        harvest = yield from self.clock.follow("placing particles", work)
        return _Located(portions, harvest.each, harvest.sums)

    def _placed(
        self,
        store: Store,
        rows: np.ndarray,
        near: Posterior | None,
        classes: _Classes,
        bases: list[SteerableBasis],
    ) -> Work[Harvest]:
        """The particles of a portion on the classes."""
        prepared = yield from portion(self._share_of(store, rows), 0.0, 0.05)
        search, model = self.search(prepared), classes.model
        search.sigma = classes.sigma
        proposals, looks = None, classes.looks
        if model is not None:
            proposals = yield from portion(propose(model, prepared, self.team), 0.05, 0.1)
            if classes.near or self.enough.leave_out(*ONLY_NEAR):
                near = proposed(proposals, store.geometry.box / model.card.box)
                middle = looks[len(looks) // 2]
                looks = [replace(middle, local=True, decoys=None)]
        posterior, margin = yield from portion(placed(search, looks, near), 0.1, 0.9)
        each = told(posterior, classes.count, margin, proposals)
        return (yield from portion(harvest_of(search, each, bases, posterior, classes.count), 0.9, 1.0))

    def _summed(
        self, store: Store, portions: list[np.ndarray], start: Posterior, basis: SteerableBasis, classes: int
    ) -> Work[Sums]:
        """Sums of the classes of all particles in known poses, ``start``, in the order of the portions."""
        parts = list(slices([len(rows) for rows in portions]))

        def look(number: int) -> Work[Harvest]:
            prepared = yield from portion(self._share_of(store, portions[number]), 0.0, 0.5)
            here = part_of(start, parts[number], self.device)
            each = {"label": here.label.cpu()}
            return (yield from portion(harvest_of(self.search(prepared), each, [basis], here, classes), 0.5, 1.0))

        return (yield from self._through(store, "summed", portions, look)).sums[0]

    def _finished(self, store: Store, settled: _Settled) -> Generator[Event, None, Findings]:
        """Poses refined on the templates of all particles, and averages on the whole band."""
        work, located = self._polished(store, settled), settled.located
        refined, sums, defocus = yield from self.clock.follow("refining poses", work)
        full, count = self._search_on_nothing(store).basis(np.inf), len(located.rows)
        content = located.each.get("content", torch.zeros(count, 0))
        scaled = "scale" in self.settings.transforms and "scale" in located.each
        return Findings(
            located.rows,
            located.placement,
            refined,
            maximise(full, sums),
            full,
            content.numpy().astype(np.float32),
            located.each["scale"].numpy() if scaled else np.ones(count, np.float32),
            settled.junk.numpy(),
            None,
            defocus=defocus,
        )

    def _polished(self, store: Store, settled: _Settled) -> Work[tuple[Refined, Sums, Defocus | None]]:
        """Refined poses, the sums of the classes on the whole band, and defocus where it was asked for."""
        located, basis = settled.located, settled.basis
        portions, full = located.portions, self._search_on_nothing(store).basis(np.inf)
        parts = list(slices([len(rows) for rows in portions]))
        member = ~settled.junk if not bool(settled.junk.all()) else settled.junk
        focus = "defocus" in self.settings.transforms and self.particles.ctf is not None

        def best(number: int) -> Posterior:
            return part_of(located.posterior, parts[number], self.device)

        def look(number: int) -> Work[Harvest]:
            prepared = yield from portion(self._share_of(store, portions[number]), 0.0, 0.1)
            start = best(number)
            refined = yield from portion(
                self._polish(prepared, settled.templates, basis, start, settled.sigma), 0.1, 0.8
            )
            chosen = with_poses(start, refined).only(member[parts[number]].to(self.device))
            work = harvest_of(
                self.search(prepared), refinement(refined), [basis if focus else full], chosen, len(settled.templates)
            )
            return (yield from portion(work, 0.8, 1.0))

        end = 0.6 if focus else 1.0
        harvest = yield from portion(self._through(store, "refined", portions, look), 0.0, end)
        refined = refined_of(harvest.each)
        if not focus:
            return refined, harvest.sums[0], None

        def focused(number: int) -> Work[Harvest]:
            part = parts[number]
            there = replace(
                best(number), psi=refined.psi[part].to(self.device), shift=refined.shift[part].to(self.device)
            )
            kept = member[part].to(self.device)
            return self._focused(store, portions[number], harvest.sums[0], there, kept, basis, full)

        work = self._through(store, "focused", portions, focused)
        last = yield from portion(work, end, 1.0)
        return refined, last.sums[0], Defocus(last.each["offset"], last.each["spread"])

    def _focused(
        self,
        store: Store,
        rows: np.ndarray,
        sums: Sums,
        there: Posterior,
        member: torch.Tensor,
        basis: SteerableBasis,
        full: SteerableBasis,
    ) -> Work[Harvest]:
        """The defocus of a portion in its poses, and its sums under the CTF found."""
        assert self.particles.ctf is not None
        prepared = yield from portion(store.preparing(rows), 0.0, 0.1)
        parameters, contrast = self.particles.ctf.subset(rows), "contrast" in self.settings.transforms
        data = prepared.observe(basis)
        work = find_defocus(prepared, parameters, data, sums, there, member, free_contrast=contrast)
        defocus = yield from portion(work, 0.1, 0.8)
        each = {"offset": defocus.offset.cpu(), "spread": defocus.spread.cpu()}
        seen = self.search(with_defocus(prepared, parameters, defocus.offset))
        return (yield from portion(harvest_of(seen, each, [full], there.only(member), len(sums)), 0.8, 1.0))

    def _through(
        self, store: Store, name: str, portions: list[np.ndarray], look: Any, show: Any = None
    ) -> Work[Harvest]:
        """One pass over all particles; what an interrupted run has of it is taken up."""
        store.passes += 1
        barn = Barn(self.folder, name, str(self.device))
        sizes = [len(rows) for rows in portions]
        resume = self.team.agreed(self.resume)

        def keeping() -> bool:
            return self.team.first and not self.enough.warnings

        return (yield from gathered(sizes, look, barn, resume, keeping=keeping, show=show))

    def _told(self, store: Store, findings: Findings, more: dict[str, Any]) -> Generator[Event, None, Result]:
        """The result, with how the data set was gone through."""
        result = yield from self._result(store, findings)
        large = {
            **more,
            "portion": self.portions.portion,
            "cache_bytes": self.portions.disk,
            "passes": 1 + store.passes,
            "memory": self.settings.memory,
            "peak_memory": peak_memory(),
        }
        return replace(result, summary={**result.summary, "large": large})


def _spread(start: Posterior, store: Store) -> float:
    """Standard deviation of the shifts of known poses, in pixels per axis."""
    return float((0.5 * start.shift.square().sum(1).mean()).sqrt().clamp(0.5, max(0.5, store.geometry.max_shift / 2)))
