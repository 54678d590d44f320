"""What a pretrained network sees in subtomograms: in each alone, and in those of a group together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from napari_harmony.engine.team import ALONE, Team
from napari_harmony.engine.volumes.agreement import agreed
from napari_harmony.engine.volumes.learning import network_samples
from napari_harmony.engine.volumes.prepare import Prepared
from napari_harmony.engine.work import Work
from napari_harmony.models import GuidedVolumeNetwork, HarmonyModel, VolumeProposals
from napari_harmony.models.guided_volumes import MARK_DEGREE
from napari_harmony.models.volume_encoding import join_volume_proposals

#: Particles that are looked at before the next sign of life.
PORTION = 256


@dataclass(frozen=True)
class Seen:
    """What a pretrained network sees in n particles, before anything is searched for.

    Attributes
    ----------
    proposals : of each particle alone
    marks : (n, c, k), by which particles of one group can be laid onto each other
    box : edge of the network's grid, in whose voxels shifts are
    """

    proposals: VolumeProposals
    marks: torch.Tensor
    box: int

    def subset(self, rows: torch.Tensor) -> Seen:
        """What is seen in some of the particles."""
        return replace(self, proposals=self.proposals.subset(rows), marks=self.marks[rows])

    def agreed(self, label: torch.Tensor) -> Work[torch.Tensor]:
        """Rotations (n, 4) canonical -> particle on which the particles of every group, ``label`` (n,), agree."""
        return agreed(self.marks, MARK_DEGREE, label, self.proposals.best.quaternion)


def look(model: HarmonyModel, prepared: Prepared, team: Team = ALONE) -> Work[Seen]:
    """What a pretrained network sees in every particle, in one pass."""
    network, device = model.network.to(prepared.energy.device), prepared.energy.device
    assert isinstance(network, GuidedVolumeNetwork)
    parts, mine = [], team.share(len(prepared))
    portions = torch.arange(mine.start, mine.stop, device=device).split(PORTION)
    for done, rows in enumerate(portions):
        parts.append(network.look(*network_samples(prepared.subset(rows), model.card.box)))
        yield (done + 1) / len(portions)
    proposals, marks = zip(*parts, strict=True)
    seen = Seen(join_volume_proposals(list(proposals)), torch.cat(marks), model.card.box)
    return team.gather(seen)
