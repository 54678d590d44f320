"""Training of a Harmony network on prepared images: a generator with one step per batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from napari_harmony.engine.recipes import Recipe, recipe_for
from napari_harmony.engine.schedule import BATCH
from napari_harmony.engine.shared_norm import shared_norms
from napari_harmony.engine.team import ALONE, Team
from napari_harmony.engine.train_state import TrainState, restore, snapshot
from napari_harmony.errors import InferenceError, InputError
from napari_harmony.models import (
    Harmony2022VolumeNetwork,
    ModelCard,
    PoseNetwork,
    VolumeNetwork,
    VolumePoseNetwork,
    build_network,
)
from napari_harmony.objectives import (
    Adam,
    Batch,
    Context,
    SeedPoses,
    SeedVolumes,
    Share,
    Views,
    VolumeContext,
    make_branches,
    make_volume_branches,
    published_volume_branches,
)

#: A network of images or of volumes.
Network: TypeAlias = PoseNetwork | VolumePoseNetwork


@dataclass(frozen=True)
class TrainSettings:
    """How long and in what portions to train.

    Attributes
    ----------
    epochs : passes over the particles; None for the recipe's own number (fewer with seeds)
    batch : pairs of image and copy per step
    learning_rate : peak; None for the recipe's own
    """

    epochs: int | None = None
    batch: int = BATCH
    learning_rate: float | None = None


@dataclass(frozen=True)
class TrainStep:
    """One batch was learned.

    Attributes
    ----------
    done, total : steps
    epoch, epochs : the epoch that this step belongs to, from 0, and how many there are
    loss : the objective
    parts : its terms, and what they log
    network : as it stands; the same object in every step
    """

    done: int
    total: int
    epoch: int
    epochs: int
    loss: float
    parts: dict[str, float] = field(repr=False)
    network: Network = field(repr=False)


def train(
    images: Tensor,
    ctf_magnitude: Tensor | None,
    *,
    card: ModelCard,
    settings: TrainSettings | None = None,
    seeds: SeedPoses | SeedVolumes | None = None,
    device: torch.device | str = "cpu",
    resume: TrainState | None = None,
    on_epoch: Callable[[TrainState], None] | None = None,
    start: Network | None = None,
    team: Team = ALONE,
) -> Generator[TrainStep, None, Any]:
    """Train the network that ``card`` describes.

    Parameters
    ----------
    images : (n, b, b) float32 on the card's grid: phases flipped, noise of unit variance, background 0; of
        subtomograms samples (n, m) complex64 on the network's band, noise of unit variance inside the wedge
    ctf_magnitude : (n, b, b // 2 + 1), >= 0, on the rfft2 grid (rows in fftfreq order), or None; of subtomograms the
        amplitudes (n, m) that the signal is seen through
    card : sizes, transformations, objective and seed of the random numbers
    settings : epochs and batches
    seeds : poses found by a search; reconstruction then uses them, and the pose heads learn them
    device : where to compute; the images stay where they are, batches travel
    resume : a state that ``on_epoch`` was given by a training with the same arguments
    on_epoch : called at the end of every epoch with a state that can be resumed from
    start : a network of the same card to begin with, in place of random weights; it stays as it is
    team : processes that share every batch out among them; objectives that compare particles are learned by each alone

    Yields
    ------
    TrainStep after every batch. Closing the generator ends the training.

    Returns
    -------
    The trained network, in eval mode, on ``device``.

    Raises
    ------
    InputError where shapes do not match the card, values are not finite, or there are fewer than two images;
    InferenceError where the loss stops being finite.

    Notes
    -----
    The same seed on the same CPU gives the same network, whatever the order of the particles: they are put into an
    order of their own first. On CUDA the sums of some gradients have no fixed order; results agree to rounding.
    """
    settings = settings or TrainSettings()
    network = _fresh_network(card) if start is None else _copied(start, card)
    _check(images, ctf_magnitude, network, seeds)
    device = torch.device(device)
    recipe = _fresh_recipe(card, seeds is not None, len(images), settings.batch)
    recipe.objective.to(device)
    epochs = settings.epochs or recipe.epochs
    network = network.to(device)
    if start is None and isinstance(network, VolumeNetwork) and isinstance(seeds, SeedVolumes):
        network.start_from(seeds.templates)
    learned = [*network.parameters(), *recipe.objective.parameters()]
    optimiser = Adam(learned, settings.learning_rate or recipe.learning_rate)
    first = restore(resume, network, optimiser, recipe.objective) if resume is not None else 0
    own_order = _own_order(images)
    portions = max(1, round(len(images) / settings.batch))
    # A batch is shared out where all terms allow it, and where everybody gets something to normalise.
    team = team if recipe.objective.one_by_one and len(images) // portions >= 2 * team.size else ALONE
    run = _Run(network, optimiser, optimiser.rate, recipe, epochs * portions, team)
    with shared_norms(network, team):
        for epoch in range(first, epochs):
            network.train()
            seed = 1_000_003 * card.seed + epoch
            generator = torch.Generator(device).manual_seed(seed)
            shuffle = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
            for portion, rows in enumerate(own_order[shuffle].tensor_split(portions)):
                done = epoch * portions + portion
                loss, parts = run.step(_take(images, ctf_magnitude, seeds, rows, device), done, generator)
                yield TrainStep(done + 1, run.total, epoch, epochs, loss, parts, network)
            if on_epoch is not None:
                on_epoch(snapshot(epoch + 1, network, optimiser, recipe.objective))
    network.eval()
    return network


@dataclass(frozen=True)
class _Run:
    """What stays the same from step to step."""

    network: Network
    optimiser: Adam
    peak: float
    recipe: Recipe
    total: int
    team: Team

    def step(self, batch: Batch, done: int, generator: torch.Generator) -> tuple[float, dict[str, float]]:
        """Learn from one batch; ``done`` steps came before."""
        progress = done / self.total
        share = Share(self.team.share(len(batch)), len(batch))
        if self.team.size > 1:
            batch = batch.only(share.rows)
        self.optimiser.rate = self.peak * self.recipe.rate_factor(progress)
        applied = share.of(lambda n: self.recipe.sample_copy(n, generator))
        context = look(
            self.network,
            batch,
            applied,
            progress=progress,
            temperature=self.recipe.temperature(progress),
            kept=self.recipe.kept(progress),
            generator=generator,
        )
        loss, parts = self.recipe.objective(context)
        self.optimiser.forget()
        (share.weight * loss).backward()
        said = torch.stack([loss.detach(), *(part.detach().to(loss) for part in parts.values())])
        values = self.team.sum_gradients(self.optimiser.parameters, share.weight * said).tolist()
        if not math.isfinite(values[0]):
            raise InferenceError(
                f"Training diverged: the loss is {values[0]} after {done} steps; train with another seed."
            )
        self.optimiser.step()
        return values[0], dict(zip(parts, values[1:], strict=True))


def look(network: Network, batch: Batch, applied: Any, **state: Any) -> Views:
    """Both views of a batch, with its copies made by ``applied`` (n,); ``state`` as in ``Views``."""
    generator = state["generator"]
    if isinstance(network, VolumePoseNetwork):
        published = isinstance(network, Harmony2022VolumeNetwork)
        branches = published_volume_branches if published else make_volume_branches
        own, moved = branches(network, batch, applied, generator)
        return VolumeContext(network, batch, own, moved, **state)
    original, copy = make_branches(network, batch.images, applied, generator, batch.portion)
    return Context(network, batch, original, copy, **state)


def _fresh_network(card: ModelCard) -> Network:
    """A network whose random weights depend on the card's seed only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(card.seed)
        return build_network(card)


def _copied(start: Network, card: ModelCard) -> Network:
    """A network of the card with the weights of another."""
    network = _fresh_network(card)
    network.load_state_dict(start.state_dict())
    return network


def _fresh_recipe(card: ModelCard, seeded: bool, particles: int, batch: int) -> Recipe:
    """A recipe whose terms begin with random weights that depend on the card's seed only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(card.seed + 1)
        return recipe_for(card, seeded, particles, batch)


def _own_order(images: Tensor) -> Tensor:
    """An order (n,) of the images that depends on what they show, not on where they stand in the stack."""
    numbers = (torch.view_as_real(images) if images.is_complex() else images).flatten(1)
    weights = torch.linspace(0.5, 1.5, numbers.shape[1], dtype=torch.float64, device=images.device)
    keys = torch.cat([(part.double() * weights).sum(1) for part in numbers.split(4096)])
    return keys.argsort(stable=True).cpu()


def _take(
    images: Tensor, ctf: Tensor | None, seeds: SeedPoses | SeedVolumes | None, rows: Tensor, device: torch.device
) -> Batch:
    """Some particles, on the device."""
    at = rows.to(images.device)
    return Batch(
        images[at].to(device, non_blocking=True),
        None if ctf is None else ctf[at].to(device, non_blocking=True),
        None if seeds is None else seeds.take(rows.to(seeds.weight.device)).to(device),
    )


def _check(images: Tensor, ctf: Tensor | None, network: Network, seeds: SeedPoses | SeedVolumes | None) -> None:
    """Refuse what cannot be trained on."""
    n, box, volumes = len(images), network.shape.box, isinstance(network, VolumePoseNetwork)
    wanted: tuple[int, ...] = (n, box, box)
    filters: tuple[int, ...] = (n, box, box // 2 + 1)
    if isinstance(network, VolumePoseNetwork):
        wanted = filters = (n, len(network.band.index))
    if n < 2:
        raise InputError(f"images: there are {n} to train on; give at least 2.")
    if images.shape != wanted:
        raise InputError(f"images: their shape is {tuple(images.shape)}, the model card wants {wanted}.")
    if ctf is not None and ctf.shape != filters:
        raise InputError(f"ctf_magnitude: its shape is {tuple(ctf.shape)}, it must be {filters}.")
    if ctf is None and volumes:
        raise InputError("ctf_magnitude: subtomograms need the amplitudes that they are seen through; give ones.")
    if seeds is not None and len(seeds) != n:
        raise InputError(f"seeds: there are {len(seeds)} for {n} images; give one per image.")
    for name, values in (("images", images), ("ctf_magnitude", ctf)):
        if values is not None and not torch.isfinite(values).all():
            raise InputError(f"{name}: some values are not finite; leave those particles out.")
