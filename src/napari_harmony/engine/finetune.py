"""Going on with the training of a model on other particles: its classes and frames stay, what it knows is adapted."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np
import torch

from napari_harmony.additions import additions_of
from napari_harmony.engine.events import Event
from napari_harmony.engine.learning import network_input, propose, train_network, training_state
from napari_harmony.engine.onto_model import with_classes
from napari_harmony.engine.run import Run
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.volumes import learning as volume_learning
from napari_harmony.engine.volumes.run import VolumeRun
from napari_harmony.errors import InputError
from napari_harmony.models import ContentMixture, HarmonyModel, ModelCard
from napari_harmony.objectives.precision import in_precision
from napari_harmony.results import Result

#: Of the passes over the particles that a new network needs, how many one does that has learned before.
SHARE = 0.5
#: With fewer particles than this a class keeps the average that the model had.
LEAST_MEMBERS = 10

Tuned = Generator[Event, None, tuple[Result, HarmonyModel]]


def tuning_settings(settings: Settings, card: ModelCard) -> Settings:
    """The settings with what the model decides: transformations, objective, and what was added to it.

    Raises
    ------
    InputError : something was chosen that a model decides, or the model is of the published objective
    """
    settings.check_model()
    if card.objective != "harmony":
        raise InputError(f"A model of the objective {card.objective} cannot be trained on: train a new one.")
    transforms = (*card.transforms, *(name for name in settings.transforms if name == "defocus"))
    return replace(
        settings, transforms=transforms, objective=card.objective, additions=additions_of(",".join(card.additions))
    )


class FineTuning(Run):
    """Further training on images; its settings are those of ``tuning_settings``."""

    def tune(self, model: HarmonyModel) -> Tuned:
        """Place the particles on the model's classes, and train its network on them there."""
        _expect(self, model.card)
        prepared = yield from self.read()
        usable, rows = self.usable(prepared)
        found, _, _ = yield from self.placed(usable, model)
        fresh, seeds = self.lesson(usable, found)
        card = _card(model.card, fresh)
        state = training_state(self.folder, self.resume, self.team)
        work = train_network(
            *network_input(usable, card.box),
            card,
            seeds,
            self.device,
            state,
            self.batch(usable, seeds),
            traces=self.traces,
            enough=self.enough,
            start=model.network,
            team=self.team,
        )
        learning = in_precision(work, self.settings.precision)
        tuned = yield from self.clock.follow("training", learning)
        proposals = yield from self.clock.follow("proposing", propose(tuned, usable, self.team))
        finishing = self._finish(usable, rows, found, found.basis, proposals)
        findings = yield from self.clock.follow("refining poses", finishing)
        findings = replace(findings, numbered=True)
        result = yield from self._result(prepared, findings)
        return result, _with_absent(with_classes(tuned, usable.geometry.box, findings), model, result)


class VolumeFineTuning(VolumeRun):
    """Further training on subtomograms; its settings are those of ``tuning_settings``."""

    def tune(self, model: HarmonyModel) -> Tuned:
        """Place the particles on the model's classes, and train its network on them there."""
        _expect(self, model.card)
        prepared, usable, rows = yield from self._read()
        found, search, templates, _ = yield from self.placed(usable, model)
        fresh = volume_learning.volume_card(usable.geometry, self.settings, len(templates), len(usable))
        card = _card(model.card, fresh)
        volumes = search.average(usable.data, found.posterior, len(templates)).volumes
        work = train_network(
            *volume_learning.network_input(usable, card),
            card,
            volume_learning.seeds_from(found.posterior, found.junk, volumes, card.box),
            self.device,
            training_state(self.folder, self.resume, self.team),
            traces=self.traces,
            enough=self.enough,
            start=model.network,
            team=self.team,
        )
        tuned = yield from self.clock.follow("training", work)
        proposals = yield from self.clock.follow("proposing", volume_learning.propose(tuned, usable, self.team))
        findings = yield from self.clock.follow("refining poses", self._finish(search, rows, found))
        content = proposals.content_mean.cpu().numpy()
        findings = replace(findings, content=content, numbered=True)
        result = yield from self._result(prepared, findings)
        return result, _with_absent(volume_learning.with_classes(tuned, findings), model, result)


def _expect(run: FineTuning | VolumeFineTuning, card: ModelCard) -> None:
    """Tell the clock how long the stages should take: those of placing particles, and a part of a training."""
    run._expect("fit")
    training = SHARE * run.clock.weights.get("training", 0.0)
    run._expect("apply", card.classes)
    stages: dict[str, float] = {}
    for stage, seconds in run.clock.weights.items():
        stages |= {"training": training} if stage == "refining poses" else {}
        stages[stage] = seconds
    run.clock.weights = stages


def _card(old: ModelCard, fresh: ModelCard) -> ModelCard:
    """The card of a model after further training; ``fresh`` is what a new network on the particles would have."""
    return replace(
        old,
        original_box=fresh.original_box,
        seed=fresh.seed,
        particles=fresh.particles,
        epochs=max(1, round(SHARE * fresh.epochs)),
        package_version=fresh.package_version,
        started_from=old.trained_on or "an older model",
    )


def _with_absent(tuned: HarmonyModel, old: HarmonyModel, result: Result) -> HarmonyModel:
    """The model in which classes that hardly any of the new particles belong to look as they did."""
    absent = torch.as_tensor(np.flatnonzero(result.counts < LEAST_MEMBERS))
    if len(absent) == 0 or tuned.templates is None or old.templates is None:
        return tuned
    templates = tuned.templates.clone()
    if templates.shape == old.templates.shape:
        present = torch.as_tensor(np.flatnonzero(result.counts >= LEAST_MEMBERS))
        templates[absent] = _gain(old.templates[present], templates[present]) * old.templates[absent]
    mixture = tuned.mixture
    if mixture is not None and old.mixture is not None:
        means = mixture.means.clone()
        means[absent] = old.mixture.means[absent]
        mixture = ContentMixture(means, mixture.covariances, mixture.weights)
    return replace(tuned, templates=templates, mixture=mixture)


def _gain(before: torch.Tensor, after: torch.Tensor) -> float:
    """How many times stronger averages (k, ...) are than before: those of noisier particles are weaker."""
    if len(before) == 0:
        return 1.0
    first, second = before.flatten(1), after.flatten(1)
    return float(((first * second).sum(1) / (first**2).sum(1).clamp_min(1e-12)).median())
