"""One run of the engine on subtomograms, from stored volumes to a result."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from napari_harmony.engine.clock import Clock
from napari_harmony.engine.devices import choose_device, describe_device
from napari_harmony.engine.events import Event
from napari_harmony.engine.insight import LEAKAGE, Traces, with_insight
from napari_harmony.engine.learning import (
    ADDED_STEPS,
    cluster_content,
    content_of,
    train_network,
    training_state,
    warm_up,
)
from napari_harmony.engine.preprocess import name_of
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.volumes.assembly import Findings, assemble
from napari_harmony.engine.volumes.discovery import Discovery, Search, discover, over_cluster
from napari_harmony.engine.volumes.learning import (
    BATCH_2022,
    STEPS,
    STEPS_2022,
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
from napari_harmony.engine.volumes.plans import EVERYWHERE, NEARBY, PLANS
from napari_harmony.engine.volumes.posteriors import better_of, centred, known_poses
from napari_harmony.engine.volumes.prepare import Prepared, prepare
from napari_harmony.engine.volumes.references import References, load_references
from napari_harmony.engine.volumes.refine import Refined, refine
from napari_harmony.engine.volumes.saved import load_discovery, save_discovery
from napari_harmony.engine.volumes.search import Posterior, Templates, filtered, signal_variance, with_poses
from napari_harmony.engine.volumes.start import Start, start_of
from napari_harmony.engine.work import Work, portion
from napari_harmony.errors import InputError
from napari_harmony.models import HarmonyModel, VolumeProposals
from napari_harmony.particles.dataset import Particles
from napari_harmony.results import Result

#: Fewer particles than this cannot be split into halves and classes.
LEAST_PARTICLES = 8
#: Band, in cycles per mask diameter, on which final poses are refined, and how often averages and poses take turns.
REFINE_BAND = {"fast": 11.0, "balanced": 14.0, "thorough": 18.0}
ROUNDS = {"fast": 1, "balanced": 2, "thorough": 3}
INVERTED = (
    "the particles fit the references better with bright and dark exchanged; invert the references, or extract the "
    "subtomograms with the other contrast"
)


#: Degrees between the rotations that are tried where the network's proposals are the better guess.
_COARSEST = 30.0


class VolumeRun:
    """The stages of one run on one set of subtomograms, each a generator of events."""

    def __init__(self, particles: Particles, settings: Settings, checkpoint: Path | None, resume: bool) -> None:
        self.particles, self.settings = particles, settings
        self.folder, self.resume = checkpoint, resume
        self.device = choose_device(settings.device)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.clock = Clock(self._weights())
        self.traces = Traces(addition.name for addition in settings.additions)

    def _weights(self) -> dict[str, float]:
        """Seconds that each stage takes on two cores, roughly: what matters is their ratio."""
        n, preset = len(self.particles), self.settings.preset
        search = n * over_cluster(self.settings.classes, max(2, n // 2)) * 4e-3 + 2
        if self.settings.objective == "harmony-2022":
            learn = 2.0 * STEPS_2022[self.settings.preset]
            return {"reading": n * 2e-3, "training": learn, "proposing": n * 5e-3, "averaging": n * 2e-2} | LEAKAGE
        return {
            "reading": n * 2e-3,
            **({"checking references": 5.0} if self.settings.references else {}),
            "searching half 1 of 2": search,
            "searching half 2 of 2": search,
            "settling classes": 1.5 * search,
            "checking half 1 of 2": 1.5 * search,
            "checking half 2 of 2": 1.5 * search,
            "refining classes": 1.2 * search,
            "comparing halves": 1.5 * search,
            "training": 0.4 * max(STEPS[preset], ADDED_STEPS[preset] if self.settings.additions else 0),
            "proposing": n * 2e-3,
            "refining poses": ROUNDS[self.settings.preset] * n * 2e-2,
            **LEAKAGE,
        }

    def fit(self) -> Generator[Event, None, tuple[Result, HarmonyModel]]:
        """Classes and poses from nothing, and a network that has learned them."""
        published = self.settings.objective == "harmony-2022"
        if published:
            check_published(self.settings)
        warm_up()
        prepared, usable, rows = yield from self._read()
        if published:
            return (yield from self._fit_published(prepared, usable, rows))
        start = self._start(rows, usable)
        if start is not None:
            usable = start.placed(usable)
        anchors = start.anchors if start is not None else None
        references = self._references(usable)
        search = Search(usable, self.generator, self.settings.transforms, anchors, self.settings.symmetry, references)
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
        self.clock.weights = {"reading": 1.0, "proposing": 0.5, "searching": 4.0, "refining poses": 2.0} | LEAKAGE
        prepared, usable, rows = yield from self._read()
        search = Search(usable, self.generator, self.settings.transforms, symmetry=self.settings.symmetry)
        templates = model_templates(model, usable, name_of(self.particles))
        proposals = yield from self.clock.follow("proposing", propose(model, usable))
        near = proposed(proposals, len(templates), usable.geometry.box / model.card.box)
        posterior = yield from self.clock.follow("searching", self._place(search, templates, near))
        junk = torch.zeros(len(usable), dtype=torch.bool)
        found = Discovery(posterior, (), None, junk, search.sigma)
        # Against the model's own averages: those of the new data would drift from its frame.
        findings = yield from self.clock.follow("refining poses", self._finish(search, rows, found, templates))
        content = proposals.content_mean.cpu().numpy()
        return (yield from self._result(prepared, replace(findings, content=content, numbered=True)))

    def _place(self, search: Search, templates: Templates, near: Posterior) -> Work[Posterior]:
        """Classes and poses on given templates: near what the network says and on a grid, whichever fits better."""
        plan = PLANS[self.settings.preset]
        step = _COARSEST if self.settings.preset == "fast" else plan.weigh.step
        data = search.data(plan.weigh.limit)
        beside, grid = (
            replace(plan.weigh, step=_COARSEST, where=NEARBY),
            replace(plan.weigh, step=step, where=EVERYWHERE),
        )
        guessed = yield from portion(search.expect(data, templates, beside, near), 0.0, 0.3)
        found = yield from portion(search.expect(data, templates, grid, None), 0.3, 0.7)
        posterior, last = better_of(guessed, found), plan.settle[-1]
        return (yield from portion(search.expect(search.data(last.limit), templates, last, posterior), 0.7, 1.0))

    def cluster(self, result: Result) -> Generator[Event, None, Result]:
        """Group content codes anew, and let particles and averages settle on the new classes."""
        self.clock.weights = {"reading": 1.0, "grouping": 1.0, "settling classes": 8.0, "refining poses": 2.0} | LEAKAGE
        codes = content_of(result, self.particles)
        prepared, usable, rows = yield from self._read()
        content = codes[rows]
        label = cluster_content(content, self.settings.classes, self.settings.seed)
        yield self.clock.at("grouping", 1.0)
        classes, plan = int(label.max()) + 1, PLANS[self.settings.preset]
        search = Search(usable, self.generator, self.settings.transforms, symmetry=self.settings.symmetry)
        start = centred(
            known_poses(result.table.iloc[rows], label, usable.geometry.scale, self.device), classes, search.symmetry
        )
        work = search.iterate(plan.settle, classes, start)
        posterior = yield from self.clock.follow("settling classes", work)
        flags = result.table["flags"].fillna("").str.contains("junk")
        junk = torch.as_tensor(flags.to_numpy(dtype=bool)[rows])
        found = Discovery(posterior, (), None, junk, search.sigma)
        findings = yield from self.clock.follow("refining poses", self._finish(search, rows, found))
        return (yield from self._result(prepared, replace(findings, content=content)))

    def _read(self) -> Generator[Event, None, tuple[Prepared, Prepared, np.ndarray]]:
        """All particles, and the usable ones with their rows."""
        if len(self.particles) < LEAST_PARTICLES:
            raise InputError(
                f"{name_of(self.particles)}: {len(self.particles)} subtomograms are too few; "
                f"give at least {LEAST_PARTICLES}."
            )
        work = prepare(self.particles, self.settings, self.device)
        prepared: Prepared = yield from self.clock.follow("reading", work)
        return prepared, *self._usable(prepared)

    def _learn(self, search: Search, found: Discovery) -> Generator[Event, None, tuple[HarmonyModel, VolumeProposals]]:
        """Train the network on the poses found, and let it look at every particle."""
        usable, classes = search.prepared, found.posterior.class_score.shape[1]
        templates = search.average(usable.data, found.posterior, classes).volumes
        card = volume_card(usable.geometry, self.settings, classes, len(usable))
        seeds = seeds_from(found.posterior, found.junk, templates, card.box)
        state = training_state(self.folder, self.resume)
        work = train_network(*network_input(usable, card), card, seeds, self.device, state, traces=self.traces)
        model = HarmonyModel((yield from self.clock.follow("training", work)), card)
        proposals = yield from self.clock.follow("proposing", propose(model, usable))
        return model, proposals

    def _fit_published(
        self, prepared: Prepared, usable: Prepared, rows: np.ndarray
    ) -> Generator[Event, None, tuple[Result, HarmonyModel]]:
        """The published objective as it stands: the network alone gives poses and content."""
        card = volume_card(usable.geometry, self.settings, self.settings.classes or 1, len(usable))
        state = training_state(self.folder, self.resume)
        work = train_network(*network_input(usable, card), card, None, self.device, state, BATCH_2022)
        model = HarmonyModel((yield from self.clock.follow("training", work)), card)
        proposals = yield from self.clock.follow("proposing", propose(model, usable))
        content = proposals.content_mean.cpu().numpy()
        posterior = grouped(proposals, content, self.settings, usable.geometry.box / card.box)
        # A search that may neither turn nor shift leaves every particle where the network has put it.
        contrast = tuple(name for name in self.settings.transforms if name == "contrast")
        search = Search(usable, self.generator, contrast)
        found = Discovery(posterior, (), None, torch.zeros(len(usable), dtype=torch.bool), search.sigma)
        findings = yield from self.clock.follow("averaging", self._finish(search, rows, found))
        findings = replace(findings, content=content)
        result = yield from self._result(prepared, findings)
        return result, with_classes(model, findings)

    def _result(self, prepared: Prepared, findings: Findings) -> Generator[Event, None, Result]:
        provenance = {
            "device": describe_device(self.device),
            "objective": self.settings.objective,
            "references": list(self.settings.references),
        }
        result = assemble(prepared, findings, self.settings, self.particles.pixel_size, provenance)
        result = yield from self.clock.follow("measuring leakage", with_insight(result, self.traces))
        seconds = {stage: round(seconds, 2) for stage, seconds in self.clock.seconds.items()}
        return replace(result, summary={**result.summary, "seconds": seconds})

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

    def _discover(self, search: Search) -> Generator[Event, None, Discovery]:
        """The search, or what an interrupted run had found."""
        saved = self.folder / "volumes.safetensors" if self.folder is not None else None
        if saved is not None and saved.exists():
            if self.resume:
                return load_discovery(saved, search)
            saved.unlink()
        plan = PLANS[self.settings.preset]
        found = yield from self.clock.follow("searching half 1 of 2", discover(search, self.settings.classes, plan))
        if saved is not None:
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
        return (
            yield from refine(
                data,
                templates,
                best.label,
                best.rotation,
                best.shift,
                energy,
                sigma,
                free=free,
                free_contrast="contrast" in transforms,
                free_scale="scale" in transforms,
                bound=search.anchors,
            )
        )
