"""A run on images that starts from a network pretrained on others: it says where to look, and learns briefly."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import torch

from napari_harmony.engine.costs import Task
from napari_harmony.engine.counts import LOOKING
from napari_harmony.engine.discovery import Discovery, Search, discover, render_averages
from napari_harmony.engine.events import Event
from napari_harmony.engine.geometry import name_of
from napari_harmony.engine.learning import network_input, propose, train_network, training_state
from napari_harmony.engine.onto_model import proposed
from napari_harmony.engine.plans import ADAPTING, SHORTENED
from napari_harmony.engine.preprocess import Prepared, cropped_transform
from napari_harmony.engine.run import Run
from napari_harmony.engine.search import Posterior, maximise
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.streamed import StreamedRun
from napari_harmony.engine.work import StagedWork, Work
from napari_harmony.errors import InputError
from napari_harmony.models import HarmonyModel, HarmonyNetwork, ModelCard, Proposals, build_network
from napari_harmony.objectives import Adam, SeedPoses
from napari_harmony.particles.dataset import Particles
from napari_harmony.results import Result

#: How the decoder learns class averages before anything else: steps, codes per step, learning rate.
PICTURE_STEPS, PICTURE_BATCH, PICTURE_RATE = 100, 128, 3e-3


class Adapting(Run):
    """Classes and poses that start from what a pretrained network sees in each image.

    The network is the same for both halves and has seen neither, so that they stay independent.
    """

    _general: HarmonyModel
    _seen: Proposals
    _found: Discovery

    def adapt(self, general: HarmonyModel) -> Generator[Event, None, tuple[Result, HarmonyModel]]:
        """Classes and poses of the particles, and a network of their own that began as ``general``."""
        check_adaptable(self.particles, self.settings, general.card)
        self._general = general
        return (yield from self.fit())

    def discover(self, usable: Prepared) -> Generator[Event, None, Discovery]:
        """The search, from what the network sees, or what an interrupted run had found."""
        self._seen = yield from self.clock.follow(LOOKING, propose(self._general, usable, self.team))
        self._found = yield from super().discover(usable)
        return self._found

    def searching(self, search: Search) -> StagedWork[Discovery]:
        """The search of the preset, from what the network saw."""
        scale = search.geometry.box / self._general.card.box
        moves = "translation" in self.settings.transforms and search.geometry.max_shift > 0

        def start(rows: torch.Tensor, classes: int) -> Posterior:
            """Groups of content codes, and the likeliest poses."""
            seen = proposed(self._seen, scale).subset(rows)
            label = groups_of(self._seen.content_mean[rows], classes, self.settings.seed).to(rows.device)
            shift = seen.shift if moves else torch.zeros_like(seen.shift)
            none = torch.zeros(len(rows), classes, device=rows.device)
            return replace(seen, label=label, shift=shift, class_score=none)

        return discover(search, self.settings.classes, SHORTENED[self.settings.preset], start)

    def lesson(self, usable: Prepared, found: Discovery) -> tuple[ModelCard, SeedPoses]:
        """What the network for these particles looks like, trained for a part of the usual time, and what it learns."""
        card, seeds = super().lesson(usable, found)
        share = 1.0 if self.settings.additions else ADAPTING[self.settings.preset]
        epochs = max(1, round(share * card.epochs)) if share else 0
        return replace(card, epochs=epochs, started_from=self._general.card.trained_on or "a bundled model"), seeds

    def _train(self, usable: Prepared, card: ModelCard, seeds: SeedPoses | None) -> Work[HarmonyModel]:
        """The network trained for a while on the poses and classes found, or as it is where there is no time."""
        label, codes = self._found.posterior.best().label.cpu(), self._seen.content_mean.cpu()
        telling = discriminants(codes, label, card.content)
        network = started_network(self._general, card, telling)
        yield 0.0
        if card.epochs == 0:
            pictures = averages_of(self._found, usable.geometry.box, card.box)
            teach_pictures(network, telling(codes), pictures[label])
            return HarmonyModel(network, card)
        state, data = training_state(self.folder, self.resume, self.team), network_input(usable, card.box)
        more: dict[str, Any] = {"traces": self.traces, "enough": self.enough, "team": self.team, "start": network}
        batch = self.batch(usable, seeds)
        return (yield from train_network(*data, card, seeds, self.device, state, batch, **more))

    def _expect(self, task: Task, classes: int | None = None) -> None:
        super()._expect("adapt" if task == "fit" else task, classes)


class StreamedAdapting(Adapting, StreamedRun):
    """The same on more images than fit in memory: the network looks at a sample by chance, which is searched."""


def check_adaptable(particles: Particles, settings: Settings, card: ModelCard) -> None:
    """Raise ``InputError`` where a run cannot start from a pretrained network."""
    if not (card.general and card.dimensions == 2):
        raise InputError("The model is not one for any images: choose 'bundled', or none.")
    if settings.objective != "harmony":
        raise InputError(f"objective: the bundled model knows nothing of {settings.objective}; leave one of them out.")
    if "rotation" not in settings.transforms:
        raise InputError("transforms: the bundled model takes turned copies for the same; add 'rotation', or train.")
    if settings.preset == "fast" and settings.additions:
        raise InputError("with: the fast preset trains no bundled model further; choose 'balanced', or leave it out.")
    if settings.preset == "fast" and "scale" in settings.transforms:
        raise InputError(
            "transforms: the bundled model learns 'scale' in a training: choose 'balanced', or leave it out."
        )
    if particles.box < card.box:
        raise InputError(
            f"{name_of(particles)}: the images are {particles.box} pixels wide, the bundled model needs "
            f"{card.box}; train without it."
        )


def groups_of(codes: torch.Tensor, classes: int, seed: int = 0) -> torch.Tensor:
    """Labels (n,) of codes (n, d): those of one content lie around one point, as far apart in every direction."""
    from sklearn.cluster import KMeans

    fitted = KMeans(min(classes, len(codes)), n_init=5, random_state=seed).fit(codes.cpu().numpy())
    return torch.as_tensor(fitted.labels_, dtype=torch.long)


@dataclass(frozen=True)
class Telling:
    """A linear map of content codes: ``directions`` (wanted, d) of codes less their ``centre`` (d,)."""

    centre: torch.Tensor
    directions: torch.Tensor

    def __call__(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes (n, d) as (n, wanted)."""
        return (codes - self.centre) @ self.directions.T


def started_network(general: HarmonyModel, card: ModelCard, telling: Telling) -> HarmonyNetwork:
    """A network of ``card`` that begins as the ``general`` one: its encoder, its poses, and its codes under a map.

    What the general network does not have begins from the card's seed.
    """
    old = general.network
    assert isinstance(old, HarmonyNetwork)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(card.seed)
        network = build_network(card)
    assert isinstance(network, HarmonyNetwork)
    network.encoder.load_state_dict(old.encoder.state_dict())
    with torch.no_grad():
        _copy_poses(old, network)
        _copy_content(old, network, telling)
    return network.eval()


def _copy_poses(old: HarmonyNetwork, new: HarmonyNetwork) -> None:
    """The rows of the pose head that both have; shifts keep their size in pixels, others begin at the identity."""
    new.pose_head.weight.zero_()
    new.pose_head.bias.zero_()
    places = _rows(old)
    for name, rows in _rows(new).items():
        if name in places:
            factor = old.shape.max_shift / new.shape.max_shift if name == "translation" else 1.0
            new.pose_head.weight[rows] = old.pose_head.weight[places[name]] * factor
            new.pose_head.bias[rows] = old.pose_head.bias[places[name]] * factor


def _rows(network: HarmonyNetwork) -> dict[str, slice]:
    """Where each transformation stands in the pose head; the odds are last."""
    places, start = {}, 0
    for transformation in network.transformations:
        places[transformation.name] = slice(start, start + transformation.raw_size)
        start += transformation.raw_size
    return {**places, "odds": slice(start, start + 1)}


def _copy_content(old: HarmonyNetwork, new: HarmonyNetwork, telling: Telling) -> None:
    """The content head, with its codes mapped, of unit variance."""
    first, last = old.content_head[0], old.content_head[2]
    assert isinstance(first, torch.nn.Linear) and isinstance(last, torch.nn.Linear)
    new.content_head[0].load_state_dict(first.state_dict())
    head, d, wide = new.content_head[2], new.shape.content, old.shape.content
    assert isinstance(head, torch.nn.Linear)
    head.weight.zero_()
    head.bias.zero_()
    head.weight[:d] = telling.directions @ last.weight[:wide]
    head.bias[:d] = telling(last.bias[None, :wide])[0]


def discriminants(codes: torch.Tensor, label: torch.Tensor, wanted: int) -> Telling:
    """The ``wanted`` directions in which codes (n, d) of classes ``label`` (n,) differ most.

    Fisher's: within classes the mapped codes have unit variance in every direction, and the first directions hold most
    of the variance between classes. Where classes differ in fewer directions, the others are any that are left.
    """
    points = codes.double()
    centre, classes = points.mean(0), int(label.max()) + 1
    count = torch.bincount(label, minlength=classes).double()
    means = torch.zeros(classes, points.shape[1], dtype=torch.double).index_add_(0, label, points)
    means = means / count.clamp_min(1)[:, None]
    rest = points - means[label]
    within = rest.T @ rest / len(points)
    one = torch.eye(len(within), dtype=torch.double)
    spread, axes = torch.linalg.eigh(within + 1e-3 * within.diagonal().mean() * one)
    whitened = axes / spread.sqrt()
    between = ((means - centre) * (count / count.sum()).sqrt()[:, None]) @ whitened
    order = torch.linalg.svd(between).Vh
    return Telling(centre.float(), (order[:wanted] @ whitened.T).float())


def averages_of(found: Discovery, box: int, size: int) -> torch.Tensor:
    """Class averages (k, size, size) of a search on a box of ``box`` pixels, on the network's grid."""
    images = render_averages(found.basis, maximise(found.basis, found.sums).coefficients, box)
    cropped = torch.fft.irfft2(cropped_transform(images, size), s=(size, size), norm="ortho")
    return torch.fft.fftshift(cropped, dim=(1, 2)).cpu()


def teach_pictures(network: HarmonyNetwork, codes: torch.Tensor, pictures: torch.Tensor) -> None:
    """Let the decoder draw, for each code (n, d), the picture (n, box, box) of its class."""
    optimiser = Adam(network.decoder.parameters(), PICTURE_RATE)
    generator = torch.Generator().manual_seed(0)
    for _ in range(PICTURE_STEPS):
        rows = torch.randint(len(codes), (PICTURE_BATCH,), generator=generator)
        loss = (network.decode(codes[rows]) - pictures[rows] * network.mask).square().mean()
        optimiser.forget()
        loss.backward()
        optimiser.step()
