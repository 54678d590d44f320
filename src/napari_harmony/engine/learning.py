"""The Harmony network of a data set: its input, its training from poses found by the search, its proposals."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import torch

from napari_harmony.engine.counts import GROUPS, MOST_GROUPED
from napari_harmony.engine.enough import Enough
from napari_harmony.engine.events import Loss
from napari_harmony.engine.geometry import Geometry
from napari_harmony.engine.insight import Traces
from napari_harmony.engine.preprocess import Prepared
from napari_harmony.engine.schedule import BATCH, NETWORK_BOX, epochs
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.team import ALONE, Team
from napari_harmony.engine.train import TrainSettings, TrainStep, train
from napari_harmony.engine.train_state import TrainState
from napari_harmony.engine.work import Work, finish, shares
from napari_harmony.errors import InputError
from napari_harmony.models import (
    ContentMixture,
    HarmonyModel,
    ModelCard,
    PoseNetwork,
    Proposals,
    VolumePoseNetwork,
)
from napari_harmony.objectives import SeedPoses, SeedVolumes
from napari_harmony.particles.dataset import Particles
from napari_harmony.results import Result

#: Seconds between two events that say how the training goes.
LOSS_EVERY = 0.1


def warm_up() -> None:
    """Load scikit-learn on the side, which groups codes and tells what they explain: a second without an answer."""
    Thread(target=import_module, args=("sklearn.ensemble",), daemon=True).start()


def network_input(prepared: Prepared, size: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (n, b, b) with flipped phases and unit noise, and their CTF magnitude (n, b, b // 2 + 1).

    Both are Fourier-cropped to the network's grid, which has ``size`` pixels, or as many as a new network gets.
    """
    box = prepared.geometry.box
    size = size or min(NETWORK_BOX, box - box % 2)
    half = size // 2
    rows = torch.cat([torch.arange((size + 1) // 2), torch.arange(box - half, box)]).to(prepared.samples.device)
    ctf = prepared.ctf[:, rows, : half + 1]
    flipped = prepared.samples[:, rows, : half + 1] * torch.where(ctf < 0, -1.0, 1.0)
    images = torch.fft.fftshift(torch.fft.irfft2(flipped, s=(size, size), norm="ortho"), dim=(1, 2))
    return images, ctf.abs()


def model_card(geometry: Geometry, settings: Settings, box: int, classes: int, particles: int) -> ModelCard:
    """What the network for a data set looks like."""
    length = geometry.box * geometry.pixel_size
    content = 8 if classes <= 8 else min(16, 8 + classes // 6)
    return ModelCard(
        box=box,
        pixel_size=length / box,
        original_box=geometry.source_box,
        transforms=tuple(name for name in settings.transforms if name != "defocus"),
        content=content,
        hypotheses=1 if settings.objective == "harmony-2022" else 16,
        mask_diameter=2 * geometry.mask_radius * geometry.pixel_size,
        max_shift=max(geometry.max_shift, 0.5) * geometry.pixel_size,
        objective=settings.objective,
        seed=settings.seed,
        particles=particles,
        epochs=epochs(settings, seeded=settings.objective == "harmony", particles=particles, classes=classes),
        classes=0,
        additions=tuple(str(addition) for addition in settings.additions),
        package_version=version("napari-harmony"),
    )


def train_network(
    images: torch.Tensor,
    ctf: torch.Tensor,
    card: ModelCard,
    seeds: SeedPoses | SeedVolumes | None,
    device: torch.device,
    state_file: Path | None,
    batch: int = BATCH,
    traces: Traces | None = None,
    enough: Enough | None = None,
    start: PoseNetwork | VolumePoseNetwork | None = None,
    team: Team = ALONE,
) -> Work[HarmonyModel]:
    """Train the network of a card, from the state in ``state_file`` where there is one; arguments as for ``train``.

    ``traces`` takes up what the steps log. The training ends after any batch where there was ``enough`` of it.
    """
    resume = None
    if state_file is not None and team.agreed(state_file.exists()):
        resume = TrainState.load(state_file)
        team.wait()  # until all have read it, for the first process soon writes another

    def keep(state: TrainState) -> None:
        if state_file is not None and team.first:
            state.save(state_file)

    run = train(
        images,
        ctf,
        card=card,
        settings=TrainSettings(epochs=card.epochs, batch=batch),
        seeds=seeds,
        device=device,
        resume=resume,
        on_epoch=keep,
        start=start,
        team=team,
    )
    network, passes = yield from _said(run, traces, enough or Enough(), card.epochs)
    return HarmonyModel(network, replace(card, epochs=passes))


def _said(
    run: Generator[TrainStep, None, Any], traces: Traces | None, enough: Enough, epochs: int
) -> Work[tuple[Any, int]]:
    """The steps of a training as fractions of it, and now and then what the objective was.

    Returns the network and how often it has seen all particles, ``epochs`` times unless there was enough before.
    """
    spoken = -math.inf
    while True:
        try:
            step = next(run)
        except StopIteration as stop:
            return stop.value, epochs
        if traces is not None:
            traces.add(step)
        if step.done == step.total or time.monotonic() - spoken >= LOSS_EVERY:
            spoken = time.monotonic()
            # what a term logs besides its value has a dot in its name
            yield Loss(step.done, step.total, step.loss, {k: v for k, v in step.parts.items() if "." not in k})
        yield step.done / step.total
        said = f"the network learned from {step.done} of {step.total} batches, so that its content codes say less"
        if step.done < step.total and enough.leave_out("training", said):
            run.close()
            return step.network.eval(), step.epoch


def training_state(folder: Path | None, resume: bool, team: Team = ALONE) -> Path | None:
    """The file of a training's state; that of an earlier run goes where this one does not resume it."""
    if folder is None:
        return None
    state = folder / "training.safetensors"
    if team.first:
        folder.mkdir(parents=True, exist_ok=True)
        if not resume:
            state.unlink(missing_ok=True)
    return state


def propose(model: HarmonyModel, prepared: Prepared, team: Team = ALONE) -> Work[Proposals]:
    """Content and pose hypotheses for every particle, in one pass."""
    from napari_harmony.models.encoding import join_proposals

    assert isinstance(model.network, PoseNetwork)
    parts, batch = [], 1024
    network, mine = model.network.to(prepared.samples.device), team.share(len(prepared))
    for start in range(mine.start, mine.stop, batch):
        rows = slice(start, min(start + batch, mine.stop))
        images, _ = network_input(prepared.subset(rows), model.card.box)
        parts.append(network.propose(images))
        yield (rows.stop - mine.start) / (mine.stop - mine.start)
    return team.gather(join_proposals(parts))


def content_mixture(content: np.ndarray, label: np.ndarray, classes: int) -> ContentMixture:
    """Where each class lies in content space: one Gaussian per class; classes too small take the overall spread."""
    d = content.shape[1]
    overall = np.atleast_2d(np.cov(content.T)) + 1e-4 * np.eye(d)
    means, covariances, weights = np.zeros((classes, d)), np.zeros((classes, d, d)), np.zeros(classes)
    for k in range(classes):
        members = content[label == k]
        weights[k] = (len(members) + 1) / (len(content) + classes)
        means[k] = members.mean(0) if len(members) else content.mean(0)
        covariances[k] = np.cov(members.T) + 1e-3 * np.eye(d) if len(members) > 2 * d else overall
    return ContentMixture(*(torch.as_tensor(a, dtype=torch.float32) for a in (means, covariances, weights)))


def content_of(result: Result, particles: Particles) -> np.ndarray:
    """Content codes (n, d) of an earlier result of the same particles.

    Raises
    ------
    InputError : the result has another number of rows, or no content codes
    """
    if len(result) != len(particles):
        raise InputError(f"The result has {len(result)} rows, the stack {len(particles)}: open the stack it is of.")
    if result.content.shape[1] == 0:
        raise InputError("The result holds no content codes: run Align and Cluster first.")
    return result.content


def cluster_content(content: np.ndarray, classes: int | None, seed: int) -> np.ndarray:
    """Labels (n,) from a Gaussian mixture on content codes; None chooses the number by BIC."""
    return finish(group_content(content, classes, seed))


def group_content(content: np.ndarray, classes: int | None, seed: int) -> Work[np.ndarray]:
    """:func:`cluster_content` as a computation that can be followed."""
    from sklearn.mixture import GaussianMixture  # takes a second to load

    scaled = (content - content.mean(0)) / content.std(0).clip(1e-6)
    fitted = scaled
    if len(scaled) > MOST_GROUPED:
        fitted = scaled[np.random.default_rng(seed).choice(len(scaled), MOST_GROUPED, replace=False)]
    limit = max(1, min(30, len(content) // 10))
    tried = [min(classes, len(content))] if classes is not None else [k for k in GROUPS if k <= limit]
    fits = []
    for k, (begin, _) in zip(tried, shares(tried), strict=True):
        yield begin
        mixture = GaussianMixture(k, covariance_type="full", n_init=3, reg_covar=1e-3, random_state=seed)
        fits.append(mixture.fit(fitted))
    best = min(fits, key=lambda fit: fit.bic(fitted))
    return np.asarray(best.predict(scaled))
