"""The Harmony network of a set of subtomograms: its input, its training from poses that the search found."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version

import numpy as np
import torch

from napari_harmony.engine.geometry import Geometry
from napari_harmony.engine.learning import cluster_content, content_mixture
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.team import ALONE, Team
from napari_harmony.engine.volumes.assembly import Findings
from napari_harmony.engine.volumes.counts import PROPOSED
from napari_harmony.engine.volumes.plans import NETWORK_BOX, epochs
from napari_harmony.engine.volumes.posteriors import certain
from napari_harmony.engine.volumes.prepare import Prepared
from napari_harmony.engine.volumes.search import Posterior, Templates
from napari_harmony.engine.work import Work
from napari_harmony.errors import InputError
from napari_harmony.models import (
    BOX_2022,
    HarmonyModel,
    ModelCard,
    VolumeNetwork,
    VolumePoseNetwork,
    VolumeProposals,
    published_band,
    volume_band,
)
from napari_harmony.models.volume_encoding import join_volume_proposals
from napari_harmony.objectives import SeedVolumes
from napari_harmony.transforms import Pose3D, so3
from napari_harmony.transforms.spectra import Band, regridded


def check_published(settings: Settings) -> None:
    """Raise ``InputError`` where something was chosen that the published method, which has no search, cannot heed."""
    chosen = {"start": settings.start != "search", "symmetry": settings.symmetry != "C1"}
    chosen["references"] = bool(settings.references)
    for name in (name for name, given in chosen.items() if given):
        raise InputError(f"{name}: the objective harmony-2022 learns from nothing; leave it out, or choose 'harmony'.")


def network_input(prepared: Prepared, card: ModelCard) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples (n, m) and amplitudes (n, m) as the network of a card takes them."""
    if card.objective == "harmony-2022":
        return published_samples(prepared)
    return network_samples(prepared, card.box)


def network_samples(prepared: Prepared, box: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples (n, m) with noise of unit variance inside the wedge, and amplitudes (n, m), for a network of ``box``."""
    return _white(prepared, volume_band(box))


def published_samples(prepared: Prepared) -> tuple[torch.Tensor, torch.Tensor]:
    """The same on the band of the published network, of volumes with standard deviation 1 (their mean is 0).

    The band may reach beyond that of the particles; their volumes are then padded in Fourier space.
    """
    band = published_band(prepared.energy.device)
    inside = band.within(prepared.data.band.limit)
    white = _white(prepared, band)
    samples, amplitude = (part.new_zeros(len(prepared), len(inside)) for part in white)
    samples[:, inside], amplitude[:, inside] = white
    # one of each Friedel pair is held: twice the sum of their squares is that of all voxels
    deviation = (2 * samples.abs().square().sum(1, keepdim=True) / band.box**3).sqrt().clamp_min(1e-12)
    return samples / deviation, amplitude / deviation


def _white(prepared: Prepared, band: Band) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples with noise of unit variance inside the wedge, and amplitudes, as far as the particles' band goes."""
    data = prepared.data.within(band.limit)
    amplitude = data.power.sqrt()
    seen = amplitude > 1e-4 * amplitude.max()
    samples = torch.where(seen, data.matched / amplitude.clamp_min(1e-12), torch.zeros_like(data.matched))
    return samples, amplitude.expand(len(samples), -1)


def volume_card(geometry: Geometry, settings: Settings, classes: int, particles: int) -> ModelCard:
    """What the network for a set of subtomograms looks like."""
    published = settings.objective == "harmony-2022"
    box = BOX_2022 if published else min(NETWORK_BOX, geometry.box - geometry.box % 2)
    return ModelCard(
        box=box,
        pixel_size=geometry.box * geometry.pixel_size / box,
        original_box=geometry.source_box,
        transforms=tuple(name for name in settings.transforms if name != "scale"),
        content=8 if classes <= 8 else min(16, 8 + classes // 6),
        hypotheses=1 if published else VolumeNetwork.hypotheses(settings.transforms),
        mask_diameter=2 * geometry.mask_radius * geometry.pixel_size,
        max_shift=max(geometry.max_shift, 0.5) * geometry.pixel_size,
        objective=settings.objective,
        seed=settings.seed,
        particles=particles,
        epochs=epochs(settings, particles),
        package_version=version("napari-harmony"),
        dimensions=3,
        additions=tuple(str(addition) for addition in settings.additions),
    )


def seeds_from(posterior: Posterior, junk: torch.Tensor, templates: torch.Tensor, box: int) -> SeedVolumes:
    """What the search found, on the grid of a network of ``box``: poses from the canonical volume to the particle.

    ``templates`` (k, b, b, b) are those that the posterior speaks of; poses of ``junk`` (n,) are not trusted.
    """
    best = posterior.best()
    pose = Pose3D.of(so3.inverse(best.rotation), -best.shift * (box / templates.shape[-1]))
    trust = best.weight * ~junk.to(best.weight.device)
    return SeedVolumes(pose, trust if trust.any() else best.weight, best.label, regridded(templates, box))


def propose(model: HarmonyModel, prepared: Prepared, team: Team = ALONE) -> Work[VolumeProposals]:
    """Content and pose hypotheses for every particle, in one pass."""
    assert isinstance(model.network, VolumePoseNetwork)
    network, device = model.network.to(prepared.energy.device), prepared.energy.device
    parts, batch, mine = [], 256, team.share(len(prepared))
    for start in range(mine.start, mine.stop, batch):
        rows = torch.arange(start, min(start + batch, mine.stop), device=device)
        parts.append(network.propose(*network_input(prepared.subset(rows), model.card)))
        yield min(1.0, (start + batch - mine.start) / (mine.stop - mine.start))
    return team.gather(join_volume_proposals(parts))


def proposed(proposals: VolumeProposals, classes: int, scale: float, hypotheses: int = PROPOSED) -> Posterior:
    """The network's likeliest poses as places to look at, in every class; ``scale``: working per network voxels."""
    pose = proposals.pose[:, :hypotheses]
    n, h = pose.shape
    device = pose.shift.device
    particle = torch.arange(n, device=device).repeat_interleave(h * classes)
    hypothesis = torch.arange(h, device=device).repeat_interleave(classes).repeat(n)
    weight = proposals.log_odds[:, :hypotheses].softmax(1)[particle, hypothesis] / classes
    return Posterior(
        particle,
        torch.arange(classes, device=device).repeat(n * h),
        so3.inverse(pose.quaternion)[particle, hypothesis],
        -pose.shift[particle, hypothesis] * scale,
        weight,
        torch.zeros(n, device=device),
        torch.zeros(n, classes, device=device),
    )


def grouped(proposals: VolumeProposals, content: np.ndarray, settings: Settings, scale: float) -> Posterior:
    """What the network says, taken as certain: its best poses, in classes of its ``content`` (n, d).

    ``scale``: working per network voxels.
    """
    label = cluster_content(content, settings.classes, settings.seed)
    number = torch.as_tensor(np.unique(label, return_inverse=True)[1], device=proposals.best.shift.device)
    return certain(so3.inverse(proposals.best.quaternion), -proposals.best.shift * scale, number)


def with_classes(model: HarmonyModel, findings: Findings) -> HarmonyModel:
    """The model with its classes: averages on the working grid, and where each lies in content space."""
    order, label = findings.order(), findings.found.posterior.best().label.cpu().numpy()
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.arange(len(order))
    assert findings.content is not None
    mixture = content_mixture(findings.content, number[label], len(order))
    templates = torch.as_tensor(findings.averages[order])
    card = replace(model.card, classes=len(order), template_box=templates.shape[-1])
    return HarmonyModel(model.network.cpu(), card, templates.float(), mixture)


def model_templates(model: HarmonyModel, usable: Prepared, name: str) -> Templates:
    """The class averages of a model on the particles' own grid.

    Raises
    ------
    InputError : the boxes are not equally wide, or the particles have too few voxels
    """
    card, geometry = model.card, usable.geometry
    mine, theirs = geometry.box * geometry.pixel_size, card.box * card.pixel_size
    if abs(mine / theirs - 1) > 0.01:
        raise InputError(
            f"{name}: the box is {mine:.0f} A wide, the model was trained on {theirs:.0f} A; rescale the particles "
            "to the model (--rescale), or train on this data."
        )
    if geometry.box < min(card.box, card.template_box or card.box):
        raise InputError(
            f"{name}: the subtomograms are {geometry.box} voxels wide, the model works on {card.box}; "
            "rescale the particles to the model (--rescale), or train on this data."
        )
    if model.templates is None:
        raise InputError("The model holds no class averages: train it on a data set first.")
    share = model.mixture.weights if model.mixture is not None else torch.ones(len(model.templates))
    device = usable.energy.device
    log_share = torch.log(share.to(device).clamp_min(1e-6) / share.sum())
    return Templates(regridded(model.templates.to(device), geometry.box), log_share)
