"""One run of the engine, from stored images to a result."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_harmony.engine.assembly import Findings, Placement, Roster, assemble
from napari_harmony.engine.classes import centred, occupied
from napari_harmony.engine.clock import Clock
from napari_harmony.engine.costs import ALIKE, Task, expected
from napari_harmony.engine.defocus import Defocus, find_defocus, with_defocus
from napari_harmony.engine.devices import choose_arithmetic, choose_device, describe_device
from napari_harmony.engine.discovery import Discovery, Search, discover
from napari_harmony.engine.enough import ONLY_NEAR, Enough
from napari_harmony.engine.events import Event
from napari_harmony.engine.geometry import name_of
from napari_harmony.engine.insight import Traces, with_insight
from napari_harmony.engine.learning import (
    cluster_content,
    content_of,
    group_content,
    model_card,
    network_input,
    propose,
    train_network,
    training_state,
    warm_up,
)
from napari_harmony.engine.onto_model import averages_of, on_basis, proposed, with_classes
from napari_harmony.engine.pace import pace_of
from napari_harmony.engine.plans import MODEL_BAND, PLANS, REFINE_BAND, grouping_bands
from napari_harmony.engine.posteriors import known_poses
from napari_harmony.engine.preprocess import Prepared, prepare
from napari_harmony.engine.refine import Refined, refine, with_poses
from napari_harmony.engine.saved import load_discovery, save_discovery
from napari_harmony.engine.schedule import batch_of
from napari_harmony.engine.search import Posterior, Templates, accumulating, maximise
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.steerable import SteerableBasis
from napari_harmony.engine.team import ALONE, Team
from napari_harmony.engine.work import StagedWork, Work, finish, portion
from napari_harmony.errors import InputError
from napari_harmony.models import HarmonyModel, ModelCard, Proposals
from napari_harmony.objectives import SeedPoses
from napari_harmony.objectives.precision import in_precision
from napari_harmony.particles.ctf import CtfParameters
from napari_harmony.particles.dataset import Particles
from napari_harmony.results import Result

#: Fewer particles than this cannot be split into halves and classes.
LEAST_PARTICLES = 4

Stage = Generator[Event, None, None]


class Run:
    """The stages of one run on one set of particles, each a generator of events."""

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
        self.arithmetic = choose_arithmetic(self.device, settings.batch_memory, settings.precision)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.pace = pace_of(self.device.type)
        self.clock = Clock({}, ALIKE, self.pace.known)
        self.traces = Traces(addition.name for addition in settings.additions)
        self.enough = Enough(enough, team)

    def _expect(self, task: Task, classes: int | None = None) -> None:
        """Tell the clock how long the stages of a task should take; ``classes`` are those of a model."""
        self.clock.weights = expected(self.particles, self.settings, task, classes, self.pace.among(self.team.size))

    def read(self) -> Generator[Event, None, Prepared]:
        """Prepare the particles, in an order of their own, so that their order in the file does not matter."""
        if len(self.particles) < LEAST_PARTICLES:
            raise InputError(
                f"{name_of(self.particles)}: {len(self.particles)} particles are too few; "
                f"give at least {LEAST_PARTICLES}."
            )
        warm_up()
        work = prepare(self.particles, self.settings, self.device, team=self.team)
        prepared: Prepared = yield from self.clock.follow("reading", work)
        return prepared

    def usable(self, prepared: Prepared) -> tuple[Prepared, np.ndarray]:
        """The usable particles, sorted by their fingerprints, and their rows in the input."""
        rows = np.flatnonzero(prepared.usable)
        if len(rows) < LEAST_PARTICLES:
            raise InputError(
                f"{name_of(self.particles)}: only {len(rows)} images hold a finite signal of their own; "
                f"at least {LEAST_PARTICLES} are needed."
            )
        rows = rows[np.argsort(prepared.keys[rows], kind="stable")]
        return prepared.subset(torch.as_tensor(rows, device=self.device)), rows

    def search(self, prepared: Prepared) -> Search:
        """The search on prepared particles, with the transformations that the user chose."""
        also = (self.settings.transforms, self.enough, self.team)
        return Search(prepared, self.arithmetic, self.generator, *also)

    def fit(self) -> Generator[Event, None, tuple[Result, HarmonyModel]]:
        """Classes and poses from nothing, and a network that has learned them."""
        self._expect("fit")
        prepared = yield from self.read()
        usable, rows = self.usable(prepared)
        if self.settings.objective == "harmony-2022":
            return (yield from self._fit_published(prepared, usable, rows))
        found = yield from self.discover(usable)
        basis = self.search(usable).basis(REFINE_BAND[self.settings.preset])
        model, proposals = yield from self._learn(usable, found)
        findings = yield from self.clock.follow("refining poses", self._finish(usable, rows, found, basis, proposals))
        result = yield from self._result(prepared, findings)
        return result, with_classes(model, usable.geometry.box, findings)

    def apply(self, model: HarmonyModel) -> Generator[Event, None, Result]:
        """Place every particle on the classes of a trained model."""
        self._expect("apply", model.card.classes)
        prepared = yield from self.read()
        usable, rows = self.usable(prepared)
        found, templates, proposals = yield from self.placed(usable, model)
        # Against the model's own averages: those of the new data would drift from its frame.
        work = self._finish(usable, rows, found, found.basis, proposals, templates=templates)
        findings = yield from self.clock.follow("refining poses", work)
        return (yield from self._result(prepared, replace(findings, numbered=True)))

    def placed(
        self, usable: Prepared, model: HarmonyModel
    ) -> Generator[Event, None, tuple[Discovery, Templates, Proposals]]:
        """The particles on the classes of a model, whose averages and proposals are given too."""
        search = self.search(usable)
        averages, band = averages_of(model, search, name_of(self.particles))
        yield from self.clock.follow("preparing the search", search.ready((band, np.inf)))
        basis = search.basis(band)
        templates = on_basis(averages, model, basis)
        proposals = yield from self.clock.follow("proposing", propose(model, usable, self.team))
        near = proposed(proposals, usable.geometry.box / model.card.box)
        quick = self.settings.preset == "fast" or self.enough.leave_out(*ONLY_NEAR)
        centre = near if quick else None
        posterior = yield from self.clock.follow("searching", search.expect(templates, basis, quick, centre))
        junk = torch.zeros(len(usable), dtype=torch.bool)
        sums = finish(search.average(basis, posterior, len(templates)))
        return Discovery(posterior, sums, basis, None, junk, search.sigma), templates, proposals

    def cluster(self, result: Result) -> Generator[Event, None, Result]:
        """Group content codes anew, and let particles and averages settle on the new classes."""
        self._expect("cluster")
        codes = content_of(result, self.particles)
        prepared = yield from self.read()
        usable, rows = self.usable(prepared)
        content = codes[rows]
        work = group_content(content, self.settings.classes, self.settings.seed)
        label = yield from self.clock.follow("grouping", work)
        classes, search, preset = int(label.max()) + 1, self.search(usable), self.settings.preset
        yield from self.clock.follow("preparing the search", search.ready(grouping_bands(preset)))
        start = centred(known_poses(result.table.iloc[rows], label, usable.geometry.scale, self.device), classes)
        settling = search.iterate(PLANS[preset].refine, classes, start)
        posterior = yield from self.clock.follow("settling classes", settling)
        flags = result.table["flags"].fillna("").str.contains("junk")
        junk = torch.as_tensor(flags.to_numpy(dtype=bool)[rows])
        # Where others fit its particles better, a class may be left without any.
        posterior, classes = occupied(posterior, classes, junk)
        basis = search.basis(REFINE_BAND[preset])
        sums = finish(search.average(basis, posterior, classes))
        found = Discovery(posterior, sums, basis, None, junk, search.sigma)
        finishing = self._finish(usable, rows, found, basis, None, content)
        findings = yield from self.clock.follow("refining poses", finishing)
        return (yield from self._result(prepared, findings))

    def discover(self, usable: Prepared) -> Generator[Event, None, Discovery]:
        """The search, or what an interrupted run had found."""
        saved = self.folder / "search.safetensors" if self.folder is not None else None
        search = self.search(usable)
        if saved is not None and self.team.agreed(self.resume and saved.exists()):
            return load_discovery(saved, search)
        if saved is not None and self.team.first:
            # Should this run be interrupted before it saves anything, it must not go on from an earlier one.
            saved.unlink(missing_ok=True)
            saved.with_name("training.safetensors").unlink(missing_ok=True)
        found = yield from self.clock.follow("preparing the search", self.searching(search))
        if saved is not None and self.team.first and not self.enough.warnings:
            # A run that goes on later searches to the end.
            save_discovery(saved, found)
        return found

    def searching(self, search: Search) -> StagedWork[Discovery]:
        """The search of the preset."""
        return discover(search, self.settings.classes, PLANS[self.settings.preset])

    def _learn(self, usable: Prepared, found: Discovery) -> Generator[Event, None, tuple[HarmonyModel, Proposals]]:
        """Train the network on the poses found, and let it look at every particle."""
        card, seeds = self.lesson(usable, found)
        learning = in_precision(self._train(usable, card, seeds), self.settings.precision)
        model = yield from self.clock.follow("training", learning)
        proposals = yield from self.clock.follow("proposing", propose(model, usable, self.team))
        return model, proposals

    def lesson(self, usable: Prepared, found: Discovery) -> tuple[ModelCard, SeedPoses]:
        """What the network for these particles looks like, and the poses found that it learns."""
        images, _ = network_input(usable.subset(torch.arange(1, device=self.device)))
        box, classes = images.shape[-1], len(found.sums)
        card = model_card(usable.geometry, self.settings, box, classes, len(usable))
        best, step = found.posterior.best(), box / usable.geometry.box
        return card, SeedPoses(-best.psi, -best.shift * step, best.weight, found.posterior.class_weights(classes))

    def _train(self, usable: Prepared, card: ModelCard, seeds: SeedPoses | None) -> Work[HarmonyModel]:
        state, batch = training_state(self.folder, self.resume, self.team), self.batch(usable, seeds)
        more: dict[str, Any] = {"traces": self.traces, "enough": self.enough, "team": self.team}
        return (yield from train_network(*network_input(usable), card, seeds, self.device, state, batch, **more))

    def batch(self, usable: Prepared, seeds: SeedPoses | None) -> int:
        """Pairs of image and copy that the network learns from at a time."""
        posterior = None if seeds is None else seeds.class_posterior
        return batch_of(self.settings, len(usable), None if posterior is None else posterior.shape[1])

    def _fit_published(
        self, prepared: Prepared, usable: Prepared, rows: np.ndarray
    ) -> Generator[Event, None, tuple[Result, HarmonyModel]]:
        """The published objective as it stands: the network alone gives poses and content."""
        images, _ = network_input(usable.subset(torch.arange(1, device=self.device)))
        card = model_card(usable.geometry, self.settings, images.shape[-1], self.settings.classes or 1, len(usable))
        learning = in_precision(self._train(usable, card, None), self.settings.precision)
        model = yield from self.clock.follow("training", learning)
        proposals = yield from self.clock.follow("proposing", propose(model, usable, self.team))
        content = proposals.content_mean.cpu().numpy()
        label = cluster_content(content, self.settings.classes, self.settings.seed)
        search = self.search(usable)
        yield from self.clock.follow("preparing averages", search.ready((MODEL_BAND, np.inf)))
        near = proposed(proposals, usable.geometry.box / card.box)
        posterior = replace(near, label=torch.as_tensor(label, device=self.device))
        basis, classes = search.basis(np.inf), int(label.max()) + 1
        sums = finish(search.average(basis, posterior, classes))
        none = torch.zeros(len(usable), dtype=torch.bool)
        found = Discovery(posterior, sums, basis, None, none, search.sigma)
        coarse = search.basis(MODEL_BAND)
        work = self._finish(usable, rows, found, coarse, proposals, move=False)
        findings = yield from self.clock.follow("averaging", work)
        result = yield from self._result(prepared, findings)
        return result, with_classes(model, usable.geometry.box, findings)

    def _finish(
        self,
        usable: Prepared,
        rows: np.ndarray,
        found: Discovery,
        basis: SteerableBasis,
        proposals: Proposals | None,
        content: np.ndarray | None = None,
        move: bool = True,
        templates: Templates | None = None,
    ) -> Work[Findings]:
        """Refine poses, average once more on the full band, and gather everything."""
        classes, best = len(found.sums), found.posterior.best()
        refined = yield from portion(self._refine(usable, found, basis, best, move, templates), 0.0, 0.8)
        placed = with_poses(best, refined) if move else best
        full = self.search(usable).basis(np.inf)
        kept = ~found.junk.to(self.device)
        kept = kept if kept.any() else ~kept
        members = placed.only(kept)
        defocus = None
        if "defocus" in self.settings.transforms and self.particles.ctf is not None:
            parameters = self.particles.ctf.subset(rows)
            work = self._defocus(usable, parameters, basis, placed, kept, classes)
            defocus = yield from portion(work, 0.8, 0.9)
            usable = with_defocus(usable, parameters, defocus.offset)
        sums = yield from portion(self.search(usable).average(full, members, classes), 0.9, 1.0)
        averages = maximise(full, sums)
        if content is None and proposals is not None:
            content = proposals.content_mean.cpu().numpy()
        scaled = "scale" in self.settings.transforms and proposals is not None
        scale = (
            proposals.best.log_scale.exp().cpu().numpy() if scaled and proposals else np.ones(len(usable), np.float32)
        )
        return Findings(
            rows,
            Placement.of(found.posterior, classes),
            refined,
            averages,
            full,
            np.zeros((len(usable), 0), np.float32) if content is None else content.astype(np.float32),
            scale,
            found.junk.cpu().numpy(),
            found.agreement,
            defocus=defocus,
        )

    def _defocus(
        self,
        usable: Prepared,
        parameters: CtfParameters,
        basis: SteerableBasis,
        placed: Posterior,
        member: torch.Tensor,
        classes: int,
    ) -> Work[Defocus]:
        """Defocus offsets of particles ``placed`` on their classes, on the band of ``basis``."""
        data = usable.observe(basis)
        sums = yield from portion(accumulating(data, placed.only(member), classes), 0.0, 0.3)
        contrast = "contrast" in self.settings.transforms
        work = find_defocus(usable, parameters, data, sums, placed, member, free_contrast=contrast)
        return (yield from portion(work, 0.3, 1.0))

    def _refine(
        self,
        usable: Prepared,
        found: Discovery,
        basis: SteerableBasis,
        best: Posterior,
        move: bool,
        templates: Templates | None = None,
    ) -> Work[Refined]:
        """Poses on the classes found, or on ``templates`` given on the same basis."""
        if templates is None:
            work = self.search(usable).average(basis, found.posterior, len(found.sums))
            sums = yield from portion(work, 0.0, 0.0)
            templates = maximise(basis, sums)
        return (yield from self._polish(usable, templates, basis, best, found.sigma, move))

    def _polish(
        self,
        usable: Prepared,
        templates: Templates,
        basis: SteerableBasis,
        best: Posterior,
        sigma: float,
        move: bool = True,
    ) -> Work[Refined]:
        """Poses refined from those of ``best`` on the ``templates``."""
        rows, band, transforms = self.team.share(len(usable)), basis.band, self.settings.transforms
        mine = usable.subset(rows)
        refined = yield from refine(
            mine.observe(basis),
            templates,
            best.label[rows],
            best.psi[rows],
            best.shift[rows],
            2 * (mine.samples[:, band.row, band.column].abs() ** 2).sum(1),
            sigma,
            free_contrast="contrast" in transforms,
            turn=move and "rotation" in transforms,
            move=move and "translation" in transforms and usable.geometry.max_shift > 0,
        )
        return self.team.gather(refined)

    def _result(self, prepared: Roster, findings: Findings) -> Generator[Event, None, Result]:
        provenance = {
            "device": describe_device(self.device),
            "processes": self.team.size,
            "objective": self.settings.objective,
        }
        result = assemble(prepared, findings, self.settings, self.particles.pixel_size, provenance)
        work = with_insight(result, self.traces, self.team)
        result = yield from self.clock.follow("measuring leakage", work)
        seconds = {stage: round(seconds, 2) for stage, seconds in self.clock.seconds.items()}
        warnings = [*result.warnings, *self.enough.warnings]
        return replace(result, summary={**result.summary, "seconds": seconds, "warnings": warnings})
