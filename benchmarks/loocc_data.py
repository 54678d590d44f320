"""Particles for the checks of leave-one-out cycles, and what is read from their content codes.

A particle of one of three kinds, with three continuous conformations, is seen under rotation, shift and contrast. For
cross-talk the same particles are drawn again with one of these changed, and with none changed but new noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from napari_harmony.engine.learning import network_input
from napari_harmony.engine.preprocess import prepare
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.work import finish
from napari_harmony.models import PoseNetwork
from napari_harmony.particles.conformations import FACTORS, Conformations, simulate_conformations
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.images import ArrayImages
from napari_harmony.transforms import Pose2D, render

BOX, PIXEL = 32, 5.0
#: Half ranges of rotation (degree) and log contrast, standard deviation of the shift (pixel).
TURN, LOG_GAIN, SHIFT = 57.3, 0.3, 1.2
SNR = 0.2
NUISANCES = ("rotation", "shift", "contrast")


@dataclass(frozen=True)
class Probe:
    """Images that a network is asked about after training.

    Attributes
    ----------
    images : (n, BOX, BOX) as a network takes them
    truth : n rows, as of ``Conformations``
    """

    images: torch.Tensor
    truth: pd.DataFrame


def particles_of(count: int, seed: int) -> Conformations:
    """The training set of a seed."""
    return simulate_conformations(
        count=count,
        box=BOX,
        pixel_size=PIXEL,
        kinds=3,
        snr=SNR,
        rotation=TURN,
        shift=SHIFT,
        contrast=LOG_GAIN,
        seed=seed,
    )


def redrawn(data: Conformations, truth: pd.DataFrame, seed: int) -> Probe:
    """The first particles of ``data`` under the poses and contrasts of ``truth``, with new noise."""
    clean = torch.as_tensor(data.clean(np.arange(len(truth))))
    origin = torch.as_tensor(truth[["origin_x", "origin_y"]].to_numpy(), dtype=torch.float32)
    pose = Pose2D.from_relion(torch.as_tensor(truth["psi"].to_numpy(), dtype=torch.float32), origin)
    gain = torch.as_tensor(truth["contrast"].to_numpy(), dtype=torch.float32)[:, None, None]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    return Probe(prepared(particles_from((gain * render(clean, pose) + noise).numpy())), truth)


def particles_from(images: NDArray[np.float32]) -> Particles:
    """Images (n, BOX, BOX) as a data set."""
    return Particles(ArrayImages(images), pd.DataFrame(index=pd.RangeIndex(len(images))), PIXEL)


def prepared(particles: Particles) -> torch.Tensor:
    """Images (n, BOX, BOX) as a network takes them."""
    return network_input(finish(prepare(particles, Settings(), torch.device("cpu"))), BOX)[0]


def beyond(data: Conformations, count: int, seed: int) -> Probe:
    """Particles turned by 1 to 1.5 times, and of 1 to 1.5 times the log contrast, of what the training set has."""
    generator = np.random.default_rng(seed)
    sign, share = generator.choice([-1, 1], (2, count)), generator.uniform(1.0, 1.5, (2, count))
    truth = data.truth.iloc[:count].copy()
    truth["psi"] = TURN * sign[0] * share[0]
    truth["contrast"] = np.exp(LOG_GAIN * sign[1] * share[1])
    return redrawn(data, truth, seed)


def changed(data: Conformations, count: int, nuisance: str, seed: int) -> Probe:
    """Particles with one nuisance drawn anew, and all else but the noise as it was; "" for none."""
    generator = np.random.default_rng(seed)
    truth = data.truth.iloc[:count].copy()
    if nuisance == "rotation":
        truth["psi"] = generator.uniform(-TURN, TURN, count)
    elif nuisance == "shift":
        truth[["origin_x", "origin_y"]] = generator.normal(0, SHIFT, (count, 2))
    elif nuisance == "contrast":
        truth["contrast"] = np.exp(generator.uniform(-LOG_GAIN, LOG_GAIN, count))
    return redrawn(data, truth, seed)


def codes(network: PoseNetwork, images: torch.Tensor) -> NDArray[np.float64]:
    """Content means (n, d)."""
    return network.propose(images).content_mean.double().numpy()


def divergence(network: PoseNetwork, images: torch.Tensor) -> float:
    """Nats from the content posteriors to the prior, mean over images."""
    said = network.propose(images)
    mean, log_variance = said.content_mean, said.content_log_variance
    return float(0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean())


def determined(code: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """R^2 of values (n, p) from codes by nearest neighbours, left out in tenths; not below 0, mean over values."""
    near = make_pipeline(StandardScaler(), KNeighborsRegressor(15, weights="distance"))
    said = cross_val_predict(near, code, values, cv=10)
    share = 1 - ((values - said) ** 2).mean(0) / values.var(0)
    return float(np.clip(share, 0, 1).mean())


def nuisance_values(truth: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """What leakage is measured of: (n, p) per nuisance, an angle as (cos, sin)."""
    angle = np.deg2rad(truth["psi"].to_numpy())
    return {
        "rotation": np.stack([np.cos(angle), np.sin(angle)], 1),
        "shift": truth[["origin_x", "origin_y"]].to_numpy(),
        "contrast": np.log(truth[["contrast"]].to_numpy()),
    }


def scores(
    network: PoseNetwork, data: Conformations, images: torch.Tensor, truth: pd.DataFrame, seed: int
) -> dict[str, float]:
    """All that the checks look at, of a network that was trained on ``images`` with ``truth``."""
    code = codes(network, images)
    found = {f"leak {name}": determined(code, values) for name, values in nuisance_values(truth).items()}
    found["leak"] = float(np.mean(list(found.values())))
    found["conformation"] = determined(code, truth[list(FACTORS)].to_numpy())
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    kind = truth["kind"].to_numpy()
    found["accuracy"] = float((cross_val_predict(linear, code, kind, cv=10) == kind).mean())
    far = beyond(data, 1000, 7000 + seed)
    found["ood"] = float(linear.fit(code, kind).score(codes(network, far.images), far.truth["kind"]))
    found["kl"] = divergence(network, images)
    return {**found, **cross_talk(network, data, float(code.var(0).sum()), seed)}


def cross_talk(
    network: PoseNetwork, data: Conformations, spread: float, seed: int, count: int = 800
) -> dict[str, float]:
    """Mean squared change of the code over twice its variance, one nuisance drawn anew; without the floor of noise."""
    start = codes(network, changed(data, count, "", 8000 + seed).images)
    moved = {
        name: codes(network, changed(data, count, name, 8100 + 10 * seed + place).images)
        for place, name in enumerate(("", *NUISANCES))
    }
    share = {name: float(((code - start) ** 2).sum(1).mean() / (2 * spread)) for name, code in moved.items()}
    floor = share.pop("")
    found = {f"cross-talk {name}": value - floor for name, value in share.items()}
    return {
        **found,
        "noise floor": floor,
        "cross-talk": float(np.mean([found[f"cross-talk {n}"] for n in ("shift", "contrast")])),
    }
