"""A run on subtomograms that starts from a network pretrained on others: it says where to look, and learns briefly."""

from __future__ import annotations

from collections.abc import Generator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch

from napari_harmony.engine.adapt import groups_of
from napari_harmony.engine.counts import LOOKING
from napari_harmony.engine.events import Event
from napari_harmony.engine.geometry import name_of
from napari_harmony.engine.learning import train_network, training_state, warm_up
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.volumes.discovery import Discovery, Search
from napari_harmony.engine.volumes.learning import network_input, propose, seeds_from, volume_card, with_classes
from napari_harmony.engine.volumes.plans import ADAPTING, Plan, Stage, adapting_plan
from napari_harmony.engine.volumes.posteriors import certain
from napari_harmony.engine.volumes.prepare import Prepared
from napari_harmony.engine.volumes.run import VolumeRun
from napari_harmony.engine.volumes.search import Posterior
from napari_harmony.engine.volumes.seen import Seen, look
from napari_harmony.engine.work import Work, portion
from napari_harmony.errors import InputError
from napari_harmony.models import GuidedVolumeNetwork, HarmonyModel, ModelCard, VolumeProposals
from napari_harmony.results import Result
from napari_harmony.transforms import so3

#: Share of the time of a search that poses on which groups agree take.
AGREEING = 0.05


class VolumeAdapting(VolumeRun):
    """Classes and poses that start from what a pretrained network sees in the particles."""

    def adapt(self, general: HarmonyModel) -> Generator[Event, None, tuple[Result, HarmonyModel]]:
        """Classes and poses of the particles, and a network of their own that began as ``general``."""
        check_adaptable(self, general.card)
        self._expect("adapt")
        warm_up()
        prepared, usable, rows = yield from self._read()
        seen = yield from self.clock.follow(LOOKING, look(general, usable, self.team))
        search = self._started(usable, seen)
        found = yield from self._discover(search)
        card = adapted_card(general.card, usable, self.settings, found.posterior.class_score.shape[1])
        work = self._taught(search, found, general, card, seen.proposals)
        model = yield from self.clock.follow("training", work)
        proposals = yield from self.clock.follow("proposing", propose(model, usable, self.team))
        findings = yield from self.clock.follow("refining poses", self._finish(search, rows, found))
        findings = replace(findings, content=proposals.content_mean.cpu().numpy())
        result = yield from self._result(prepared, findings)
        return result, with_classes(model, findings)

    @property
    def plan(self) -> Plan:
        """A short search."""
        return adapting_plan(self.settings)

    def _started(self, usable: Prepared, seen: Seen) -> Search:
        """The search: from what the network says, where it has a say."""
        if self.settings.symmetry != "C1":
            return self._search(usable)
        search = StartedSearch(usable, self.generator, self.settings.transforms, enough=self.enough, team=self.team)
        return search.from_what_is(seen)

    def _taught(
        self, search: Search, found: Discovery, general: HarmonyModel, card: ModelCard, proposals: VolumeProposals
    ) -> Work[HarmonyModel]:
        """The network settled on the classes found and, unless the preset is fast, trained on them for a while."""
        usable, classes = search.prepared, found.posterior.class_score.shape[1]
        templates = search.average(usable.data, found.posterior, classes).volumes
        seeds = seeds_from(found.posterior, found.junk, templates, card.box)
        network = deepcopy(general.network)
        assert isinstance(network, GuidedVolumeNetwork)
        network.settle_on(proposals.content_mean, seeds.label, seeds.templates)
        if card.epochs == 0:
            yield 1.0
            return HarmonyModel(network, card)
        state, data = training_state(self.folder, self.resume, self.team), network_input(usable, card)
        more: dict[str, Any] = {"traces": self.traces, "enough": self.enough, "team": self.team, "start": network}
        return (yield from train_network(*data, card, seeds, self.device, state, **more))


class StartedSearch(Search):
    """A search that begins with what a network sees, in place of single particles."""

    seen: Seen

    def from_what_is(self, seen: Seen) -> StartedSearch:
        """The search that begins with what was ``seen`` of its particles."""
        self.seen = seen
        return self

    def part(self, rows: torch.Tensor) -> Search:
        """The search on some of the particles, which begins in the same way."""
        mine = self.prepared.subset(rows)
        some = StartedSearch(mine, self.generator, self.transforms, enough=self.enough, team=self.team)
        return some.from_what_is(self.seen.subset(rows))

    def explore(self, classes: int, stages: tuple[Stage, ...]) -> Work[Posterior]:
        """From groups of content codes, and poses on which each group agrees, to ``classes`` classes."""
        label = groups_of(self.seen.proposals.content_mean, classes).to(self.device)
        rotation = yield from portion(self.seen.agreed(label), 0.0, AGREEING)
        shift = self.seen.proposals.best.shift * (self.geometry.box / self.seen.box)
        begun = certain(so3.inverse(rotation), -shift, label)
        return (yield from portion(self.iterate(stages, classes, begun), AGREEING, 1.0))


def adapted_card(general: ModelCard, usable: Prepared, settings: Settings, classes: int) -> ModelCard:
    """The card of a network that began as a general one: its sizes, and the lengths of the particles."""
    geometry = usable.geometry
    fresh, share = volume_card(geometry, settings, classes, len(usable)), ADAPTING[settings.preset]
    pixel_size = geometry.box * geometry.pixel_size / general.box
    return replace(
        fresh,
        box=general.box,
        pixel_size=pixel_size,
        transforms=general.transforms,
        content=general.content,
        hypotheses=general.hypotheses,
        max_shift=general.max_shift / general.pixel_size * pixel_size,
        epochs=max(1, round(share * fresh.epochs)) if share else 0,
        guided=general.guided,
        started_from=general.trained_on or "a bundled model",
    )


def check_adaptable(run: VolumeRun, card: ModelCard) -> None:
    """Raise ``InputError`` where a pretrained network cannot be started from."""
    run.settings.check_model()
    if not (card.general and card.guided and card.dimensions == 3):
        raise InputError("The model is not one for any subtomograms: choose 'bundled', or none.")
    if run.settings.objective != "harmony":
        raise InputError(
            f"objective: the bundled model knows nothing of {run.settings.objective}; leave one of them out."
        )
    if run.settings.additions:
        raise InputError("with: the bundled model was trained without additions; leave them out, or train without it.")
    missing = [name for name in ("rotation", "translation") if name not in run.settings.transforms]
    if missing:
        raise InputError(f"transforms: the bundled model looks for {missing[0]}; add it, or train without the model.")
    if run.particles.box < card.box:
        raise InputError(
            f"{name_of(run.particles)}: the subtomograms are {run.particles.box} voxels wide, the bundled model needs "
            f"{card.box}; train without it."
        )
