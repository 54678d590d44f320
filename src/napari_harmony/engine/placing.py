"""Placing particles on classes that others were searched for: looks at them from coarse to fine, portion by portion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from napari_harmony.engine.assembly import flip_odds
from napari_harmony.engine.discovery import Discovery, Search, render_averages
from napari_harmony.engine.events import Preview
from napari_harmony.engine.halves import decoy_templates, unexplained
from napari_harmony.engine.harvest import Harvest
from napari_harmony.engine.plans import Plan, placing_bands
from napari_harmony.engine.posteriors import certain
from napari_harmony.engine.refine import Refined
from napari_harmony.engine.search import Posterior, Sums, Templates, maximise
from napari_harmony.engine.steerable import SteerableBasis
from napari_harmony.engine.work import Work, portion, shares
from napari_harmony.models import Proposals

REFINED = tuple(Refined.__dataclass_fields__)


@dataclass(frozen=True)
class Look:
    """An expectation step against fixed templates.

    Attributes
    ----------
    basis, templates : of the classes, on a band
    local : near the poses found before
    decoys : templates without structure, to tell junk from particles; None where nothing is to be told
    """

    basis: SteerableBasis
    templates: Templates
    local: bool
    decoys: Templates | None = None


def looks_of(
    search: Search, posterior: Posterior, classes: int, plan: Plan, generator: torch.Generator | None
) -> Work[list[Look]]:
    """The looks, with templates of the particles of ``search``; ``generator`` of the decoys, None for no decoys."""
    looks = []
    for number, (limit, local) in enumerate(placing_bands(plan)):
        basis = search.basis(limit)
        sums = yield from portion(search.average(basis, posterior, classes), 0.0, 0.0)
        # Near poses found with the classes, noise too fits these better than decoys: those are looked for everywhere.
        looks.append(look_at(basis, sums, local, generator if number == 0 else None))
        yield (number + 1) / len(placing_bands(plan))
    return looks


def look_at(basis: SteerableBasis, sums: Sums, local: bool, generator: torch.Generator | None) -> Look:
    """A look at templates from the sums of classes."""
    templates = maximise(basis, sums)
    decoys = None if generator is None else decoy_templates(basis, templates, generator)
    return Look(basis, templates, local, decoys)


def placed(search: Search, looks: list[Look], near: Posterior | None) -> Work[tuple[Posterior, torch.Tensor]]:
    """The posterior of particles after all looks, and their margins (n,) of evidence over decoys, infinite without.

    ``near`` : where the first look begins if it is a local one
    """
    posterior, margin = near, torch.full((len(search.prepared),), torch.inf)
    steps = sum(1 if look.decoys is None else 2 for look in looks)
    done = 0
    for look in looks:
        before, span = posterior, (done / steps, (done + 1) / steps)
        found = yield from portion(search.expect(look.templates, look.basis, look.local, before), *span)
        done += 1
        if look.decoys is not None:
            span = (done / steps, (done + 1) / steps)
            false = yield from portion(search.expect(look.decoys, look.basis, look.local, before), *span)
            margin = (found.log_evidence - false.log_evidence).cpu()
            done += 1
        posterior = found
    assert posterior is not None
    return posterior, margin


def told(
    posterior: Posterior, classes: int, margin: torch.Tensor, proposals: Proposals | None
) -> dict[str, torch.Tensor]:
    """What is kept of each particle: its best class and pose, how sure they are, and its content."""
    best = posterior.best()
    found = {
        "label": best.label,
        "psi": best.psi,
        "shift": best.shift,
        "probability": posterior.class_weights(classes).amax(1),
        "flip_odds": flip_odds(posterior, best),
        "margin": margin,
    }
    if proposals is not None:
        found |= {"content": proposals.content_mean, "scale": proposals.best.log_scale.exp()}
    return {name: numbers.cpu() for name, numbers in found.items()}


def refinement(refined: Refined) -> dict[str, torch.Tensor]:
    """What is kept of refined poses."""
    return {f"refined {name}": getattr(refined, name).cpu() for name in REFINED}


def refined_of(each: dict[str, torch.Tensor]) -> Refined:
    """The refined poses that were kept."""
    return Refined(*(each[f"refined {name}"] for name in REFINED))


def junk_of(found: Discovery, sample: np.ndarray, rows: np.ndarray, margin: torch.Tensor) -> torch.Tensor:
    """Which of the particles in ``rows`` (m,) fit no class, (m,) bool.

    The search has judged those of the ``sample`` (s,), each by the classes of the half that it is not in. To all others
    the classes of the whole sample are independent; they are judged together by their margins (m,).
    """
    place = np.full(int(max(rows.max(), sample.max())) + 1, -1, np.int64)
    place[sample] = np.arange(len(sample))
    at = torch.as_tensor(place[rows])
    inside = at >= 0
    junk = torch.zeros(len(rows), dtype=torch.bool)
    junk[inside] = found.junk.cpu()[at[inside]]
    if found.agreement is None or inside.all():
        return junk
    others = unexplained(margin[~inside])
    # As in the search: so little signal per particle that no single one can be told from junk.
    nothing = bool(others.all()) and bool(found.agreement.significant.any())
    junk[~inside] = torch.zeros_like(others) if nothing else others
    return junk


def picture(basis: SteerableBasis, sums: Sums, box: int, iteration: int) -> Preview:
    """The averages of sums so far."""
    images = render_averages(basis, maximise(basis, sums).coefficients, box)
    return Preview(images.cpu().numpy(), sums.share.cpu().numpy(), iteration)


def harvest_of(
    search: Search, each: dict[str, torch.Tensor], bases: list[SteerableBasis], posterior: Posterior, classes: int
) -> Work[Harvest]:
    """What the particles of ``search`` bring in, with the sums of their posterior on some bands."""
    sums = []
    for basis, span in zip(bases, shares(1.0 for _ in bases), strict=True):
        sums.append((yield from portion(search.average(basis, posterior, classes), *span)))
    return Harvest(each, tuple(sums))


def slices(sizes: list[int]) -> Iterator[slice]:
    """Where the particles of each portion are among all."""
    start = 0
    for size in sizes:
        yield slice(start, start + size)
        start += size


def part_of(poses: Posterior, part: slice, device: torch.device) -> Posterior:
    """The poses of some particles, of which each has one entry, in their order."""
    return certain(poses.psi[part].to(device), poses.shift[part].to(device), poses.label[part].to(device))
