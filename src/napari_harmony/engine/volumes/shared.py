"""The steps of a search of subtomograms that several processes share: each looks at some particles, all know of all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from napari_harmony.engine.team import Team
from napari_harmony.engine.volumes.refine import Refined
from napari_harmony.engine.volumes.search import Observations, Posterior, Sums, accumulate
from napari_harmony.engine.volumes.start import Anchors
from napari_harmony.engine.work import Work


def shared_expect(
    team: Team,
    data: Observations,
    near: Posterior | None,
    anchors: Anchors | None,
    look: Callable[[Observations, Posterior | None, Anchors | None], Work[Posterior]],
) -> Work[Posterior]:
    """The posterior of all particles, of which each process looks at its share.

    Parameters
    ----------
    near, anchors : what is known of the particles before
    look : the expectation step of some particles, with what is known of them
    """
    if team.size == 1:
        return (yield from look(data, near, anchors))
    rows = team.share(len(data))
    near = None if near is None else within(near, rows)
    found = yield from look(data.subset(rows), near, None if anchors is None else anchors.subset(rows))
    return team.gather(replace(found, particle=found.particle + rows.start))


def shared_sums(team: Team, data: Observations, posterior: Posterior, classes: int, group: torch.Tensor | None) -> Sums:
    """``accumulate`` over all particles, of whose entries each process adds up its share."""
    if team.size == 1:
        return accumulate(data, posterior, classes, group)
    rows = team.share(len(posterior.particle))
    mine = torch.arange(rows.start, rows.stop, device=posterior.particle.device)
    sums = accumulate(data, posterior.entries(mine), classes, group)
    return replace(sums, grids=team.sum(sums.grids), share=team.sum(sums.share))


def shared_refine(
    team: Team,
    data: Observations,
    best: Posterior,
    anchors: Anchors | None,
    look: Callable[[Observations, Posterior, Anchors | None, slice], Work[Refined]],
) -> Work[Refined]:
    """Refined poses of all particles; ``look`` refines those of a slice from their entries in ``best``."""
    rows = team.share(len(data))
    if team.size == 1:
        return (yield from look(data, best, anchors, rows))
    own = None if anchors is None else anchors.subset(rows)
    return team.gather((yield from look(data.subset(rows), within(best, rows), own, rows)))


def within(posterior: Posterior, rows: slice) -> Posterior:
    """The posterior of consecutive particles, numbered anew."""
    kept = posterior.entries((posterior.particle >= rows.start) & (posterior.particle < rows.stop))
    return replace(
        kept,
        particle=kept.particle - rows.start,
        log_evidence=posterior.log_evidence[rows],
        class_score=posterior.class_score[rows],
    )
