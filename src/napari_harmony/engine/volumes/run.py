"""One run of the engine on subtomograms, from stored volumes to a result."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_harmony.engine.clock import Clock
from napari_harmony.engine.costs import ALIKE, Task, expected
from napari_harmony.engine.devices import choose_device, describe_device
from napari_harmony.engine.enough import FEWER_ROUNDS, ONLY_NEAR, Enough
from napari_harmony.engine.events import Event
from napari_harmony.engine.geometry import name_of
from napari_harmony.engine.insight import Traces, with_insight
from napari_harmony.engine.learning import (
    content_of,
    group_content,
    train_network,
    training_state,
    warm_up,
)
from napari_harmony.engine.pace import pace_of
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.team import ALONE, Team
from napari_harmony.engine.volumes.assembly import Findings, assemble
from napari_harmony.engine.volumes.discovery import Discovery, Search, discover
from napari_harmony.engine.volumes.learning import (
    check_published,
    grouped,
    model_templates,
    network_input,
    propose,
    proposed,
    seeds_from,
    volume_card,
    with_classes,
)
from napari_harmony.engine.volumes.plans import BATCH_2022, PLANS, REFINE_BAND, ROUNDS, Plan, beside_and_everywhere
from napari_harmony.engine.volumes.posteriors import better_of, centred, known_poses, occupied
from napari_harmony.engine.volumes.prepare import Prepared, prepare
from napari_harmony.engine.volumes.references import References, load_references
from napari_harmony.engine.volumes.refine import Refined, refine
from napari_harmony.engine.volumes.saved import load_discovery, save_discovery
from napari_harmony.engine.volumes.search import (
    Observations,
    Posterior,
    Templates,
    filtered,
    signal_variance,
    with_poses,
)
from napari_harmony.engine.volumes.shared import shared_refine
from napari_harmony.engine.volumes.start import Anchors, Start, start_of
from napari_harmony.engine.work import Work, portion
from napari_harmony.errors import InputError
from napari_harmony.models import HarmonyModel, VolumeProposals
from napari_harmony.particles.dataset import Particles
from napari_harmony.results import Result

#: Fewer particles than this cannot be split into halves and classes.
LEAST_PARTICLES = 8
INVERTED = (
    "the particles fit the references better with bright and dark exchanged; invert the references, or extract the "
    "subtomograms with the other contrast"
)


class VolumeRun:
    """The stages of one run on one set of subtomograms, each a generator of events."""

    def __init__(
        self,
        particles: Particles,
        settings: Settings,
        checkpoint: Path | None,
        resume: bool,
        enough: threading.Event | None = None,
        team: Team = ALONE,
    ) -> None:
        self.particles, self.settings, self.team = particles, settings, team
        self.folder, self.resume = checkpoint, resume
        self.device = team.device or choose_device(settings.device)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.pace = pace_of(self.device.type)
        self.clock = Clock({}, ALIKE, self.pace.known)
        self.traces = Traces(addition.name for addition in settings.additions)
        self.enough = Enough(enough, team)

    def _expect(self, task: Task, classes: int | None = None) -> None:
        """Tell the clock how long the stages of a task should take; ``classes`` are those of a model."""
        self.clock.weights = expected(self.particles, self.settings, task, classes, self.pace.among(self.team.size))

    def fit(self) -> Generator[Event, None, tuple[Result, HarmonyModel]]:
        """Classes and poses from nothing, and a network that has learned them."""
        published = self.settings.objective == "harmony-2022"
        if published:
            check_published(self.settings)
        self._expect("fit")
        prepared, usable, rows = yield from self._read()
        if published:
            return (yield from self._fit_published(prepared, usable, rows))
        start = self._start(rows, usable)
        if start is not None:
            usable = start.placed(usable)
        anchors = start.anchors if start is not None else None
        references = self._references(usable)
        also = (anchors, self.settings.symmetry, references, self.enough, self.team)
        search = Search(usable, self.generator, self.settings.transforms, *also)
        warnings = yield from self._check_references(search)
        found = yield from self._discover(search)
        model, proposals = yield from self._learn(search, found)
        findings = yield from self.clock.follow("refining poses", self._finish(search, rows, found))
        origin = None if start is None else start.shift.cpu().numpy()
        findings = replace(findings, origin=origin, content=proposals.content_mean.cpu().numpy())
        result = yield from self._result(prepared, findings)
        result = replace(result, summary={**result.summary, "warnings": [*result.warnings, *warnings]})
        return result, with_classes(model, findings)

    def apply(self, model: HarmonyModel) -> Generator[Event, None, Result]:
        """Place every particle on the classes of a trained model."""
        self._expect("apply", model.card.classes)
        prepared, usable, rows = yield from self._read()
        found, search, templates, proposals = yield from self.placed(usable, model)
        # Against the model's own averages: those of the new data would drift from its frame.
        findings = yield from self.clock.follow("refining poses", self._finish(search, rows, found, templates))
        content = proposals.content_mean.cpu().numpy()
        return (yield from self._result(prepared, replace(findings, content=content, numbered=True)))

    def placed(
        self, usable: Prepared, model: HarmonyModel
    ) -> Generator[Event, None, tuple[Discovery, Search, Templates, VolumeProposals]]:
        """The particles on the classes of a model, whose averages and proposals are given too."""
        search = self._search(usable)
        templates = model_templates(model, usable, name_of(self.particles))
        proposals = yield from self.clock.follow("proposing", propose(model, usable, self.team))
        near = proposed(proposals, len(templates), usable.geometry.box / model.card.box)
        posterior = yield from self.clock.follow("searching", self._place(search, templates, near))
        junk = torch.zeros(len(usable), dtype=torch.bool)
        return Discovery(posterior, (), None, junk, search.sigma), search, templates, proposals

    def _search(self, usable: Prepared) -> Search:
        """The search over all orientations, without references."""
        transforms, symmetry = self.settings.transforms, self.settings.symmetry
        return Search(usable, self.generator, transforms, symmetry=symmetry, enough=self.enough, team=self.team)

    def _place(self, search: Search, templates: Templates, near: Posterior) -> Work[Posterior]:
        """Classes and poses on given templates: near what the network says and on a grid, whichever fits better."""
        plan = PLANS[self.settings.preset]
        beside, grid = beside_and_everywhere(self.settings.preset)
        problem = replace(search.problem, settings=self.settings)
        data, spans = search.data(plan.weigh.limit), search.costs(problem.placings(len(templates)))
        guessed = yield from portion(search.expect(data, templates, beside, near), *spans[0])
        if self.enough.leave_out(*ONLY_NEAR):
            return guessed
        found = yield from portion(search.expect(data, templates, grid, None), *spans[1])
        posterior, last = better_of(guessed, found), plan.settle[-1]
        return (yield from portion(search.expect(search.data(last.limit), templates, last, posterior), *spans[2]))

    def cluster(self, result: Result) -> Generator[Event, None, Result]:
        """Group content codes anew, and let particles and averages settle on the new classes."""
        self._expect("cluster")
        codes = content_of(result, self.particles)
        prepared, usable, rows = yield from self._read()
        content = codes[rows]
        work = group_content(content, self.settings.classes, self.settings.seed)
        label = yield from self.clock.follow("grouping", work)
        classes, plan = int(label.max()) + 1, PLANS[self.settings.preset]
        search = self._search(usable)
        start = centred(
            known_poses(result.table.iloc[rows], label, usable.geometry.scale, self.device), classes, search.symmetry
        )
        settling = search.iterate(plan.settle, classes, start)
        posterior = yield from self.clock.follow("settling classes", settling)
        flags = result.table["flags"].fillna("").str.contains("junk")
        junk = torch.as_tensor(flags.to_numpy(dtype=bool)[rows])
        # Where others fit its particles better, a class may be left without any.
        found = Discovery(occupied(posterior, junk), (), None, junk, search.sigma)
        findings = yield from self.clock.follow("refining poses", self._finish(search, rows, found))
        return (yield from self._result(prepared, replace(findings, content=content)))

    def _read(self) -> Generator[Event, None, tuple[Prepared, Prepared, np.ndarray]]:
        """All particles, and the usable ones with their rows."""
        if len(self.particles) < LEAST_PARTICLES:
            raise InputError(
                f"{name_of(self.particles)}: {len(self.particles)} subtomograms are too few; "
                f"give at least {LEAST_PARTICLES}."
            )
        warm_up()
        work = prepare(self.particles, self.settings, self.device)
        prepared: Prepared = yield from self.clock.follow("reading", work)
        return prepared, *self._usable(prepared)

    def _learn(self, search: Search, found: Discovery) -> Generator[Event, None, tuple[HarmonyModel, VolumeProposals]]:
        """Train the network on the poses found, and let it look at every particle."""
        usable, classes = search.prepared, found.posterior.class_score.shape[1]
        templates = search.average(usable.data, found.posterior, classes).volumes
        card = volume_card(usable.geometry, self.settings, classes, len(usable))
        seeds = seeds_from(found.posterior, found.junk, templates, card.box)
        state = training_state(self.folder, self.resume, self.team)
        data = network_input(usable, card)
        more: dict[str, Any] = {"traces": self.traces, "enough": self.enough, "team": self.team}
        work = train_network(*data, card, seeds, self.device, state, **more)
        model = yield from self.clock.follow("training", work)
        proposals = yield from self.clock.follow("proposing", propose(model, usable, self.team))
        return model, proposals

    def _fit_published(
        self, prepared: Prepared, usable: Prepared, rows: np.ndarray
    ) -> Generator[Event, None, tuple[Result, HarmonyModel]]:
        """The published objective as it stands: the network alone gives poses and content."""
        card = volume_card(usable.geometry, self.settings, self.settings.classes or 1, len(usable))
        state = training_state(self.folder, self.resume, self.team)
        work = train_network(
            *network_input(usable, card), card, None, self.device, state, BATCH_2022, enough=self.enough, team=self.team
        )
        model = yield from self.clock.follow("training", work)
        proposals = yield from self.clock.follow("proposing", propose(model, usable, self.team))
        content = proposals.content_mean.cpu().numpy()
        posterior = grouped(proposals, content, self.settings, usable.geometry.box / card.box)
        # A search that may neither turn nor shift leaves every particle where the network has put it.
        contrast = tuple(name for name in self.settings.transforms if name == "contrast")
        search = Search(usable, self.generator, contrast, team=self.team)
        found = Discovery(posterior, (), None, torch.zeros(len(usable), dtype=torch.bool), search.sigma)
        findings = yield from self.clock.follow("averaging", self._finish(search, rows, found))
        findings = replace(findings, content=content)
        result = yield from self._result(prepared, findings)
        return result, with_classes(model, findings)

    def _result(self, prepared: Prepared, findings: Findings) -> Generator[Event, None, Result]:
        provenance = {
            "device": describe_device(self.device),
            "objective": self.settings.objective,
            "processes": self.team.size,
            "references": list(self.settings.references),
        }
        result = assemble(prepared, findings, self.settings, self.particles.pixel_size, provenance)
        work = with_insight(result, self.traces, self.team)
        result = yield from self.clock.follow("measuring leakage", work)
        seconds = {stage: round(seconds, 2) for stage, seconds in self.clock.seconds.items()}
        warnings = [*result.warnings, *self.enough.warnings]
        return replace(result, summary={**result.summary, "seconds": seconds, "warnings": warnings})

    def _usable(self, prepared: Prepared) -> tuple[Prepared, np.ndarray]:
        """The usable particles, sorted by their fingerprints, and their rows in the input."""
        rows = np.flatnonzero(prepared.usable)
        if len(rows) < LEAST_PARTICLES:
            raise InputError(
                f"{name_of(self.particles)}: only {len(rows)} subtomograms hold a finite signal of their own; "
                f"at least {LEAST_PARTICLES} are needed."
            )
        rows = rows[np.argsort(prepared.keys[rows], kind="stable")]
        return prepared.subset(torch.as_tensor(rows, device=self.device)), rows

    def _start(self, rows: np.ndarray, usable: Prepared) -> Start | None:
        """The input's poses, where the search starts from them."""
        if self.settings.start != "input":
            return None
        return start_of(self.particles, self.settings, rows, usable.geometry.scale).to(self.device)

    def _references(self, usable: Prepared) -> References | None:
        """The user's references, where there are any."""
        paths, lowpass = self.settings.references, self.settings.reference_lowpass
        return load_references(paths, lowpass, usable) if paths else None

    def _check_references(self, search: Search) -> Generator[Event, None, list[str]]:
        """What to say of the references."""
        if search.references is None:
            return []
        stage = PLANS[self.settings.preset].explore[0]
        inverted = yield from self.clock.follow("checking references", search.inverted(stage))
        return [INVERTED] if inverted else []

    @property
    def plan(self) -> Plan:
        """How hard to search."""
        return PLANS[self.settings.preset]

    def _discover(self, search: Search) -> Generator[Event, None, Discovery]:
        """The search, or what an interrupted run had found."""
        saved = self.folder / "volumes.safetensors" if self.folder is not None else None
        if saved is not None and self.team.agreed(saved.exists()):
            if self.resume:
                return load_discovery(saved, search)
            if self.team.first:
                saved.unlink()
        work = discover(search, self.settings.classes, self.plan)
        found = yield from self.clock.follow("searching half 1 of 2", work)
        if saved is not None and self.team.first and not self.enough.warnings:
            # A run that goes on later searches to the end.
            save_discovery(saved, found)
        return found

    def _finish(
        self, search: Search, rows: np.ndarray, found: Discovery, templates: Templates | None = None
    ) -> Work[Findings]:
        """Refine poses and averages in turn, or poses on ``templates`` alone, and gather everything."""
        kept = ~found.junk.to(self.device)
        posterior, classes = found.posterior, found.posterior.class_score.shape[1]
        rounds = ROUNDS[self.settings.preset] if templates is None else 1
        placed = posterior
        for done in range(rounds):
            if done and self.enough.leave_out(*FEWER_ROUNDS):
                break
            work = self._refine(search, placed, classes, found.sigma, templates)
            refined = yield from portion(work, 0.9 * done / rounds, 0.9 * (done + 1) / rounds)
            placed = with_poses(posterior, refined.rotation, refined.shift)
        members = placed.entries(kept[placed.particle]) if kept.any() else placed
        sums = search.sums(search.prepared.data, members, classes)
        variance = signal_variance(sums)
        averages = filtered(sums, variance) * search.mask
        halves = [filtered(half, variance).cpu().numpy() for half in found.halves]
        if search.anchors is None:
            refined = replace(refined, rotation=search.symmetry.canonical(refined.rotation))
        return Findings(
            rows,
            found,
            refined,
            averages.cpu().numpy().astype(np.float32),
            np.stack(halves) if halves else None,
            search.symmetry,
        )

    def _refine(
        self, search: Search, posterior: Posterior, classes: int, sigma: float, templates: Templates | None
    ) -> Work[Refined]:
        data, best, transforms = search.data(REFINE_BAND[self.settings.preset]), posterior.best(), search.transforms
        if templates is None:
            templates = search.average(data, posterior, classes)
        energy = 2 * search.prepared.energy[:, : int(data.band.shell.max()) + 1].sum(1)
        move = "translation" in transforms and search.geometry.max_shift > 0
        free = torch.tensor(3 * ["rotation" in transforms] + 3 * [move], dtype=torch.float32, device=self.device)

        def look(data: Observations, best: Posterior, anchors: Anchors | None, rows: slice) -> Work[Refined]:
            return refine(
                data,
                templates,
                best.label,
                best.rotation,
                best.shift,
                energy[rows],
                sigma,
                free=free,
                free_contrast="contrast" in transforms,
                free_scale="scale" in transforms,
                bound=anchors,
            )

        return (yield from shared_refine(self.team, data, best, search.anchors, look))
