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
from napari_harmony.engine.preprocess import name_of
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.volumes.assembly import Findings, assemble
from napari_harmony.engine.volumes.discovery import Discovery, Search, discover, over_cluster
from napari_harmony.engine.volumes.plans import PLANS
from napari_harmony.engine.volumes.prepare import Prepared, prepare
from napari_harmony.engine.volumes.references import References, load_references
from napari_harmony.engine.volumes.refine import Refined, refine
from napari_harmony.engine.volumes.saved import load_discovery, save_discovery
from napari_harmony.engine.volumes.search import Posterior, filtered, signal_variance, with_poses
from napari_harmony.engine.volumes.start import Start, start_of
from napari_harmony.engine.work import Work, portion
from napari_harmony.errors import InputError
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


class VolumeRun:
    """The stages of one run on one set of subtomograms, each a generator of events."""

    def __init__(self, particles: Particles, settings: Settings, checkpoint: Path | None, resume: bool) -> None:
        self.particles, self.settings = particles, settings
        self.folder, self.resume = checkpoint, resume
        self.device = choose_device(settings.device)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.clock = Clock(self._weights())
        if settings.objective != "harmony":
            raise InputError(f"objective: '{settings.objective}' is for images; subtomograms are run with 'harmony'.")

    def _weights(self) -> dict[str, float]:
        """Seconds that each stage takes on two cores, roughly: what matters is their ratio."""
        n = len(self.particles)
        search = n * over_cluster(self.settings.classes, max(2, n // 2)) * 4e-3 + 2
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
            "refining poses": ROUNDS[self.settings.preset] * n * 2e-2,
        }

    def align(self) -> Generator[Event, None, Result]:
        """Classes and poses from nothing."""
        if len(self.particles) < LEAST_PARTICLES:
            raise InputError(
                f"{name_of(self.particles)}: {len(self.particles)} subtomograms are too few; "
                f"give at least {LEAST_PARTICLES}."
            )
        prepared: Prepared = yield from self.clock.follow(
            "reading", prepare(self.particles, self.settings, self.device)
        )
        usable, rows = self._usable(prepared)
        start = self._start(rows, usable)
        if start is not None:
            usable = start.placed(usable)
        anchors = start.anchors if start is not None else None
        references = self._references(usable)
        search = Search(usable, self.generator, self.settings.transforms, anchors, self.settings.symmetry, references)
        warnings = yield from self._check_references(search)
        found = yield from self._discover(search)
        findings = yield from self.clock.follow("refining poses", self._finish(search, rows, found))
        if start is not None:
            findings = replace(findings, origin=start.shift.cpu().numpy())
        provenance = {
            "device": describe_device(self.device),
            "objective": self.settings.objective,
            "references": list(self.settings.references),
            "seconds": {stage: round(seconds, 2) for stage, seconds in self.clock.seconds.items()},
        }
        result = assemble(prepared, findings, self.settings, self.particles.pixel_size, provenance)
        return replace(result, summary={**result.summary, "warnings": [*result.warnings, *warnings]})

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

    def _finish(self, search: Search, rows: np.ndarray, found: Discovery) -> Work[Findings]:
        """Refine poses and averages in turn, and gather everything."""
        kept = ~found.junk.to(self.device)
        posterior, classes = found.posterior, found.posterior.class_score.shape[1]
        rounds = ROUNDS[self.settings.preset]
        placed = posterior
        for done in range(rounds):
            work = self._refine(search, placed, classes, found.sigma)
            refined = yield from portion(work, 0.9 * done / rounds, 0.9 * (done + 1) / rounds)
            placed = with_poses(posterior, refined.rotation, refined.shift)
        members = placed.entries(kept[placed.particle]) if kept.any() else placed
        sums = search.sums(search.prepared.data, members, classes)
        variance = signal_variance(sums)
        averages = filtered(sums, variance) * search.mask
        half_averages = torch.stack([filtered(half, variance) for half in found.halves])
        if search.anchors is None:
            refined = replace(refined, rotation=search.symmetry.canonical(refined.rotation))
        return Findings(
            rows,
            found,
            refined,
            averages.cpu().numpy().astype(np.float32),
            half_averages.cpu().numpy(),
            search.symmetry,
        )

    def _refine(self, search: Search, posterior: Posterior, classes: int, sigma: float) -> Work[Refined]:
        data, best, transforms = search.data(REFINE_BAND[self.settings.preset]), posterior.best(), search.transforms
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
                bound=search.anchors,
            )
        )
