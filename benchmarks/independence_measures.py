"""What is read off a trained autoencoder of two codes: how well it draws, swaps, and keeps its codes apart."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from torch import Tensor

from independence_images import Contents, TwoCodes, Views, views
from napari_harmony.analysis.disentanglement.leakage import fit_critic
from napari_harmony.objectives.critics import dependence_share

#: Views of each content, and how many contents of the fresh ones a critic or a probe learns from.
EACH, SHARE = 4, 0.75
#: Steps and width of the critic that is made from scratch on frozen codes.
CRITIC_STEPS, CRITIC_WIDTH, CRITIC_PATIENCE = 1000, 128, 250


@torch.no_grad()
def measure(network: TwoCodes, fresh: Contents, seed: int) -> dict[str, float]:
    """Everything, on contents that were not trained on; errors are sums over pixels of clean images."""
    generator = torch.Generator().manual_seed(1000 + seed)
    rows = torch.arange(len(fresh)).repeat(EACH)
    first, second = views(fresh.pictures[rows], generator), views(fresh.pictures[rows], generator)
    codes, contents = _codes(network, first.noisy, generator), network.content_of(second.noisy)
    drawn = network.decode(codes, contents)
    error = float((drawn - first.clean).square().sum((1, 2)).mean())
    learned = (torch.arange(len(fresh)) < SHARE * len(fresh)).repeat(EACH).numpy()
    nats, share = fresh_critic(codes, contents, learned, seed)
    return {
        "reconstruction": error,
        "swap": _swap_error(network, fresh, rows, first, generator),
        "nats": nats,
        "share": share,
        **_probes(codes.numpy(), fresh, rows, first, learned),
    }


def _codes(network: TwoCodes, images: Tensor, generator: torch.Generator) -> Tensor:
    """Transformation codes as the decoder gets them: drawn from their posteriors."""
    mean, log_variance = network.transformation_of(images)
    return mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=generator)


def _swap_error(network: TwoCodes, fresh: Contents, rows: Tensor, first: Views, generator: torch.Generator) -> float:
    """Error of the content of another particle drawn with the transformation code of this one, against its truth."""
    from napari_harmony.transforms import render

    other = rows.roll(len(fresh) // 2 + 1)
    lent = views(fresh.pictures[other], generator)
    drawn = network.decode(_codes(network, first.noisy, generator), network.content_of(lent.noisy))
    wanted = render(fresh.pictures[other], first.pose, fast=True)
    return float((drawn - wanted).square().sum((1, 2)).mean())


def fresh_critic(codes: Tensor, others: Tensor, learned: NDArray[np.bool_], seed: int) -> tuple[float, float]:
    """Nats and share that a critic made from scratch on frozen codes reads on pairs it did not learn from."""
    scaled = [(values - values.mean(0)) / values.std(0).clamp_min(1e-6) for values in (codes, others)]
    a, b = ([values[torch.from_numpy(mask)] for mask in (learned, ~learned)] for values in scaled)
    with torch.enable_grad():
        critic = fit_critic(a[0], b[0], seed, CRITIC_STEPS, CRITIC_WIDTH, CRITIC_PATIENCE)
    joint, product = critic(a[1], b[1]), critic(a[1], b[1].roll(len(b[1]) // 3 + 1, 0))
    return float(joint.mean()), dependence_share(joint, product)


def _probes(
    codes: NDArray[np.float32], fresh: Contents, rows: Tensor, first: Views, learned: NDArray[np.bool_]
) -> dict[str, float]:
    """What trees read from the transformation code: kind, conformation, angle; on contents that they did not see."""
    kind, conformation = fresh.kind[rows].numpy(), fresh.conformation[rows].numpy()
    angle = torch.stack([first.pose.angle.cos(), first.pose.angle.sin()], 1).numpy()
    classes = ExtraTreesClassifier(30, min_samples_leaf=3, random_state=0).fit(codes[learned], kind[learned])
    found = {"kind": float((classes.predict(codes[~learned]) == kind[~learned]).mean())}
    for name, truth in (("conformation", conformation), ("angle", angle)):
        trees = ExtraTreesRegressor(30, min_samples_leaf=3, random_state=0).fit(codes[learned], truth[learned])
        missed = (trees.predict(codes[~learned]) - truth[~learned]) ** 2
        spread = (truth[~learned] - truth[~learned].mean(0)) ** 2
        found[name] = float((1 - missed.sum(0) / spread.sum(0)).mean())
    return found


def plateau(gammas: list[float]) -> float:
    """The range of gamma in the last quarter, its largest value over its smallest."""
    last = gammas[3 * len(gammas) // 4 :]
    return max(last) / max(min(last), 1e-12) if last else math.nan
